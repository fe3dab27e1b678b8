//! One rebuild of a tenant at a time: its turn has whoever holds the one partition of the tenant's generation topic, as a member of a group
//! for that alone.
//!
//! It tells a second one at once that there is a first. What keeps two from doing harm are transactional ids and memberships
//! (docs/adr/0015-rebuild.md): a turn that is lost, by a process that slept, stops nobody by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::{Clock, Deadline};
use crate::kafka::{Broker, Failure, GroupConsumer, Reaction, Rebalance};
use crate::tenant::Tenant;

/// One wait for the group's answer.
const POLL_WAIT: Duration = Duration::from_millis(200);
/// One question to the broker may take so long.
const WAIT: Duration = Duration::from_secs(10);

/// The turn, as long as this lives. An instance that is started again after it was killed has it back at once; others have it when the
/// session of the one before is over.
#[derive(Debug)]
pub struct Turn {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The group that holds the turn.
pub fn group(tenant: &Tenant) -> String {
    // A dot: no tenant has a group of such a name.
    format!("{}.rebuild", tenant.name)
}

impl Turn {
    /// Waits up to `wait` for the turn, as `instance`; none when somebody else has it all that time. The generation topic must be there.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn take<B: Broker>(
        broker: &B,
        clock: &dyn Clock,
        tenant: &Tenant,
        instance: &str,
        wait: Duration,
    ) -> Result<Option<Self>, Failure> {
        let mut consumer = broker.consumer(&group(tenant), Some(instance), &[tenant.generation_topic()])?;
        let deadline = Deadline::after(clock, wait);
        while !attend(&mut consumer)? {
            if deadline.is_over(clock) {
                return Ok(None);
            }
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let told = is_over.clone();
        let keep = move || {
            while !told.load(Ordering::Relaxed) {
                if let Err(failure) = attend(&mut consumer) {
                    return tracing::warn!(%failure, "this rebuild's turn is lost: another one may begin, and then this one is refused");
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("{} turn", tenant.name)).spawn(keep);
        let thread = thread.map_err(|error| Failure::new(Reaction::Stop, "keep the turn of a rebuild", error))?;
        Ok(Some(Self { is_over, thread: Some(thread) }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has lost the turn, which is what is wanted here.
            drop(thread.join());
        }
    }
}

/// Answers the group; whether the partition was given here just now. It is never resumed, so nothing is fetched.
fn attend<C: GroupConsumer>(consumer: &mut C) -> Result<bool, Failure> {
    let mut is_given = false;
    for rebalance in consumer.poll(1, POLL_WAIT)?.rebalances {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                let mut starts = Vec::with_capacity(partitions.len());
                for partition in partitions {
                    let end = consumer.watermarks(&partition, WAIT)?.high;
                    starts.push((partition, end));
                }
                consumer.assign(&starts)?;
                is_given |= !starts.is_empty();
            }
            Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => consumer.unassign(&partitions)?,
        }
    }
    Ok(is_given)
}
