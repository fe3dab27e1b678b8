//! Expressions mean what they say where DataFusion's planning, simplifying or kernels would make something else of them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Schema};

use super::compiler::on_a_large_stack;
use super::{Compiler, ExpressionFault};

const HOUR_MS: i64 = 3_600_000;

/// Three rows.
fn rows() -> RecordBatch {
    let decimals = |values: [i128; 3], precision, scale| {
        Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).expect("a decimal type"))
    };
    let one = 10_i128.pow(18);
    let columns: [(&str, ArrayRef); 8] = [
        ("amount", decimals([820, 10_050, 153], 8, 2)),
        ("wide", decimals([one, 3 * one, 1_000 * one], 38, 18)),
        ("l", Arc::new(Int64Array::from(vec![3_000_000_000, 5, 7]))),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![1, 30 * HOUR_MS, 24 * HOUR_MS]).with_timezone("+00:00"))),
        ("start", Arc::new(TimestampMillisecondArray::from(vec![0, 0, 0]).with_timezone("+00:00"))),
        ("local", Arc::new(TimestampMicrosecondArray::from(vec![1, 7_200_000_000, 10_800_000_000]))),
        ("note", Arc::new(StringArray::from(vec!["1970-01-01T00:00:01Z", "1970-01-01T00:00:00Z", "1970-07-01T00:00:00Z"]))),
        ("name", Arc::new(StringArray::from(vec![r"CORP\alice", "CORPalice", "left"]))),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect()).expect("three rows")
}

/// Whether the condition is met on each row; none where it fails or is not known.
fn met(sql: &str) -> [Option<bool>; 3] {
    let rows = rows();
    let condition = Compiler::new().condition(sql, &rows.schema()).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
    let values = condition.evaluate_rows(&rows).values;
    let values = values.as_boolean();
    std::array::from_fn(|row| values.is_valid(row).then(|| values.value(row)))
}

fn must_be(expected: &[(&str, [Option<bool>; 3])]) {
    let found: Vec<_> = expected.iter().map(|(sql, _)| (*sql, met(sql))).collect();
    assert_eq!(found, expected);
}

fn fault(sql: &str) -> ExpressionFault {
    Compiler::new().scalar(sql, &rows().schema()).err().unwrap_or_else(|| panic!("{sql} compiles"))
}

const T: Option<bool> = Some(true);
const F: Option<bool> = Some(false);

/// A sibling of C75 and C79: a constant is not put through the cast backwards.
#[test]
fn a_cast_is_made_before_the_comparison() {
    must_be(&[
        ("CAST(amount AS INT) = 8", [T, F, F]),
        ("CAST(amount AS BIGINT) > 100", [F, F, F]),
        ("CAST(amount AS BIGINT) BETWEEN 1 AND 8", [T, F, T]),
        ("CAST(amount AS INT) IN (1, 100)", [F, T, T]),
        ("CAST(amount AS DECIMAL(8, 1)) = 1.5", [F, F, T]),
        ("CAST(l AS INT) > 5", [None, F, T]),
        ("TRY_CAST(l AS INT) > 5", [None, F, T]),
        ("CAST(at AS TIMESTAMP(6)) >= '1970-01-01T00:00:00.0015Z'", [F, T, T]),
        ("arrow_cast(amount, 'Int64') = 8", [T, F, F]),
        ("arrow_cast(l, 'Int32') > 5", [None, F, T]),
        ("local AT TIME ZONE 'Europe/Helsinki' >= '1970-01-01T00:00:00Z'", [F, T, T]),
        ("local AT TIME ZONE 'Europe/Helsinki' BETWEEN '1970-01-01T00:00:00Z' AND '1970-01-01T00:30:00Z'", [F, T, F]),
    ]);
}

#[test]
fn a_difference_of_instants_is_compared_with_its_length() {
    must_be(&[
        ("at - start > INTERVAL '1 day'", [F, T, F]),
        ("at - start = INTERVAL '1 day'", [F, F, T]),
        ("INTERVAL '1 day' < at - start", [F, T, F]),
        ("at - start >= INTERVAL '24 hours'", [F, T, T]),
        ("at - start BETWEEN INTERVAL '1 hour' AND INTERVAL '1 day'", [F, F, T]),
        ("at - start NOT IN (INTERVAL '30 hours', INTERVAL '1 day')", [T, F, F]),
        ("at - start > INTERVAL '1500 microseconds'", [F, T, T]),
        ("at - start > start - start", [T, T, T]),
    ]);
    for (sql, why) in [
        ("at - start > INTERVAL '1 month'", "a month has no fixed length"),
        ("date_part('epoch', at - start)", "take the difference of parts"),
        ("EXTRACT(millisecond FROM at - start)", "take the difference of parts"),
        ("at - start > CASE WHEN l > 5 THEN INTERVAL '2 days' ELSE INTERVAL '1 day' END", "constant intervals only"),
        ("coalesce(at - start, INTERVAL '0 hours') > INTERVAL '1 day'", "constant intervals only"),
        ("CASE at - start WHEN INTERVAL '1 day' THEN 1 ELSE 2 END", "constant intervals only"),
    ] {
        assert!(fault(sql).message.contains(why), "{sql}: {}", fault(sql).message);
    }
    let seconds = Compiler::new().scalar("date_part('epoch', at) - date_part('epoch', start)", &rows().schema()).expect("the remedy");
    let seconds = seconds.evaluate(&rows()).expect("seconds");
    assert_eq!(seconds.as_primitive::<Float64Type>().values()[..], [0.001, 108_000.0, 86_400.0]);
}

