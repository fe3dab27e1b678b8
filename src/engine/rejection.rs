//! A record that could not be used, and the dead letter made of it (docs/semantics.md, "Dead letters").

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::kafka::{Header, Outgoing, Run};

/// Why one record of a run was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The record's row in its run.
    pub row: usize,
    /// Where on its path: `frame`, `gate`, …, `window.<name>`.
    pub stage: Cow<'static, str>,
    /// A stable code, the label of metrics.
    pub reason: &'static str,
    /// For people: what was found, and the remedy where there is one.
    pub detail: String,
    /// The writer schema, where it was known.
    pub schema_id: Option<u32>,
    /// The reader schema's fingerprint, where the writer schema was refused for it.
    pub reader_schema: Option<Arc<str>>,
}

/// Why a record is dropped and counted, without a dead letter.
pub const TOMBSTONE: &str = "tombstone";
/// The same.
pub const OTHER_RECORD: &str = "other-record";

/// All reasons for dead letters, as docs/semantics.md has them.
pub const REASONS: [&str; 37] = [
    "bad-boolean",
    "bad-enum-symbol",
    "bad-length",
    "bad-union-branch",
    "duplicate-key",
    "event-time-failed",
    "event-time-in-future",
    "event-time-is-null",
    "expression-failed",
    "header-framed",
    "invalid-utf8",
    "key-failed",
    "key-is-null",
    "key-mismatch",
    "late",
    "missing-field",
    "non-finite",
    "not-framed",
    "not-json",
    "not-of-schema",
    "not-protobuf",
    "other-message",
    "out-of-range",
    "output-too-large",
    "schema-refused",
    "too-deep",
    "too-large",
    "too-many-items",
    "trailing-bytes",
    "truncated",
    "unknown-schema-id",
    "unresolvable-value",
    "value-too-large",
    "varint-overflow",
    "wrong-message",
    "wrong-partition",
    "wrong-type",
];

/// Header names of dead letters.
pub mod header {
    /// The stable code.
    pub const REASON: &str = "testudo-reason";
    /// Where on its path the record was refused.
    pub const STAGE: &str = "testudo-stage";
    /// Free text for people.
    pub const DETAIL: &str = "testudo-detail";
    /// Origin topic.
    pub const TOPIC: &str = "testudo-topic";
    /// Origin partition.
    pub const PARTITION: &str = "testudo-partition";
    /// Origin offset.
    pub const OFFSET: &str = "testudo-offset";
    /// Kafka timestamp of the record, milliseconds since 1970.
    pub const TIMESTAMP: &str = "testudo-timestamp";
    /// Writer schema id.
    pub const SCHEMA_ID: &str = "testudo-schema-id";
    /// Fingerprint of the reader schema that the writer schema was held against.
    pub const READER_SCHEMA: &str = "testudo-reader-schema";
    /// Original length of the value.
    pub const VALUE_BYTES: &str = "testudo-value-bytes";
    /// Input topic and partition of a window's result.
    pub const ORIGIN: &str = "testudo-origin";
    /// Version of the tenant file that made a result.
    pub const TENANT_VERSION: &str = "testudo-tenant-version";
    /// A progress record in a changelog that an operator's command wrote.
    pub const OPERATOR: &str = "testudo-operator";
}

/// Detail texts are cut here: an error text may quote the record.
const DETAIL_BYTES_MAX: usize = 1_024;

/// Keys are cut here: with headers and the longest value they must still fit into a record.
const KEY_BYTES_MAX: usize = 8 << 10;

/// Where dead letters go and how large they may be.
#[derive(Clone, Debug)]
pub struct DeadLetterTopic {
    /// The topic.
    pub name: Arc<str>,
    /// Its partitions.
    pub partitions: i32,
    /// Longest value; longer ones are cut, their length is in a header (C106).
    pub value_bytes_max: usize,
}

