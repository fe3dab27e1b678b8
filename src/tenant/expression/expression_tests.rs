use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Field, Fields, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};

use super::{Compiler, Evaluated, Expression, ExpressionFault};

fn position_fields() -> Fields {
    Fields::from(vec![Field::new("lat", DataType::Float64, true), Field::new("lon", DataType::Float64, true)])
}

fn schema() -> SchemaRef {
    let utc = |unit| DataType::Timestamp(unit, Some("+00:00".into()));
    Arc::new(Schema::new(vec![
        Field::new("dev-id", DataType::Utf8, false),
        Field::new("devId", DataType::Utf8, true),
        Field::new("temperature", DataType::Float32, true),
        Field::new("humidity", DataType::Float64, true),
        Field::new("battery", DataType::Int32, true),
        Field::new("steps", DataType::Int64, true),
        Field::new("readable_time", utc(TimeUnit::Millisecond), true),
        Field::new("_time", utc(TimeUnit::Microsecond), false),
        Field::new("note", DataType::Utf8, true),
        Field::new("charging", DataType::Boolean, true),
        Field::new("position", DataType::Struct(position_fields()), true),
    ]))
}

/// Rows in which every column holds `rows` times the same, but for those given.
fn rows(rows: usize, given: &[(&str, ArrayRef)]) -> RecordBatch {
    let utc = "+00:00";
    let columns = schema()
        .fields()
        .iter()
        .map(|field| match given.iter().find(|(name, _)| name == field.name()) {
            Some((_, column)) => column.clone(),
            None => match field.name().as_str() {
                "dev-id" | "devId" => Arc::new(StringArray::from(vec!["t1"; rows])) as ArrayRef,
                "temperature" => Arc::new(Float32Array::from(vec![20.1_f32; rows])),
                "humidity" => Arc::new(Float64Array::from(vec![35.0; rows])),
                "battery" => Arc::new(Int32Array::from(vec![1900; rows])),
                "steps" => Arc::new(Int64Array::from(vec![7; rows])),
                "readable_time" => Arc::new(TimestampMillisecondArray::from(vec![1_744_100_000_123; rows]).with_timezone(utc)),
                "_time" => Arc::new(TimestampMicrosecondArray::from(vec![1_744_100_000_123_000; rows]).with_timezone(utc)),
                "note" => Arc::new(StringArray::from(vec!["ok"; rows])),
                "charging" => Arc::new(BooleanArray::from(vec![true; rows])),
                _ => Arc::new(StructArray::new(
                    position_fields(),
                    vec![Arc::new(Float64Array::from(vec![60.2; rows])), Arc::new(Float64Array::from(vec![24.9; rows]))],
                    None,
                )),
            },
        })
        .collect();
    RecordBatch::try_new(schema(), columns).expect("the columns fit the schema")
}

fn scalar(sql: &str) -> Expression {
    Compiler::new().scalar(sql, &schema()).unwrap_or_else(|fault| panic!("{sql}: {fault}"))
}

fn fault(sql: &str) -> ExpressionFault {
    match Compiler::new().condition(sql, &schema()) {
        Ok(compiled) => panic!("{sql} compiled to {compiled:?}"),
        Err(fault) => fault,
    }
}

fn holds(sql: &str, batch: &RecordBatch) -> Vec<Option<bool>> {
    let condition = Compiler::new().condition(sql, &schema()).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
    condition.evaluate(batch).unwrap_or_else(|fault| panic!("{sql}: {fault}")).as_boolean().iter().collect()
}

#[test]
fn conditions_of_the_zoo_hold_where_they_should() {
    assert_eq!(holds("battery < 2000", &rows(1, &[])), [Some(true)]);
    assert_eq!(holds("temperature > 20 AND humidity BETWEEN 30 AND 40", &rows(1, &[])), [Some(true)]);
    assert_eq!(holds("\"dev-id\" IN ('t1', 't2') AND note LIKE 'o%' AND charging", &rows(2, &[])), [Some(true), Some(true)]);
}

