//! The scalar functions that the audit knows, each written from its description. An unknown one makes its branch "not audited".

use std::cmp::Ordering;
use std::sync::Arc;

use super::cast::Failed;
use super::eval::{Comparison, Expr, compare};
use super::time::{self, Unit};
use super::types::{Type, common};
use super::value::Value;

/// A scalar function with what was decided about it at compile time.
#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    /// `abs`
    Abs,
    /// `ceil`
    Ceil,
    /// `floor`
    Floor,
    /// `round` to so many places
    Round(i32),
    /// `sqrt`
    Sqrt,
    /// `power`
    Power,
    /// `exp`
    Exp,
    /// `coalesce`
    Coalesce,
    /// `nullif`
    NullIf,
    /// `greatest`
    Greatest,
    /// `least`
    Least,
    /// `lower`
    Lower,
    /// `upper`
    Upper,
    /// `character_length`
    Length,
    /// `octet_length`
    OctetLength,
    /// `concat`, which skips nulls
    Concat,
    /// `||`, which does not
    Join,
    /// `substr`
    Substr,
    /// `btrim`, `ltrim`, `rtrim` of spaces: at the left, at the right
    Trim(bool, bool),
    /// `replace`
    Replace,
    /// `starts_with`
    StartsWith,
    /// `ends_with`
    EndsWith,
    /// `contains`
    Contains,
    /// `date_trunc` to a part, and whether it goes through 64 bits of nanoseconds: parts that calendars or zones change do
    DateTrunc(Arc<str>, bool),
    /// `date_part` of a part
    DatePart(Arc<str>),
    /// `date_part('epoch', …)` of an instant of this unit
    Epoch(Unit),
}

/// A function call after its name and argument types were looked at: what to cast the arguments to, and the result's type.
pub struct Call {
    /// The function.
    pub function: Function,
    /// The types its arguments are cast to.
    pub arguments: Vec<Type>,
    /// The type of its value.
    pub result: Type,
}

/// Finds a function; `literals` are the arguments' values where they are constants. `None`: not known, or not for these types.
pub fn resolve(name: &str, types: &[Type], literals: &[Option<&Value>]) -> Option<Call> {
    let call = |function, arguments: Vec<Type>, result| Some(Call { function, arguments, result });
    let text = |count: usize| {
        (types.len() == count && types.iter().all(|found| matches!(found, Type::Text | Type::Null))).then(|| vec![Type::Text; count])
    };
    match (name, types) {
        ("abs", [number]) if number.is_numeric() => call(Function::Abs, vec![*number], *number),
        ("ceil" | "floor", [number]) => {
            let float = float_of(*number)?;
            call(if name == "ceil" { Function::Ceil } else { Function::Floor }, vec![float], float)
        }
        ("round", [number]) => round(*number, 0, 1),
        ("round", [number, _]) => match literals[1]? {
            Value::Long(places) => round(*number, i32::try_from(*places).ok()?, 2),
            _ => None,
        },
        ("sqrt", [number]) => float_of(*number).and_then(|float| call(Function::Sqrt, vec![float], float)),
        ("exp", [number]) => float_of(*number).and_then(|float| call(Function::Exp, vec![float], float)),
        ("power" | "pow", [base, exponent]) if base.is_numeric() && exponent.is_numeric() => {
            call(Function::Power, vec![Type::Double; 2], Type::Double)
        }
        ("coalesce" | "greatest" | "least" | "nvl" | "ifnull", [first, rest @ ..]) => {
            let result = rest.iter().try_fold(*first, |left, right| common(left, *right))?;
            let function = match name {
                "greatest" => Function::Greatest,
                "least" => Function::Least,
                _ => Function::Coalesce,
            };
            call(function, vec![result; types.len()], result)
        }
        ("nullif", [left, right]) => common(*left, *right).and_then(|both| call(Function::NullIf, vec![both; 2], both)),
        ("lower", _) => text(1).and_then(|arguments| call(Function::Lower, arguments, Type::Text)),
        ("upper", _) => text(1).and_then(|arguments| call(Function::Upper, arguments, Type::Text)),
        ("length" | "char_length" | "character_length", _) => text(1).and_then(|arguments| call(Function::Length, arguments, Type::Int)),
        ("octet_length", _) => text(1).and_then(|arguments| call(Function::OctetLength, arguments, Type::Int)),
        ("concat", _) => text(types.len()).and_then(|arguments| call(Function::Concat, arguments, Type::Text)),
        ("||", _) => text(2).and_then(|arguments| call(Function::Join, arguments, Type::Text)),
        ("substr" | "substring", [Type::Text, rest @ ..]) if matches!(rest.len(), 1 | 2) && rest.iter().all(|found| found.is_integer()) => {
            let arguments = [Type::Text].into_iter().chain(rest.iter().map(|_| Type::Long)).collect();
            call(Function::Substr, arguments, Type::Text)
        }
        ("trim" | "btrim" | "ltrim" | "rtrim", _) => {
            text(1).and_then(|arguments| call(Function::Trim(name != "rtrim", name != "ltrim"), arguments, Type::Text))
        }
        ("replace", _) => text(3).and_then(|arguments| call(Function::Replace, arguments, Type::Text)),
        ("starts_with", _) => text(2).and_then(|arguments| call(Function::StartsWith, arguments, Type::Bool)),
        ("ends_with", _) => text(2).and_then(|arguments| call(Function::EndsWith, arguments, Type::Bool)),
        ("contains", _) => text(2).and_then(|arguments| call(Function::Contains, arguments, Type::Bool)),
        _ => resolve_date(name, types, literals),
    }
}

