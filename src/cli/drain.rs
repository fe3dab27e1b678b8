//! Draining: whether all that was in the input topics at one moment is committed, and what came of it in MongoDB.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::service::Service;
use super::sinks::Sinks;
use crate::kafka::{Broker, Cluster, Failure, Position, TopicPartition, TopicReader};

/// How long one look at topics may take.
const LOOK_WAIT: Duration = Duration::from_secs(10);

/// A drain under way.
pub struct Drain {
    inputs: HashMap<String, Vec<(TopicPartition, Position)>>,
    outputs: Option<HashMap<TopicPartition, Position>>,
}

impl Drain {
    /// Up to these ends of the input topics, by tenant.
    pub fn to(inputs: HashMap<String, Vec<(TopicPartition, Position)>>) -> Self {
        Self { inputs, outputs: None }
    }

    /// Whether it is done.
    ///
    /// # Errors
    /// When the ends of the output topics cannot be read.
    pub fn is_done(&mut self, service: &Service, sinks: &Sinks) -> Result<bool, Failure> {
        // Only now does the output hold all that is to come, and only a sink that runs tells its topics.
        if self.outputs.is_none() && service.has_reached(&self.inputs) && sinks.are_running() {
            self.outputs = Some(sinks.ends()?);
        }
        Ok(self.outputs.as_ref().is_some_and(|ends| sinks.have_reached(ends)))
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
