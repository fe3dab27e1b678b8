//! A datum as its reader wants it: schema resolution from the specification, into the audit's own values.
//!
//! # Source
//! Avro 1.12 specification, "Schema Resolution".

use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, RecordField, RecordSchema, UuidSchema};
use serde_json::Value as Json;

use super::cast::fits;
use super::datum::{Datum, Shape};
use super::time::Unit;
use super::types::{PRECISION_MAX, Type};
use super::value::Value;

/// A value without counterpart in the reader schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no counterpart in the reader schema: {0}")]
pub struct Unresolvable(pub String);

fn unresolvable<T>(why: impl Into<String>) -> Result<T, Unresolvable> {
    Err(Unresolvable(why.into()))
}

/// Resolves a datum of `writer` to `reader`'s top-level fields, in the reader's order.
///
/// # Errors
/// [`Unresolvable`] when a value has no counterpart.
pub fn resolve_record(datum: &Datum, writer: &Shape, reader: &Shape) -> Result<Vec<(Arc<str>, Value)>, Unresolvable> {
    let pair = Pair { writer, reader };
    match pair.resolve(datum, &writer.root, &reader.root)? {
        Value::Record(fields) => Ok(fields),
        _ => unresolvable("the reader schema is not a record"),
    }
}

/// A datum in its own shape: what an output says.
///
/// # Errors
/// [`Unresolvable`] when the schema is not a record.
pub fn record_as_written(datum: &Datum, shape: &Shape) -> Result<Vec<(Arc<str>, Value)>, Unresolvable> {
    resolve_record(datum, shape, shape)
}

/// The type of a column that holds `schema`'s values.
pub fn column_type(shape: &Shape, schema: &Schema) -> Type {
    match shape.resolve(schema) {
        Schema::Null => Type::Null,
        Schema::Boolean => Type::Bool,
        Schema::Int => Type::Int,
        Schema::Long => Type::Long,
        Schema::Float => Type::Float,
        Schema::Double => Type::Double,
        Schema::Bytes | Schema::Fixed(_) => Type::Bytes,
        Schema::String | Schema::Enum(_) | Schema::Uuid(_) => Type::Text,
        Schema::Decimal(decimal) if decimal.precision <= usize::from(PRECISION_MAX) => {
            Type::Decimal(decimal.precision as u8, decimal.scale as i8)
        }
        Schema::Date => Type::Date,
        Schema::TimeMillis | Schema::TimeMicros => Type::Time,
        Schema::TimestampMillis => Type::Timestamp(Unit::Milli, true),
        Schema::TimestampMicros => Type::Timestamp(Unit::Micro, true),
        Schema::TimestampNanos => Type::Timestamp(Unit::Nano, true),
        Schema::LocalTimestampMillis => Type::Timestamp(Unit::Milli, false),
        Schema::LocalTimestampMicros => Type::Timestamp(Unit::Micro, false),
        Schema::LocalTimestampNanos => Type::Timestamp(Unit::Nano, false),
        Schema::Union(union) => {
            let mut others = union.variants().iter().filter(|branch| !matches!(branch, Schema::Null));
            match (others.next(), others.next()) {
                (Some(only), None) => column_type(shape, only),
                _ => Type::Nested,
            }
        }
        _ => Type::Nested,
    }
}

#[derive(Clone, Copy)]
struct Pair<'s> {
    writer: &'s Shape,
    reader: &'s Shape,
}

