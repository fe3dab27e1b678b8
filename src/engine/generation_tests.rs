//! Who may work, what the record says, and that one who asks again and again makes no clients for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;
use crate::clock::SystemClock;
use crate::kafka::{Cluster, Settings, TopicDescription};

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
}

impl Broker for Counting {
    type Consumer = <Cluster as Broker>::Consumer;
    type Producer = <Cluster as Broker>::Producer;
    type Reader = <Cluster as Broker>::Reader;

    fn consumer(&self, group: &str, instance: Option<&str>, topics: &[Arc<str>]) -> Result<Self::Consumer, Failure> {
        self.cluster.consumer(group, instance, topics)
    }

    fn producer(&self, transactional_id: &str) -> Result<Self::Producer, Failure> {
        self.cluster.producer(transactional_id)
    }

    fn reader(&self) -> Result<Self::Reader, Failure> {
        self.readers.fetch_add(1, Ordering::Relaxed);
        self.cluster.reader()
    }

    fn describe(&self, _: &[Arc<str>], _: Duration) -> Result<Vec<TopicDescription>, Failure> {
        Ok(self.described.lock().expect("no panic").clone())
    }

    fn create(&self, topics: &[NewTopic], wait: Duration) -> Result<(), Failure> {
        self.cluster.create(topics, wait)
    }
}

fn write(producer: &BaseProducer, topic: &str, standing: &Standing) {
    let text = serde_json::to_vec(standing).expect("encodes");
    producer.send(BaseRecord::to(topic).partition(0).key(KEY).payload(&text)).map_err(|(error, _)| error).expect("queued");
    producer.flush(WAIT).expect("acknowledged");
}

#[test]
fn who_asks_again_hears_what_is_new_and_makes_clients_for_that_alone() {
    let imitated = MockCluster::new(1).expect("an imitated cluster");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let settings = Settings { bootstrap: imitated.bootstrap_servers(), ..Settings::default() };
    let clock = SystemClock::shared();
    let cluster = Cluster::new(settings, "test", WAIT, clock.clone(), runtime.handle().clone());
    let broker = Arc::new(Counting { cluster, readers: AtomicUsize::new(0), described: Mutex::default() });
    let made = || broker.readers.swap(0, Ordering::Relaxed);
    let mut follower = Follower::new(broker.clone(), clock, "t-generation".into());

    assert_eq!(follower.read().expect("an answer"), Standing::default(), "there is no topic");
    assert_eq!(made(), 0);

    imitated.create_topic("t-generation", 1, 1).expect("a topic");
    let describe = |id: &str| {
        let described = TopicDescription { name: "t-generation".into(), id: TopicId(id.into()), partitions: 1 };
        *broker.described.lock().expect("no panic") = vec![described];
    };
    describe("one");
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", imitated.bootstrap_servers()).create().expect("a producer");
    let publishing = Standing { current: 2, step: Step::Publishing, begins: BTreeMap::new() };
    write(&producer, "t-generation", &publishing);
    assert_eq!(follower.read().expect("an answer"), publishing);
    assert_eq!(made(), 2, "one for bounds, one for the record");

    assert_eq!(follower.read().expect("an answer"), publishing);
    assert_eq!(made(), 0, "nothing is new");

    let settled = Standing { step: Step::Settled, ..publishing };
    write(&producer, "t-generation", &settled);
    assert_eq!(follower.read().expect("an answer"), settled);
    assert_eq!(made(), 1);

    describe("two");
    assert_eq!(follower.read().expect("an answer"), settled);
    assert_eq!(made(), 2, "a topic made anew is read from its beginning");
}
