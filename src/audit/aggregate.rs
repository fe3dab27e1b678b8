//! Aggregates folded record by record in offset order. Approximate aggregates are not recomputed.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use datafusion_sql::sqlparser::ast::{self, DuplicateTreatment, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments};

use super::cast::{Failed, cast, fits};
use super::eval::Expr;
use super::sql::{Column, Typed, Unaudited, argument_exprs, compile_parsed};
use super::sums::{Neumaier, Welford, Whole};
use super::types::{PRECISION_MAX, Type};
use super::value::Value;

/// An aggregate call.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// The type of its value.
    pub kind: Type,
    function: Function,
    argument: Option<(Expr, Type)>,
    filter: Option<Expr>,
    order: Vec<Order>,
    is_distinct: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    Variance { is_sample: bool, is_root: bool },
    BoolAnd,
    BoolOr,
    BitAnd,
    BitOr,
    BitXor,
    First,
    Last,
}

#[derive(Clone, Debug, PartialEq)]
struct Order {
    expr: Expr,
    kind: Type,
    is_descending: bool,
    nulls_first: bool,
}

/// What one record gives to one aggregate.
#[derive(Clone, Debug)]
pub struct Contribution {
    value: Value,
    order: Vec<Value>,
    is_taken: bool,
}

fn function_of(name: &str) -> Option<Function> {
    let variance = |is_sample, is_root| Some(Function::Variance { is_sample, is_root });
    match name {
        "count" => Some(Function::Count),
        "sum" => Some(Function::Sum),
        "avg" | "mean" => Some(Function::Avg),
        "min" => Some(Function::Min),
        "max" => Some(Function::Max),
        "var" | "var_samp" | "var_sample" => variance(true, false),
        "var_pop" | "var_population" => variance(false, false),
        "stddev" | "stddev_samp" => variance(true, true),
        "stddev_pop" => variance(false, true),
        "bool_and" => Some(Function::BoolAnd),
        "bool_or" => Some(Function::BoolOr),
        "bit_and" => Some(Function::BitAnd),
        "bit_or" => Some(Function::BitOr),
        "bit_xor" => Some(Function::BitXor),
        "first_value" => Some(Function::First),
        "last_value" => Some(Function::Last),
        _ => None,
    }
}

/// Whether `name` is an aggregate, recomputed here or not.
pub fn is_aggregate(name: &str) -> bool {
    const NOT_RECOMPUTED: [&str; 9] = [
        "approx_distinct",
        "approx_median",
        "approx_percentile_cont",
        "median",
        "array_agg",
        "string_agg",
        "corr",
        "nth_value",
        "any_value",
    ];
    function_of(name).is_some() || NOT_RECOMPUTED.contains(&name)
}

