//! Columns → bytes: the Avro schema of rows, their encoding for output topics, and (in [`state`]) for the store and changelogs.
//!
//! arrow-avro writes the datums, a whole batch at a time. Before it sees a column, the column gets the *wire type*: the Arrow
//! type that stands for exactly one Avro type. All that can fail on a value (a number too large for `long`) fails in that cast,
//! and names the column.

use std::sync::Arc;

use apache_avro::Schema as AvroSchema;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow_avro::schema::{FingerprintStrategy, SCHEMA_METADATA_KEY};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use bytes::Bytes;
use serde_json::{Value, json};

use super::column_form::kind;
use super::frame::SchemaId;

mod state;

pub use state::{StateCodec, StateFault};

/// Metadata key of a column: the Avro logical type that its type alone does not tell, `uuid`.
pub const LOGICAL_KEY: &str = "avro.logical";

/// The key by which arrow-avro marks a uuid.
const ARROW_AVRO_LOGICAL_KEY: &str = "logicalType";

/// Why rows cannot become Avro.
#[derive(Debug, thiserror::Error)]
pub enum EncodeFault {
    /// The column's type has no Avro counterpart.
    #[error("column `{column}` of type {data_type} has no Avro type: cast it in the tenant file")]
    Type {
        /// Path of the column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// Two columns would have one Avro name.
    #[error("columns `{first}` and `{second}` would both be field `{name}` in Avro: rename one")]
    Name {
        /// The first column.
        first: String,
        /// The second column.
        second: String,
        /// The Avro name of both.
        name: String,
    },
    /// The Avro schema does not describe the rows.
    #[error("the schema of id {id} does not describe the rows to be written: {cause}")]
    Schema {
        /// The schema's id.
        id: SchemaId,
        /// Where they differ.
        cause: String,
    },
    /// A value does not fit its Avro type.
    #[error("failed to encode column `{column}`: {source}")]
    Value {
        /// The column.
        column: String,
        /// What does not fit.
        source: ArrowError,
    },
    /// The rows are not of the schema that the encoder was made for, or arrow-avro gave up.
    #[error("failed to encode rows: {0}")]
    Rows(String),
}

/// The name that a column has in Avro: characters other than letters, digits and `_` become `_`.
pub fn avro_name(column: &str) -> String {
    let mut name: String = column.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect();
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        name.insert(0, '_');
    }
    name
}

/// The Avro record schema `namespace.name` of rows with `fields`; nullable columns become `["null", T]` with default null.
///
/// # Errors
/// [`EncodeFault::Type`] and [`EncodeFault::Name`] naming the column.
pub fn avro_schema_of(name: &str, namespace: &str, fields: &Schema) -> Result<Value, EncodeFault> {
    let mut record = record_of(&avro_name(name), "", fields.fields())?;
    if !namespace.is_empty() {
        record["namespace"] = json!(namespace);
    }
    Ok(record)
}

fn record_of(name: &str, path: &str, fields: &Fields) -> Result<Value, EncodeFault> {
    let mut described: Vec<(String, &str, Value)> = Vec::with_capacity(fields.len());
    for field in fields {
        let own = avro_name(field.name());
        if let Some((_, first, _)) = described.iter().find(|(other, ..)| *other == own) {
            return Err(EncodeFault::Name { first: (*first).to_owned(), second: field.name().clone(), name: own });
        }
        let column = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
        let plain = type_of(&format!("{name}_{own}"), &column, field)?;
        let is_optional = field.is_nullable() && plain != "null";
        let described_field = if is_optional {
            json!({ "name": own, "type": ["null", plain], "default": null })
        } else {
            json!({ "name": own, "type": plain })
        };
        described.push((own, field.name(), described_field));
    }
    let fields: Vec<Value> = described.into_iter().map(|(.., field)| field).collect();
    Ok(json!({ "type": "record", "name": name, "fields": fields }))
}

