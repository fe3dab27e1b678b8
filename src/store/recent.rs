//! States written of late, in memory in front of RocksDB: a window that is touched again is read from here, one that is touched for the
//! first time is known not to be there.
//!
//! It holds nothing that RocksDB does not: every change is written there first. Each partition of a window's store, a *lane*, has two tables.
//! Changes go into the young one; when it has its share of the memory it becomes the old one, and what was old is forgotten. A lane also
//! knows from which window start on it has forgotten nothing: of these windows, what is not here is nowhere.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use hashbrown::HashTable;

use super::keys::{self, WindowKey};

/// Lanes are spread over so many locks: workers own different partitions and seldom meet.
const SHARDS: usize = 16;
/// No table is given up before it has so many bytes: with many lanes each share would be too small to be of use.
const TABLE_BYTES_MIN: usize = 64 << 10;
/// What an entry takes in the index.
const INDEX_BYTES: usize = 12;

/// A lane's name: the store's number and the partition.
pub(super) type LaneId = (u32, i32);

/// Memory for recent states, shared by all stores of the process.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes_max: usize,
    used: Arc<AtomicUsize>,
    lanes: Arc<AtomicUsize>,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, used: Arc::default(), lanes: Arc::default() }
    }

    /// Bytes that one table of a lane may have.
    fn share(&self) -> usize {
        self.bytes_max / (2 * self.lanes.load(Ordering::Relaxed).max(1))
    }

    /// Lanes that were there before others may have more than their share.
    fn is_spent(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.bytes_max
    }
}

/// What is known of a state without RocksDB.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is there.
    State(Vec<u8>),
    /// It is not there.
    Absent,
    /// RocksDB has to be asked.
    Unknown,
}

/// Recent states of one store.
pub(super) struct Recent {
    shards: [Mutex<HashMap<LaneId, Lane>>; SHARDS],
    hasher: RandomState,
    budget: Budget,
}

