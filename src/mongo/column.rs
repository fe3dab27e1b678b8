//! Arrow columns as BSON values: a column is looked at once, then gives a value for each row (docs/semantics.md, "MongoDB").

use std::collections::HashMap;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float64Array, Int32Array,
    Int64Array, ListArray, MapArray, StringArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float64Type, Int32Type, Int64Type, TimeUnit, UInt64Type, i256,
};
use mongodb::bson::raw::{CStr, CString};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Decimal128, RawArrayBuf, RawBinaryRef, RawBson, RawBsonRef, RawDocumentBuf, Uuid};

use crate::avro::encode::LOGICAL_KEY;

/// Largest coefficient of a Decimal128: 34 digits.
const COEFFICIENT_MAX: u128 = 10u128.pow(34) - 1;

/// What a Decimal128 adds to its exponent.
const EXPONENT_BIAS: i32 = 6_176;

/// A column has no BSON form.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}` cannot be stored: {cause}")]
pub struct ColumnFault {
    /// The column.
    pub column: String,
    /// The reason.
    pub cause: String,
}

/// A value that BSON cannot hold exactly; its document is set aside, never stored changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    /// More digits than a Decimal128 holds.
    #[error("the number {unscaled} with scale {scale} has more than the 34 digits of a Decimal128")]
    Digits {
        /// The number without its point.
        unscaled: String,
        /// Digits after the point.
        scale: i8,
    },
    /// A time in an `_id` that a date would not tell from its neighbours.
    #[error("the key column {column:?} is finer than the milliseconds of a date: two windows would have one document")]
    Fine {
        /// The column.
        column: String,
    },
    /// A map key that cannot be a field name.
    #[error("the map key {key:?} holds a zero byte, which no field name can")]
    Key {
        /// The key.
        key: String,
    },
}

/// One column, ready to give a value for each row.
pub struct Column {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Boolean(BooleanArray),
    Int32(Int32Array),
    Int64(Int64Array),
    UInt64(UInt64Array),
    Double(Float64Array),
    Text(StringArray),
    Uuid(StringArray),
    Bytes(BinaryArray),
    Fixed(FixedSizeBinaryArray),
    /// Milliseconds since 1970.
    Date(Vec<i64>),
    Decimal(Decimal128Array, i8),
    WideDecimal(Decimal256Array, i8),
    List(ListArray, Box<Column>),
    Document(Vec<(CString, Column)>),
    Map(Box<MapColumn>),
}

/// Maps with their keys as text.
struct MapColumn {
    maps: MapArray,
    keys: StringArray,
    items: Column,
}

/// A value on its way into a document: borrowed from the column, or made for the row.
pub enum Value<'a> {
    /// Needs nothing of its own.
    Borrowed(RawBsonRef<'a>),
    /// A list, a document, a uuid.
    Owned(RawBson),
}

impl Value<'_> {
    /// Puts the value into a document.
    pub fn put(self, document: &mut RawDocumentBuf, name: &CStr) {
        match self {
            Self::Borrowed(value) => document.append(name, value),
            Self::Owned(value) => document.append(name, value),
        }
    }

    fn push(self, array: &mut RawArrayBuf) {
        match self {
            Self::Borrowed(value) => array.push(value),
            Self::Owned(value) => array.push(value),
        }
    }
}

impl Column {
    /// Looks at a column.
    ///
    /// # Errors
    /// [`ColumnFault`] when its type has no BSON form.
    pub fn new(field: &Field, array: &ArrayRef) -> Result<Self, ColumnFault> {
        let values = values(field, array).map_err(|cause| ColumnFault { column: field.name().clone(), cause })?;
        Ok(Self { nulls: array.logical_nulls(), values })
    }

