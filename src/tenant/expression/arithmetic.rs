//! Arithmetic that fails where its result would be another number.
//!
//! DataFusion's integers wrap around: the largest bigint plus one is the smallest. Its decimals may get more digits than their type has, as
//! long as 128 bits hold them. Both are refused here, row by row: a compiled expression has checked operators in the place of these, and
//! constants are folded with the same care before DataFusion folds them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Decimal256Type, DecimalType, Int8Type, Int16Type, Int32Type, Int64Type, Schema,
};
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue, exec_err, plan_datafusion_err};
use datafusion_expr::{BinaryExpr as Binary, Cast, ColumnarValue, Expr, ExprSchemable, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, NegativeExpr};

/// Folds sums, differences and products of integer constants.
///
/// # Errors
/// A result that its type does not hold.
pub fn fold_constants(expression: Expr) -> Result<Expr> {
    expression.transform_up(fold_node).data()
}

fn fold_node(node: Expr) -> Result<Transformed<Expr>> {
    let folded = match &node {
        Expr::BinaryExpr(Binary { left, op, right }) => match (&**left, &**right) {
            (Expr::Literal(left, _), Expr::Literal(right, _)) if is_integer(left) && is_integer(right) => match op {
                Operator::Plus => Some(left.add_checked(right)),
                Operator::Minus => Some(left.sub_checked(right)),
                Operator::Multiply => Some(left.mul_checked(right)),
                _ => None,
            },
            _ => None,
        },
        Expr::Negative(of) => match &**of {
            Expr::Literal(value, _) if is_integer(value) => Some(value.arithmetic_negate()),
            _ => None,
        },
        _ => None,
    };
    match folded {
        None => Ok(Transformed::no(node)),
        Some(Ok(value)) => Ok(Transformed::yes(Expr::Literal(value, None))),
        Some(Err(_)) => Err(plan_datafusion_err!("`{}` is out of its type's range", node.human_display())),
    }
}

/// Divides decimals in 256 bits where 128 do not hold the dividend: it gets four digits and the divisor's scale more.
///
/// # Errors
/// If its types do not fit `schema`.
pub fn widen_divisions(expression: Expr, schema: &DFSchema) -> Result<Expr> {
    let widen = |node: Expr| {
        let Expr::BinaryExpr(Binary { left, op: Operator::Divide, right }) = &node else { return Ok(Transformed::no(node)) };
        let types = (left.get_type(schema)?, right.get_type(schema)?, node.get_type(schema)?);
        let (DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2), of @ DataType::Decimal128(_, scale)) = types else {
            return Ok(Transformed::no(node));
        };
        // A quotient of more than 38 digits behind the point is cut there, which the way back from 256 bits would round.
        let is_whole = i16::from(scale) == i16::from(s1) + 4;
        if !is_whole || i16::from(p1) + 4 + i16::from(s2) <= i16::from(DECIMAL128_MAX_PRECISION) {
            return Ok(Transformed::no(node));
        }
        let wide = |side: &Expr, precision, scale| Box::new(cast(side.clone(), DataType::Decimal256(precision, scale)));
        let divided = Expr::BinaryExpr(Binary::new(wide(left, p1, s1), Operator::Divide, wide(right, p2, s2)));
        Ok(Transformed::yes(cast(divided, of)))
    };
    expression.transform_up(widen).data()
}

fn cast(expression: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expression), to))
}

fn is_integer(value: &ScalarValue) -> bool {
    value.data_type().is_integer() && !value.is_null()
}

/// The expression with checked operators.
///
/// # Errors
/// If its types do not fit `schema`.
pub fn checked(expression: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    expression.transform_up(|node| check_node(node, schema)).data()
}

fn check_node(node: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    if let Some(binary) = node.downcast_ref::<BinaryExpr>() {
        let of = node.data_type(schema)?;
        if of.is_integer() && matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply) {
            let strict = BinaryExpr::new(binary.left().clone(), *binary.op(), binary.right().clone()).with_fail_on_overflow(true);
            return Ok(Transformed::yes(Arc::new(strict)));
        }
        return Ok(match of.is_decimal() {
            true => Transformed::yes(Arc::new(Checked { inner: node })),
            false => Transformed::no(node),
        });
    }
    let is_negation = node.downcast_ref::<NegativeExpr>().is_some();
    Ok(match is_negation && node.data_type(schema)?.is_integer() {
        true => Transformed::yes(Arc::new(Checked { inner: node })),
        false => Transformed::no(node),
    })
}

/// An operator whose results are looked at.
#[derive(Debug)]
struct Checked {
    inner: Arc<dyn PhysicalExpr>,
}

