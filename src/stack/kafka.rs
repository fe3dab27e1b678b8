//! The broker: one Kafka node that is its own controller (KRaft), with settings for one machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::download::Parts;
use super::process::Service;
use super::record::Settings;

/// The cluster's id, 16 bytes in base 64. A fixed one: nothing tells local stacks apart by it.
const CLUSTER_ID: &str = "dGVzdHVkby1sb2NhbC0wMQ";

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Writes the settings, formats the data folder where it is new, and starts the broker.
///
/// # Errors
/// When files cannot be written, formatting fails or Java cannot be started.
pub fn launch(service: &Service, settings: &Settings, parts: &Parts) -> anyhow::Result<()> {
    let data = service.folder.join("data");
    fs::create_dir_all(&data).with_context(|| format!("failed to make the folder {}", data.display()))?;
    let path = service.folder.join("server.properties");
    fs::write(&path, properties(settings, &data)).with_context(|| format!("failed to write {}", path.display()))?;
    if !data.join("meta.properties").is_file() {
        format(parts, &path)?;
    }
    let heap = settings.kafka_heap_mib;
    let mut command = java(parts);
    command
        .args([format!("-Xms{heap}m"), format!("-Xmx{heap}m")])
        .args(["-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError"])
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"])
        .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX")
        .arg("kafka.Kafka")
        .arg(&path);
    service.launch(command)
}

/// Whether the broker answers a metadata request and has joined its own cluster.
pub fn answers(bootstrap: &str) -> bool {
    let client: Result<BaseConsumer, _> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("client.id", "testudo-stack").create();
    client.and_then(|client| client.fetch_metadata(None, ANSWER_WITHIN)).is_ok_and(|metadata| !metadata.brokers().is_empty())
}

fn java(parts: &Parts) -> Command {
    let mut command = Command::new(&parts.java);
    command.arg("-cp").arg(parts.kafka.join("*"));
    command
}

fn format(parts: &Parts, properties: &Path) -> anyhow::Result<()> {
    let mut command = java(parts);
    command.args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "kafka.tools.StorageTool",
        "format",
        "--standalone",
        "-t",
        CLUSTER_ID,
        "-c",
    ]);
    let outcome = command.arg(properties).output().context("failed to start Java to format the broker's data folder")?;
    ensure!(
        outcome.status.success(),
        "failed to format the broker's data folder: {}{}",
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr)
    );
    Ok(())
}

fn properties(settings: &Settings, data: &Path) -> String {
    let (port, controller) = (settings.ports.kafka, settings.ports.kafka_controller);
    let mut text = format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
",
        data.display()
    );
    text += ONE_NODE;
    if settings.fast_failure_settings {
        text += FAST_FAILURE;
    }
    text
}

/// One node keeps one copy of everything; few internal partitions make the first transaction and the first group quick.
const ONE_NODE: &str = "\
num.partitions=4
auto.create.topics.enable=false
log.retention.ms=-1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=16777216
";

/// Failures are noticed in a second or two, so that tests of them are short. A killed broker may register again only once its former
/// self's session has ended: with the default of 9 s a restart takes 12 s, with these 4 s.
const FAST_FAILURE: &str = "\
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
";

#[cfg(test)]
mod tests {
    use super::super::ports::Ports;
    use super::*;

    #[test]
    fn short_timeouts_are_set_only_for_failure_tests() {
        let ports = Ports::Free.choose().expect("ports are free");
        let of = |fast_failure_settings| properties(&Settings { ports, kafka_heap_mib: 512, fast_failure_settings }, Path::new("/data"));

        assert!(of(true).contains("broker.session.timeout.ms=2000\n"));
        assert!(!of(false).contains("broker.session.timeout.ms"));
        assert!(of(false).contains(&format!("advertised.listeners=PLAINTEXT://127.0.0.1:{}\n", ports.kafka)));
    }
}
