//! Expressions that fail whatever a record holds: a regular expression that is none, a time zone that does not exist, a division by zero.
//!
//! Planning takes their constants for what may come from a record. They are found by trying: what fails both on a record of nulls and on a
//! record of ones fails on all. Conditional expressions are left out, since a branch may be there to fail.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::tree_node::TreeNode;
use datafusion_expr::Expr;
use datafusion_physical_expr::PhysicalExpr;

use super::compiled::evaluate_physical_rows;
use super::fault::ExpressionFault;

/// The expression, unless it fails on every record.
///
/// # Errors
/// Why it fails.
pub fn must_not_always_fail(
    settled: &Expr,
    physical: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>, ExpressionFault> {
    let is_conditional = settled.exists(|node| Ok(matches!(node, Expr::Case(_)))).unwrap_or(true);
    if is_conditional {
        return Ok(physical);
    }
    let failure = |sample: fn(&DataType) -> ArrayRef| {
        let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let columns = fields.iter().map(|field| sample(field.data_type())).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).ok()?;
        evaluate_physical_rows(&physical, &rows).failed.pop().map(|(_, why)| why)
    };
    match (failure(null), failure(one)) {
        (Some(_), Some(why)) => Err(ExpressionFault::new(format!("it fails whatever a record holds: {why}"))),
        _ => Ok(physical),
    }
}

fn null(of: &DataType) -> ArrayRef {
    new_null_array(of, 1)
}

/// One, `1`, true, or the first moment of 1970; null for what has none of these.
fn one(of: &DataType) -> ArrayRef {
    cast(&Int64Array::from(vec![1]), of).unwrap_or_else(|_| null(of))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::tenant::expression::Compiler;

    fn compile(sql: &str) -> Result<(), String> {
        let schema = Schema::new(vec![
            Field::new("battery", DataType::Int32, true),
            Field::new("note", DataType::Utf8, false),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("place", DataType::Struct(vec![Field::new("x", DataType::Int32, true)].into()), true),
        ]);
        Compiler::new().scalar(sql, &Arc::new(schema)).map(drop).map_err(|fault| fault.message)
    }

    #[test]
    fn mistakes_in_constants_are_found_before_the_first_record() {
        for (sql, said) in [
            ("regexp_replace(note, '(', 'x')", "unclosed group"),
            ("regexp_like(note, '[')", "unclosed character class"),
            ("at AT TIME ZONE 'Mars/Phobos'", "Mars/Phobos"),
            ("date_trunc('fortnight', at)", "fortnight"),
            ("split_part(note, '-', 0)", "must not be zero"),
            ("1 / 0 > battery", "divide by zero"),
        ] {
            let fault = compile(sql).expect_err(sql);
            assert!(fault.contains(said), "{sql}: {fault}");
        }
    }

    #[test]
    fn what_only_some_records_make_fail_is_let_through() {
        for sql in [
            "10 / battery > 1",
            "CAST(note AS INT) > 1",
            "10 / (battery - 1)",
            "at AT TIME ZONE 'Europe/Helsinki'",
            "CASE WHEN battery > 5 THEN 1 ELSE 1 / 0 END",
            "place.x / 0",
            "chr(battery)",
        ] {
            assert_eq!(compile(sql), Ok(()), "{sql}");
        }
    }
}
