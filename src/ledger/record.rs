//! A ledger record: what one transaction made true, as plain data, and its Avro form (avro/ledger-value.avsc).

use std::sync::{Arc, LazyLock};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

use super::digest::Sum;
use crate::avro::frame::{self, SchemaId};
use crate::kafka::{Position, TopicPartition};

/// The schema of ledger values; registered under `<tenant>-ledger-value`.
pub const SCHEMA: &str = include_str!("../../avro/ledger-value.avsc");

static PARSED: LazyLock<Schema> = LazyLock::new(|| Schema::parse_str(SCHEMA).expect("a schema of our own, parsed by the tests"));

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Who committed it.
    pub transactional_id: String,
    /// Counts the epochs that this worker has sealed since it started, from 0.
    pub sequence: i64,
    /// Version of Testudo.
    pub program: String,
    /// Version of the tenant file.
    pub tenant_version: String,
    /// Writer schemas of the admitted records, ascending.
    pub schema_ids: Vec<u32>,
    /// What each input partition gave and came to.
    pub inputs: Vec<Range>,
}

/// The records of one input partition in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The partition.
    pub partition: TopicPartition,
    /// The position before the transaction.
    pub first: Position,
    /// The position that it commits; equal to `first` where windows were reported without a new record.
    pub end: Position,
    /// The records between the two.
    pub taken: Sum,
    /// Of these, admitted.
    pub admitted: u64,
    /// Of these, dropped by rule.
    pub dropped: u64,
    /// Dead letters that they came to.
    pub dead_letters: u64,
    /// Stream time after them, microseconds since 1970.
    pub stream_time_us: Option<i64>,
    /// What they came to, by output topic and partition.
    pub outputs: Vec<(TopicPartition, Sum)>,
}

/// A value that is no ledger record.
#[derive(Debug, thiserror::Error)]
#[error("not a ledger record: {0}")]
pub struct Unreadable(String);

impl Transaction {
    /// The value of the ledger's record, in the registry's frame.
    pub fn encode(&self, schema: SchemaId) -> Vec<u8> {
        let text = |text: &str| Value::String(text.to_owned());
        let value = Value::Record(vec![
            ("transactional_id".into(), text(&self.transactional_id)),
            ("sequence".into(), Value::Long(self.sequence)),
            ("program".into(), text(&self.program)),
            ("tenant_version".into(), text(&self.tenant_version)),
            ("schema_ids".into(), Value::Array(self.schema_ids.iter().map(|id| Value::Long(i64::from(*id))).collect())),
            ("inputs".into(), Value::Array(self.inputs.iter().map(Range::to_avro).collect())),
        ]);
        let writer = GenericDatumWriter::builder(&PARSED).build().expect("a writer of a schema of our own");
        let datum = writer.write_value_to_vec(value).expect("the value is built as the schema says");
        [&frame::prefix(schema)[..], &datum].concat()
    }

    /// Reads a ledger record's value.
    ///
    /// # Errors
    /// [`Unreadable`] when it is none.
    pub fn decode(value: &[u8]) -> Result<Self, Unreadable> {
        let (_, mut datum) = frame::parse(value).map_err(|fault| Unreadable(fault.to_string()))?;
        let reader = GenericDatumReader::builder(&PARSED).build().map_err(|error| Unreadable(error.to_string()))?;
        let value = reader.read_value(&mut datum).map_err(|error| Unreadable(error.to_string()))?;
        let mut fields = Fields::of(value)?;
        Ok(Self {
            transactional_id: fields.text()?,
            sequence: fields.long()?,
            program: fields.text()?,
            tenant_version: fields.text()?,
            schema_ids: fields.list(|id| match id {
                Value::Long(id) => u32::try_from(id).map_err(|_| Unreadable(format!("{id} is no schema id"))),
                other => Err(unexpected("a schema id", &other)),
            })?,
            inputs: fields.list(Range::from_avro)?,
        })
    }
}

impl Range {
    fn to_avro(&self) -> Value {
        let stream_time = match self.stream_time_us {
            Some(us) => Value::Union(1, Box::new(Value::TimestampMicros(us))),
            None => Value::Union(0, Box::new(Value::Null)),
        };
        let output = |(partition, sum): &(TopicPartition, Sum)| {
            Value::Record(vec![
                ("topic".into(), Value::String(partition.topic.to_string())),
                ("partition".into(), Value::Int(partition.partition)),
                ("records".into(), count(sum.records)),
                ("hash".into(), hash(sum.hash)),
            ])
        };
        Value::Record(vec![
            ("topic".into(), Value::String(self.partition.topic.to_string())),
            ("partition".into(), Value::Int(self.partition.partition)),
            ("first".into(), Value::Long(self.first.0)),
            ("end".into(), Value::Long(self.end.0)),
            ("records".into(), count(self.taken.records)),
            ("admitted".into(), count(self.admitted)),
            ("dropped".into(), count(self.dropped)),
            ("dead_letters".into(), count(self.dead_letters)),
            ("hash".into(), hash(self.taken.hash)),
            ("stream_time".into(), stream_time),
            ("outputs".into(), Value::Array(self.outputs.iter().map(output).collect())),
        ])
    }

