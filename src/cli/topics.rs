//! Input topics for those who have none yet: emulations and the demonstration make them.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::kafka::{Broker, Cluster, Failure, NewTopic};

/// How long the cluster may take to answer.
const WAIT: Duration = Duration::from_secs(10);

/// Creates those of `topics` that do not exist, with the broker's default replication; the names of the new ones.
pub fn create_missing(
    config: &Config,
    runtime: &tokio::runtime::Handle,
    topics: &[Arc<str>],
    partitions: i32,
) -> Result<Vec<Arc<str>>, Failure> {
    let timeout = config.engine.transaction_timeout();
    let broker = Cluster::new(config.kafka.clone(), "testudo-topics", timeout, SystemClock::shared(), runtime.clone());
    let known = broker.describe(topics, WAIT)?;
    let is_missing = |topic: &&Arc<str>| !known.iter().any(|known| known.name == **topic);
    let missing: Vec<Arc<str>> = topics.iter().filter(is_missing).cloned().collect();
    if !missing.is_empty() {
        let new: Vec<NewTopic> = missing.iter().map(|name| NewTopic { name: name.clone(), partitions, config: Vec::new() }).collect();
        broker.create(&new, WAIT)?;
    }
    Ok(missing)
}