/// Avro's type of a column, null left aside; `name` is for a record or fixed type in it.
fn type_of(name: &str, column: &str, field: &Field) -> Result<Value, EncodeFault> {
    let logical = |base: &str, logical: &str| json!({ "type": base, "logicalType": logical });
    let items = |item: &Field| -> Result<Value, EncodeFault> {
        let plain = type_of(&format!("{name}_item"), &format!("{column}[]"), item)?;
        Ok(if item.is_nullable() && plain != "null" { json!(["null", plain]) } else { plain })
    };
    Ok(match wire_type(field) {
        Some(DataType::Null) => json!("null"),
        Some(DataType::Boolean) => json!("boolean"),
        Some(DataType::Int32) => json!("int"),
        Some(DataType::Int64) => json!("long"),
        Some(DataType::Float32) => json!("float"),
        Some(DataType::Float64) => json!("double"),
        Some(DataType::Utf8) if is_uuid(field) => logical("string", "uuid"),
        Some(DataType::FixedSizeBinary(16)) if is_uuid(field) => logical("string", "uuid"),
        Some(DataType::Utf8) => json!("string"),
        Some(DataType::Binary) => json!("bytes"),
        Some(DataType::FixedSizeBinary(size)) => json!({ "type": "fixed", "name": format!("{name}_fixed"), "size": size }),
        Some(DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale)) => {
            json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
        }
        Some(DataType::Date32) => logical("int", "date"),
        Some(DataType::Time32(_)) => logical("int", "time-millis"),
        Some(DataType::Time64(_)) => logical("long", "time-micros"),
        Some(DataType::Timestamp(unit, zone)) => logical("long", timestamp_word(unit, zone.is_some())),
        Some(DataType::List(item)) => json!({ "type": "array", "items": items(&item)? }),
        Some(DataType::Map(entries, _)) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => json!({ "type": "map", "values": items(&pair[1])? }),
            _ => return Err(EncodeFault::Type { column: column.to_owned(), data_type: field.data_type().clone() }),
        },
        // The columns as they are named by the tenant, so that a fault names them so.
        Some(DataType::Struct(wire)) => match field.data_type() {
            DataType::Struct(own) => record_of(name, column, own)?,
            _ => record_of(name, column, &wire)?,
        },
        _ => return Err(EncodeFault::Type { column: column.to_owned(), data_type: field.data_type().clone() }),
    })
}

fn timestamp_word(unit: TimeUnit, is_instant: bool) -> &'static str {
    match (unit, is_instant) {
        (TimeUnit::Second | TimeUnit::Millisecond, true) => "timestamp-millis",
        (TimeUnit::Microsecond, true) => "timestamp-micros",
        (TimeUnit::Nanosecond, true) => "timestamp-nanos",
        (TimeUnit::Second | TimeUnit::Millisecond, false) => "local-timestamp-millis",
        (TimeUnit::Microsecond, false) => "local-timestamp-micros",
        (TimeUnit::Nanosecond, false) => "local-timestamp-nanos",
    }
}

fn is_uuid(field: &Field) -> bool {
    [LOGICAL_KEY, ARROW_AVRO_LOGICAL_KEY].iter().any(|key| field.metadata().get(*key).is_some_and(|logical| logical == "uuid"))
}

/// The Arrow type from which arrow-avro writes the column's Avro type; none where there is none.
fn wire_type(field: &Field) -> Option<DataType> {
    use DataType as T;
    Some(match field.data_type() {
        T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 => T::Int32,
        T::Int64 | T::UInt32 | T::UInt64 => T::Int64,
        T::Float16 | T::Float32 => T::Float32,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView => T::Binary,
        T::Date32 | T::Date64 => T::Date32,
        T::Time32(_) => T::Time32(TimeUnit::Millisecond),
        T::Time64(TimeUnit::Microsecond) => T::Time64(TimeUnit::Microsecond),
        T::Timestamp(TimeUnit::Second, zone) => T::Timestamp(TimeUnit::Millisecond, zone.clone()),
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) | T::Decimal128(precision, scale) if *scale >= 0 => {
            T::Decimal128(*precision, *scale)
        }
        // arrow-avro takes up to 38 digits for 128 bits, whatever the column is.
        T::Decimal256(precision, scale) if *scale >= 0 && *precision <= 38 => T::Decimal128(*precision, *scale),
        T::Decimal256(precision, scale) if *scale >= 0 => T::Decimal256(*precision, *scale),
        T::Dictionary(_, value) => wire_type(&field.clone().with_data_type(value.as_ref().clone()))?,
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) => T::List(wire_field(item)?.into()),
        T::Map(entries, sorted) => {
            let T::Struct(pair) = entries.data_type() else { return None };
            let [key, value] = pair.iter().as_slice() else { return None };
            let key = Field::new("key", T::Utf8, false).with_metadata(key.metadata().clone());
            let value = wire_field(value)?.with_name("value");
            T::Map(Field::new("entries", T::Struct(vec![key, value].into()), false).into(), *sorted)
        }
        T::Struct(fields) => T::Struct(fields.iter().map(|field| wire_field(field)).collect::<Option<Fields>>()?),
        other @ (T::Null | T::Boolean | T::Float64 | T::FixedSizeBinary(_) | T::Timestamp(..)) => other.clone(),
        _ => return None,
    })
}

fn wire_field(field: &Field) -> Option<Field> {
    let wire = Field::new(avro_name(field.name()), wire_type(field)?, field.is_nullable());
    let is_fixed_uuid = is_uuid(field) && matches!(wire.data_type(), DataType::FixedSizeBinary(16));
    Some(if is_fixed_uuid { wire.with_metadata([(ARROW_AVRO_LOGICAL_KEY.into(), "uuid".into())].into()) } else { wire })
}

/// Encodes rows of one schema for an output topic: a framed value for each row.
pub struct Encoder {
    rows: SchemaRef,
    wire: SchemaRef,
    writer: arrow_avro::writer::Encoder,
}

