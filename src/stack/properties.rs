//! What Kafka's processes are told: roles, listeners, copies, and how soon a failure is noticed.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::record::Settings;
use super::secured::{self, Certificates};

/// The controller's node id, far from the brokers' 1 to 3.
pub const CONTROLLER_ID: u16 = 3000;

/// The settings file of the controller, which also decides what new topics are like, and keeps who may do what.
pub fn of_controller(settings: &Settings, data: &Path) -> String {
    let controller = settings.ports.controller;
    let (copies, _) = copies(settings);
    let mut text = format!(
        "\
process.roles=controller
node.id={CONTROLLER_ID}
listeners=CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CONTROLLER://127.0.0.1:{controller}
num.partitions=4
default.replication.factor={copies}
"
    );
    text += &common(settings, data);
    if settings.ports.secured.is_some() {
        text += secured::AUTHORIZER;
    }
    text
}

/// The settings file of a broker; numbered from 1. With certificates the first one has a listener with TLS.
///
/// # Errors
/// When the stack has no such broker.
pub fn of_broker(number: usize, settings: &Settings, data: &Path, certificates: Option<&Certificates>) -> anyhow::Result<String> {
    let port = settings.ports.broker(number).with_context(|| format!("the stack has no broker {number}"))?;
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
    let mut advertised = listeners.clone();
    if let Some(faults) = settings.ports.faults {
        write!(listeners, ",FAULTS://127.0.0.1:{}", faults.real).context("failed to write into a string")?;
        write!(advertised, ",FAULTS://127.0.0.1:{}", faults.advertised).context("failed to write into a string")?;
    }
    let secured = settings.ports.secured.zip(certificates).filter(|_| number == 1);
    if let Some((secured, _)) = secured {
        write!(listeners, ",SECURED://localhost:{}", secured.broker).context("failed to write into a string")?;
        write!(advertised, ",SECURED://localhost:{}", secured.broker).context("failed to write into a string")?;
    }
    let mut text = format!(
        "\
process.roles=broker
node.id={number}
listeners={listeners}
advertised.listeners={advertised}
inter.broker.listener.name=PLAINTEXT
"
    );
    text += &common(settings, data);
    if settings.ports.secured.is_some() {
        text += secured::AUTHORIZER;
    }
    if let Some((_, certificates)) = secured {
        text += &secured::of_broker(certificates);
    }
    Ok(text)
}

/// How long after a broker's end without warning its controller has surely fenced it: a last heartbeat, the session, and the
/// controller's next look at sessions, which is after an eighth of one.
pub fn fenced_after(settings: &Settings) -> Duration {
    let (session, heartbeat) = if settings.fast_failure_settings { (4_000, 500) } else { (9_000, 2_000) };
    Duration::from_millis(session + session / 8 + heartbeat)
}

/// How many copies there are of everything, and how many must have a record before it counts.
fn copies(settings: &Settings) -> (u16, u16) {
    if settings.ports.brokers.len() == 1 { (1, 1) } else { (3, 2) }
}

fn common(settings: &Settings, data: &Path) -> String {
    let (copies, in_sync) = copies(settings);
    let mut text = format!(
        "\
controller.quorum.bootstrap.servers=127.0.0.1:{}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,FAULTS:PLAINTEXT,SECURED:SASL_SSL,CONTROLLER:PLAINTEXT
log.dirs={}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
",
        settings.ports.controller,
        data.display()
    );
    text += ONE_MACHINE;
    if settings.fast_failure_settings {
        text += FAST_FAILURE;
    }
    text
}

/// Few internal partitions make the first transaction and the first group quick.
const ONE_MACHINE: &str = "\
auto.create.topics.enable=false
log.retention.ms=-1
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=100
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=16777216
";

/// Failures are noticed soon, so that tests of them are short. A killed broker may register again only once its former self's session has
/// ended: with the default of 9 s a restart takes 12 s, with these 5 s; less, and a busy machine's broker is taken for dead. The
/// session is the controller's setting. Under KIP-848 the broker says how long a member's session is and how often it has to be heard of.
const FAST_FAILURE: &str = "\
group.consumer.min.session.timeout.ms=2000
group.consumer.session.timeout.ms=2000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
";

#[cfg(test)]
mod tests {
    use super::super::ports::{Layout, Ports};
    use super::*;

    fn settings(layout: Layout, fast_failure_settings: bool) -> Settings {
        Settings { ports: Ports::Free.choose(layout).expect("ports are free"), kafka_heap_mib: 512, fast_failure_settings }
    }

    #[test]
    fn controller_and_broker_agree_on_sessions_and_on_copies() {
        let settings = settings(Layout { brokers: 3, fault_listener: false, secured: false }, true);

        let controller = of_controller(&settings, Path::new("/data"));
        let broker = of_broker(2, &settings, Path::new("/data"), None).expect("there are three");

        assert!(controller.contains("default.replication.factor=3\n"));
        for text in [controller, broker] {
            assert!(text.contains("broker.session.timeout.ms=4000\n"));
            assert!(text.contains("\nmin.insync.replicas=2\n"));
        }
    }

    #[test]
    fn short_timeouts_are_set_only_for_failure_tests() {
        let usual = settings(Layout { brokers: 1, fault_listener: false, secured: false }, false);

        assert!(!of_controller(&usual, Path::new("/data")).contains("broker.session.timeout.ms"));
        assert!(fenced_after(&usual) > Duration::from_secs(9));
    }

    #[test]
    fn fault_listener_names_the_port_of_the_proxy() {
        let settings = settings(Layout { brokers: 1, fault_listener: true, secured: false }, false);
        let port = settings.ports.broker(1).expect("there is one");
        let faults = settings.ports.faults.expect("it was asked for");

        let text = of_broker(1, &settings, Path::new("/data"), None).expect("there is one");

        let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port},FAULTS://127.0.0.1:{}\n", faults.advertised);
        assert!(text.contains(&advertised), "{text}");
        assert!(text.contains(&format!("FAULTS://127.0.0.1:{}\n", faults.real)), "{text}");
    }

    #[test]
    fn broker_that_the_stack_has_not_is_refused() {
        let settings = settings(Layout { brokers: 1, fault_listener: false, secured: false }, false);

        assert!(of_broker(2, &settings, Path::new("/data"), None).is_err());
        assert!(of_broker(0, &settings, Path::new("/data"), None).is_err());
    }
}
