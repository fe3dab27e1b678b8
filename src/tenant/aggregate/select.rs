//! Select expressions: the aggregates in them taken out, and what remains compiled over finished windows.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_sql::sqlparser::ast::{self, Ident, VisitMut, VisitorMut};

use super::calls::Calls;
use crate::tenant::expression::compiler::{parse, planning_schema};
use crate::tenant::expression::divisions::{DROPS_FRACTION, divisions};
use crate::tenant::expression::names;
use crate::tenant::expression::types::sql_type;
use crate::tenant::expression::{Compiler, Expression, ExpressionFault, Scope};
use crate::tenant::model::{Aggregate, SelectColumn};

/// Column of a result that holds the window's start.
pub const WINDOW_START: &str = "window_start";
/// Column of a result that holds the window's end.
pub const WINDOW_END: &str = "window_end";

/// A window's select, compiled; the parts of [`crate::tenant::Window`] of the same names.
#[derive(Debug)]
pub struct CompiledSelect {
    /// The aggregates that the expressions need, each once.
    pub aggregates: Vec<Aggregate>,
    /// All aggregates' state fields, uniquely named.
    pub state: SchemaRef,
    /// What `select` is evaluated on.
    pub finished: SchemaRef,
    /// What the tenant asked for.
    pub select: Vec<SelectColumn>,
    /// Schema of a result.
    pub output: SchemaRef,
    /// Column names and what their authors may not have meant.
    pub warnings: Vec<(String, String)>,
}

/// What the author of one column may not have meant.
pub(super) type Warnings = Vec<String>;

impl Compiler {
    /// Compiles a window's select: `items` are column names and texts, over `source`'s columns inside of aggregates, and over the `by`
    /// columns, `window_start` and `window_end` outside.
    ///
    /// # Errors
    ///
    /// The names of faulty columns with what is wrong; all of them.
    pub fn select(
        &self,
        items: &[(String, String)],
        source: &SchemaRef,
        by: &[(String, Expression)],
    ) -> Result<CompiledSelect, Vec<(String, ExpressionFault)>> {
        let mut faults = Vec::new();
        let mut warnings = Vec::new();
        let key = key_fields(by);
        let scope = Scope {
            columns: key.iter().map(|field| field.name().as_str()).collect(),
            aggregated: Some(source.fields().iter().map(|field| field.name().as_str()).collect()),
        };
        let mut calls = Calls::new(self, source).map_err(|fault| vec![(String::new(), fault)])?;
        let mut outsides = Vec::new();
        for (name, sql) in items {
            let mut found = Warnings::new();
            let outside = must_be_free(name, &key, items).and_then(|()| self.extract(sql, &scope, &mut calls, &mut found));
            warnings.extend(found.into_iter().map(|warning| (name.clone(), warning)));
            match outside {
                Ok(outside) => outsides.push((name, sql, outside)),
                Err(fault) => faults.push((name.clone(), fault)),
            }
        }
        let (aggregates, state) = calls.finish();
        let finished = finished_schema(&key, &aggregates);
        let mut select = Vec::new();
        for (name, sql, outside) in outsides {
            let mut found = Warnings::new();
            match self.outside(sql, outside, &finished, &mut found) {
                Ok(expression) => select.push(SelectColumn { name: name.clone(), expression }),
                Err(fault) => faults.push((name.clone(), fault)),
            }
            warnings.extend(found.into_iter().map(|warning| (name.clone(), warning)));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let output = output_schema(&key, &select);
        Ok(CompiledSelect { aggregates, state: Arc::new(Schema::new(state)), finished, select, output, warnings })
    }

    /// Parses an item and puts a column's name in the place of each aggregate call.
    fn extract(&self, sql: &str, scope: &Scope<'_>, calls: &mut Calls<'_>, warnings: &mut Warnings) -> Result<ast::Expr, ExpressionFault> {
        let mut parsed = parse(sql)?;
        names::check(sql, &parsed, &self.functions, scope)?;
        let mut extraction = Extraction { compiler: self, sql, calls, warnings };
        match VisitMut::visit(&mut parsed, &mut extraction) {
            ControlFlow::Continue(()) => Ok(parsed),
            ControlFlow::Break(fault) => Err(*fault),
        }
    }

    fn outside(&self, sql: &str, outside: ast::Expr, finished: &SchemaRef, warnings: &mut Warnings) -> Result<Expression, ExpressionFault> {
        let schema = planning_schema(sql, finished)?;
        let planned = self.plan(sql, outside, &schema)?;
        warnings.extend(divisions(&planned, &schema).iter().map(|_| format!("`{sql}` {DROPS_FRACTION}")));
        let expression = self.finish(sql, planned, &schema)?;
        match expression.data_type() {
            DataType::Null => Err(ExpressionFault::new("the expression is always null")),
            of @ (DataType::Interval(_) | DataType::Duration(_)) => {
                Err(ExpressionFault::new(format!("a column of a result cannot be of type {}", sql_type(of))))
            }
            _ => Ok(expression),
        }
    }
}

struct Extraction<'e, 'c> {
    compiler: &'e Compiler,
    sql: &'e str,
    calls: &'e mut Calls<'c>,
    warnings: &'e mut Warnings,
}

impl VisitorMut for Extraction<'_, '_> {
    type Break = Box<ExpressionFault>;

