use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};

use super::CompiledSelect;
use crate::tenant::expression::{Compiler, Expression, ExpressionFault};

fn source() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    Arc::new(Schema::new(vec![
        Field::new("dev-id", DataType::Utf8, false),
        Field::new("temperature", DataType::Float64, true),
        Field::new("battery", DataType::Int32, true),
        Field::new("readable_time", time, true),
    ]))
}

fn by() -> Vec<(String, Expression)> {
    let key = Compiler::new().scalar("\"dev-id\"", &source()).expect("it compiles");
    vec![("dev-id".to_owned(), key)]
}

fn select(items: &[(&str, &str)]) -> Result<CompiledSelect, Vec<(String, ExpressionFault)>> {
    let items: Vec<(String, String)> = items.iter().map(|(name, sql)| (name.to_string(), sql.to_string())).collect();
    Compiler::new().select(&items, &source(), &by())
}

fn compiled(items: &[(&str, &str)]) -> CompiledSelect {
    select(items).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn fault(sql: &str) -> ExpressionFault {
    let faults = select(&[("x", sql)]).map(|_| ()).expect_err(sql);
    assert_eq!((faults.len(), faults[0].0.as_str()), (1, "x"));
    faults[0].1.clone()
}

fn names(schema: &SchemaRef) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

/// One finished window with the given integer aggregates.
fn finished(compiled: &CompiledSelect, aggregates: &[i64]) -> RecordBatch {
    let instant = |us| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![us]).with_timezone("+00:00")) };
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["t1"])), instant(0), instant(60_000_000)];
    columns.extend(aggregates.iter().map(|value| -> ArrayRef { Arc::new(Int64Array::from(vec![*value])) }));
    RecordBatch::try_new(compiled.finished.clone(), columns).expect("the columns fit the schema")
}

#[test]
fn the_zoo_compiles() {
    let compiled = compiled(&[
        ("avg_temperature", "avg(temperature)"),
        ("total_records", "count(*)"),
        ("throughput", "count(*) / 60.0"),
        ("warmest", "max(temperature) - min(temperature)"),
    ]);
    assert_eq!(compiled.aggregates.len(), 4);
    assert_eq!(names(&compiled.state), ["a0_count", "a0_sum", "a0_compensation", "a1_count", "a2_max", "a3_min"]);
    assert_eq!(compiled.aggregates[1].state, 3..4);
    assert_eq!(names(&compiled.finished), ["dev-id", "window_start", "window_end", "agg0", "agg1", "agg2", "agg3"]);
    assert_eq!(
        names(&compiled.output),
        ["dev-id", "window_start", "window_end", "avg_temperature", "total_records", "throughput", "warmest"]
    );
    assert!(compiled.warnings.is_empty(), "{:?}", compiled.warnings);
}

#[test]
fn a_call_written_twice_is_computed_once() {
    let compiled = compiled(&[("a", "count(*)"), ("b", "COUNT( * ) + count(*)"), ("c", "count(battery)")]);
    let calls: Vec<&str> = compiled.aggregates.iter().map(|aggregate| aggregate.sql.as_str()).collect();
    assert_eq!(calls, ["count(*)", "count(battery)"]);
}

#[test]
fn c73_whole_division_is_warned_of_and_a_point_keeps_the_fraction() {
    let compiled = compiled(&[("whole", "count(*) / 60"), ("exact", "count(*) / 60.0")]);
    let [(column, text)] = compiled.warnings.as_slice() else { panic!("{:?}", compiled.warnings) };
    assert_eq!(column, "whole");
    assert!(text.contains("`count(*) / 60` divides whole numbers"), "{text}");

    let finished = finished(&compiled, &[7]);
    let whole = compiled.select[0].expression.evaluate(&finished).expect("it evaluates");
    let exact = compiled.select[1].expression.evaluate(&finished).expect("it evaluates");

    assert_eq!(whole.as_primitive::<Int64Type>().value(0), 0);
    assert_eq!(exact.as_primitive::<Float64Type>().value(0), 0.11666666666666667);
}

#[test]
fn key_and_window_stand_beside_aggregates() {
    let compiled = compiled(&[
        ("label", "upper(\"dev-id\") || '/' || count(*)"),
        ("seconds", "date_part('epoch', window_end) - date_part('epoch', window_start)"),
    ]);
    let finished = finished(&compiled, &[7]);
    let label = compiled.select[0].expression.evaluate(&finished).expect("it evaluates");
    let seconds = compiled.select[1].expression.evaluate(&finished).expect("it evaluates");
    assert_eq!(label.as_string::<i32>().value(0), "T1/7");
    assert_eq!(seconds.as_primitive::<Float64Type>().value(0), 60.0);
}

#[test]
fn a_filter_and_an_order_become_part_of_the_call() {
    let compiled = compiled(&[("low", "count(*) FILTER (WHERE battery < 2000)"), ("latest", "last_value(battery ORDER BY readable_time)")]);
    let filter = compiled.aggregates[0].filter.as_ref().expect("a filter");
    assert_eq!(filter.columns(), ["battery"]);
    assert!(!filter.physical().to_string().contains("CAST"), "coerced once, the constant is the column's: {}", filter.physical());
    assert_eq!(compiled.aggregates[1].arguments.len(), 2);
    assert_eq!(*compiled.output.field(4).data_type(), DataType::Int32);
}

#[test]
fn results_are_of_types_that_avro_has() {
    let compiled = compiled(&[("devices", "approx_distinct(battery)"), ("part", "substring(max(\"dev-id\") FROM 1 FOR 1)")]);
    assert_eq!(*compiled.output.field(3).data_type(), DataType::Int64);
    assert_eq!(*compiled.output.field(4).data_type(), DataType::Utf8);
}

#[test]
fn a_column_outside_of_an_aggregate_is_refused_with_a_suggestion() {
    let fault = fault("count(*) + battery");
    assert_eq!((fault.column, fault.suggestion.as_deref()), (Some(12), Some("max(battery)")));
}

#[test]
fn faults_name_their_place_in_a_call() {
    let unknown = fault("avg(temprature)");
    assert_eq!((unknown.column, unknown.suggestion.as_deref()), (Some(5), Some("temperature")));
    assert!(fault("avg(max(temperature))").message.contains("stands inside of another"));
    assert!(fault("sum(*)").message.contains("`*` can only stand in count(*)"));
    assert!(fault("max(window_start)").message.starts_with("unknown column `window_start`"));
    assert!(fault("agg0 + count(*)").message.starts_with("unknown column `agg0`"));
    assert!(fault("sum(\"dev-id\")").message.contains("text"));
    assert!(fault("count(*) OVER ()").message.contains("needs neighbouring rows"));
    assert!(fault("sum(temperature ORDER BY battery)").message.contains("ORDER BY has no meaning"));
    assert!(fault("max(readable_time) - min(readable_time)").message.contains("cannot be of type interval"));
    assert!(fault("null").message.contains("always null"));
}

#[test]
fn all_faulty_columns_are_named() {
    let faults = select(&[("a", "avg(x)"), ("b", "count(*)"), ("window_start", "count(*)"), ("c", "now()")]).expect_err("three are faulty");
    assert_eq!(faults.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "window_start", "c"]);
}
