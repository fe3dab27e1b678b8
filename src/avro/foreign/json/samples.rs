//! Random reader schemas with JSON values of them, and what the values are in Avro; for tests of both readers.

use apache_avro::types::Value as Avro;
use apache_avro::{Days, Decimal, Duration, Millis, Months};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A type, JSON of it, and the value that the JSON means.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The Avro schema; names of types are made unique by [`records`].
    pub(crate) schema: Value,
    /// The text.
    pub(crate) json: String,
    /// What it is in Avro.
    pub(crate) avro: Avro,
}

fn sample(schema: Value, json: impl Into<String>, avro: Avro) -> Sample {
    Sample { schema, json: json.into(), avro }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn latin(bytes: &[u8]) -> String {
    quoted(&bytes.iter().copied().map(char::from).collect::<String>())
}

fn logical(base: &str, logical: &str) -> Value {
    json!({ "type": base, "logicalType": logical })
}

fn numbers() -> impl Strategy<Value = Sample> {
    prop_oneof![
        any::<i32>().prop_map(|number| sample(json!("int"), number.to_string(), Avro::Int(number))),
        any::<i64>().prop_map(|number| sample(json!("long"), number.to_string(), Avro::Long(number))),
        (any::<i32>(), 0..6u32).prop_map(|(number, zeros)| {
            let text = format!("{number}{}e-{zeros}", "0".repeat(zeros as usize));
            sample(json!("long"), text, Avro::Long(i64::from(number)))
        }),
        any::<f32>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| sample(
            json!("float"),
            format!("{number:e}"),
            Avro::Float(number)
        )),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| sample(
            json!("double"),
            number.to_string(),
            Avro::Double(number)
        )),
        (-999_999_999i64..=999_999_999, any::<bool>()).prop_map(|(unscaled, is_text)| {
            let (sign, digits) = (if unscaled < 0 { "-" } else { "" }, unscaled.unsigned_abs());
            let number = format!("{sign}{}.{:03}", digits / 1_000, digits % 1_000);
            let json = if is_text { quoted(&number) } else { number };
            let mut bytes = unscaled.to_be_bytes().to_vec();
            while bytes.len() > 1 && (bytes[0] == 0 && bytes[1] < 0x80 || bytes[0] == 0xff && bytes[1] >= 0x80) {
                bytes.remove(0);
            }
            let schema = json!({ "type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3 });
            sample(schema, json, Avro::Decimal(Decimal::from(bytes)))
        }),
    ]
}

fn texts() -> impl Strategy<Value = Sample> {
    prop_oneof![
        any::<String>().prop_map(|text| sample(json!("string"), quoted(&text), Avro::String(text))),
        "[a-z]{0,5}".prop_map(|text| {
            let escaped: String = text.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
            sample(json!("string"), format!("\"{escaped}\""), Avro::String(text))
        }),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| sample(json!("bytes"), latin(&bytes), Avro::Bytes(bytes))),
        any::<[u8; 3]>().prop_map(|bytes| {
            let schema = json!({ "type": "fixed", "name": "T", "size": 3 });
            sample(schema, latin(&bytes), Avro::Fixed(3, bytes.to_vec()))
        }),
        any::<u128>().prop_map(|bits| {
            let uuid = uuid::Uuid::from_u128(bits);
            sample(logical("string", "uuid"), quoted(&uuid.to_string()), Avro::Uuid(uuid))
        }),
        (0..3u32).prop_map(|at| {
            let symbols = ["A", "B", "C"];
            let symbol = symbols[at as usize];
            let schema = json!({ "type": "enum", "name": "T", "symbols": symbols });
            sample(schema, quoted(symbol), Avro::Enum(at, symbol.to_owned()))
        }),
        any::<[u8; 12]>().prop_map(|bytes| {
            let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let duration = Duration::new(Months::new(word(0)), Days::new(word(4)), Millis::new(word(8)));
            let schema = json!({ "type": "fixed", "name": "T", "size": 12, "logicalType": "duration" });
            sample(schema, latin(&bytes), Avro::Duration(duration))
        }),
    ]
}

/// From the year 0 to 9999.
const SECONDS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

