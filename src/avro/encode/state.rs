//! Accumulators' state rows as values of the store and the changelog: the same bits come back.
//!
//! A value is an Avro *single object*: `C3 01`, the eight-byte fingerprint of the state's Avro schema, the datum. The
//! fingerprint names the shape, so that a value of an older tenant file is recognised, never misread.
//!
//! A conversion could change bits (a `UInt64` above `long`, a negative zero, nanoseconds), so none is made: a column of fixed
//! width is written as the Avro type of that width over the very same buffer. The Avro schema therefore names each field with
//! position, column and Arrow type, so that two shapes never share a fingerprint. The words for types are ours, since a
//! library's spelling may change between versions and stored state must not.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray, make_array};
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{
    AvroSchema, Fingerprint, FingerprintAlgorithm, FingerprintStrategy, SCHEMA_METADATA_KEY, SINGLE_OBJECT_MAGIC, SchemaStore,
};
use arrow_avro::writer::format::AvroSoeFormat;
use arrow_avro::writer::{Encoder, WriterBuilder};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{avro_name, to_wire};

/// Bytes in front of the datum.
const PREFIX_BYTES: usize = 10;

/// Why states cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StateFault {
    /// A column's type cannot be stored.
    #[error("state column `{column}` of type {data_type} cannot be stored")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// A value was written with another shape of state.
    #[error("the stored state has shape {found}, this tenant file needs {expected}: name the window anew or rebuild it")]
    OtherShape {
        /// What the value begins with, in hex.
        found: String,
        /// What it should begin with, in hex.
        expected: String,
    },
    /// A value has the right shape and cannot be read all the same.
    #[error("a stored state is damaged: {0}")]
    Damaged(String),
    /// Rows cannot be encoded, or the codec cannot be made.
    #[error("failed to encode state rows: {0}")]
    Rows(String),
}

/// Encodes and decodes state rows of one shape.
pub struct StateCodec {
    state: SchemaRef,
    wire: SchemaRef,
    prefix: [u8; PREFIX_BYTES],
    writer: Encoder,
    avro: AvroSchema,
    reader: Decoder,
}

impl StateCodec {
    /// A codec for rows of `state`.
    ///
    /// # Errors
    /// [`StateFault::Type`] naming the column that cannot be stored.
    pub fn new(state: &SchemaRef) -> Result<Self, StateFault> {
        let rows = |error: &dyn std::fmt::Display| StateFault::Rows(error.to_string());
        let mut wire = Vec::with_capacity(state.fields().len());
        let mut described = Vec::with_capacity(state.fields().len());
        for (position, field) in state.fields().iter().enumerate() {
            let refused = || StateFault::Type { column: field.name().clone(), data_type: field.data_type().clone() };
            let word = word(field.data_type()).ok_or_else(refused)?;
            let name = format!("s{position}_{}_{word}", avro_name(field.name()));
            let wire_type = wire_type(field.data_type()).ok_or_else(refused)?;
            described.push(json!({ "name": name, "type": avro_type(&name, &wire_type, field.is_nullable()).ok_or_else(refused)? }));
            wire.push(Field::new(name, wire_type, field.is_nullable()));
        }
        let avro = AvroSchema::new(json!({ "type": "record", "name": "State", "fields": described }).to_string());
        let Fingerprint::Rabin(fingerprint) = avro.fingerprint(FingerprintAlgorithm::Rabin).map_err(|error| rows(&error))? else {
            return Err(StateFault::Rows("the fingerprint is not CRC-64".into()));
        };
        let mut prefix = [0; PREFIX_BYTES];
        prefix[..2].copy_from_slice(&SINGLE_OBJECT_MAGIC);
        prefix[2..].copy_from_slice(&fingerprint.to_le_bytes());
        let wire = Schema::new(wire);
        let written = wire.clone().with_metadata([(SCHEMA_METADATA_KEY.to_owned(), avro.json_string.clone())].into());
        let writer = WriterBuilder::new(written).with_fingerprint_strategy(FingerprintStrategy::Rabin);
        let writer = writer.build_encoder::<AvroSoeFormat>().map_err(|error| rows(&error))?;
        let reader = reader_of(&avro).map_err(|error| rows(&error))?;
        Ok(Self { state: state.clone(), wire: Arc::new(wire), prefix, writer, avro, reader })
    }

    /// What every value of this shape begins with, in hex: for identity records and for people.
    pub fn shape(&self) -> String {
        hex(&self.prefix)
    }

