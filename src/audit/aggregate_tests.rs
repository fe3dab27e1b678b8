use super::*;
use crate::audit::sql::compile_select;

fn columns() -> Vec<Column> {
    [("x", Type::Double), ("n", Type::Long), ("f", Type::Float), ("t", Type::Text)]
        .into_iter()
        .map(|(name, kind)| Column { name: name.into(), kind })
        .collect()
}

fn row(x: Value, n: Value) -> Vec<Value> {
    let text = Value::text(&n.to_string());
    vec![x, n, Value::Float(1.5), text]
}

fn of(sql: &str, rows: &[Vec<Value>]) -> Value {
    let mut aggregates = Vec::new();
    compile_select(sql, &columns(), &[], &mut aggregates).expect(sql);
    let aggregate = aggregates.remove(0);
    let mut fold = aggregate.empty();
    for row in rows {
        let contribution = aggregate.contribution(row).expect("no failure in this row");
        aggregate.fold(&mut fold, contribution);
    }
    aggregate.finish(&fold)
}

fn doubles(numbers: &[f64]) -> Vec<Vec<Value>> {
    numbers.iter().zip(0..).map(|(number, at)| row(Value::Double(*number), Value::Long(at))).collect()
}

#[test]
fn float_sums_lose_nothing_to_the_order() {
    let numbers = doubles(&[1e16, 1.0, 1.0, -1e16]);

    assert_eq!(of("sum(x)", &numbers), Value::Double(2.0), "C77");
    assert_eq!(of("avg(x)", &numbers), Value::Double(0.5), "C77");
}

#[test]
fn the_mean_of_large_integers_does_not_wrap() {
    let rows = [row(Value::Null, Value::Long(i64::MAX)), row(Value::Null, Value::Long(1))];

    assert_eq!(of("avg(n)", &rows), Value::Double(4.611686018427388e18), "C71");
}

#[test]
fn a_sum_that_its_type_does_not_hold_is_null_and_may_come_back() {
    let longs = |numbers: &[i64]| numbers.iter().map(|number| row(Value::Null, Value::Long(*number))).collect::<Vec<_>>();

    assert_eq!(of("sum(n)", &longs(&[i64::MAX, 1])), Value::Null);
    assert_eq!(of("sum(n)", &longs(&[i64::MAX, 1, -1])), Value::Long(i64::MAX));
    assert_eq!(of("sum(n)", &longs(&[i64::MIN, -1, 1])), Value::Long(i64::MIN));
    assert_eq!(of("sum(n)", &[]), Value::Null);
}

#[test]
fn nan_is_the_largest_number_in_either_order() {
    for numbers in [[f64::NAN, 1.0], [1.0, f64::NAN], [-f64::NAN, 1.0]] {
        let rows = doubles(&numbers);
        assert_eq!(of("min(x)", &rows), Value::Double(1.0), "C69");
        assert!(matches!(of("max(x)", &rows), Value::Double(max) if max.is_nan()), "C69");
    }
}

#[test]
fn an_infinite_sum_is_infinite() {
    assert_eq!(of("sum(x)", &doubles(&[1e308, 1e308, 1.0])), Value::Double(f64::INFINITY));
}

#[test]
fn nothing_counts_as_zero_and_sums_to_null() {
    let rows = [row(Value::Null, Value::Null)];

    assert_eq!(of("count(*)", &rows), Value::Long(1));
    assert_eq!(of("count(x)", &rows), Value::Long(0));
    assert_eq!(of("sum(n)", &rows), Value::Null);
    assert_eq!(of("avg(x)", &rows), Value::Null);
    assert_eq!(of("stddev(x)", &doubles(&[3.0])), Value::Null);
    assert_eq!(of("stddev_pop(x)", &doubles(&[3.0])), Value::Double(0.0));
}

#[test]
fn variance_is_welfords() {
    assert_eq!(of("var(x)", &doubles(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])), Value::Double(32.0 / 7.0));
}

#[test]
fn filters_orders_and_distinct_are_seen() {
    let rows = doubles(&[5.0, 3.0, 5.0]);

    assert_eq!(of("count(*) FILTER (WHERE x > 4)", &rows), Value::Long(2));
    assert_eq!(of("count(DISTINCT x)", &rows), Value::Long(2));
    assert_eq!(of("first_value(n ORDER BY x)", &rows), Value::Long(1));
    assert_eq!(of("last_value(n ORDER BY x)", &rows), Value::Long(0));
    assert_eq!(of("max(t)", &rows), Value::text("2"));
    assert_eq!(of("bit_or(n)", &rows), Value::Long(3));
}

#[test]
fn approximations_are_not_recomputed() {
    let error = compile_select("approx_distinct(x)", &columns(), &[], &mut Vec::new()).expect_err("it is approximate");

    assert!(error.to_string().contains("approx_distinct"), "{error}");
}