impl PhysicalExpr for Checked {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let values = self.inner.evaluate(rows)?;
        match &values {
            ColumnarValue::Array(array) => must_fit(array, &self.inner)?,
            ColumnarValue::Scalar(scalar) => must_fit(&scalar.to_array()?, &self.inner)?,
        }
        Ok(values)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.into_iter().next().unwrap_or_else(|| self.inner.clone());
        Ok(Arc::new(Self { inner }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Checked {}

impl Hash for Checked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

/// Refuses decimals of more digits than their type has, and the smallest integer, which only a negation that wraps around gives.
fn must_fit(values: &ArrayRef, of: &Arc<dyn PhysicalExpr>) -> Result<()> {
    let fits = match values.data_type() {
        DataType::Decimal128(precision, _) => digits_fit::<Decimal128Type>(values, *precision),
        DataType::Decimal256(precision, _) => digits_fit::<Decimal256Type>(values, *precision),
        DataType::Int8 => values.as_primitive::<Int8Type>().iter().flatten().all(|value| value != i8::MIN),
        DataType::Int16 => values.as_primitive::<Int16Type>().iter().flatten().all(|value| value != i16::MIN),
        DataType::Int32 => values.as_primitive::<Int32Type>().iter().flatten().all(|value| value != i32::MIN),
        DataType::Int64 => values.as_primitive::<Int64Type>().iter().flatten().all(|value| value != i64::MIN),
        _ => true,
    };
    match fits {
        true => Ok(()),
        false => exec_err!("arithmetic overflow: a result of {of} does not fit its type"),
    }
}

fn digits_fit<T: DecimalType>(values: &ArrayRef, precision: u8) -> bool {
    values.as_primitive::<T>().iter().flatten().all(|value| T::is_valid_decimal_precision(value, precision))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Int32Array, Int64Array};
    use arrow::datatypes::Field;

    use crate::tenant::expression::Compiler;

    use super::*;

    fn rows() -> RecordBatch {
        let decimals = Decimal128Array::from(vec![10_i128.pow(38) - 1, 1 - 10_i128.pow(38), 5]).with_precision_and_scale(38, 0);
        let columns: [(&str, ArrayRef); 3] = [
            ("i", Arc::new(Int32Array::from(vec![i32::MAX, i32::MIN, 5]))),
            ("l", Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN, 5]))),
            ("w", Arc::new(decimals.expect("38 digits"))),
        ];
        let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect::<Vec<_>>();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect()).expect("a batch")
    }

    /// The rows on which an expression fails.
    fn failing(sql: &str) -> Vec<usize> {
        let rows = rows();
        let compiled = Compiler::new().scalar(sql, &rows.schema()).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
        let failed = compiled.evaluate_rows(&rows).failed;
        assert!(failed.iter().all(|(_, why)| why.contains("overflow")), "{sql}: {failed:?}");
        failed.into_iter().map(|(row, _)| row).collect()
    }

    #[test]
    fn what_a_type_does_not_hold_fails_instead_of_wrapping_around() {
        for (sql, rows) in [
            ("l + 1", vec![0]),
            ("l - 1", vec![1]),
            ("i + i", vec![0, 1]),
            ("i * i", vec![0, 1]),
            ("l * -2", vec![0, 1]),
            ("-l", vec![1]),
            ("-i", vec![1]),
            ("-CAST(CASE WHEN i = 5 THEN -128 ELSE 1 END AS TINYINT)", vec![2]),
            ("-CAST(CASE WHEN i = 5 THEN -32768 ELSE 1 END AS SMALLINT)", vec![2]),
            ("-(l - 1)", vec![1]),
            ("abs(l)", vec![1]),
            ("l / -1", vec![1]),
            ("w + 1", vec![0]),
            ("w - 1", vec![1]),
            ("w * 10", vec![0, 1]),
            ("CASE WHEN i > 5 THEN i * i ELSE 0 END", vec![0]),
            ("CAST(l + 1 AS VARCHAR)", vec![0]),
            ("l + 1 > 0", vec![0]),
            ("i + 1", vec![]),
            ("l % -1", vec![]),
            ("-w", vec![]),
            ("l - l", vec![]),
        ] {
            assert_eq!(failing(sql), rows, "{sql}");
        }
    }

    #[test]
    fn constants_are_folded_with_the_same_care() {
        let compile = |sql: &str| Compiler::new().scalar(sql, &rows().schema());
        for sql in ["9223372036854775807 + 1", "l > 9223372036854775807 * 2", "-9223372036854775807 - 2 < l", "-(-9223372036854775808)"] {
            let fault = compile(sql).expect_err(sql);
            assert!(fault.message.contains("out of its type's range"), "{sql}: {fault}");
        }
        let minutes = compile("60 * 60 * 24 - 1").expect("small numbers").evaluate(&rows()).expect("a constant");
        assert_eq!(minutes.as_primitive::<Int64Type>().value(0), 86_399);
    }
}
