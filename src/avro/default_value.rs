//! A field's default: JSON in the reader schema, a cell in the column.
//!
//! Libraries differ here, so it is done once, by the specification: bytes are spelt in code points, one per byte; a default of
//! a union belongs to the first branch that it fits; the text "null" is a text.

use std::borrow::Cow;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, FixedSchema, InnerDecimalSchema, RecordSchema, UuidSchema};
use serde_json::Value;

use super::blob::Blob;
use super::cell::Cell;
use super::column_form::kind;
use super::names::Names;
use super::schema::is_long;

/// The cell that `json` means for a field of type `schema`, or why it means none.
pub(super) fn of<'s>(schema: &'s Schema, json: &Value, names: &Names<'s>) -> Result<Cell<'static>, String> {
    let schema = names.resolve(schema).map_err(|fault| fault.to_string())?;
    match (schema, json) {
        (Schema::Union(union), _) => {
            let mut tried = union.variants().iter().map(|branch| of(branch, json, names));
            tried.find(Result::is_ok).unwrap_or_else(|| Err(format!("{json} fits no branch of the union")))
        }
        (Schema::Null, Value::Null) => Ok(Cell::Null),
        (Schema::Boolean, Value::Bool(value)) => Ok(Cell::Boolean(*value)),
        (Schema::Float | Schema::Double, _) => floating(schema, json),
        (Schema::String, Value::String(text)) => Ok(Cell::Text(Cow::Owned(text.clone()))),
        (Schema::Uuid(UuidSchema::String), Value::String(text)) => Blob::Uuid.of_text(Cow::Owned(text.clone())),
        (Schema::Enum(symbols), Value::String(symbol)) if symbols.symbols.contains(symbol) => Ok(Cell::Text(Cow::Owned(symbol.clone()))),
        (Schema::Array(array), Value::Array(items)) => {
            items.iter().map(|item| of(&array.items, item, names)).collect::<Result<_, _>>().map(Cell::List)
        }
        (Schema::Map(map), Value::Object(entries)) => entries
            .iter()
            .map(|(key, value)| Ok((Cow::Owned(key.clone()), of(&map.types, value, names)?)))
            .collect::<Result<_, String>>()
            .map(Cell::Map),
        (Schema::Record(record), Value::Object(values)) => {
            let fields = record.fields.iter().map(|field| subfield(record, field, values, names));
            fields.collect::<Result<_, _>>().map(Cell::Struct)
        }
        (_, Value::Number(_)) => whole(schema, json),
        (_, Value::String(text)) => binary(schema, text),
        _ => Err(unfit(schema, json)),
    }
}

fn unfit(schema: &Schema, json: &Value) -> String {
    format!("{json} is no {}", kind(schema))
}

fn subfield<'s>(
    record: &RecordSchema,
    field: &'s apache_avro::schema::RecordField,
    values: &serde_json::Map<String, Value>,
    names: &Names<'s>,
) -> Result<Cell<'static>, String> {
    match values.get(&field.name).or(field.default.as_ref()) {
        Some(json) => of(&field.schema, json, names),
        None => Err(format!("it has no value for `{}.{}`", record.name.name(), field.name)),
    }
}

fn whole(schema: &Schema, json: &Value) -> Result<Cell<'static>, String> {
    let value = json.as_i64().ok_or_else(|| unfit(schema, json))?;
    match schema {
        Schema::Int | Schema::Date | Schema::TimeMillis => i32::try_from(value).map(Cell::Int).map_err(|_| unfit(schema, json)),
        long if is_long(long) => Ok(Cell::Long(value)),
        _ => Err(unfit(schema, json)),
    }
}

/// Numbers, and the names of those that JSON cannot spell.
fn floating(schema: &Schema, json: &Value) -> Result<Cell<'static>, String> {
    let value = match json {
        Value::Number(number) => number.as_f64(),
        Value::String(name) => match name.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" | "INF" => Some(f64::INFINITY),
            "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    };
    let value = value.ok_or_else(|| unfit(schema, json))?;
    Ok(if matches!(schema, Schema::Float) { Cell::Float(value as f32) } else { Cell::Double(value) })
}

fn binary(schema: &Schema, text: &str) -> Result<Cell<'static>, String> {
    let bytes: Option<Vec<u8>> = text.chars().map(|code_point| u8::try_from(u32::from(code_point)).ok()).collect();
    let bytes = bytes.ok_or_else(|| format!("`{text}` has code points above 255, a byte each is needed"))?;
    let (size, blob) = match schema {
        Schema::Bytes => (None, Blob::Bytes),
        Schema::Fixed(FixedSchema { size, .. }) => (Some(*size), Blob::Bytes),
        Schema::Uuid(_) => (Some(16), Blob::Uuid),
        Schema::Decimal(DecimalSchema { precision, inner, .. }) => match inner {
            InnerDecimalSchema::Bytes => (None, Blob::decimal(*precision)),
            InnerDecimalSchema::Fixed(fixed) => (Some(fixed.size), Blob::decimal(*precision)),
        },
        _ => return Err(unfit(schema, &Value::String(text.to_owned()))),
    };
    match size {
        Some(size) if size != bytes.len() => Err(format!("it has {} bytes, the type has {size}", bytes.len())),
        _ => blob.of_bytes(Cow::Owned(bytes)),
    }
}
