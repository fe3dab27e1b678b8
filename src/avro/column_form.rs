//! Which Arrow column holds the values of an Avro type.

use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, FixedSchema};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, Fields, TimeUnit};

use super::encode::LOGICAL_KEY;
use super::names::Names;

/// Deepest nesting of a column; deeper ones would be of no use in SQL, and everything downstream recurses on it.
const DEPTH_MAX: usize = 16;

/// Widest fixed type that makes a column, in bytes.
const FIXED_BYTES_MAX: usize = 1 << 20;

/// Most nodes of one column: types that are referred to again and again unfold here.
const NODES_MAX: usize = 4_096;

/// The column for a field, or why there is none.
pub(super) fn of<'s>(name: &str, schema: &'s Schema, names: &Names<'s>) -> Result<Field, String> {
    Shape { names, nodes_left: NODES_MAX }.field(name, schema, DEPTH_MAX)
}

/// The type inside `[null, T]`, `[T, null]` or `[T]`, and whether null is among the branches; none for unions of several types.
pub(super) fn nullable(schema: &Schema) -> Option<(&Schema, bool)> {
    let Schema::Union(union) = schema else {
        return Some((schema, false));
    };
    match union.variants() {
        [Schema::Null, inner] | [inner, Schema::Null] => Some((inner, true)),
        [inner] => Some((inner, false)),
        _ => None,
    }
}

/// Unfolds one field's type.
struct Shape<'n, 's> {
    names: &'n Names<'s>,
    nodes_left: usize,
}

impl<'s> Shape<'_, 's> {
    fn field(&mut self, name: &str, schema: &'s Schema, depth_left: usize) -> Result<Field, String> {
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or_else(|| format!("`{name}` unfolds to more than {NODES_MAX} fields"))?;
        let Some((inner, is_nullable)) = nullable(schema) else {
            return Err(format!("`{name}` is a union of several types ({}), a column has one", branches(schema)));
        };
        let inner = self.names.resolve(inner).map_err(|fault| fault.to_string())?;
        let field = Field::new(name, self.data_type(name, inner, depth_left)?, is_nullable);
        Ok(match inner {
            Schema::Uuid(_) => field.with_metadata([(LOGICAL_KEY.to_owned(), "uuid".to_owned())].into()),
            _ => field,
        })
    }

    fn data_type(&mut self, name: &str, schema: &'s Schema, depth_left: usize) -> Result<DataType, String> {
        let below = || depth_left.checked_sub(1).ok_or_else(|| format!("`{name}` is nested deeper than {DEPTH_MAX} levels"));
        match schema {
            Schema::Array(array) => Ok(DataType::List(Arc::new(self.field("item", &array.items, below()?)?))),
            Schema::Map(map) => {
                let value = self.field("value", &map.types, below()?)?;
                let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), value]);
                Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false))
            }
            Schema::Record(record) => {
                let depth_left = below()?;
                let fields = record.fields.iter().map(|inner| self.field(&inner.name, &inner.schema, depth_left));
                Ok(DataType::Struct(fields.collect::<Result<Fields, String>>()?))
            }
            simple => simple_type(name, simple),
        }
    }
}

