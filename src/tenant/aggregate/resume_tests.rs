//! DET-1, aggregate by aggregate: folding values in one go and folding them in any number of stretches, each going on from the state that the
//! last one stored, ends with the same bits of state and of result.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::row::{RowConverter, SortField};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::CompiledSelect;
use crate::tenant::expression::{Compiler, evaluate_physical_rows};
use crate::tenant::model::Aggregate;

const GROUPS: usize = 3;

fn source() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    Arc::new(Schema::new(vec![
        Field::new("i", DataType::Int32, true),
        Field::new("l", DataType::Int64, true),
        Field::new("f", DataType::Float32, true),
        Field::new("d", DataType::Float64, true),
        Field::new("m", DataType::Decimal128(20, 2), true),
        Field::new("s", DataType::Utf8, true),
        Field::new("t", time, true),
        Field::new("day", DataType::Date32, true),
        Field::new("b", DataType::Boolean, true),
    ]))
}

fn compile(sql: &str) -> CompiledSelect {
    let items = [("x".to_owned(), sql.to_owned())];
    Compiler::new().select(&items, &source(), &[]).unwrap_or_else(|faults| panic!("{sql}: {faults:?}"))
}

/// One row of the source.
#[derive(Clone, Debug)]
struct Row {
    group: usize,
    i: Option<i32>,
    l: Option<i64>,
    f: Option<f32>,
    d: Option<f64>,
    m: Option<i128>,
    s: Option<String>,
    t: Option<i64>,
    b: Option<bool>,
}

fn doubles() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -1e3..1e3,
        2 => select(vec![1e16, -1e16, 1.0, 0.1, -0.1, 1e-300, 0.0, -0.0, 1e300]),
        1 => select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -f64::NAN]),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let numbers = (weighted(0.8, any::<i32>()), weighted(0.8, any::<i64>()), weighted(0.8, doubles()), weighted(0.8, doubles()));
    let others = (
        weighted(0.8, -1_000_000_000_000_i128..1_000_000_000_000),
        weighted(0.8, "[a-cä]{0,3}"),
        weighted(0.8, 0_i64..20),
        weighted(0.8, any::<bool>()),
    );
    (0..GROUPS, numbers, others).prop_map(|(group, (i, l, f, d), (m, s, t, b))| Row { group, i, l, f: f.map(|f| f as f32), d, m, s, t, b })
}

fn batch(rows: &[Row]) -> RecordBatch {
    let decimals = Decimal128Array::from_iter(rows.iter().map(|row| row.m)).with_precision_and_scale(20, 2).expect("twenty digits");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.i))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.l))),
        Arc::new(Float32Array::from_iter(rows.iter().map(|row| row.f))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.d))),
        Arc::new(decimals),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.s.clone()))),
        Arc::new(TimestampMillisecondArray::from_iter(rows.iter().map(|row| row.t)).with_timezone("+00:00")),
        Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.t.map(|t| t as i32)))),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.b))),
    ];
    RecordBatch::try_new(source(), columns).expect("the columns fit the schema")
}

fn fresh(aggregate: &Aggregate) -> Box<dyn GroupsAccumulator> {
    aggregate.function.create_groups_accumulator().expect("it is supported")
}

/// The groups of `rows`, numbered as they come.
fn numbers(rows: &[Row], known: &mut Vec<usize>) -> Vec<usize> {
    rows.iter()
        .map(|row| {
            known.iter().position(|group| *group == row.group).unwrap_or_else(|| {
                known.push(row.group);
                known.len() - 1
            })
        })
        .collect()
}

fn fold(aggregate: &Aggregate, accumulator: &mut dyn GroupsAccumulator, rows: &[Row], numbers: &[usize], total: usize) {
    let batch = batch(rows);
    let arguments: Vec<ArrayRef> = aggregate.arguments.iter().map(|argument| evaluate_physical_rows(argument, &batch).values).collect();
    let filter = aggregate.filter.as_ref().map(|filter| filter.evaluate(&batch).expect("no row fails"));
    let filter = filter.as_ref().map(|filter| filter.as_any().downcast_ref::<BooleanArray>().expect("a condition").clone());
    accumulator.update_batch(&arguments, numbers, filter.as_ref(), total).expect("values are folded");
}