#[test]
fn c75_a_float_is_compared_with_a_literal_as_a_float() {
    assert_eq!(holds("temperature > 20.1", &rows(1, &[])), [Some(false)]);
    assert_eq!(holds("20.1 < temperature", &rows(1, &[])), [Some(false)]);
    assert_eq!(holds("temperature = 20.1", &rows(1, &[])), [Some(true)]);
    assert_eq!(holds("temperature BETWEEN 20.1 AND 20.1", &rows(1, &[])), [Some(true)]);
    assert_eq!(holds("temperature IN (20.1, 3.5)", &rows(1, &[])), [Some(true)]);
    let cold: ArrayRef = Arc::new(Float32Array::from(vec![-20.1_f32]));
    assert_eq!(holds("temperature < -20.1", &rows(1, &[("temperature", cold)])), [Some(false)]);
}

#[test]
fn c75_a_constant_may_be_written_in_any_way() {
    for (condition, expected) in [
        ("temperature > CAST(20.1 AS DOUBLE)", false),
        ("temperature = 20 + 0.1", true),
        ("temperature > -(-20.1)", false),
        ("temperature IN (20 + 0.1, 3.5)", true),
        ("CASE temperature WHEN 20.1 THEN true ELSE false END", true),
        ("coalesce(temperature, 0.0) > 20.1", false),
        ("coalesce(temperature, 0.0) BETWEEN 20.1 AND 20.1", true),
        ("nullif(temperature, 20.1) IS NULL", true),
        ("nullif(temperature, 0.0) > 20.1", false),
        ("greatest(temperature, 0.0) > 20.1", false),
        ("least(temperature, 100.5) = 20.1", true),
        ("CASE WHEN humidity > 1000 THEN 0.0 ELSE temperature END > 20.1", false),
        ("CASE WHEN humidity < 1000 THEN temperature ELSE 0.0 END > 20.1", false),
        ("CASE WHEN humidity > 1000 THEN 0.0 ELSE coalesce(temperature, 0.0) END IN (20.1, 3.5)", true),
        ("CASE WHEN humidity > 1000 THEN temperature ELSE 20.1 END = CAST(20.1 AS DOUBLE)", true),
        ("temperature IN (20.1, humidity)", true),
        // Of 64 bits, since one of its results is.
        ("CASE WHEN humidity > 1000 THEN temperature ELSE humidity * 0 + CAST(20.1 AS DOUBLE) END = 20.1", true),
        ("CAST(temperature AS DOUBLE) > 20.1", true),
    ] {
        assert_eq!(holds(condition, &rows(1, &[])), [Some(expected)], "{condition}");
    }
    let unknown: ArrayRef = Arc::new(Float32Array::from(vec![None]));
    assert_eq!(holds("coalesce(temperature, 20.1) = 20.1", &rows(1, &[("temperature", unknown)])), [Some(true)]);
}

#[test]
fn a_fitted_constant_changes_no_type_of_a_result() {
    for sql in ["coalesce(temperature, 0.1)", "nullif(temperature, 20.1)"] {
        assert_eq!(*scalar(sql).data_type(), DataType::Float64, "{sql}");
    }
}

#[test]
fn a_constant_that_cannot_be_computed_is_left_alone() {
    scalar("CASE WHEN charging THEN 1.0 WHEN temperature > 1 / 0 THEN 2.0 END");
    let fault = fault("temperature > 9223372036854775807 + 1");
    assert!(fault.message.contains("out of its type's range"), "{fault}");
}

