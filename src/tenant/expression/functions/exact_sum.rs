//! `sum` of integers and decimals, and `avg` of decimals, wider than their results: a total never wraps around.
//!
//! DataFusion adds integers and decimals in the result's own width and wraps around at its end, and its average of decimals makes the whole
//! batch fail where one group's does not fit. Here integers are added in 128 bits and decimals in 256; what does not fit the result's type
//! at the end is null, for its group alone. Whole numbers add up exactly in any order, so that resuming is exact too (DET-1).

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, DecimalType, Int64Type, UInt64Type, i256};
use datafusion_common::cast::as_int64_array;
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};

use super::running::passes;

/// Digits after the point that an average may have more than its values; more would not fit 256 bits.
const SCALE_GAIN_MAX: i8 = 16;

/// Parts of the stored state: how many values, and their total.
pub const PARTS: [&str; 2] = ["count", "total"];

/// What becomes of a group's total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    /// It is the result.
    Sum,
    /// It is divided by the count, cut towards zero.
    Average,
}

/// The type that totals are stored in; none where this is no sum of whole numbers.
pub fn total_type(input: &DataType) -> Option<DataType> {
    match input {
        DataType::Int64 | DataType::UInt64 => Some(DataType::Decimal128(38, 0)),
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(DataType::Decimal256(76, *scale)),
        _ => None,
    }
}

/// An accumulator for `input` that gives `result`; none where there is none.
pub fn accumulator(exact: Exact, input: &DataType, result: &DataType) -> Option<Box<dyn GroupsAccumulator>> {
    let total = total_type(input)?;
    Some(match input {
        DataType::Int64 | DataType::UInt64 => ExactSum::<Decimal128Type>::boxed(exact, total, result.clone(), whole_numbers),
        _ => ExactSum::<Decimal256Type>::boxed(exact, total, result.clone(), decimals),
    })
}

/// What one group has seen so far.
#[derive(Clone, Copy, Debug)]
struct Total<N> {
    count: i64,
    /// None when not even the wide type holds it.
    sum: Option<N>,
}

impl<N: ArrowNativeTypeOp> Default for Total<N> {
    fn default() -> Self {
        Self { count: 0, sum: Some(N::ZERO) }
    }
}

impl<N: ArrowNativeTypeOp> Total<N> {
    fn add(&mut self, count: i64, sum: Option<N>) {
        self.count = self.count.saturating_add(count);
        self.sum = self.sum.zip(sum).and_then(|(held, more)| held.add_checked(more).ok());
    }
}

/// Totals of many groups.
struct ExactSum<S: DecimalType> {
    groups: Vec<Total<S::Native>>,
    exact: Exact,
    total: DataType,
    result: DataType,
    widen: fn(&ArrayRef) -> Result<PrimitiveArray<S>>,
}

impl<S: DecimalType<Native: Wide>> ExactSum<S> {
    fn boxed(
        exact: Exact,
        total: DataType,
        result: DataType,
        widen: fn(&ArrayRef) -> Result<PrimitiveArray<S>>,
    ) -> Box<dyn GroupsAccumulator> {
        Box::new(Self { groups: Vec::new(), exact, total, result, widen })
    }

    fn state_columns(&self, totals: &[Total<S::Native>]) -> Vec<ArrayRef> {
        let counts = Int64Array::from_iter_values(totals.iter().map(|total| total.count));
        let sums = PrimitiveArray::<S>::from_iter(totals.iter().map(|total| total.sum)).with_data_type(self.total.clone());
        vec![Arc::new(counts), Arc::new(sums)]
    }

    /// A group's result as a whole number of the result's scale.
    fn finish(&self, total: &Total<S::Native>) -> Option<i256> {
        let sum = total.sum?.widest();
        match self.exact {
            Exact::Sum => Some(sum),
            Exact::Average => {
                let scale_of =
                    |of: &DataType| if let DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) = of { *scale } else { 0 };
                let gain = scale_of(&self.result).checked_sub(scale_of(&self.total)).filter(|gain| (0..=SCALE_GAIN_MAX).contains(gain))?;
                let finer = sum.checked_mul(i256::from_i128(10_i128.pow(u32::from(gain.unsigned_abs()))))?;
                finer.checked_div(i256::from_i128(i128::from(total.count)))
            }
        }
    }
}

