//! Which generation of a tenant's results counts, and what becomes of the next one: the last record of `<tenant>-generation` says so to every
//! instance. Without one it is the first generation. Only a rebuild writes it (docs/adr/0015-rebuild.md).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Deadline, SharedClock};
use crate::kafka::transaction::{End, Phases, Ready, Waits};
use crate::kafka::{Broker, Failure, Headers, NewTopic, Outgoing, Position, Reaction, TopicId, TopicPartition, TopicReader, Watermarks};
use crate::tenant::{Generation, Tenant};

/// One question to the broker may take so long.
const WAIT: Duration = Duration::from_secs(10);
/// The topic is read to its end within this time: longer than a dead rebuild's transaction lives.
const READ_WITHIN: Duration = Duration::from_secs(30);
const READ_STEP: Duration = Duration::from_millis(50);
const RECORDS_MAX: usize = 1_000;
const KEY: &[u8] = b"generation";

/// What the last record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The generation whose results count.
    pub current: u32,
    /// How far the rebuild is.
    pub step: Step,
    /// Where the current generation begins in each partition of each output topic.
    #[serde(default)]
    pub begins: BTreeMap<String, Vec<i64>>,
}

/// How far a rebuild is. Each step begins when the one before is complete, and can be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// There is none.
    Settled,
    /// The generation after the current one is being built, aside, from this declaration of windows.
    Building(BTreeMap<String, String>),
    /// The current generation is complete; its results are being copied into the output topics.
    Publishing,
    /// They are in the topics, and in collections aside that take the places of the old ones.
    Exchanging,
}

impl Default for Standing {
    fn default() -> Self {
        Self { current: 1, step: Step::Settled, begins: BTreeMap::new() }
    }
}

impl Standing {
    /// The current generation.
    pub fn generation(&self) -> Generation {
        Generation { number: self.current, begins: self.begins.clone() }
    }

    /// The one after it, whose results begin nowhere yet.
    pub fn next(&self) -> Generation {
        Generation { number: self.current + 1, begins: BTreeMap::new() }
    }

    /// The record that says this.
    pub fn record(&self, tenant: &Tenant, stamp_ms: i64) -> Outgoing {
        Outgoing {
            topic: tenant.generation_topic(),
            partition: 0,
            key: Some(KEY.into()),
            value: Some(serde_json::to_vec(self).expect("numbers and text always encode").into()),
            timestamp_ms: Outgoing::stamp(stamp_ms),
            headers: Headers::default(),
        }
    }
}

/// The topic, as it is created before the first rebuild.
pub fn topic(tenant: &Tenant) -> NewTopic {
    NewTopic { name: tenant.generation_topic(), partitions: 1, config: vec![("cleanup.policy".into(), "compact".into())] }
}

/// What the topic says now. It is read to its high watermark: an open transaction may be the one that changes it.
///
/// # Errors
/// When it cannot be read, holds something else, or has lost its last record.
pub fn read<B: Broker>(broker: &B, clock: &dyn Clock, tenant: &Tenant) -> Result<Standing, Failure> {
    let topic = tenant.generation_topic();
    if broker.describe(std::slice::from_ref(&topic), WAIT)?.is_empty() {
        return Ok(Standing::default());
    }
    let partition = TopicPartition::new(topic, 0);
    let mut reader = broker.reader()?;
    let bounds = reader.bounds(&partition, WAIT)?;
    match read_within(&mut reader, clock, &partition, bounds)? {
        Some(standing) => Ok(standing),
        None => must_have_been_read(&partition, Position(0), bounds.low).map(|()| Standing::default()),
    }
}

/// Refuses where records behind `until` were deleted unread and none stands behind them: the last one counted. Compaction leaves a topic's
/// beginning where it is; retention and deleting records move it.
fn must_have_been_read(partition: &TopicPartition, until: Position, low: Position) -> Result<(), Failure> {
    if low <= until {
        return Ok(());
    }
    let why = "records were deleted from it, the last one too, so what counts is not known: set its cleanup.policy=compact and write its \
               last record again";
    Err(Failure::new(Reaction::Stop, format!("read which generation counts from {partition}"), why))
}

/// What the last record between two bounds says; nothing without one.
fn read_within<R: TopicReader>(
    reader: &mut R,
    clock: &dyn Clock,
    partition: &TopicPartition,
    bounds: Watermarks,
) -> Result<Option<Standing>, Failure> {
    let (mut at, mut last) = (bounds.low, None);
    if at < bounds.high {
        reader.start(partition, at)?;
    }
    let deadline = Deadline::after(clock, READ_WITHIN);
    while at < bounds.high {
        let read = reader.read(RECORDS_MAX, READ_STEP)?;
        if let Some(run) = &read.run {
            last = (0..run.len()).rev().find_map(|row| run.record(row).value.map(<[u8]>::to_vec)).or(last);
        }
        at = at.max(read.position);
        if at < bounds.high && deadline.is_over(clock) {
            return Err(Failure::timed_out(Reaction::Retry, format!("read {partition} to its end"), READ_WITHIN));
        }
    }
    reader.stop()?;
    let Some(last) = last else { return Ok(None) };
    serde_json::from_slice(&last).map(Some).map_err(|error| {
        let why = format!("its last record is not Testudo's ({error}): somebody else writes to it, or a newer version did");
        Failure::new(Reaction::Stop, format!("read which generation counts from {partition}"), why)
    })
}

