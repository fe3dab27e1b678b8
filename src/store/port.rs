//! What the engine asks of a store, as one small trait: RocksDB stands behind it, an ordered map in simulations.

use bytes::Bytes;

use super::identity::WindowIdentity;
use super::progress::Progress;
use crate::kafka::TopicPartition;

/// The number under which a store keeps the windows of one (window, input topic).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowStoreId(pub u32);

/// One stored window: its start, key and state bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Window start in microseconds since 1970.
    pub start_us: i64,
    /// The window's key.
    pub key: Vec<u8>,
    /// The state's bytes.
    pub state: Vec<u8>,
}

impl Entry {
    /// Bytes of key and state.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.state.len()
    }
}

/// How much of a store is read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanMax {
    /// Entries.
    pub entries: usize,
    /// Bytes of keys and states; the entry that reaches it is the last one.
    pub bytes: usize,
}

impl ScanMax {
    /// Takes entries while there is room.
    pub fn take<E>(self, entries: impl Iterator<Item = Result<Entry, E>>) -> Result<Vec<Entry>, E> {
        let mut bytes = 0;
        let mut taken = Vec::new();
        for entry in entries.take(self.entries) {
            let entry = entry?;
            bytes += entry.bytes();
            taken.push(entry);
            if bytes >= self.bytes {
                break;
            }
        }
        Ok(taken)
    }

    /// What was read when it brought `entries`.
    pub fn used_by(entries: &[Entry]) -> Self {
        Self { entries: entries.len(), bytes: entries.iter().map(Entry::bytes).sum() }
    }

    /// What is left of it.
    pub fn without(self, used: Self) -> Self {
        Self { entries: self.entries.saturating_sub(used.entries), bytes: self.bytes.saturating_sub(used.bytes) }
    }

    /// Whether nothing more may be taken.
    pub fn is_used_up(self) -> bool {
        self.entries == 0 || self.bytes == 0
    }

    /// A fair part of it, for one of so many that still want some.
    pub fn share(self, among: usize) -> Self {
        Self { entries: self.entries.div_ceil(among.max(1)), bytes: self.bytes.div_ceil(among.max(1)) }
    }
}

/// A tenant's window state. Shared by its workers; each partition is written by the worker that owns it alone.
pub trait StateStore: Send + Sync + 'static {
    /// The number of a window's store; known ones must have the same identity.
    fn window(&self, identity: &WindowIdentity) -> Result<WindowStoreId, StoreFault>;

    /// How far a partition has come.
    fn progress(&self, partition: &TopicPartition) -> Result<Option<Progress>, StoreFault>;

    /// States by the keys of [`super::keys::window_key`], in the order asked.
    fn states(&self, keys: &[Bytes]) -> Result<Vec<Option<Vec<u8>>>, StoreFault>;

    /// Windows of a partition whose start lies in `from ..= until`, by start and key, at most `most`.
    fn started_within(
        &self,
        store: WindowStoreId,
        partition: i32,
        from_us: i64,
        until_us: i64,
        most: ScanMax,
    ) -> Result<Vec<Entry>, StoreFault>;

    /// Applies changes and progress at once, or not at all (EOS-3).
    fn apply(&self, changes: Changes) -> Result<(), StoreFault>;
}

/// A state by its key, as [`super::keys::window_key`] makes it; `None` deletes.
pub type StateChange = (Bytes, Option<Bytes>);

/// What an epoch, or a step of a restore, changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Window states.
    pub states: Vec<StateChange>,
    /// New progress of partitions.
    pub progress: Vec<(TopicPartition, Progress)>,
}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// Another process has the folder open.
    #[error("state folder {path} is in use by another process ({detail}); stop it, or give this instance another `store.dir`")]
    Locked {
        /// The folder.
        path: String,
        /// RocksDB's words.
        detail: String,
    },
    /// The folder belongs to something else.
    #[error(
        "state folder {path} {what}; give this tenant another `store.dir`, or move the folder away: an empty one is restored from the changelogs"
    )]
    Foreign {
        /// The folder.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The declaration of a window changed so that its old state has another meaning.
    #[error("window `{window}` was changed: {difference}; its stored state cannot be continued; {}", super::identity::CHANGED_REMEDY)]
    Changed {
        /// The window.
        window: String,
        /// What differs.
        difference: String,
    },
    /// The files are damaged.
    #[error("state in {path} is damaged: {detail}")]
    Damaged {
        /// The folder.
        path: String,
        /// RocksDB's words.
        detail: String,
    },
    /// The disk refuses: full, not writable, failing.
    #[error("failed to {attempted} in {path}: {detail}")]
    Disk {
        /// What was attempted.
        attempted: String,
        /// The folder.
        path: String,
        /// The system's words.
        detail: String,
    },
}
