//! The store on RocksDB: one database per tenant and process.
//!
//! Durability lies in Kafka; what RocksDB has to give is that an older, *consistent* state comes back after a crash. Its
//! write-ahead log without fsync does: a batch is there whole or not at all, and batches are lost from the end only. What else its
//! errors can mean stands in `damage.rs`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{BlockBasedOptions, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode, Options, ReadOptions, WriteBatch};

use super::damage::{disk, fault, unreported};
use super::identity::WindowIdentity;
use super::keys;
use super::lock::holder;
use super::memory::Memory;
use super::port::{Changes, Entry, ScanMax, StateChange, StateStore, StoreFault, WindowStoreId};
use super::progress::Progress;
use super::recent::{Budget, Known, LaneId, Recent};
use super::set_aside::set_aside;
use crate::clock::{Clock, SystemClock};
use crate::kafka::TopicPartition;

const FORMAT_KEY: &[u8] = b"format";
const FORMAT: &str = "testudo state 1";
const IDENTITY: &str = "identity/";
const PROGRESS: &str = "progress/";

/// Bytes that a write batch takes for an entry besides its key and value, at most.
const ENTRY_OVERHEAD: usize = 11;

/// A tenant's state folder, open.
pub struct Store {
    db: DB,
    path: PathBuf,
    recent: Recent,
    /// Numbers are handed out one at a time.
    numbering: std::sync::Mutex<()>,
}

impl Store {
    /// Opens the folder of `tenant` below `dir`, making it when it is not there.
    ///
    /// Proven damage moves the old files aside (EOS-10) and starts empty; the restore then replays the changelogs.
    pub fn open(dir: &Path, tenant: &str, memory: &Memory) -> Result<Self, StoreFault> {
        let path = dir.join(tenant);
        match Self::open_as_it_is(&path, tenant, memory) {
            Err(damage @ StoreFault::Damaged { .. }) => Self::open_after_damage(dir, tenant, memory, &damage),
            opened => opened,
        }
    }

    /// Opens the folder after `damage` was met in it: the old files are moved aside first.
    pub fn open_after_damage(dir: &Path, tenant: &str, memory: &Memory, damage: &StoreFault) -> Result<Self, StoreFault> {
        let path = dir.join(tenant);
        if let Some(aside) = set_aside(&path, "damaged", SystemClock::default().wall_ms())? {
            tracing::error!(
                tenant,
                aside = %aside.display(),
                %damage,
                remedy = "look at the disk; nothing is lost, delete the folder set aside when nobody wants to look at it",
                "damaged state set aside, restoring from the changelogs"
            );
        }
        Self::open_as_it_is(&path, tenant, memory)
    }

    fn open_as_it_is(path: &Path, tenant: &str, memory: &Memory) -> Result<Self, StoreFault> {
        std::fs::create_dir_all(path).map_err(|error| disk(path, "make the state folder", &error))?;
        if let Some(damage) = unreported(path)? {
            return Err(damage);
        }
        let db = DB::open(&options(memory), path).map_err(|error| fault(path, "open the state folder", &error))?;
        let store = Self::of(db, path, memory.recent.clone());
        store.check_format(tenant)?;
        Ok(store)
    }

    fn of(db: DB, path: &Path, recent: Budget) -> Self {
        Self { db, path: path.to_owned(), recent: Recent::new(recent), numbering: std::sync::Mutex::new(()) }
    }

    fn check_format(&self, tenant: &str) -> Result<(), StoreFault> {
        let ours = format!("{FORMAT}, tenant {tenant}");
        let foreign = |what: String| StoreFault::Foreign { path: self.path.display().to_string(), what };
        match self.get(FORMAT_KEY)? {
            Some(stored) if stored == ours.as_bytes() => Ok(()),
            Some(stored) => Err(foreign(format!("holds `{}`, not `{ours}`", String::from_utf8_lossy(&stored)))),
            // The format is the first thing written: what lacks it is empty, or not ours.
            None => match self.db.iterator(IteratorMode::Start).next() {
                None => self.db.put(FORMAT_KEY, &ours).map_err(|error| fault(&self.path, "mark the format", &error)),
                Some(Ok(_)) => Err(foreign("holds a database that is not Testudo's".into())),
                Some(Err(error)) => Err(fault(&self.path, "read the first entry", &error)),
            },
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.db.get(key).map_err(|error| fault(&self.path, "read", &error))
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreFault> {
        let Some(bytes) = self.get(key.as_bytes())? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.damaged(format!("{key}: {error}")))
    }

    fn damaged(&self, detail: String) -> StoreFault {
        StoreFault::Damaged { path: self.path.display().to_string(), detail }
    }

    /// Begins to remember the lanes of `keys`, which follow each other lane by lane mostly.
    fn remember_lanes<'k>(&self, keys: impl Iterator<Item = &'k Bytes>) -> Result<(), StoreFault> {
        let mut last: Option<LaneId> = None;
        for key in keys {
            let Some(window) = keys::read_window_key(key) else { continue };
            let lane = (window.store, window.partition);
            if last != Some(lane) && self.recent.is_new(lane) {
                self.recent.begin(lane, self.latest_start(lane)?);
            }
            last = Some(lane);
        }
        Ok(())
    }

