//! Differences of instants, which DataFusion compares and takes apart as no clock does.
//!
//! - `_timestamp - at > INTERVAL '1 day'` is never true there: a difference is so many nanoseconds, a day is a day, and days go first. Here
//!   a day has 24 hours; months have no length.
//! - `EXTRACT(epoch FROM a - b)` drops what is below a second once there are two, and finer parts wrap around: refused.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion_expr::expr::InList;
use datafusion_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;

use super::literals::is_comparison;

const DAY_NS: i128 = 86_400_000_000_000;

/// The expression with constant intervals that meet differences made differences themselves.
///
/// # Errors
/// An interval with months, or one that no difference holds; a part of a difference.
pub fn fit(expression: Expr, schema: &DFSchema, simplifier: &ExprSimplifier) -> Result<Expr> {
    let fitting = Fitting { schema, simplifier };
    expression.transform_up(|node| fitting.node(node)).data()
}

/// The coerced expression, if nothing is left in it that brings a difference and an interval together.
///
/// # Errors
/// A difference that is made an interval.
pub fn must_be_fitted(coerced: Expr, schema: &DFSchema) -> Result<Expr> {
    coerced.apply(|node| match node {
        Expr::Cast(cast)
            if matches!(cast.field.data_type(), DataType::Interval(_))
                && matches!(cast.expr.get_type(schema), Ok(DataType::Duration(_))) =>
        {
            plan_err!(
                "a difference of instants is compared with constant intervals only: write one comparison for each, or compare seconds, \
                 date_part('epoch', a) - date_part('epoch', b)"
            )
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(coerced)
}

struct Fitting<'s> {
    schema: &'s DFSchema,
    simplifier: &'s ExprSimplifier,
}

impl Fitting<'_> {
    fn node(&self, node: Expr) -> Result<Transformed<Expr>> {
        Ok(match node {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
                let (right, left) = self.beside(*right, *left)?;
                let (left, right) = self.beside(left, right)?;
                Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let (mut bounds, expr) = self.fit(vec![*low, *high], *expr)?;
                let (high, low) = (bounds.remove(1), bounds.remove(0));
                Transformed::yes(Expr::Between(Between::new(Box::new(expr), negated, Box::new(low), Box::new(high))))
            }
            Expr::InList(InList { expr, list, negated }) => {
                let (list, expr) = self.fit(list, *expr)?;
                Transformed::yes(Expr::InList(InList::new(Box::new(expr), list, negated)))
            }
            Expr::ScalarFunction(call) if call.name() == "date_part" && call.args.get(1).is_some_and(|of| self.unit_of(of).is_some()) => {
                return plan_err!(
                    "parts of a difference of instants are not exact: take the difference of parts, date_part('epoch', a) - date_part('epoch', b)"
                );
            }
            other => Transformed::no(other),
        })
    }

    fn beside(&self, constant: Expr, with: Expr) -> Result<(Expr, Expr)> {
        let (mut constants, with) = self.fit(vec![constant], with)?;
        Ok((constants.remove(0), with))
    }

    /// Constant intervals as differences, if that is what they are compared `with`; in its unit, or both in nanoseconds where that is too
    /// coarse.
    fn fit(&self, constants: Vec<Expr>, with: Expr) -> Result<(Vec<Expr>, Expr)> {
        let Some(unit) = self.unit_of(&with) else { return Ok((constants, with)) };
        let spans = constants.iter().map(|constant| self.span(constant)).collect::<Result<Option<Vec<_>>>>()?;
        let Some(spans) = spans else { return Ok((constants, with)) };
        let (unit, with) = match spans.iter().flatten().all(|span| span % nanoseconds(unit) == 0) {
            true => (unit, with),
            false => {
                let fine = DataType::Duration(TimeUnit::Nanosecond);
                (TimeUnit::Nanosecond, Expr::Cast(Cast::new(Box::new(with), fine)))
            }
        };
        let fitted = spans.into_iter().map(|span| Ok(Expr::Literal(difference(unit, span)?, None))).collect::<Result<_>>()?;
        Ok((fitted, with))
    }

    /// The unit of a difference of instants.
    fn unit_of(&self, expression: &Expr) -> Option<TimeUnit> {
        match expression.get_type(self.schema) {
            Ok(DataType::Duration(unit)) => Some(unit),
            _ => None,
        }
    }

    /// The nanoseconds of a constant interval, which may be null; `None` for anything else.
    fn span(&self, constant: &Expr) -> Result<Option<Option<i128>>> {
        if constant.any_column_refs() || !matches!(constant.get_type(self.schema), Ok(DataType::Interval(_))) {
            return Ok(None);
        }
        let coerced = self.simplifier.coerce(constant.clone(), self.schema)?;
        let Expr::Literal(value, _) = self.simplifier.simplify(coerced)? else { return Ok(None) };
        match value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano))? {
            ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months != 0 => {
                plan_err!("a month has no fixed length: compare a difference of instants with days, hours or less")
            }
            ScalarValue::IntervalMonthDayNano(interval) => {
                Ok(Some(interval.map(|interval| i128::from(interval.days) * DAY_NS + i128::from(interval.nanoseconds))))
            }
            _ => Ok(None),
        }
    }
}

fn nanoseconds(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn difference(unit: TimeUnit, span: Option<i128>) -> Result<ScalarValue> {
    let count = span.map(|span| i64::try_from(span / nanoseconds(unit))).transpose();
    let count = count.map_err(|_| plan_datafusion_err!("the interval is longer than any difference of instants"))?;
    Ok(match unit {
        TimeUnit::Second => ScalarValue::DurationSecond(count),
        TimeUnit::Millisecond => ScalarValue::DurationMillisecond(count),
        TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(count),
        TimeUnit::Nanosecond => ScalarValue::DurationNanosecond(count),
    })
}
