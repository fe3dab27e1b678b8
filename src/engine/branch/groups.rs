//! The groups of one window in one epoch: an index from (partition, window start, key) to a dense number, and DataFusion's
//! accumulators over these numbers.
//!
//! A group that the store holds is loaded when the epoch first touches it, before its first value is folded in: so values
//! are folded in offset order, however the input was cut into epochs (DET-1).

use std::ops::Range;

use ahash::RandomState;
use arrow::array::{ArrayRef, BooleanArray};
use datafusion_common::DataFusionError;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use hashbrown::HashTable;

use super::kept::values_bytes;
use crate::tenant::Window;

/// What a group stands for.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The worker's number of the input partition.
    pub partition: usize,
    /// Window start in microseconds since 1970.
    pub start_us: i64,
    /// Largest Kafka timestamp of the records in it, milliseconds since 1970.
    pub latest_ms: i64,
    /// Whether the store held it before this epoch.
    pub was_stored: bool,
    key_from: usize,
    key_until: usize,
}

/// What a touched group comes to when it is sealed: its result, its changelog record and its state with their keys, as measured with
/// states of some [`STATE_BYTES`].
const GROUP_BYTES: usize = 640;
/// What is longer counts as often as it is held: in an accumulator, in the result, and in what changelog and store share.
const STATE_BYTES: usize = 128;
const HELD_TIMES: usize = 3;
/// The state of one `approx_distinct`.
const SKETCH_BYTES: usize = 16 << 10;

/// The groups that an epoch has touched.
pub struct Groups {
    bytes: usize,
    group_bytes: usize,
    index: HashTable<u32>,
    hasher: RandomState,
    groups: Vec<Group>,
    keys: Vec<u8>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
}

/// New accumulators for a window's aggregates, in their order.
pub fn accumulators(window: &Window) -> Result<Vec<Box<dyn GroupsAccumulator>>, DataFusionError> {
    window.aggregates.iter().map(|aggregate| aggregate.function.create_groups_accumulator()).collect()
}

impl Groups {
    /// No groups yet.
    pub fn new(window: &Window) -> Result<Self, DataFusionError> {
        // Fixed seeds: the order of groups, and so of outputs, must not depend on the process.
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let sketches = window.aggregates.iter().filter(|aggregate| aggregate.function.fun().name() == "approx_distinct").count();
        Ok(Self {
            bytes: 0,
            group_bytes: GROUP_BYTES + HELD_TIMES * SKETCH_BYTES * sketches,
            index: HashTable::new(),
            hasher,
            groups: Vec::new(),
            keys: Vec::new(),
            accumulators: accumulators(window)?,
        })
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// About as many bytes as the groups take, sealed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The groups of these numbers, which are in the order they were first touched in, with their keys.
    pub fn of(&self, numbers: Range<usize>) -> impl ExactSizeIterator<Item = (&Group, &[u8])> + Clone {
        self.groups[numbers].iter().map(|group| (group, &self.keys[group.key_from..group.key_until]))
    }

    /// Whether the epoch has touched a group.
    pub fn contains(&self, partition: usize, start_us: i64, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one((partition, start_us, key));
        self.index.find(hash, |number| self.is(*number, partition, start_us, key)).is_some()
    }

    fn is(&self, number: u32, partition: usize, start_us: i64, key: &[u8]) -> bool {
        let group = &self.groups[number as usize];
        group.start_us == start_us && group.partition == partition && &self.keys[group.key_from..group.key_until] == key
    }

    /// The number of a group, new or known.
    pub fn find_or_add(&mut self, partition: usize, start_us: i64, key: &[u8], timestamp_ms: i64) -> usize {
        let hash = self.hasher.hash_one((partition, start_us, key));
        if let Some(number) = self.index.find(hash, |number| self.is(*number, partition, start_us, key)) {
            let number = *number as usize;
            let group = &mut self.groups[number];
            group.latest_ms = group.latest_ms.max(timestamp_ms);
            return number;
        }
        let number = self.groups.len();
        self.bytes += self.group_bytes + HELD_TIMES * key.len().saturating_sub(STATE_BYTES);
        let key_from = self.keys.len();
        self.keys.extend_from_slice(key);
        let key_until = self.keys.len();
        self.groups.push(Group { partition, start_us, latest_ms: timestamp_ms, was_stored: false, key_from, key_until });
        let (groups, keys, hasher) = (&self.groups, &self.keys, &self.hasher);
        self.index.insert_unique(hash, number as u32, |known| {
            let group = &groups[*known as usize];
            hasher.hash_one((group.partition, group.start_us, &keys[group.key_from..group.key_until]))
        });
        number
    }

    /// Takes the stored states of groups in: `columns` are the state columns of all aggregates, a row for each of `numbers`, and took so
    /// many `bytes`.
    pub fn load(
        &mut self,
        window: &Window,
        columns: &[ArrayRef],
        numbers: &[usize],
        latest_ms: &[i64],
        bytes: usize,
    ) -> Result<(), DataFusionError> {
        let total = self.groups.len();
        self.bytes += HELD_TIMES * bytes.saturating_sub(STATE_BYTES * numbers.len());
        for (aggregate, accumulator) in window.aggregates.iter().zip(&mut self.accumulators) {
            accumulator.merge_batch(&columns[aggregate.state.clone()], numbers, total)?;
        }
        for (number, latest) in numbers.iter().zip(latest_ms) {
            let group = &mut self.groups[*number];
            group.was_stored = true;
            group.latest_ms = group.latest_ms.max(*latest);
        }
        Ok(())
    }

    /// Folds values in: for each aggregate its arguments and an optional filter, a row for each of `numbers`.
    pub fn fold(
        &mut self,
        window: &Window,
        arguments: &[(Vec<ArrayRef>, Option<BooleanArray>)],
        numbers: &[usize],
    ) -> Result<(), DataFusionError> {
        let total = self.groups.len();
        for (aggregate, (values, _)) in window.aggregates.iter().zip(arguments) {
            let kept: usize = aggregate.kept.iter().map(|at| values_bytes(&values[*at])).sum();
            self.bytes += HELD_TIMES * kept.saturating_sub(STATE_BYTES * numbers.len());
        }
        for (accumulator, (values, only)) in self.accumulators.iter_mut().zip(arguments) {
            accumulator.update_batch(values, numbers, only.as_ref(), total)?;
        }
        Ok(())
    }

    /// The state columns of all aggregates, a row for each group. Takes them out: the groups are used up.
    pub fn take_states(&mut self) -> Result<Vec<ArrayRef>, DataFusionError> {
        let mut columns = Vec::new();
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(columns)
    }
}

/// What the aggregates say about states: one column per aggregate, a row for each state.
pub fn evaluate_states(window: &Window, columns: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>, DataFusionError> {
    let numbers: Vec<usize> = (0..rows).collect();
    let mut fresh = accumulators(window)?;
    window
        .aggregates
        .iter()
        .zip(&mut fresh)
        .map(|(aggregate, accumulator)| {
            accumulator.merge_batch(&columns[aggregate.state.clone()], &numbers, rows)?;
            accumulator.evaluate(EmitTo::All)
        })
        .collect()
}
