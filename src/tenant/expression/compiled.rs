//! A compiled expression, and how rows on which it fails are told from the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_empty_array, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::DataType;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;

use super::fault::ExpressionFault;

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Expression {
    pub(super) sql: String,
    pub(super) data_type: DataType,
    pub(super) nullable: bool,
    pub(super) columns: Vec<String>,
    pub(super) physical: Arc<dyn PhysicalExpr>,
}

/// An expression could not be evaluated on some row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluationFault(pub String);

/// Values of all rows.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// One value for each row, null where it failed.
    pub values: ArrayRef,
    /// The rows that failed, ascending, and why.
    pub failed: Vec<(usize, String)>,
}

impl Expression {
    /// The text it was compiled from.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The type of its values.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Whether a value can be null.
    pub fn nullable(&self) -> bool {
        self.nullable
    }

    /// The columns it reads, in the schema's order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// DataFusion's expression, over the schema it was compiled with.
    pub fn physical(&self) -> &Arc<dyn PhysicalExpr> {
        &self.physical
    }

    /// Values of all rows of a batch of the schema it was compiled with.
    ///
    /// # Errors
    ///
    /// If it fails on any row.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluationFault> {
        evaluate_all(&self.physical, &self.data_type, rows).map_err(EvaluationFault)
    }

    /// Values of all rows, with the rows on which it fails set apart.
    pub fn evaluate_rows(&self, rows: &RecordBatch) -> Evaluated {
        evaluate_physical_rows(&self.physical, rows)
    }
}

/// Values of all rows, with the rows on which `expression` fails set apart.
///
/// A batch that fails is halved until the rows that fail stand alone. A row that fails only in company is no failure: `b <> 0 AND a / b > 1`
/// divides only where some row needs it (DET-1).
pub fn evaluate_physical_rows(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Evaluated {
    let of = expression.data_type(&rows.schema()).unwrap_or(DataType::Null);
    let mut failed = Vec::new();
    let mut parts = Vec::new();
    let mut stretches = vec![(0, rows.num_rows())];
    while let Some((from, length)) = stretches.pop() {
        match (length, evaluate_all(expression, &of, &rows.slice(from, length))) {
            (0, _) => {}
            (_, Ok(values)) => parts.push(values),
            (1, Err(why)) => {
                parts.push(new_null_array(&of, 1));
                failed.push((from, why));
            }
            (_, Err(_)) => {
                let half = length / 2;
                stretches.push((from + half, length - half));
                stretches.push((from, half));
            }
        }
    }
    let values = match parts.as_slice() {
        [] => Ok(new_empty_array(&of)),
        [values] => Ok(values.clone()),
        parts => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>()),
    };
    match values {
        Ok(values) => Evaluated { values, failed },
        Err(error) => Evaluated {
            values: new_null_array(&of, rows.num_rows()),
            failed: (0..rows.num_rows()).map(|row| (row, error.to_string())).collect(),
        },
    }
}

/// A record must not be able to end the process: some kernels panic on extreme values (a length that overflows, a year out of range).
///
/// Nor may a kernel that gives another type than it declares (text to timestamp loses the zone) make a batch of the wrong schema.
fn evaluate_all(expression: &Arc<dyn PhysicalExpr>, of: &DataType, rows: &RecordBatch) -> Result<ArrayRef, String> {
    let evaluate = || -> Result<ArrayRef, DataFusionError> {
        let values = expression.evaluate(rows)?.into_array_of_size(rows.num_rows())?;
        Ok(if values.data_type() == of { values } else { cast(&values, of)? })
    };
    match catch_unwind(AssertUnwindSafe(evaluate)) {
        Ok(Ok(values)) => Ok(values),
        Ok(Err(error)) => Err(ExpressionFault::of_engine("", &error).message),
        Err(_) => Err("the value is out of the function's range".to_owned()),
    }
}
