//! Evaluates a typed expression on one row: three-valued logic, Kleene's `AND` and `OR`, errors of the row.
//!
//! `AND` looks at its right side only where the left is not false, `OR` where the left is not true, `CASE` and `coalesce`
//! only as far as they must: an error in what is not looked at does not exist.

use std::cmp::Ordering;

use arrow::datatypes::i256;

use super::cast::{Failed, cast, fits};
use super::functions::Function;
use super::types::{Arithmetic, Type};
use super::value::Value;

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// An expression whose operands have the types that its operators need.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A constant.
    Literal(Value),
    /// A column of the row.
    Column(usize),
    /// A cast from one type to another.
    Cast(Box<Expr>, Type, Type),
    /// `NOT`
    Not(Box<Expr>),
    /// Unary minus.
    Negate(Box<Expr>),
    /// `AND`
    And(Box<Expr>, Box<Expr>),
    /// `OR`
    Or(Box<Expr>, Box<Expr>),
    /// A comparison of two values of one type.
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// `IS NOT DISTINCT FROM`
    Same(Box<Expr>, Box<Expr>),
    /// Arithmetic with the result's type.
    Arithmetic(Arithmetic, Type, Box<Expr>, Box<Expr>),
    /// A timestamp and so many nanoseconds.
    Shift(Box<Expr>, i128),
    /// `IS NULL`
    IsNull(Box<Expr>),
    /// `IS TRUE`, `IS FALSE`
    IsBool(Box<Expr>, bool),
    /// `IN (…)`
    In(Box<Expr>, Vec<Expr>),
    /// `LIKE`, with whether letters' case counts.
    Like(Box<Expr>, Box<Expr>, bool),
    /// `CASE WHEN … THEN … ELSE … END`
    Case(Vec<(Expr, Expr)>, Box<Expr>),
    /// A function call.
    Call(Function, Vec<Expr>),
}

impl Expr {
    /// Whether it names no column.
    pub fn is_constant(&self) -> bool {
        match self {
            Self::Literal(_) => true,
            Self::Column(_) => false,
            Self::Cast(of, ..) | Self::Not(of) | Self::Negate(of) | Self::Shift(of, _) | Self::IsNull(of) | Self::IsBool(of, _) => {
                of.is_constant()
            }
            Self::And(left, right)
            | Self::Or(left, right)
            | Self::Compare(_, left, right)
            | Self::Same(left, right)
            | Self::Arithmetic(_, _, left, right)
            | Self::Like(left, right, _) => left.is_constant() && right.is_constant(),
            Self::In(of, list) => of.is_constant() && list.iter().all(Self::is_constant),
            Self::Case(whens, otherwise) => {
                otherwise.is_constant() && whens.iter().all(|(when, then)| when.is_constant() && then.is_constant())
            }
            Self::Call(_, arguments) => arguments.iter().all(Self::is_constant),
        }
    }

    /// The value on `row`.
    ///
    /// # Errors
    /// [`Failed`] when the expression has no value there: a division by zero, a cast that does not fit.
    pub fn eval(&self, row: &[Value]) -> Result<Value, Failed> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Column(column) => Ok(row[*column].clone()),
            Self::Cast(inner, from, to) => cast(inner.eval(row)?, *from, *to),
            Self::Not(inner) => Ok(truth(inner.eval(row)?).map_or(Value::Null, |value| Value::Bool(!value))),
            Self::Negate(inner) => negate(inner.eval(row)?),
            Self::And(left, right) => kleene(left, right, row, false),
            Self::Or(left, right) => kleene(left, right, row, true),
            Self::Compare(comparison, left, right) => Ok(compare(*comparison, &left.eval(row)?, &right.eval(row)?)),
            Self::Same(left, right) => {
                let (left, right) = (left.eval(row)?, right.eval(row)?);
                let is_same = left.is_null() && right.is_null() || left.compare(&right) == Some(Ordering::Equal);
                Ok(Value::Bool(is_same))
            }
            Self::Arithmetic(operator, result, left, right) => arithmetic(*operator, *result, left.eval(row)?, right.eval(row)?),
            Self::Shift(inner, ns) => Ok(match inner.eval(row)? {
                Value::Timestamp(instant) => Value::Timestamp(instant + ns),
                _ => Value::Null,
            }),
            Self::IsNull(inner) => Ok(Value::Bool(inner.eval(row)?.is_null())),
            Self::IsBool(inner, wanted) => Ok(Value::Bool(truth(inner.eval(row)?) == Some(*wanted))),
            Self::In(inner, list) => is_in(&inner.eval(row)?, list, row),
            Self::Like(inner, pattern, is_case_sensitive) => match (inner.eval(row)?, pattern.eval(row)?) {
                (Value::Text(text), Value::Text(pattern)) => Ok(Value::Bool(like(&text, &pattern, *is_case_sensitive))),
                _ => Ok(Value::Null),
            },
            Self::Case(whens, otherwise) => {
                for (condition, result) in whens {
                    if truth(condition.eval(row)?) == Some(true) {
                        return result.eval(row);
                    }
                }
                otherwise.eval(row)
            }
            Self::Call(function, arguments) => function.call(arguments, row),
        }
    }

    /// Whether a condition is met on `row`; null is not.
    ///
    /// # Errors
    /// As [`Expr::eval`].
    pub fn is_met(&self, row: &[Value]) -> Result<bool, Failed> {
        Ok(truth(self.eval(row)?) == Some(true))
    }
}

