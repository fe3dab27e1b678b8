//! The audit's own SQL values: one row is a `Vec<Value>`, and equal values have equal canonical bytes.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A value of a column, a result or a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL's null.
    Null,
    /// A truth value.
    Bool(bool),
    /// A 32-bit integer.
    Int(i32),
    /// A 64-bit integer.
    Long(i64),
    /// A 32-bit float.
    Float(f32),
    /// A 64-bit float.
    Double(f64),
    /// A decimal: `unscaled / 10^scale`.
    Decimal {
        /// The digits.
        unscaled: i128,
        /// How many of them stand behind the point.
        scale: i8,
    },
    /// A decimal of more digits than SQL has: it is only passed on.
    WideDecimal {
        /// The digits, behind a sign where it is negative.
        unscaled: Arc<str>,
        /// How many of them stand behind the point.
        scale: i8,
    },
    /// Text.
    Text(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A UUID.
    Uuid([u8; 16]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Nanoseconds since 1970-01-01T00:00:00 (of UTC, or of the wall for types without zone); wide, so that nothing wraps.
    Timestamp(i128),
    /// A list.
    List(Vec<Value>),
    /// A record, in schema order.
    Record(Vec<(Arc<str>, Value)>),
    /// A map.
    Map(BTreeMap<Arc<str>, Value>),
}

impl Value {
    /// A text value.
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// A timestamp from microseconds since 1970.
    pub fn timestamp_us(us: i64) -> Self {
        Self::Timestamp(i128::from(us) * 1_000)
    }

    /// A timestamp from milliseconds since 1970.
    pub fn timestamp_ms(ms: i64) -> Self {
        Self::Timestamp(i128::from(ms) * 1_000_000)
    }

    /// Whether this is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether this is NaN or an infinity.
    pub fn is_non_finite(&self) -> bool {
        match self {
            Self::Float(number) => !number.is_finite(),
            Self::Double(number) => !number.is_finite(),
            _ => false,
        }
    }

    /// The length of a text or of bytes in bytes, of everything else 0.
    pub fn text_or_bytes_length(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// Appends bytes that are equal exactly when the values are: floats by their bits, integers of either width alike,
    /// decimals by their number, UUIDs as their text, records by field name.
    pub fn canonical(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Null => bytes.push(0),
            Self::Bool(value) => bytes.extend([1, u8::from(*value)]),
            Self::Int(number) => tagged(bytes, 2, &i64::from(*number).to_le_bytes()),
            Self::Long(number) => tagged(bytes, 2, &number.to_le_bytes()),
            Self::Float(number) => tagged(bytes, 3, &number.to_bits().to_le_bytes()),
            Self::Double(number) => tagged(bytes, 4, &number.to_bits().to_le_bytes()),
            Self::Decimal { unscaled, scale } => {
                let (unscaled, scale) = shortest(*unscaled, *scale);
                tagged(bytes, 5, &unscaled.to_le_bytes());
                bytes.push(scale as u8);
            }
            Self::WideDecimal { unscaled, scale } => {
                sized(bytes, 13, unscaled.as_bytes());
                bytes.push(*scale as u8);
            }
            Self::Text(text) => sized(bytes, 6, text.as_bytes()),
            Self::Bytes(value) => sized(bytes, 7, value),
            Self::Uuid(value) => sized(bytes, 6, uuid::Uuid::from_bytes(*value).to_string().as_bytes()),
            Self::Date(days) => tagged(bytes, 8, &days.to_le_bytes()),
            Self::Time(us) => tagged(bytes, 9, &us.to_le_bytes()),
            Self::Timestamp(ns) => tagged(bytes, 10, &ns.to_le_bytes()),
            Self::List(items) => {
                tagged(bytes, 11, &(items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.canonical(bytes));
            }
            Self::Record(fields) => canonical_fields(bytes, fields.iter().map(|(name, value)| (&**name, value)).collect()),
            Self::Map(entries) => canonical_fields(bytes, entries.iter().map(|(name, value)| (&**name, value)).collect()),
        }
    }

    /// SQL's order of two values of one type: floats in IEEE total order, but the two zeros equal; `None` when either is null
    /// or has no order.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => Some(left.cmp(right)),
            (Self::Int(left), Self::Int(right)) | (Self::Date(left), Self::Date(right)) => Some(left.cmp(right)),
            (Self::Long(left), Self::Long(right)) | (Self::Time(left), Self::Time(right)) => Some(left.cmp(right)),
            // Adding zero makes -0 a 0 and leaves everything else.
            (Self::Float(left), Self::Float(right)) => Some((left + 0.0).total_cmp(&(right + 0.0))),
            (Self::Double(left), Self::Double(right)) => Some((left + 0.0).total_cmp(&(right + 0.0))),
            (Self::Decimal { unscaled: left, scale: a }, Self::Decimal { unscaled: right, scale: b }) if a == b => Some(left.cmp(right)),
            (Self::Text(left), Self::Text(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
            (Self::Bytes(left), Self::Bytes(right)) => Some(left.cmp(right)),
            (Self::Uuid(left), Self::Uuid(right)) => Some(left.cmp(right)),
            (Self::Timestamp(left), Self::Timestamp(right)) => Some(left.cmp(right)),
            _ => None,
        }
    }

    /// The order in which extremes are looked for: as [`Value::compare`], but -0 before 0.
    pub fn rank(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Float(left), Self::Float(right)) => Some(left.total_cmp(right)),
            (Self::Double(left), Self::Double(right)) => Some(left.total_cmp(right)),
            _ => self.compare(other),
        }
    }
}

