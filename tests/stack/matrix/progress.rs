//! The group's committed positions, asked again and again over one connection: when does work go on?

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::job::{Job, PATIENCE};

const STEP: Duration = Duration::from_millis(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Watches one tenant's group and input.
pub struct Progress {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Progress {
    /// Watches the group of `job` on its input of `partitions` partitions.
    pub fn of(job: &Job<'_>, partitions: i32) -> Result<Self, Failed> {
        let mut config = job.client();
        // Without waiting for open transactions: their positions do not count before they are committed.
        config.set("group.id", &job.name).set("isolation.level", "read_uncommitted").set("reconnect.backoff.max.ms", "200");
        Ok(Self { consumer: config.create()?, topic: job.topic("in"), partitions })
    }

    /// Committed positions, in the order of the partitions.
    fn positions(&self) -> Result<Vec<i64>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition(&self.topic, partition);
        }
        let answer = self.consumer.committed_offsets(list, ANSWER_WITHIN)?;
        Ok(answer.elements().iter().map(|element| element.offset().to_raw().unwrap_or(0).max(0)).collect())
    }

    fn asked(&self, deadline: Instant) -> Result<Vec<i64>, Failed> {
        loop {
            match self.positions() {
                Ok(positions) => return Ok(positions),
                Err(error) if Instant::now() > deadline => return Err(format!("the group's positions are not known: {error}").into()),
                Err(_) => std::thread::sleep(STEP),
            }
        }
    }

    /// Committed records.
    pub fn committed(&self) -> Result<i64, Failed> {
        Ok(self.asked(Instant::now() + PATIENCE)?.iter().sum())
    }

    /// Records in the input.
    pub fn produced(&self) -> Result<i64, Failed> {
        let ends = (0..self.partitions).map(|partition| self.consumer.fetch_watermarks(&self.topic, partition, PATIENCE));
        Ok(ends.map(|bounds| bounds.map(|(_, end)| end)).sum::<Result<i64, KafkaError>>()?)
    }

    /// Waits until more than `before` records are committed; how long after `since` that was.
    pub fn first_commit(&self, before: i64, since: Instant) -> Result<Duration, Failed> {
        let deadline = since + PATIENCE;
        while Instant::now() < deadline {
            if self.asked(deadline)?.iter().sum::<i64>() > before {
                return Ok(since.elapsed());
            }
            std::thread::sleep(STEP);
        }
        Err(format!("no commit within {} s; {before} records were committed before", PATIENCE.as_secs()).into())
    }

    /// Waits until every partition has moved beyond where it stands now; how long after `since` that was.
    pub fn all_moved(&self, since: Instant) -> Result<Duration, Failed> {
        let deadline = since + PATIENCE;
        let before = self.asked(deadline)?;
        while Instant::now() < deadline {
            if self.asked(deadline)?.iter().zip(&before).all(|(now, before)| now > before) {
                return Ok(since.elapsed());
            }
            std::thread::sleep(STEP);
        }
        Err(format!("not every partition moved within {} s from {before:?}", PATIENCE.as_secs()).into())
    }

    /// Waits until everything in the input is committed.
    pub fn wait_for_everything(&self) -> Result<(), Failed> {
        let produced = self.produced()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let committed: i64 = self.asked(deadline)?.iter().sum();
            if committed >= produced {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{committed} of {produced} records committed after {} s", PATIENCE.as_secs()).into());
            }
            std::thread::sleep(STEP);
        }
    }
}
