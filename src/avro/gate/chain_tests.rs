//! Random chains of schema versions: what the gate says of each version is what apache-avro says of the pair, and what the decoder then does.
//!
//! Two readings are stricter here than there, on purpose: a logical type that changes its meaning is refused, and a union whose only readable
//! branch is null is no union that can be read (docs/adr/0009).

use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::avro::cell::{self, Cell};
use crate::avro::resolve::account;
use crate::avro::{Decoder, parse_writer};
use crate::clock::SystemClock;
use crate::telemetry::Metrics;

/// A type of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    Millis,
    Micros,
    /// The first so many of four symbols, with a default or not.
    Enum(usize, bool),
}

/// A field; its number is its name.
#[derive(Clone, Debug)]
struct Field {
    number: usize,
    kind: Kind,
    is_nullable: bool,
    has_default: bool,
    /// Numbers that it is known by as well.
    aliases: Vec<usize>,
}

/// A step from one version to the next.
#[derive(Clone, Debug)]
enum Change {
    Add(Field),
    Remove(usize),
    Retype(usize, Kind),
    Nullable(usize),
    Default(usize),
    Swap(usize, usize),
    /// To which number, and whether the old one becomes an alias.
    Rename(usize, usize, bool),
    Namespace(bool),
}

#[derive(Clone, Debug)]
struct Version {
    fields: Vec<Field>,
    has_namespace: bool,
}

const SYMBOLS: [&str; 4] = ["A", "B", "C", "D"];

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Boolean),
        Just(Kind::Int),
        Just(Kind::Long),
        Just(Kind::Float),
        Just(Kind::Double),
        Just(Kind::Text),
        Just(Kind::Millis),
        Just(Kind::Micros),
        (1..4_usize, any::<bool>()).prop_map(|(symbols, has_default)| Kind::Enum(symbols, has_default)),
    ]
}