#[test]
fn a_text_is_the_same_instant_wherever_it_stands() {
    must_be(&[
        ("to_timestamp(note) > start", [T, F, T]),
        ("to_timestamp_millis(note) = '1970-01-01T00:00:01Z'", [T, F, F]),
        ("to_timestamp_micros(note) IN ('1970-01-01T00:00:00Z')", [F, T, F]),
        ("coalesce(to_timestamp_seconds(note), start) > start", [T, F, T]),
        ("date_part('epoch', to_timestamp_micros(note) AT TIME ZONE 'Europe/Helsinki') = 1", [T, F, F]),
    ]);
}

#[test]
fn a_backslash_in_a_pattern_is_one() {
    must_be(&[
        (r"name ~ '^CORP\\'", [T, F, F]),
        (r"name ~* '^corp\\'", [T, F, F]),
        (r"name !~ '^CORP\\'", [F, T, T]),
        (r"regexp_like(name, '^CORP\\')", [T, F, F]),
        (r"name ~ '^CORP\\[a-c]'", [T, F, F]),
        ("name ~ '^CORP'", [T, T, F]),
        (r"name ~ ('^CORP' || '\\')", [T, F, F]),
        ("name ~ concat('^CORP', chr(92), chr(92))", [T, F, F]),
    ]);
}

#[test]
fn decimals_are_divided_as_long_as_the_quotient_fits() {
    must_be(&[
        ("wide / wide = 1", [T, T, T]),
        ("wide / 3 = 1", [F, T, F]),
        ("wide / amount > 0.1", [T, F, T]),
        ("1 / wide < 0.5", [F, T, T]),
    ]);
    let quotient = Compiler::new().scalar("wide / 3", &rows().schema()).expect("a quotient");
    assert_eq!(*quotient.data_type(), DataType::Decimal128(38, 22));
    let quotient = quotient.evaluate(&rows()).expect("it fits");
    assert_eq!(quotient.as_primitive::<Decimal128Type>().value(0), 3_333_333_333_333_333_333_333);
}

/// A sibling of C15: what a tenant writes does not end the process.
#[test]
fn an_expression_has_a_bounded_depth() {
    let sum = |terms: usize| format!("{} > 1", vec!["l"; terms].join(" + "));
    let any = |terms: usize| vec!["name = 'x'"; terms].join(" OR ");
    for sql in [sum(450), sum(4_000), any(1_000), format!("{}l > 1", "- ".repeat(5_000))] {
        let message = on_a_large_stack(|| fault(&sql).message);
        assert!(message.contains("are allowed") || message.contains("ecursion"), "{message}");
    }
    let rows = rows();
    let pairs: Vec<String> = (0..120).map(|number| format!("l <> {number} OR amount > {number}")).collect();
    let brackets = format!("{}l{} > 1", "(".repeat(30), " + 1)".repeat(30));
    for sql in [sum(250), pairs.join(" OR "), brackets] {
        let condition = on_a_large_stack(|| Compiler::new().condition(&sql, &rows.schema())).expect("deep, and allowed");
        // Here a stack is as large as a worker's.
        assert_eq!(condition.evaluate_rows(&rows).values.as_boolean().true_count(), 3, "{sql}");
    }
}

#[test]
fn what_costs_the_product_of_two_lengths_takes_short_texts() {
    for sql in [
        "levenshtein(left(name, -1), left(note, -1))",
        "levenshtein(left(name, -l), 'x')",
        "levenshtein(name, note)",
        "levenshtein(name, 'x')",
        "levenshtein(left(name, 2000), 'x')",
    ] {
        assert!(fault(sql).message.contains("cut both"), "{sql}");
    }
    must_be(&[("levenshtein(left(name, 100), 'left') = 0", [F, F, T]), ("levenshtein(substr(name, 1, 4), right(name, 4)) = 0", [F, F, T])]);
}
