//! One value on its way from bytes to a column, and columns made of such values.
//!
//! This is the plain road: a cell per value. It is taken where arrow-avro is not trusted, and for defaults.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanArray, FixedSizeBinaryBuilder, ListArray, MapArray, PrimitiveBuilder,
    StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, FieldRef, Fields, Float32Type, Float64Type, Int32Type, Int64Type,
    Time32MillisecondType, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    i256,
};
use arrow::error::ArrowError;

/// A value as its column holds it. Which variant a column takes follows from its type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// The unscaled value.
    Decimal(i256),
    List(Vec<Cell<'a>>),
    Map(Vec<(Cow<'a, str>, Cell<'a>)>),
    /// A value for each field of the struct.
    Struct(Vec<Cell<'a>>),
}

/// Builds the column of `data_type` that holds `cells`. A cell of another type than the column's counts as null.
///
/// # Errors
/// [`ArrowError`] when the values do not fit into one column: more than 2 GiB, or null where the type has none.
pub(super) fn column(data_type: &DataType, cells: Vec<Cell<'_>>) -> Result<ArrayRef, ArrowError> {
    match data_type {
        DataType::Boolean => Ok(Arc::new(cells.iter().map(boolean).collect::<BooleanArray>())),
        DataType::Int32 => primitive::<Int32Type>(data_type, &cells, int),
        DataType::Date32 => primitive::<Date32Type>(data_type, &cells, int),
        DataType::Time32(TimeUnit::Millisecond) => primitive::<Time32MillisecondType>(data_type, &cells, int),
        DataType::Int64 => primitive::<Int64Type>(data_type, &cells, long),
        DataType::Time64(TimeUnit::Microsecond) => primitive::<Time64MicrosecondType>(data_type, &cells, long),
        DataType::Timestamp(TimeUnit::Millisecond, _) => primitive::<TimestampMillisecondType>(data_type, &cells, long),
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>(data_type, &cells, long),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => primitive::<TimestampNanosecondType>(data_type, &cells, long),
        DataType::Float32 => primitive::<Float32Type>(data_type, &cells, float),
        DataType::Float64 => primitive::<Float64Type>(data_type, &cells, double),
        DataType::Decimal128(..) => primitive::<Decimal128Type>(data_type, &cells, |cell| decimal(cell).and_then(i256::to_i128)),
        DataType::Decimal256(..) => primitive::<Decimal256Type>(data_type, &cells, decimal),
        DataType::Utf8 => texts(&cells),
        DataType::Binary => binaries(&cells),
        DataType::FixedSizeBinary(bytes) => fixed(*bytes, &cells),
        DataType::List(item) => list(item, cells),
        DataType::Map(entries, _) => map(entries, cells),
        DataType::Struct(fields) => structs(fields, cells),
        other => Err(ArrowError::NotYetImplemented(format!("a column of {other}"))),
    }
}

fn boolean(cell: &Cell<'_>) -> Option<bool> {
    if let Cell::Boolean(value) = cell { Some(*value) } else { None }
}

fn int(cell: &Cell<'_>) -> Option<i32> {
    if let Cell::Int(value) = cell { Some(*value) } else { None }
}

fn long(cell: &Cell<'_>) -> Option<i64> {
    if let Cell::Long(value) = cell { Some(*value) } else { None }
}

fn float(cell: &Cell<'_>) -> Option<f32> {
    if let Cell::Float(value) = cell { Some(*value) } else { None }
}

fn double(cell: &Cell<'_>) -> Option<f64> {
    if let Cell::Double(value) = cell { Some(*value) } else { None }
}

fn decimal(cell: &Cell<'_>) -> Option<i256> {
    if let Cell::Decimal(value) = cell { Some(*value) } else { None }
}

fn text<'c>(cell: &'c Cell<'_>) -> Option<&'c str> {
    if let Cell::Text(value) = cell { Some(value) } else { None }
}

fn bytes<'c>(cell: &'c Cell<'_>) -> Option<&'c [u8]> {
    if let Cell::Bytes(value) = cell { Some(value) } else { None }
}

fn primitive<T: ArrowPrimitiveType>(
    data_type: &DataType,
    cells: &[Cell<'_>],
    value: impl Fn(&Cell<'_>) -> Option<T::Native>,
) -> Result<ArrayRef, ArrowError> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(cells.len());
    cells.iter().for_each(|cell| builder.append_option(value(cell)));
    Ok(Arc::new(builder.finish().with_data_type(data_type.clone())))
}

/// Arrow counts bytes of a column in 32 bits and panics beyond; a default may be long and a batch may have many rows.
fn total(lengths: impl Iterator<Item = usize>) -> Result<usize, ArrowError> {
    let sum = lengths.fold(0usize, usize::saturating_add);
    match i32::try_from(sum) {
        Ok(_) => Ok(sum),
        Err(_) => Err(ArrowError::OffsetOverflowError(sum)),
    }
}

fn texts(cells: &[Cell<'_>]) -> Result<ArrayRef, ArrowError> {
    let bytes = total(cells.iter().filter_map(text).map(str::len))?;
    let mut builder = StringBuilder::with_capacity(cells.len(), bytes);
    cells.iter().for_each(|cell| builder.append_option(text(cell)));
    Ok(Arc::new(builder.finish()))
}

fn binaries(cells: &[Cell<'_>]) -> Result<ArrayRef, ArrowError> {
    let length = total(cells.iter().filter_map(bytes).map(<[u8]>::len))?;
    let mut builder = BinaryBuilder::with_capacity(cells.len(), length);
    cells.iter().for_each(|cell| builder.append_option(bytes(cell)));
    Ok(Arc::new(builder.finish()))
}

fn fixed(width: i32, cells: &[Cell<'_>]) -> Result<ArrayRef, ArrowError> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(cells.len(), width);
    for cell in cells {
        match bytes(cell) {
            Some(value) => builder.append_value(value)?,
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn validity(cells: &[Cell<'_>]) -> Option<NullBuffer> {
    let is_valid: Vec<bool> = cells.iter().map(|cell| *cell != Cell::Null).collect();
    is_valid.contains(&false).then(|| NullBuffer::from(is_valid))
}

fn list(item: &FieldRef, cells: Vec<Cell<'_>>) -> Result<ArrayRef, ArrowError> {
    let nulls = validity(&cells);
    let rows: Vec<Vec<Cell<'_>>> = cells.into_iter().map(|cell| if let Cell::List(items) = cell { items } else { Vec::new() }).collect();
    total(rows.iter().map(Vec::len))?;
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(Vec::len));
    let items = column(item.data_type(), rows.into_iter().flatten().collect())?;
    Ok(Arc::new(ListArray::try_new(item.clone(), offsets, items, nulls)?))
}

fn map(entries: &FieldRef, cells: Vec<Cell<'_>>) -> Result<ArrayRef, ArrowError> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArrowError::SchemaError("a map's entries are no struct".into()));
    };
    let nulls = validity(&cells);
    let rows: Vec<Vec<_>> = cells.into_iter().map(|cell| if let Cell::Map(entries) = cell { entries } else { Vec::new() }).collect();
    total(rows.iter().map(Vec::len))?;
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(Vec::len));
    let (keys, values): (Vec<Cell<'_>>, Vec<Cell<'_>>) = rows.into_iter().flatten().map(|(key, value)| (Cell::Text(key), value)).unzip();
    let columns = [keys, values].into_iter().zip(fields).map(|(cells, field)| column(field.data_type(), cells));
    let entry = StructArray::try_new(fields.clone(), columns.collect::<Result<_, _>>()?, None)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, entry, nulls, false)?))
}

fn structs(fields: &Fields, cells: Vec<Cell<'_>>) -> Result<ArrayRef, ArrowError> {
    let (nulls, rows) = (validity(&cells), cells.len());
    let mut columns: Vec<Vec<Cell<'_>>> = fields.iter().map(|_| Vec::with_capacity(rows)).collect();
    for cell in cells {
        let mut values = if let Cell::Struct(values) = cell { values } else { Vec::new() }.into_iter();
        columns.iter_mut().for_each(|column| column.push(values.next().unwrap_or(Cell::Null)));
    }
    let arrays = columns.into_iter().zip(fields).map(|(cells, field)| column(field.data_type(), cells)).collect::<Result<_, _>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows)?))
}
