//! Reads single partitions to their end, read-committed: for changelogs.
//!
//! The end to reach is the *high watermark*, asked with a read-uncommitted client: an open transaction of somebody else holds
//! the last stable offset below records that are committed already (KAFKA-10167). Control records and aborted data are
//! not delivered, so the end is recognised by the client's position, which moves past them.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};

use super::client::{Callbacks, learn};
use super::consumer::{Runs, sort_poll_error};
use super::poison::is_poison;
use super::port::{Read, TopicReader, Watermarks};
use super::position::{Position, TopicPartition};
use super::reaction::{Failure, Reaction};

/// A reader of one partition at a time.
pub struct PartitionReader {
    reader: BaseConsumer<Callbacks>,
    bounds: BaseConsumer<Callbacks>,
    current: Option<(TopicPartition, Position)>,
    /// The topic whose leaders the client was told to learn last.
    learned: Option<Arc<str>>,
}

impl PartitionReader {
    pub(super) fn new(reader: BaseConsumer<Callbacks>, bounds: BaseConsumer<Callbacks>) -> Self {
        Self { reader, bounds, current: None, learned: None }
    }
}

impl TopicReader for PartitionReader {
    fn bounds(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Failure> {
        let (low, high) = self
            .bounds
            .fetch_watermarks(&partition.topic, partition.partition, wait)
            .map_err(|error| Failure::of(format!("read the bounds of {partition}"), &error))?;
        Ok(Watermarks { low: Position(low), high: Position(high) })
    }

    fn start(&mut self, partition: &TopicPartition, position: Position) -> Result<(), Failure> {
        let attempted = || format!("read {partition} from {position}");
        if self.learned.as_ref() != Some(&partition.topic) {
            learn(&self.reader, &partition.topic);
            self.learned = Some(partition.topic.clone());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, partition.partition, ListOffset::Offset(position.0))
            .map_err(|error| Failure::of(attempted(), &error))?;
        self.reader.assign(&list).map_err(|error| Failure::of(attempted(), &error))?;
        self.current = Some((partition.clone(), position));
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Failure> {
        let Some((partition, _)) = self.current.take() else { return Ok(()) };
        self.reader.unassign().map_err(|error| Failure::of(format!("end reading {partition}"), &error))
    }

    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Read, Failure> {
        let Some((partition, started)) = self.current.clone() else {
            return Err(Failure::new(Reaction::Stop, "read a changelog", "no partition was started"));
        };
        let mut runs = Runs::default();
        let mut is_at_end = false;
        let mut next_wait = wait;
        while runs.records < records_max {
            match self.reader.poll(next_wait) {
                None => break,
                Some(Ok(message)) => runs.push(&message),
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    is_at_end = true;
                    break;
                }
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_poison) => {
                    let remedy = "a batch cannot be read there; have another replica lead, or begin again with `testudo reset`";
                    return Err(Failure::new(Reaction::Stop, format!("read {partition}"), format_args!("{error}: {remedy}")));
                }
                Some(Err(error)) => {
                    if let Some(trouble) = sort_poll_error(error)? {
                        tracing::warn!(%partition, %trouble, "trouble while reading a changelog");
                        break;
                    }
                }
            }
            next_wait = Duration::ZERO;
        }
        let run = runs.finish().runs.pop();
        let fetched = self.reader.position().map_err(|error| Failure::of(format!("read the position in {partition}"), &error))?;
        let position = fetched.find_partition(&partition.topic, partition.partition).map(|element| element.offset());
        let position = match position {
            Some(ListOffset::Offset(offset)) => Position(offset),
            _ => run.as_ref().and_then(super::slice::Run::end).unwrap_or(started),
        };
        self.current = Some((partition, position.max(started)));
        Ok(Read { run, is_at_end, position })
    }
}
