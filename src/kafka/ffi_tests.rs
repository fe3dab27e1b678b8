//! Records that are handed to librdkafka come back as they were: against the cluster that librdkafka itself can imitate.

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::*;
use crate::clock::{Deadline, SystemClock};

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

#[test]
fn headers_of_fetched_records_are_those_that_were_sent() {
    let cluster = MockCluster::new(1).expect("an imitated cluster");
    for compression in ["none", "lz4", "snappy", "gzip"] {
        cluster.create_topic(compression, 2, 1).expect("a topic");
        let client: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("compression.codec", compression)
            .create()
            .expect("a producer");
        let some = || vec![header("a", Some(b"\0")), header("", None)];
        let values: [Option<&'static [u8]>; 4] = [Some(b"a value"), Some(b"\0\0\0\0"), Some(b""), None];
        let sent: Vec<Outgoing> = values
            .iter()
            .flat_map(|value| [record(compression, None, *value, Vec::new()), record(compression, Some(b""), *value, some())])
            .collect();
        let mut queue = ProduceQueue::default();
        // Alone, in their order, and enough of them that they are compressed.
        (0..50).for_each(|_| sent.iter().for_each(|record| queue.produce(client.client(), record).expect("queued")));
        client.flush(WITHIN).expect("acknowledged");
        drop(queue);

        let reader: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "g").create().expect("a consumer");
        let mut fetched = FetchQueue::new(reader.client()).expect("a queue");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(compression, 1, Offset::Beginning).expect("a place");
        reader.assign(&list).expect("assigned");
        fetched.forward(reader.client(), compression, 1);

        let (mut found, mut bare) = (Vec::new(), 0);
        let clock = SystemClock::default();
        let deadline = Deadline::after(&clock, WITHIN);
        while found.len() < 50 * sent.len() && !deadline.is_over(&clock) {
            // What was fetched before the partition was forwarded comes here.
            if let Some(Ok(message)) = reader.poll(Duration::ZERO) {
                let Outgoing { value, headers, .. } = read_back(&message);
                bare += usize::from(value.as_ref().is_some_and(|value| !value.is_empty()) && headers.is_empty());
                found.push((value.map(|value| value.to_vec()), headers.to_vec()));
                continue;
            }
            fetched.consume(1_000, Duration::from_millis(100), |message| {
                if message.error().is_none() {
                    bare += usize::from(message.is_bare());
                    found.push((message.value().map(<[u8]>::to_vec), message.headers()));
                }
            });
        }
        let expected = |record: &Outgoing| (record.value.as_ref().map(|value| value.to_vec()), record.headers.to_vec());
        assert_eq!(found, std::iter::repeat_n(&sent, 50).flatten().map(expected).collect::<Vec<_>>(), "{compression}");
        assert_eq!(bare, 50 * 2, "{compression}: those with a value of some bytes and no headers");
        drop(fetched);
    }
}
