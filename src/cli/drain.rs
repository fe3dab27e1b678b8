//! Draining: whether all that was in the input topics at one moment is committed, and what came of it in MongoDB; or why that will not be
//! before somebody decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::service::Service;
use super::sinks::Sinks;
use crate::clock::{Clock, Deadline};
use crate::kafka::{Broker, Cluster, Failure, Position, TopicPartition, TopicReader};

/// How long one look at topics may take.
const LOOK_WAIT: Duration = Duration::from_secs(10);

/// What is left waits for people for so long before a drain gives up: a decision may be on its way, and MongoDB gets what is committed.
const STUCK_WAIT: Duration = Duration::from_secs(10);

/// A drain under way.
pub struct Drain {
    inputs: HashMap<String, Vec<(TopicPartition, Position)>>,
    outputs: Option<HashMap<TopicPartition, Position>>,
    stuck_until: Option<Deadline>,
}

/// How far a drain is.
#[derive(Debug, PartialEq, Eq)]
pub enum Drained {
    /// It goes on.
    NotYet,
    /// All is done.
    Yes,
    /// What is left waits for people, and has done so for a while: a line for each partition.
    Stuck(Vec<String>),
}

impl Drain {
    /// Up to these ends of the input topics, by tenant.
    pub fn to(inputs: HashMap<String, Vec<(TopicPartition, Position)>>) -> Self {
        Self { inputs, outputs: None, stuck_until: None }
    }

    /// How far it is.
    ///
    /// # Errors
    /// When the ends of the output topics cannot be read.
    pub fn look(&mut self, service: &Service, sinks: &Sinks, clock: &dyn Clock) -> Result<Drained, Failure> {
        if let Some(lines) = service.stuck_before(&self.inputs) {
            let until = self.stuck_until.get_or_insert_with(|| Deadline::after(clock, STUCK_WAIT));
            return Ok(if until.is_over(clock) { Drained::Stuck(lines) } else { Drained::NotYet });
        }
        self.stuck_until = None;
        // Only now does the output hold all that is to come, and only a sink that runs tells its topics.
        if self.outputs.is_none() && service.has_reached(&self.inputs) && sinks.are_running() {
            self.outputs = Some(sinks.ends()?);
        }
        let is_done = self.outputs.as_ref().is_some_and(|ends| sinks.have_reached(ends));
        Ok(if is_done { Drained::Yes } else { Drained::NotYet })
    }
}

/// The ends, as of now, of the partitions of `topics` that hold records.
pub fn ends_of(broker: &Cluster, topics: &[Arc<str>]) -> Result<Vec<(TopicPartition, Position)>, Failure> {
    let mut ends = Vec::new();
    if topics.is_empty() {
        return Ok(ends);
    }
    let mut reader = broker.reader()?;
    for topic in broker.describe(topics, LOOK_WAIT)? {
        for partition in 0..topic.partitions {
            let partition = TopicPartition::new(topic.name.clone(), partition);
            let bounds = reader.bounds(&partition, LOOK_WAIT)?;
            if bounds.high > bounds.low {
                ends.push((partition, bounds.high));
            }
        }
    }
    Ok(ends)
}
