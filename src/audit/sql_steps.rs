//! The small steps of compiling: names, literals, casts, and the type in which two sides meet.

use datafusion_sql::sqlparser::ast::{self, DataType, ExactNumberInfo, Ident, TimezoneInfo};

use super::eval::{Comparison, Expr};
use super::functions;
use super::sql::{Column, Typed, Unaudited};
use super::time::{self, Unit};
use super::types::{self, PRECISION_MAX, Type};
use super::value::Value;
use super::{cast, digits};

pub(super) fn unknown(expr: &ast::Expr) -> Unaudited {
    Unaudited(format!("expression {expr}"))
}

pub(super) fn boolean(expr: Expr) -> Typed {
    Typed { expr, kind: Type::Bool }
}

pub(super) fn not(expr: Expr) -> Typed {
    boolean(Expr::Not(Box::new(expr)))
}

pub(super) fn must_be_condition(expr: &ast::Expr, typed: Typed) -> Result<Expr, Unaudited> {
    match typed.kind {
        Type::Bool | Type::Null => Ok(typed.expr),
        other => Err(Unaudited(format!("{expr} is {other:?} where a condition is needed"))),
    }
}

pub(super) fn text_literal(text: &str) -> Typed {
    Typed { expr: Expr::Literal(Value::text(text)), kind: Type::Text }
}

/// Columns are named exactly, quoted or not.
pub(super) fn column(name: &Ident, columns: &[Column]) -> Result<Typed, Unaudited> {
    let index = columns.iter().position(|column| column.name == name.value).ok_or_else(|| Unaudited(format!("column {name}")))?;
    Ok(Typed { expr: Expr::Column(index), kind: columns[index].kind })
}

pub(super) fn literal(value: &ast::Value) -> Result<Typed, Unaudited> {
    match value {
        ast::Value::Number(digits, _) => number(digits),
        ast::Value::SingleQuotedString(text) => Ok(text_literal(text)),
        ast::Value::Boolean(value) => Ok(boolean(Expr::Literal(Value::Bool(*value)))),
        ast::Value::Null => Ok(Typed { expr: Expr::Literal(Value::Null), kind: Type::Null }),
        other => Err(Unaudited(format!("literal {other}"))),
    }
}

/// A whole number is a 64-bit integer, anything else with digits a 64-bit float.
pub(super) fn number(digits: &str) -> Result<Typed, Unaudited> {
    if let Ok(number) = digits.parse() {
        return Ok(Typed { expr: Expr::Literal(Value::Long(number)), kind: Type::Long });
    }
    match digits.parse() {
        Ok(number) if !digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Typed { expr: Expr::Literal(Value::Double(number)), kind: Type::Double })
        }
        _ => Err(Unaudited(format!("number {digits}"))),
    }
}

/// Casts `typed` to `kind`; constants at once.
pub(super) fn convert(typed: Typed, kind: Type) -> Result<Typed, Unaudited> {
    if typed.kind == kind {
        return Ok(typed);
    }
    if !cast::is_known(typed.kind, kind) {
        return Err(Unaudited(format!("cast of {:?} to {kind:?}", typed.kind)));
    }
    // A constant text that was cast to nanoseconds, which end in 2262, goes straight to the unit that is wanted (C39).
    if let (Expr::Cast(inner, Type::Text, Type::Timestamp(..)), Type::Timestamp(..)) = (&typed.expr, kind)
        && let Expr::Literal(_) = **inner
    {
        let text = Typed { expr: (**inner).clone(), kind: Type::Text };
        return convert(text, kind);
    }
    if let Expr::Literal(value) = &typed.expr
        && let Ok(value) = cast::cast(value.clone(), typed.kind, kind)
    {
        return Ok(Typed { expr: Expr::Literal(value), kind });
    }
    Ok(Typed { expr: Expr::Cast(Box::new(typed.expr), typed.kind, kind), kind })
}

/// A cast of a timestamp to nanoseconds keeps its unit: nanoseconds end in 2262 (C39).
pub(super) fn in_own_unit(instant: &Typed, to: Type) -> Type {
    match (instant.kind, to) {
        (Type::Timestamp(unit, _), Type::Timestamp(Unit::Nano, zone)) => Type::Timestamp(unit, zone),
        _ => to,
    }
}