    fn from_avro(value: Value) -> Result<Self, Unreadable> {
        let mut fields = Fields::of(value)?;
        let partition = fields.partition()?;
        let (first, end) = (Position(fields.long()?), Position(fields.long()?));
        let (records, admitted, dropped, dead_letters) = (fields.count()?, fields.count()?, fields.count()?, fields.count()?);
        Ok(Self {
            partition,
            first,
            end,
            taken: Sum { records, hash: fields.hash()? },
            admitted,
            dropped,
            dead_letters,
            stream_time_us: fields.time()?,
            outputs: fields.list(|output| {
                let mut fields = Fields::of(output)?;
                Ok((fields.partition()?, Sum { records: fields.count()?, hash: fields.hash()? }))
            })?,
        })
    }
}

fn count(count: u64) -> Value {
    Value::Long(i64::try_from(count).unwrap_or(i64::MAX))
}

fn hash(hash: u128) -> Value {
    Value::Fixed(16, hash.to_be_bytes().to_vec())
}

fn unexpected(what: &str, found: &Value) -> Unreadable {
    Unreadable(format!("{found:?} where {what} should be"))
}

/// The fields of an Avro record, taken one after the other in the schema's order.
struct Fields(std::vec::IntoIter<(String, Value)>);

impl Fields {
    fn of(value: Value) -> Result<Self, Unreadable> {
        match value {
            Value::Record(fields) => Ok(Self(fields.into_iter())),
            other => Err(unexpected("a record", &other)),
        }
    }

    fn next(&mut self) -> Result<Value, Unreadable> {
        self.0.next().map(|(_, value)| value).ok_or_else(|| Unreadable("fields are lacking".into()))
    }

    fn text(&mut self) -> Result<String, Unreadable> {
        match self.next()? {
            Value::String(text) => Ok(text),
            other => Err(unexpected("a text", &other)),
        }
    }

    fn long(&mut self) -> Result<i64, Unreadable> {
        match self.next()? {
            Value::Long(number) => Ok(number),
            other => Err(unexpected("a number", &other)),
        }
    }

    fn count(&mut self) -> Result<u64, Unreadable> {
        let number = self.long()?;
        u64::try_from(number).map_err(|_| Unreadable(format!("{number} where a count should be")))
    }

    fn partition(&mut self) -> Result<TopicPartition, Unreadable> {
        let topic: Arc<str> = self.text()?.into();
        match self.next()? {
            Value::Int(partition) => Ok(TopicPartition::new(topic, partition)),
            other => Err(unexpected("a partition", &other)),
        }
    }

    fn hash(&mut self) -> Result<u128, Unreadable> {
        match self.next()? {
            Value::Fixed(_, bytes) => {
                let bytes = <[u8; 16]>::try_from(bytes.as_slice()).map_err(|_| Unreadable("a hash has 16 bytes".into()))?;
                Ok(u128::from_be_bytes(bytes))
            }
            other => Err(unexpected("a hash", &other)),
        }
    }

    fn time(&mut self) -> Result<Option<i64>, Unreadable> {
        match self.next()? {
            Value::Union(_, value) => match *value {
                Value::Null => Ok(None),
                Value::TimestampMicros(us) | Value::Long(us) => Ok(Some(us)),
                other => Err(unexpected("a time", &other)),
            },
            other => Err(unexpected("a time", &other)),
        }
    }

    fn list<T>(&mut self, item: impl Fn(Value) -> Result<T, Unreadable>) -> Result<Vec<T>, Unreadable> {
        match self.next()? {
            Value::Array(items) => items.into_iter().map(item).collect(),
            other => Err(unexpected("a list", &other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_comes_back() {
        let range = Range {
            partition: TopicPartition::new("in", 3),
            first: Position(10),
            end: Position(20),
            taken: Sum { records: 9, hash: u128::MAX - 5 },
            admitted: 7,
            dropped: 1,
            dead_letters: 2,
            stream_time_us: Some(-1),
            outputs: vec![(TopicPartition::new("alerts", 0), Sum { records: 4, hash: 1 })],
        };
        let silent = Range { stream_time_us: None, outputs: Vec::new(), ..range.clone() };
        let transaction = Transaction {
            transactional_id: "zoo-one-0".into(),
            sequence: 41,
            program: "0.1.0".into(),
            tenant_version: "0123456789abcdef".into(),
            schema_ids: vec![1, 4_000_000_000],
            inputs: vec![range, silent],
        };

        let value = transaction.encode(SchemaId(7));

        assert_eq!(value[..5], frame::prefix(SchemaId(7)));
        assert_eq!(Transaction::decode(&value).expect("decoded"), transaction);
    }

    #[test]
    fn something_else_is_no_ledger_record() {
        assert!(Transaction::decode(b"{}").is_err());
        assert!(Transaction::decode(&[0, 0, 0, 0, 7, 200]).is_err());
    }
}