/// Functions of instants and their parts.
fn resolve_date(name: &str, types: &[Type], literals: &[Option<&Value>]) -> Option<Call> {
    let call = |function, arguments, result| Some(Call { function, arguments, result });
    match (name, types) {
        ("date_trunc" | "datetrunc", [Type::Text, instant]) => {
            let part = part_name(literals[0]?)?;
            let instant = instant_of(*instant)?;
            time::truncate(&part, 0)?;
            let is_plain = match part.as_str() {
                "microsecond" | "millisecond" | "second" | "minute" => true,
                "hour" | "day" => !matches!(instant, Type::Timestamp(_, true)),
                _ => false,
            };
            call(Function::DateTrunc(part.into(), !is_plain), vec![Type::Text, instant], instant)
        }
        ("date_part" | "datepart", [Type::Text, instant]) => {
            let part = part_name(literals[0]?)?;
            let instant = instant_of(*instant)?;
            if part == "epoch" {
                let Type::Timestamp(unit, _) = instant else { return None };
                return call(Function::Epoch(unit), vec![Type::Text, instant], Type::Double);
            }
            time::part(&part, 0)?;
            call(Function::DatePart(part.into()), vec![Type::Text, instant], Type::Int)
        }
        _ => None,
    }
}

fn float_of(number: Type) -> Option<Type> {
    match number {
        Type::Float => Some(Type::Float),
        Type::Double | Type::Int | Type::Long | Type::Null => Some(Type::Double),
        _ => None,
    }
}

fn round(number: Type, places: i32, arguments: usize) -> Option<Call> {
    let result = match number {
        Type::Float => Type::Float,
        Type::Double => Type::Double,
        // To tens and hundreds integers round in a way of their own.
        Type::Int | Type::Long if places >= 0 => number,
        _ => return None,
    };
    let arguments = [result, Type::Long].into_iter().take(arguments).collect();
    Some(Call { function: Function::Round(places), arguments, result })
}

fn instant_of(found: Type) -> Option<Type> {
    match found {
        // A zone other than UTC would move days; the audit casts to none.
        Type::Timestamp(..) => Some(found),
        Type::Date | Type::Text => Some(Type::Timestamp(Unit::Nano, false)),
        _ => None,
    }
}

fn part_name(literal: &Value) -> Option<String> {
    match literal {
        Value::Text(part) => {
            let part = part.trim_matches(['\'', '"']).to_lowercase();
            Some(part.strip_suffix('s').map_or(part.clone(), str::to_owned))
        }
        _ => None,
    }
}

impl Function {
    /// The function's value on a row.
    ///
    /// # Errors
    /// [`Failed`] when it has none: the square root of a negative number, an overflow.
    pub fn call(&self, arguments: &[Expr], row: &[Value]) -> Result<Value, Failed> {
        if *self == Self::Coalesce {
            for argument in arguments {
                let value = argument.eval(row)?;
                if !value.is_null() {
                    return Ok(value);
                }
            }
            return Ok(Value::Null);
        }
        let values: Vec<Value> = arguments.iter().map(|argument| argument.eval(row)).collect::<Result<_, _>>()?;
        match self {
            Self::Greatest => Ok(extreme(values, Ordering::Greater)),
            Self::Least => Ok(extreme(values, Ordering::Less)),
            Self::Concat => {
                let texts = values.iter().filter_map(|value| if let Value::Text(text) = value { Some(&**text) } else { None });
                Ok(Value::Text(texts.collect::<String>().into()))
            }
            Self::NullIf => match compare(Comparison::Equal, &values[0], &values[1]) {
                Value::Bool(true) => Ok(Value::Null),
                _ => Ok(values[0].clone()),
            },
            _ if values.iter().any(Value::is_null) => Ok(Value::Null),
            _ => self.on_values(&values),
        }
    }