impl Aggregate {
    /// Compiles a call over the source's columns.
    ///
    /// # Errors
    /// [`Unaudited`] when the function, its argument's type or a clause is not known.
    pub fn compile(name: &str, call: &ast::Function, columns: &[Column]) -> Result<Self, Unaudited> {
        let unknown = || Unaudited(format!("aggregate {call}"));
        let function = function_of(name).ok_or_else(unknown)?;
        let FunctionArguments::List(list) = &call.args else {
            return Err(unknown());
        };
        if call.over.is_some() || call.null_treatment.is_some() || !call.within_group.is_empty() {
            return Err(unknown());
        }
        let argument = match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] if function == Function::Count => None,
            [_] => {
                let typed = compile_parsed(argument_exprs(call)?[0], columns)?;
                // `count(1)` counts rows as `count(*)` does.
                Some((typed.expr, typed.kind))
            }
            _ => return Err(unknown()),
        };
        let mut order = Vec::new();
        for clause in &list.clauses {
            let FunctionArgumentClause::OrderBy(columns_of_order) = clause else {
                return Err(unknown());
            };
            for by in columns_of_order {
                let is_descending = by.options.asc == Some(false);
                let Typed { expr, kind } = compile_parsed(&by.expr, columns)?;
                order.push(Order { expr, kind, is_descending, nulls_first: by.options.nulls_first.unwrap_or(is_descending) });
            }
        }
        let filter = call.filter.as_deref().map(|filter| Ok::<_, Unaudited>(compile_parsed(filter, columns)?.expr)).transpose()?;
        let kind = result_type(function, argument.as_ref().map(|(_, kind)| *kind)).ok_or_else(unknown)?;
        let is_distinct = matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct));
        Ok(Self { kind, function, argument, filter, order, is_distinct })
    }

    /// Whether another call is the same one, however both are spelled.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.function, self.is_distinct) == (other.function, other.is_distinct)
            && (&self.argument, &self.filter, &self.order) == (&other.argument, &other.filter, &other.order)
    }

    /// How many values of a text or bytes type a window keeps for it.
    pub fn kept(&self) -> usize {
        let kinds = self.argument.iter().map(|(_, kind)| *kind).chain(self.order.iter().map(|by| by.kind));
        if self.keeps_values() { kinds.filter(|kind| kind.is_text_or_bytes()).count() } else { 0 }
    }

    /// Bytes of the longest text or bytes value that a window would keep of a contribution.
    pub fn kept_bytes(&self, contribution: &Contribution) -> usize {
        let values = contribution.order.iter().chain([&contribution.value]);
        let longest = values.map(Value::text_or_bytes_length).max().unwrap_or(0);
        if self.keeps_values() && contribution.is_taken { longest } else { 0 }
    }

    fn keeps_values(&self) -> bool {
        matches!(self.function, Function::Min | Function::Max | Function::First | Function::Last)
    }

    /// What a record gives; evaluated before anything is folded, so that a failure leaves no trace.
    ///
    /// # Errors
    /// [`Failed`] when the argument, the filter or an order has no value on the record.
    pub fn contribution(&self, row: &[Value]) -> Result<Contribution, Failed> {
        let value = match &self.argument {
            None => Value::Bool(true),
            Some((expr, kind)) => self.widened(expr.eval(row)?, *kind)?,
        };
        let order = self.order.iter().map(|by| by.expr.eval(row)).collect::<Result<_, _>>()?;
        let is_taken = match &self.filter {
            Some(filter) => filter.is_met(row)?,
            None => true,
        };
        Ok(Contribution { value, order, is_taken })
    }

    /// The argument in the type that the function works in.
    fn widened(&self, value: Value, from: Type) -> Result<Value, Failed> {
        let to = match (self.function, from) {
            (Function::Sum, Type::Int) => Type::Long,
            (Function::Sum, Type::Float) => Type::Double,
            (Function::Avg, Type::Decimal(..)) => from,
            (Function::Avg | Function::Variance { .. }, _) => Type::Double,
            _ => from,
        };
        cast(value, from, to)
    }

    /// An empty fold.
    pub fn empty(&self) -> Fold {
        let state = match (self.function, self.kind) {
            (Function::Count, _) => State::Count(0),
            (Function::Sum, Type::Double) => State::Sum(Neumaier::default()),
            (Function::Sum, _) => State::Whole(Whole::default(), 0),
            (Function::Avg, Type::Double) => State::Mean(Neumaier::default(), 0),
            (Function::Avg, _) => State::Whole(Whole::default(), 0),
            (Function::Variance { .. }, _) => State::Variance(Welford::default()),
            (Function::First | Function::Last, _) => State::Ordered(None),
            _ => State::Number(Value::Null),
        };
        Fold { state, seen: self.is_distinct.then(BTreeSet::new) }
    }

    /// Folds a record's contribution in.
    pub fn fold(&self, fold: &mut Fold, contribution: Contribution) {
        if !contribution.is_taken {
            return;
        }
        let value = contribution.value;
        if let State::Ordered(held) = &mut fold.state {
            let is_better = held.as_ref().is_none_or(|(order, _)| {
                let wanted = if self.function == Function::First { Ordering::Less } else { Ordering::Greater };
                self.compare_orders(&contribution.order, order) == wanted
            });
            if is_better {
                *held = Some((contribution.order, value));
            }
            return;
        }
        if value.is_null() {
            return;
        }
        if let Some(seen) = &mut fold.seen {
            let mut bytes = Vec::new();
            value.canonical(&mut bytes);
            if !seen.insert(bytes) {
                return;
            }
        }
        match &mut fold.state {
            State::Count(count) => *count += 1,
            State::Sum(sum) => sum.add(as_double(&value)),
            State::Mean(sum, count) => {
                sum.add(as_double(&value));
                *count += 1;
            }
            State::Whole(sum, scale) => match value {
                Value::Long(number) => sum.add(i128::from(number)),
                Value::Decimal { unscaled, scale: of_value } => {
                    *scale = of_value;
                    sum.add(unscaled);
                }
                _ => {}
            },
            State::Variance(variance) => variance.add(as_double(&value)),
            State::Number(held) => *held = self.combined(std::mem::replace(held, Value::Null), value),
            State::Ordered(_) => {}
        }
    }

    fn combined(&self, held: Value, value: Value) -> Value {
        match (self.function, held, value) {
            (_, Value::Null, value) => value,
            (Function::BoolAnd, Value::Bool(held), Value::Bool(value)) => Value::Bool(held && value),
            (Function::BoolOr, Value::Bool(held), Value::Bool(value)) => Value::Bool(held || value),
            (Function::BitAnd | Function::BitOr | Function::BitXor, held, value) => self.bits(held, value),
            (Function::Min, held, value) => {
                if rank(&value, &held) == Ordering::Less {
                    value
                } else {
                    held
                }
            }
            (_, held, value) => {
                if rank(&value, &held) == Ordering::Greater {
                    value
                } else {
                    held
                }
            }
        }
    }

    fn bits(&self, held: Value, value: Value) -> Value {
        let combine = |held: i64, value: i64| match self.function {
            Function::BitAnd => held & value,
            Function::BitOr => held | value,
            _ => held ^ value,
        };
        match (held, value) {
            (Value::Int(held), Value::Int(value)) => Value::Int(combine(i64::from(held), i64::from(value)) as i32),
            (Value::Long(held), Value::Long(value)) => Value::Long(combine(held, value)),
            _ => Value::Null,
        }
    }

    fn compare_orders(&self, left: &[Value], right: &[Value]) -> Ordering {
        for ((by, left), right) in self.order.iter().zip(left).zip(right) {
            let order = match (left.is_null(), right.is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) => {
                    if by.nulls_first {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    }
                }
                (false, true) => {
                    if by.nulls_first {
                        Ordering::Greater
                    } else {
                        Ordering::Less
                    }
                }
                (false, false) => {
                    let order = left.rank(right).unwrap_or(Ordering::Equal);
                    if by.is_descending { order.reverse() } else { order }
                }
            };
            if order.is_ne() {
                return order;
            }
        }
        // Without an order, or with equals in it, the first record seen stays.
        Ordering::Equal
    }

    /// The aggregate's value.
    pub fn finish(&self, fold: &Fold) -> Value {
        match &fold.state {
            State::Count(count) => Value::Long(*count),
            State::Sum(sum) => {
                if sum.is_empty() {
                    Value::Null
                } else {
                    Value::Double(sum.total())
                }
            }
            State::Mean(_, 0) => Value::Null,
            State::Mean(sum, count) => Value::Double(sum.total() / *count as f64),
            // What its type does not hold is null.
            State::Whole(sum, scale) => match self.kind {
                Type::Long => sum.over(1, 1).and_then(|sum| i64::try_from(sum).ok()).map_or(Value::Null, Value::Long),
                Type::Decimal(precision, wider) => {
                    let finer = 10_u64.pow(u32::from((wider - scale).unsigned_abs()));
                    let divisor = if self.function == Function::Avg { sum.count() } else { 1 };
                    let unscaled = sum.over(finer, divisor).filter(|unscaled| fits(*unscaled, precision));
                    unscaled.map_or(Value::Null, |unscaled| Value::Decimal { unscaled, scale: wider })
                }
                _ => Value::Null,
            },
            State::Variance(variance) => match self.function {
                Function::Variance { is_sample, is_root } => variance.value(is_sample, is_root).map_or(Value::Null, Value::Double),
                _ => Value::Null,
            },
            State::Number(value) => value.clone(),
            State::Ordered(held) => held.as_ref().map_or(Value::Null, |(_, value)| value.clone()),
        }
    }
}