fn tagged(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(value);
}

fn sized(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    tagged(bytes, tag, &(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
}

fn canonical_fields(bytes: &mut Vec<u8>, mut fields: Vec<(&str, &Value)>) {
    fields.sort_by_key(|(name, _)| *name);
    tagged(bytes, 12, &(fields.len() as u64).to_le_bytes());
    for (name, value) in fields {
        sized(bytes, 6, name.as_bytes());
        value.canonical(bytes);
    }
}

fn shortest(mut unscaled: i128, mut scale: i8) -> (i128, i8) {
    while unscaled % 10 == 0 && unscaled != 0 && scale > i8::MIN {
        unscaled /= 10;
        scale -= 1;
    }
    (unscaled, if unscaled == 0 { 0 } else { scale })
}

/// A field name as Avro can hold it: the only form in which a column's name and an output's can be compared.
pub fn avro_name(name: &str) -> String {
    let mut legal: String = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    if legal.is_empty() || legal.starts_with(|first: char| first.is_ascii_digit()) {
        legal.insert(0, '_');
    }
    legal
}

/// The hash of a row: names (as Avro can hold them) and canonical values, in no particular order of columns.
pub fn row_hash<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>) -> u128 {
    let fields: Vec<(String, &Value)> = fields.map(|(name, value)| (avro_name(name), value)).collect();
    let mut bytes = Vec::with_capacity(32 * fields.len());
    canonical_fields(&mut bytes, fields.iter().map(|(name, value)| (name.as_str(), *value)).collect());
    fnv(&bytes)
}

/// FNV-1a of 128 bits: wide enough that a run's outputs do not collide by accident.
///
/// # Source
/// Fowler, Noll, Vo: <http://www.isthe.com/chongo/tech/comp/fnv/>
pub fn fnv(bytes: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::Long(number) => number.fmt(f),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Double(number) => write!(f, "{number:?}"),
            Self::Decimal { unscaled, scale } => f.write_str(&decimal_text(*unscaled, *scale)),
            Self::WideDecimal { unscaled, scale } => f.write_str(&with_point(unscaled, *scale)),
            Self::Text(text) => text.fmt(f),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Uuid(bytes) => uuid::Uuid::from_bytes(*bytes).fmt(f),
            Self::Date(days) => f.write_str(&super::time::date_text(*days)),
            Self::Time(us) => write!(f, "{us} µs"),
            Self::Timestamp(ns) => f.write_str(&super::time::timestamp_text(*ns)),
            Self::List(items) => f.debug_list().entries(items.iter().map(ToString::to_string)).finish(),
            Self::Record(fields) => f.debug_map().entries(fields.iter().map(|(name, value)| (name, value.to_string()))).finish(),
            Self::Map(entries) => f.debug_map().entries(entries.iter().map(|(name, value)| (name, value.to_string()))).finish(),
        }
    }
}

/// A decimal as text, such as `-0.01`.
pub fn decimal_text(unscaled: i128, scale: i8) -> String {
    with_point(&unscaled.to_string(), scale)
}

/// A whole number's digits with the point in its place.
pub fn with_point(unscaled: &str, scale: i8) -> String {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        value.canonical(&mut bytes);
        bytes
    }

    #[test]
    fn equal_numbers_of_either_width_and_scale_are_one_value() {
        assert_eq!(bytes(&Value::Int(7)), bytes(&Value::Long(7)));
        assert_eq!(bytes(&Value::Decimal { unscaled: 1250, scale: 2 }), bytes(&Value::Decimal { unscaled: 125, scale: 1 }));
        assert_ne!(bytes(&Value::Double(0.0)), bytes(&Value::Double(-0.0)));
        assert_ne!(bytes(&Value::Long(7)), bytes(&Value::Double(7.0)));
    }

    #[test]
    fn the_order_of_columns_does_not_matter_and_their_names_do() {
        let (one, two) = (Value::Int(1), Value::Int(2));

        assert_eq!(row_hash([("a-b", &one), ("c", &two)].into_iter()), row_hash([("c", &two), ("a_b", &one)].into_iter()));
        assert_ne!(row_hash([("a", &one), ("b", &two)].into_iter()), row_hash([("a", &two), ("b", &one)].into_iter()));
    }

    #[test]
    fn a_small_negative_decimal_keeps_its_zeros() {
        assert_eq!(decimal_text(-1, 2), "-0.01");
        assert_eq!(decimal_text(1250, 2), "12.50");
        assert_eq!(with_point("-87112285931760246646623899502532662132736", 40), "-8.7112285931760246646623899502532662132736");
    }
}
