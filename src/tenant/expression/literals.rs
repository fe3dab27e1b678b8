//! Fits constants to the columns that they are compared with, where DataFusion would change the column instead.
//!
//! - A `real` column against `20.1`: DataFusion widens both to double, and the float 20.1 is then larger than the double 20.1. The
//!   constant is made a float (C75).
//! - A timestamp column against a text or a date: DataFusion turns both into nanoseconds, which end in 2262; a column in milliseconds can
//!   hold the year 9999. The constant is made a timestamp of microseconds (C39). One that lies between two of the column's units is put
//!   to the side of it that the comparison asks for: DataFusion would cut it off, and so take the unit before for equal.
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
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => Transformed::yes(compare(*left, op, *right, schema)),
        Expr::Between(Between { expr, negated, low, high }) => {
            let to = type_of(&expr, schema);
            let (low, high) = (fit_to(*low, &to), fit_to(*high, &to));
            if [&low, &high].into_iter().all(|bound| unit_before(bound, &to).is_none()) {
                return Transformed::yes(Expr::Between(Between::new(expr, negated, Box::new(low), Box::new(high))));
            }
            let is_from_low = compare((*expr).clone(), Operator::GtEq, low, schema);
            let is_within = is_from_low.and(compare(*expr, Operator::LtEq, high, schema));
            Transformed::yes(if negated { !is_within } else { is_within })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let to = type_of(&expr, schema);
            let list = list.into_iter().map(|item| fit_to(item, &to));
            // No value of the column equals what lies between two of its units: of those one is enough, and only where nothing else is left.
            let (mut between, list): (Vec<_>, Vec<_>) = list.partition(|item| unit_before(item, &to).is_some());
            Transformed::yes(match between.pop().filter(|_| list.is_empty()) {
                Some(item) => compare(*expr, if negated { Operator::NotEq } else { Operator::Eq }, item, schema),
                None => Expr::InList(InList::new(expr, list, negated)),
            })
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

/// `left op right` with constants fitted to the other side.
fn compare(left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Expr {
    let (of_left, of_right) = (type_of(&left, schema), type_of(&right, schema));
    let (left, right) = (fit_to(left, &of_right), fit_to(right, &of_left));
    let (value, op, before) = match (unit_before(&right, &of_left), unit_before(&left, &of_right)) {
        (Some(before), _) => (left, op, Expr::Literal(before, None)),
        (None, Some(before)) => (right, op.swap().unwrap_or(op), Expr::Literal(before, None)),
        (None, None) => return Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))),
    };
    match op {
        Operator::Gt | Operator::GtEq => value.gt(before),
        Operator::Lt | Operator::LtEq => value.lt_eq(before),
        // Never, and not known for null.
        Operator::Eq => value.clone().gt(before.clone()).and(value.lt_eq(before)),
        Operator::NotEq => value.clone().gt(before.clone()).or(value.lt_eq(before)),
        _ => Expr::Literal(ScalarValue::Boolean(Some(op == Operator::IsDistinctFrom)), None),
    }
}

/// The last moment of the type `of` before a fitted constant, where that lies between two of them.
fn unit_before(constant: &Expr, of: &Option<DataType>) -> Option<ScalarValue> {
    let (Some(DataType::Timestamp(unit, zone)), Expr::Cast(Cast { expr, field })) = (of, constant) else { return None };
    let Expr::Literal(text @ ScalarValue::Utf8(_), _) = &**expr else { return None };
    let ScalarValue::TimestampMicrosecond(Some(moment), _) = text.cast_to(field.data_type()).ok()? else { return None };
    let before = |micros| (moment.rem_euclid(micros) != 0).then(|| moment.div_euclid(micros));
    match unit {
        TimeUnit::Second => before(1_000_000).map(|before| ScalarValue::TimestampSecond(Some(before), zone.clone())),
        TimeUnit::Millisecond => before(1_000).map(|before| ScalarValue::TimestampMillisecond(Some(before), zone.clone())),
        TimeUnit::Microsecond | TimeUnit::Nanosecond => None,
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
