//! The audit's reading of SQL against the engine's, on the same texts and rows: two that share nothing but the parser.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::Field;
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, Schema, TimeUnit};

use super::sql::{Column, compile};
use super::time::Unit;
use super::types::Type;
use super::value::Value;
use crate::tenant::expression::Compiler;

/// Texts that the audit must know, and give the engine's values for.
const KNOWN: [&str; 173] = [
    "i < 2000",
    "i + 1",
    "i + i",
    "i * l",
    "i / 3",
    "i / 3.0",
    "l / i",
    "l % 7",
    "-l",
    "- i",
    "i - 2.5",
    "f + 1",
    "f * f",
    "f / 3",
    "f + d",
    "d / 0",
    "d % 2",
    "f > 20.1",
    "f = 20.1",
    "f >= d",
    "20.1 < f",
    "f BETWEEN 20.1 AND 30",
    "f IN (20.1, 1.5)",
    "f > CAST(20.1 AS DOUBLE)",
    "f = 20 + 0.1",
    "f >= -(-20.1)",
    "f IN (20 + 0.1, 1.5)",
    "f BETWEEN 20 + 0.1 AND 30.0",
    "f IS DISTINCT FROM CAST(20.1 AS DOUBLE)",
    "CASE f WHEN 20.1 THEN 'warm' WHEN 1.5 THEN 'cold' END",
    "coalesce(f, 0.1)",
    "coalesce(f, 0.1) > 20.1",
    "coalesce(f, 20.1) = 20.1",
    "coalesce(f, 20.1) BETWEEN 20.1 AND 30.0",
    "CASE coalesce(f, 1.5) WHEN 20.1 THEN 1 ELSE 2 END",
    "nullif(f, 20.1)",
    "greatest(f, 0.1) > 20.1",
    "least(f, 100.5) = 20.1",
    "greatest(f, d) > 20.1",
    "f IN (20.1, d)",
    "CASE WHEN b THEN f ELSE 0.1 END > 20.1",
    "CASE WHEN b THEN 0.1 ELSE f END = 20.1",
    "CASE WHEN b THEN 0.1 WHEN i > 0 THEN coalesce(f, 0.3) END BETWEEN 20.1 AND 30.0",
    "CASE WHEN b THEN f ELSE d END > 20.1",
    "CASE WHEN b THEN d ELSE f END = 20.1",
    "CASE WHEN b THEN f END > 20.1",
    "CASE WHEN f > 0 THEN 20.1 ELSE 1.5 END = 20.1",
    "nullif(f, 1.5) > 20.1",
    "b OR f > 1 / 0",
    "d IN (1, 2.5, NULL)",
    "i IN (1, 2)",
    "i NOT IN (1999, NULL)",
    "d > i",
    "l = d",
    "i = l",
    "d = d",
    "d < 0.0",
    "d >= -0.0",
    "b",
    "NOT b",
    "b AND i > 0",
    "b OR l / i > 0",
    "b AND l / i > 0",
    "i > 0 AND b",
    "i IS NULL",
    "i IS NOT NULL",
    "b IS TRUE",
    "b IS NOT FALSE",
    "(i > 0) IS UNKNOWN",
    "i IS DISTINCT FROM l",
    "t IS NOT DISTINCT FROM 'abc'",
    "t = 'abc'",
    "t > 'abc'",
    "t LIKE 'a%'",
    "t NOT LIKE '_b_'",
    "t ILIKE 'A%C'",
    "CASE WHEN i > 0 THEN 1 ELSE 2.5 END / 2",
    "CASE WHEN b THEN i END",
    "CASE i WHEN 1 THEN 'one' WHEN 1999 THEN 'many' ELSE t END",
    "coalesce(i, l, 0)",
    "coalesce(i, d)",
    "nullif(i, 1)",
    "greatest(i, l)",
    "least(d, 1.5)",
    "abs(i)",
    "abs(d)",
    "abs(f)",
    "ceil(d)",
    "floor(f)",
    "ceil(i)",
    "round(d)",
    "round(d, 2)",
    "round(f, 1)",
    "sqrt(i)",
    "sqrt(d)",
    "power(i, 2)",
    "power(d, 0.5)",
    "lower(t)",
    "upper(t)",
    "length(t)",
    "octet_length(t)",
    "t || '-' || t",
    "concat(t, '-')",
    "substr(t, 2)",
    "substr(t, 2, 2)",
    "trim(t)",
    "replace(t, 'b', 'xx')",
    "starts_with(t, 'a')",
    "CAST(i AS BIGINT)",
    "d::int",
    "i::double",
    "i::text",
    "i::boolean",
    "p > 12.49",
    "p > 8.2",
    "p >= 8.2",
    "p = 8.2",
    "p <> 8.2",
    "8.2 < p",
    "p < -8.2",
    "p >= 4.4",
    "p > 12.495",
    "p <= 12.505",
    "p = 12.505",
    "p BETWEEN 8.2 AND 12.5",
    "p NOT BETWEEN 4.4 AND 8.2",
    "p IN (8.2, 4.4, 12.505)",
    "p NOT IN (8.2, 1)",
    "p IS DISTINCT FROM 8.2",
    "CASE p WHEN 8.2 THEN 'a' WHEN 4.4 THEN 'b' END",
    "p = 8.1 + 0.1",
    "p >= 8 + 0.2",
    "p > 1e3",
    "p > 1e30",
    "p > 1",
    "p * 2 > 16.4",
    "p > CAST(8.2 AS DOUBLE)",
    "p * 2",
    "p + p",
    "p + 0.5",
    "w / w",
    "w / p",
    "p / w",
    "w / 3",
    "CAST(p AS INT) = 12",
    "CAST(p AS BIGINT) > 12",
    "CAST(p AS DECIMAL(8, 1)) = 12.5",
    "CAST(l AS INT) > 5",
    "CAST(l AS INT) IN (7, 0)",
    "p * 1.19",
    "nvl(p, 8.2)",
    "nvl(i, l)",
    "ifnull(f, 0.5)",
    "nvl(t, 'none')",
    "v / 3",
    "v / v",
    "v / w",
    "p * CAST(1.19 AS DECIMAL(3, 2))",
    "coalesce(p, 8.2)",
    "coalesce(p, 8.205)",
    "coalesce(p, 0.0) * 3",
    "coalesce(p, 8.2, 4.4) = 8.2",
    "coalesce(p, 8.1 + 0.1)",
    "coalesce(p, i, 8.2)",
    "coalesce(p, d, 8.2)",
    "coalesce(i, 8.2)",
    "nullif(p, 12.5)",
    "greatest(p, 8.2)",
    "least(p, 8.2) * 10",
    "CASE WHEN b THEN p ELSE 8.2 END",
    "CASE WHEN b THEN 4.4 WHEN i > 0 THEN p * 2 END",
    "CASE p WHEN 12.5 THEN 8.2 WHEN 12.49 THEN p ELSE 1e30 END",
    "p::double",
];

