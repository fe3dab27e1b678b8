//! Which worker of this process may touch a partition's state.
//!
//! Workers of one tenant share a store. The group may give a partition to one worker while another, whose session ran out during an
//! outage, has not heard of it yet: both would restore into the same keys, and one would read the other's state. So a worker claims
//! a partition before it restores it, and gives the claim up when it has released the partition (Kafka Streams locks
//! a task's directory for the same reason).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kafka::TopicPartition;

/// The claims of one tenant in one process.
#[derive(Debug, Default)]
pub struct Claims {
    taken: Mutex<BTreeSet<TopicPartition>>,
}

/// The right to touch a partition's state; given up when dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Arc<Claims>,
    partition: TopicPartition,
}

impl Claims {
    /// Claims a partition; `None` while somebody holds it.
    pub fn take(self: &Arc<Self>, partition: &TopicPartition) -> Option<Claim> {
        let is_free = self.taken().insert(partition.clone());
        is_free.then(|| Claim { claims: self.clone(), partition: partition.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeSet<TopicPartition>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.taken().remove(&self.partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_one_holder_at_a_time() {
        let claims = Arc::new(Claims::default());
        let (first, second) = (TopicPartition::new("in", 0), TopicPartition::new("in", 1));
        let held = claims.take(&first).expect("it is free");
        assert!(claims.take(&first).is_none());
        assert!(claims.take(&second).is_some());
        drop(held);
        assert!(claims.take(&first).is_some());
    }
}
