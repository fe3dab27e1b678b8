//! Who may work, what the record says, that one who asks again and again makes no clients for it, and what is missed when it was deleted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;
use crate::clock::SystemClock;
use crate::kafka::{Cluster, Read, Settings, TopicDescription};

#[test]
fn one_generation_works_at_a_time_and_the_next_one_aside() {
    let at = |current, step| Standing { current, step, begins: BTreeMap::new() };
    let building = || Step::Building(BTreeMap::new());

    assert!(permits(&Standing::default(), 1, false).is_none());
    assert!(permits(&at(1, building()), 1, false).is_none(), "it goes on while the next one is built");
    assert!(permits(&at(1, building()), 2, true).is_none());
    assert!(permits(&at(1, building()), 2, false).is_some());
    assert!(permits(&at(2, Step::Publishing), 1, false).is_some(), "it is fenced from the switch on");
    assert!(permits(&at(2, Step::Publishing), 2, true).is_some());
    assert!(permits(&at(2, Step::Exchanging), 2, false).is_some(), "not before its results are where they belong");
    assert!(permits(&at(2, Step::Settled), 2, false).is_none());
    assert!(permits(&at(2, Step::Settled), 1, false).is_some());
}

#[test]
fn the_record_says_the_same_when_it_is_read() {
    let declared = BTreeMap::from([("w/in".to_owned(), "0011 {}".to_owned())]);
    for step in [Step::Settled, Step::Building(declared), Step::Publishing, Step::Exchanging] {
        let standing = Standing { current: 3, step, begins: BTreeMap::from([("means".to_owned(), vec![1, 2])]) };
        let text = serde_json::to_vec(&standing).expect("encodes");
        assert_eq!(serde_json::from_slice::<Standing>(&text).expect("decodes"), standing);
    }
}

/// A cluster, how many readers it was asked for, and what it says of a topic: the imitated one has no controller to ask.
struct Counting {
    cluster: Cluster,
    readers: AtomicUsize,
    described: Mutex<Vec<TopicDescription>>,
    /// Records before it were deleted; the imitated one deletes nothing.
    low: Arc<AtomicI64>,
}

impl Counting {
    fn of(bootstrap: String, runtime: &tokio::runtime::Runtime) -> Arc<Self> {
        let settings = Settings { bootstrap, ..Settings::default() };
        let cluster = Cluster::new(settings, "test", WAIT, SystemClock::shared(), runtime.handle().clone());
        Arc::new(Self { cluster, readers: AtomicUsize::new(0), described: Mutex::default(), low: Arc::default() })
    }

    /// The topic is there, under this id.
    fn describe_as(&self, id: &str) {
        let described = TopicDescription { name: "t-generation".into(), id: TopicId(id.into()), partitions: 1 };
        *self.described.lock().expect("no panic") = vec![described];
    }
}

impl Broker for Counting {
    type Consumer = <Cluster as Broker>::Consumer;
    type Producer = <Cluster as Broker>::Producer;
    type Reader = Cut;

    fn consumer(&self, group: &str, instance: Option<&str>, topics: &[Arc<str>]) -> Result<Self::Consumer, Failure> {
        self.cluster.consumer(group, instance, topics)
    }

    fn producer(&self, transactional_id: &str) -> Result<Self::Producer, Failure> {
        self.cluster.producer(transactional_id)
    }

    fn reader(&self) -> Result<Self::Reader, Failure> {
        self.readers.fetch_add(1, Ordering::Relaxed);
        Ok(Cut { reader: self.cluster.reader()?, low: self.low.clone() })
    }

    fn describe(&self, _: &[Arc<str>], _: Duration) -> Result<Vec<TopicDescription>, Failure> {
        Ok(self.described.lock().expect("no panic").clone())
    }

    fn create(&self, topics: &[NewTopic], wait: Duration) -> Result<(), Failure> {
        self.cluster.create(topics, wait)
    }
}

/// Reads partitions that begin no earlier than at `low`.
struct Cut {
    reader: <Cluster as Broker>::Reader,
    low: Arc<AtomicI64>,
}

impl TopicReader for Cut {
    fn bounds(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Failure> {
        let bounds = self.reader.bounds(partition, wait)?;
        Ok(Watermarks { low: bounds.low.max(Position(self.low.load(Ordering::Relaxed))), ..bounds })
    }

    fn start(&mut self, partition: &TopicPartition, position: Position) -> Result<(), Failure> {
        self.reader.start(partition, position)
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.reader.stop()
    }

    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Read, Failure> {
        self.reader.read(records_max, wait)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn producer(bootstrap: &str) -> BaseProducer {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("a producer")
}

fn write(producer: &BaseProducer, topic: &str, standing: &Standing) {
    let text = serde_json::to_vec(standing).expect("encodes");
    producer.send(BaseRecord::to(topic).partition(0).key(KEY).payload(&text)).map_err(|(error, _)| error).expect("queued");
    producer.flush(WAIT).expect("acknowledged");
}

#[test]
fn who_asks_again_hears_what_is_new_from_the_same_client() {
    let imitated = MockCluster::new(1).expect("an imitated cluster");
    let runtime = runtime();
    let broker = Counting::of(imitated.bootstrap_servers(), &runtime);
    let made = || broker.readers.swap(0, Ordering::Relaxed);
    let mut follower = Follower::new(broker.clone(), SystemClock::shared(), "t-generation".into());

    assert_eq!(follower.read().expect("an answer"), Standing::default(), "there is no topic");
    assert_eq!(made(), 0);

    imitated.create_topic("t-generation", 1, 1).expect("a topic");
    broker.describe_as("one");
    let producer = producer(&imitated.bootstrap_servers());
    let publishing = Standing { current: 2, step: Step::Publishing, begins: BTreeMap::new() };
    write(&producer, "t-generation", &publishing);
    assert_eq!(follower.read().expect("an answer"), publishing);
    assert_eq!(made(), 1);

    assert_eq!(follower.read().expect("an answer"), publishing);
    assert_eq!(made(), 0, "nothing is new");

    let settled = Standing { step: Step::Settled, ..publishing };
    write(&producer, "t-generation", &settled);
    assert_eq!(follower.read().expect("an answer"), settled);
    assert_eq!(made(), 0);

    broker.describe_as("two");
    assert_eq!(follower.read().expect("an answer"), settled);
    assert_eq!(made(), 1, "a topic made anew is read from its beginning");
}

#[test]
fn a_record_that_was_deleted_is_missed_by_those_who_have_not_read_it() {
    let imitated = MockCluster::new(1).expect("an imitated cluster");
    imitated.create_topic("t-generation", 1, 1).expect("a topic");
    let runtime = runtime();
    let broker = Counting::of(imitated.bootstrap_servers(), &runtime);
    broker.describe_as("one");
    let follower = || Follower::new(broker.clone(), SystemClock::shared(), "t-generation".into());
    let producer = producer(&imitated.bootstrap_servers());
    let second = Standing { current: 2, ..Standing::default() };
    write(&producer, "t-generation", &second);
    let mut before = follower();
    assert_eq!(before.read().expect("an answer"), second);

    broker.low.store(1, Ordering::Relaxed);

    assert_eq!(before.read().expect("an answer"), second, "it has read what is gone");
    let missed = follower().read().expect_err("nobody knows");
    assert!(missed.reaction == Reaction::Stop && missed.to_string().contains("records were deleted from it"), "{missed}");
    write(&producer, "t-generation", &second);
    assert_eq!(follower().read().expect("an answer"), second, "it is written again");
}