/// States and results as comparable bytes, a row for each group that was seen, ordered by group.
fn bytes(aggregate: &Aggregate, state: Vec<ArrayRef>, known: &[usize]) -> Vec<Vec<u8>> {
    let mut accumulator = fresh(aggregate);
    let all: Vec<usize> = (0..known.len()).collect();
    accumulator.merge_batch(&state, &all, known.len()).expect("a state is loaded");
    let mut columns = state;
    columns.push(accumulator.evaluate(EmitTo::All).expect("a state is evaluated"));
    let mut order = all;
    order.sort_by_key(|number| known[*number]);
    let converter = RowConverter::new(columns.iter().map(|column| SortField::new(column.data_type().clone())).collect());
    let rows = converter.expect("the types are simple").convert_columns(&columns).expect("the types are simple");
    order.iter().map(|number| rows.row(*number).as_ref().to_vec()).collect()
}

fn at_once(aggregate: &Aggregate, rows: &[Row]) -> Vec<Vec<u8>> {
    let mut accumulator = fresh(aggregate);
    let mut known = Vec::new();
    for row in rows.chunks(1) {
        let numbers = numbers(row, &mut known);
        fold(aggregate, accumulator.as_mut(), row, &numbers, known.len());
    }
    let state = accumulator.state(EmitTo::All).expect("a state is given");
    bytes(aggregate, state, &known)
}

/// Folds `rows` in stretches, as epochs do: number the groups of a stretch, load those that are stored, fold, store.
fn resumed(aggregate: &Aggregate, rows: &[Row], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut stored: Vec<(usize, Vec<ArrayRef>)> = Vec::new();
    let mut from = 0;
    for until in cuts.iter().copied().chain([rows.len()]) {
        let stretch = &rows[from..until];
        from = until;
        if stretch.is_empty() {
            continue;
        }
        let mut known = Vec::new();
        let numbers = numbers(stretch, &mut known);
        let mut accumulator = fresh(aggregate);
        for (number, group) in known.iter().enumerate() {
            if let Some((_, state)) = stored.iter().find(|(stored, _)| stored == group) {
                accumulator.merge_batch(state, &[number], known.len()).expect("a state is loaded");
            }
        }
        fold(aggregate, accumulator.as_mut(), stretch, &numbers, known.len());
        let states = accumulator.state(EmitTo::All).expect("a state is given");
        for (number, group) in known.into_iter().enumerate() {
            stored.retain(|(stored, _)| *stored != group);
            stored.push((group, states.iter().map(|column| column.slice(number, 1)).collect()));
        }
    }
    let known: Vec<usize> = stored.iter().map(|(group, _)| *group).collect();
    if known.is_empty() {
        return Vec::new();
    }
    let columns = (0..stored[0].1.len()).map(|column| {
        let parts: Vec<_> = stored.iter().map(|(_, state)| state[column].as_ref()).collect();
        arrow::compute::concat(&parts).expect("states are of one type")
    });
    bytes(aggregate, columns.collect(), &known)
}

fn resumes_exactly(sql: &str) {
    let compiled = compile(sql);
    let [aggregate] = compiled.aggregates.as_slice() else { panic!("{sql} is one aggregate") };
    let types: Vec<DataType> = compiled.state.fields().iter().map(|field| field.data_type().clone()).collect();
    let mut empty = fresh(aggregate);
    fold(aggregate, empty.as_mut(), &batchless_row(), &[0], 1);
    let states = empty.state(EmitTo::All).expect("a state is given");
    assert_eq!(states.iter().map(|column| column.data_type().clone()).collect::<Vec<_>>(), types, "{sql}: state and its schema");

    let cases = vec(row(), 0..40).prop_flat_map(|rows| {
        let cuts = vec(0..=rows.len(), 0..6);
        (Just(rows), cuts)
    });
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() });
    let outcome = runner.run(&cases, |(rows, mut cuts)| {
        cuts.sort_unstable();
        prop_assert_eq!(at_once(aggregate, &rows), resumed(aggregate, &rows, &cuts));
        Ok(())
    });
    if let Err(why) = outcome {
        panic!("{sql}: {why}");
    }
}

