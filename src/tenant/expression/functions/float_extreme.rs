//! `min` and `max` of floats, with NaN above every number.
//!
//! That is PostgreSQL's order: the maximum of NaN and 1 is NaN, the minimum is 1, whichever comes first. DataFusion's grouped
//! accumulators take a NaN in either direction and drop it again at the next number, and never see −∞ as a maximum.

use std::cmp::Ordering;
use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};

use super::running::passes;

/// A total order of floats: −0 before 0, NaN last and equal to every other NaN.
pub trait Ranked: Copy {
    /// Compares by rank.
    fn rank(self, other: Self) -> Ordering;
}

impl Ranked for f64 {
    fn rank(self, other: Self) -> Ordering {
        match (self.is_nan(), other.is_nan()) {
            (false, false) => self.total_cmp(&other),
            (mine, others) => mine.cmp(&others),
        }
    }
}

impl Ranked for f32 {
    fn rank(self, other: Self) -> Ordering {
        match (self.is_nan(), other.is_nan()) {
            (false, false) => self.total_cmp(&other),
            (mine, others) => mine.cmp(&others),
        }
    }
}

/// The extreme of each group, none before its first value. The state is the result.
pub struct FloatExtreme<T: ArrowPrimitiveType> {
    groups: Vec<Option<T::Native>>,
    /// How a value must compare with the one held to replace it.
    wins: Ordering,
}

impl<T: ArrowPrimitiveType<Native: Ranked>> FloatExtreme<T> {
    /// The minimum.
    pub fn min() -> Box<dyn GroupsAccumulator> {
        Box::new(Self { groups: Vec::new(), wins: Ordering::Less })
    }

    /// The maximum.
    pub fn max() -> Box<dyn GroupsAccumulator> {
        Box::new(Self { groups: Vec::new(), wins: Ordering::Greater })
    }
}

impl<T: ArrowPrimitiveType<Native: Ranked>> GroupsAccumulator for FloatExtreme<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let values = floats::<T>(&values[0])?;
        self.groups.resize(total_num_groups, None);
        for (row, &group) in group_indices.iter().enumerate() {
            if values.is_null(row) || !passes(opt_filter, row) {
                continue;
            }
            let (value, held) = (values.value(row), &mut self.groups[group]);
            if held.is_none_or(|held| value.rank(held) == self.wins) {
                *held = Some(value);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(Arc::new(groups.into_iter().collect::<PrimitiveArray<T>>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = floats::<T>(&values[0])?;
        let kept = (0..values.len()).map(|row| (values.is_valid(row) && passes(opt_filter, row)).then(|| values.value(row)));
        Ok(vec![Arc::new(kept.collect::<PrimitiveArray<T>>())])
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Option<T::Native>>()
    }
}

fn floats<T: ArrowPrimitiveType>(values: &ArrayRef) -> Result<&PrimitiveArray<T>> {
    values.as_primitive_opt::<T>().ok_or_else(|| exec_datafusion_err!("expected {} values, got {}", T::DATA_TYPE, values.data_type()))
}