    /// The value in `row`. Panics when there is no such row.
    ///
    /// # Errors
    /// [`Unstorable`] when BSON cannot hold it exactly.
    pub fn value(&self, row: usize) -> Result<Value<'_>, Unstorable> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(Value::Borrowed(RawBsonRef::Null));
        }
        let simple = match &self.values {
            Values::Null => RawBsonRef::Null,
            Values::Boolean(array) => RawBsonRef::Boolean(array.value(row)),
            Values::Int32(array) => RawBsonRef::Int32(array.value(row)),
            Values::Int64(array) => RawBsonRef::Int64(array.value(row)),
            Values::UInt64(array) => unsigned(array.value(row)),
            Values::Double(array) => RawBsonRef::Double(array.value(row)),
            Values::Text(array) => RawBsonRef::String(array.value(row)),
            Values::Bytes(array) => generic(array.value(row)),
            Values::Fixed(array) => generic(array.value(row)),
            Values::Date(millis) => RawBsonRef::DateTime(DateTime::from_millis(millis[row])),
            Values::Decimal(array, scale) => RawBsonRef::Decimal128(decimal(i256::from_i128(array.value(row)), *scale)?),
            Values::WideDecimal(array, scale) => RawBsonRef::Decimal128(decimal(array.value(row), *scale)?),
            Values::Uuid(array) => return Ok(uuid(array.value(row))),
            Values::List(array, items) => return Ok(Value::Owned(RawBson::Array(list(array, items, row)?))),
            Values::Document(fields) => return Ok(Value::Owned(RawBson::Document(document(fields, row)?))),
            Values::Map(column) => return Ok(Value::Owned(RawBson::Document(map(column, row)?))),
        };
        Ok(Value::Borrowed(simple))
    }
}

/// The rows in which a column holds a time that is finer than milliseconds.
pub fn finer_than_dates(array: &ArrayRef) -> Vec<usize> {
    let ticks = match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000,
        _ => return Vec::new(),
    };
    let Ok(times) = cast(array, &DataType::Int64) else { return Vec::new() };
    let times = times.as_primitive::<Int64Type>();
    (0..times.len()).filter(|row| times.is_valid(*row) && times.value(*row) % ticks != 0).collect()
}

/// A field's name as BSON has it.
pub fn field_name(name: &str) -> Result<CString, ColumnFault> {
    CString::try_from(name).map_err(|_| ColumnFault { column: name.to_owned(), cause: "its name holds a zero byte".into() })
}

fn values(field: &Field, array: &ArrayRef) -> Result<Values, String> {
    let as_type = |wanted: &DataType| cast(array, wanted).map_err(|error| error.to_string());
    let is_uuid = field.metadata().get(LOGICAL_KEY).is_some_and(|logical| logical == "uuid");
    Ok(match array.data_type() {
        DataType::Null => Values::Null,
        DataType::Boolean => Values::Boolean(array.as_boolean().clone()),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::Time32(_) => {
            Values::Int32(as_type(&DataType::Int32)?.as_primitive::<Int32Type>().clone())
        }
        DataType::Int64 | DataType::UInt32 | DataType::Time64(_) => {
            Values::Int64(as_type(&DataType::Int64)?.as_primitive::<Int64Type>().clone())
        }
        DataType::UInt64 => Values::UInt64(array.as_primitive::<UInt64Type>().clone()),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            Values::Double(as_type(&DataType::Float64)?.as_primitive::<Float64Type>().clone())
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = as_type(&DataType::Utf8)?.as_string::<i32>().clone();
            if is_uuid { Values::Uuid(texts) } else { Values::Text(texts) }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            Values::Bytes(as_type(&DataType::Binary)?.as_binary::<i32>().clone())
        }
        DataType::FixedSizeBinary(_) => Values::Fixed(array.as_fixed_size_binary().clone()),
        DataType::Decimal128(_, scale) => Values::Decimal(array.as_primitive::<Decimal128Type>().clone(), *scale),
        DataType::Decimal256(_, scale) => Values::WideDecimal(array.as_primitive::<Decimal256Type>().clone(), *scale),
        DataType::Date32 => {
            Values::Date(array.as_primitive::<Date32Type>().values().iter().map(|days| i64::from(*days) * 86_400_000).collect())
        }
        DataType::Timestamp(unit, _) => {
            let ticks = as_type(&DataType::Int64)?;
            Values::Date(ticks.as_primitive::<Int64Type>().values().iter().map(|value| millis(*value, *unit)).collect())
        }
        DataType::List(item) => {
            let lists = array.as_list::<i32>();
            Values::List(lists.clone(), Box::new(Column::new(item, lists.values()).map_err(|fault| fault.to_string())?))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let named = columns.map(|(field, column)| Ok((field_name(field.name())?, Column::new(field, column)?)));
            Values::Document(named.collect::<Result<_, ColumnFault>>().map_err(|fault| fault.to_string())?)
        }
        DataType::Map(_, _) => map_values(array.as_map())?,
        other => return Err(format!("the type {other} has no BSON form")),
    })
}