/// A row of nulls.
fn batchless_row() -> Vec<Row> {
    vec![Row { group: 0, i: None, l: None, f: None, d: None, m: None, s: None, t: None, b: None }]
}

#[test]
fn counts_resume_exactly() {
    for sql in ["count(*)", "count(i)", "count(s)", "count(*) FILTER (WHERE i > 0)"] {
        resumes_exactly(sql);
    }
}

#[test]
fn sums_resume_exactly() {
    for sql in ["sum(i)", "sum(l)", "sum(f)", "sum(d)", "sum(m)", "sum(d) FILTER (WHERE b)", "sum(d * i)"] {
        resumes_exactly(sql);
    }
}

#[test]
fn averages_resume_exactly() {
    for sql in ["avg(i)", "avg(l)", "avg(f)", "avg(d)", "avg(m)", "mean(d)"] {
        resumes_exactly(sql);
    }
}

#[test]
fn minima_and_maxima_resume_exactly() {
    for function in ["min", "max"] {
        for column in ["i", "l", "f", "d", "m", "s", "t", "day"] {
            resumes_exactly(&format!("{function}({column})"));
        }
    }
}

#[test]
fn variances_resume_exactly() {
    for function in ["var", "var_samp", "var_pop", "stddev", "stddev_samp", "stddev_pop"] {
        resumes_exactly(&format!("{function}(d)"));
    }
    resumes_exactly("stddev(i)");
}

#[test]
fn logical_aggregates_resume_exactly() {
    for sql in ["bool_and(b)", "bool_or(b)", "bit_and(i)", "bit_or(l)", "bit_xor(l)"] {
        resumes_exactly(sql);
    }
}

#[test]
fn estimates_resume_exactly() {
    for sql in ["approx_distinct(i)", "approx_distinct(l)", "approx_distinct(s)"] {
        resumes_exactly(sql);
    }
}

#[test]
fn first_and_last_values_resume_exactly() {
    for sql in [
        "first_value(d ORDER BY t)",
        "last_value(d ORDER BY t)",
        "last_value(s ORDER BY t DESC, i)",
        "first_value(t ORDER BY d)",
        "last_value(i ORDER BY f)",
        "last_value(d IGNORE NULLS ORDER BY t)",
    ] {
        resumes_exactly(sql);
    }
}

/// The result of an aggregate over the doubles of one group, cut as given.
fn result(sql: &str, values: &[f64], cuts: &[usize]) -> (Vec<Vec<u8>>, f64) {
    let compiled = compile(sql);
    let aggregate = &compiled.aggregates[0];
    let [null] = batchless_row().try_into().expect("it is one row");
    let rows: Vec<Row> = values.iter().map(|value| Row { d: Some(*value), ..null.clone() }).collect();
    let mut accumulator = fresh(aggregate);
    fold(aggregate, accumulator.as_mut(), &rows, &vec![0; rows.len()], 1);
    let value = accumulator.evaluate(EmitTo::All).expect("it evaluates");
    let value = value.as_any().downcast_ref::<Float64Array>().expect("a double").value(0);
    (resumed(aggregate, &rows, cuts), value)
}

#[test]
fn c77_a_float_sum_does_not_depend_on_batching() {
    let values = [1e16, 1.0, 1.0, -1e16];
    for (sql, right) in [("sum(d)", 2.0), ("avg(d)", 0.5)] {
        let (at_once, value) = result(sql, &values, &[]);
        assert_eq!(value, right, "{sql}");
        for cuts in [vec![1], vec![2], vec![3], vec![1, 2, 3]] {
            assert_eq!(result(sql, &values, &cuts).0, at_once, "{sql} cut at {cuts:?}");
        }
    }
}