impl<'s> Pair<'s> {
    fn resolve(self, datum: &Datum, writer: &'s Schema, reader: &'s Schema) -> Result<Value, Unresolvable> {
        let (writer, reader) = (self.writer.resolve(writer), self.reader.resolve(reader));
        if let (Datum::Union(index, inner), Schema::Union(union)) = (datum, writer) {
            return self.resolve(inner, &union.variants()[*index], reader);
        }
        if let Schema::Union(union) = reader {
            let branches = || union.variants().iter().map(|branch| self.reader.resolve(branch));
            let branch =
                branches().find(|branch| is_same(writer, branch)).or_else(|| branches().find(|branch| is_promotable(writer, branch)));
            return match branch {
                Some(branch) => self.resolve(datum, writer, branch),
                None => unresolvable("the reader's union has no such branch"),
            };
        }
        if has_other_meaning(writer, reader) {
            return unresolvable("of another logical type");
        }
        match (datum, reader) {
            (Datum::Null, Schema::Null) => Ok(Value::Null),
            (Datum::Bool(value), Schema::Boolean) => Ok(Value::Bool(*value)),
            (Datum::Int(number), _) => from_int(*number, reader),
            (Datum::Long(number), _) => from_long(*number, reader),
            (Datum::Float(number), Schema::Float) => Ok(Value::Float(*number)),
            (Datum::Float(number), Schema::Double) => Ok(Value::Double(f64::from(*number))),
            (Datum::Double(number), Schema::Double) => Ok(Value::Double(*number)),
            (Datum::Bytes(bytes), _) => from_bytes(bytes, reader),
            (Datum::Text(text), _) => from_text(text, reader),
            (Datum::Enum(index), Schema::Enum(symbols)) => {
                let Schema::Enum(written) = writer else {
                    return unresolvable("not an enum");
                };
                let symbol = &written.symbols[*index];
                match symbols.symbols.contains(symbol).then_some(symbol).or(symbols.default.as_ref()) {
                    Some(symbol) => Ok(Value::text(symbol)),
                    None => unresolvable(format!("symbol {symbol}")),
                }
            }
            (Datum::Array(items), Schema::Array(array)) => {
                let Schema::Array(written) = writer else {
                    return unresolvable("not an array");
                };
                Ok(Value::List(items.iter().map(|item| self.resolve(item, &written.items, &array.items)).collect::<Result<_, _>>()?))
            }
            (Datum::Map(entries), Schema::Map(map)) => {
                let Schema::Map(written) = writer else {
                    return unresolvable("not a map");
                };
                let entries =
                    entries.iter().map(|(key, value)| Ok((key.as_str().into(), self.resolve(value, &written.types, &map.types)?)));
                Ok(Value::Map(entries.collect::<Result<_, Unresolvable>>()?))
            }
            (Datum::Record(values), Schema::Record(record)) => {
                let Schema::Record(written) = writer else {
                    return unresolvable("not a record");
                };
                self.resolve_fields(values, written, record)
            }
            _ => unresolvable("of another type"),
        }
    }

    fn resolve_fields(self, values: &[Datum], writer: &'s RecordSchema, reader: &'s RecordSchema) -> Result<Value, Unresolvable> {
        let mut fields = Vec::with_capacity(reader.fields.len());
        for field in &reader.fields {
            let by_name = writer.fields.iter().position(|written| written.name == field.name);
            let found = by_name.or_else(|| writer.fields.iter().position(|written| field.aliases.contains(&written.name)));
            let value = match (found, &field.default) {
                (Some(index), _) => self.resolve(&values[index], &writer.fields[index].schema, &field.schema)?,
                (None, Some(default)) => self.default(default, &field.schema)?,
                (None, None) => return unresolvable(format!("field {} is not written and has no default", field.name)),
            };
            fields.push((field.name.as_str().into(), value));
        }
        Ok(Value::Record(fields))
    }