    /// The largest window start that is stored of a lane.
    fn latest_start(&self, (store, partition): LaneId) -> Result<Option<i64>, StoreFault> {
        let behind = keys::window_key(store, partition.wrapping_add(1), i64::MIN, &[]);
        let last = self.db.iterator(IteratorMode::From(&behind, Direction::Reverse)).next();
        let last = last.transpose().map_err(|error| fault(&self.path, "look for the latest window", &error))?;
        let window = last.as_ref().and_then(|(key, _)| keys::read_window_key(key));
        Ok(window.filter(|window| window.store == store && window.partition == partition).map(|window| window.start_us))
    }

    fn identities(&self) -> Result<Vec<(u32, WindowIdentity)>, StoreFault> {
        let mut found = Vec::new();
        for item in self.db.iterator(IteratorMode::From(IDENTITY.as_bytes(), Direction::Forward)) {
            let (key, value) = item.map_err(|error| fault(&self.path, "read identities", &error))?;
            if !key.starts_with(IDENTITY.as_bytes()) {
                break;
            }
            found.push(serde_json::from_slice(&value).map_err(|error| self.damaged(format!("identity: {error}")))?);
        }
        Ok(found)
    }
}

impl StateStore for Store {
    fn window(&self, identity: &WindowIdentity) -> Result<WindowStoreId, StoreFault> {
        let _one_at_a_time = self.numbering.lock();
        let known = self.identities()?;
        for (number, stored) in &known {
            if stored.window == identity.window && stored.topic == identity.topic {
                return match identity.difference(stored) {
                    None => Ok(WindowStoreId(*number)),
                    Some(difference) => Err(StoreFault::Changed { window: identity.window.clone(), difference }),
                };
            }
        }
        let number = known.iter().map(|(number, _)| number + 1).max().unwrap_or(1);
        let key = format!("{IDENTITY}{}/{}", identity.window, identity.topic);
        let value = serde_json::to_vec(&(number, identity)).map_err(|error| self.damaged(error.to_string()))?;
        self.db.put(key, value).map_err(|error| fault(&self.path, "write an identity", &error))?;
        Ok(WindowStoreId(number))
    }

    fn progress(&self, partition: &TopicPartition) -> Result<Option<Progress>, StoreFault> {
        self.read_json(&progress_key(partition))
    }

    fn states(&self, keys: &[Bytes]) -> Result<Vec<Option<Vec<u8>>>, StoreFault> {
        self.remember_lanes(keys.iter())?;
        let known = self.recent.look_up(keys.iter().map(AsRef::as_ref));
        let unknown = keys.iter().zip(&known).filter(|(_, known)| **known == Known::Unknown).map(|(key, _)| key);
        let mut answers = self.db.multi_get(unknown).into_iter();
        let state = |known| match known {
            Known::State(state) => Ok(Some(state)),
            Known::Absent => Ok(None),
            Known::Unknown => answers.next().unwrap_or(Ok(None)).map_err(|error| fault(&self.path, "read window states", &error)),
        };
        known.into_iter().map(state).collect()
    }

    fn started_within(
        &self,
        store: WindowStoreId,
        partition: i32,
        from_us: i64,
        until_us: i64,
        most: ScanMax,
    ) -> Result<Vec<Entry>, StoreFault> {
        let mut range = ReadOptions::default();
        range.set_total_order_seek(true);
        if let Some(past) = until_us.checked_add(1) {
            range.set_iterate_upper_bound(keys::window_key(store.0, partition, past, &[]));
        }
        let first = keys::window_key(store.0, partition, from_us, &[]);
        let found = self.db.iterator_opt(IteratorMode::From(&first, Direction::Forward), range).map_while(|item| match item {
            Ok((key, value)) => {
                let window = keys::read_window_key(&key)?;
                let is_of_it = window.store == store.0 && window.partition == partition;
                let entry = || Entry { start_us: window.start_us, key: window.key.to_vec(), state: value.into_vec() };
                is_of_it.then(entry).map(Ok)
            }
            Err(error) => Some(Err(fault(&self.path, "scan windows", &error))),
        });
        most.take(found)
    }

