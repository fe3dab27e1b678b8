//! What members and readers do with their clients: against the cluster that librdkafka itself can imitate.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::BaseRecord;

use super::super::port::{GroupConsumer, TopicReader};
use super::*;
use crate::clock::{Clock, Deadline, SystemClock};

const WITHIN: Duration = Duration::from_secs(30);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn cluster(bootstrap: String, consumer: BTreeMap<String, String>, runtime: &tokio::runtime::Runtime) -> Cluster {
    let settings = Settings { bootstrap, consumer, ..Settings::default() };
    Cluster::new(settings, "test", Duration::from_secs(10), SystemClock::shared(), runtime.handle().clone())
}

/// Values from where the reader stands up to this position.
fn values(reader: &mut PartitionReader, until: Position) -> Vec<Vec<u8>> {
    let (mut values, clock) = (Vec::new(), SystemClock::default());
    let deadline = Deadline::after(&clock, WITHIN);
    loop {
        let read = reader.read(100, Duration::from_millis(20)).expect("read");
        values.extend(read.run.iter().flat_map(|run| (0..run.len()).map(|row| run.record(row).value.unwrap_or_default().to_vec())));
        if read.position >= until {
            return values;
        }
        assert!(!deadline.is_over(&clock), "not read to {until}, but to {}", read.position);
    }
}

#[test]
fn a_reader_that_has_stopped_reads_nothing_and_can_start_again() {
    let imitated = MockCluster::new(1).expect("an imitated cluster");
    imitated.create_topic("log", 2, 1).expect("a topic");
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", imitated.bootstrap_servers()).create().expect("a producer");
    for (partition, value) in [(0, "a"), (0, "b"), (0, "c"), (1, "d")] {
        let record = BaseRecord::<(), _>::to("log").partition(partition).payload(value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(WITHIN).expect("acknowledged");
    let runtime = runtime();
    let mut reader = cluster(imitated.bootstrap_servers(), BTreeMap::new(), &runtime).reader().expect("a reader");
    let [zero, one] = [0, 1].map(|partition| TopicPartition::new("log", partition));

    reader.start(&zero, Position(0)).expect("started");
    assert_eq!(values(&mut reader, Position(3)), ["a", "b", "c"].map(|value| value.as_bytes().to_vec()));
    reader.stop().expect("stopped");

    assert!(reader.read(100, Duration::ZERO).is_err(), "nothing was started");
    reader.stop().expect("nothing to stop");
    reader.start(&one, Position(0)).expect("started");
    assert_eq!(values(&mut reader, Position(1)), [b"d".to_vec()]);
    reader.start(&zero, Position(2)).expect("started");
    assert_eq!(values(&mut reader, Position(3)), [b"c".to_vec()], "what came before of another partition is gone");
}

#[test]
fn what_waits_behind_lines_of_the_clients_log_is_served_by_the_same_poll() {
    let talkative = BTreeMap::from([("debug".to_owned(), "all".to_owned())]);
    let runtime = runtime();
    let mut member = cluster("localhost:1".into(), talkative, &runtime).consumer("group", None, &["in".into()]).expect("a member");
    let clock = SystemClock::default();
    let deadline = Deadline::after(&clock, WITHIN);
    while member.waiting() < 20 {
        assert!(!deadline.is_over(&clock), "librdkafka has said {} lines only", member.waiting());
        clock.sleep(Duration::from_millis(10));
    }

    member.poll(1, Duration::ZERO).expect("polled");

    assert!(member.waiting() < 10, "{} events still wait", member.waiting());
}
