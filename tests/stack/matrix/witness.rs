//! A read-committed reader that follows the outputs during a run. What it saw must be there at the end, as it saw it: otherwise it
//! has read something that was never committed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::job::PATIENCE;

/// Topic, partition and offset of a record, with a hash of key and value.
pub type Records = BTreeMap<(String, i32, i64), u64>;

const STEP: Duration = Duration::from_millis(100);

/// A reader that runs.
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Records, String>>>,
}

impl Witness {
    /// Begins to follow topics, which may not exist yet.
    pub fn start(client: ClientConfig, topics: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || follow(&client, &topics, &told).map_err(|error| error.to_string()));
        Self { stop, thread: Some(thread) }
    }

    /// Ends it: what it saw.
    pub fn end(&mut self) -> Result<Records, Failed> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or("the witness was ended before")?;
        Ok(thread.join().map_err(|_| "the witness panicked")??)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn follow(client: &ClientConfig, topics: &[String], stop: &AtomicBool) -> Result<Records, KafkaError> {
    let mut seen = Records::new();
    let consumer = reader(client)?;
    while !stop.load(Ordering::Relaxed) {
        match everything(&consumer, topics) {
            Ok(Some(list)) => {
                consumer.assign(&list)?;
                break;
            }
            // Not made yet, or the broker is away.
            Ok(None) | Err(_) => std::thread::sleep(STEP),
        }
    }
    while !stop.load(Ordering::Relaxed) {
        // Errors are a broker that is away: the client comes back by itself.
        if let Some(Ok(message)) = consumer.poll(STEP) {
            note(&mut seen, &message);
        }
    }
    Ok(seen)
}

/// Everything that is committed in the topics now.
pub fn committed(client: &ClientConfig, topics: &[String]) -> Result<Records, Failed> {
    let consumer = reader(client)?;
    let list = everything(&consumer, topics)?.ok_or_else(|| format!("one of {topics:?} does not exist"))?;
    consumer.assign(&list)?;
    let (mut seen, mut ended) = (Records::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while ended < list.count() {
        match consumer.poll(STEP) {
            Some(Ok(message)) => note(&mut seen, &message),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(_)) | None if Instant::now() > deadline => return Err(format!("{topics:?} did not come to their ends").into()),
            Some(Err(_)) | None => {}
        }
    }
    Ok(seen)
}

/// How many records were seen that are not there, or are not the same.
pub fn dirty(seen: &Records, committed: &Records) -> Vec<String> {
    let is_dirty = |(place, hash): &(&(String, i32, i64), &u64)| committed.get(*place) != Some(*hash);
    seen.iter().filter(is_dirty).map(|((topic, partition, offset), _)| format!("{topic}/{partition}@{offset}")).collect()
}

fn reader(client: &ClientConfig) -> Result<BaseConsumer, KafkaError> {
    let mut config = client.clone();
    config.set("group.id", "witness").set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest").set("reconnect.backoff.max.ms", "500");
    config.create()
}

/// All partitions of the topics from their beginnings, if all of them exist.
fn everything(consumer: &BaseConsumer, topics: &[String]) -> Result<Option<TopicPartitionList>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5))?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if partitions == 0 {
            return Ok(None);
        }
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
        }
    }
    Ok(Some(list))
}

fn note(seen: &mut Records, message: &BorrowedMessage<'_>) {
    let mut hasher = DefaultHasher::new();
    (message.key(), message.payload()).hash(&mut hasher);
    seen.insert((message.topic().to_owned(), message.partition(), message.offset()), hasher.finish());
}

/// The check itself: a record that is gone and one that has changed are found, the others are not.
pub fn finds_what_it_should() -> Result<(), Failed> {
    let place = |offset| ("t".to_owned(), 0, offset);
    let seen = Records::from([(place(0), 1), (place(1), 2), (place(2), 3)]);
    let committed = Records::from([(place(0), 1), (place(1), 9)]);
    match dirty(&seen, &committed).as_slice() {
        [changed, gone] if changed == "t/0@1" && gone == "t/0@2" => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}
