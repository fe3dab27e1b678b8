//! What the inspector refuses, where it says the fault is, and that it is quick about it.

use std::time::Duration;

use super::*;
use crate::clock::SystemClock;

fn inspector(fields: &str) -> Inspector {
    let json = format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    Inspector::new(&Schema::parse_str(&json).expect("a schema"), DatumLimits::default()).expect("a complete schema")
}

fn fault(fields: &str, datum: &[u8]) -> DatumFault {
    inspector(fields).inspect(datum).expect_err("the datum is at fault")
}

/// An Avro long.
fn long(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push((left as u8) | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

const TWO_FIELDS: &str = r#"{"name":"dev_id","type":"string"},{"name":"battery","type":"int"}"#;

#[test]
fn a_datum_passes() {
    assert_eq!(inspector(TWO_FIELDS).inspect(b"\x06abc\x08"), Ok(()));
}

#[test]
fn c37_invalid_utf8_names_field_and_byte() {
    let fault = fault(TWO_FIELDS, b"\x06\x74\xC3\x28\x08");

    assert_eq!((fault.reason(), fault.path(), fault.byte()), ("invalid-utf8", "dev_id", 1));
    assert_eq!(fault.to_string(), "the text is not UTF-8 (field `dev_id`, byte 1)");
}

#[test]
fn c29_bytes_after_the_datum_are_counted() {
    let fault = fault(TWO_FIELDS, b"\x06abc\x08\0\0\0");

    assert_eq!((fault.reason(), fault.to_string().as_str()), ("trailing-bytes", "3 bytes left after the datum"));
}

#[test]
fn c31_huge_counts_fail_at_once() {
    let nulls = r#"{"name":"a","type":{"type":"array","items":"null"}}"#;
    let ints = r#"{"name":"a","type":{"type":"array","items":"int"}}"#;
    let text = r#"{"name":"a","type":"string"}"#;
    let clock = SystemClock::shared();

    assert_eq!(fault(nulls, &[long(i64::MAX), vec![0]].concat()).reason(), "too-many-items");
    assert_eq!(fault(ints, &[long(1 << 40), vec![2, 2, 0]].concat()).reason(), "too-many-items");
    assert_eq!(fault(text, &long(1 << 62)).reason(), "bad-length");
    assert_eq!(fault(nulls, &[long(i64::MIN), vec![0, 0]].concat()).reason(), "too-many-items");
    let took = clock.monotonic();
    assert!(took < Duration::from_millis(500), "took {took:?}");
}

#[test]
fn items_without_bytes_do_not_unfold_a_small_datum() {
    let nulls = inspector(r#"{"name":"a","type":{"type":"array","items":"null"}}"#);

    assert_eq!(nulls.inspect(&[long(60), vec![0]].concat()), Ok(()));
    assert!(nulls.inspect(&[long(1_000), vec![0]].concat()).is_err());
}

#[test]
fn records_that_double_at_each_level_are_bounded() {
    let mut fields = vec![r#"{"name":"l0","type":{"type":"record","name":"L0","fields":[{"name":"x","type":"null"}]}}"#.to_owned()];
    for level in 1..40 {
        let below = level - 1;
        let twice = format!(r#"{{"name":"a","type":"L{below}"}},{{"name":"b","type":"L{below}"}}"#);
        fields.push(format!(r#"{{"name":"l{level}","type":{{"type":"record","name":"L{level}","fields":[{twice}]}}}}"#));
    }
    let clock = SystemClock::shared();

    assert_eq!(fault(&fields.join(","), &[]).reason(), "too-many-items");
    let took = clock.monotonic();
    assert!(took < Duration::from_millis(500), "took {took:?}");
}

#[test]
fn blocks_with_sizes_are_compared() {
    let ints = inspector(r#"{"name":"a","type":{"type":"array","items":"int"}}"#);

    assert_eq!(ints.inspect(&[long(-2), long(2), vec![2, 4, 0]].concat()), Ok(()));
    let wrong = ints.inspect(&[long(-2), long(1), vec![2, 4, 0]].concat()).expect_err("two ints take two bytes");
    assert_eq!(wrong.reason(), "bad-length");
    assert_eq!(ints.inspect(&[long(-2), long(9), vec![2, 4, 0]].concat()).expect_err("beyond the end").reason(), "truncated");
}

#[test]
fn each_flaw_has_its_reason() {
    let symbol = r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["A","B"]}}"#;
    assert_eq!(fault(r#"{"name":"a","type":"boolean"}"#, &[2]).reason(), "bad-boolean");
    assert_eq!(fault(symbol, &[4]).reason(), "bad-enum-symbol");
    assert_eq!(fault(symbol, &[1]).reason(), "bad-enum-symbol");
    assert_eq!(fault(r#"{"name":"a","type":["null","int"]}"#, &[4]).reason(), "bad-union-branch");
    assert_eq!(fault(r#"{"name":"a","type":"int"}"#, &long(1 << 40)).reason(), "varint-overflow");
    assert_eq!(fault(r#"{"name":"a","type":"long"}"#, &[0xff; 11]).reason(), "varint-overflow");
    assert_eq!(fault(r#"{"name":"a","type":"double"}"#, &[0; 7]).reason(), "truncated");
    assert_eq!(fault(r#"{"name":"a","type":"bytes"}"#, &long(-1)).reason(), "bad-length");
}

#[test]
fn the_path_leads_through_records_arrays_and_maps() {
    let fields = r#"{"name":"first","type":"int"},
        {"name":"trips","type":{"type":"array","items":{"type":"record","name":"Trip","fields":[
            {"name":"names","type":{"type":"map","values":"string"}}]}}}"#;
    let trip = |name: &[u8]| [long(1), vec![2, b'k'], vec![4], name.to_vec(), vec![0]].concat();
    let datum = [vec![2], long(2), trip(b"ok"), trip(b"a\xff"), vec![0]].concat();

    let fault = fault(fields, &datum);

    assert_eq!((fault.reason(), fault.path(), fault.byte()), ("invalid-utf8", "trips[1].names[0]", 1));
}

#[test]
fn c15_a_list_is_walked_as_deep_as_the_bound() {
    let list = r#"{"name":"next","type":["null","R"]}"#;
    let of_length = |length: usize| [vec![2; length], vec![0]].concat();

    assert_eq!(inspector(list).inspect(&of_length(20)), Ok(()));
    assert_eq!(fault(list, &of_length(100_000)).reason(), "too-deep");
}

#[test]
fn every_cut_of_a_datum_is_refused() {
    let datum = b"\x06abc\x08";

    for end in 0..datum.len() {
        assert_eq!(fault(TWO_FIELDS, &datum[..end]).reason(), "truncated", "cut at {end}");
    }
}
