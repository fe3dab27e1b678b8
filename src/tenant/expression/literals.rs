//! Fits constants to the columns that they are compared with, where DataFusion would change the column instead.
//!
//! - A `real` column against `20.1`: DataFusion widens both to double, and the float 20.1 is then larger than the double 20.1. The
//!   constant is made a float (C75).
//! - A timestamp column against a text or a date: DataFusion turns both into nanoseconds, which end in 2262; a column in milliseconds can
//!   hold the year 9999. The constant is made a timestamp of microseconds (C39).
//! - A cast to a timestamp, such as `AT TIME ZONE` makes, keeps the column's unit, for the same reason.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::InList;
use datafusion_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable, Operator};

/// The expression with its constants fitted.
pub fn fit(expression: Expr, schema: &DFSchema) -> Result<Expr> {
    expression.transform_up(|node| Ok(fit_node(node, schema))).data()
}

fn fit_node(node: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match node {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
            let (left_type, right_type) = (type_of(&left, schema), type_of(&right, schema));
            let (left, right) = (fit_to(*left, &right_type), fit_to(*right, &left_type));
            Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let to = type_of(&expr, schema);
            let (low, high) = (fit_to(*low, &to), fit_to(*high, &to));
            Transformed::yes(Expr::Between(Between::new(expr, negated, Box::new(low), Box::new(high))))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let to = type_of(&expr, schema);
            let list = list.into_iter().map(|item| fit_to(item, &to)).collect();
            Transformed::yes(Expr::InList(InList::new(expr, list, negated)))
        }
        Expr::Cast(cast) => match (type_of(&cast.expr, schema), cast.field.data_type()) {
            (Some(DataType::Timestamp(unit, _)), DataType::Timestamp(TimeUnit::Nanosecond, zone)) if unit != TimeUnit::Nanosecond => {
                let to = DataType::Timestamp(unit, zone.clone());
                Transformed::yes(Expr::Cast(Cast::new(cast.expr, to)))
            }
            _ => Transformed::no(Expr::Cast(cast)),
        },
        other => Transformed::no(other),
    }
}

fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// The type, if it can be told before coercion.
fn type_of(expression: &Expr, schema: &DFSchema) -> Option<DataType> {
    expression.get_type(schema).ok()
}

fn fit_to(constant: Expr, to: &Option<DataType>) -> Expr {
    match to {
        Some(DataType::Float32) => match constant {
            Expr::Literal(ScalarValue::Float64(Some(value)), meta) => Expr::Literal(ScalarValue::Float32(Some(value as f32)), meta),
            other => other,
        },
        Some(DataType::Timestamp(unit, zone)) if *unit != TimeUnit::Nanosecond => {
            let micros = |zone: &Option<_>| DataType::Timestamp(TimeUnit::Microsecond, Option::clone(zone));
            match &constant {
                Expr::Literal(ScalarValue::Utf8(Some(_)), _) => cast(constant, micros(zone)),
                Expr::Literal(ScalarValue::Date32(_), _) => cast(constant, micros(zone)),
                Expr::Cast(inner) if matches!(*inner.expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _)) => match inner.field.data_type() {
                    DataType::Timestamp(TimeUnit::Nanosecond, own) => cast((*inner.expr).clone(), micros(own)),
                    DataType::Date32 => cast(constant, micros(zone)),
                    _ => constant,
                },
                _ => constant,
            }
        }
        _ => constant,
    }
}

fn cast(expression: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expression), to))
}
