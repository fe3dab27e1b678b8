//! Stretches of partitions, read from the cluster that librdkafka itself can imitate.

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use super::*;

const WITHIN: Duration = Duration::from_secs(30);
/// Records of each of the two partitions.
pub const RECORDS: i64 = 100;

/// A cluster with a topic `in` of two partitions, one record in a batch.
pub fn cluster() -> (MockCluster<'static, DefaultProducerContext>, Settings) {
    let cluster = MockCluster::new(1).expect("an imitated cluster");
    cluster.create_topic("in", 2, 1).expect("a topic");
    let bootstrap = cluster.bootstrap_servers();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &bootstrap).set("batch.num.messages", "1");
    let producer: BaseProducer = config.create().expect("a producer");
    for number in 0..RECORDS {
        for partition in 0..2 {
            let value = number.to_string();
            producer.send(BaseRecord::<[u8], str>::to("in").partition(partition).payload(&value)).expect("queued");
        }
    }
    producer.flush(WITHIN).expect("acknowledged");
    (cluster, Settings { bootstrap, ..Settings::default() })
}

fn stretch(partition: i32, from: i64, until: Option<i64>) -> Stretch {
    Stretch { partition, from, until }
}

/// Offsets that were read of each partition; each record must be the one of its offset.
fn offsets(settings: &Settings, stretches: &[Stretch]) -> [Vec<i64>; 2] {
    let mut offsets = [Vec::new(), Vec::new()];
    let mut take = |record: InputRecord| {
        assert_eq!(record.value, Some(record.offset.to_string().into_bytes()));
        offsets[record.partition.partition as usize].push(record.offset);
        Ok(())
    };
    read(settings, "audit", &"in".into(), stretches, &mut take).expect("read");
    offsets
}

#[test]
fn only_the_stretches_are_read_each_record_once() {
    let (_cluster, settings) = cluster();
    let of = |ranges: &[std::ops::Range<i64>]| ranges.iter().cloned().flatten().collect::<Vec<i64>>();

    let cut = [stretch(0, 0, Some(10)), stretch(1, 0, None), stretch(0, 20, Some(21)), stretch(0, 40, Some(70)), stretch(0, 99, None)];
    assert_eq!(offsets(&settings, &cut), [of(&[0..10, 20..21, 40..70, 99..100]), of(&[0..50, 50..100])]);

    let odd = [stretch(0, 5, Some(5)), stretch(0, 7, Some(3)), stretch(1, 95, Some(RECORDS + 50)), stretch(1, RECORDS + 60, None)];
    assert_eq!(offsets(&settings, &odd), [of(&[]), of(&[95..99, 99..100])]);
    assert_eq!(offsets(&settings, &[]), [of(&[]), of(&[])]);
}
