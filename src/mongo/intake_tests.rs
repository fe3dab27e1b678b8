//! A member of a sink's group, against the cluster that librdkafka itself can imitate.

use std::cell::Cell;
use std::sync::mpsc::channel;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::clock::SystemClock;

const WITHIN: Duration = Duration::from_secs(30);

/// Polls until the group has told of something.
fn wait_for_rebalance(intake: &mut Intake) {
    let clock = SystemClock::shared();
    let fill = Fill { records_max: 1, bytes_max: 1, wait: Duration::from_millis(10), linger: Duration::ZERO, busy: Duration::ZERO };
    let deadline = Deadline::after(&*clock, WITHIN);
    while intake.rebalances.is_empty() {
        assert!(!deadline.is_over(&*clock), "the group told of nothing");
        assert!(intake.take(fill, || false, &*clock).expect("no fault").is_empty());
    }
}

#[test]
fn a_position_is_taken_for_what_the_topic_holds() {
    let start = |committed, low, end| within(Position(committed), Position(low), Position(end)).map(|start| start.0);

    assert_eq!(start(5, 0, 9), Some(5));
    assert_eq!(start(9, 0, 9), Some(9), "everything has been read");
    assert_eq!(start(5, 7, 9), Some(7), "retention was faster");
    assert_eq!(start(5, 9, 9), Some(9), "and left nothing");
    assert_eq!(start(5, 0, 4), None, "the topic was made anew");
}

#[test]
fn a_topic_that_ends_before_the_groups_position_is_read_from_its_first_record() {
    let cluster = MockCluster::new(1).expect("an imitated cluster");
    cluster.create_topic("in", 1, 1).expect("a topic");
    let kafka = Settings { bootstrap: cluster.bootstrap_servers(), ..Settings::default() };
    let partition = TopicPartition::new("in", 0);
    begin_at(&kafka, "group", &[(partition.clone(), Position(5))]).expect("a position");
    let mut intake = Intake::join(&kafka, "client", "group", &["in".into()]).expect("a member");
    wait_for_rebalance(&mut intake);
    intake.take_rebalances();

    let starts = intake.assign(std::slice::from_ref(&partition)).expect("assigned");

    assert_eq!(starts, [(partition, None)]);
}

#[test]
fn a_batch_that_cannot_be_written_yet_is_filled_on() {
    let cluster = MockCluster::new(1).expect("an imitated cluster");
    cluster.create_topic("in", 1, 1).expect("a topic");
    let kafka = Settings { bootstrap: cluster.bootstrap_servers(), ..Settings::default() };
    let producer: BaseProducer = kafka.client("producer").create().expect("a producer");
    let produce = || {
        producer.send(BaseRecord::<[u8], [u8]>::to("in").partition(0).payload(b"record")).expect("queued");
        producer.flush(WITHIN).expect("sent");
    };
    let mut intake = Intake::join(&kafka, "client", "group", &["in".into()]).expect("a member");
    wait_for_rebalance(&mut intake);
    intake.take_rebalances();
    intake.assign(&[TopicPartition::new("in", 0)]).expect("assigned");
    let fill = Fill { records_max: 9, bytes_max: usize::MAX, wait: WITHIN, linger: Duration::ZERO, busy: WITHIN };
    let mut batch = |is_busy: &dyn Fn() -> bool| -> usize {
        let runs = intake.take(fill, is_busy, &*SystemClock::shared()).expect("no fault");
        runs.iter().map(Run::len).sum()
    };

    produce();
    assert_eq!(batch(&|| false), 1, "it could be written at once");

    let asked = Cell::new(0);
    let is_busy = || {
        asked.set(asked.get() + 1);
        if asked.get() <= 3 {
            produce();
        }
        asked.get() < 1_000
    };
    assert_eq!(batch(&is_busy), 3);
}

#[test]
fn a_member_leaves_although_a_rebalance_was_not_acted_on() {
    let cluster = MockCluster::new(1).expect("an imitated cluster");
    cluster.create_topic("in", 1, 1).expect("a topic");
    let kafka = Settings { bootstrap: cluster.bootstrap_servers(), ..Settings::default() };
    let mut intake = Intake::join(&kafka, "client", "group", &["in".into()]).expect("a member");
    wait_for_rebalance(&mut intake);
    let partitions = [TopicPartition::new("in", 0)];
    assert_eq!(intake.take_rebalances(), [Rebalance::Assigned(partitions.to_vec())]);
    intake.assign(&partitions).expect("assigned");
    // Its session has ended: others may have its partitions, and it was about to give them up when a fault came.
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    wait_for_rebalance(&mut intake);
    assert_eq!(intake.rebalances, [Rebalance::Lost(partitions.to_vec())]);

    let (done, left) = channel();
    std::thread::spawn(move || {
        drop(intake);
        done.send(())
    });

    left.recv_timeout(WITHIN).expect("it leaves");
}