    /// A default from the reader schema; in a union it belongs to the first branch that can hold it.
    fn default(self, json: &Json, schema: &'s Schema) -> Result<Value, Unresolvable> {
        let schema = self.reader.resolve(schema);
        match (json, schema) {
            (_, Schema::Union(union)) => {
                let found = union.variants().iter().find_map(|branch| self.default(json, branch).ok());
                found.ok_or_else(|| Unresolvable(format!("default {json} fits no branch")))
            }
            (Json::Null, Schema::Null) => Ok(Value::Null),
            (Json::Bool(value), Schema::Boolean) => Ok(Value::Bool(*value)),
            (Json::Number(number), Schema::Float) => {
                number.as_f64().map(|number| Value::Float(number as f32)).ok_or_else(|| Unresolvable(json.to_string()))
            }
            (Json::Number(number), Schema::Double) => number.as_f64().map(Value::Double).ok_or_else(|| Unresolvable(json.to_string())),
            (Json::Number(number), _) => match number.as_i64() {
                Some(number) => {
                    from_long(number, schema).or_else(|error| i32::try_from(number).map_or(Err(error), |number| from_int(number, schema)))
                }
                None => unresolvable(json.to_string()),
            },
            (Json::String(text), Schema::String | Schema::Uuid(UuidSchema::String)) => from_text(text, schema),
            (Json::String(symbol), Schema::Enum(_)) => Ok(Value::text(symbol)),
            (Json::String(text), Schema::Bytes | Schema::Fixed(_) | Schema::Decimal(_) | Schema::Uuid(_)) => {
                // Code points up to FF stand for bytes (C05).
                let bytes: Result<Vec<u8>, _> = text.chars().map(|letter| u8::try_from(u32::from(letter))).collect();
                from_bytes(&bytes.map_err(|_| Unresolvable(json.to_string()))?, schema)
            }
            (Json::Array(items), Schema::Array(array)) => {
                Ok(Value::List(items.iter().map(|item| self.default(item, &array.items)).collect::<Result<_, _>>()?))
            }
            (Json::Object(entries), Schema::Map(map)) => {
                let entries = entries.iter().map(|(key, value)| Ok((key.as_str().into(), self.default(value, &map.types)?)));
                Ok(Value::Map(entries.collect::<Result<_, Unresolvable>>()?))
            }
            (Json::Object(given), Schema::Record(record)) => {
                let fields = record.fields.iter().map(|field| {
                    let json = given.get(&field.name).or(field.default.as_ref()).ok_or_else(|| Unresolvable(field.name.clone()))?;
                    Ok((field.name.as_str().into(), self.default(json, &field.schema)?))
                });
                Ok(Value::Record(fields.collect::<Result<_, Unresolvable>>()?))
            }
            _ => unresolvable(format!("default {json}")),
        }
    }
}

fn from_int(number: i32, reader: &Schema) -> Result<Value, Unresolvable> {
    match reader {
        Schema::Int => Ok(Value::Int(number)),
        Schema::Date => Ok(Value::Date(number)),
        Schema::TimeMillis => Ok(Value::Time(i64::from(number) * 1_000)),
        Schema::Float => Ok(Value::Float(number as f32)),
        Schema::Double => Ok(Value::Double(f64::from(number))),
        _ => from_long(i64::from(number), reader),
    }
}

fn from_long(number: i64, reader: &Schema) -> Result<Value, Unresolvable> {
    match reader {
        Schema::Long => Ok(Value::Long(number)),
        Schema::Float => Ok(Value::Float(number as f32)),
        Schema::Double => Ok(Value::Double(number as f64)),
        Schema::TimeMicros => Ok(Value::Time(number)),
        Schema::TimestampMillis | Schema::LocalTimestampMillis => Ok(Value::timestamp_ms(number)),
        Schema::TimestampMicros | Schema::LocalTimestampMicros => Ok(Value::timestamp_us(number)),
        Schema::TimestampNanos | Schema::LocalTimestampNanos => Ok(Value::Timestamp(i128::from(number))),
        _ => unresolvable("a number where none is read"),
    }
}

fn from_text(text: &str, reader: &Schema) -> Result<Value, Unresolvable> {
    match reader {
        Schema::String => Ok(Value::text(text)),
        Schema::Uuid(_) => match uuid::Uuid::parse_str(text) {
            Ok(uuid) => Ok(Value::text(&uuid.to_string())),
            Err(error) => unresolvable(error.to_string()),
        },
        Schema::Bytes => Ok(Value::Bytes(text.as_bytes().into())),
        _ => unresolvable("text where none is read"),
    }
}

fn from_bytes(bytes: &[u8], reader: &Schema) -> Result<Value, Unresolvable> {
    match reader {
        Schema::Bytes => Ok(Value::Bytes(bytes.into())),
        Schema::Fixed(fixed) if fixed.size == bytes.len() => Ok(Value::Bytes(bytes.into())),
        Schema::String => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::text(text)),
            Err(error) => unresolvable(error.to_string()),
        },
        Schema::Uuid(_) => match uuid::Uuid::from_slice(bytes) {
            Ok(uuid) => Ok(Value::text(&uuid.to_string())),
            Err(error) => unresolvable(error.to_string()),
        },
        Schema::Decimal(decimal) => match signed(bytes) {
            Some(unscaled) if fits(unscaled, decimal.precision.min(usize::from(PRECISION_MAX)) as u8) => {
                Ok(Value::Decimal { unscaled, scale: decimal.scale as i8 })
            }
            _ => unresolvable("a decimal that does not fit"),
        },
        _ => unresolvable("bytes where none are read"),
    }
}

