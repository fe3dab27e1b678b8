//! Fits constants to the columns that they are compared with, where DataFusion would change the column instead.
//!
//! - A `real` column against `20.1`: DataFusion widens both to double, and the float 20.1 is then larger than the double 20.1. The
//!   constant is made a float (C75). So are those inside of `coalesce(temperature, 0.0)`, `greatest` and `CASE` where these are compared
//!   with constants.
//! - A decimal column against `8.2`: DataFusion gives both 15 digits behind the point, and of `8.2` the double's; 8.20 is larger than
//!   that. The constant is made the decimal that was written (C79), also in `coalesce(amount, 8.2)`, `CASE` and whatever else comes to one
//!   of several values.
//! - A timestamp column against a text or a date: DataFusion turns both into nanoseconds, which end in 2262; a column in milliseconds can
//!   hold the year 9999. The constant is made a timestamp of microseconds (C39). One that lies between two of the column's units is put
//!   to the side of it that the comparison asks for: DataFusion would cut it off, and so take the unit before for equal.
//! - A cast to a timestamp, such as `AT TIME ZONE` makes, keeps the column's unit, for the same reason.
//!
//! A constant is whatever names no column, such as `20 + 0.1`: it is computed first. One that cannot be computed is left as it is: what
//! fails may stand where no record gets to.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::{InList, ScalarFunction};
use datafusion_expr::{Between, BinaryExpr, Case, Cast, Expr, ExprSchemable, Operator};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;

use super::{arithmetic, decimals};

/// The expression with its constants fitted.
pub fn fit(expression: Expr, schema: &DFSchema, simplifier: &ExprSimplifier) -> Result<Expr> {
    let fitting = Fitting { schema, simplifier };
    expression.transform_up(|node| Ok(fitting.node(node))).data()
}

struct Fitting<'s> {
    schema: &'s DFSchema,
    simplifier: &'s ExprSimplifier,
}

