//! Values at the ends of their types, through the whole engine: a record that holds one spoils neither its neighbours nor the epoch.

use apache_avro::types::Value;

use crate::harness::Input;
use crate::rig::{NOW_MS, Rig, alert, long, record, text, zoo};

const SCHEMA: &str = r#"{"type":"record","name":"Reading","fields":[
    {"name":"dev_id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"seen","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"built","type":{"type":"int","logicalType":"date"}},
    {"name":"steps","type":"long"},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":38,"scale":9}},
    {"name":"raw","type":"bytes"}]}"#;

/// The largest number of 38 digits.
const DIGITS: i128 = 10i128.pow(38) - 1;

struct Of {
    seen: i64,
    built: i32,
    steps: i64,
    price: i128,
    raw: &'static [u8],
}

const PLAIN: Of = Of { seen: NOW_MS, built: 20_000, steps: 7, price: 12_500_000_000, raw: b"abc" };

fn input(of: Of) -> Input {
    let bytes = |value: &[u8]| [&long(value.len() as i64)[..], value].concat();
    let numbers = [long(NOW_MS), long(of.seen), long(of.built.into()), long(of.steps)].concat();
    record(1, "d1", &[text("d1"), numbers, bytes(&of.price.to_be_bytes()), bytes(of.raw)].concat())
}

fn window(by: &str, select: &str) -> String {
    zoo(&format!(
        "[window.w]\nfrom = \"readings\"\nby = [{by}]\nover = {{ tumbling = \"1 minute\" }}\ngrace = \"0s\"\ntopic = \"w\"\n[window.w.select]\nx = \"{select}\"\n"
    ))
}

fn keys(rig: &Rig) -> Vec<String> {
    rig.of("w").iter().map(|result| String::from_utf8_lossy(result.key.as_deref().expect("a key")).into_owned()).collect()
}

