//! From text to [`Expression`].

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::{DFSchema, DFSchemaRef};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::parser::DFParserBuilder;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{self, Visit, Visitor};

use super::divisions::divisions;
use super::fault::ExpressionFault;
use super::functions::Functions;
use super::names::{self, Scope};
use super::types::{plain_type, sql_type};
use super::{Expression, arithmetic, differences, guarded, literals, samples};

/// Longest text of an expression in bytes.
const SQL_BYTES_MAX: usize = 16 << 10;
/// Most operators within operators: planning recurses over them, and so does each evaluation.
const DEPTH_MAX: usize = 256;
/// Parsing and planning take some 20 KB for each of them.
const STACK_BYTES: usize = 64 << 20;

/// Compiles the expressions of tenant files; one serves all.
pub struct Compiler {
    pub(in crate::tenant) functions: Functions,
    props: ExecutionProps,
    planning: PhysicalPlanningContext,
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new()
    }
}

impl Compiler {
    /// A compiler with the whole catalogue of functions.
    pub fn new() -> Self {
        let functions = Functions::new();
        let mut props = ExecutionProps::new();
        props.config_options = Some(functions.config().clone());
        Self { functions, props, planning: PhysicalPlanningContext::default() }
    }

    /// Compiles a condition over `columns`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, or that it is not boolean.
    pub fn condition(&self, sql: &str, columns: &SchemaRef) -> Result<Expression, ExpressionFault> {
        let condition = self.scalar(sql, columns)?;
        must_be_boolean(condition)
    }

    /// Compiles an expression over `columns` that gives one value for each row.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn scalar(&self, sql: &str, columns: &SchemaRef) -> Result<Expression, ExpressionFault> {
        let (planned, schema) = self.plan_scalar(sql, columns)?;
        self.finish(sql, planned, &schema)
    }

    /// What the author of `sql` may not have meant, if it compiles.
    pub fn warnings(&self, sql: &str, columns: &SchemaRef) -> Vec<String> {
        self.plan_scalar(sql, columns).map(|(planned, schema)| divisions(&planned, &schema)).unwrap_or_default()
    }

    fn plan_scalar(&self, sql: &str, columns: &SchemaRef) -> Result<(Expr, DFSchemaRef), ExpressionFault> {
        let parsed = parse(sql)?;
        let scope = Scope { columns: columns.fields().iter().map(|field| field.name().as_str()).collect(), aggregated: None };
        names::check(sql, &parsed, &self.functions, &scope)?;
        let schema = planning_schema(sql, columns)?;
        let planned = self.plan(sql, parsed, &schema)?;
        Ok((planned, schema))
    }

    /// The logical expression of a parsed text whose names are checked.
    pub(in crate::tenant) fn plan(&self, sql: &str, parsed: ast::Expr, schema: &DFSchema) -> Result<Expr, ExpressionFault> {
        let options =
            ParserOptions::new().with_enable_ident_normalization(false).with_collect_spans(true).with_map_string_types_to_utf8view(false);
        SqlToRel::new_with_options(&self.functions, options)
            .sql_to_expr(parsed, schema, &mut PlannerContext::new())
            .map_err(|error| ExpressionFault::of_engine(sql, &error))
    }

    /// Fits constants and coerces types. What the simplifier may not touch is hidden from it.
    pub(in crate::tenant) fn coerced(&self, sql: &str, planned: Expr, schema: &DFSchemaRef) -> Result<Expr, ExpressionFault> {
        let simplifier = self.simplifier(schema);
        differences::fit(planned, schema, &simplifier)
            .and_then(|planned| literals::fit(planned, schema, &simplifier))
            .and_then(guarded::hide)
            .and_then(|fitted| simplifier.coerce(fitted, schema))
            .and_then(arithmetic::fold_constants)
            .and_then(|coerced| differences::must_be_fitted(coerced, schema))
            .map_err(|error| ExpressionFault::of_engine(sql, &error))
    }

    /// Simplifies what [`Compiler::coerced`] made, and takes out what was hidden.
    pub(in crate::tenant) fn simplified(&self, sql: &str, coerced: Expr, schema: &DFSchemaRef) -> Result<Expr, ExpressionFault> {
        let simplified = self.simplifier(schema).simplify(coerced);
        simplified
            .and_then(guarded::reveal)
            .and_then(|simplified| arithmetic::widen_divisions(simplified, schema))
            .map_err(|error| ExpressionFault::of_engine(sql, &error))
    }

    fn simplifier(&self, schema: &DFSchemaRef) -> ExprSimplifier {
        ExprSimplifier::new(
            SimplifyContext::builder().with_schema(schema.clone()).with_config_options(self.functions.config().clone()).build(),
        )
    }

    /// Compiles a logical expression; its values are of a plain type.
    pub(in crate::tenant) fn finish(&self, sql: &str, planned: Expr, schema: &DFSchemaRef) -> Result<Expression, ExpressionFault> {
        let coerced = self.coerced(sql, planned, schema)?;
        self.finish_coerced(sql, coerced, schema)
    }

    /// The same of what is coerced already: twice, the casts of the first time would be the tenant's.
    pub(in crate::tenant) fn finish_coerced(&self, sql: &str, coerced: Expr, schema: &DFSchemaRef) -> Result<Expression, ExpressionFault> {
        let faulty = |error| ExpressionFault::of_engine(sql, &error);
        let settled = self.simplified(sql, coerced, schema)?;
        let of = settled.get_type(schema.as_ref()).map_err(faulty)?;
        let settled = settled.cast_to(&plain_type(&of), schema.as_ref()).map_err(faulty)?;
        let used = settled.column_refs();
        let names = schema.fields().iter().map(|field| field.name());
        let columns = names.filter(|name| used.iter().any(|column| column.name == **name)).cloned().collect();
        let physical = self.physical(sql, &settled, schema)?;
        Ok(Expression {
            sql: sql.to_owned(),
            data_type: physical.data_type(schema.as_arrow()).map_err(faulty)?,
            nullable: physical.nullable(schema.as_arrow()).map_err(faulty)?,
            columns,
            physical,
        })
    }

    /// The physical form of a settled expression.
    pub(in crate::tenant) fn physical(
        &self,
        sql: &str,
        settled: &Expr,
        schema: &DFSchema,
    ) -> Result<Arc<dyn PhysicalExpr>, ExpressionFault> {
        let faulty = |error| ExpressionFault::of_engine(sql, &error);
        let wrapping = create_physical_expr(settled, schema, &self.props, &self.planning).map_err(faulty)?;
        let physical = arithmetic::checked(wrapping, schema.as_arrow()).map_err(faulty)?;
        samples::must_not_always_fail(settled, physical, schema.as_arrow())
    }
}