impl Fitting<'_> {
    fn node(&self, node: Expr) -> Transformed<Expr> {
        match node {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => Transformed::yes(self.compare(*left, op, *right)),
            Expr::Between(between) => Transformed::yes(self.between(between)),
            Expr::InList(list) => Transformed::yes(self.in_list(list)),
            Expr::Case(case) => Transformed::yes(Expr::Case(self.case(case))),
            Expr::ScalarFunction(call) if is_one_of_its_arguments(&call) => Transformed::yes(self.call(call)),
            Expr::Cast(cast) => match (self.type_of(&cast.expr), cast.field.data_type()) {
                (Some(DataType::Timestamp(unit, _)), DataType::Timestamp(TimeUnit::Nanosecond, zone)) if unit != TimeUnit::Nanosecond => {
                    let to = DataType::Timestamp(unit, zone.clone());
                    Transformed::yes(Expr::Cast(Cast::new(cast.expr, to)))
                }
                _ => Transformed::no(Expr::Cast(cast)),
            },
            other => Transformed::no(other),
        }
    }

    fn between(&self, Between { expr, negated, low, high }: Between) -> Expr {
        let expr = self.narrow(*expr, is_constant(&low) && is_constant(&high));
        let to = self.type_of(&expr);
        let (low, high) = (self.fit_to(*low, &to), self.fit_to(*high, &to));
        if [&low, &high].into_iter().all(|bound| unit_before(bound, &to).is_none()) {
            return Expr::Between(Between::new(Box::new(expr), negated, Box::new(low), Box::new(high)));
        }
        let is_from_low = self.compare(expr.clone(), Operator::GtEq, low);
        let is_within = is_from_low.and(self.compare(expr, Operator::LtEq, high));
        if negated { !is_within } else { is_within }
    }

    fn in_list(&self, InList { expr, list, negated }: InList) -> Expr {
        let expr = self.narrow(*expr, list.iter().all(is_constant));
        let to = self.type_of(&expr);
        let list = list.into_iter().map(|item| self.fit_to(item, &to));
        // No value of the column equals what lies between two of its units: of those one is enough, and only where nothing else is left.
        let (mut between, list): (Vec<_>, Vec<_>) = list.partition(|item| unit_before(item, &to).is_some());
        match between.pop().filter(|_| list.is_empty()) {
            Some(item) => self.compare(expr, if negated { Operator::NotEq } else { Operator::Eq }, item),
            None => Expr::InList(InList::new(Box::new(expr), list, negated)),
        }
    }

    /// `left op right` with constants fitted to the other side.
    fn compare(&self, left: Expr, op: Operator, right: Expr) -> Expr {
        let left = self.narrow(left, is_constant(&right));
        let right = self.narrow(right, is_constant(&left));
        let (of_left, of_right) = (self.type_of(&left), self.type_of(&right));
        let (left, right) = (self.fit_to(left, &of_right), self.fit_to(right, &of_left));
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

    /// What a value of the type `to` is compared with in a `CASE`; null, which matches nothing, for what lies between two of its units.
    fn fit_when(&self, when: Expr, to: &Option<DataType>) -> Expr {
        let fitted = self.fit_to(when, to);
        match unit_before(&fitted, to) {
            Some(_) => Expr::Literal(ScalarValue::Null, None),
            None => fitted,
        }
    }

    fn case(&self, case: Case) -> Case {
        let results = self.beside_decimals(results(&case));
        let Case { expr, when_then_expr, else_expr } = with_results(case, results);
        let Some(of) = expr else { return Case::new(None, when_then_expr, else_expr) };
        let of = self.narrow(*of, when_then_expr.iter().all(|(when, _)| is_constant(when)));
        let to = self.type_of(&of);
        let fitted = when_then_expr.into_iter().map(|(when, then)| (Box::new(self.fit_when(*when, &to)), then));
        Case::new(Some(Box::new(of)), fitted.collect(), else_expr)
    }

    /// Of `nullif(temperature, 20.1)` the constant is rounded to a float, and the call is a double as before.
    fn call(&self, mut call: ScalarFunction) -> Expr {
        call.args = self.beside_decimals(call.args);
        if call.name() == "nullif"
            && let [of, unwanted] = call.args.as_mut_slice()
            && self.type_of(of) == Some(DataType::Float32)
            && self.type_of(unwanted) == Some(DataType::Float64)
            && is_constant(unwanted)
        {
            *unwanted = cast(self.fit_to(unwanted.clone(), &Some(DataType::Float32)), DataType::Float64);
        }
        Expr::ScalarFunction(call)
    }

    /// Values of which one is taken, with the constants among them as written, if one is a decimal.
    fn beside_decimals(&self, values: Vec<Expr>) -> Vec<Expr> {
        let types = values.iter().filter(|value| !is_constant(value)).map(|value| self.type_of(value));
        let decimal = types.flatten().find(|of| matches!(of, DataType::Decimal128(..)));
        match decimal {
            None => values,
            decimal => values.into_iter().map(|value| self.fit_to(value, &decimal)).collect(),
        }
    }

    /// A call or `CASE` over a `real` column and constants, made `real` where it is compared with constants.
    fn narrow(&self, value: Expr, is_against_constants: bool) -> Expr {
        match value {
            Expr::ScalarFunction(call) if is_against_constants && is_one_of_its_arguments(&call) => match self.made_real(&call.args) {
                Some(args) => Expr::ScalarFunction(ScalarFunction::new_udf(call.func, args)),
                None => Expr::ScalarFunction(call),
            },
            Expr::Case(case) if is_against_constants => match self.made_real(&results(&case)) {
                Some(results) => Expr::Case(with_results(case, results)),
                None => Expr::Case(case),
            },
            other => other,
        }
    }

    /// These with their constants made `real`, if one of them has a column and all are `real` then.
    fn made_real(&self, values: &[Expr]) -> Option<Vec<Expr>> {
        let real = Some(DataType::Float32);
        let fitted: Vec<Expr> = values.iter().map(|value| self.fit_to(self.narrow(value.clone(), true), &real)).collect();
        let is_real = fitted.iter().all(|value| is_null(value) || self.type_of(value) == real);
        (is_real && values.iter().any(Expr::any_column_refs)).then_some(fitted)
    }

    /// The type, if it can be told before coercion. That of a `CASE` cannot: it would be its first result's, whatever the others are.
    fn type_of(&self, expression: &Expr) -> Option<DataType> {
        match expression {
            Expr::Case(_) => self.simplifier.coerce(expression.clone(), self.schema).ok()?.get_type(self.schema).ok(),
            other => other.get_type(self.schema).ok(),
        }
    }

    fn fit_to(&self, operand: Expr, to: &Option<DataType>) -> Expr {
        match to {
            Some(DataType::Float32) => match self.computed(operand) {
                Expr::Literal(ScalarValue::Float64(Some(value)), meta) => Expr::Literal(ScalarValue::Float32(Some(value as f32)), meta),
                other => other,
            },
            Some(DataType::Decimal128(precision, scale)) => {
                let is_as_written = matches!(operand, Expr::Literal(..));
                match self.computed(operand) {
                    Expr::Literal(ScalarValue::Float64(Some(value)), meta) => {
                        let fitted = decimals::constant(value, is_as_written, *precision, *scale);
                        Expr::Literal(fitted.unwrap_or(ScalarValue::Float64(Some(value))), meta)
                    }
                    other => other,
                }
            }
            Some(DataType::Timestamp(unit, zone)) if *unit != TimeUnit::Nanosecond => self.fit_moment(operand, zone),
            _ => operand,
        }
    }

    /// A constant moment as a timestamp of at most microseconds, if its text has no zone then of the given one.
    fn fit_moment(&self, operand: Expr, zone: &Option<Arc<str>>) -> Expr {
        // Not through nanoseconds: they may not hold it.
        if let Expr::Cast(Cast { expr, field }) = &operand
            && let (Expr::Literal(ScalarValue::Utf8(Some(_)), _), DataType::Timestamp(TimeUnit::Nanosecond, own)) =
                (&**expr, field.data_type())
        {
            return cast((**expr).clone(), micros(own));
        }
        let constant = self.computed(operand);
        match &constant {
            Expr::Literal(ScalarValue::Utf8(Some(_)) | ScalarValue::Date32(_), _) => cast(constant, micros(zone)),
            Expr::Literal(moment @ ScalarValue::TimestampNanosecond(Some(_), own), _) => match moment.cast_to(&micros(own)) {
                Ok(moment) => Expr::Literal(moment, None),
                Err(_) => constant,
            },
            _ => constant,
        }
    }

    /// The value of what names no column, if it has one.
    fn computed(&self, operand: Expr) -> Expr {
        if matches!(operand, Expr::Literal(..)) || !is_constant(&operand) {
            return operand;
        }
        let coerced = self.simplifier.coerce(operand.clone(), self.schema).and_then(arithmetic::fold_constants);
        match coerced.and_then(|coerced| self.simplifier.simplify(coerced)) {
            Ok(value @ Expr::Literal(..)) => value,
            _ => operand,
        }
    }
}

