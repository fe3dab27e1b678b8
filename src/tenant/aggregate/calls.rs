//! The aggregate calls of a window: each compiled once, however often it is written.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::{DFSchemaRef, DataFusionError};
use datafusion_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment};
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion_sql::sqlparser::ast;

use super::select::Warnings;
use crate::avro::encode::StateCodec;
use crate::tenant::expression::compiler::{must_be_boolean, planning_schema};
use crate::tenant::expression::divisions::divisions;
use crate::tenant::expression::types::{is_text_or_bytes, plain_type, sql_type};
use crate::tenant::expression::{Compiler, ExpressionFault};
use crate::tenant::model::Aggregate;

/// The aggregates found so far, over one source.
pub(super) struct Calls<'c> {
    compiler: &'c Compiler,
    source: SchemaRef,
    schema: DFSchemaRef,
    /// Each with the call it was compiled from, by which it is found again.
    compiled: Vec<(AggregateFunction, Aggregate)>,
    state: Vec<Field>,
}

impl<'c> Calls<'c> {
    pub(super) fn new(compiler: &'c Compiler, source: &SchemaRef) -> Result<Self, ExpressionFault> {
        let schema = planning_schema("", source)?;
        Ok(Self { compiler, source: source.clone(), schema, compiled: Vec::new(), state: Vec::new() })
    }

    /// The number of a call's aggregate. `sql` is the text that the call stands in.
    pub(super) fn number(&mut self, sql: &str, call: &ast::Function, warnings: &mut Warnings) -> Result<usize, ExpressionFault> {
        let planned = self.compiler.plan(sql, ast::Expr::Function(call.clone()), &self.schema)?;
        warnings.extend(divisions(&planned, &self.schema));
        let Expr::AggregateFunction(planned) = planned.unalias() else {
            return Err(ExpressionFault::new(format!("`{call}` is not an aggregate")));
        };
        must_resume(call, &planned)?;
        let settled = self.settle(sql, planned)?;
        if let Some(known) = self.compiled.iter().position(|(compiled, _)| *compiled == settled) {
            return Ok(known);
        }
        let aggregate = self.compile(sql, call, &settled)?;
        self.compiled.push((settled, aggregate));
        Ok(self.compiled.len() - 1)
    }

    /// The aggregates and the fields of their states, one after the other.
    pub(super) fn finish(self) -> (Vec<Aggregate>, Vec<Field>) {
        (self.compiled.into_iter().map(|(_, aggregate)| aggregate).collect(), self.state)
    }

    /// Coerces and folds the parts of a call; not the call itself, which DataFusion would rewrite into others.
    fn settle(&self, sql: &str, call: AggregateFunction) -> Result<AggregateFunction, ExpressionFault> {
        let faulty = |error: DataFusionError| ExpressionFault::of_engine(sql, &error);
        let coerced = self.compiler.coerced(sql, Expr::AggregateFunction(call), &self.schema)?;
        let Expr::AggregateFunction(AggregateFunction { func, mut params }) = coerced else {
            return Err(ExpressionFault::new("an aggregate was coerced into something else"));
        };
        for argument in &mut params.args {
            let simple = self.compiler.simplified(sql, argument.clone(), &self.schema)?;
            let of = simple.get_type(self.schema.as_ref()).map_err(faulty)?;
            *argument = simple.cast_to(&plain_type(&of), self.schema.as_ref()).map_err(faulty)?;
        }
        for order in &mut params.order_by {
            let simple = self.compiler.simplified(sql, order.expr.clone(), &self.schema)?;
            let of = simple.get_type(self.schema.as_ref()).map_err(faulty)?;
            order.expr = simple.cast_to(&plain_type(&of), self.schema.as_ref()).map_err(faulty)?;
        }
        Ok(AggregateFunction { func, params })
    }

