//! The catalogue that SQL names are looked up in, and the reasons why some of DataFusion's functions are not in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion_expr::{AggregateUDF, Expr, GetFieldAccess, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;
use datafusion_functions_aggregate::planner::AggregateFunctionPlanner;

use super::resumable::Resumable;
use super::zoned::Zoned;

/// Aggregates whose resumption is proven exact by `aggregate/resume_tests.rs` (DET-1).
const RESUMABLE: [&str; 17] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "approx_distinct",
    "first_value",
    "last_value",
    "var",
    "var_pop",
    "stddev",
    "stddev_pop",
];

/// Functions that tell about the program or a file, not about the record.
const FOREIGN: [&str; 3] = ["version", "input_file_name", "file_row_index"];

/// Every name that may stand before a parenthesis.
#[derive(Debug)]
pub struct Functions {
    scalars: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    /// Aggregates that DataFusion has and tenants may not use.
    refused: Vec<String>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: Arc<ConfigOptions>,
}

impl Functions {
    /// The catalogue. Times are instants: functions that make timestamps of text or numbers make them in UTC.
    pub fn new() -> Self {
        let mut options = ConfigOptions::default();
        options.execution.time_zone = Some("+00:00".to_owned());
        let mut scalars = BTreeMap::new();
        for function in datafusion_functions::all_default_functions() {
            if FOREIGN.contains(&function.name()) {
                continue;
            }
            let function = function.inner().with_updated_config(&options).map_or(function, Arc::new);
            let function = if function.name().starts_with("to_timestamp") { Zoned::wrap(&function) } else { function };
            for name in function.aliases().iter().map(String::as_str).chain([function.name()]) {
                scalars.insert(name.to_owned(), function.clone());
            }
        }
        // They are the same; of decimals and instants DataFusion's own makes doubles and texts.
        if let Some(coalesce) = scalars.get("coalesce").cloned() {
            scalars.extend(["nvl", "ifnull"].map(|name| (name.to_owned(), coalesce.clone())));
        }
        let mut aggregates = BTreeMap::new();
        let mut refused = Vec::new();
        for function in datafusion_functions_aggregate::all_default_aggregate_functions() {
            let names = function.aliases().iter().cloned().chain([function.name().to_owned()]);
            if RESUMABLE.contains(&function.name()) {
                let resumable = Resumable::wrap(&function);
                aggregates.extend(names.map(|name| (name, resumable.clone())));
            } else {
                refused.extend(names);
            }
        }
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(CoreFunctionPlanner::default()),
            Arc::new(FieldAccess),
            Arc::new(DatetimeFunctionPlanner),
            Arc::new(UnicodeFunctionPlanner),
            Arc::new(AggregateFunctionPlanner),
        ];
        Self { scalars, aggregates, refused, planners, options: Arc::new(options) }
    }

    /// DataFusion's settings that the functions were made with.
    pub fn config(&self) -> &Arc<ConfigOptions> {
        &self.options
    }

    /// Whether this is the name of an aggregate, usable or not.
    pub fn is_aggregate(&self, name: &str) -> bool {
        self.aggregates.contains_key(name) || self.refused.iter().any(|refused| refused == name)
    }

    /// Whether this is the name of a scalar function.
    pub fn is_scalar(&self, name: &str) -> bool {
        self.scalars.contains_key(name)
    }

    /// Whether a scalar function of this name may give something else for the same arguments.
    pub fn is_unsteady(&self, name: &str) -> bool {
        self.scalars.get(name).is_some_and(|function| function.signature().volatility != Volatility::Immutable)
    }

    /// Why an aggregate may not be used, and what to use instead; none if it may.
    pub fn refusal(&self, name: &str) -> Option<String> {
        self.refused.iter().find(|refused| *refused == name)?;
        let remedy = match name {
            "median" | "approx_median" | "percentile_cont" | "quantile_cont" => "use avg, min, max or stddev",
            "approx_percentile_cont" | "approx_percentile_cont_with_weight" => "use avg, min, max or stddev",
            "array_agg" | "string_agg" => "its state grows without bound; use first_value, last_value or approx_distinct",
            "any_value" | "nth_value" => "use first_value(x ORDER BY t) or last_value(x ORDER BY t)",
            "grouping" => "a window has one grouping",
            _ => "sum the parts of its formula, such as sum(x), sum(y) and sum(x * y)",
        };
        Some(format!("`{name}` cannot go on exactly from a stored state (DET-1): {remedy}"))
    }

    /// All names that may be used.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let steady = self.scalars.keys().filter(|name| !self.is_unsteady(name));
        steady.chain(self.aggregates.keys()).map(String::as_str)
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("there are no tables here, `{name}` cannot be read")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalars.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Plans `record['field']`; DataFusion's own planner for it comes with all its array functions.
#[derive(Debug)]
struct FieldAccess;

impl ExprPlanner for FieldAccess {
    fn plan_field_access(&self, access: RawFieldAccessExpr, _schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        match access.field_access {
            GetFieldAccess::NamedStructField { name } => {
                Ok(PlannerResult::Planned(datafusion_functions::core::get_field().call(vec![access.expr, Expr::Literal(name, None)])))
            }
            _ => plan_err!("items of an array cannot be taken by number"),
        }
    }
}