/// The last moment of the type `of` before a fitted constant, where that lies between two of them.
fn unit_before(constant: &Expr, of: &Option<DataType>) -> Option<ScalarValue> {
    let Some(DataType::Timestamp(unit, zone)) = of else { return None };
    let moment = match constant {
        Expr::Literal(moment, _) => moment.clone(),
        Expr::Cast(Cast { expr, field }) => match &**expr {
            Expr::Literal(text @ ScalarValue::Utf8(_), _) => text.cast_to(field.data_type()).ok()?,
            _ => return None,
        },
        _ => return None,
    };
    if !matches!(moment.data_type(), DataType::Timestamp(..)) {
        return None;
    }
    let ScalarValue::TimestampMicrosecond(Some(moment), _) = moment.cast_to(&micros(zone)).ok()? else { return None };
    let before = |micros| (moment.rem_euclid(micros) != 0).then(|| moment.div_euclid(micros));
    match unit {
        TimeUnit::Second => before(1_000_000).map(|before| ScalarValue::TimestampSecond(Some(before), zone.clone())),
        TimeUnit::Millisecond => before(1_000).map(|before| ScalarValue::TimestampMillisecond(Some(before), zone.clone())),
        TimeUnit::Microsecond | TimeUnit::Nanosecond => None,
    }
}

/// Whether a call comes to one of its arguments.
fn is_one_of_its_arguments(call: &ScalarFunction) -> bool {
    matches!(call.name(), "coalesce" | "nvl" | "nullif" | "greatest" | "least")
}

/// What a `CASE` may come to, in the order of its branches.
fn results(case: &Case) -> Vec<Expr> {
    let of_branches = case.when_then_expr.iter().map(|(_, then)| then);
    of_branches.chain(&case.else_expr).map(|result| (**result).clone()).collect()
}

fn with_results(mut case: Case, results: Vec<Expr>) -> Case {
    let places = case.when_then_expr.iter_mut().map(|(_, then)| then).chain(&mut case.else_expr);
    places.zip(results).for_each(|(place, result)| **place = result);
    case
}

fn is_null(expression: &Expr) -> bool {
    matches!(expression, Expr::Literal(value, _) if value.is_null())
}

fn is_constant(expression: &Expr) -> bool {
    !expression.any_column_refs()
}

/// Whether two values are compared.
pub fn is_comparison(op: Operator) -> bool {
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

fn micros(zone: &Option<Arc<str>>) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
}

fn cast(expression: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expression), to))
}
