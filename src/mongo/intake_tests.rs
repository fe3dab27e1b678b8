//! A member of a sink's group, against the cluster that librdkafka itself can imitate.

use std::sync::mpsc::channel;

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::clock::SystemClock;

const WITHIN: Duration = Duration::from_secs(30);

/// Polls until the group has told of something.
fn wait_for_rebalance(intake: &mut Intake) {
    let clock = SystemClock::shared();
    let fill = Fill { records_max: 1, bytes_max: 1, wait: Duration::from_millis(10), linger: Duration::ZERO };
    let deadline = Deadline::after(&*clock, WITHIN);
    while intake.rebalances.is_empty() {
        assert!(!deadline.is_over(&*clock), "the group told of nothing");
        assert!(intake.take(fill, &*clock).expect("no fault").is_empty());
    }
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