fn field() -> impl Strategy<Value = Field> {
    (0..6_usize, kind(), any::<bool>(), any::<bool>()).prop_map(|(number, kind, is_nullable, has_default)| Field {
        number,
        kind,
        is_nullable,
        has_default,
        aliases: Vec::new(),
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        field().prop_map(Change::Add),
        (0..6_usize).prop_map(Change::Remove),
        (0..6_usize, kind()).prop_map(|(at, kind)| Change::Retype(at, kind)),
        (0..6_usize).prop_map(Change::Nullable),
        (0..6_usize).prop_map(Change::Default),
        (0..6_usize, 0..6_usize).prop_map(|(a, b)| Change::Swap(a, b)),
        (0..6_usize, 0..9_usize, any::<bool>()).prop_map(|(at, number, has_alias)| Change::Rename(at, number, has_alias)),
        any::<bool>().prop_map(Change::Namespace),
    ]
}

impl Version {
    fn next(&self, change: &Change) -> Self {
        let mut next = self.clone();
        let count = next.fields.len();
        match change {
            Change::Add(field) if next.fields.iter().all(|known| !known.is_called(field.number)) => next.fields.push(field.clone()),
            Change::Remove(at) if count > 1 => drop(next.fields.remove(at % count)),
            Change::Retype(at, kind) => next.fields[at % count].kind = *kind,
            Change::Nullable(at) => next.fields[at % count].is_nullable ^= true,
            Change::Default(at) => next.fields[at % count].has_default ^= true,
            Change::Swap(a, b) => next.fields.swap(a % count, b % count),
            Change::Namespace(has_namespace) => next.has_namespace = *has_namespace,
            Change::Rename(at, number, has_alias) if next.fields.iter().all(|known| !known.is_called(*number)) => {
                let field = &mut next.fields[at % count];
                let before = std::mem::replace(&mut field.number, *number);
                if *has_alias {
                    field.aliases.push(before);
                }
            }
            Change::Add(_) | Change::Remove(_) | Change::Rename(..) => {}
        }
        next
    }

    fn json(&self) -> String {
        let fields: Vec<Json> = self.fields.iter().map(Field::json).collect();
        let mut record = json!({"type": "record", "name": "R", "fields": fields});
        if self.has_namespace {
            record["namespace"] = json!("of.some");
        }
        record.to_string()
    }

    /// The field that a reader's field is read from: of its name, else of an alias.
    fn written_for(&self, read: &Field) -> Option<&Field> {
        let mut names = std::iter::once(&read.number).chain(&read.aliases);
        names.find_map(|name| self.fields.iter().find(|written| written.number == *name))
    }

    fn value(&self, dice: &mut u64) -> Value {
        Value::Record(self.fields.iter().map(|field| (field.name(), field.value(dice))).collect())
    }
}

impl Field {
    fn name(&self) -> String {
        format!("f{}", self.number)
    }

    fn is_called(&self, number: usize) -> bool {
        self.number == number || self.aliases.contains(&number)
    }

    fn json(&self) -> Json {
        let kind = match self.kind {
            Kind::Boolean => json!("boolean"),
            Kind::Int => json!("int"),
            Kind::Long => json!("long"),
            Kind::Float => json!("float"),
            Kind::Double => json!("double"),
            Kind::Text => json!("string"),
            Kind::Millis => json!({"type": "long", "logicalType": "timestamp-millis"}),
            Kind::Micros => json!({"type": "long", "logicalType": "timestamp-micros"}),
            Kind::Enum(symbols, has_default) => {
                // A renamed field keeps its type.
                let number = self.aliases.first().unwrap_or(&self.number);
                let mut symbols = json!({"type": "enum", "name": format!("E{number}"), "symbols": &SYMBOLS[..symbols]});
                if has_default {
                    symbols["default"] = json!("A");
                }
                symbols
            }
        };
        let default = match (self.is_nullable, self.kind) {
            (true, _) => json!(null),
            (false, Kind::Boolean) => json!(true),
            (false, Kind::Text) => json!("text"),
            (false, Kind::Enum(..)) => json!("A"),
            (false, Kind::Float | Kind::Double) => json!(1.5),
            (false, _) => json!(7),
        };
        let kind = if self.is_nullable { json!(["null", kind]) } else { kind };
        let aliases: Vec<String> = self.aliases.iter().map(|alias| format!("f{alias}")).collect();
        let mut field = json!({"name": self.name(), "type": kind, "aliases": aliases});
        if self.has_default {
            field["default"] = default;
        }
        field
    }

    fn value(&self, dice: &mut u64) -> Value {
        let roll = |dice: &mut u64| {
            *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *dice >> 33
        };
        let at = roll(dice);
        let value = match self.kind {
            Kind::Boolean => Value::Boolean(at & 1 == 0),
            Kind::Int => Value::Int(at as i32),
            Kind::Long => Value::Long(at as i64),
            Kind::Float => Value::Float(at as f32),
            Kind::Double => Value::Double(at as f64),
            Kind::Text => Value::String(format!("t{at}")),
            Kind::Millis => Value::TimestampMillis(at as i64),
            Kind::Micros => Value::TimestampMicros(at as i64),
            Kind::Enum(symbols, _) => {
                let symbol = at as usize % symbols;
                Value::Enum(symbol as u32, SYMBOLS[symbol].into())
            }
        };
        match (self.is_nullable, roll(dice) % 3) {
            (true, 0) => Value::Union(0, Box::new(Value::Null)),
            (true, _) => Value::Union(1, Box::new(value)),
            (false, _) => value,
        }
    }
}

fn cell(value: Value) -> Cell<'static> {
    match value {
        Value::Null => Cell::Null,
        Value::Boolean(value) => Cell::Boolean(value),
        Value::Int(value) => Cell::Int(value),
        Value::Long(value) | Value::TimestampMillis(value) | Value::TimestampMicros(value) => Cell::Long(value),
        Value::Float(value) => Cell::Float(value),
        Value::Double(value) => Cell::Double(value),
        Value::String(value) | Value::Enum(_, value) => Cell::Text(value.into()),
        Value::Union(_, value) => cell(*value),
        other => panic!("{other:?} is no value of a chain"),
    }
}

/// Rows as apache-avro reads them, those that it can read.
fn rows_of(values: Vec<Value>, reader: &ReaderSchema) -> RecordBatch {
    let mut columns: Vec<Vec<Cell<'static>>> = reader.fields().iter().map(|_| Vec::new()).collect();
    for value in values {
        let Value::Record(fields) = value else { panic!("{value:?} is no record") };
        columns.iter_mut().zip(fields).for_each(|(column, (_, value))| column.push(cell(value)));
    }
    let arrays = columns.into_iter().zip(reader.fields()).map(|(cells, field)| cell::column(field.data_type(), cells).expect("a column"));
    let schema = arrow::datatypes::Schema::new(reader.fields().clone());
    RecordBatch::try_new(schema.into(), arrays.collect()).expect("columns of the reader")
}

/// Answers at once with one schema.
struct Knows(String);

impl SchemaLookup for Knows {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        answer(Ok(FetchedSchema::avro(id, self.0.clone())));
    }
}

fn verdict(writer: &str, reader: &Arc<ReaderSchema>) -> Verdict {
    let metrics = TenantMetrics::new(&Metrics::new(), "zoo");
    let gate = Gate::new(reader.clone(), Arc::new(Knows(writer.to_owned())), SystemClock::shared(), metrics, Policy::default());
    gate.verdict(SchemaId(7));
    gate.verdict(SchemaId(7))
}

