//! Types of expressions, and what two of them become when an operator brings them together.
//!
//! The rules are DataFusion's, written down again from their description: the audit must give `count(*) / 60` the integer
//! that the engine gives, and must not learn it from the engine.

use super::time::Unit;

/// The type of a column or expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Of the literal `NULL`.
    Null,
    /// Truth values.
    Bool,
    /// 32-bit integers.
    Int,
    /// 64-bit integers.
    Long,
    /// 32-bit floats.
    Float,
    /// 64-bit floats.
    Double,
    /// Decimals of a precision and a scale.
    Decimal(u8, i8),
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// UUIDs.
    Uuid,
    /// Dates.
    Date,
    /// Times of day.
    Time,
    /// Timestamps of a resolution, with or without zone.
    Timestamp(Unit, bool),
    /// Lists, records, maps: they can be passed on and compared with null, nothing else.
    Nested,
}

/// The widest decimal.
pub const PRECISION_MAX: u8 = 38;

impl Type {
    /// Whether this is a number's type.
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Int | Self::Long | Self::Float | Self::Double | Self::Decimal(..))
    }

    /// Whether this is an integer's type.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Int | Self::Long)
    }

    /// Whether this is the type of texts or of bytes.
    pub fn is_text_or_bytes(self) -> bool {
        matches!(self, Self::Text | Self::Bytes)
    }

    /// The decimal type that holds any number of this type in a comparison.
    fn as_decimal(self) -> Option<(u8, i8)> {
        match self {
            Self::Int => Some((10, 0)),
            Self::Long => Some((20, 0)),
            Self::Float => Some((14, 7)),
            Self::Double => Some((30, 15)),
            Self::Decimal(precision, scale) => Some((precision, scale)),
            _ => None,
        }
    }
}

/// The common type for `=`, `<`, `CASE`, `coalesce`; `None` when there is none that the audit knows.
pub fn common(left: Type, right: Type) -> Option<Type> {
    match (left, right) {
        (left, right) if left == right => Some(left),
        (Type::Null, other) | (other, Type::Null) => Some(other),
        (left, right) if left.is_numeric() && right.is_numeric() => numbers_common(left, right),
        (Type::Timestamp(a, zone_a), Type::Timestamp(b, zone_b)) => Some(Type::Timestamp(a.max(b), zone_a || zone_b)),
        (Type::Timestamp(_, _), Type::Date) | (Type::Date, Type::Timestamp(_, _)) => Some(Type::Timestamp(Unit::Nano, false)),
        _ => None,
    }
}

/// The common type of a comparison, where text stands back behind numbers and times.
pub fn comparable(left: Type, right: Type) -> Option<Type> {
    common(left, right).or(match (left, right) {
        (Type::Text, Type::Timestamp(_, zone)) | (Type::Timestamp(_, zone), Type::Text) => Some(Type::Timestamp(Unit::Nano, zone)),
        (Type::Text, Type::Date) | (Type::Date, Type::Text) => Some(Type::Date),
        (Type::Text, number) | (number, Type::Text) if number.is_numeric() => Some(number),
        _ => None,
    })
}

fn numbers_common(left: Type, right: Type) -> Option<Type> {
    if matches!(left, Type::Decimal(..)) || matches!(right, Type::Decimal(..)) {
        let ((p1, s1), (p2, s2)) = (left.as_decimal()?, right.as_decimal()?);
        let scale = s1.max(s2);
        let whole = (p1 as i8 - s1).max(p2 as i8 - s2);
        return Some(Type::Decimal(((whole + scale) as u8).min(PRECISION_MAX), scale));
    }
    Some(match (left, right) {
        (Type::Double, _) | (_, Type::Double) => Type::Double,
        (Type::Float, _) | (_, Type::Float) => Type::Float,
        (Type::Long, _) | (_, Type::Long) => Type::Long,
        _ => Type::Int,
    })
}

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// What the operands of an arithmetic operator are cast to, and the result's type.
pub fn arithmetic(operator: Arithmetic, left: Type, right: Type) -> Option<(Type, Type, Type)> {
    let (left, right) = match (left, right) {
        (Type::Null, Type::Null) => (Type::Long, Type::Long),
        (Type::Null, other) | (other, Type::Null) => (other, other),
        both => both,
    };
    let has_decimal = matches!(left, Type::Decimal(..)) || matches!(right, Type::Decimal(..));
    let has_float = matches!(left, Type::Float | Type::Double) || matches!(right, Type::Float | Type::Double);
    if has_decimal && !has_float {
        let ((p1, s1), (p2, s2)) = (left.as_decimal()?, right.as_decimal()?);
        let result = decimal_result(operator, (p1, s1), (p2, s2))?;
        return Some((Type::Decimal(p1, s1), Type::Decimal(p2, s2), result));
    }
    if !left.is_numeric() || !right.is_numeric() {
        return None;
    }
    let common = match (left, right) {
        (Type::Double, _) | (_, Type::Double) => Type::Double,
        (Type::Float, _) | (_, Type::Float) => Type::Float,
        (Type::Long, _) | (_, Type::Long) => Type::Long,
        _ => Type::Int,
    };
    Some((common, common, common))
}

/// The decimal that arrow's arithmetic gives; `None` where it refuses.
fn decimal_result(operator: Arithmetic, (p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> Option<Type> {
    let (precision, scale) = match operator {
        Arithmetic::Add | Arithmetic::Subtract => {
            let scale = s1.max(s2);
            (i16::from(scale) + (i16::from(p1) - i16::from(s1)).max(i16::from(p2) - i16::from(s2)) + 1, scale)
        }
        Arithmetic::Multiply => (i16::from(p1) + i16::from(p2) + 1, s1.checked_add(s2).filter(|scale| *scale <= PRECISION_MAX as i8)?),
        Arithmetic::Divide => {
            let scale = s1.saturating_add(4).min(PRECISION_MAX as i8);
            let more = i16::from(scale) - i16::from(s1) + i16::from(s2);
            (i16::from(p1) + more, scale)
        }
        Arithmetic::Remainder => {
            let scale = s1.max(s2);
            (i16::from(scale) + (i16::from(p1) - i16::from(s1)).min(i16::from(p2) - i16::from(s2)), scale)
        }
    };
    Some(Type::Decimal(precision.clamp(1, i16::from(PRECISION_MAX)) as u8, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_divide_as_integers_and_a_float_literal_makes_floats() {
        assert_eq!(arithmetic(Arithmetic::Divide, Type::Long, Type::Long), Some((Type::Long, Type::Long, Type::Long)), "C73");
        assert_eq!(arithmetic(Arithmetic::Divide, Type::Long, Type::Double), Some((Type::Double, Type::Double, Type::Double)), "C73");
    }

    #[test]
    fn decimals_meet_floats_as_decimals_in_comparisons_and_as_floats_in_arithmetic() {
        assert_eq!(common(Type::Decimal(8, 2), Type::Double), Some(Type::Decimal(30, 15)));
        assert_eq!(arithmetic(Arithmetic::Add, Type::Decimal(8, 2), Type::Double), Some((Type::Double, Type::Double, Type::Double)));
        assert_eq!(common(Type::Bool, Type::Int), None);
    }
}