    /// The strict functions: none of `values` is null.
    fn on_values(&self, values: &[Value]) -> Result<Value, Failed> {
        match (self, values) {
            (Self::Abs, [Value::Int(number)]) => number.checked_abs().map(Value::Int).ok_or_else(|| Failed("abs overflows".into())),
            (Self::Abs, [Value::Long(number)]) => number.checked_abs().map(Value::Long).ok_or_else(|| Failed("abs overflows".into())),
            (Self::Abs, [Value::Decimal { unscaled, scale }]) => Ok(Value::Decimal { unscaled: unscaled.wrapping_abs(), scale: *scale }),
            (Self::Round(_), [number @ (Value::Int(_) | Value::Long(_)), ..]) => Ok(number.clone()),
            (_, [Value::Float(number)]) | (Self::Round(_), [Value::Float(number), ..]) => self.on_float(*number).map(Value::Float),
            (_, [Value::Double(number)]) | (Self::Round(_), [Value::Double(number), ..]) => self.on_double(*number).map(Value::Double),
            (Self::Power, [Value::Double(base), Value::Double(exponent)]) => {
                if *base == 0.0 && *exponent < 0.0 {
                    return Err(Failed("zero raised to a negative power".into()));
                }
                Ok(Value::Double(base.powf(*exponent)))
            }
            (Self::DateTrunc(_, true), [_, Value::Timestamp(ns)]) if i64::try_from(*ns).is_err() => {
                Err(Failed("timestamp out of range".into()))
            }
            (Self::DateTrunc(part, _), [_, Value::Timestamp(ns)]) => {
                time::truncate(part, *ns).map(Value::Timestamp).ok_or_else(|| Failed("unknown part".into()))
            }
            (Self::DatePart(part), [_, Value::Timestamp(ns)]) => {
                time::part(part, *ns).map(Value::Int).ok_or_else(|| Failed("unknown part".into()))
            }
            // Whole units: all of an instant's nanoseconds have more digits than a double.
            (Self::Epoch(unit), [_, Value::Timestamp(ns)]) => {
                Ok(Value::Double(ns.div_euclid(unit.nanos()) as f64 / (Unit::Second.nanos() / unit.nanos()) as f64))
            }
            (Self::Substr, [_, _, Value::Long(count)]) if *count < 0 => Err(Failed("negative substring length".into())),
            (_, [Value::Text(text), rest @ ..]) => Ok(self.on_text(text, rest)),
            _ => Err(Failed(format!("{self:?} does not take these values"))),
        }
    }

    fn on_float(&self, number: f32) -> Result<f32, Failed> {
        match self {
            Self::Abs => Ok(number.abs()),
            Self::Ceil => Ok(number.ceil()),
            Self::Floor => Ok(number.floor()),
            Self::Exp => Ok(number.exp()),
            Self::Round(places) => {
                let factor = 10_f64.powi(*places) as f32;
                Ok((number * factor).round() / factor)
            }
            Self::Sqrt if number < 0.0 => Err(Failed("square root of a negative number".into())),
            _ => Ok(number.sqrt()),
        }
    }

    fn on_double(&self, number: f64) -> Result<f64, Failed> {
        match self {
            Self::Abs => Ok(number.abs()),
            Self::Ceil => Ok(number.ceil()),
            Self::Floor => Ok(number.floor()),
            Self::Exp => Ok(number.exp()),
            Self::Round(places) => {
                let factor = 10_f64.powi(*places);
                Ok((number * factor).round() / factor)
            }
            Self::Sqrt if number < 0.0 => Err(Failed("square root of a negative number".into())),
            _ => Ok(number.sqrt()),
        }
    }

    fn on_text(&self, text: &str, rest: &[Value]) -> Value {
        let other = |index: usize| match rest.get(index) {
            Some(Value::Text(text)) => &**text,
            _ => "",
        };
        match self {
            Self::Lower => Value::text(&text.to_lowercase()),
            Self::Upper => Value::text(&text.to_uppercase()),
            Self::Length => Value::Int(text.chars().count() as i32),
            Self::OctetLength => Value::Int(text.len() as i32),
            Self::Join => Value::Text([text, other(0)].concat().into()),
            Self::Substr => Value::text(&substr(text, rest)),
            Self::Trim(at_left, at_right) => {
                let text = if *at_left { text.trim_start_matches(' ') } else { text };
                Value::text(if *at_right { text.trim_end_matches(' ') } else { text })
            }
            Self::Replace => Value::text(&text.replace(other(0), other(1))),
            Self::StartsWith => Value::Bool(text.starts_with(other(0))),
            Self::EndsWith => Value::Bool(text.ends_with(other(0))),
            Self::Contains => Value::Bool(text.contains(other(0))),
            _ => Value::Null,
        }
    }
}

/// Letters from `start` (counted from 1; earlier ones do not exist), at most `count` counted from `start`.
fn substr(text: &str, rest: &[Value]) -> String {
    let number = |index: usize| match rest.get(index) {
        Some(Value::Long(number)) => Some(*number),
        _ => None,
    };
    let start = number(0).unwrap_or(1);
    let end = number(1).map_or(i64::MAX, |count| start.saturating_add(count.max(0)));
    (1..).zip(text.chars()).filter(|(at, _)| *at >= start && *at < end).map(|(_, letter)| letter).collect()
}

/// The value that stands `wanted` to all others; nulls do not take part.
fn extreme(values: Vec<Value>, wanted: Ordering) -> Value {
    values
        .into_iter()
        .filter(|value| !value.is_null())
        .reduce(|best, value| if value.rank(&best) == Some(wanted) { value } else { best })
        .unwrap_or(Value::Null)
}