#[test]
fn an_instant_between_two_milliseconds_may_be_written_in_any_way() {
    for (condition, expected) in [
        ("readable_time >= to_timestamp_micros('2025-04-08T08:13:20.1235Z')", false),
        ("readable_time < to_timestamp('2025-04-08T08:13:20.1235Z')", true),
        ("readable_time > to_timestamp_micros('2025-04-08T08:13:20.1225Z')", true),
        ("readable_time = to_timestamp_micros('2025-04-08T08:13:20.123Z')", true),
        ("readable_time >= TIMESTAMP '2025-04-08 08:13:19.1235' + INTERVAL '1 second'", false),
        ("CASE readable_time WHEN '2025-04-08T08:13:20.1235Z' THEN true ELSE false END", false),
    ] {
        assert_eq!(holds(condition, &rows(1, &[])), [Some(expected)], "{condition}");
    }
}

#[test]
fn c83_null_is_neither_below_nor_above() {
    let batch = rows(1, &[("battery", Arc::new(Int32Array::from(vec![None])))]);
    assert_eq!(holds("battery < 2000", &batch), [None]);
    assert_eq!(holds("NOT (battery >= 2000)", &batch), [None]);
    assert_eq!(holds("battery < 2000 OR charging", &batch), [Some(true)]);
}

#[test]
fn c39_the_year_9999_is_compared_without_wrapping() {
    let far: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![253_402_300_799_000]).with_timezone("+00:00"));
    let batch = rows(1, &[("readable_time", far)]);
    for condition in [
        "readable_time > '2025-01-01T00:00:00Z'",
        "readable_time = '9999-12-31T23:59:59Z'",
        "readable_time > TIMESTAMP '2025-01-01 00:00:00'",
        "readable_time > DATE '2025-01-01'",
        "readable_time > to_timestamp('2025-01-01T00:00:00Z')",
        "readable_time BETWEEN '2025-01-01T00:00:00Z' AND '9999-12-31T23:59:59Z'",
        "CASE WHEN steps > 0 THEN readable_time ELSE _time END = '9999-12-31T23:59:59Z'",
        "CASE WHEN steps < 0 THEN _time ELSE readable_time END >= '9999-12-31T23:59:59Z'",
        "readable_time > _time",
        "(readable_time AT TIME ZONE 'Europe/Helsinki') > '2025-01-01T00:00:00Z'",
    ] {
        assert_eq!(holds(condition, &batch), [Some(true)], "{condition}");
    }
}

fn nanos(sql: &str, batch: &RecordBatch) -> Vec<Option<i64>> {
    let expression = scalar(sql);
    assert_eq!(*expression.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into())), "{sql}");
    expression.evaluate(batch).unwrap_or_else(|fault| panic!("{sql}: {fault}")).as_primitive::<TimestampNanosecondType>().iter().collect()
}

fn notes(texts: &[&str]) -> RecordBatch {
    rows(texts.len(), &[("note", Arc::new(StringArray::from(texts.to_vec())))])
}

#[test]
fn c47_an_offset_is_subtracted() {
    let batch = notes(&["2010-01-12T12:35:26.123456+01:30", "2010-01-12T11:05:26.123456Z"]);
    assert_eq!(nanos("to_timestamp(note)", &batch), [Some(1_263_294_326_123_456_000); 2]);
}

#[test]
fn c49_a_leap_second_is_the_first_instant_of_the_new_year() {
    let batch = notes(&["2016-12-31T23:59:59.900Z", "2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"]);
    let times = nanos("to_timestamp(note)", &batch);
    assert!(times[0] < times[1]);
    assert_eq!(times[1], Some(1_483_228_800_000_000_000));
    assert_eq!(times[1], times[2]);
}

#[test]
fn a_text_that_is_no_time_fails_its_row_only() {
    let batch = notes(&["2017-01-01T00:00:00Z", "yesterday", "2017-01-01T00:00:01Z"]);
    let Evaluated { values, failed } = scalar("to_timestamp(note)").evaluate_rows(&batch);
    assert_eq!(failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1], "{failed:?}");
    assert_eq!((values.len(), values.is_null(0), values.is_null(1), values.is_null(2)), (3, false, true, false));
}