/// The order of minima and maxima: every NaN is one value above all numbers (C69).
fn rank(left: &Value, right: &Value) -> Ordering {
    let is_nan = |value: &Value| match value {
        Value::Float(number) => number.is_nan(),
        Value::Double(number) => number.is_nan(),
        _ => false,
    };
    match (is_nan(left), is_nan(right)) {
        (false, false) => left.rank(right).unwrap_or(Ordering::Equal),
        (left, right) => left.cmp(&right),
    }
}

fn result_type(function: Function, argument: Option<Type>) -> Option<Type> {
    match (function, argument) {
        (Function::Count, _) => Some(Type::Long),
        (Function::Sum, Some(Type::Int | Type::Long)) => Some(Type::Long),
        (Function::Sum, Some(Type::Float | Type::Double)) => Some(Type::Double),
        (Function::Sum, Some(Type::Decimal(precision, scale))) => Some(Type::Decimal((precision + 10).min(PRECISION_MAX), scale)),
        (Function::Avg, Some(Type::Decimal(precision, scale))) => {
            Some(Type::Decimal((precision + 4).min(PRECISION_MAX), (scale + 4).min(PRECISION_MAX as i8)))
        }
        (Function::Avg | Function::Variance { .. }, Some(kind)) if kind.is_numeric() => Some(Type::Double),
        (Function::BoolAnd | Function::BoolOr, Some(Type::Bool)) => Some(Type::Bool),
        (Function::BitAnd | Function::BitOr | Function::BitXor, Some(kind)) if kind.is_integer() => Some(kind),
        (Function::Min | Function::Max, Some(kind)) if !matches!(kind, Type::Nested | Type::Null) => Some(kind),
        (Function::First | Function::Last, Some(kind)) => Some(kind),
        _ => None,
    }
}

/// How far an aggregate has come in one window.
#[derive(Clone, Debug)]
pub struct Fold {
    state: State,
    seen: Option<BTreeSet<Vec<u8>>>,
}

#[derive(Clone, Debug)]
enum State {
    Count(i64),
    Sum(Neumaier),
    Mean(Neumaier, u64),
    /// Integers, or decimals of a scale.
    Whole(Whole, i8),
    Variance(Welford),
    Number(Value),
    Ordered(Option<(Vec<Value>, Value)>),
}

fn as_double(value: &Value) -> f64 {
    match value {
        Value::Double(number) => *number,
        // Arguments were widened before.
        _ => f64::NAN,
    }
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;