/// The type in which two sides are compared.
///
/// A constant gives way: a 32-bit column meets `20.1` in 32 bits (C75), and a timestamp column meets a text or a date in
/// microseconds at the finest, unless it is finer itself (C39).
pub(super) fn meet(left: &Typed, right: &Typed) -> Result<Type, Unaudited> {
    let is_constant = |typed: &Typed| typed.expr.is_constant();
    let instant = |unit: Unit, zone| Ok(Type::Timestamp(unit.max(Unit::Micro), zone));
    match (left.kind, right.kind) {
        (Type::Float, Type::Double) if is_constant(right) => Ok(Type::Float),
        (Type::Double, Type::Float) if is_constant(left) => Ok(Type::Float),
        (Type::Timestamp(unit, zone), Type::Text | Type::Date | Type::Timestamp(Unit::Nano, _)) if is_constant(right) => {
            instant(unit, zone)
        }
        (Type::Text | Type::Date | Type::Timestamp(Unit::Nano, _), Type::Timestamp(unit, zone)) if is_constant(left) => instant(unit, zone),
        (left, right) => types::comparable(left, right).ok_or_else(|| Unaudited(format!("comparison of {left:?} and {right:?}"))),
    }
}

/// A constant with a point that meets a decimal is the decimal that was written, not the double next to it (C79).
pub(super) fn exact(constant: Typed, to_meet: Type) -> Typed {
    let (Type::Decimal(precision, scale), Type::Double, true) = (to_meet, constant.kind, constant.expr.is_constant()) else {
        return constant;
    };
    let is_as_written = matches!(constant.expr, Expr::Literal(_));
    let Ok(Value::Double(number)) = constant.expr.eval(&[]) else { return constant };
    let Some((unscaled, own)) = digits::of_double(number, is_as_written) else { return constant };
    // As many digits before and behind the point as either has; where those are too many, both are compared as before.
    let whole = |unscaled: i128, scale: i8| unscaled.unsigned_abs().to_string().len() as i8 - scale;
    let before = (precision as i8 - scale).max(if unscaled == 0 { 0 } else { whole(unscaled, own) });
    match before + scale.max(own) {
        digits if digits <= PRECISION_MAX as i8 => {
            Typed { expr: Expr::Literal(Value::Decimal { unscaled, scale: own }), kind: Type::Decimal((before + own) as u8, own) }
        }
        _ => constant,
    }
}

pub(super) fn align(left: Typed, right: Typed) -> Result<(Expr, Expr), Unaudited> {
    let (of_left, of_right) = (left.kind, right.kind);
    let (left, right) = (exact(left, of_right), exact(right, of_left));
    let kind = meet(&left, &right)?;
    Ok((convert(left, kind)?.expr, convert(right, kind)?.expr))
}

pub(super) fn compare(comparison: Comparison, left: Typed, right: Typed) -> Result<Expr, Unaudited> {
    let (left, right) = align(left, right)?;
    Ok(Expr::Compare(comparison, Box::new(left), Box::new(right)))
}

/// Values of which one is taken: where one of them is a decimal, the constants are as written.
pub(super) fn beside_decimals(values: Vec<Typed>) -> Vec<Typed> {
    let is_decimal = |value: &&Typed| matches!(value.kind, Type::Decimal(..)) && !value.expr.is_constant();
    match values.iter().find(is_decimal).map(|decimal| decimal.kind) {
        Some(decimal) => values.into_iter().map(|value| exact(value, decimal)).collect(),
        None => values,
    }
}

/// Whether a call comes to one of its arguments.
pub(super) fn is_one_of_its_arguments(name: &str) -> bool {
    matches!(name, "coalesce" | "nvl" | "ifnull" | "nullif" | "greatest" | "least")
}