    /// A value for each row, in order.
    ///
    /// # Errors
    /// [`StateFault::Rows`] when the rows are not of the codec's shape.
    pub fn encode(&mut self, rows: &RecordBatch) -> Result<Vec<Bytes>, StateFault> {
        let fault = |error: ArrowError| StateFault::Rows(error.to_string());
        if rows.num_columns() != self.state.fields().len() {
            return Err(StateFault::Rows(format!("{} columns were expected, not {}", self.state.fields().len(), rows.num_columns())));
        }
        let mut columns = Vec::with_capacity(rows.num_columns());
        for ((column, field), wire) in rows.columns().iter().zip(self.state.fields()).zip(self.wire.fields()) {
            if column.data_type() != field.data_type() {
                let text = format!("column `{}` is {}, {} was expected", field.name(), column.data_type(), field.data_type());
                return Err(StateFault::Rows(text));
            }
            columns.push(convert(column, wire.data_type()).map_err(fault)?);
        }
        let wire = RecordBatch::try_new(self.wire.clone(), columns).map_err(fault)?;
        self.writer.encode(&wire).map_err(|error| StateFault::Rows(error.to_string()))?;
        Ok(self.writer.flush().iter().collect())
    }

    /// The rows of `values`, in order.
    ///
    /// # Errors
    /// [`StateFault::OtherShape`] or [`StateFault::Damaged`]; no row is given then.
    pub fn decode<'v>(&mut self, values: impl IntoIterator<Item = &'v [u8]>) -> Result<RecordBatch, StateFault> {
        let decoded = self.decode_all(values);
        if decoded.is_err() {
            // A reader that failed keeps parts of rows: the next call must not see them.
            self.reader = reader_of(&self.avro).map_err(|error| StateFault::Rows(error.to_string()))?;
        }
        decoded
    }

    fn decode_all<'v>(&mut self, values: impl IntoIterator<Item = &'v [u8]>) -> Result<RecordBatch, StateFault> {
        let mut count = 0;
        for value in values {
            if !value.starts_with(&self.prefix) {
                let found = hex(value.get(..PREFIX_BYTES).unwrap_or(value));
                return Err(StateFault::OtherShape { found, expected: self.shape() });
            }
            let used = self.reader.decode(value).map_err(|error| StateFault::Damaged(error.to_string()))?;
            count += 1;
            if used != value.len() {
                return Err(StateFault::Damaged(format!("{used} of {} bytes are a state", value.len())));
            }
        }
        let damaged = |error: ArrowError| StateFault::Damaged(error.to_string());
        let batch = self.reader.flush().map_err(|error| StateFault::Damaged(error.to_string()))?;
        let Some(wire) = batch else {
            return if count == 0 {
                Ok(RecordBatch::new_empty(self.state.clone()))
            } else {
                Err(StateFault::Damaged("no state in it".into()))
            };
        };
        if wire.num_rows() != count {
            return Err(StateFault::Damaged(format!("{count} values hold {} states", wire.num_rows())));
        }
        let columns = wire.columns().iter().zip(self.state.fields()).map(|(column, field)| convert(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(damaged)?;
        RecordBatch::try_new(self.state.clone(), columns).map_err(damaged)
    }
}

fn reader_of(avro: &AvroSchema) -> Result<Decoder, ArrowError> {
    let mut store = SchemaStore::new();
    let fingerprint = store.register(avro.clone())?;
    // The rows of one call come out as one batch, however many they are.
    ReaderBuilder::new().with_batch_size(usize::MAX).with_writer_schema_store(store).with_active_fingerprint(fingerprint).build_decoder()
}

/// The type whose Avro form carries the same bits; none for types that no accumulator's state has.
fn wire_type(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match data_type {
        T::Boolean | T::Float32 | T::Float64 | T::Utf8 | T::Binary | T::FixedSizeBinary(_) => data_type.clone(),
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView => T::Binary,
        T::List(item) | T::LargeList(item) => {
            T::List(Field::new(Field::LIST_FIELD_DEFAULT_NAME, wire_type(item.data_type())?, item.is_nullable()).into())
        }
        T::Struct(fields) => {
            let wire = |(position, field): (usize, &Arc<Field>)| {
                Some(Field::new(format!("f{position}"), wire_type(field.data_type())?, field.is_nullable()))
            };
            T::Struct(fields.iter().enumerate().map(wire).collect::<Option<Fields>>()?)
        }
        T::Dictionary(_, value) => wire_type(value)?,
        fixed => match fixed.primitive_width()? {
            4 => T::Int32,
            8 => T::Int64,
            width => T::FixedSizeBinary(i32::try_from(width).ok()?),
        },
    })
}