fn times() -> impl Strategy<Value = Sample> {
    let text = |seconds: i64, form: &str, fraction: String| {
        let at = chrono::DateTime::from_timestamp(seconds, 0).expect("within the calendar");
        quoted(&at.format(form).to_string().replace('#', &fraction))
    };
    prop_oneof![
        (SECONDS, 0..1_000_000i64).prop_map(move |(seconds, us)| {
            let json = text(seconds, "%Y-%m-%dT%H:%M:%S#Z", format!(".{us:06}"));
            sample(logical("long", "timestamp-micros"), json, Avro::TimestampMicros(seconds * 1_000_000 + us))
        }),
        (SECONDS, 0..1_000i64).prop_map(move |(seconds, ms)| {
            let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}000") };
            let json = text(seconds, "%Y-%m-%dT%H:%M:%S#", fraction);
            sample(logical("long", "local-timestamp-millis"), json, Avro::LocalTimestampMillis(seconds * 1_000 + ms))
        }),
        (SECONDS, -23..24i64).prop_map(move |(seconds, hours)| {
            let zone = format!("{}{:02}:00", if hours < 0 { '-' } else { '+' }, hours.abs());
            let json = text(seconds, "%Y-%m-%dT%H:%M:%S#", zone);
            sample(logical("long", "timestamp-millis"), json, Avro::TimestampMillis((seconds - hours * 3_600) * 1_000))
        }),
        any::<i64>().prop_map(|count| sample(logical("long", "timestamp-nanos"), count.to_string(), Avro::TimestampNanos(count))),
        SECONDS.prop_map(move |seconds| {
            let days = i32::try_from(seconds.div_euclid(86_400)).expect("within the calendar");
            sample(logical("int", "date"), text(seconds, "%Y-%m-%d", String::new()), Avro::Date(days))
        }),
        (0..86_400i64, 0..1_000_000i64).prop_map(move |(seconds, us)| {
            let json = text(seconds, "%H:%M:%S#", format!(".{us:06}"));
            sample(logical("long", "time-micros"), json, Avro::TimeMicros(seconds * 1_000_000 + us))
        }),
        (0..86_400_000i32).prop_map(|ms| sample(logical("int", "time-millis"), ms.to_string(), Avro::TimeMillis(ms))),
    ]
}

fn leaf() -> impl Strategy<Value = Sample> {
    let flag = any::<bool>().prop_map(|flag| sample(json!("boolean"), flag.to_string(), Avro::Boolean(flag)));
    prop_oneof![1 => flag, 3 => numbers(), 3 => texts(), 3 => times()]
}

/// A field of a record: what is there of it, and what it should have.
fn field(of: Sample, fate: u8) -> (Value, Option<String>, Avro) {
    match fate {
        // Nullable, with a value.
        0 => (json!({ "type": ["null", of.schema], "default": null }), Some(of.json), Avro::Union(1, Box::new(of.avro))),
        // Nullable, null.
        1 => (json!({ "type": ["null", of.schema] }), Some("null".into()), Avro::Union(0, Box::new(Avro::Null))),
        // Nullable, not there.
        2 => (json!({ "type": ["null", of.schema], "default": null }), None, Avro::Union(0, Box::new(Avro::Null))),
        // Null last.
        3 => (json!({ "type": [of.schema, "null"] }), Some(of.json), Avro::Union(0, Box::new(of.avro))),
        _ => (json!({ "type": of.schema }), Some(of.json), of.avro),
    }
}

fn record(fields: Vec<(Sample, u8)>, is_backward: bool) -> Sample {
    let fields: Vec<(Value, Option<String>, Avro)> = fields.into_iter().map(|(of, fate)| field(of, fate)).collect();
    let (mut described, mut members, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (mut schema, json, avro)) in fields.into_iter().enumerate() {
        schema["name"] = json!(format!("f{at}"));
        described.push(schema);
        members.extend(json.map(|json| format!("\"f{at}\" : {json}")));
        members.push(format!("\"unknown{at}\":[{{}},{at}]"));
        values.push((format!("f{at}"), avro));
    }
    if is_backward {
        members.reverse();
    }
    let schema = json!({ "type": "record", "name": "T", "fields": described });
    sample(schema, format!("{{{}}}", members.join(" ,\n")), Avro::Record(values))
}

/// Records of a random schema.
pub(crate) fn records() -> impl Strategy<Value = Sample> {
    let inner = leaf().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0..3usize).prop_map(|(of, count)| {
                let json = format!("[{}]", vec![of.json; count].join(", "));
                sample(json!({ "type": "array", "items": of.schema }), json, Avro::Array(vec![of.avro; count]))
            }),
            (inner.clone(), "[a-zä\"\\\\]{0,3}").prop_map(|(of, key)| {
                let json = format!("{{ {} : {} }}", quoted(&key), of.json);
                sample(json!({ "type": "map", "values": of.schema }), json, Avro::Map([(key, of.avro)].into()))
            }),
            (proptest::collection::vec((inner, 0..8u8), 1..4), any::<bool>()).prop_map(|(fields, is_backward)| record(fields, is_backward)),
        ]
    });
    (proptest::collection::vec((inner, 0..8u8), 1..6), any::<bool>()).prop_map(|(fields, is_backward)| {
        let mut sample = record(fields, is_backward);
        name_types(&mut sample.schema, &mut 0);
        sample
    })
}

/// Gives every named type a name of its own.
fn name_types(schema: &mut Value, number: &mut usize) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| name_types(item, number)),
        Value::Object(members) => {
            if members.get("name").is_some_and(|name| name == "T") {
                *number += 1;
                members.insert("name".into(), json!(format!("T{number}")));
            }
            members.values_mut().for_each(|member| name_types(member, number));
        }
        _ => {}
    }
}
