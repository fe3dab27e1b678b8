//! MongoDB's side: what a document should hold, and what one that is there comes to, reduced to hashes.
//!
//! Types count: a long that is stored as Int32 is a difference. Two things are taken alike: a UUID as binary or as a text of
//! any spelling, and Int32 or Int64 in the bookkeeping fields `partition`, `offset`, `schema_id`.

use std::sync::Arc;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, DateTime, Decimal128, Document, doc};

use super::admission::Row;
use super::facts::{DocumentHashes, InputRecord, ObservedDocument, Place};
use super::job::Source;
use super::time::{DAY, Unit};
use super::types::Type;
use super::value::{Value, avro_name, decimal_text, fnv, with_point};
use crate::kafka::TopicPartition;

/// Fields of a window's document that its results do not determine.
const NOT_OF_THE_RESULT: [&str; 3] = ["tenant_version", "schema_id", "source"];
/// Fields of a reading's document that the record does not determine: `source` holds the topic's id.
const NOT_OF_THE_READING: [&str; 1] = ["source"];
/// An alert's event time is not in its record.
const NOT_OF_THE_ALERT: [&str; 2] = ["source", "event_time"];

/// A value as MongoDB should hold it.
pub fn to_bson(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => Bson::Boolean(*value),
        Value::Int(number) => Bson::Int32(*number),
        Value::Long(number) | Value::Time(number) => Bson::Int64(*number),
        Value::Float(number) => Bson::Double(f64::from(*number)),
        Value::Double(number) => Bson::Double(*number),
        Value::Decimal { unscaled, scale } => decimal(decimal_text(*unscaled, *scale)),
        Value::WideDecimal { unscaled, scale } => decimal(with_point(unscaled, *scale)),
        Value::Text(text) => Bson::String(text.to_string()),
        Value::Bytes(bytes) => Bson::Binary(mongodb::bson::Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }),
        Value::Uuid(bytes) => Bson::String(uuid::Uuid::from_bytes(*bytes).to_string()),
        Value::Date(days) => date(i128::from(*days) * DAY),
        Value::Timestamp(ns) => date(*ns),
        Value::List(items) => Bson::Array(items.iter().map(to_bson).collect()),
        Value::Record(fields) => Bson::Document(fields.iter().map(|(name, value)| (name.to_string(), to_bson(value))).collect()),
        Value::Map(entries) => Bson::Document(entries.iter().map(|(name, value)| (name.to_string(), to_bson(value))).collect()),
    }
}

fn decimal(text: String) -> Bson {
    text.parse::<Decimal128>().map_or(Bson::String(text), Bson::Decimal128)
}

/// An instant floored to milliseconds (C121).
fn date(ns: i128) -> Bson {
    let ms = i64::try_from(ns.div_euclid(1_000_000)).unwrap_or(i64::MAX);
    Bson::DateTime(DateTime::from_millis(ms))
}

/// The document of an admitted record.
pub fn reading_hashes(source: &Source, record: &InputRecord, row: &Row) -> DocumentHashes {
    let names = source.columns.iter().map(|column| column.name.as_str());
    let mut document = record_document(record, names.zip(&row.values).take(source.tenant_columns), row.schema_id);
    document.insert("event_time", to_bson(&Value::timestamp_us(row.time_us)));
    hashes(&document, &NOT_OF_THE_READING)
}

/// The document of an alert's record.
pub fn alert_hashes(fields: &[(Arc<str>, Value)], record: &InputRecord, schema_id: u32) -> DocumentHashes {
    let document = record_document(record, fields.iter().map(|(name, value)| (&**name, value)), schema_id);
    hashes(&document, &NOT_OF_THE_ALERT)
}

fn record_document<'v>(record: &InputRecord, fields: impl Iterator<Item = (&'v str, &'v Value)>, schema_id: u32) -> Document {
    let id = doc! { "topic": &*record.partition.topic, "partition": record.partition.partition, "offset": record.offset };
    let mut document = doc! { "_id": id };
    for (name, value) in fields {
        document.insert(name, to_bson(value));
    }
    let timestamp = if record.timestamp_ms < 0 { Bson::Null } else { to_bson(&Value::timestamp_ms(record.timestamp_ms)) };
    document.insert("timestamp", timestamp);
    document.insert("schema_id", i64::from(schema_id));
    document
}

