//! What an epoch makes of a window, as data: results, and last values for changelogs and store.

use std::sync::Arc;

use bytes::Bytes;

use crate::kafka::{Headers, Outgoing, TopicPartition};
use crate::store::{StateChange, keys};
use crate::tenant::Emit;

/// What an epoch makes of a window.
#[derive(Debug, Default)]
pub struct SealedWindows {
    /// What is to be produced, by the input partition that it is of.
    pub partitions: Vec<SealedPartition>,
    /// The changelogs' last values and tombstones, for the store.
    pub states: Vec<StateChange>,
}

/// What is to be produced because of one input partition.
#[derive(Debug)]
pub struct SealedPartition {
    /// The input partition.
    pub partition: TopicPartition,
    /// Results for the output topic.
    pub results: Vec<Outgoing>,
    /// Last values and tombstones for the partition's changelog.
    pub changelog: Vec<Outgoing>,
}

impl SealedPartition {
    /// Nothing yet.
    pub(super) fn new(partition: TopicPartition) -> Self {
        Self { partition, results: Vec::new(), changelog: Vec::new() }
    }
}

impl SealedWindows {
    /// Makes room for a last value of each group, which is given by the place of its partition, and for a result where each has one.
    pub(super) fn make_room(&mut self, emit: Emit, groups: impl ExactSizeIterator<Item = usize>) {
        self.states.reserve(groups.len());
        let mut counts = vec![0; self.partitions.len()];
        groups.for_each(|place| counts[place] += 1);
        for (of, count) in self.partitions.iter_mut().zip(counts) {
            of.changelog.reserve(count);
            if emit == Emit::Updates {
                of.results.reserve(count);
            }
        }
    }

    /// Takes in what becomes of a window of the partition at `place`: its last value, or that it is gone.
    pub(super) fn put(&mut self, place: usize, changelog: &Arc<str>, keys: BothKeys, latest_ms: i64, state: Option<Bytes>) {
        let of = &mut self.partitions[place];
        of.changelog.push(Outgoing {
            topic: changelog.clone(),
            partition: of.partition.partition,
            key: Some(keys.changelog),
            value: state.clone(),
            timestamp_ms: Outgoing::stamp(latest_ms),
            headers: Headers::default(),
        });
        self.states.push((keys.store, state));
    }
}

/// The keys under which store and changelog know a window.
pub(super) struct BothKeys {
    store: Bytes,
    changelog: Bytes,
}

/// Keys of many windows, in one buffer.
#[derive(Default)]
pub(super) struct KeyBuffer {
    bytes: Vec<u8>,
    /// Where each window's store key and changelog key end.
    ends: Vec<(usize, usize)>,
}

impl KeyBuffer {
    /// Appends the keys of one window.
    pub(super) fn push(&mut self, store: u32, partition: i32, start_us: i64, key: &[u8]) {
        keys::append_window_key(&mut self.bytes, store, partition, start_us, key);
        let store_end = self.bytes.len();
        keys::append_changelog_key(&mut self.bytes, start_us, key);
        self.ends.push((store_end, self.bytes.len()));
    }

    /// The keys of all windows, in the order they were appended.
    pub(super) fn finish(self) -> impl Iterator<Item = BothKeys> {
        let bytes = Bytes::from(self.bytes);
        let mut from = 0;
        self.ends.into_iter().map(move |(store_end, end)| {
            let keys = BothKeys { store: bytes.slice(from..store_end), changelog: bytes.slice(store_end..end) };
            from = end;
            keys
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_one_buffer_are_those_made_one_by_one() {
        let windows: [(i64, &[u8]); 3] = [(0, b"\x01a\0"), (-60_000_000, b""), (60_000_000, b"\x01longer\0")];
        let mut buffer = KeyBuffer::default();
        windows.iter().for_each(|(start_us, key)| buffer.push(7, 3, *start_us, key));

        let made: Vec<(Bytes, Bytes)> = buffer.finish().map(|keys| (keys.store, keys.changelog)).collect();

        let expected =
            windows.map(|(start_us, key)| (keys::window_key(7, 3, start_us, key).into(), keys::changelog_key(start_us, key).into()));
        assert_eq!(made, expected);
    }
}