/// Big-endian two's complement of any length; `None` when it needs more than 128 bits.
fn signed(bytes: &[u8]) -> Option<i128> {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let sign = if is_negative { 0xff } else { 0 };
    let mut digits = bytes;
    while digits.len() > 16 {
        digits = digits.strip_prefix(&[sign])?;
    }
    let mut wide = [sign; 16];
    wide[16 - digits.len()..].copy_from_slice(digits);
    let number = i128::from_be_bytes(wide);
    ((number < 0) == is_negative).then_some(number)
}

/// Whether two schemas are of one type, named ones by unqualified name or the reader's alias (C19).
pub fn is_same(writer: &Schema, reader: &Schema) -> bool {
    // Formats without names for types have theirs made up.
    let is_unnamed = writer.custom_attributes().is_some_and(|attributes| attributes.contains_key("unnamed"));
    let named = || match (writer.name(), reader.name()) {
        _ if is_unnamed => true,
        (Some(written), Some(wanted)) => {
            written.name() == wanted.name() || reader.aliases().into_iter().flatten().any(|alias| alias.name() == written.name())
        }
        _ => true,
    };
    match (base(writer), base(reader)) {
        (Base::Other, Base::Other) => false,
        (left, right) => left == right && named(),
    }
}

/// Whether the writer's numbers, text or bytes widen to the reader's.
pub fn is_promotable(writer: &Schema, reader: &Schema) -> bool {
    matches!(
        (base(writer), base(reader)),
        (Base::Int, Base::Long | Base::Float | Base::Double)
            | (Base::Long, Base::Float | Base::Double)
            | (Base::Float, Base::Double)
            | (Base::Text, Base::Bytes)
            | (Base::Bytes, Base::Text)
    )
}

/// Whether a field's default is a value of the field.
pub fn is_usable_default(reader: &Shape, field: &RecordField) -> bool {
    let pair = Pair { writer: reader, reader };
    field.default.as_ref().is_some_and(|default| pair.default(default, &field.schema).is_ok())
}

/// Whether both sides have a logical type, and not the same: millis would be read as micros.
pub fn has_other_meaning(writer: &Schema, reader: &Schema) -> bool {
    match (meaning(writer), meaning(reader)) {
        (Some(written), Some(wanted)) => written != wanted,
        _ => false,
    }
}

/// A word for a logical type, with precision and scale of a decimal.
fn meaning(schema: &Schema) -> Option<(&'static str, usize, usize)> {
    let word = match schema {
        Schema::Decimal(decimal) => return Some(("decimal", decimal.precision, decimal.scale)),
        Schema::BigDecimal => "big-decimal",
        Schema::Uuid(_) => "uuid",
        Schema::Duration(_) => "duration",
        Schema::Date => "date",
        Schema::TimeMillis => "time-millis",
        Schema::TimeMicros => "time-micros",
        Schema::TimestampMillis => "timestamp-millis",
        Schema::TimestampMicros => "timestamp-micros",
        Schema::TimestampNanos => "timestamp-nanos",
        Schema::LocalTimestampMillis => "local-timestamp-millis",
        Schema::LocalTimestampMicros => "local-timestamp-micros",
        Schema::LocalTimestampNanos => "local-timestamp-nanos",
        _ => return None,
    };
    Some((word, 0, 0))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed,
    Enum,
    Array,
    Map,
    Record,
    Other,
}

fn base(schema: &Schema) -> Base {
    match schema {
        Schema::Null => Base::Null,
        Schema::Boolean => Base::Bool,
        Schema::Int | Schema::Date | Schema::TimeMillis => Base::Int,
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => Base::Long,
        Schema::Float => Base::Float,
        Schema::Double => Base::Double,
        Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Base::Bytes,
        Schema::Decimal(decimal) if matches!(decimal.inner, InnerDecimalSchema::Bytes) => Base::Bytes,
        Schema::String | Schema::Uuid(UuidSchema::String) => Base::Text,
        Schema::Fixed(_) | Schema::Duration(_) | Schema::Decimal(_) | Schema::Uuid(_) => Base::Fixed,
        Schema::Enum(_) => Base::Enum,
        Schema::Array(_) => Base::Array,
        Schema::Map(_) => Base::Map,
        Schema::Record(_) => Base::Record,
        _ => Base::Other,
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
