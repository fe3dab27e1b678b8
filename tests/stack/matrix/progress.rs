//! The group's committed positions, asked again and again over one connection: when does work go on?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::job::{Instance, Job, PATIENCE};

const STEP: Duration = Duration::from_millis(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What has piled up while processes died may take as long as the machine needs, but not longer than this: as long as it goes on.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(900);

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

    /// Looks at an instance that was started at `since`, when `before` records were committed, until `is_over` by what is known: how long
    /// its first commit took, if it came to that. Before it has a partition, what is committed is its predecessor's, whose last commit was
    /// still on its way.
    pub fn watch(
        &self,
        instance: &mut Instance,
        mut before: i64,
        since: Instant,
        mut is_over: impl FnMut(Option<Duration>, &mut Instance) -> Result<bool, Failed>,
    ) -> Result<Option<Duration>, Failed> {
        let mut first = None;
        loop {
            let was_last = is_over(first, instance)?;
            if first.is_none() {
                let (committed, at) = (self.committed()?, since.elapsed());
                if committed > before {
                    first = instance.log().contains("\"partition ready\"").then_some(at);
                    before = committed;
                }
            }
            if was_last {
                return Ok(first);
            }
            std::thread::sleep(STEP);
        }
    }

    /// Waits for the first commit of an instance that was started at `since`, when `before` records were committed.
    pub fn first_commit_of(&self, instance: &mut Instance, before: i64, since: Instant) -> Result<Duration, Failed> {
        let first = self.first_commit_or_end(instance, before, since)?;
        first.ok_or_else(|| format!("it ended before its first commit: {:?}", instance.ended()).into())
    }

    /// The same; `None` where it ended before its first commit.
    pub fn first_commit_or_end(&self, instance: &mut Instance, before: i64, since: Instant) -> Result<Option<Duration>, Failed> {
        let deadline = since + PATIENCE;
        let mut has_ended = false;
        let first = self.watch(instance, before, since, |first, instance| {
            has_ended = instance.ended()?.is_some();
            Ok(first.is_some() || has_ended || Instant::now() > deadline)
        })?;
        match first {
            None if !has_ended => Err(format!("no commit within {} s; {before} records were committed before", PATIENCE.as_secs()).into()),
            first => Ok(first),
        }
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

    /// Waits until everything in the input is committed, as long as more is committed every now and then.
    pub fn wait_for_everything(&self) -> Result<(), Failed> {
        let produced = self.produced()?;
        let began = Instant::now();
        let (mut before, mut moved) = (-1, began);
        loop {
            let committed: i64 = self.asked(Instant::now() + PATIENCE)?.iter().sum();
            if committed >= produced {
                return Ok(());
            }
            if committed > before {
                (before, moved) = (committed, Instant::now());
            }
            if moved.elapsed() > PATIENCE || began.elapsed() > CAUGHT_UP_WITHIN {
                let (took, stood) = (began.elapsed().as_secs(), moved.elapsed().as_secs());
                return Err(format!("{committed} of {produced} records committed after {took} s, none in the last {stood} s").into());
            }
            std::thread::sleep(STEP);
        }
    }
}

/// How long nothing was committed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standstill {
    /// The longest time without a commit of any partition.
    pub group: Duration,
    /// The longest time that one partition stood still.
    pub partition: Duration,
}

/// Watches a tenant under steady load for standstills.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Standstill>,
}

impl Watch {
    /// Begins now.
    pub fn start(progress: Progress) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = is_over.clone();
        Self { is_over, thread: std::thread::spawn(move || watched(&progress, &until)) }
    }

    /// Ends it; what lasts until now counts.
    pub fn stop(self) -> Result<Standstill, Failed> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the watch panicked".into())
    }
}

fn watched(progress: &Progress, is_over: &AtomicBool) -> Standstill {
    let began = Instant::now();
    let mut reached: Vec<(i64, Instant)> = (0..progress.partitions).map(|_| (-1, began)).collect();
    let (mut last, mut longest) = (began, Standstill::default());
    loop {
        let ends = is_over.load(Ordering::Relaxed);
        let positions = progress.positions().unwrap_or_default();
        let now = Instant::now();
        let moved = |((before, _), position): (&(i64, Instant), &i64)| position > before;
        if ends || reached.iter().zip(&positions).any(moved) {
            longest.group = longest.group.max(now - last);
            last = now;
        }
        for (number, (before, since)) in reached.iter_mut().enumerate() {
            let position = positions.get(number).copied().unwrap_or(*before);
            if ends || position > *before {
                longest.partition = longest.partition.max(now - *since);
                (*before, *since) = (position, now);
            }
        }
        if ends {
            return longest;
        }
        std::thread::sleep(STEP * 5);
    }
}