#[test]
fn c69_nan_is_the_maximum_and_never_the_minimum() {
    for values in [[f64::NAN, 1.0], [1.0, f64::NAN]] {
        assert!(result("max(d)", &values, &[]).1.is_nan());
        assert_eq!(result("min(d)", &values, &[]).1, 1.0);
        for sql in ["max(d)", "min(d)"] {
            assert_eq!(result(sql, &values, &[1]).0, result(sql, &values, &[]).0, "{sql}");
        }
    }
    assert_eq!(result("max(d)", &[f64::NEG_INFINITY], &[]).1, f64::NEG_INFINITY);
}

#[test]
fn c71_the_average_of_large_integers_does_not_wrap() {
    let compiled = compile("avg(l)");
    let [null] = batchless_row().try_into().expect("it is one row");
    let rows: Vec<Row> = [i64::MAX, 1].iter().map(|l| Row { l: Some(*l), ..null.clone() }).collect();
    let mut accumulator = fresh(&compiled.aggregates[0]);
    fold(&compiled.aggregates[0], accumulator.as_mut(), &rows, &[0, 0], 1);
    let average = accumulator.evaluate(EmitTo::All).expect("it evaluates");
    assert_eq!(average.as_any().downcast_ref::<Float64Array>().expect("a double").value(0), 4.611686018427388e18);
}

#[test]
fn a_group_of_nulls_is_null_beside_a_loaded_group() {
    for sql in ["sum(l)", "min(l)", "max(i)", "bool_and(b)", "min(m)", "avg(m)"] {
        let compiled = compile(sql);
        let aggregate = &compiled.aggregates[0];
        let [null] = batchless_row().try_into().expect("it is one row");
        let full = Row { i: Some(1), l: Some(1), m: Some(1), b: Some(true), ..null.clone() };
        let mut first = fresh(aggregate);
        fold(aggregate, first.as_mut(), &[full], &[0], 1);
        let state = first.state(EmitTo::All).expect("a state is given");

        let mut second = fresh(aggregate);
        second.merge_batch(&state, &[0], 2).expect("a state is loaded");
        fold(aggregate, second.as_mut(), &[null], &[1], 2);

        let results = second.evaluate(EmitTo::All).expect("it evaluates");
        assert_eq!((results.is_null(0), results.is_null(1)), (false, true), "{sql}");
    }
}

#[test]
fn what_does_not_resume_exactly_is_refused_with_a_remedy() {
    for sql in [
        "count(DISTINCT i)",
        "sum(DISTINCT l)",
        "median(d)",
        "approx_percentile_cont(d, 0.5)",
        "array_agg(i)",
        "string_agg(s, ',')",
        "corr(d, f)",
        "covar_pop(d, f)",
        "regr_slope(d, f)",
        "nth_value(d, 2)",
        "any_value(d)",
    ] {
        let faults = Compiler::new().select(&[("x".to_owned(), sql.to_owned())], &source(), &[]).expect_err(sql);
        assert!(faults[0].1.message.contains("DET-1"), "{sql}: {}", faults[0].1);
    }
    for (sql, said) in [("last_value(d)", "last_value(x ORDER BY t)"), ("first_value(b ORDER BY t)", "is not possible on boolean")] {
        let faults = Compiler::new().select(&[("x".to_owned(), sql.to_owned())], &source(), &[]).expect_err(sql);
        assert!(faults[0].1.message.contains(said), "{sql}: {}", faults[0].1);
    }
}

/// What the store has no form for is told by the check, not by the tenant that does not start.
#[test]
fn what_no_state_can_hold_is_refused() {
    let entries = DataType::Struct(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)].into());
    let tags = DataType::Map(Arc::new(Field::new("entries", entries, false)), false);
    let mut fields: Vec<Field> = source().fields().iter().map(|field| (**field).clone()).collect();
    fields.push(Field::new("tags", tags, true));
    let source = Arc::new(Schema::new(fields));

    for sql in ["last_value(tags ORDER BY t)", "first_value(tags ORDER BY t)"] {
        let faults = Compiler::new().select(&[("x".to_owned(), sql.to_owned())], &source, &[]).expect_err(sql);
        assert!(faults[0].1.message.contains("cannot be kept in a window's state"), "{sql}: {}", faults[0].1);
    }
}