fn truth(value: Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(value),
        _ => None,
    }
}

/// `OR` for `decisive = true`, `AND` for `decisive = false`.
fn kleene(left: &Expr, right: &Expr, row: &[Value], decisive: bool) -> Result<Value, Failed> {
    let left = truth(left.eval(row)?);
    if left == Some(decisive) {
        return Ok(Value::Bool(decisive));
    }
    let right = truth(right.eval(row)?);
    Ok(match (left, right) {
        (_, Some(right)) if right == decisive => Value::Bool(decisive),
        (Some(_), Some(_)) => Value::Bool(!decisive),
        _ => Value::Null,
    })
}

/// The truth of a comparison, null when either side is.
pub fn compare(comparison: Comparison, left: &Value, right: &Value) -> Value {
    let Some(order) = left.compare(right) else { return Value::Null };
    Value::Bool(match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

fn is_in(value: &Value, list: &[Expr], row: &[Value]) -> Result<Value, Failed> {
    let mut has_null = value.is_null();
    for item in list {
        match compare(Comparison::Equal, value, &item.eval(row)?) {
            Value::Bool(true) => return Ok(Value::Bool(true)),
            Value::Null => has_null = true,
            _ => {}
        }
    }
    Ok(if has_null { Value::Null } else { Value::Bool(false) })
}

fn negate(value: Value) -> Result<Value, Failed> {
    let overflow = || Failed("arithmetic overflow".into());
    Ok(match value {
        Value::Int(number) => Value::Int(number.checked_neg().ok_or_else(overflow)?),
        Value::Long(number) => Value::Long(number.checked_neg().ok_or_else(overflow)?),
        Value::Float(number) => Value::Float(-number),
        Value::Double(number) => Value::Double(-number),
        Value::Decimal { unscaled, scale } => Value::Decimal { unscaled: unscaled.checked_neg().ok_or_else(overflow)?, scale },
        _ => Value::Null,
    })
}

/// Arithmetic on two values of the operand types: integers neither leave their type's range nor divide by zero.
fn arithmetic(operator: Arithmetic, result: Type, left: Value, right: Value) -> Result<Value, Failed> {
    use Arithmetic::{Add, Divide, Multiply, Remainder, Subtract};
    let zero = || Failed("divide by zero".into());
    let overflow = || Failed("arithmetic overflow".into());
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => Ok(Value::Int(match operator {
            Add => a.checked_add(b).ok_or_else(overflow)?,
            Subtract => a.checked_sub(b).ok_or_else(overflow)?,
            Multiply => a.checked_mul(b).ok_or_else(overflow)?,
            Divide | Remainder if b == 0 => return Err(zero()),
            Divide => a.checked_div(b).ok_or_else(overflow)?,
            Remainder => a.wrapping_rem(b),
        })),
        (Value::Long(a), Value::Long(b)) => Ok(Value::Long(match operator {
            Add => a.checked_add(b).ok_or_else(overflow)?,
            Subtract => a.checked_sub(b).ok_or_else(overflow)?,
            Multiply => a.checked_mul(b).ok_or_else(overflow)?,
            Divide | Remainder if b == 0 => return Err(zero()),
            Divide => a.checked_div(b).ok_or_else(overflow)?,
            Remainder => a.wrapping_rem(b),
        })),
        (Value::Float(a), Value::Float(b)) => Ok(Value::Float(match operator {
            Add => a + b,
            Subtract => a - b,
            Multiply => a * b,
            Divide => a / b,
            Remainder => a % b,
        })),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(match operator {
            Add => a + b,
            Subtract => a - b,
            Multiply => a * b,
            Divide => a / b,
            Remainder => a % b,
        })),
        (Value::Decimal { unscaled: a, scale: s1 }, Value::Decimal { unscaled: b, scale: s2 }) => {
            let Type::Decimal(_, scale) = result else { return Err(overflow()) };
            if b == 0 && matches!(operator, Divide | Remainder) {
                return Err(zero());
            }
            let unscaled = decimals(operator, (a, s1), (b, s2), scale).ok_or_else(overflow)?;
            Ok(Value::Decimal { unscaled, scale })
        }
        _ => Ok(Value::Null),
    }
}