pub(super) fn call(name: &str, arguments: Vec<Typed>) -> Result<Typed, Unaudited> {
    let arguments = if is_one_of_its_arguments(name) { beside_decimals(arguments) } else { arguments };
    let kinds: Vec<Type> = arguments.iter().map(|argument| argument.kind).collect();
    let literals: Vec<Option<&Value>> =
        arguments.iter().map(|argument| if let Expr::Literal(value) = &argument.expr { Some(value) } else { None }).collect();
    let found = functions::resolve(name, &kinds, &literals).ok_or_else(|| Unaudited(format!("function {name} of {kinds:?}")))?;
    let converted = arguments
        .into_iter()
        .zip(found.arguments)
        .map(|(argument, kind)| Ok(convert(argument, kind)?.expr))
        .collect::<Result<_, Unaudited>>()?;
    Ok(Typed { expr: Expr::Call(found.function, converted), kind: found.result })
}

/// `to_timestamp` takes seconds and gives nanoseconds; the others take and give what their name says.
pub(super) fn to_timestamp(name: &str, argument: Typed) -> Result<Typed, Unaudited> {
    let (taken, given) = match name {
        "to_timestamp_seconds" => (Unit::Second, Unit::Second),
        "to_timestamp_millis" => (Unit::Milli, Unit::Milli),
        "to_timestamp_micros" => (Unit::Micro, Unit::Micro),
        "to_timestamp_nanos" => (Unit::Nano, Unit::Nano),
        _ => (Unit::Second, Unit::Nano),
    };
    let result = Type::Timestamp(given, true);
    match argument.kind {
        Type::Int | Type::Long => convert(convert(argument, Type::Timestamp(taken, true))?, result),
        Type::Text | Type::Timestamp(..) | Type::Null => convert(argument, result),
        other => Err(Unaudited(format!("{name} of {other:?}"))),
    }
}

pub(super) fn sql_type(data_type: &DataType) -> Result<Type, Unaudited> {
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => Type::Bool,
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => Type::Int,
        DataType::BigInt(_) | DataType::Int8(_) => Type::Long,
        DataType::Float(_) | DataType::Real | DataType::Float4 => Type::Float,
        DataType::Double(ExactNumberInfo::None) | DataType::DoublePrecision | DataType::Float8 => Type::Double,
        DataType::Varchar(None) | DataType::Char(None) | DataType::Text | DataType::String(_) => Type::Text,
        DataType::Date => Type::Date,
        DataType::Decimal(ExactNumberInfo::PrecisionAndScale(precision, scale))
        | DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale)) => {
            match (u8::try_from(*precision), i8::try_from(*scale)) {
                (Ok(precision @ 1..=types::PRECISION_MAX), Ok(scale)) => Type::Decimal(precision, scale),
                _ => return Err(Unaudited(format!("type {data_type}"))),
            }
        }
        DataType::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => match precision {
            Some(0) => Type::Timestamp(Unit::Second, false),
            Some(3) => Type::Timestamp(Unit::Milli, false),
            Some(6) => Type::Timestamp(Unit::Micro, false),
            None | Some(9) => Type::Timestamp(Unit::Nano, false),
            _ => return Err(Unaudited(format!("type {data_type}"))),
        },
        other => return Err(Unaudited(format!("type {other}"))),
    })
}

/// An interval of fixed length: weeks down to nanoseconds, not months.
pub(super) fn interval_ns(interval: &ast::Interval) -> Result<i128, Unaudited> {
    let unknown = || Unaudited(format!("{interval}"));
    let text = match &*interval.value {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) | ast::Value::Number(text, _) => text.clone(),
            _ => return Err(unknown()),
        },
        _ => return Err(unknown()),
    };
    let text = match &interval.leading_field {
        Some(field) => format!("{text} {field}"),
        None => text,
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut ns = 0;
    for pair in words.chunks(2) {
        let [amount, unit] = pair else { return Err(unknown()) };
        let amount: i128 = amount.parse().map_err(|_| unknown())?;
        ns += amount
            * match unit.to_lowercase().trim_end_matches('s') {
                "week" => 7 * time::DAY,
                "day" => time::DAY,
                "hour" => 3600 * time::SECOND,
                "minute" => 60 * time::SECOND,
                "second" => time::SECOND,
                "millisecond" => 1_000_000,
                "microsecond" => 1_000,
                _ => return Err(unknown()),
            };
    }
    Ok(ns)
}
