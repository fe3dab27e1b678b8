//! A datum as its reader wants it: schema resolution from the specification, into the audit's own values.
//!
//! # Source
//! Avro 1.12 specification, "Schema Resolution".

use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, RecordField, RecordSchema, UnionSchema, UuidSchema};
use serde_json::Value as Json;

use super::cast::fits;
use super::datum::{Datum, Shape};
use super::digits::{in_digits, signed};
use super::readable::is_value_readable;
use super::time::Unit;
use super::types::{PRECISION_MAX, Type};
use super::value::Value;
use crate::avro::lenient::legal;

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
            let branch = &union.variants()[*index];
            // The only branch beside null has been judged with the schema; of several, one that is read is enough there.
            if has_alternatives(union) && !is_value_readable((self.writer, branch), (self.reader, reader)) {
                return unresolvable("of a branch that cannot be read");
            }
            return self.resolve(inner, branch, reader);
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
        for (field, fed_by) in reader.fields.iter().zip(feeds(writer, reader)) {
            let value = match (fed_by, &field.default) {
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
            (_, Schema::Float) => floating(json).map(|number| Value::Float(number as f32)),
            (_, Schema::Double) => floating(json).map(Value::Double),
            (Json::Number(number), _) => match number.as_i64() {
                Some(number) => {
                    from_long(number, schema).or_else(|error| i32::try_from(number).map_or(Err(error), |number| from_int(number, schema)))
                }
                None => unresolvable(json.to_string()),
            },
            (Json::String(text), Schema::String | Schema::Uuid(UuidSchema::String)) => from_text(text, schema),
            // The enum's own default is for symbols that are written, not for a field's default.
            (Json::String(symbol), Schema::Enum(symbols)) if symbols.symbols.contains(symbol) => Ok(Value::text(symbol)),
            (Json::String(text), Schema::Bytes | Schema::Fixed(_) | Schema::Decimal(_) | Schema::Uuid(_)) => binary(text, schema),
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

/// The writer's field that feeds each of the reader's, each at most one: by name, and then by the first alias whose field is left.
pub fn feeds(writer: &RecordSchema, reader: &RecordSchema) -> Vec<Option<usize>> {
    let place = |name: &String| writer.fields.iter().position(|field| field.name == *name);
    let mut feeds: Vec<Option<usize>> = reader.fields.iter().map(|field| place(&field.name)).collect();
    let mut is_left = vec![true; writer.fields.len()];
    feeds.iter().flatten().for_each(|at| is_left[*at] = false);
    for (fed_by, field) in feeds.iter_mut().zip(&reader.fields).filter(|(fed_by, _)| fed_by.is_none()) {
        *fed_by = field.aliases.iter().filter_map(|alias| place(&legal(alias))).find(|at| is_left[*at]);
        fed_by.iter().for_each(|at| is_left[*at] = false);
    }
    feeds
}

/// Whether a union has several branches beside null.
fn has_alternatives(union: &UnionSchema) -> bool {
    union.variants().iter().filter(|branch| !matches!(branch, Schema::Null)).count() > 1
}

/// A float's default: a number, or the name of one that JSON cannot spell.
fn floating(json: &Json) -> Result<f64, Unresolvable> {
    let number = match json {
        Json::Number(number) => number.as_f64(),
        Json::String(name) => match name.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" | "INF" => Some(f64::INFINITY),
            "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    };
    number.ok_or_else(|| Unresolvable(format!("default {json}")))
}

/// A default in code points up to FF, which stand for bytes (C05).
fn binary(text: &str, schema: &Schema) -> Result<Value, Unresolvable> {
    let bytes: Result<Vec<u8>, _> = text.chars().map(|letter| u8::try_from(u32::from(letter))).collect();
    let bytes = bytes.map_err(|_| Unresolvable(format!("default {text}")))?;
    let size = if matches!(schema, Schema::Uuid(_)) { Some(16) } else { fixed_size(schema) };
    match size {
        Some(size) if size != bytes.len() => unresolvable(format!("default {text} has {} bytes, not {size}", bytes.len())),
        _ => from_bytes(&bytes, schema),
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
        // It stays as it was written.
        Schema::Uuid(_) => match uuid::Uuid::try_parse(text) {
            Ok(_) => Ok(Value::text(text)),
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
        Schema::String => utf8(bytes).map(Value::text),
        // Sixteen bytes, or a text.
        Schema::Uuid(_) => match uuid::Uuid::from_slice(bytes) {
            Ok(uuid) => Ok(Value::text(&uuid.to_string())),
            Err(_) => from_text(utf8(bytes)?, reader),
        },
        Schema::Decimal(decimal) => from_unscaled(bytes, decimal),
        _ => unresolvable("bytes where none are read"),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Unresolvable> {
    std::str::from_utf8(bytes).map_err(|error| Unresolvable(error.to_string()))
}

/// A decimal of at most its precision's digits.
fn from_unscaled(bytes: &[u8], decimal: &DecimalSchema) -> Result<Value, Unresolvable> {
    let scale = decimal.scale as i8;
    let fitting = |unscaled: &i128| u8::try_from(decimal.precision).is_ok_and(|precision| fits(*unscaled, precision));
    match signed(bytes).filter(fitting) {
        Some(unscaled) => Ok(Value::Decimal { unscaled, scale }),
        None => match in_digits(bytes, decimal.precision) {
            Some(unscaled) => Ok(Value::WideDecimal { unscaled: unscaled.into(), scale }),
            None => unresolvable("a decimal that does not fit"),
        },
    }
}

/// A fixed type's size; none for other types.
fn fixed_size(schema: &Schema) -> Option<usize> {
    match schema {
        Schema::Fixed(fixed)
        | Schema::Duration(fixed)
        | Schema::Uuid(UuidSchema::Fixed(fixed))
        | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => Some(fixed.size),
        _ => None,
    }
}

/// Whether two schemas are of one type, named ones by unqualified name or the reader's alias (C19), fixed ones of one size.
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
        (left, right) => left == right && named() && fixed_size(writer) == fixed_size(reader),
    }
}

/// Whether the writer's numbers, text or bytes widen to the reader's, or spell its uuids.
pub fn is_promotable(writer: &Schema, reader: &Schema) -> bool {
    let (of_writer, of_reader) = (base(writer), base(reader));
    let may_spell_a_uuid = matches!(writer, Schema::Uuid(_)) || matches!(of_writer, Base::Text | Base::Bytes);
    if matches!(reader, Schema::Uuid(_)) && may_spell_a_uuid {
        return true;
    }
    matches!(
        (of_writer, of_reader),
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

/// Whether a value would be taken for another: both sides have a logical type, and not the same (millis read as micros), or one has a
/// number's bytes and the other a text (C07).
pub fn has_other_meaning(writer: &Schema, reader: &Schema) -> bool {
    match (meaning(writer), meaning(reader)) {
        (Some(written), Some(wanted)) => written != wanted,
        _ => matches!(
            (writer, reader),
            (Schema::Decimal(_) | Schema::BigDecimal, Schema::String) | (Schema::String, Schema::Decimal(_) | Schema::BigDecimal)
        ),
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