/// Decimal arithmetic; a quotient is cut towards zero. `None` when 128 bits do not hold it.
fn decimals(operator: Arithmetic, (a, s1): (i128, i8), (b, s2): (i128, i8), scale: i8) -> Option<i128> {
    let power = |exponent: i8| 10_i128.checked_pow(u32::from(exponent.unsigned_abs()));
    match operator {
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide => {
            // The dividend may have more digits than the quotient; where that is cut, it has as many as 128 bits hold.
            let more = scale - s1 + s2;
            if scale - s1 < 4 {
                let (a, b) = if more >= 0 { (a.checked_mul(power(more)?)?, b) } else { (a, b.checked_mul(power(more)?)?) };
                return a.checked_div(b).filter(|unscaled| fits(*unscaled, super::types::PRECISION_MAX));
            }
            let factor = i256::from_i128(10).checked_pow(u32::from(more.unsigned_abs()))?;
            i256::from_i128(a).checked_mul(factor)?.checked_div(i256::from_i128(b))?.to_i128()
        }
        _ => {
            let (a, b) = (a.checked_mul(power(scale - s1)?)?, b.checked_mul(power(scale - s2)?)?);
            match operator {
                Arithmetic::Add => a.checked_add(b),
                Arithmetic::Subtract => a.checked_sub(b),
                _ => a.checked_rem(b),
            }
        }
    }
    .filter(|unscaled| fits(*unscaled, super::types::PRECISION_MAX))
}

/// SQL's `LIKE`: `%` any letters, `_` one letter, `\` before a letter that means itself.
fn like(text: &str, pattern: &str, is_case_sensitive: bool) -> bool {
    let fold = |text: &str| if is_case_sensitive { text.to_owned() } else { text.to_lowercase() };
    let text: Vec<char> = fold(text).chars().collect();
    let pattern: Vec<char> = fold(pattern).chars().collect();
    // reached[t]: the pattern so far can end before letter t.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut letters = pattern.into_iter();
    while let Some(letter) = letters.next() {
        let mut next = vec![false; text.len() + 1];
        if letter == '%' {
            let mut is_open = false;
            for (at, slot) in next.iter_mut().enumerate() {
                is_open |= reached[at];
                *slot = is_open;
            }
        } else {
            let (wanted, is_any) = match letter {
                '_' => ('_', true),
                '\\' => (letters.next().unwrap_or('\\'), false),
                other => (other, false),
            };
            for at in 0..text.len() {
                next[at + 1] = reached[at] && (is_any || text[at] == wanted);
            }
        }
        reached = next;
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_sql() {
        for (text, pattern, expected) in [
            ("tortoise_1", "tortoise%", true),
            ("tortoise_1", "%\\_1", true),
            ("tortoiseX1", "%\\_1", false),
            ("abc", "a_c", true),
            ("abc", "A_C", false),
            ("", "%", true),
            ("aXbXc", "a%X%c", true),
        ] {
            assert_eq!(like(text, pattern, true), expected, "{text} like {pattern}");
        }
        assert!(like("ABC", "a_c", false));
    }
}
