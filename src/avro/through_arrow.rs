//! The fast road: arrow-avro decodes a whole slice into columns.
//!
//! arrow-avro gets wrong, or has no way for, several things that a resolution can ask for, so it is asked for little: schemas that
//! are matched already (each column under a name of its own), the simplest types, no defaults, no logical types. Numbers get
//! their column's type afterwards, at no cost; enums travel as their index. Property tests hold it to the plain road; a pair of
//! schemas that needs more takes the plain road.

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, RecordSchema, UuidSchema};
use arrow::array::{Array, ArrayRef, AsArray, make_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Fields, Int32Type};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

use super::blob::Blob;
use super::cell::{self, Cell};
use super::frame::{self, SchemaId};
use super::resolve::{Number, Plan, Resolution, Step, Symbol};
use super::schema::is_long;

/// Rows of one batch of arrow-avro's; larger slices are put together from several.
const BATCH_ROWS: usize = 8_192;

/// The id under which the one writer schema is known to arrow-avro.
const ID: SchemaId = SchemaId(1);

/// arrow-avro's decoder for a pair of schemas that needs nothing it gets wrong.
#[derive(Debug)]
pub(super) struct ThroughArrow {
    writer: AvroSchema,
    reader: AvroSchema,
    decoder: Decoder,
    frames: Vec<u8>,
    /// For each of the decoder's columns, the reader's column.
    columns: Vec<usize>,
}

/// Why a pair of schemas takes the plain road.
pub(super) type Why = String;

impl ThroughArrow {
    /// Prepares the fast road, or says why there is none.
    pub(super) fn new(writer: &RecordSchema, resolution: &Resolution) -> Result<Self, Why> {
        let (mut written, mut read, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (field, step)) in writer.fields.iter().zip(&resolution.record.steps).enumerate() {
            let name = format!("f{at}");
            match step {
                Step::Skip(_) => {
                    let skipped =
                        skippable(&field.schema).ok_or_else(|| format!("skipped field `{}` is not of a simple type", field.name))?;
                    written.push(json!({"name": name, "type": skipped}));
                }
                Step::Read { column, plan, .. } => {
                    let (from, to) = readable(plan).ok_or_else(|| format!("field `{}` is not of a simple type", field.name))?;
                    written.push(json!({"name": name, "type": from}));
                    read.push(json!({"name": name, "type": to}));
                    columns.push(*column);
                }
            }
        }
        if columns.is_empty() {
            return Err("writer and reader have no field in common".into());
        }
        let (writer, reader) = (record(&written), record(&read));
        let decoder = decoder(&writer, &reader).map_err(|error| format!("arrow-avro does not take the schemas: {error}"))?;
        Ok(Self { writer, reader, decoder, frames: Vec::new(), columns })
    }

    /// Decodes inspected datums into rows of `fields`.
    ///
    /// # Errors
    /// Whatever arrow-avro finds, a value without counterpart among it; the decoder is then made anew, and the datums have to take
    /// the plain road.
    pub(super) fn decode(&mut self, datums: &[&[u8]], fields: &Fields, resolution: &Resolution) -> Result<RecordBatch, ArrowError> {
        let decoded = self.rows(datums).and_then(|rows| finish(&rows, &self.columns, fields, resolution));
        if decoded.is_err() {
            self.decoder = decoder(&self.writer, &self.reader)?;
        }
        decoded
    }

    fn rows(&mut self, datums: &[&[u8]]) -> Result<RecordBatch, ArrowError> {
        // arrow-avro counts a column's bytes in 32 bits and panics beyond.
        let bytes = datums.iter().map(|datum| datum.len()).fold(0, usize::saturating_add);
        if i32::try_from(bytes).is_err() {
            return Err(ArrowError::OffsetOverflowError(bytes));
        }
        self.frames.clear();
        for datum in datums {
            self.frames.extend_from_slice(&frame::prefix(ID));
            self.frames.extend_from_slice(datum);
        }
        let mut batches = Vec::with_capacity(datums.len().div_ceil(BATCH_ROWS));
        let mut at = 0;
        while at < self.frames.len() {
            let consumed = self.decoder.decode(&self.frames[at..])?;
            at += consumed;
            match self.decoder.flush()? {
                Some(rows) => batches.push(rows),
                None => {
                    return Err(ArrowError::ParseError(format!("arrow-avro stopped at byte {at} of {}", self.frames.len())));
                }
            }
        }
        let rows = match batches.len() {
            1 => batches.swap_remove(0),
            _ => concat_batches(&self.decoder.schema(), &batches)?,
        };
        if rows.num_rows() != datums.len() {
            return Err(ArrowError::ParseError(format!("arrow-avro made {} rows of {} datums", rows.num_rows(), datums.len())));
        }
        Ok(rows)
    }
}

fn record(fields: &[Value]) -> AvroSchema {
    AvroSchema::new(json!({"type": "record", "name": "row", "fields": fields}).to_string())
}

fn decoder(writer: &AvroSchema, reader: &AvroSchema) -> Result<Decoder, ArrowError> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(ID.0), writer.clone())?;
    ReaderBuilder::new().with_writer_schema_store(store).with_reader_schema(reader.clone()).with_batch_size(BATCH_ROWS).build_decoder()
}