#[test]
fn c43_milliseconds_are_taken_as_declared() {
    let seconds: ArrayRef = Arc::new(Int64Array::from(vec![1_744_100_000]));
    let expression = scalar("to_timestamp_millis(steps) = '1970-01-21T04:28:20Z'");
    let holds = expression.evaluate(&rows(1, &[("steps", seconds)])).expect("no row fails");
    assert!(holds.as_boolean().value(0));
}

#[test]
fn a_division_by_zero_fails_its_row_only_whatever_the_batch() {
    let battery = |values: Vec<i32>| -> ArrayRef { Arc::new(Int32Array::from(values)) };
    let expression = scalar("100 / battery");
    let batch = rows(5, &[("battery", battery(vec![1, 0, 2, 0, 5]))]);
    assert!(expression.evaluate(&batch).is_err());
    let Evaluated { values, failed } = expression.evaluate_rows(&batch);
    assert_eq!(failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(failed[0].1, "divide by zero error");
    let values: Vec<Option<i64>> = values.as_primitive::<arrow::datatypes::Int64Type>().iter().collect();
    assert_eq!(values, [Some(100), None, Some(50), None, Some(20)]);
}

#[test]
fn a_guarded_division_fails_nowhere() {
    let batch = rows(3, &[("battery", Arc::new(Int32Array::from(vec![0, 50, 200])))]);
    let condition = Compiler::new().condition("battery <> 0 AND 100 / battery > 1", &schema()).expect("it compiles");
    let Evaluated { values, failed } = condition.evaluate_rows(&batch);
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(values.as_boolean().iter().collect::<Vec<_>>(), [Some(false), Some(true), Some(false)]);
}

#[test]
fn an_expression_over_no_rows_gives_no_values() {
    let Evaluated { values, failed } = scalar("1 / battery").evaluate_rows(&rows(0, &[]));
    assert_eq!((values.len(), failed.len()), (0, 0));
    assert_eq!(scalar("42").evaluate(&rows(3, &[])).expect("a literal never fails").len(), 3);
}

#[test]
fn the_usual_functions_compile() {
    for sql in [
        "EXTRACT(hour FROM readable_time)",
        "date_part('dow', readable_time)",
        "date_trunc('hour', readable_time)",
        "date_bin(INTERVAL '15 minutes', readable_time)",
        "readable_time + INTERVAL '1 day'",
        "readable_time AT TIME ZONE 'Europe/Helsinki'",
        "to_char(readable_time, '%Y-%m-%d')",
        "CASE WHEN battery < 2000 THEN 'low' WHEN battery IS NULL THEN 'unknown' ELSE 'ok' END",
        "CASE note WHEN 'ok' THEN 1 ELSE 0 END",
        "COALESCE(note, devId, 'none')",
        "NULLIF(note, '')",
        "nvl(note, 'none')",
        "note ~ '^o.$'",
        "regexp_like(note, '^o')",
        "regexp_replace(note, 'o', '0')",
        "lower(note) || '-' || upper(devId)",
        "substring(note FROM 1 FOR 1)",
        "position('k' IN note)",
        "trim(note)",
        "character_length(note)",
        "split_part(note, '-', 1)",
        "lpad(note, 12, '0') || rpad(note, -1) || repeat(note, 3)",
        "replace(replace(replace(note, '&', '&amp;'), '<', '&lt;'), note, '')",
        "round(humidity, 1)",
        "sqrt(abs(humidity)) + power(humidity, 2)",
        "floor(humidity)",
        "greatest(humidity, 40.0)",
        "CAST(battery AS DOUBLE)",
        "battery::text",
        "TRY_CAST(note AS INT)",
        "position.lat",
        "position['lat']",
        "arrow_cast(battery, 'Int64')",
    ] {
        let expression = scalar(sql);
        assert!(expression.evaluate_rows(&rows(2, &[])).failed.is_empty(), "{sql}");
    }
}

/// C75, C79: the double that is nearest to 8.2 lies below 8.20, that to 4.4 above 4.40.
#[test]
fn a_constant_with_a_point_is_compared_with_a_decimal_as_it_is_written() {
    let amounts = Decimal128Array::from(vec![Some(820), Some(440), Some(830), None]).with_precision_and_scale(8, 2).expect("8 digits");
    let schema = Arc::new(Schema::new(vec![Field::new("amount", amounts.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(amounts)]).expect("one column");
    for (sql, met) in [
        ("amount > 8.2", [false, false, true]),
        ("amount >= 4.4", [true, true, true]),
        ("amount = 8.3", [false, false, true]),
        ("8.3 <= amount", [false, false, true]),
        ("amount BETWEEN 4.4 AND 8.2", [true, true, false]),
        ("amount IN (8.3, 4.4)", [false, true, true]),
        ("amount NOT IN (8.3, 4.4)", [true, false, false]),
        ("amount > 8.205", [false, false, true]),
        ("amount < 8.205 AND amount <> 4.4", [true, false, false]),
        ("amount = 8 + 0.2", [true, false, false]),
        ("CASE amount WHEN 8.3 THEN true ELSE false END", [false, false, true]),
        ("amount + amount > 16.4", [false, false, true]),
    ] {
        let condition = Compiler::new().condition(sql, &schema).expect(sql);
        let Evaluated { values, failed } = condition.evaluate_rows(&batch);
        assert!(failed.is_empty(), "{sql}: {failed:?}");
        let found: Vec<bool> = values.as_boolean().iter().take(3).map(|met| met == Some(true)).collect();
        assert_eq!(found, met, "{sql}");
    }
}

#[test]
fn a_constant_with_a_point_that_stands_in_for_a_decimal_is_one() {
    let amounts = Decimal128Array::from(vec![Some(440), None]).with_precision_and_scale(8, 2).expect("8 digits");
    let schema = Arc::new(Schema::new(vec![Field::new("amount", amounts.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(amounts)]).expect("one column");
    for (sql, digits, scale, found) in [
        ("coalesce(amount, 8.2)", 8, 2, [440, 820]),
        ("coalesce(amount, 0.0)", 8, 2, [440, 0]),
        ("coalesce(amount, 8.205)", 9, 3, [4_400, 8_205]),
        ("coalesce(amount, 8.1 + 0.1)", 8, 2, [440, 820]),
        ("greatest(amount, 8.2)", 8, 2, [820, 820]),
        ("CASE WHEN amount > 4.3 THEN 8.2 ELSE coalesce(amount, 4.4) END", 8, 2, [820, 440]),
    ] {
        let expression = Compiler::new().scalar(sql, &schema).expect(sql);
        assert_eq!(*expression.data_type(), DataType::Decimal128(digits, scale), "{sql}");
        let values = expression.evaluate(&batch).expect(sql);
        assert_eq!(values.as_primitive::<Decimal128Type>().values()[..], found, "{sql}");
    }
}

#[test]
fn a_point_makes_a_double() {
    assert_eq!(*scalar("20.1").data_type(), DataType::Float64);
    assert_eq!(*scalar("steps / 60.0").data_type(), DataType::Float64);
    assert_eq!(*scalar("steps / 60").data_type(), DataType::Int64);
}

#[test]
fn columns_are_those_that_are_read() {
    assert_eq!(scalar("CASE WHEN battery > 3 THEN note ELSE \"dev-id\" END").columns(), ["dev-id", "battery", "note"]);
    assert!(scalar("1 + 1").columns().is_empty());
}

#[test]
fn c135_case_matters_and_the_quoted_name_is_suggested() {
    assert_eq!(scalar("devId").columns(), ["devId"]);
    assert_eq!(scalar("\"devId\"").columns(), ["devId"]);
    let fault = fault("devid = 'x'");
    assert_eq!((fault.message.as_str(), fault.column), ("unknown column `devid`", Some(1)));
    assert_eq!(fault.suggestion.as_deref(), Some("\"devId\""));
}

#[test]
fn a_hyphen_unquoted_suggests_the_quoted_name() {
    let fault = fault("battery < 5 AND dev-id = 'x'");
    assert_eq!((fault.column, fault.suggestion.as_deref()), (Some(17), Some("\"dev-id\"")));
}

#[test]
fn misspelt_names_get_a_place_and_a_suggestion() {
    let column = fault("battery < 2000 AND\n  temprature > 20");
    assert_eq!((column.column, column.suggestion.as_deref()), (Some(22), Some("temperature")));
    let function = fault("lowr(note) = 'x'");
    assert_eq!((function.message.as_str(), function.suggestion.as_deref()), ("unknown function `lowr`", Some("lower")));
    assert_eq!(fault("note = \"UNHEARD\"").suggestion.as_deref(), Some("'UNHEARD' (text stands in single quotes)"));
    assert!(fault("qqqqqqqq > 1").message.starts_with("unknown column `qqqqqqqq`, there are \"dev-id\", devId, temperature"));
}

#[test]
fn what_a_record_cannot_answer_is_refused() {
    for (sql, said) in [
        ("now() > readable_time", "`now` is non-deterministic"),
        ("random() < 0.5", "`random` is non-deterministic"),
        ("uuid() = note", "`uuid` is non-deterministic"),
        ("current_date > DATE '2025-01-01'", "`current_date` is non-deterministic"),
        ("CURRENT_TIMESTAMP > readable_time", "`current_timestamp` is non-deterministic"),
        ("avg(battery) > 5", "the aggregate `avg` has no place here"),
        ("row_number() OVER () > 5", "needs neighbouring rows"),
        ("battery > (SELECT 1)", "a subquery has no place here"),
        ("EXISTS (SELECT 1)", "a subquery has no place here"),
        ("battery > $1", "there are no parameters"),
        ("battery + 1", "a condition must be boolean, this is bigint"),
        ("note", "a condition must be boolean, this is text"),
        ("battery < 2000 note", "expected: end of expression, found: note"),
        ("battery < 2000 AS low", "expected the end of the expression, found `low`"),
        ("battery < 2000; charging", "expected: end of expression, found: ;"),
        ("battery < ", "expected: an expression, found: EOF"),
        ("", "expected: an expression, found: EOF"),
        ("version() = 'x'", "unknown function `version`"),
        ("repeat(note, steps) = 'x'", "`repeat` needs a number from 0 to 100"),
        ("lpad(note, 2000000000) = 'x'", "`lpad` needs a number from 0 to 65536"),
        ("rpad(note, length(note), '0') = 'x'", "`rpad` needs a number"),
        ("replace(note, 'a', note) = 'x'", "`replace` needs a text in quotes as its third argument"),
        ("regexp_replace(note, 'a', note) = 'x'", "`regexp_replace` needs a text in quotes"),
        ("repeat(repeat(note, 11), 10) = 'x'", "more than 100 times as long"),
        ("replace(upper(replace(note, 'a', 'bbbbbbbbbbb')), 'b', 'aaaaaaaaaa') = 'x'", "more than 100 times as long"),
        ("replace(note, '', repeat('x', 3)) = 'x'", "needs a text in quotes"),
    ] {
        let fault = fault(sql);
        assert!(fault.message.contains(said), "{sql}: {fault}");
    }
}

#[test]
fn messages_speak_sql() {
    let fault = fault("note + charging > 1");
    assert!(fault.message.contains("text") && fault.message.contains("boolean"), "{fault}");
    assert!(!fault.message.contains("Utf8"), "{fault}");
}

#[test]
fn a_fault_is_shown_with_place_and_suggestion() {
    assert_eq!(fault("devid = 'x'").to_string(), "unknown column `devid` at character 1; did you mean \"devId\"?");
}