impl<S: DecimalType<Native: Wide>> GroupsAccumulator for ExactSum<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let values = (self.widen)(&values[0])?;
        self.groups.resize(total_num_groups, Total::default());
        for (row, &group) in group_indices.iter().enumerate() {
            if values.is_valid(row) && passes(opt_filter, row) {
                self.groups[group].add(1, Some(values.value(row)));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        let (counts, sums) = (as_int64_array(&values[0])?, primitive::<S>(&values[1])?);
        self.groups.resize(total_num_groups, Total::default());
        for (row, &group) in group_indices.iter().enumerate() {
            if counts.is_valid(row) && counts.value(row) > 0 {
                self.groups[group].add(counts.value(row), sums.is_valid(row).then(|| sums.value(row)));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        let results: Vec<Option<i256>> = groups.iter().map(|total| if total.count == 0 { None } else { self.finish(total) }).collect();
        let array = narrowed(&results, &self.result)?;
        let seen = groups.iter().filter(|total| total.count > 0).count();
        let lost = seen - (array.len() - array.null_count());
        if lost > 0 {
            tracing::warn!(results = lost, r#type = %self.result, "sums or averages do not fit their type, null written; cast the argument to a wider one");
        }
        Ok(array)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(self.state_columns(&groups))
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = (self.widen)(&values[0])?;
        let totals = (0..values.len()).map(|row| {
            let mut total = Total::default();
            if values.is_valid(row) && passes(opt_filter, row) {
                total.add(1, Some(values.value(row)));
            }
            total
        });
        Ok(self.state_columns(&totals.collect::<Vec<_>>()))
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Total<S::Native>>()
    }
}

/// Numbers as the widest there are.
trait Wide: ArrowNativeTypeOp {
    fn widest(self) -> i256;
}

impl Wide for i128 {
    fn widest(self) -> i256 {
        i256::from_i128(self)
    }
}

impl Wide for i256 {
    fn widest(self) -> i256 {
        self
    }
}

fn whole_numbers(values: &ArrayRef) -> Result<PrimitiveArray<Decimal128Type>> {
    match values.data_type() {
        DataType::UInt64 => Ok(primitive::<UInt64Type>(values)?.unary(i128::from)),
        _ => Ok(primitive::<Int64Type>(values)?.unary(i128::from)),
    }
}

fn decimals(values: &ArrayRef) -> Result<PrimitiveArray<Decimal256Type>> {
    match values.data_type() {
        DataType::Decimal128(..) => Ok(primitive::<Decimal128Type>(values)?.unary(i256::from_i128)),
        _ => Ok(primitive::<Decimal256Type>(values)?.clone()),
    }
}

/// Results in their type; null where they do not fit it.
fn narrowed(results: &[Option<i256>], of: &DataType) -> Result<ArrayRef> {
    let as_decimal128 = |value: &Option<i256>, precision| {
        let value = value.and_then(i256::to_i128);
        value.filter(|value| Decimal128Type::is_valid_decimal_precision(*value, precision))
    };
    Ok(match of {
        DataType::Int64 => {
            Arc::new(results.iter().map(|value| i64::try_from((*value)?.to_i128()?).ok()).collect::<PrimitiveArray<Int64Type>>())
        }
        DataType::UInt64 => {
            Arc::new(results.iter().map(|value| u64::try_from((*value)?.to_i128()?).ok()).collect::<PrimitiveArray<UInt64Type>>())
        }
        DataType::Decimal128(precision, _) => {
            let values = results.iter().map(|value| as_decimal128(value, *precision));
            Arc::new(values.collect::<PrimitiveArray<Decimal128Type>>().with_data_type(of.clone()))
        }
        DataType::Decimal256(precision, _) => {
            let values = results.iter().map(|value| value.filter(|value| Decimal256Type::is_valid_decimal_precision(*value, *precision)));
            Arc::new(values.collect::<PrimitiveArray<Decimal256Type>>().with_data_type(of.clone()))
        }
        other => return Err(exec_datafusion_err!("a total cannot be of type {other}")),
    })
}

fn primitive<T: arrow::array::ArrowPrimitiveType>(values: &ArrayRef) -> Result<&PrimitiveArray<T>> {
    values.as_primitive_opt::<T>().ok_or_else(|| exec_datafusion_err!("expected {} values, got {}", T::DATA_TYPE, values.data_type()))
}