    fn pre_visit_expr(&mut self, expression: &mut ast::Expr) -> ControlFlow<Self::Break> {
        let ast::Expr::Function(call) = expression else { return ControlFlow::Continue(()) };
        if !self.compiler.functions.is_aggregate(&names::function_name(call)) {
            return ControlFlow::Continue(());
        }
        match self.calls.number(self.sql, call, self.warnings) {
            Ok(number) => {
                *expression = ast::Expr::Identifier(Ident::with_quote('"', column_of(number)));
                ControlFlow::Continue(())
            }
            Err(fault) => ControlFlow::Break(Box::new(fault)),
        }
    }
}

/// The column of a finished window that holds the aggregate of this number.
fn column_of(number: usize) -> String {
    format!("agg{number}")
}

/// The `by` columns, `window_start`, `window_end`.
fn key_fields(by: &[(String, Expression)]) -> Vec<Field> {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let mut fields: Vec<Field> = by.iter().map(|(name, key)| Field::new(name, key.data_type().clone(), false)).collect();
    fields.push(Field::new(WINDOW_START, instant.clone(), false));
    fields.push(Field::new(WINDOW_END, instant, false));
    fields
}

fn finished_schema(key: &[Field], aggregates: &[Aggregate]) -> SchemaRef {
    let results = aggregates.iter().enumerate().map(|(number, aggregate)| {
        let result = aggregate.function.field();
        Field::new(column_of(number), result.data_type().clone(), result.is_nullable())
    });
    Arc::new(Schema::new(key.iter().cloned().chain(results).collect::<Vec<_>>()))
}

/// Every select column is nullable: it is null where its expression fails.
fn output_schema(key: &[Field], select: &[SelectColumn]) -> SchemaRef {
    let selected = select.iter().map(|column| Field::new(&column.name, column.expression.data_type().clone(), true));
    Arc::new(Schema::new(key.iter().cloned().chain(selected).collect::<Vec<_>>()))
}

/// Refuses a column name that the result has already, or that the compiled aggregates need.
fn must_be_free(name: &str, key: &[Field], items: &[(String, String)]) -> Result<(), ExpressionFault> {
    if key.iter().any(|field| field.name() == name) {
        return Err(ExpressionFault::new(format!("a result has the column `{name}` already")));
    }
    if items.iter().filter(|(item, _)| item == name).count() > 1 {
        return Err(ExpressionFault::new(format!("the column `{name}` is selected twice")));
    }
    match key.iter().find(|field| field.name().strip_prefix("agg").is_some_and(|rest| rest.parse::<usize>().is_ok())) {
        None => Ok(()),
        Some(field) => Err(ExpressionFault::new(format!("a `by` column cannot be named `{}`, rename it", field.name()))),
    }
}
