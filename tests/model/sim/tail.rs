//! Somebody who reads all topics read-committed while the run goes on: what it has seen must stay true.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::cluster::Cluster;
use super::log::Entry;

/// A place in a topic.
type Place = (Arc<str>, usize);
/// Offset, key and value of a record.
type Seen = (i64, Option<Bytes>, Option<Bytes>);

/// A read-committed reader of everything.
#[derive(Debug, Default)]
pub struct Tail {
    positions: BTreeMap<Place, i64>,
    seen: BTreeMap<Place, Vec<Seen>>,
}

impl Tail {
    /// Reads on to the last stable offsets.
    pub fn read(&mut self, cluster: &mut Cluster) {
        for (name, topic) in &cluster.topics {
            for (partition, log) in topic.logs.iter().enumerate() {
                let place = (name.clone(), partition);
                let position = self.positions.entry(place.clone()).or_default();
                let (entries, next) = log.read(*position, usize::MAX, false);
                self.seen.entry(place).or_default().extend(entries.into_iter().map(of));
                *position = next;
            }
        }
    }

    /// What was seen and is not true now: a dirty read.
    pub fn untrue(&self, cluster: &Cluster) -> Option<String> {
        for ((name, partition), seen) in &self.seen {
            let committed: BTreeMap<i64, Seen> =
                cluster.topics[name].logs[*partition].committed().into_iter().map(|entry| (entry.offset, of(entry))).collect();
            if let Some((offset, key, _)) = seen.iter().find(|seen| committed.get(&seen.0) != Some(*seen)) {
                return Some(format!("{name}/{partition}@{offset} was read, key {key:?}, and is not committed"));
            }
        }
        None
    }
}

fn of(entry: &Entry) -> Seen {
    (entry.offset, entry.key.clone(), entry.value.clone())
}