/// Avro's type of a wire type.
fn avro_type(name: &str, wire: &DataType, is_nullable: bool) -> Option<Value> {
    let plain = match wire {
        DataType::Boolean => json!("boolean"),
        DataType::Int32 => json!("int"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 => json!("string"),
        DataType::Binary => json!("bytes"),
        DataType::FixedSizeBinary(size) => json!({ "type": "fixed", "name": format!("{name}_fixed"), "size": size }),
        DataType::List(item) => {
            json!({ "type": "array", "items": avro_type(&format!("{name}_item"), item.data_type(), item.is_nullable())? })
        }
        DataType::Struct(fields) => {
            let field = |field: &Arc<Field>| {
                Some(
                    json!({ "name": field.name(), "type": avro_type(&format!("{name}_{}", field.name()), field.data_type(), field.is_nullable())? }),
                )
            };
            json!({ "type": "record", "name": format!("{name}_record"), "fields": fields.iter().map(field).collect::<Option<Vec<_>>>()? })
        }
        _ => return None,
    };
    Some(if is_nullable { json!(["null", plain]) } else { plain })
}

/// Our word for an Arrow type, for ever the same.
fn word(data_type: &DataType) -> Option<String> {
    use DataType as T;
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    let optional = |field: &Field| Some(format!("{}{}", word(field.data_type())?, if field.is_nullable() { "_null" } else { "" }));
    Some(match data_type {
        T::Boolean => "bool".into(),
        T::Int8 => "i8".into(),
        T::Int16 => "i16".into(),
        T::Int32 => "i32".into(),
        T::Int64 => "i64".into(),
        T::UInt8 => "u8".into(),
        T::UInt16 => "u16".into(),
        T::UInt32 => "u32".into(),
        T::UInt64 => "u64".into(),
        T::Float16 => "f16".into(),
        T::Float32 => "f32".into(),
        T::Float64 => "f64".into(),
        T::Utf8 => "text".into(),
        T::LargeUtf8 => "text_large".into(),
        T::Utf8View => "text_view".into(),
        T::Binary => "bytes".into(),
        T::LargeBinary => "bytes_large".into(),
        T::BinaryView => "bytes_view".into(),
        T::FixedSizeBinary(size) => format!("fixed{size}"),
        T::Date32 => "date32".into(),
        T::Date64 => "date64".into(),
        T::Time32(of) => format!("time32_{}", unit(of)),
        T::Time64(of) => format!("time64_{}", unit(of)),
        T::Timestamp(of, None) => format!("timestamp_{}", unit(of)),
        T::Timestamp(of, Some(zone)) => format!("timestamp_{}_{}", unit(of), avro_name(zone)),
        T::Duration(of) => format!("duration_{}", unit(of)),
        T::Interval(IntervalUnit::YearMonth) => "interval_year_month".into(),
        T::Interval(IntervalUnit::DayTime) => "interval_day_time".into(),
        T::Interval(IntervalUnit::MonthDayNano) => "interval_month_day_nano".into(),
        T::Decimal32(precision, scale) => avro_name(&format!("decimal32_{precision}_{scale}")),
        T::Decimal64(precision, scale) => avro_name(&format!("decimal64_{precision}_{scale}")),
        T::Decimal128(precision, scale) => avro_name(&format!("decimal128_{precision}_{scale}")),
        T::Decimal256(precision, scale) => avro_name(&format!("decimal256_{precision}_{scale}")),
        T::List(item) => format!("list_{}", optional(item)?),
        T::LargeList(item) => format!("list_large_{}", optional(item)?),
        T::Struct(fields) => format!("struct_{}_end", fields.iter().map(|field| optional(field)).collect::<Option<Vec<_>>>()?.join("_")),
        T::Dictionary(_, value) => format!("dictionary_{}", word(value)?),
        _ => return None,
    })
}

/// From a state's type to its wire type or back, the bits of each value untouched.
fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let from = array.data_type();
    if from == to {
        return Ok(array.clone());
    }
    match (from, to) {
        (DataType::Dictionary(_, value), _) => convert(&to_wire(array, value)?, to),
        (_, DataType::Dictionary(_, value)) => to_wire(&convert(array, value)?, to),
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = convert(list.values(), item.data_type())?;
            Ok(Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned())?))
        }
        (DataType::LargeList(item), DataType::List(_)) => convert(&to_wire(array, &DataType::List(item.clone()))?, to),
        (DataType::List(_), DataType::LargeList(item)) => to_wire(&convert(array, &DataType::List(item.clone()))?, to),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let of = array.as_struct();
            let columns = of.columns().iter().zip(fields).map(|(column, field)| convert(column, field.data_type()));
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns.collect::<Result<_, _>>()?, of.nulls().cloned())?))
        }
        _ if width(from).is_some() && width(from) == width(to) => {
            let data = array.to_data().into_builder().data_type(to.clone()).align_buffers(true).build()?;
            Ok(make_array(data))
        }
        _ => to_wire(array, to),
    }
}

/// Bytes of a value in its one buffer.
fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeBinary(size) => usize::try_from(*size).ok(),
        other => other.primitive_width(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