/// Whether the pair is one of the two that are refused here on purpose.
fn is_stricter_here(writer: &Version, reader: &Version) -> bool {
    let shared = reader.fields.iter().filter_map(|read| Some((writer.written_for(read)?, read)));
    shared.into_iter().any(|(written, read)| {
        let has_other_meaning = matches!((written.kind, read.kind), (Kind::Millis, Kind::Micros) | (Kind::Micros, Kind::Millis));
        has_other_meaning || (written.is_nullable && read.is_nullable)
    })
}

/// apache-avro says that an instant can be read as a plain number and the other way round, and then does not read it; nor does it read a
/// field by its alias, which it knows when it compares.
fn is_misread_there(writer: &Version, reader: &Version) -> bool {
    let is_instant = |kind: Kind| matches!(kind, Kind::Millis | Kind::Micros);
    let is_it = |read: &Field, written: &Field| read.number != written.number || is_instant(read.kind) != is_instant(written.kind);
    reader.fields.iter().any(|read| writer.written_for(read).is_some_and(|written| is_it(read, written)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_gate_says_what_apache_avro_says_and_the_decoder_does(
        first in proptest::collection::vec(field(), 1..4),
        changes in proptest::collection::vec(change(), 1..8),
        reads_as in any::<proptest::sample::Index>(),
        seed: u64,
    ) {
        let mut fields: Vec<Field> = Vec::new();
        first.into_iter().for_each(|field| if fields.iter().all(|known| known.number != field.number) { fields.push(field) });
        let mut chain = vec![Version { fields, has_namespace: false }];
        for change in &changes {
            chain.push(chain.last().expect("a first version").next(change));
        }
        let read_version = &chain[reads_as.index(chain.len())];
        let reader = Arc::new(ReaderSchema::parse(&read_version.json()).expect("a reader schema"));
        let mut dice = seed;
        for version in &chain {
            one_pair(version, read_version, &reader, &mut dice)?;
        }
    }
}

fn one_pair(version: &Version, read_version: &Version, reader: &Arc<ReaderSchema>, dice: &mut u64) -> Result<(), TestCaseError> {
    let json = version.json();
    let writer = parse_writer(&json, &SchemaLimits::default()).expect("a writer schema");
    let apache = SchemaCompatibility::can_read(&writer, reader.avro());
    let accepted = match verdict(&json, reader) {
        Verdict::Accepted(accepted) => accepted,
        Verdict::Refused { detail } => {
            prop_assert!(
                apache.is_err() || is_stricter_here(version, read_version),
                "refused for {detail}, of apache-avro {apache:?}: {json}"
            );
            return Ok(());
        }
        other => return Err(TestCaseError::fail(format!("{other:?}"))),
    };
    prop_assert!(apache.is_ok(), "accepted, of apache-avro {apache:?}: {json}");
    let account = account(&writer, reader).expect("accepted");
    let is_whole = account.columns.iter().all(|column| column.refused_values.is_empty());
    prop_assert_eq!(is_whole, matches!(apache, Ok(Compatibility::Full)), "{} {:?}", json, account);

    let datums = datums(version, &writer, dice);
    for datum in &datums {
        prop_assert_eq!(accepted.inspector.inspect(datum), Ok(()));
    }
    if is_misread_there(version, read_version) {
        let decoded = Decoder::new(&writer, reader).expect("accepted").decode(datums.iter().map(Vec::as_slice)).expect("inspected");
        prop_assert!(!is_whole || decoded.rejected.is_empty());
        return Ok(());
    }
    let apache = GenericDatumReader::builder(&writer).reader_schema(reader.avro()).build().expect("complete schemas");
    let read: Vec<Option<Value>> = datums.iter().map(|datum| apache.read_value(&mut datum.as_slice()).ok()).collect();
    let refused: Vec<usize> = read.iter().enumerate().filter(|(_, value)| value.is_none()).map(|(at, _)| at).collect();
    let decoded = Decoder::new(&writer, reader).expect("accepted").decode(datums.iter().map(Vec::as_slice)).expect("inspected");
    let rejected: Vec<usize> = decoded.rejected.iter().map(|(at, _)| *at).collect();
    prop_assert_eq!(&rejected, &refused, "{}", json);
    prop_assert!(!is_whole || rejected.is_empty());
    prop_assert_eq!(decoded.rows, rows_of(read.into_iter().flatten().collect(), reader));
    Ok(())
}

fn datums(version: &Version, writer: &Schema, dice: &mut u64) -> Vec<Vec<u8>> {
    let encoder = GenericDatumWriter::builder(writer).build().expect("a complete schema");
    (0..12).map(|_| encoder.write_value_to_vec(version.value(dice)).expect("a value of the schema")).collect()
}