fn simple_type(name: &str, schema: &Schema) -> Result<DataType, String> {
    let utc = || Some("+00:00".into());
    Ok(match schema {
        Schema::Boolean => DataType::Boolean,
        Schema::Int => DataType::Int32,
        Schema::Long => DataType::Int64,
        Schema::Float => DataType::Float32,
        Schema::Double => DataType::Float64,
        Schema::Bytes => DataType::Binary,
        Schema::String | Schema::Enum(_) | Schema::Uuid(_) => DataType::Utf8,
        Schema::Fixed(FixedSchema { size, .. }) => match i32::try_from(*size) {
            Ok(0) => return Err(format!("`{name}` is a fixed of no bytes, which holds nothing")),
            Ok(bytes) if *size <= FIXED_BYTES_MAX => DataType::FixedSizeBinary(bytes),
            _ => {
                return Err(format!("`{name}` is a fixed of {size} bytes, the widest that makes a column is {FIXED_BYTES_MAX}"));
            }
        },
        Schema::Decimal(decimal) => decimal_type(name, decimal)?,
        Schema::Date => DataType::Date32,
        Schema::TimeMillis => DataType::Time32(TimeUnit::Millisecond),
        Schema::TimeMicros => DataType::Time64(TimeUnit::Microsecond),
        Schema::TimestampMillis => DataType::Timestamp(TimeUnit::Millisecond, utc()),
        Schema::TimestampMicros => DataType::Timestamp(TimeUnit::Microsecond, utc()),
        Schema::TimestampNanos => DataType::Timestamp(TimeUnit::Nanosecond, utc()),
        Schema::LocalTimestampMillis => DataType::Timestamp(TimeUnit::Millisecond, None),
        Schema::LocalTimestampMicros => DataType::Timestamp(TimeUnit::Microsecond, None),
        Schema::LocalTimestampNanos => DataType::Timestamp(TimeUnit::Nanosecond, None),
        Schema::Null => return Err(format!("`{name}` can only be null")),
        Schema::Duration(_) => return Err(format!("`{name}` is a duration, which has no column form")),
        Schema::BigDecimal => return Err(format!("`{name}` is a big-decimal, whose scale changes from value to value")),
        other => return Err(format!("`{name}` is {}, which has no column form", kind(other))),
    })
}

fn decimal_type(name: &str, decimal: &DecimalSchema) -> Result<DataType, String> {
    match (u8::try_from(decimal.precision), i8::try_from(decimal.scale)) {
        (Ok(precision), Ok(scale)) if precision <= DECIMAL128_MAX_PRECISION => Ok(DataType::Decimal128(precision, scale)),
        (Ok(precision), Ok(scale)) if precision <= DECIMAL256_MAX_PRECISION => Ok(DataType::Decimal256(precision, scale)),
        _ => Err(format!("`{name}` is a decimal of {} digits, a column holds {DECIMAL256_MAX_PRECISION}", decimal.precision)),
    }
}

fn branches(schema: &Schema) -> String {
    let Schema::Union(union) = schema else { return String::new() };
    union.variants().iter().map(kind).collect::<Vec<_>>().join(", ")
}

/// The name of a type for people: its own, or Avro's word.
pub(super) fn kind(schema: &Schema) -> String {
    match (schema.name(), schema) {
        (Some(name), _) => format!("`{}`", name.name()),
        (None, Schema::Decimal(decimal)) => format!("decimal({}, {})", decimal.precision, decimal.scale),
        (None, Schema::Uuid(_)) => "uuid".into(),
        (None, Schema::Array(_)) => "array".into(),
        (None, Schema::Map(_)) => "map".into(),
        (None, Schema::Union(_)) => "union".into(),
        (None, simple) => word(simple).into(),
    }
}

fn word(schema: &Schema) -> &'static str {
    match schema {
        Schema::Null => "null",
        Schema::Boolean => "boolean",
        Schema::Int => "int",
        Schema::Long => "long",
        Schema::Float => "float",
        Schema::Double => "double",
        Schema::Bytes => "bytes",
        Schema::String => "string",
        Schema::Date => "date",
        Schema::TimeMillis => "time-millis",
        Schema::TimeMicros => "time-micros",
        Schema::TimestampMillis => "timestamp-millis",
        Schema::TimestampMicros => "timestamp-micros",
        Schema::TimestampNanos => "timestamp-nanos",
        Schema::LocalTimestampMillis => "local-timestamp-millis",
        Schema::LocalTimestampMicros => "local-timestamp-micros",
        Schema::LocalTimestampNanos => "local-timestamp-nanos",
        Schema::BigDecimal => "big-decimal",
        _ => "named type",
    }
}