/// The Avro types by which arrow-avro is to write and read what a plan says.
fn readable(plan: &Plan) -> Option<(Value, Value)> {
    let (from, to) = match plan {
        Plan::Boolean => ("boolean", "boolean"),
        Plan::Int(number) => ("int", promoted(*number)),
        Plan::Long(number) => ("long", promoted(*number)),
        Plan::Float(number) => ("float", promoted(*number)),
        Plan::Double => ("double", "double"),
        Plan::Text(Blob::Text) => ("string", "string"),
        Plan::Bytes(Blob::Bytes) | Plan::Text(Blob::Bytes) => ("bytes", "bytes"),
        Plan::Enum(_) => ("int", "int"),
        Plan::Union(branches) => {
            return match &branches[..] {
                [Ok(Plan::Null), Ok(plan)] if !matches!(plan, Plan::Union(_)) => {
                    readable(plan).map(|(from, to)| (json!(["null", from]), json!(["null", to])))
                }
                [Ok(plan), Ok(Plan::Null)] if !matches!(plan, Plan::Union(_)) => {
                    readable(plan).map(|(from, to)| (json!([from, "null"]), json!([to, "null"])))
                }
                _ => None,
            };
        }
        _ => return None,
    };
    Some((json!(from), json!(to)))
}

fn promoted(number: Number) -> &'static str {
    match number {
        Number::Int => "int",
        Number::Long => "long",
        Number::Float => "float",
        Number::Double => "double",
    }
}

/// The Avro type by which arrow-avro is to skip a writer's field.
fn skippable(schema: &Schema) -> Option<Value> {
    let word = match schema {
        Schema::Boolean => "boolean",
        Schema::Int | Schema::Date | Schema::TimeMillis | Schema::Enum(_) => "int",
        long if is_long(long) => "long",
        Schema::Float => "float",
        Schema::Double => "double",
        Schema::String | Schema::Uuid(UuidSchema::String) => "string",
        Schema::Bytes | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. }) => "bytes",
        Schema::Union(union) => {
            return match union.variants() {
                [Schema::Null, inner] if !matches!(inner, Schema::Union(_)) => Some(json!(["null", skippable(inner)?])),
                [inner, Schema::Null] if !matches!(inner, Schema::Union(_)) => Some(json!([skippable(inner)?, "null"])),
                _ => None,
            };
        }
        _ => return None,
    };
    Some(json!(word))
}

/// Puts arrow-avro's columns where the reader wants them, as the types it wants, and adds defaults.
fn finish(rows: &RecordBatch, columns: &[usize], fields: &Fields, resolution: &Resolution) -> Result<RecordBatch, ArrowError> {
    let mut arrays: Vec<Option<ArrayRef>> = vec![None; fields.len()];
    for (at, column) in columns.iter().enumerate() {
        let plan = resolution.record.steps.iter().find_map(|step| match step {
            Step::Read { column: of, plan, .. } if of == column => Some(plan),
            _ => None,
        });
        let symbols = plan.and_then(symbols);
        arrays[*column] = Some(match symbols {
            Some(symbols) => texts(rows.column(at), symbols)?,
            None => retyped(rows.column(at), fields[*column].data_type())?,
        });
    }
    for (column, default) in &resolution.record.defaults {
        arrays[*column] = Some(cell::column(fields[*column].data_type(), vec![default.clone(); rows.num_rows()])?);
    }
    let arrays = arrays.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| ArrowError::ComputeError("a column has no source".into()))?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::new(fields.clone())), arrays, &options)
}

fn symbols(plan: &Plan) -> Option<&[Symbol]> {
    match plan {
        Plan::Enum(symbols) => Some(symbols),
        Plan::Union(branches) => branches.iter().flatten().find_map(symbols),
        _ => None,
    }
}

fn texts(indices: &ArrayRef, symbols: &[Symbol]) -> Result<ArrayRef, ArrowError> {
    let indices = indices.as_primitive_opt::<Int32Type>().ok_or_else(|| ArrowError::CastError("an enum's index is no int".into()))?;
    let text = |index: Option<i32>| match index {
        None => Ok(Cell::Null),
        Some(index) => match usize::try_from(index).ok().and_then(|index| symbols.get(index)).and_then(|symbol| symbol.reader.as_deref()) {
            Some(symbol) => Ok(Cell::Text(Cow::Borrowed(symbol))),
            None => Err(ArrowError::ComputeError(format!("symbol {index} has no counterpart"))),
        },
    };
    cell::column(&DataType::Utf8, indices.iter().map(text).collect::<Result<_, _>>()?)
}

/// The same values under the column's type, such as a timestamp for a long.
fn retyped(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == data_type {
        return Ok(array.clone());
    }
    if array.data_type().primitive_width().is_none() || array.data_type().primitive_width() != data_type.primitive_width() {
        return Err(ArrowError::CastError(format!("{} is no {data_type}", array.data_type())));
    }
    Ok(make_array(array.to_data().into_builder().data_type(data_type.clone()).build()?))
}