/// The document of a window's result: key columns, bounds, select columns; `by` are the key columns' declared names.
pub fn result_hashes(fields: &[(Arc<str>, Value)], by: &[(String, String)], origin: &TopicPartition) -> DocumentHashes {
    let by: Vec<String> = by.iter().map(|(name, _)| avro_name(name)).collect();
    let mut id = Document::new();
    let mut document = Document::new();
    for (name, value) in fields {
        if by.iter().any(|by| **by == **name) {
            id.insert(&**name, to_bson(value));
        } else {
            document.insert(&**name, to_bson(value));
        }
        if &**name == "window_start" {
            id.insert("window", to_bson(value));
        }
    }
    document.insert("_id", id);
    document.insert("origin", origin.to_string());
    hashes(&document, &NOT_OF_THE_RESULT)
}

/// A document of a window's collection as it is there.
pub fn observed_result(document: &Document) -> ObservedDocument {
    let source = document.get_document("source").ok().and_then(place_of);
    observed(document, &NOT_OF_THE_RESULT, source)
}

/// A document of a source's collection as it is there.
pub fn observed_reading(document: &Document) -> ObservedDocument {
    let source = document.get_document("_id").ok().and_then(place_of);
    observed(document, &NOT_OF_THE_READING, source)
}

/// A document of an alert's collection as it is there.
pub fn observed_alert(document: &Document) -> ObservedDocument {
    let source = document.get_document("_id").ok().and_then(place_of);
    observed(document, &NOT_OF_THE_ALERT, source)
}

/// Why a record may be without document: it is too large for one, holds a value that has no place in one, or the server will not
/// have it. Whatever else a marker says, the document is missing.
pub const EXCUSES: [&str; 3] = ["document-too-large", "unstorable-value", "refused-by-server"];

/// The record that a marker excuses from having a document.
pub fn set_aside(marker: &Document) -> Option<Place> {
    let reason = marker.get_str("reason").ok()?;
    marker.get_document("_id").ok().filter(|_| EXCUSES.contains(&reason)).and_then(place_of)
}

fn observed(document: &Document, except: &[&str], source: Option<Place>) -> ObservedDocument {
    let found = hashes(document, except);
    let id = document.get("_id").map_or_else(String::new, ToString::to_string);
    ObservedDocument { id, id_hash: found.id, hash: found.document, source }
}

fn place_of(place: &Document) -> Option<Place> {
    let number = |name| match place.get(name) {
        Some(Bson::Int32(number)) => Some(i64::from(*number)),
        Some(Bson::Int64(number)) => Some(*number),
        _ => None,
    };
    let partition = i32::try_from(number("partition")?).ok()?;
    Some(Place { partition: TopicPartition::new(place.get_str("topic").ok()?, partition), offset: number("offset")? })
}

fn hashes(document: &Document, except: &[&str]) -> DocumentHashes {
    let mut id = Vec::new();
    canonical(document.get("_id").unwrap_or(&Bson::Null), &mut id);
    let mut bytes = Vec::with_capacity(256);
    canonical_document(document, except, &mut bytes);
    DocumentHashes { id: fnv(&id), document: fnv(&bytes) }
}

fn canonical_document(document: &Document, except: &[&str], bytes: &mut Vec<u8>) {
    let mut fields: Vec<(String, &String, &Bson)> =
        document.iter().filter(|(name, _)| !except.contains(&name.as_str())).map(|(name, value)| (avro_name(name), name, value)).collect();
    fields.sort_by(|left, right| left.0.cmp(&right.0));
    bytes.extend_from_slice(&(fields.len() as u64).to_le_bytes());
    for (name, written, value) in fields {
        sized(bytes, 0, name.as_bytes());
        match value {
            Bson::Int32(number) if matches!(written.as_str(), "partition" | "offset" | "schema_id") => {
                canonical(&Bson::Int64(i64::from(*number)), bytes)
            }
            other => canonical(other, bytes),
        }
    }
}