impl DeadLetterTopic {
    /// The dead letter of a refused record.
    pub fn letter(&self, run: &Run, rejection: &Rejection) -> Outgoing {
        let record = run.record(rejection.row);
        let value_bytes = record.value.map_or(0, <[u8]>::len);
        let text = |name: &str, value: String| Header { name: name.to_owned(), value: Some(value.into_bytes()) };
        let mut headers = vec![
            text(header::REASON, rejection.reason.to_owned()),
            text(header::STAGE, rejection.stage.to_string()),
            text(header::DETAIL, cut(&rejection.detail).to_owned()),
            text(header::TOPIC, run.partition.topic.to_string()),
            text(header::PARTITION, run.partition.partition.to_string()),
            text(header::OFFSET, record.offset.to_string()),
            text(header::TIMESTAMP, record.timestamp_ms.to_string()),
            text(header::VALUE_BYTES, value_bytes.to_string()),
        ];
        if let Some(id) = rejection.schema_id {
            headers.push(text(header::SCHEMA_ID, id.to_string()));
        }
        if let Some(reader) = &rejection.reader_schema {
            headers.push(text(header::READER_SCHEMA, reader.to_string()));
        }
        Outgoing {
            topic: self.name.clone(),
            partition: run.partition.partition.rem_euclid(self.partitions.max(1)),
            key: record.key.map(|key| Bytes::copy_from_slice(&key[..key.len().min(KEY_BYTES_MAX)])),
            value: record.value.map(|value| Bytes::copy_from_slice(&value[..value_bytes.min(self.value_bytes_max)])),
            timestamp_ms: Outgoing::stamp(record.timestamp_ms),
            headers: headers.into(),
        }
    }
}

fn cut(detail: &str) -> &str {
    let mut end = detail.len().min(DETAIL_BYTES_MAX);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    &detail[..end]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::kafka::{Offset, RunBuilder, TopicPartition};

    #[test]
    fn the_reasons_are_those_of_the_docs() {
        let lines = include_str!("../../docs/semantics.md").lines();
        let tables = lines.scan(false, |is_table, line| {
            *is_table = line.starts_with("| stage | reason") || *is_table && line.starts_with('|');
            Some(is_table.then_some(line))
        });
        let cells = tables.flatten().filter_map(|line| line.split('|').nth(2));
        let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let told: BTreeSet<&str> = words.filter(|word| ![TOMBSTONE, OTHER_RECORD].contains(word)).collect();

        assert_eq!(told, BTreeSet::from(REASONS));
    }

    /// C106: a value that fills a record leaves no room for headers; the letter is cut and says so.
    #[test]
    fn letters_fit_whatever_the_record_was() {
        let topic = DeadLetterTopic { name: "zoo-dead-letters".into(), partitions: 2, value_bytes_max: 1_000_000 };
        let mut run = RunBuilder::new(TopicPartition::new("in", 5));
        run.push(Offset(9), 17, Some(b"k"), Some(&vec![7; 1_048_400]), Vec::new());
        let detail = "ä".repeat(5_000);
        let rejection = Rejection { row: 0, stage: "frame".into(), reason: "not-framed", detail, schema_id: None, reader_schema: None };

        let letter = topic.letter(&run.finish(), &rejection);

        assert_eq!(letter.value.as_ref().map(Bytes::len), Some(1_000_000));
        assert_eq!(letter.partition, 1);
        let header = |name: &str| letter.headers.iter().find(|header| header.name == name).and_then(|header| header.value.clone());
        assert_eq!(header(header::VALUE_BYTES), Some(b"1048400".to_vec()));
        assert_eq!(header(header::OFFSET), Some(b"9".to_vec()));
        assert!(header(header::DETAIL).is_some_and(|detail| detail.len() <= DETAIL_BYTES_MAX && String::from_utf8(detail).is_ok()));
        assert_eq!(header(header::SCHEMA_ID), None);
    }
}
