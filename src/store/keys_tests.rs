use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use proptest::prelude::*;

use super::*;

fn key_of(texts: &[&str], number: i32) -> Vec<u8> {
    let mut columns: Vec<ArrayRef> = texts.iter().map(|text| Arc::new(StringArray::from(vec![*text])) as ArrayRef).collect();
    columns.push(Arc::new(Int32Array::from(vec![number])));
    let mut bytes = Vec::new();
    assert!(KeyColumns::new(&columns).expect("text and integer are key types").append(0, &mut bytes));
    bytes
}

/// C85: a separator inside a part never merges two keys.
#[test]
fn parts_with_separators_stay_apart() {
    for separator in [";", "|", "\u{0}", "\u{1}", "\u{ff}", ",", "\u{0}\u{ff}"] {
        let left = key_of(&[&format!("x{separator}y"), "z"], 1);
        let right = key_of(&["x", &format!("y{separator}z")], 1);
        assert_ne!(left, right, "{separator:?}");
    }
}

/// C87: closing the window of one key cannot touch a key that it is a prefix of.
#[test]
fn no_key_is_a_prefix_of_another() {
    let short = window_key(1, 0, 60_000_000, &key_of(&["tortoise_1"], 0));
    let long = window_key(1, 0, 60_000_000, &key_of(&["tortoise_12"], 0));

    assert!(!long.starts_with(&short));
}

#[test]
fn null_parts_leave_the_bytes_alone() {
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![Some("a"), None]))];
    let keys = KeyColumns::new(&columns).expect("text is a key type");
    let mut bytes = vec![7];

    assert!(!keys.append(1, &mut bytes));
    assert_eq!(bytes, [7]);
}

#[test]
fn columns_come_back_with_their_types() {
    let zone: Arc<str> = "+00:00".into();
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![-1, 253_402_300_799_000_000]).with_timezone(zone.clone()));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["", "a\0b"]));
    let days: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![-3, 20_000]));
    let flags: ArrayRef = Arc::new(arrow::array::BooleanArray::from(vec![true, false]));
    let columns_in = vec![times, names, days, flags];
    let types: Vec<DataType> = columns_in.iter().map(|column| column.data_type().clone()).collect();
    assert_eq!(types[0], DataType::Timestamp(TimeUnit::Microsecond, Some(zone)));
    let keys = KeyColumns::new(&columns_in).expect("all are key types");
    let encoded: Vec<Vec<u8>> = (0..2)
        .map(|row| {
            let mut bytes = Vec::new();
            assert!(keys.append(row, &mut bytes));
            bytes
        })
        .collect();

    let columns_out = columns(encoded.iter().map(Vec::as_slice), &types).expect("own bytes are keys");

    assert_eq!(columns_in, columns_out);
}

proptest! {
    #[test]
    fn bytes_sort_as_values_do(a in any::<(String, i64)>(), b in any::<(String, i64)>(), starts in any::<(i64, i64)>()) {
        let encode = |(text, number): &(String, i64)| {
            let mut bytes = Vec::new();
            append_text(text, &mut bytes);
            append_integer(*number, &mut bytes);
            bytes
        };
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), (a.0.as_bytes(), a.1).cmp(&(b.0.as_bytes(), b.1)));
        let left = window_key(7, 3, starts.0, &encode(&a));
        let right = window_key(7, 3, starts.1, &encode(&b));
        prop_assert_eq!(left.cmp(&right), (starts.0, a.0.as_bytes(), a.1).cmp(&(starts.1, b.0.as_bytes(), b.1)));
    }

    #[test]
    fn keys_come_back(text in any::<String>(), number in any::<i64>(), start in any::<i64>(), partition in 0..i32::MAX) {
        let mut key = Vec::new();
        append_text(&text, &mut key);
        append_integer(number, &mut key);
        prop_assert_eq!(parts(&key), Some(vec![KeyPart::Text(text), KeyPart::Integer(number)]));
        let stored = window_key(9, partition, start, &key);
        prop_assert_eq!(read_window_key(&stored), Some(WindowKey { store: 9, partition, start_us: start, key: &key }));
        let logged = changelog_key(start, &key);
        prop_assert_eq!(read_changelog_key(&logged), Some(ChangelogKey::Window { start_us: start, key: &key }));
    }

    #[test]
    fn foreign_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Some(parts) = parts(&bytes) {
            let columns_again = columns(std::iter::once(bytes.as_slice()), &vec![DataType::Int64; parts.len()]);
            prop_assert!(columns_again.is_ok() || parts.iter().any(|part| matches!(part, KeyPart::Text(_))));
        }
        read_window_key(&bytes);
        read_changelog_key(&bytes);
    }
}