#[test]
fn a_key_beyond_the_calendar_does_not_stop_the_epoch() {
    let mut rig = Rig::new(&window(r#""dev_id", "seen", "built""#, "count(*)"), SCHEMA);

    rig.epoch(&[
        input(PLAIN),
        input(Of { seen: i64::MAX, built: i32::MIN, ..PLAIN }),
        input(Of { seen: i64::MIN, built: i32::MAX, ..PLAIN }),
    ]);
    rig.epoch(&[input(Of { seen: i64::MAX, built: i32::MIN, ..PLAIN })]);

    assert_eq!(rig.refused(), [""; 0]);
    assert_eq!(rig.column("w", "x"), [1, 1, 1, 2].map(Value::Long));
    let far = r#"["d1","+292278994-08-17T07:12:55.807Z","-5877641-06-23"]"#;
    let expected =
        [r#"["d1","2025-04-08T08:13:20Z","2024-10-04"]"#, far, r#"["d1","-292275055-05-16T16:47:04.192Z","+5881580-07-11"]"#, far];
    assert_eq!(keys(&rig), expected);
}

/// Siblings of C71: what a total's type does not hold is null in this result, and the total goes on exactly.
#[test]
fn sums_and_averages_never_wrap_around_and_never_stop_the_epoch() {
    let steps = |steps: i64| input(Of { steps, ..PLAIN });
    let mut rig = Rig::new(&window(r#""dev_id""#, "sum(steps)"), SCHEMA);
    rig.epoch(&[steps(i64::MAX), steps(i64::MAX)]);
    rig.epoch(&[steps(-i64::MAX)]);
    rig.epoch(&[steps(i64::MIN), steps(i64::MIN)]);
    assert_eq!(rig.column("w", "x"), [Value::Null, Value::Long(i64::MAX), Value::Null]);

    let price = |price: i128| input(Of { price, ..PLAIN });
    for (select, parts, result) in [("sum(price)", [DIGITS, -1, 0], DIGITS - 1), ("avg(price)", [10, 10, 0], 66_666)] {
        let mut rig = Rig::new(&window(r#""dev_id""#, select), SCHEMA);
        rig.epoch(&[price(DIGITS), price(DIGITS)]);
        rig.epoch(&[price(-DIGITS), price(-DIGITS)]);
        assert_eq!(rig.column("w", "x")[0], Value::Null, "{select}");
        assert_eq!(unscaled(&rig.column("w", "x")[1]), 0, "{select}");

        let mut rig = Rig::new(&window(r#""dev_id""#, select), SCHEMA);
        rig.epoch(&parts.map(price));
        assert_eq!(unscaled(&rig.column("w", "x")[0]), result, "{select}");
    }
}

fn unscaled(value: &Value) -> i128 {
    let Value::Decimal(decimal) = value else { panic!("{value:?} is no decimal") };
    let bytes = Vec::<u8>::try_from(decimal).expect("its bytes");
    let sign: i128 = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |number, byte| number << 8 | i128::from(*byte))
}

#[test]
fn integers_that_would_wrap_around_are_refused_by_their_branch() {
    let mut rig = Rig::new(&zoo(&alert("far", "steps + 1 > 0")), SCHEMA);

    rig.epoch(&[input(PLAIN), input(Of { steps: i64::MAX, ..PLAIN }), input(Of { steps: -1, ..PLAIN })]);

    assert_eq!(rig.refused(), ["1 alert.far expression-failed"]);
    assert_eq!(rig.column("far", "steps"), [Value::Long(7)]);
}

/// DET-1: a cast from bytes to text looks at its neighbours' bytes too.
#[test]
fn bytes_that_are_no_text_fail_their_own_row_only() {
    let mut rig = Rig::new(&zoo(&alert("abc", "CAST(raw AS VARCHAR) = 'abc'")), SCHEMA);

    rig.epoch(&[input(PLAIN), input(Of { raw: b"\xff", ..PLAIN }), input(PLAIN), input(Of { raw: b"", ..PLAIN })]);

    assert_eq!(rig.refused(), ["1 alert.abc expression-failed"]);
    assert_eq!(rig.of("abc").len(), 2);
}

/// Shapes that hold nothing, or nothing yet, beside others, of two writer schemas in one run and with rows taken out of it.
#[test]
fn empty_records_arrays_and_maps_go_through_filters_and_come_out_as_they_are() {
    let more = r#",{"name":"nothing","type":{"type":"record","name":"Nothing","fields":[]}},
        {"name":"maybe","type":["null",{"type":"record","name":"Maybe","fields":[{"name":"x","type":["null","Nothing"]}]}],"default":null},
        {"name":"lists","type":{"type":"array","items":{"type":"array","items":"int"}}},
        {"name":"maps","type":{"type":"map","values":{"type":"map","values":"long"}}}]}"#;
    let reader = [SCHEMA.strip_suffix("]}").expect("the end of its fields"), more].concat();
    let later = reader.replace(r#""name":"raw","type":"bytes""#, r#""name":"raw","type":"string""#);
    let mut rig = Rig::with_writers(&zoo(&alert("odd", "steps > 0")), &reader, &[&reader, &later]);
    let of = |schema: u32, steps: i64, rest: &[Vec<u8>]| {
        let Input { value, .. } = input(Of { steps, ..PLAIN });
        let datum = [value.expect("a value")[5..].to_vec(), rest.concat()].concat();
        record(schema, "d1", &datum)
    };
    let maybe = |inner: i64| [long(1), long(inner)].concat();
    let empty = [long(0), long(0), long(0)];
    let full = [
        maybe(1),
        [long(2), long(0), long(1), long(7), long(0), long(0)].concat(),
        [long(2), text(""), long(0), text("a.$b"), long(1), text("c"), long(9), long(0), long(0)].concat(),
    ];

    rig.epoch(&[of(1, 1, &empty), of(2, 2, &full), of(1, -1, &full), of(2, 4, &empty), of(1, 5, &full)]);

    assert_eq!(rig.refused(), [""; 0]);
    assert_eq!(rig.column("odd", "steps"), [1, 2, 4, 5].map(Value::Long));
    assert_eq!(rig.column("odd", "nothing"), vec![Value::Record(Vec::new()); 4]);
    let ints = |items: &[i32]| Value::Array(items.iter().map(|item| Value::Int(*item)).collect());
    let lists = [Value::Array(vec![]), Value::Array(vec![ints(&[]), ints(&[7])])];
    assert_eq!(rig.column("odd", "lists"), [0, 1, 0, 1].map(|at: usize| lists[at].clone()));
    let inner = |entries: &[(&str, i64)]| Value::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), Value::Long(*value))).collect());
    let maps: [Vec<(String, Value)>; 2] = [vec![], vec![(String::new(), inner(&[])), ("a.$b".to_owned(), inner(&[("c", 9)]))]];
    assert_eq!(rig.column("odd", "maps"), [0, 1, 0, 1].map(|at: usize| Value::Map(maps[at].iter().cloned().collect())));
    let some = Value::Record(vec![("x".into(), Value::Union(1, Box::new(Value::Record(Vec::new()))))]);
    assert_eq!(rig.column("odd", "maybe"), [Value::Null, some.clone(), Value::Null, some]);
}