impl Recent {
    pub(super) fn new(budget: Budget) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), budget }
    }

    fn shard(&self, (_, partition): LaneId) -> MutexGuard<'_, HashMap<LaneId, Lane>> {
        let shard = &self.shards[partition.unsigned_abs() as usize % SHARDS];
        // A lane is changed entry by entry, each of them true by itself.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is known of a lane yet.
    pub(super) fn is_new(&self, lane: LaneId) -> bool {
        !self.shard(lane).contains_key(&lane)
    }

    /// Begins to remember a lane. `latest_us` is the largest window start that RocksDB holds of it.
    pub(super) fn begin(&self, lane: LaneId, latest_us: Option<i64>) {
        let whole_from_us = match latest_us {
            None => Some(i64::MIN),
            Some(latest) => latest.checked_add(1),
        };
        self.shard(lane).entry(lane).or_insert_with(|| {
            self.budget.lanes.fetch_add(1, Ordering::Relaxed);
            Lane { young: Table::default(), old: Table::default(), whole_from_us }
        });
    }

    /// What is known of the states of windows, in the order of `keys`, each a store's key of a window.
    pub(super) fn look_up<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<Known> {
        let mut held: Option<(LaneId, MutexGuard<'_, HashMap<LaneId, Lane>>)> = None;
        keys.map(|key| {
            let Some(window) = keys::read_window_key(key) else { return Known::Unknown };
            let lane = lane_of(&window);
            if held.as_ref().is_none_or(|(of, _)| *of != lane) {
                // Given back before the next is taken: two threads that went on from one to the other would wait for each other.
                drop(held.take());
                held = Some((lane, self.shard(lane)));
            }
            held.as_ref().and_then(|(_, shard)| shard.get(&lane)).map_or(Known::Unknown, |lane| lane.look_up(&self.hasher, &window))
        })
        .collect()
    }

    /// Takes a change in that RocksDB has taken; `None` deletes. Lanes that were not begun are left alone.
    pub(super) fn note<'c>(&self, changes: impl Iterator<Item = (&'c [u8], Option<&'c [u8]>)>) {
        let mut held: Option<(LaneId, MutexGuard<'_, HashMap<LaneId, Lane>>)> = None;
        for (key, state) in changes {
            let Some(window) = keys::read_window_key(key) else { continue };
            let lane = lane_of(&window);
            if held.as_ref().is_none_or(|(of, _)| *of != lane) {
                drop(held.take());
                held = Some((lane, self.shard(lane)));
            }
            let Some(lane) = held.as_mut().and_then(|(_, shard)| shard.get_mut(&lane)) else { continue };
            lane.note(&self.hasher, &self.budget, &window, state);
        }
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        for lane in self.shards.iter_mut().flat_map(|shard| shard.get_mut().unwrap_or_else(PoisonError::into_inner).values()) {
            self.budget.used.fetch_sub(lane.young.counted + lane.old.counted, Ordering::Relaxed);
            self.budget.lanes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn lane_of(window: &WindowKey<'_>) -> LaneId {
    (window.store, window.partition)
}

struct Lane {
    young: Table,
    old: Table,
    /// Of windows that start from here on everything is remembered; `None` where of none is.
    whole_from_us: Option<i64>,
}

impl Lane {
    fn look_up(&self, hasher: &RandomState, window: &WindowKey<'_>) -> Known {
        let of = (window.start_us, window.key);
        let hash = hasher.hash_one(of);
        match self.young.get(hash, of).or_else(|| self.old.get(hash, of)) {
            Some(state) => Known::State(state.to_vec()),
            None if self.whole_from_us.is_some_and(|from| window.start_us >= from) => Known::Absent,
            None => Known::Unknown,
        }
    }

    fn note(&mut self, hasher: &RandomState, budget: &Budget, window: &WindowKey<'_>, state: Option<&[u8]>) {
        let of = (window.start_us, window.key);
        let hash = hasher.hash_one(of);
        let is_kept = state.is_some_and(|state| self.young.put(hasher, hash, of, state));
        if !is_kept {
            self.young.remove(hash, of);
            self.old.remove(hash, of);
        }
        if state.is_some() && !is_kept {
            // It is in the store and not here.
            self.whole_from_us = None;
        }
        self.young.tidy();
        self.young.count(budget);
        let enough = if budget.is_spent() { 0 } else { budget.share() };
        if self.young.counted >= enough.max(TABLE_BYTES_MIN) {
            self.turn(budget);
        }
    }

    /// The young table becomes the old one; what was old is forgotten.
    fn turn(&mut self, budget: &Budget) {
        let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        budget.used.fetch_sub(forgotten.counted, Ordering::Relaxed);
        if forgotten.counted > 0 {
            self.whole_from_us = self.whole_from_us.and_then(|from| Some(from.max(forgotten.latest_us.checked_add(1)?)));
        }
    }
}

/// Entries one behind the other, and an index of where they begin. An entry: length of the key and of the state, window start, key, state.
struct Table {
    index: HashTable<u32>,
    bytes: Vec<u8>,
    /// Bytes of entries that are not in the index any more.
    dead: usize,
    /// Largest window start of what was put.
    latest_us: i64,
    /// Bytes that the budget knows of.
    counted: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { index: HashTable::new(), bytes: Vec::new(), dead: 0, latest_us: i64::MIN, counted: 0 }
    }
}

impl Table {
    fn get(&self, hash: u64, of: (i64, &[u8])) -> Option<&[u8]> {
        self.index.find(hash, |at| name_at(&self.bytes, *at) == of).map(|at| &self.bytes[state_at(&self.bytes, *at)])
    }

    /// Whether it could be taken in.
    fn put(&mut self, hasher: &RandomState, hash: u64, of: (i64, &[u8]), state: &[u8]) -> bool {
        self.latest_us = self.latest_us.max(of.0);
        let known = self.index.find_mut(hash, |at| name_at(&self.bytes, *at) == of);
        if let Some(at) = &known {
            let place = state_at(&self.bytes, **at);
            if place.len() == state.len() {
                self.bytes[place].copy_from_slice(state);
                return true;
            }
        }
        let Some(begin) = append(&mut self.bytes, of, state) else { return false };
        match known {
            Some(at) => {
                let before = std::mem::replace(at, begin);
                self.dead += entry_at(&self.bytes, before).len();
            }
            None => {
                let bytes = &self.bytes;
                self.index.insert_unique(hash, begin, |at| hasher.hash_one(name_at(bytes, *at)));
            }
        }
        true
    }

    fn remove(&mut self, hash: u64, of: (i64, &[u8])) {
        if let Ok(entry) = self.index.find_entry(hash, |at| name_at(&self.bytes, *at) == of) {
            let (at, _) = entry.remove();
            self.dead += entry_at(&self.bytes, at).len();
        }
    }

    /// Gives the room of dead entries back once they are more than the living: windows come and go.
    fn tidy(&mut self) {
        if self.dead < TABLE_BYTES_MIN || self.dead < self.bytes.len() / 2 {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.dead);
        for at in self.index.iter_mut() {
            let begin = bytes.len() as u32;
            bytes.extend_from_slice(&self.bytes[entry_at(&self.bytes, *at)]);
            *at = begin;
        }
        (self.bytes, self.dead) = (bytes, 0);
    }

    /// Tells the budget how large the table is now.
    fn count(&mut self, budget: &Budget) {
        let now = self.bytes.len() + self.index.len() * INDEX_BYTES;
        match now.checked_sub(self.counted) {
            Some(more) => budget.used.fetch_add(more, Ordering::Relaxed),
            None => budget.used.fetch_sub(self.counted - now, Ordering::Relaxed),
        };
        self.counted = now;
    }
}

/// Bytes in front of an entry's key.
const HEAD: usize = 16;

/// Where the new entry begins; none where there is no place for it.
fn append(bytes: &mut Vec<u8>, (start_us, key): (i64, &[u8]), state: &[u8]) -> Option<u32> {
    let begin = u32::try_from(bytes.len()).ok()?;
    let (key_length, state_length) = (u32::try_from(key.len()).ok()?, u32::try_from(state.len()).ok()?);
    bytes.extend_from_slice(&key_length.to_le_bytes());
    bytes.extend_from_slice(&state_length.to_le_bytes());
    bytes.extend_from_slice(&start_us.to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(state);
    Some(begin)
}

fn length_at(bytes: &[u8], at: usize) -> usize {
    bytes[at..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize)
}

/// Window start and key of the entry at `at`.
fn name_at(bytes: &[u8], at: u32) -> (i64, &[u8]) {
    let at = at as usize;
    let start_us = bytes[at + 8..].first_chunk().map_or(0, |start| i64::from_le_bytes(*start));
    (start_us, &bytes[at + HEAD..at + HEAD + length_at(bytes, at)])
}

fn state_at(bytes: &[u8], at: u32) -> Range<usize> {
    let at = at as usize;
    let begin = at + HEAD + length_at(bytes, at);
    begin..begin + length_at(bytes, at + 4)
}

fn entry_at(bytes: &[u8], at: u32) -> Range<usize> {
    at as usize..state_at(bytes, at).end
}

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
