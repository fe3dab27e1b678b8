//! One face for every aggregate that tenants may use: its accumulator resumes exactly from its state (DET-1).
//!
//! Three things stand between DataFusion's groups accumulators and that. Some are not exact: those have a substitute here. Their null
//! tracking takes every group number below the total for one that has seen a value, unless told otherwise before the first batch: a group
//! that stays without values would end as 0, or as the smallest integer, instead of null. And their states hold types that Avro lacks
//! (unsigned counts, string views): these are stored as their plain counterparts.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_empty_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion_common::{Result, ScalarValue, not_impl_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature};

use super::exact_sum::{self, Exact};
use super::float_extreme::FloatExtreme;
use super::float_sum::FloatSum;
use super::running::{Fold, RunningAccumulator};
use super::variance::Variance;
use crate::tenant::expression::types::plain_type;

/// An aggregate function of DataFusion's, made resumable.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Resumable {
    inner: Arc<AggregateUDF>,
}

/// An accumulator of ours, with names and types of its state's fields.
struct Substitute {
    accumulator: Box<dyn GroupsAccumulator>,
    state: Vec<(&'static str, DataType)>,
}

impl Resumable {
    /// Puts the face on.
    pub fn wrap(inner: &Arc<AggregateUDF>) -> Arc<AggregateUDF> {
        Arc::new(AggregateUDF::new_from_impl(Self { inner: inner.clone() }))
    }

    /// What stands in for DataFusion's accumulator on this input.
    fn substitute(&self, input: &DataType, result: &DataType) -> Option<Substitute> {
        let running = |accumulator, parts: [&'static str; 2]| Substitute {
            accumulator,
            state: vec![("count", DataType::Int64), (parts[0], DataType::Float64), (parts[1], DataType::Float64)],
        };
        let extreme = |accumulator, name| Substitute { accumulator, state: vec![(name, input.clone())] };
        let exact = |exact| {
            let total = exact_sum::total_type(input)?;
            let state = vec![(exact_sum::PARTS[0], DataType::Int64), (exact_sum::PARTS[1], total)];
            Some(Substitute { accumulator: exact_sum::accumulator(exact, input, result)?, state })
        };
        Some(match (self.inner.name(), input) {
            ("sum", DataType::Int64 | DataType::UInt64 | DataType::Decimal128(..) | DataType::Decimal256(..)) => exact(Exact::Sum)?,
            ("avg", DataType::Decimal128(..) | DataType::Decimal256(..)) => exact(Exact::Average)?,
            ("sum", DataType::Float64) => running(RunningAccumulator::boxed(FloatSum::sum), FloatSum::PARTS),
            ("avg", DataType::Float64) => running(RunningAccumulator::boxed(FloatSum::average), FloatSum::PARTS),
            ("var", _) => running(RunningAccumulator::boxed(Variance::sample), Variance::PARTS),
            ("var_pop", _) => running(RunningAccumulator::boxed(Variance::population), Variance::PARTS),
            ("stddev", _) => running(RunningAccumulator::boxed(Variance::sample_deviation), Variance::PARTS),
            ("stddev_pop", _) => running(RunningAccumulator::boxed(Variance::population_deviation), Variance::PARTS),
            ("min", DataType::Float32) => extreme(FloatExtreme::<Float32Type>::min(), "min"),
            ("max", DataType::Float32) => extreme(FloatExtreme::<Float32Type>::max(), "max"),
            ("min", DataType::Float64) => extreme(FloatExtreme::<Float64Type>::min(), "min"),
            ("max", DataType::Float64) => extreme(FloatExtreme::<Float64Type>::max(), "max"),
            _ => return None,
        })
    }

    fn native_state_types(&self, args: &AccumulatorArgs<'_>) -> Result<Vec<DataType>> {
        let ordering_fields: Vec<FieldRef> =
            args.order_bys.iter().map(|order| order.expr.return_field(args.schema)).collect::<Result<_>>()?;
        let fields = self.inner.state_fields(StateFieldsArgs {
            name: args.name,
            input_fields: args.expr_fields,
            return_field: args.return_field.clone(),
            ordering_fields: &ordering_fields,
            is_distinct: args.is_distinct,
        })?;
        Ok(fields.iter().map(|field| field.data_type().clone()).collect())
    }
}

impl AggregateUDFImpl for Resumable {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn accumulator(&self, _acc_args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("`{}` accumulates by groups only", self.name())
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let input = args.input_fields.first().map_or(&DataType::Null, |field| field.data_type());
        if let Some(Substitute { state, .. }) = self.substitute(input, args.return_field.data_type()) {
            let name = args.name;
            return Ok(state.into_iter().map(|(part, of)| Arc::new(Field::new(format_state_name(name, part), of, true))).collect());
        }
        let fields = self.inner.state_fields(args)?;
        let plain = |field: &FieldRef| field.as_ref().clone().with_data_type(plain_type(field.data_type())).with_nullable(true);
        Ok(fields.iter().map(|field| Arc::new(plain(field))).collect())
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        let input = args.expr_fields.first().map_or(&DataType::Null, |field| field.data_type());
        !args.is_distinct
            && (self.substitute(input, args.return_field.data_type()).is_some() || self.inner.groups_accumulator_supported(args))
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let input = args.expr_fields.first().map_or(&DataType::Null, |field| field.data_type());
        if let Some(Substitute { accumulator, .. }) = self.substitute(input, args.return_field.data_type()) {
            return Ok(accumulator);
        }
        let native = self.native_state_types(&args)?;
        let mut nothing: Vec<ArrayRef> = args.expr_fields.iter().map(|field| new_empty_array(field.data_type())).collect();
        if !self.order_sensitivity().is_insensitive() {
            for order in args.order_bys {
                nothing.push(new_empty_array(&order.expr.data_type(args.schema)?));
            }
        }
        let mut inner = self.inner.create_groups_accumulator(args)?;
        // A filtered batch, even of no rows, makes the null tracking note each group's first value from here on.
        inner.update_batch(&nothing, &[], Some(&BooleanArray::from(Vec::<bool>::new())), 0)?;
        Ok(Box::new(PlainState { inner, native, groups: 0 }))
    }
}

/// An accumulator whose state is given and taken in plain types.
struct PlainState {
    inner: Box<dyn GroupsAccumulator>,
    native: Vec<DataType>,
    groups: usize,
}

impl PlainState {
    fn emitted(&mut self, emit_to: EmitTo) {
        self.groups = match emit_to {
            EmitTo::All => 0,
            EmitTo::First(groups) => self.groups.saturating_sub(groups),
        };
    }
}

impl GroupsAccumulator for PlainState {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        self.inner.update_batch(values, group_indices, opt_filter, total_num_groups)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        let native: Vec<ArrayRef> =
            values.iter().zip(&self.native).map(|(column, native)| Ok(cast(column, native)?)).collect::<Result<_>>()?;
        self.groups = total_num_groups;
        self.inner.merge_batch(&native, group_indices, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.emitted(emit_to);
        self.inner.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        // DataFusion's first_value and last_value cannot give the state of no groups.
        if self.groups == 0 {
            return Ok(self.native.iter().map(|native| new_empty_array(&plain_type(native))).collect());
        }
        self.emitted(emit_to);
        plain(self.inner.state(emit_to)?)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        plain(self.inner.convert_to_state(values, opt_filter)?)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

fn plain(columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    columns.iter().map(|column| Ok(cast(column, &plain_type(column.data_type()))?)).collect()
}
