use super::*;

fn columns() -> Vec<Column> {
    let kinds = [
        ("dev-id", Type::Text),
        ("battery", Type::Int),
        ("temperature", Type::Float),
        ("pressure", Type::Double),
        ("total", Type::Long),
        ("at", Type::Timestamp(Unit::Milli, true)),
        ("price", Type::Decimal(8, 2)),
    ];
    kinds.into_iter().map(|(name, kind)| Column { name: name.into(), kind }).collect()
}

fn row() -> Vec<Value> {
    vec![
        Value::text("tortoise_1"),
        Value::Int(1999),
        Value::Float(20.1),
        Value::Double(1013.25),
        Value::Long(7),
        Value::timestamp_ms(1_744_100_000_123),
        Value::Decimal { unscaled: 1250, scale: 2 },
    ]
}

fn on(sql: &str, row: &[Value]) -> Result<Value, String> {
    let typed = compile(sql, &columns()).map_err(|error| error.to_string())?;
    typed.expr.eval(row).map_err(|error| error.to_string())
}

fn value(sql: &str) -> Value {
    on(sql, &row()).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[test]
fn conditions_have_three_values() {
    let mut row = row();
    row[1] = Value::Null;

    for sql in ["battery < 2000", "NOT (battery >= 2000)", "battery IN (1, NULL)", "battery BETWEEN 1 AND 3"] {
        assert_eq!(on(sql, &row), Ok(Value::Null), "C83: {sql}");
    }
    assert_eq!(on("battery < 2000 AND pressure < 0", &row), Ok(Value::Bool(false)));
    assert_eq!(on("battery < 2000 OR pressure > 0", &row), Ok(Value::Bool(true)));
    assert_eq!(on("battery IS NULL", &row), Ok(Value::Bool(true)));
    assert_eq!(on("(battery < 2000) IS NOT TRUE", &row), Ok(Value::Bool(true)));
}

#[test]
fn a_float_column_meets_a_literal_in_32_bits() {
    assert_eq!(value("temperature > 20.1"), Value::Bool(false), "C75");
    assert_eq!(value("temperature BETWEEN 20.1 AND 30"), Value::Bool(true), "C75");
    assert_eq!(value("temperature = 20.1"), Value::Bool(true), "C75");
    assert_eq!(value("-temperature < -20.0"), Value::Bool(true));
}

#[test]
fn integers_divide_as_integers_and_not_by_zero() {
    assert_eq!(value("total / 60"), Value::Long(0), "C73");
    assert_eq!(value("total / 60.0"), Value::Double(7.0 / 60.0), "C73");
    assert!(on("total / (battery - 1999)", &row()).is_err());
    assert_eq!(value("pressure / 0"), Value::Double(f64::INFINITY));
}

#[test]
fn what_is_not_looked_at_does_not_fail() {
    assert_eq!(value("battery <> 1999 AND total / (battery - 1999) > 1"), Value::Bool(false));
    assert_eq!(value("battery = 1999 OR total / (battery - 1999) > 1"), Value::Bool(true));
    assert_eq!(value("CASE WHEN battery = 1999 THEN 1 ELSE total / 0 END"), Value::Long(1));
    assert_eq!(value("coalesce(battery, total / 0)"), Value::Long(1999));
    assert!(on("total / (battery - 1999) > 1 AND battery <> 1999", &row()).is_err());
}

#[test]
fn decimals_keep_their_digits() {
    assert_eq!(value("price * 2"), Value::Decimal { unscaled: 2500, scale: 2 });
    assert_eq!(value("price > 12.49"), Value::Bool(true));
    for (sql, met) in [("price - 4.3 > 8.2", false), ("price = 12.5", true), ("price < 12.505", true), ("price > 12.505", false)] {
        assert_eq!(value(sql), Value::Bool(met), "{sql}");
    }
    let at = columns().iter().position(|column| column.name == "price").expect("a column");
    for cents in 1..2_000_i32 {
        let mut row = row();
        row[at] = Value::Decimal { unscaled: cents.into(), scale: 2 };
        let text = f64::from(cents) / 100.0;
        assert_eq!(on(&format!("price = {text}"), &row), Ok(Value::Bool(true)), "C79: {text}");
    }
    assert_eq!(value("price + 0.5").to_string(), "13.0");
    assert_eq!(value("price / 3"), Value::Decimal { unscaled: 4_166_666, scale: 6 });
}

#[test]
fn times_are_compared_cut_and_taken_apart() {
    assert_eq!(value("at >= '2025-04-08T08:13:20Z'"), Value::Bool(true));
    assert_eq!(value("date_trunc('minute', at)").to_string(), "2025-04-08T08:13:00Z");
    assert_eq!(value("extract(hour from at)"), Value::Int(8));
    assert_eq!(value("to_timestamp_millis(total)").to_string(), "1970-01-01T00:00:00.007Z");
    assert_eq!(value("at < TIMESTAMP '9999-12-31 23:59:59'"), Value::Bool(true), "C39");
    assert_eq!(value("(at + INTERVAL '1 hour') AT TIME ZONE 'UTC'").to_string(), "2025-04-08T09:13:20.123Z");
}

#[test]
fn columns_are_named_exactly_and_functions_in_any_case() {
    assert_eq!(value("\"dev-id\" = 'tortoise_1'"), Value::Bool(true));
    assert_eq!(value("ABS(battery)"), Value::Int(1999));
    assert_eq!(value("upper(\"dev-id\") || '!'"), Value::text("TORTOISE_1!"));
    assert_eq!(value("\"dev-id\" LIKE 'tortoise%' AND length(\"dev-id\") = 10"), Value::Bool(true));
}

#[test]
fn what_is_not_known_is_said() {
    for sql in
        ["soundex(\"dev-id\")", "at AT TIME ZONE 'Europe/Helsinki'", "battery::money", "nothing = 1", "BATTERY = 1", "\"dev-id\" ~ 'a'"]
    {
        let error = on(sql, &row()).expect_err(sql);
        assert!(error.starts_with("not audited: "), "{error}");
    }
}

#[test]
fn select_items_share_their_aggregates() {
    let finished = [Column { name: "dev-id".into(), kind: Type::Text }];
    let mut aggregates = Vec::new();

    let rate = compile_select("count(*) / 60.0", &columns(), &finished, &mut aggregates).expect("known");
    let mean = compile_select("sum(temperature) / count(*)", &columns(), &finished, &mut aggregates).expect("known");

    assert_eq!(aggregates.len(), 2);
    assert_eq!((rate.kind, mean.kind), (Type::Double, Type::Double));
    let finished = [Value::text("a"), Value::Long(7), Value::Double(3.5)];
    assert_eq!(rate.expr.eval(&finished), Ok(Value::Double(7.0 / 60.0)), "C73");
    assert_eq!(mean.expr.eval(&finished), Ok(Value::Double(0.5)));
}
