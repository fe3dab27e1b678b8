//! Which broker of several has a role in a tenant's work.
//!
//! # Source
//! A coordinator is the leader of the partition of its internal topic that the id belongs to: `Utils.abs(id.hashCode()) % partitions`,
//! in Kafka's `TransactionStateManager.partitionFor` and `GroupCoordinatorService.partitionFor`.

use std::time::Duration;

use libtest_mimic::Failed;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::job::{Job, wait_for};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The number of the broker that leads a partition.
pub fn leader(job: &Job<'_>, topic: &str, partition: i32) -> Result<usize, Failed> {
    let mut found = None;
    wait_for(&format!("a leader of {topic}/{partition}"), || {
        found = partitions(job, topic)?
            .into_iter()
            .find(|(number, _)| *number == partition)
            .and_then(|(_, leader)| usize::try_from(leader).ok());
        Ok(found.is_some())
    })?;
    found.ok_or_else(|| "a leader was waited for".into())
}

/// The number of the broker that coordinates a transactional id or a group.
pub fn coordinator(job: &Job<'_>, internal: &str, id: &str) -> Result<usize, Failed> {
    let mut count = 0;
    wait_for(&format!("the topic {internal}"), || {
        count = partitions(job, internal)?.len();
        Ok(count > 0)
    })?;
    leader(job, internal, java_hash(id).checked_abs().unwrap_or(0) % i32::try_from(count)?)
}

/// Partitions and their leaders; none while nobody answers. A leader is -1 where there is none.
fn partitions(job: &Job<'_>, topic: &str) -> Result<Vec<(i32, i32)>, Failed> {
    let client: BaseConsumer = job.client().create()?;
    let Ok(metadata) = client.fetch_metadata(Some(topic), ANSWER_WITHIN) else { return Ok(Vec::new()) };
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    Ok(partitions.map(|partition| (partition.id(), partition.leader())).collect())
}

/// `String.hashCode` of an ASCII text.
fn java_hash(text: &str) -> i32 {
    text.bytes().fold(0, |hash: i32, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)))
}

/// The hash itself, by values of `String.hashCode`.
pub fn finds_what_it_should() -> Result<(), Failed> {
    match (java_hash("hello"), java_hash("polygenelubricants"), java_hash("")) {
        (99_162_322, i32::MIN, 0) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}
