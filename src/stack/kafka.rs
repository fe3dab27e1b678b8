//! Kafka's processes: a KRaft controller of its own and one to three brokers, so that a broker can die while its controller lives.
//!
//! A node that is both would come back after `kill -9` as leader of everything, be fenced by its own controller a moment later, and
//! meet KAFKA-20734 in between: a committed transaction without markers (ADR 0013).

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::download::Parts;
use super::process::Service;
use super::properties::{self, CONTROLLER_ID};
use super::record::Settings;
use super::secured::{self, Certificates};

/// The cluster's id, 16 bytes in base 64. A fixed one: nothing tells local stacks apart by it.
const CLUSTER_ID: &str = "dGVzdHVkby1sb2NhbC0wMQ";

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Java's light compiler alone: the other one takes more than it gives back within minutes.
const LIGHT_COMPILER: &str = "-XX:TieredStopAtLevel=1";
/// A light compiler and collector: for processes that do little, it halves the processor time of their start.
const LIGHT_JVM: [&str; 2] = [LIGHT_COMPILER, "-XX:+UseSerialGC"];

/// Writes the controller's settings, formats its data folder where it is new, and starts it.
///
/// # Errors
/// When files cannot be written, formatting fails or Java cannot be started.
pub fn launch_controller(service: &Service, settings: &Settings, parts: &Parts) -> anyhow::Result<()> {
    let data = service.folder.join("data");
    let path = write(&service.folder, "server.properties", &properties::of_controller(settings, &data))?;
    if !data.join("meta.properties").is_file() {
        format(parts, &path, settings.ports.secured.is_some())?;
    }
    let mut command = java(parts);
    command.args(["-Xms64m", "-Xmx128m"]).args(LIGHT_JVM);
    service.launch(kafka_server(command, &path))
}

/// Writes a broker's settings and starts it; it waits by itself for the controller. Brokers are numbered from 1.
///
/// # Errors
/// When files cannot be written or Java cannot be started.
pub fn launch_broker(
    service: &Service,
    number: usize,
    settings: &Settings,
    parts: &Parts,
    certificates: Option<&Certificates>,
) -> anyhow::Result<()> {
    let data = service.folder.join("data");
    let path = write(&service.folder, "server.properties", &properties::of_broker(number, settings, &data, certificates)?)?;
    if !data.join("meta.properties").is_file() {
        // All that formatting gives a broker: the cluster's features are the controller's. It saves a second of Java.
        write(&data, "meta.properties", &format!("version=1\ncluster.id={CLUSTER_ID}\nnode.id={number}\n"))?;
    }
    let heap = settings.kafka_heap_mib;
    let mut command = java(parts);
    command.args([format!("-Xms{heap}m"), format!("-Xmx{heap}m")]).arg("-XX:+UseG1GC");
    if settings.fast_failure_settings {
        // A failure test's broker is short-lived: a quarter of all processor time of some tests.
        command.arg(LIGHT_COMPILER);
    }
    service.launch(kafka_server(command, &path))
}

/// Whether the broker answers a metadata request and has joined its cluster.
pub fn answers(address: &str, number: usize) -> bool {
    let client: Result<BaseConsumer, _> = ClientConfig::new().set("bootstrap.servers", address).set("client.id", "testudo-stack").create();
    let metadata = client.and_then(|client| client.fetch_metadata(None, ANSWER_WITHIN));
    metadata.is_ok_and(|metadata| metadata.brokers().iter().any(|broker| usize::try_from(broker.id()) == Ok(number)))
}

/// Whether the controller listens; what it does for brokers shows when they answer.
pub fn controller_listens(port: u16) -> bool {
    TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), ANSWER_WITHIN).is_ok()
}

/// Runs one of Kafka's own tools.
///
/// # Errors
/// When it cannot be started or ends with an error, with what it wrote.
pub fn tool(parts: &Parts, class: &str, bootstrap: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = java(parts);
    command.args(LIGHT_JVM).args([class, "--bootstrap-server", bootstrap]).args(arguments);
    let outcome = command.output().with_context(|| format!("failed to start Java for {class}"))?;
    let (said, erred) = (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    ensure!(outcome.status.success(), "{class} {arguments:?} ended with {}: {said}{erred}", outcome.status);
    Ok(())
}

fn java(parts: &Parts) -> Command {
    let mut command = Command::new(&parts.java);
    command.arg("-cp").arg(parts.kafka.join("*"));
    command
}

fn kafka_server(mut command: Command, properties: &Path) -> Command {
    command
        .arg("-XX:+ExitOnOutOfMemoryError")
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"])
        .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX")
        .arg("kafka.Kafka")
        .arg(properties);
    command
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<std::path::PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("failed to make the folder {}", folder.display()))?;
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

/// Makes the data folder of a cluster whose one controller is this one, with every feature at the level of its release.
fn format(parts: &Parts, properties: &Path, has_user: bool) -> anyhow::Result<()> {
    let mut command = java(parts);
    command.args(LIGHT_JVM).args(["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER_ID, "-c"]);
    command.arg(properties);
    if has_user {
        command.args(["--add-scram", &secured::scram_user()]);
    }
    let outcome = command.output();
    let outcome = outcome.with_context(|| format!("failed to start Java to format the data folder of controller {CONTROLLER_ID}"))?;
    ensure!(
        outcome.status.success(),
        "failed to format the controller's data folder: {}{}",
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr)
    );
    Ok(())
}
