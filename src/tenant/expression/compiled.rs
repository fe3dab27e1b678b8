//! A compiled expression, and how rows on which it fails are told from the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_empty_array, new_null_array};
use arrow::compute::{cast, concat, take_record_batch};
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
/// divides only where some row needs it (DET-1). Halves are copies: some kernels look at all bytes that an array shares with its
/// neighbours, such as a cast from bytes to text, which would then fail for the bytes of another row.
pub fn evaluate_physical_rows(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Evaluated {
    let of = expression.data_type(&rows.schema()).unwrap_or(DataType::Null);
    if rows.num_rows() == 0 {
        return Evaluated { values: new_empty_array(&of), failed: Vec::new() };
    }
    if let Ok(values) = evaluate_all(expression, &of, rows) {
        return Evaluated { values, failed: Vec::new() };
    }
    let mut failed = Vec::new();
    let mut parts = Vec::new();
    let mut stretches = halves(0, rows.num_rows());
    while let Some((from, length)) = stretches.pop() {
        match (length, copied(rows, from, length).and_then(|part| evaluate_all(expression, &of, &part))) {
            (_, Ok(values)) => parts.push(values),
            (1, Err(why)) => {
                parts.push(new_null_array(&of, 1));
                failed.push((from, why));
            }
            (_, Err(_)) => stretches.extend(halves(from, length)),
        }
    }
    let values = match parts.as_slice() {
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

/// A stretch of rows in two, the first one last; of one row only that.
fn halves(from: usize, length: usize) -> Vec<(usize, usize)> {
    let half = length / 2;
    let both = [(from + half, length - half), (from, half)];
    both.into_iter().filter(|(_, length)| *length > 0).collect()
}

/// Some rows in buffers of their own.
fn copied(rows: &RecordBatch, from: usize, length: usize) -> Result<RecordBatch, String> {
    let wanted = UInt32Array::from_iter_values((from..from + length).map(|row| row as u32));
    take_record_batch(rows, &wanted).map_err(|error| error.to_string())
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
