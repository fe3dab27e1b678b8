//! A group's committed positions, asked again and again over one connection: when does work go on?

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::rig::{ANSWER_WITHIN, Rig};

const STEP: Duration = Duration::from_millis(5);

/// Watches one group on one topic.
pub struct Progress {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Progress {
    /// Watches `group`.
    ///
    /// # Errors
    /// When the client cannot be made or the topic is not known.
    pub fn of(rig: &Rig, group: &str, topic: &str) -> anyhow::Result<Self> {
        let mut config = rig.client();
        // Positions of an open transaction do not count before it is committed, and must not be waited for.
        config.set("group.id", group).set("isolation.level", "read_uncommitted");
        let partitions = i32::try_from(rig.extent(topic)?.len())?;
        Ok(Self { consumer: config.create()?, topic: topic.to_owned(), partitions })
    }

    /// Committed readings.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn committed(&self) -> anyhow::Result<i64> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition(&self.topic, partition);
        }
        let deadline = Instant::now() + ANSWER_WITHIN;
        let answer = loop {
            match self.consumer.committed_offsets(list.clone(), ANSWER_WITHIN) {
                Err(_) if Instant::now() < deadline => std::thread::sleep(STEP),
                answer => break answer.context("failed to read the group's positions")?,
            }
        };
        Ok(answer.elements().iter().map(|element| element.offset().to_raw().unwrap_or(0).max(0)).sum())
    }

    /// Waits until more than `before` readings are committed; how long after `since` that was.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub fn beyond(&self, before: i64, since: Instant, within: Duration) -> anyhow::Result<Duration> {
        while since.elapsed() < within {
            if self.committed()? > before {
                return Ok(since.elapsed());
            }
            std::thread::sleep(STEP);
        }
        bail!("no commit beyond {before} readings within {} s", within.as_secs())
    }
}
