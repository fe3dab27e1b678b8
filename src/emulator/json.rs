//! Records as JSON, with the JSON Schema that describes them: what producers of other formats than Avro send.

use apache_avro::Schema;
use apache_avro::schema::UuidSchema;
use apache_avro::types::Value;
use chrono::DateTime;
use rand::RngExt;
use rand_pcg::Pcg64;
use serde_json::json;

use super::wrong::Wrong;

/// Instants are written as RFC 3339 texts up to here, then as counts: the largest year of four digits, in microseconds.
const TEXT_US_MAX: i64 = 253_402_300_799_999_999;

/// Writes records of one schema.
#[derive(Debug)]
pub struct JsonRecords {
    /// Fields that must be there.
    required: Vec<usize>,
    /// What each field holds in a wrong type; nothing where every type would do.
    wrong: Vec<Option<&'static str>>,
}

impl JsonRecords {
    /// For records of `schema`.
    pub fn of(schema: &Schema) -> Self {
        let Schema::Record(record) = schema else { return Self { required: Vec::new(), wrong: Vec::new() } };
        let required = (0..record.fields.len()).filter(|at| record.fields[*at].default.is_none()).collect();
        Self { required, wrong: record.fields.iter().map(|field| other_type(&field.schema)).collect() }
    }

    /// Whether records can be made wrong in this way.
    pub fn can_be(&self, kind: Wrong) -> bool {
        match kind {
            Wrong::MissingField => !self.required.is_empty(),
            Wrong::WrongType => self.wrong.iter().any(Option::is_some),
            _ => true,
        }
    }

    /// The text of a record, spoilt where `wrong` says how.
    pub fn text(&self, record: &[(String, Value)], wrong: Option<Wrong>, rng: &mut Pcg64) -> String {
        let mut left_out = None;
        let mut retyped = None;
        match wrong {
            Some(Wrong::MissingField) => left_out = Some(self.required[rng.random_range(0..self.required.len())]),
            Some(Wrong::WrongType) => {
                let first = rng.random_range(0..self.wrong.len());
                let mut order = (first..self.wrong.len()).chain(0..first);
                retyped = order.find_map(|at| Some((at, self.wrong[at]?)));
            }
            _ => {}
        }
        let mut text = String::from("{");
        for (at, (name, value)) in record.iter().enumerate().filter(|(at, _)| Some(*at) != left_out) {
            if text.len() > 1 {
                text.push(',');
            }
            quoted(name, &mut text);
            text.push(':');
            match retyped {
                Some((spoilt, other)) if spoilt == at => text.push_str(other),
                _ => write(value, &mut text),
            }
        }
        text.push('}');
        text
    }
}

/// JSON of a type that the field does not have.
fn other_type(schema: &Schema) -> Option<&'static str> {
    match schema {
        Schema::String | Schema::Bytes | Schema::Fixed(_) | Schema::Enum(_) | Schema::Uuid(_) | Schema::Boolean => Some("-1"),
        Schema::Union(_) | Schema::Ref { .. } => None,
        _ => Some("\"not a number\""),
    }
}

fn quoted(text: &str, into: &mut String) {
    into.push_str(&serde_json::Value::from(text).to_string());
}