/// Texts about instants.
const INSTANTS: [&str; 43] = [
    "at >= '2025-04-08T08:13:20.1235Z'",
    "at > '2025-04-08T08:13:20.1235Z'",
    "at < '2025-04-08T08:13:20.1235Z'",
    "'2025-04-08T08:13:20.1235Z' >= at",
    "at = '2025-04-08T08:13:20.1235Z'",
    "at <> '2025-04-08T08:13:20.1235Z'",
    "at IS DISTINCT FROM TIMESTAMP '2025-04-08 08:13:20.1235'",
    "at <= '1969-12-31T23:59:59.9995Z'",
    "at BETWEEN '2025-04-08T08:13:20.1225Z' AND '2025-04-08T08:13:20.1235Z'",
    "at NOT BETWEEN '2025-04-08T08:13:20.1235Z' AND '9999-12-31T23:59:59Z'",
    "at IN ('2025-04-08T08:13:20.1235Z', '2025-04-08T08:13:20.123Z')",
    "at NOT IN ('2025-04-08T08:13:20.1235Z')",
    "to_timestamp_seconds(i) < '1970-01-01T00:00:01.5Z'",
    "to_timestamp_seconds(i) >= '1970-01-01T00:00:01.5Z'",
    "'1969-12-31T23:59:59.5Z' < to_timestamp_seconds(i)",
    "at >= to_timestamp_micros('2025-04-08T08:13:20.1235Z')",
    "at < to_timestamp_micros('2025-04-08T08:13:20.1235Z')",
    "at = to_timestamp_micros('2025-04-08T08:13:20.123Z')",
    "at IN (to_timestamp_micros('2025-04-08T08:13:20.1235Z'))",
    "at <= to_timestamp('2025-04-08T08:13:20.1235Z')",
    "at > TIMESTAMP '2025-04-08 08:13:19.1235' + INTERVAL '1 second'",
    "CASE at WHEN '2025-04-08T08:13:20.1235Z' THEN 1 WHEN '2025-04-08T08:13:20.123Z' THEN 2 ELSE 3 END",
    "to_timestamp_seconds(i) >= to_timestamp_millis(1500)",
    "at",
    "at > '2025-04-08T08:13:20Z'",
    "at < TIMESTAMP '9999-12-31 23:59:59'",
    "at AT TIME ZONE 'UTC'",
    "at + INTERVAL '1 hour'",
    "date_trunc('minute', at)",
    "date_trunc('hour', at)",
    "date_trunc('day', at)",
    "date_trunc('week', at)",
    "at BETWEEN '1970-01-01' AND TIMESTAMP '9999-12-31 23:59:59'",
    "at IN (TIMESTAMP '1970-01-01 00:00:00', '2025-04-08T08:13:20.123Z')",
    "date_trunc('month', at)",
    "date_part('hour', at)",
    "date_part('epoch', at)",
    "extract(dow FROM at)",
    "extract(second FROM at)",
    "to_timestamp_millis(l)",
    "to_timestamp_seconds(i)",
    "to_timestamp('2010-01-12T12:35:26.123456+01:30')",
    "at::date",
];

