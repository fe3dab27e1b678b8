//! Arrow's types under their SQL names, and the plain ones among them.

use arrow::datatypes::{DataType, TimeUnit};

/// What SQL calls a type.
pub fn sql_type(of: &DataType) -> String {
    match of {
        DataType::Null => "null".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 => "smallint".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "bigint".into(),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => "unsigned integer".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes".into(),
        DataType::FixedSizeBinary(length) => format!("bytes({length})"),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time".into(),
        DataType::Timestamp(_, None) => "timestamp without time zone".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("array of {}", sql_type(item.data_type()))
        }
        DataType::Struct(_) => "record".into(),
        DataType::Map(..) => "map".into(),
        DataType::Dictionary(_, value) => sql_type(value),
        other => other.to_string().to_lowercase(),
    }
}

/// The type that a value is stored and given out in: one of those that an Avro field has.
pub fn plain_type(of: &DataType) -> DataType {
    match of {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Date64 => DataType::Date32,
        DataType::Time32(TimeUnit::Second) => DataType::Time32(TimeUnit::Millisecond),
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        DataType::Dictionary(_, value) => plain_type(value),
        other => other.clone(),
    }
}

/// Whether values are texts or bytes; Avro's `fixed` is bytes.
pub fn is_text_or_bytes(of: &DataType) -> bool {
    use DataType as T;
    matches!(of, T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_))
}

/// Arrow's type names in a message replaced by SQL's.
pub fn in_sql_words(message: &str) -> String {
    let mut words = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find(|c: char| c.is_ascii_uppercase()) {
        let (before, from) = rest.split_at(at);
        words.push_str(before);
        let length = from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len());
        let (word, after) = from.split_at(length);
        let stands_alone = !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        words.push_str(if stands_alone { sql_word(word) } else { word });
        rest = after;
    }
    words.push_str(rest);
    words
}

fn sql_word(word: &str) -> &str {
    match word {
        "Utf8" | "LargeUtf8" | "Utf8View" => "text",
        "Int8" | "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "UInt8" | "UInt16" | "UInt32" | "UInt64" => "unsigned integer",
        "Float16" | "Float32" => "real",
        "Float64" => "double",
        "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => "decimal",
        "Boolean" => "boolean",
        "Binary" | "LargeBinary" | "BinaryView" | "FixedSizeBinary" => "bytes",
        "Date32" | "Date64" => "date",
        "Time32" | "Time64" => "time",
        "Timestamp" => "timestamp",
        "Interval" | "Duration" => "interval",
        "List" | "LargeList" => "array",
        "Struct" => "record",
        other => other,
    }
}
