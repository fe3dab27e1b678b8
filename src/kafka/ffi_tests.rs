//! Records that are handed to librdkafka come back as they were: against the cluster that librdkafka itself can imitate.

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::*;

const WITHIN: Duration = Duration::from_secs(30);

fn header(name: &str, value: Option<&[u8]>) -> Header {
    Header { name: name.into(), value: value.map(<[u8]>::to_vec) }
}

fn record(topic: &str, key: Option<&'static [u8]>, value: Option<&'static [u8]>, headers: Vec<Header>) -> Outgoing {
    let (key, value) = (key.map(Bytes::from_static), value.map(Bytes::from_static));
    Outgoing { topic: topic.into(), partition: 1, key, value, timestamp_ms: 1_700_000_040_000, headers: headers.into() }
}

fn read_back(message: &BorrowedMessage<'_>) -> Outgoing {
    let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let headers = message.headers().map(|headers| headers.iter().map(|found| header(found.key, found.value)).collect::<Vec<_>>());
    Outgoing {
        topic: message.topic().into(),
        partition: message.partition(),
        key: message.key().map(owned),
        value: message.payload().map(owned),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        headers: headers.unwrap_or_default().into(),
    }
}

#[test]
fn records_come_back_as_they_were_sent() {
    let cluster = MockCluster::new(1).expect("an imitated cluster");
    ["one", "two"].iter().for_each(|topic| cluster.create_topic(topic, 2, 1).expect("a topic"));
    let client: BaseProducer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().expect("a producer");
    let named = vec![header("origin", Some(b"in/3")), header("empty", Some(b"")), header("none", None)];
    let sent = [
        record("one", Some(b"k"), Some(b"v"), named.clone()),
        record("one", Some(b"k"), Some(b"v2"), named),
        record("one", None, Some(b""), Vec::new()),
        record("one", Some(b""), None, vec![header("origin", Some(b"in/4"))]),
        record("two", Some(b"k"), Some(b"\0\xff"), Vec::new()),
    ];

    let mut queue = ProduceQueue::default();
    sent.iter().for_each(|record| queue.produce(client.client(), record).expect("queued"));
    client.flush(WITHIN).expect("acknowledged");
    drop(queue);

    for topic in ["one", "two"] {
        let reader: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "g").create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 1, Offset::Beginning).expect("a place");
        reader.assign(&list).expect("assigned");
        for expected in sent.iter().filter(|record| &*record.topic == topic) {
            let message = reader.poll(WITHIN).expect("a record within the time").expect("no error");
            assert_eq!(read_back(&message), *expected);
        }
    }
}

#[test]
fn a_name_that_no_topic_can_have_is_refused() {
    let client: BaseProducer = ClientConfig::new().set("bootstrap.servers", "localhost:1").create().expect("a producer");

    let refused = ProduceQueue::default().produce(client.client(), &record("a\0b", None, None, Vec::new()));

    assert_eq!(refused, Err(RDKafkaErrorCode::UnknownTopic));
}

#[test]
fn a_header_whose_name_ends_early_is_refused() {
    let client: BaseProducer = ClientConfig::new().set("bootstrap.servers", "localhost:1").create().expect("a producer");

    let refused = ProduceQueue::default().produce(client.client(), &record("one", None, None, vec![header("a\0b", None)]));

    assert_eq!(refused, Err(RDKafkaErrorCode::InvalidArgument));
}

#[test]
fn a_wait_of_less_than_a_millisecond_is_a_wait() {
    assert_eq!([0, 1, 999, 1_000, 1_001].map(|micros| millis(Duration::from_micros(micros))), [0, 1, 1, 1, 2]);
    assert_eq!(millis(Duration::MAX), i32::MAX);
}