fn write(value: &Value, into: &mut String) {
    match value {
        Value::Null => into.push_str("null"),
        Value::Boolean(value) => into.push_str(if *value { "true" } else { "false" }),
        Value::Int(number) | Value::TimeMillis(number) => into.push_str(&number.to_string()),
        Value::Long(number) | Value::TimeMicros(number) | Value::TimestampNanos(number) | Value::LocalTimestampNanos(number) => {
            into.push_str(&number.to_string());
        }
        // As other languages write them: not JSON.
        Value::Float(number) => into.push_str(&number.to_string()),
        Value::Double(number) => into.push_str(&number.to_string()),
        Value::String(text) => quoted(text, into),
        Value::Enum(_, symbol) => quoted(symbol, into),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => quoted(&bytes.iter().copied().map(char::from).collect::<String>(), into),
        Value::Uuid(uuid) => quoted(&uuid.to_string(), into),
        Value::Date(days) => match DateTime::from_timestamp(i64::from(*days) * 86_400, 0) {
            Some(at) => quoted(&at.format("%Y-%m-%d").to_string(), into),
            None => into.push_str(&days.to_string()),
        },
        Value::TimestampMillis(ms) | Value::LocalTimestampMillis(ms) => into.push_str(&ms.to_string()),
        Value::LocalTimestampMicros(us) => into.push_str(&us.to_string()),
        Value::TimestampMicros(us) => match DateTime::from_timestamp_micros(*us).filter(|_| (0..=TEXT_US_MAX).contains(us)) {
            Some(at) => quoted(&at.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string(), into),
            None => into.push_str(&us.to_string()),
        },
        Value::Union(_, inner) => write(inner, into),
        Value::Array(items) => {
            into.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    into.push(',');
                }
                write(item, into);
            }
            into.push(']');
        }
        Value::Map(entries) => {
            let mut entries: Vec<(&String, &Value)> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            members(entries.into_iter(), into);
        }
        Value::Record(fields) => members(fields.iter().map(|(name, value)| (name, value)), into),
        Value::Decimal(decimal) => into.push_str(&unscaled(decimal)),
        other => quoted(&format!("{other:?}"), into),
    }
}

fn members<'v>(members: impl Iterator<Item = (&'v String, &'v Value)>, into: &mut String) {
    into.push('{');
    for (at, (name, value)) in members.enumerate() {
        if at > 0 {
            into.push(',');
        }
        quoted(name, into);
        into.push(':');
        write(value, into);
    }
    into.push('}');
}

/// A decimal's digits. They are few, and any scale has room for them before the point or takes their zeros.
fn unscaled(decimal: &apache_avro::Decimal) -> String {
    let bytes = <Vec<u8>>::try_from(decimal).unwrap_or_default();
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { -1i128 } else { 0 };
    bytes.iter().fold(sign, |number, byte| (number << 8) | i128::from(*byte)).to_string()
}