/// Bytes that are equal exactly when type and value are.
fn canonical(value: &Bson, bytes: &mut Vec<u8>) {
    match value {
        Bson::Null => bytes.push(1),
        Bson::Boolean(value) => bytes.extend([2, u8::from(*value)]),
        Bson::Int32(number) => sized(bytes, 3, &number.to_le_bytes()),
        Bson::Int64(number) => sized(bytes, 4, &number.to_le_bytes()),
        Bson::Double(number) => sized(bytes, 5, &number.to_bits().to_le_bytes()),
        Bson::Decimal128(number) => sized(bytes, 6, number.to_string().as_bytes()),
        Bson::String(text) => match uuid::Uuid::try_parse(text) {
            Ok(uuid) => sized(bytes, 7, uuid.to_string().as_bytes()),
            Err(_) => sized(bytes, 7, text.as_bytes()),
        },
        Bson::Binary(binary) if binary.subtype == BinarySubtype::Uuid && binary.bytes.len() == 16 => {
            let uuid = uuid::Uuid::from_slice(&binary.bytes).unwrap_or_default();
            sized(bytes, 7, uuid.to_string().as_bytes());
        }
        Bson::Binary(binary) => sized(bytes, 8, &binary.bytes),
        Bson::DateTime(instant) => sized(bytes, 9, &instant.timestamp_millis().to_le_bytes()),
        Bson::Array(items) => {
            sized(bytes, 10, &(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| canonical(item, bytes));
        }
        Bson::Document(document) => {
            bytes.push(11);
            canonical_document(document, &[], bytes);
        }
        other => sized(bytes, 12, other.to_string().as_bytes()),
    }
}

fn sized(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
}

/// A part of a window's key as the store shows it: text as it is, everything else as a whole number of its type's units.
pub fn store_part(value: &Value, kind: Type) -> String {
    match (value, kind) {
        (Value::Bool(value), _) => i32::from(*value).to_string(),
        (Value::Date(days), _) => days.to_string(),
        (Value::Timestamp(ns), Type::Timestamp(unit, _)) => (ns / unit.nanos()).to_string(),
        (Value::Timestamp(ns), _) => (ns / Unit::Micro.nanos()).to_string(),
        (other, _) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(left: Document, right: Document) -> bool {
        hashes(&left, &[]) == hashes(&right, &[])
    }

    #[test]
    fn a_type_that_changes_is_a_difference() {
        assert!(!same(doc! { "total": 7_i32 }, doc! { "total": 7_i64 }), "C81");
        assert!(!same(doc! { "mean": 21_i64 }, doc! { "mean": 21.0 }), "C81");
        assert!(same(doc! { "a-b": 1, "c": 2 }, doc! { "c": 2, "a_b": 1 }));
        assert!(same(doc! { "_id": { "offset": 7_i32 } }, doc! { "_id": { "offset": 7_i64 } }));
    }

    #[test]
    fn decimals_and_dates_are_what_mongodb_should_hold() {
        let decimal = to_bson(&Value::Decimal { unscaled: -1, scale: 2 });
        let late = to_bson(&Value::Timestamp(253_370_764_861_999_999_000));

        assert_eq!(decimal.to_string(), "-0.01", "C07, C79");
        assert_eq!(late, Bson::DateTime(DateTime::from_millis(253_370_764_861_999)), "C121");
        assert_eq!(to_bson(&Value::timestamp_us(-1)), Bson::DateTime(DateTime::from_millis(-1)));
    }

    /// What a producer spelt in capitals is stored as the bytes that it stands for.
    #[test]
    fn a_uuid_is_one_however_it_is_spelt() {
        let stored = || doc! { "id": mongodb::bson::Uuid::from_bytes([0xab; 16]) };

        assert!(same(doc! { "id": "ABABABAB-ABAB-ABAB-ABAB-ABABABABABAB" }, stored()));
        assert!(same(doc! { "id": "abababababababababababababababab" }, stored()));
        assert!(!same(doc! { "id": "ABABABAB-ABAB-ABAB-ABAB-ABABABABABAC" }, stored()));
        assert!(!same(doc! { "id": "ABC" }, doc! { "id": "abc" }));
    }

    #[test]
    fn a_result_and_its_document_meet() {
        let fields = [("dev_id", Value::text("t1")), ("window_start", Value::timestamp_us(60_000_000)), ("total", Value::Long(3))];
        let fields = fields.map(|(name, value)| (name.into(), value));
        let origin = TopicPartition::new("in", 0);
        let found = doc! {
            "_id": { "dev-id": "t1", "window": DateTime::from_millis(60_000) },
            "window_start": DateTime::from_millis(60_000), "total": 3_i64,
            "origin": "in/0", "tenant_version": "v", "schema_id": 1,
            "source": { "topic": "out", "topic_id": "x", "partition": 0, "offset": 5_i64 },
        };

        let expected = result_hashes(&fields, &[("dev-id".to_owned(), "\"dev-id\"".to_owned())], &origin);
        let observed = observed_result(&found);

        assert_eq!((expected.id, expected.document), (observed.id_hash, observed.hash));
        assert_eq!(observed.source, Some(Place { partition: TopicPartition::new("out", 0), offset: 5 }));
    }

    /// A sink that cannot decode what the engine wrote must not pass as one that had good reasons.
    #[test]
    fn only_good_reasons_excuse_a_missing_document() {
        let marker = |reason: &str| doc! { "_id": { "topic": "out", "partition": 0, "offset": 7_i64 }, "reason": reason };

        assert!(set_aside(&marker("document-too-large")).is_some());
        assert!(set_aside(&marker("schema-refused")).is_none());
        assert!(set_aside(&marker("unresolvable-value")).is_none());
    }
}
