//! A machine's disk: the store of its instance, shared by the workers there, which a crash leaves as it is, a loss of power sets back,
//! and a new disk has never held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use testudo::kafka::TopicPartition;
use testudo::store::{Changes, Entry, Progress, StateStore, StoreFault, WindowIdentity, WindowStoreId, keys};

use super::link::Link;
use super::planted::Planted;

/// What stands on a disk.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Window states by key.
    pub states: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Progress by partition.
    pub progress: BTreeMap<TopicPartition, Progress>,
    windows: Vec<WindowIdentity>,
}

/// A disk.
#[derive(Debug, Default)]
pub struct Disk {
    contents: Mutex<(Contents, Contents)>,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, (Contents, Contents)> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands on it now.
    pub fn contents(&self) -> Contents {
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
    fn contents(&self) -> Result<MutexGuard<'_, (Contents, Contents)>, StoreFault> {
        self.link.alive("use the store").map_err(|failure| gone(&failure.cause))?;
        Ok(self.disk.lock())
    }
}

fn gone(cause: &str) -> StoreFault {
    StoreFault::Disk { attempted: "use the store".into(), path: "a model".into(), detail: cause.into() }
}

impl StateStore for OpenDisk {
    fn window(&self, identity: &WindowIdentity) -> Result<WindowStoreId, StoreFault> {
        let windows = &mut self.contents()?.0.windows;
        let known = windows.iter().position(|window| window == identity);
        let number = known.unwrap_or_else(|| {
            windows.push(identity.clone());
            windows.len() - 1
        });
        Ok(WindowStoreId(number as u32))
    }

    fn progress(&self, partition: &TopicPartition) -> Result<Option<Progress>, StoreFault> {
        Ok(self.contents()?.0.progress.get(partition).cloned())
    }

    fn states(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreFault> {
        let contents = self.contents()?;
        Ok(keys.iter().map(|key| contents.0.states.get(key).cloned()).collect())
    }

    fn started_within(
        &self,
        store: WindowStoreId,
        partition: i32,
        from_us: i64,
        until_us: i64,
        entries_max: usize,
    ) -> Result<Vec<Entry>, StoreFault> {
        let contents = self.contents()?;
        let of = |(key, state): (&Vec<u8>, &Vec<u8>)| {
            let window = keys::read_window_key(key)?;
            let is_within = window.store == store.0 && window.partition == partition && (from_us..=until_us).contains(&window.start_us);
            is_within.then(|| Entry { start_us: window.start_us, key: window.key.to_vec(), state: state.clone() })
        };
        Ok(contents.0.states.iter().filter_map(of).take(entries_max).collect())
    }

    fn apply(&self, mut changes: Changes) -> Result<(), StoreFault> {
        self.link.may_crash("apply to the store").map_err(|failure| gone(&failure.cause))?;
        let planted = self.link.shared.cluster().planted;
        if planted == Some(Planted::TornBatch) && changes.states.len() > 1 {
            changes.states.pop();
        }
        if planted == Some(Planted::ForgottenStreamTime) {
            changes.progress.iter_mut().for_each(|(_, progress)| progress.stream_time_us = None);
        }
        {
            let contents = &mut self.contents()?.0;
            for (key, state) in changes.states {
                match state {
                    Some(state) => contents.states.insert(key, state),
                    None => contents.states.remove(&key),
                };
            }
            contents.progress.extend(changes.progress);
        }
        // Applied, but nobody learns of it: the next call finds the process ended.
        self.link.may_crash("having applied to the store").map_err(|failure| gone(&failure.cause))
    }
}
