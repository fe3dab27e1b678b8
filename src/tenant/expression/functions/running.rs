//! A groups accumulator for aggregates that fold doubles one by one into a count and two doubles.
//!
//! Loading a state into a group that holds nothing copies it, so that a fold interrupted anywhere ends with the bits of one that was not
//! (DET-1). DataFusion's own accumulators merge even then by arithmetic, which rounds.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array};
use datafusion_common::Result;
use datafusion_common::cast::{as_float64_array, as_int64_array};
use datafusion_expr::{EmitTo, GroupsAccumulator};

/// What one group has seen so far.
pub trait Fold: Copy + Default + Send + 'static {
    /// Names of the two doubles in the stored state.
    const PARTS: [&'static str; 2];

    /// Takes one more value in.
    fn add(&mut self, value: f64);

    /// Takes in what another fold has seen; not exact, only for folds that both hold values.
    fn absorb(&mut self, other: Self);

    /// The count and the two doubles.
    fn state(&self) -> (i64, [f64; 2]);

    /// The fold whose state this is.
    fn from_state(count: i64, parts: [f64; 2]) -> Self;
}

/// Folds of many groups; `finish` turns one into its result, none for null.
pub struct RunningAccumulator<F> {
    groups: Vec<F>,
    finish: fn(&F) -> Option<f64>,
}

impl<F: Fold> RunningAccumulator<F> {
    /// No groups yet.
    pub fn boxed(finish: fn(&F) -> Option<f64>) -> Box<dyn GroupsAccumulator> {
        Box::new(Self { groups: Vec::new(), finish })
    }
}

impl<F: Fold> GroupsAccumulator for RunningAccumulator<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let values = as_float64_array(&values[0])?;
        self.groups.resize(total_num_groups, F::default());
        if values.null_count() == 0 && opt_filter.is_none() {
            for (&group, &value) in group_indices.iter().zip(values.values()) {
                self.groups[group].add(value);
            }
            return Ok(());
        }
        for (row, &group) in group_indices.iter().enumerate() {
            if values.is_valid(row) && passes(opt_filter, row) {
                self.groups[group].add(values.value(row));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        let (counts, first, second) = (as_int64_array(&values[0])?, as_float64_array(&values[1])?, as_float64_array(&values[2])?);
        self.groups.resize(total_num_groups, F::default());
        for (row, &group) in group_indices.iter().enumerate() {
            if counts.is_null(row) || counts.value(row) == 0 {
                continue;
            }
            let stored = F::from_state(counts.value(row), [first.value(row), second.value(row)]);
            let group = &mut self.groups[group];
            match group.state().0 {
                0 => *group = stored,
                _ => group.absorb(stored),
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(Arc::new(groups.iter().map(self.finish).collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(state_columns(emit_to.take_needed(&mut self.groups)))
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = as_float64_array(&values[0])?;
        let folds = (0..values.len()).map(|row| {
            let mut fold = F::default();
            if values.is_valid(row) && passes(opt_filter, row) {
                fold.add(values.value(row));
            }
            fold
        });
        Ok(state_columns(folds.collect()))
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<F>()
    }
}

/// Whether a `FILTER` lets a row through: null does not.
pub fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

fn state_columns<F: Fold>(folds: Vec<F>) -> Vec<ArrayRef> {
    let counts: Int64Array = folds.iter().map(|fold| Some(fold.state().0)).collect();
    let part = |at: usize| -> ArrayRef { Arc::new(folds.iter().map(|fold| Some(fold.state().1[at])).collect::<Float64Array>()) };
    vec![Arc::new(counts), part(0), part(1)]
}