fn map_values(maps: &MapArray) -> Result<Values, String> {
    let keys = cast(maps.keys(), &DataType::Utf8).map_err(|error| error.to_string())?;
    let (_, value) = maps.entries_fields();
    let items = Column::new(value, maps.values()).map_err(|fault| fault.to_string())?;
    Ok(Values::Map(Box::new(MapColumn { maps: maps.clone(), keys: keys.as_string::<i32>().clone(), items })))
}

/// Finer times are floored, so that a time never moves into the next millisecond (C121).
fn millis(value: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => value.saturating_mul(1_000),
        TimeUnit::Millisecond => value,
        TimeUnit::Microsecond => value.div_euclid(1_000),
        TimeUnit::Nanosecond => value.div_euclid(1_000_000),
    }
}

fn unsigned(value: u64) -> RawBsonRef<'static> {
    match i64::try_from(value) {
        Ok(value) => RawBsonRef::Int64(value),
        Err(_) => RawBsonRef::Decimal128(pack(u128::from(value), false, 0)),
    }
}

fn generic(bytes: &[u8]) -> RawBsonRef<'_> {
    RawBsonRef::Binary(RawBinaryRef { subtype: BinarySubtype::Generic, bytes })
}

/// Text that is no uuid stays text: Avro's `uuid` is a promise of the producer's, not checked by anybody.
fn uuid(text: &str) -> Value<'_> {
    match Uuid::parse_str(text) {
        Ok(uuid) => Value::Owned(RawBson::Binary(Binary::from(uuid))),
        Err(_) => Value::Borrowed(RawBsonRef::String(text)),
    }
}

/// The number with its scale, as 12.50 is not 12.5. Only zeros at the end of a number that is too long are given up.
fn decimal(unscaled: i256, scale: i8) -> Result<Decimal128, Unstorable> {
    let ten = i256::from_i128(10);
    let (mut number, mut exponent) = (unscaled, -i32::from(scale));
    loop {
        match number.to_i128() {
            Some(value) if value.unsigned_abs() <= COEFFICIENT_MAX => return Ok(pack(value.unsigned_abs(), value < 0, exponent)),
            _ if number.wrapping_rem(ten) == i256::ZERO => {
                number = number.wrapping_div(ten);
                exponent += 1;
            }
            _ => return Err(Unstorable::Digits { unscaled: unscaled.to_string(), scale }),
        }
    }
}

/// Decimal128 in the binary integer form: sign, 14 bits of exponent, 113 bits of coefficient, which 34 digits never exceed.
///
/// # Source
/// IEEE 754-2008, decimal128 (BID); the BSON specification, "Decimal128".
fn pack(coefficient: u128, is_negative: bool, exponent: i32) -> Decimal128 {
    debug_assert!(coefficient <= COEFFICIENT_MAX, "checked by the caller");
    let biased = u128::from((exponent + EXPONENT_BIAS).unsigned_abs());
    Decimal128::from_bytes((u128::from(is_negative) << 127 | biased << 113 | coefficient).to_le_bytes())
}

fn list(lists: &ListArray, items: &Column, row: usize) -> Result<RawArrayBuf, Unstorable> {
    let mut array = RawArrayBuf::new();
    let offsets = lists.value_offsets();
    for item in offsets[row] as usize..offsets[row + 1] as usize {
        items.value(item)?.push(&mut array);
    }
    Ok(array)
}

fn document(fields: &[(CString, Column)], row: usize) -> Result<RawDocumentBuf, Unstorable> {
    let mut document = RawDocumentBuf::new();
    for (name, column) in fields {
        column.value(row)?.put(&mut document, name);
    }
    Ok(document)
}

/// A document names a field once: of equal keys the last one counts, as in every map.
fn map(MapColumn { maps, keys, items }: &MapColumn, row: usize) -> Result<RawDocumentBuf, Unstorable> {
    let offsets = maps.value_offsets();
    let entries = offsets[row] as usize..offsets[row + 1] as usize;
    let last: HashMap<&str, usize> = entries.clone().map(|entry| (keys.value(entry), entry)).collect();
    let mut document = RawDocumentBuf::new();
    for entry in entries {
        let key = keys.value(entry);
        if last.get(key) != Some(&entry) {
            continue;
        }
        let name: &CStr = key.try_into().map_err(|_| Unstorable::Key { key: key.to_owned() })?;
        items.value(entry)?.put(&mut document, name);
    }
    Ok(document)
}

#[cfg(test)]
#[path = "column_tests.rs"]
mod tests;