fn schema() -> Arc<Schema> {
    let fields = [
        ("i", DataType::Int32),
        ("l", DataType::Int64),
        ("f", DataType::Float32),
        ("d", DataType::Float64),
        ("b", DataType::Boolean),
        ("t", DataType::Utf8),
        ("at", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))),
        ("p", DataType::Decimal128(8, 2)),
        ("w", DataType::Decimal128(38, 18)),
        ("v", DataType::Decimal128(38, 36)),
    ];
    Arc::new(Schema::new(fields.map(|(name, of)| Field::new(name, of, true)).to_vec()))
}

fn columns() -> Vec<Column> {
    let kinds = [
        ("i", Type::Int),
        ("l", Type::Long),
        ("f", Type::Float),
        ("d", Type::Double),
        ("b", Type::Bool),
        ("t", Type::Text),
        ("at", Type::Timestamp(Unit::Milli, true)),
        ("p", Type::Decimal(8, 2)),
        ("w", Type::Decimal(38, 18)),
        ("v", Type::Decimal(38, 36)),
    ];
    kinds.map(|(name, kind)| Column { name: name.into(), kind }).to_vec()
}

fn batch() -> RecordBatch {
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(1999), Some(0), Some(-7), None, Some(i32::MAX), Some(1)])),
        Arc::new(Int64Array::from(vec![Some(7), Some(i64::MAX), Some(-8), Some(1), Some(0), None])),
        Arc::new(Float32Array::from(vec![Some(20.1), Some(1.5), Some(-0.0), None, Some(f32::NAN), Some(16_777_216.0)])),
        Arc::new(Float64Array::from(vec![Some(2.5), Some(-0.0), Some(f64::NAN), Some(1e300), None, Some(-3.456)])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true), Some(false), Some(true)])),
        Arc::new(StringArray::from(vec![Some("abc"), Some(""), Some("Äbç"), None, Some(" b "), Some("abcd")])),
        Arc::new(
            TimestampMillisecondArray::from(vec![
                Some(1_744_100_000_123),
                Some(-1),
                Some(253_402_300_799_000),
                None,
                Some(0),
                Some(-18_000_000),
            ])
            .with_timezone("+00:00"),
        ),
        Arc::new(
            Decimal128Array::from(vec![Some(1250), Some(-1), Some(99_999_999), None, Some(0), Some(1249)])
                .with_precision_and_scale(8, 2)
                .expect("a decimal type"),
        ),
        Arc::new(
            Decimal128Array::from(vec![
                Some(10_i128.pow(18)),
                Some(-17_000_000_000_000_000),
                Some(10_i128.pow(37)),
                None,
                Some(0),
                Some(1),
            ])
            .with_precision_and_scale(38, 18)
            .expect("a decimal type"),
        ),
        Arc::new(
            Decimal128Array::from(vec![Some(2 * 10_i128.pow(35)), Some(7), Some(-10_i128.pow(36)), None, Some(0), Some(10_i128.pow(37))])
                .with_precision_and_scale(38, 36)
                .expect("a decimal type"),
        ),
    ];
    RecordBatch::try_new(schema(), arrays).expect("columns of the schema")
}