/// Parses one expression, and nothing after it.
pub(in crate::tenant) fn parse(sql: &str) -> Result<ast::Expr, ExpressionFault> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(ExpressionFault::new(format!("an expression of {} bytes is longer than {SQL_BYTES_MAX}", sql.len())));
    }
    // A shorter text cannot be that deep.
    if sql.len() <= DEPTH_MAX {
        return parse_one(sql);
    }
    on_a_large_stack(|| {
        let parsed = parse_one(sql)?;
        let mut depth = Depth::default();
        let _end: ControlFlow<()> = parsed.visit(&mut depth);
        match depth.deepest > DEPTH_MAX {
            true => Err(ExpressionFault::new(format!(
                "an expression of {} operators within one another, {DEPTH_MAX} are allowed: write x IN (…) for many x = …, and CASE or a shorter \
                 formula for others",
                depth.deepest
            ))),
            false => Ok(parsed),
        }
    })
}

/// Runs what recurses over a tenant's expressions where there is room for the deepest.
pub(in crate::tenant) fn on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let builder = std::thread::Builder::new().name("expressions".into()).stack_size(STACK_BYTES);
    std::thread::scope(|scope| {
        let thread = builder.spawn_scoped(scope, work).expect("the system has room for a thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// How deep an expression is.
#[derive(Default)]
struct Depth {
    open: usize,
    deepest: usize,
}

impl Visitor for Depth {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &ast::Expr) -> ControlFlow<()> {
        // Parentheses say where an operator stands, they are none.
        self.open += usize::from(!matches!(expression, ast::Expr::Nested(_)));
        self.deepest = self.deepest.max(self.open);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &ast::Expr) -> ControlFlow<()> {
        self.open -= usize::from(!matches!(expression, ast::Expr::Nested(_)));
        ControlFlow::Continue(())
    }
}

fn parse_one(sql: &str) -> Result<ast::Expr, ExpressionFault> {
    let parsed = DFParserBuilder::new(sql)
        .build()
        .and_then(|mut parser| parser.parse_into_expr())
        .map_err(|error| ExpressionFault::of_engine(sql, &error))?;
    match parsed.alias {
        None => Ok(parsed.expr),
        Some(alias) => {
            let message = format!("expected the end of the expression, found `{alias}`");
            Err(ExpressionFault::new(message).placed(sql, alias.span.start))
        }
    }
}

/// `columns` as DataFusion's planner wants them.
pub(in crate::tenant) fn planning_schema(sql: &str, columns: &SchemaRef) -> Result<DFSchemaRef, ExpressionFault> {
    DFSchema::try_from(columns.clone()).map(Arc::new).map_err(|error| ExpressionFault::of_engine(sql, &error))
}

/// The expression, if it is a condition.
pub(in crate::tenant) fn must_be_boolean(expression: Expression) -> Result<Expression, ExpressionFault> {
    match expression.data_type() {
        DataType::Boolean => Ok(expression),
        other => Err(ExpressionFault::new(format!("a condition must be boolean, this is {}", sql_type(other)))),
    }
}