    fn apply(&self, changes: Changes) -> Result<(), StoreFault> {
        let bytes = |(key, state): &StateChange| key.len() + state.as_ref().map_or(0, Bytes::len) + ENTRY_OVERHEAD;
        let mut batch = WriteBatch::with_capacity_bytes(changes.states.iter().map(bytes).sum());
        let mut states: Vec<&StateChange> = changes.states.iter().collect();
        // In the order of keys RocksDB finds the place of one from the last one's. Of one key the last change stays the last.
        states.sort_by(|one, other| one.0.cmp(&other.0));
        self.remember_lanes(states.iter().map(|(key, _)| key))?;
        for (key, state) in &states {
            match state {
                Some(state) => batch.put(key, state),
                None => batch.delete(key),
            }
        }
        for (partition, progress) in &changes.progress {
            let value = serde_json::to_vec(progress).map_err(|error| self.damaged(error.to_string()))?;
            batch.put(progress_key(partition), value);
        }
        self.db.write(batch).map_err(|error| fault(&self.path, "apply an epoch", &error))?;
        self.recent.note(states.into_iter().map(|(key, state)| (key.as_ref(), state.as_deref())));
        Ok(())
    }
}

fn progress_key(partition: &TopicPartition) -> String {
    format!("{PROGRESS}{}/{:010}", partition.topic, partition.partition)
}

fn options(memory: &Memory) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&memory.blocks);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_size(16 << 10);
    let mut options = Options::default();
    options.create_if_missing(true);
    // A torn tail is what a crash leaves; anything else that is wrong is damage (see `super::damage`).
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_manager(&memory.writes);
    options.set_write_buffer_size(16 << 20);
    options.set_max_write_buffer_number(3);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_open_files(256);
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(64 << 20);
    options.set_keep_log_file_num(3);
    options.set_max_log_file_size(4 << 20);
    options
}

/// A window found in a state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWindow {
    /// The window's name.
    pub window: String,
    /// Input topic.
    pub topic: String,
    /// Input partition.
    pub partition: i32,
    /// Window start in microseconds since 1970.
    pub start_us: i64,
    /// The window's key.
    pub key: Vec<keys::KeyPart>,
}

/// What a state folder holds: its windows, and each partition's progress.
#[derive(Debug, Default)]
pub struct Contents {
    /// All windows.
    pub windows: Vec<StoredWindow>,
    /// Progress by partition.
    pub progress: Vec<(TopicPartition, Progress)>,
}

/// Reads a tenant's state folder without taking it: for audits, beside a running process too.
pub fn inspect(dir: &Path, tenant: &str) -> Result<Contents, StoreFault> {
    let path = dir.join(tenant);
    // Files that are being written may look torn.
    if holder(&path).unwrap_or(None).is_none()
        && path.exists()
        && let Some(damage) = unreported(&path)?
    {
        return Err(damage);
    }
    let db = DB::open_for_read_only(&Options::default(), &path, false).map_err(|error| fault(&path, "open the state folder", &error))?;
    let store = Store::of(db, &path, Budget::new(0));
    let identities = store.identities()?;
    let mut contents = Contents::default();
    for item in store.db.iterator(IteratorMode::Start) {
        let (key, value) = item.map_err(|error| fault(&store.path, "scan the state folder", &error))?;
        if let Some(rest) = key.strip_prefix(PROGRESS.as_bytes()) {
            let name = String::from_utf8_lossy(rest);
            let named = name.rsplit_once('/').and_then(|(topic, partition)| Some(TopicPartition::new(topic, partition.parse().ok()?)));
            let partition = named.ok_or_else(|| store.damaged(format!("progress of `{name}`")))?;
            let progress = serde_json::from_slice(&value).map_err(|error| store.damaged(format!("progress of {partition}: {error}")))?;
            contents.progress.push((partition, progress));
        } else if let Some(window) = keys::read_window_key(&key) {
            let known = identities.iter().find(|(number, _)| *number == window.store);
            let (_, identity) = known.ok_or_else(|| store.damaged(format!("windows of the unknown store {}", window.store)))?;
            contents.windows.push(StoredWindow {
                window: identity.window.clone(),
                topic: identity.topic.clone(),
                partition: window.partition,
                start_us: window.start_us,
                key: keys::parts(window.key).ok_or_else(|| store.damaged("a key that is not one".into()))?,
            });
        }
    }
    Ok(contents)
}

#[cfg(test)]
#[path = "rocks_tests.rs"]
mod tests;
