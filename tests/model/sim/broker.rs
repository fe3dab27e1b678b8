//! The model behind the broker's port, and a reader of single partitions.

use std::sync::Arc;
use std::time::Duration;

use testudo::kafka::{
    Broker, Failure, NewTopic, Position, Reaction, Read, RunBuilder, TopicDescription, TopicId, TopicPartition, TopicReader, Watermarks,
};
use testudo::planted::Bug;

use super::consumer::{ModelConsumer, push};
use super::link::Link;
use super::planted::Planted;
use super::producer::ModelProducer;

/// The cluster, as one process sees it.
pub struct ModelBroker {
    link: Link,
    transaction_timeout: Duration,
}

impl ModelBroker {
    /// The cluster at the end of `link`.
    pub fn new(link: Link, transaction_timeout: Duration) -> Self {
        Self { link, transaction_timeout }
    }
}

impl Broker for ModelBroker {
    type Consumer = ModelConsumer;
    type Producer = ModelProducer;
    type Reader = ModelReader;

    fn consumer(&self, _: &str, instance: Option<&str>, topics: &[Arc<str>]) -> Result<ModelConsumer, Failure> {
        self.link.alive("subscribe")?;
        Ok(ModelConsumer::subscribe(self.link.clone(), instance, topics))
    }

    fn producer(&self, transactional_id: &str) -> Result<ModelProducer, Failure> {
        self.link.alive("make a producer")?;
        Ok(ModelProducer::new(self.link.clone(), transactional_id, self.transaction_timeout))
    }

    fn reader(&self) -> Result<ModelReader, Failure> {
        self.link.alive("make a reader")?;
        Ok(ModelReader { link: self.link.clone(), current: None })
    }

    fn describe(&self, topics: &[Arc<str>], wait: Duration) -> Result<Vec<TopicDescription>, Failure> {
        self.link.enter("describe topics", wait)?;
        let cluster = self.link.shared.cluster();
        let describe = |name: &Arc<str>| {
            let topic = cluster.topics.get(name)?;
            Some(TopicDescription { name: name.clone(), id: TopicId(topic.id.as_str().into()), partitions: topic.logs.len() as i32 })
        };
        Ok(topics.iter().filter_map(describe).collect())
    }

    fn create(&self, topics: &[NewTopic], wait: Duration) -> Result<(), Failure> {
        self.link.enter("create topics", wait)?;
        let mut cluster = self.link.shared.cluster();
        topics.iter().for_each(|topic| cluster.create(topic, 0));
        Ok(())
    }
}

/// A reader of one partition at a time.
pub struct ModelReader {
    link: Link,
    current: Option<(TopicPartition, i64)>,
}

impl TopicReader for ModelReader {
    fn bounds(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Failure> {
        self.link.enter("read bounds of a changelog", wait)?;
        let mut cluster = self.link.shared.cluster();
        let is_short = cluster.planted == Some(Planted::ShortRestore);
        let log = cluster.log(partition);
        let high = if is_short { log.stable_end() } else { log.next };
        Ok(Watermarks { low: Position(log.low), high: Position(high) })
    }

    fn start(&mut self, partition: &TopicPartition, position: Position) -> Result<(), Failure> {
        self.link.alive("start to read")?;
        self.current = Some((partition.clone(), position.0));
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.current = None;
        Ok(())
    }

    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Read, Failure> {
        let Some((partition, from)) = self.current.clone() else {
            return Err(Failure::new(Reaction::Stop, "read a changelog", "no partition was started"));
        };
        let nothing = |position| Read { run: None, is_at_end: false, position: Position(position) };
        match self.link.enter("read a changelog", wait) {
            Ok(_) => {}
            // The client waits for its broker, and says nothing.
            Err(failure) if failure.reaction == Reaction::Retry => return Ok(nothing(from)),
            Err(failure) => return Err(failure),
        }
        let (read, position) = {
            let mut cluster = self.link.shared.cluster();
            let is_dirty = Bug::UncommittedRestore.is_planted();
            let most = 1 + cluster.random.below(records_max.min(40));
            let log = cluster.log(&partition);
            let end = log.stable_end();
            let (entries, position) = log.read(from, most, is_dirty);
            let mut run = RunBuilder::new(partition.clone());
            entries.into_iter().for_each(|entry| push(&mut run, entry));
            (Read { run: (!run.is_empty()).then(|| run.finish()), is_at_end: position >= end, position: Position(position) }, position)
        };
        if position == from {
            self.link.waits("read a changelog", wait, self.link.deadline(wait))?;
        }
        self.current = Some((partition, position));
        Ok(read)
    }
}