    fn compile(&mut self, sql: &str, call: &ast::Function, settled: &AggregateFunction) -> Result<Aggregate, ExpressionFault> {
        let faulty = |error: DataFusionError| ExpressionFault::of_engine(sql, &error);
        let AggregateFunctionParams { args, filter, order_by, null_treatment, .. } = &settled.params;
        let physical = |expression| self.compiler.physical(sql, expression, &self.schema);
        let arguments = args.iter().map(physical).collect::<Result<Vec<_>, _>>()?;
        let orders = order_by
            .iter()
            .map(|order| {
                let options = arrow::compute::SortOptions { descending: !order.asc, nulls_first: order.nulls_first };
                Ok(PhysicalSortExpr::new(physical(&order.expr)?, options))
            })
            .collect::<Result<Vec<_>, ExpressionFault>>()?;
        let number = self.compiled.len();
        let function = AggregateExprBuilder::new(settled.func.clone(), arguments)
            .schema(self.source.clone())
            .alias(format!("agg{number}"))
            .order_by(orders)
            .with_ignore_nulls(*null_treatment == Some(NullTreatment::IgnoreNulls))
            .build()
            .map_err(faulty)?;
        if !function.groups_accumulator_supported() {
            let types: Vec<String> =
                args.iter().filter_map(|arg| arg.get_type(self.schema.as_ref()).ok()).map(|of| sql_type(&of)).collect();
            return Err(ExpressionFault::new(format!("`{call}` is not possible on {}", types.join(", "))));
        }
        let filter = match filter {
            None => None,
            Some(condition) => Some(must_be_boolean(self.compiler.finish_coerced(sql, (**condition).clone(), &self.schema)?)?),
        };
        let from = self.state.len();
        self.add_state(&function).map_err(faulty)?;
        let state = Arc::new(Schema::new(self.state[from..].to_vec()));
        if let Err(fault) = StateCodec::new(&state) {
            return Err(ExpressionFault::new(format!("`{call}` cannot be kept in a window's state: {fault}")));
        }
        let mut arguments = function.expressions();
        arguments.extend(function.order_bys().iter().map(|order| order.expr.clone()));
        let kept = kept(settled.func.name(), &arguments, &self.source).map_err(faulty)?;
        Ok(Aggregate { sql: call.to_string(), function: Arc::new(function), arguments, kept, filter, state: from..self.state.len() })
    }

    /// Names the state's fields so that they are Avro names, and unique: `a0_count`, `a0_mean`, `a0_m2`.
    fn add_state(&mut self, function: &AggregateFunctionExpr) -> Result<(), DataFusionError> {
        let number = self.compiled.len();
        for (at, field) in function.state_fields()?.iter().enumerate() {
            let part = field.name().rsplit_once('[').map_or(field.name().as_str(), |(_, part)| part.trim_end_matches(']'));
            let word: String = part.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            let mut name = format!("a{number}_{word}");
            if self.state.iter().any(|known| *known.name() == name) {
                name = format!("a{number}_{at}_{word}");
            }
            self.state.push(Field::new(name, field.data_type().clone(), true).with_metadata(field.metadata().clone()));
        }
        Ok(())
    }
}

/// Which of an aggregate's arguments are texts or bytes that its state keeps.
fn kept(name: &str, arguments: &[Arc<dyn PhysicalExpr>], source: &SchemaRef) -> Result<Vec<usize>, DataFusionError> {
    let mut kept = Vec::new();
    if !matches!(name, "min" | "max" | "first_value" | "last_value") {
        return Ok(kept);
    }
    for (at, argument) in arguments.iter().enumerate() {
        if is_text_or_bytes(&argument.data_type(source)?) {
            kept.push(at);
        }
    }
    Ok(kept)
}

/// Refuses calls whose aggregate would not go on exactly from its state, or whose state has no bound (DET-1).
fn must_resume(call: &ast::Function, planned: &AggregateFunction) -> Result<(), ExpressionFault> {
    let name = planned.func.name();
    let is_positional = matches!(name, "first_value" | "last_value");
    if planned.params.distinct {
        let remedy = if name == "count" { "approx_distinct(x) estimates it in little space" } else { "leave DISTINCT out" };
        return Err(ExpressionFault::new(format!("the state of `{call}` grows with every new value, without bound (DET-1): {remedy}")));
    }
    if is_positional && planned.params.order_by.is_empty() {
        return Err(ExpressionFault::new(format!("`{call}` must say first or last in which order: {name}(x ORDER BY t)")));
    }
    if !is_positional && !planned.params.order_by.is_empty() {
        return Err(ExpressionFault::new(format!("ORDER BY has no meaning in `{call}`, values are folded in offset order")));
    }
    Ok(())
}