/// The JSON Schema (draft 7) of what [`JsonRecords`] writes for `schema`; none where a type has no place in one.
pub fn json_schema_of(schema: &Schema) -> Option<String> {
    let Schema::Record(record) = schema else { return None };
    let mut described = described(schema)?;
    described["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    described["title"] = json!(record.name.to_string());
    Some(described.to_string())
}

fn described(schema: &Schema) -> Option<serde_json::Value> {
    Some(match schema {
        Schema::Null => json!({ "type": "null" }),
        Schema::Boolean => json!({ "type": "boolean" }),
        Schema::Int => json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX }),
        Schema::Long | Schema::TimestampMillis | Schema::TimestampNanos => json!({ "type": "integer" }),
        Schema::LocalTimestampMillis | Schema::LocalTimestampMicros | Schema::LocalTimestampNanos => json!({ "type": "integer" }),
        Schema::TimeMillis | Schema::TimeMicros => json!({ "type": "integer" }),
        Schema::Float | Schema::Double => json!({ "type": "number" }),
        Schema::String => json!({ "type": "string" }),
        Schema::Enum(symbols) => json!({ "type": "string", "enum": symbols.symbols }),
        Schema::Uuid(UuidSchema::String) => json!({ "type": "string", "format": "uuid" }),
        Schema::Date => json!({ "type": "string", "format": "date" }),
        Schema::TimestampMicros => json!({ "type": "string", "format": "date-time" }),
        Schema::Array(array) => json!({ "type": "array", "items": described(&array.items)? }),
        Schema::Map(map) => json!({ "type": "object", "additionalProperties": described(&map.types)? }),
        Schema::Union(union) => {
            json!({ "oneOf": union.variants().iter().map(described).collect::<Option<Vec<_>>>()? })
        }
        Schema::Record(record) => {
            let mut properties = serde_json::Map::new();
            for field in &record.fields {
                properties.insert(field.name.clone(), described(&field.schema)?);
            }
            let required: Vec<&str> =
                record.fields.iter().filter(|field| field.default.is_none()).map(|field| field.name.as_str()).collect();
            json!({ "type": "object", "properties": properties, "required": required })
        }
        // Bytes, decimals and the like are texts and numbers of some other meaning; references would need definitions.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::avro::foreign::json::Transcoder;
    use crate::avro::foreign::{Transcode, derive};
    use crate::avro::{DatumLimits, SchemaKind, SchemaLimits};
    use crate::emulator::Emulation;
    use crate::tenant::Format;

    const SCHEMA: &str = r#"{"type": "record", "name": "Reading", "namespace": "farm", "fields": [
        {"name": "dev_id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "seen", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "count", "type": "int"},
        {"name": "level", "type": ["null", "double"], "default": null},
        {"name": "tag", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["OK", "BAD"]}},
        {"name": "list", "type": {"type": "array", "items": "float"}},
        {"name": "map", "type": {"type": "map", "values": {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "boolean"}]}}}]}"#;

    fn values(format: Format, wrong: &[(Wrong, f64)]) -> Vec<(Option<Wrong>, Vec<u8>)> {
        let emulation = Emulation {
            topic: "t".into(),
            schema: SCHEMA.into(),
            base_time_ms: Some(1_540_080_000_000),
            wrong: wrong.iter().copied().collect(),
            format,
            ..Emulation::default()
        };
        let shape = emulation.shape().expect("a shape");
        let messages = emulation.messages(&shape, crate::avro::SchemaId(7)).expect("messages");
        messages.take(500).map(|message| message.map(|message| (message.wrong, message.value)).expect("a message")).collect()
    }

    #[test]
    fn a_fleet_in_json_is_read_by_its_schemas_and_wrong_records_are_refused() {
        let schema = Schema::parse_str(SCHEMA).expect("a schema");
        let plain = Transcoder::of(&schema, DatumLimits::default()).expect("a whole schema");
        let json_schema = json_schema_of(&schema).expect("every type has its like");
        let (limits, datum) = (SchemaLimits::default(), DatumLimits::default());
        let derived = derive(SchemaKind::Json, &json_schema, &[], &limits, datum, &|_| true, &|_| true).expect("a usable schema");
        let wrong = [(Wrong::Truncated, 0.1), (Wrong::MissingField, 0.1), (Wrong::WrongType, 0.1), (Wrong::NonFinite, 0.05)];

        for (wrong, value) in values(Format::Json, &wrong) {
            let read = plain.transcode(&value, &mut Vec::new());
            assert_eq!(read.is_err(), wrong.is_some(), "{wrong:?} {read:?} {}", String::from_utf8_lossy(&value));
        }
        for (wrong, value) in values(Format::JsonSchema, &wrong) {
            assert_eq!(value[..5], [0, 0, 0, 0, 7]);
            let read = derived.transcoder.transcode(&value[5..], &mut Vec::new());
            assert_eq!(read.is_err(), wrong.is_some(), "{wrong:?} {read:?} {}", String::from_utf8_lossy(&value));
        }
    }

    #[test]
    fn ways_to_be_wrong_that_json_has_not_are_refused() {
        let schema = Schema::parse_str(SCHEMA).expect("a schema");
        let emulation =
            |kind| Emulation { schema: SCHEMA.into(), wrong: [(kind, 0.1)].into(), format: Format::Json, ..Emulation::default() };

        for kind in [Wrong::NoMagic, Wrong::UnknownId, Wrong::Json] {
            let emulation = emulation(kind);
            let shape = emulation.shape().expect("a shape");
            assert!(emulation.messages(&shape, crate::avro::SchemaId(7)).is_err(), "{kind}");
        }
        let text = JsonRecords::of(&schema).text(&[("a".into(), Value::Double(f64::NAN))], None, &mut Pcg64::seed_from_u64(1));
        assert_eq!(text, "{\"a\":NaN}");
    }
}