/// A value of an Arrow column, as the audit would hold it.
fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int32 => Value::Int(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Value::Long(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Value::Float(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Value::Double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Value::text(array.as_string::<i32>().value(row)),
        DataType::Date32 => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Decimal128(_, scale) => Value::Decimal { unscaled: array.as_primitive::<Decimal128Type>().value(row), scale: *scale },
        DataType::Timestamp(unit, _) => {
            let raw = cast(array, &DataType::Int64).expect("timestamps are numbers");
            let nanos = match unit {
                TimeUnit::Second => Unit::Second.nanos(),
                TimeUnit::Millisecond => Unit::Milli.nanos(),
                TimeUnit::Microsecond => Unit::Micro.nanos(),
                TimeUnit::Nanosecond => Unit::Nano.nanos(),
            };
            Value::Timestamp(i128::from(raw.as_primitive::<Int64Type>().value(row)) * nanos)
        }
        other => panic!("no column of type {other} is made here"),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    // The audit holds one NaN, whatever its sign: machines make it with either.
    let mut bytes = Vec::new();
    match value {
        Value::Double(number) if number.is_nan() => bytes.extend(b"nan"),
        Value::Float(number) if number.is_nan() => bytes.extend(b"nan"),
        Value::Int(_) => bytes.extend(b"int"),
        Value::Long(_) => bytes.extend(b"long"),
        _ => {}
    }
    if bytes != b"nan" {
        value.canonical(&mut bytes);
    }
    bytes
}

fn compare_all(texts: &[&str]) -> Vec<String> {
    let compiler = Compiler::new();
    let (schema, batch, columns) = (schema(), batch(), columns());
    let mut differences = Vec::new();
    for sql in texts {
        let engine = match compiler.scalar(sql, &schema) {
            Ok(engine) => engine.evaluate_rows(&batch),
            Err(fault) => {
                differences.push(format!("{sql}: the engine refuses it: {fault}"));
                continue;
            }
        };
        let audit = match compile(sql, &columns) {
            Ok(audit) => audit,
            Err(unaudited) => {
                differences.push(format!("{sql}: {unaudited}"));
                continue;
            }
        };
        for row in 0..batch.num_rows() {
            let cells: Vec<Value> = batch.columns().iter().map(|column| value(column, row)).collect();
            let expected = match engine.failed.iter().any(|(failed, _)| *failed == row) {
                true => None,
                false => Some(value(&engine.values, row)),
            };
            let found = audit.expr.eval(&cells).ok();
            if expected.as_ref().map(bytes) != found.as_ref().map(bytes) {
                differences.push(format!("{sql} on row {row}: engine {expected:?}, audit {found:?}"));
            }
        }
    }
    differences
}

#[test]
fn both_read_conditions_and_arithmetic_alike() {
    assert_eq!(compare_all(&KNOWN), Vec::<String>::new());
}

#[test]
fn both_read_instants_alike() {
    assert_eq!(compare_all(&INSTANTS), Vec::<String>::new());
}
