//! A machine's disk: the store of its instance, shared by the workers there, which a crash leaves as it is, a loss of power sets back,
//! and a new disk has never held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use testudo::kafka::TopicPartition;
use testudo::store::{Changes, Entry, Progress, ScanMax, StateStore, StoreFault, WindowIdentity, WindowStoreId};

use super::link::Link;
use super::planted::Planted;
use crate::harness::Maps;

/// A disk.
#[derive(Debug, Default)]
pub struct Disk {
    contents: Mutex<(Maps, Maps)>,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, (Maps, Maps)> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands on it now.
    pub fn contents(&self) -> Maps {
        self.lock().0.clone()
    }

    /// What stands on it survives a loss of power from now on.
    pub fn sync(&self) {
        let mut contents = self.lock();
        contents.1 = contents.0.clone();
    }

    /// What was not synced is gone.
    pub fn lose_power(&self) {
        let mut contents = self.lock();
        contents.0 = contents.1.clone();
    }

    /// Another, empty disk stands in its place.
    pub fn replace(&self) {
        *self.lock() = Default::default();
    }
}

/// A disk, as one process sees it.
pub struct OpenDisk {
    /// The disk.
    pub disk: Arc<Disk>,
    /// The process.
    pub link: Link,
}

impl OpenDisk {
    fn contents(&self) -> Result<MutexGuard<'_, (Maps, Maps)>, StoreFault> {
        self.link.alive("use the store").map_err(|failure| gone(&failure.cause))?;
        Ok(self.disk.lock())
    }
}

fn gone(cause: &str) -> StoreFault {
    StoreFault::Disk { attempted: "use the store".into(), path: "a model".into(), detail: cause.into() }
}

impl StateStore for OpenDisk {
    fn window(&self, identity: &WindowIdentity) -> Result<WindowStoreId, StoreFault> {
        Ok(self.contents()?.0.window(identity))
    }

    fn progress(&self, partition: &TopicPartition) -> Result<Option<Progress>, StoreFault> {
        Ok(self.contents()?.0.progress.get(partition).cloned())
    }

    fn states(&self, keys: &[Bytes]) -> Result<Vec<Option<Vec<u8>>>, StoreFault> {
        Ok(self.contents()?.0.states(keys))
    }

    fn started_within(&self, store: WindowStoreId, partition: i32, from: i64, until: i64, most: ScanMax) -> Result<Vec<Entry>, StoreFault> {
        Ok(self.contents()?.0.started_within(store, partition, from, until, most))
    }

    fn apply(&self, mut changes: Changes) -> Result<(), StoreFault> {
        self.link.may_crash("apply to the store").map_err(|failure| gone(&failure.cause))?;
        let is_torn = self.link.shared.cluster().planted == Some(Planted::TornBatch);
        if is_torn && changes.states.len() > 1 {
            changes.states.pop();
        }
        self.contents()?.0.apply(changes);
        // Applied, but nobody learns of it: the next call finds the process ended.
        self.link.may_crash("having applied to the store").map_err(|failure| gone(&failure.cause))
    }
}