/// Answers the same as [`read`] to one who asks every few seconds: it keeps its client and what it has read.
pub struct Follower<B: Broker> {
    broker: Arc<B>,
    clock: SharedClock,
    topic: Arc<str>,
    known: Option<Known<B::Reader>>,
}

/// What one topic said up to a position.
struct Known<R> {
    topic: TopicId,
    reader: R,
    until: Position,
    standing: Standing,
}

impl<B: Broker> Follower<B> {
    /// Of a tenant's generation topic; nothing is read yet.
    pub fn new(broker: Arc<B>, clock: SharedClock, topic: Arc<str>) -> Self {
        Self { broker, clock, topic, known: None }
    }

    /// What the topic says now.
    ///
    /// # Errors
    /// As [`read`]; the next answer is read from the beginning then.
    pub fn read(&mut self) -> Result<Standing, Failure> {
        let before = self.known.take();
        let Some(described) = self.broker.describe(std::slice::from_ref(&self.topic), WAIT)?.pop() else {
            return Ok(Standing::default());
        };
        let mut known = match before.filter(|known| known.topic == described.id) {
            Some(known) => known,
            None => Known { topic: described.id, reader: self.broker.reader()?, until: Position(0), standing: Standing::default() },
        };
        let partition = TopicPartition::new(self.topic.clone(), 0);
        let bounds = known.reader.bounds(&partition, WAIT)?;
        if known.until > bounds.high {
            (known.until, known.standing) = (Position(0), Standing::default());
        }
        let new = Watermarks { low: known.until.max(bounds.low), ..bounds };
        let last = match new.low < new.high {
            true => read_within(&mut known.reader, &*self.clock, &partition, new)?,
            false => None,
        };
        match last {
            Some(standing) => known.standing = standing,
            None => must_have_been_read(&partition, known.until, bounds.low)?,
        }
        known.until = bounds.high;
        let standing = known.standing.clone();
        self.known = Some(known);
        Ok(standing)
    }
}

/// Why a generation may not work; none when it may. Asked after the group's positions are known: a switch that is not seen here had not
/// ended when they were given, and what is done on their ground the group refuses once it has.
pub fn permits(standing: &Standing, number: u32, is_staging: bool) -> Option<String> {
    let current = standing.current;
    match &standing.step {
        Step::Building(_) if is_staging && number == current + 1 => None,
        _ if is_staging => Some(format!("generation {number} is not being rebuilt any more; start again")),
        Step::Settled | Step::Building(_) if number == current => None,
        Step::Publishing | Step::Exchanging if number == current => {
            Some(format!("generation {number} is not published whole yet; go on by `testudo run --rebuild`"))
        }
        _ => Some(format!(
            "this is generation {number}, a rebuild has put generation {current} in its place; start again, with the tenant file of the rebuild"
        )),
    }
}

/// Writes the record. Whoever began to write later takes the right away from those before.
pub struct Scribe<B: Broker> {
    broker: Arc<B>,
    clock: SharedClock,
    waits: Waits,
    id: String,
    ready: Option<Ready<B::Producer>>,
}

impl<B: Broker> Scribe<B> {
    /// The only writer from now on.
    pub fn start(broker: Arc<B>, clock: SharedClock, tenant: &Tenant, timeout: Duration) -> Result<Self, Failure> {
        let waits = Waits { init: timeout, transaction: timeout.mul_f64(0.9) };
        let id = format!("{}-rebuild", tenant.name);
        let ready = Ready::init(broker.producer(&id)?, clock.clone(), waits)?;
        Ok(Self { broker, clock, waits, id, ready: Some(ready) })
    }

    /// Writes what is true from now on; `stamp_ms` is for people, milliseconds since 1970.
    ///
    /// # Errors
    /// When it was not written, or nobody knows; then this is no writer any more.
    pub fn write(&mut self, tenant: &Tenant, standing: &Standing, stamp_ms: i64) -> Result<(), Failure> {
        let no_writer = || Failure::new(Reaction::Stop, "write which generation counts", "a write before this one failed; start again");
        let mut open = self.ready.take().ok_or_else(no_writer)?.begin()?;
        if let Err(failure) = open.send(&standing.record(tenant, stamp_ms)) {
            return match open.abort(failure) {
                End::Aborted(_, failure) | End::Unknown(failure) => Err(failure),
                End::Committed(_) | End::CommittedInDoubt => unreachable!("nothing was committed"),
            };
        }
        let nobody = || Err(Failure::new(Reaction::Stop, "commit", "no positions are committed here"));
        match open.commit(&[], nobody, &mut Phases::default()) {
            End::Committed(ready) => self.ready = Some(ready),
            End::CommittedInDoubt => self.ready = Some(Ready::init(self.broker.producer(&self.id)?, self.clock.clone(), self.waits)?),
            End::Aborted(_, failure) | End::Unknown(failure) => return Err(failure),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "generation_tests.rs"]
mod tests;