impl Encoder {
    /// An encoder of `rows` to `schema_json`, which the registry knows as `id`. The schema may differ from
    /// [`avro_schema_of`] the rows only in names of types, documentation and defaults.
    ///
    /// # Errors
    /// [`EncodeFault::Schema`] when the schema is for other rows; [`EncodeFault::Type`] when a column has no Avro type.
    pub fn new(rows: &SchemaRef, schema_json: &str, id: SchemaId) -> Result<Self, EncodeFault> {
        let differs = |cause: String| EncodeFault::Schema { id, cause };
        let given = AvroSchema::parse_str(schema_json).map_err(|error| differs(error.to_string()))?;
        let AvroSchema::Record(record) = &given else { return Err(differs("it is not a record".into())) };
        let needed = avro_schema_of(record.name.name(), "", rows)?;
        let needed = AvroSchema::parse(&needed).map_err(|error| differs(error.to_string()))?;
        require_same(&needed, &given, "").map_err(differs)?;
        let wire = Schema::new(rows.fields().iter().filter_map(|field| wire_field(field)).collect::<Vec<_>>());
        let described = wire.clone().with_metadata([(SCHEMA_METADATA_KEY.to_owned(), schema_json.to_owned())].into());
        let writer = WriterBuilder::new(described)
            .with_fingerprint_strategy(FingerprintStrategy::Id(id.0))
            .build_encoder::<AvroSoeFormat>()
            .map_err(|error| differs(error.to_string()))?;
        Ok(Self { rows: rows.clone(), wire: Arc::new(wire), writer })
    }

    /// A value for each row, in order: zero byte, schema id, datum.
    ///
    /// # Errors
    /// [`EncodeFault::Value`] when a value does not fit; nothing is encoded then.
    pub fn encode(&mut self, rows: &RecordBatch) -> Result<Vec<Bytes>, EncodeFault> {
        let schema = rows.schema_ref();
        let is_expected = |(given, expected): (&Arc<Field>, &Arc<Field>)| given.data_type() == expected.data_type();
        if schema.fields().len() != self.rows.fields().len() || !schema.fields().iter().zip(self.rows.fields()).all(is_expected) {
            return Err(EncodeFault::Rows(format!("columns {:?} were expected, not {:?}", types(&self.rows), types(schema))));
        }
        let columns = rows.columns().iter().zip(self.wire.fields()).zip(self.rows.fields());
        let columns = columns
            .map(|((column, wire), field)| {
                to_wire(column, wire.data_type()).map_err(|source| EncodeFault::Value { column: field.name().clone(), source })
            })
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        let wire = RecordBatch::try_new(self.wire.clone(), columns).map_err(|error| EncodeFault::Rows(error.to_string()))?;
        self.writer.encode(&wire).map_err(|error| EncodeFault::Rows(error.to_string()))?;
        Ok(self.writer.flush().iter().collect())
    }
}

fn types(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect()
}

/// Casts, where a value that does not fit is an error, not null.
fn to_wire(column: &ArrayRef, wire: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == wire {
        return Ok(column.clone());
    }
    cast_with_options(column, wire, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Whether two schemas write the same bytes for the same rows; names of types do not count, names of fields do.
fn require_same(needed: &AvroSchema, given: &AvroSchema, at: &str) -> Result<(), String> {
    let step = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    let differs = || Err(format!("`{at}` is {} there, {} is needed", kind(given), kind(needed)));
    match (needed, given) {
        (AvroSchema::Record(needed), AvroSchema::Record(given)) => {
            let names =
                |record: &apache_avro::schema::RecordSchema| record.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
            if names(needed) != names(given) {
                return Err(format!("`{at}` has fields {:?} there, {:?} are needed", names(given), names(needed)));
            }
            let mut fields = needed.fields.iter().zip(&given.fields);
            fields.try_for_each(|(needed, given)| require_same(&needed.schema, &given.schema, &step(&needed.name)))
        }
        (AvroSchema::Union(needed), AvroSchema::Union(given)) if needed.variants().len() == given.variants().len() => {
            let mut branches = needed.variants().iter().zip(given.variants());
            branches.try_for_each(|(needed, given)| require_same(needed, given, at))
        }
        (AvroSchema::Array(needed), AvroSchema::Array(given)) => require_same(&needed.items, &given.items, &step("[]")),
        (AvroSchema::Map(needed), AvroSchema::Map(given)) => require_same(&needed.types, &given.types, &step("[]")),
        (AvroSchema::Fixed(needed), AvroSchema::Fixed(given)) if needed.size == given.size => Ok(()),
        (AvroSchema::Record(_) | AvroSchema::Fixed(_) | AvroSchema::Union(_) | AvroSchema::Ref { .. }, _) => differs(),
        (needed, given) if needed == given => Ok(()),
        _ => differs(),
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
