//! Random Protobuf files and records, whole and damaged: what the engine's walk makes of the bytes is what prost-reflect makes of them.

use std::fmt::Write;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::super::{OTHER_MESSAGE, of};
use crate::audit::datum::{Datum, Malformed, Shape};
use crate::avro::foreign::derive;
use crate::avro::{DatumLimits, Decoder, Derived, ReaderSchema, SchemaKind, SchemaLimits};

const SCALARS: [&str; 15] = [
    "int32", "sint32", "sfixed32", "uint32", "fixed32", "int64", "sint64", "sfixed64", "uint64", "fixed64", "float", "double", "bool",
    "string", "bytes",
];
const KEYS: [&str; 7] = ["int32", "sint64", "uint64", "fixed32", "bool", "string", "string"];
const OTHERS: [&str; 10] = [
    "E",
    "M0.K",
    "M0",
    "M1",
    "M1.M2",
    "google.protobuf.Timestamp",
    "google.protobuf.Int64Value",
    "google.protobuf.StringValue",
    "google.protobuf.FloatValue",
    "google.protobuf.Struct",
];
const MESSAGES: usize = 3;

/// A field of a random message.
#[derive(Clone, Debug)]
struct Made {
    number: u32,
    /// Word of a type, of this field or of a map's value.
    kind: &'static str,
    key: Option<&'static str>,
    is_list: bool,
    is_group: bool,
}

struct Maker {
    rng: Pcg64Mcg,
    messages: Vec<Vec<Made>>,
}

impl Maker {
    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    fn kind(&mut self) -> &'static str {
        if self.rng.random_bool(0.6) { self.one_of(&SCALARS) } else { self.one_of(&OTHERS) }
    }

    /// A file of three messages, one in another, that may hold each other and themselves.
    fn file(&mut self) -> String {
        let is_old = self.rng.random_bool(0.4);
        let mut text = format!("syntax = \"{}\";\n", if is_old { "proto2" } else { "proto3" });
        if self.rng.random_bool(0.5) {
            text += "package a.b;\n";
        }
        for import in ["timestamp", "wrappers", "struct"] {
            writeln!(text, "import \"google/protobuf/{import}.proto\";").expect("a text");
        }
        text += "enum E { option allow_alias = true; ZERO = 0; TWO = 2; MINUS = -1; ZWEI = 2; }\n";
        let mut bodies = Vec::new();
        for _ in 0..MESSAGES {
            let fields = self.rng.random_range(0..7u32);
            let mut made = Vec::new();
            let mut text = String::new();
            for field in 0..fields {
                let number =
                    field * self.rng.random_range(1..5) + field + 1 + if self.rng.random_bool(0.1) { 2_000 * (field + 1) } else { 0 };
                if made.iter().all(|made: &Made| made.number != number) {
                    made.push(self.field(&mut text, number, is_old));
                }
            }
            if self.rng.random_bool(0.6) {
                text += "  oneof o {\n";
                for number in [9_001, 9_002] {
                    let kind = self.kind();
                    writeln!(text, "    {kind} o{number} = {number};").expect("a text");
                    made.push(Made { number, kind, key: None, is_list: false, is_group: false });
                }
                text += "  }\n";
            }
            bodies.push(text);
            self.messages.push(made);
        }
        let [first, second, third] = bodies.try_into().expect("three messages");
        text + "message M0 {\n  enum K { K0 = 0; K1 = 1; }\n"
            + &first
            + "}\nmessage M1 {\n  message M2 {\n"
            + &third
            + "  }\n"
            + &second
            + "}\n"
    }

    fn field(&mut self, text: &mut String, number: u32, is_old: bool) -> Made {
        let kind = self.kind();
        let mut made = Made { number, kind, key: None, is_list: false, is_group: false };
        let (label, rest) = match self.rng.random_range(0..10) {
            0..2 => {
                made.key = Some(self.one_of(&KEYS));
                writeln!(text, "  map<{}, {kind}> f{number} = {number};", made.key.unwrap_or_default()).expect("a text");
                return made;
            }
            2 if is_old => {
                (made.is_group, made.kind) = (true, "M0");
                writeln!(text, "  optional group G{number} = {number} {{ optional int32 a = 1; optional string b = 2; }}").expect("a text");
                return made;
            }
            3..6 => {
                made.is_list = true;
                ("repeated ", if SCALARS[..13].contains(&kind) && self.rng.random_bool(0.4) { " [packed = true]" } else { "" })
            }
            6 if is_old => ("required ", ""),
            7 if is_old && kind == "int32" => ("optional ", " [default = -7]"),
            8 if is_old && kind == "E" => ("optional ", " [default = TWO]"),
            _ if is_old => ("optional ", ""),
            7..9 => ("optional ", ""),
            _ => ("", ""),
        };
        writeln!(text, "  {label}{kind} f{number} = {number}{rest};").expect("a text");
        made
    }

    /// A message of type `at`, mostly of the types that it declares.
    fn message(&mut self, at: usize, depth: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let fields = self.messages[at].clone();
        for _ in 0..self.rng.random_range(0..8) {
            let Some(field) = (!fields.is_empty()).then(|| self.rng.random_range(0..fields.len())).map(|at| &fields[at]) else { break };
            self.occurrence(&mut body, field, depth);
        }
        if self.rng.random_bool(0.1) {
            let number = self.rng.random_range(15_000..15_003);
            let wire = self.one_of(&[0u32, 1, 2, 3, 5]);
            self.raw(&mut body, number, wire);
        }
        body
    }

    fn occurrence(&mut self, body: &mut Vec<u8>, field: &Made, depth: usize) {
        if self.rng.random_bool(0.01) {
            let wire = self.rng.random_range(0..6);
            return self.raw(body, field.number, wire);
        }
        if let Some(key) = field.key {
            let mut entry = Vec::new();
            for (number, kind) in [(1, key), (2, field.kind)] {
                if self.rng.random_bool(0.9) {
                    self.value(&mut entry, number, kind, depth);
                }
            }
            key_of(body, field.number, 2);
            return blob(body, &entry);
        }
        if field.is_group {
            key_of(body, field.number, 3);
            self.value(body, 1, "int32", depth);
            return key_of(body, field.number, 4);
        }
        let is_packable = SCALARS[..13].contains(&field.kind) || field.kind == "E" || field.kind == "M0.K";
        if field.is_list && is_packable && self.rng.random_bool(0.5) {
            let mut packed = Vec::new();
            for _ in 0..self.rng.random_range(0..5) {
                self.number(&mut packed, field.kind);
            }
            key_of(body, field.number, 2);
            return blob(body, &packed);
        }
        self.value(body, field.number, field.kind, depth);
    }

    fn value(&mut self, body: &mut Vec<u8>, number: u32, kind: &'static str, depth: usize) {
        match wire_of(kind) {
            2 => {
                key_of(body, number, 2);
                let bytes = self.bytes(kind, depth);
                blob(body, &bytes);
            }
            wire => {
                key_of(body, number, wire);
                self.number(body, kind);
            }
        }
    }

    fn bytes(&mut self, kind: &str, depth: usize) -> Vec<u8> {
        let mut inner = Vec::new();
        match kind {
            "string" => return self.one_of(&["", "a", "b", "kött", "\u{10ffff}"]).as_bytes().to_vec(),
            "bytes" => return vec![self.rng.random(); self.rng.random_range(0..4)],
            "google.protobuf.Timestamp" => {
                if self.rng.random_bool(0.9) {
                    let seconds: i64 = self.rng.random_range(-70_000_000_000..254_000_000_000);
                    key_of(&mut inner, 1, 0);
                    varint(&mut inner, seconds.cast_unsigned());
                }
                if self.rng.random_bool(0.7) {
                    key_of(&mut inner, 2, 0);
                    varint(&mut inner, self.rng.random_range(0..1_050_000_000));
                }
            }
            "google.protobuf.Int64Value" => self.value(&mut inner, 1, "int64", depth),
            "google.protobuf.StringValue" => self.value(&mut inner, 1, "string", depth),
            "google.protobuf.FloatValue" => self.value(&mut inner, 1, "float", depth),
            _ if depth == 0 => {}
            "M0" => return self.message(0, depth - 1),
            "M1" => return self.message(1, depth - 1),
            "M1.M2" => return self.message(2, depth - 1),
            _ => {}
        }
        inner
    }

    fn number(&mut self, body: &mut Vec<u8>, kind: &str) {
        match wire_of(kind) {
            0 => {
                let number = match kind {
                    "E" => self.one_of(&[0, 2, u64::MAX, 2, 0, 2, 7]),
                    "M0.K" => self.one_of(&[0, 1]),
                    _ => self.one_of(&[0, 1, 2, 127, 128, 300, u64::from(u32::MAX), 1 << 40, i64::MAX as u64, u64::MAX]),
                };
                varint(body, number);
            }
            5 => body.extend(self.rng.random::<u32>().to_le_bytes()),
            _ => body.extend((self.rng.random::<u64>() >> self.one_of(&[0u32, 1, 40])).to_le_bytes()),
        }
    }

    /// Anything that is well-formed, of a wire type.
    fn raw(&mut self, body: &mut Vec<u8>, number: u32, wire: u32) {
        key_of(body, number, wire);
        match wire {
            0 => varint(body, self.rng.random()),
            1 => body.extend([1; 8]),
            2 => blob(body, &[8, 1]),
            3 => {
                key_of(body, 7, 0);
                varint(body, 5);
                key_of(body, number, 4);
            }
            5 => body.extend([1; 4]),
            _ => {}
        }
    }

    /// Flips, cuts and doubles some bytes.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.rng.random_range(1..3) {
            let at = if bytes.is_empty() { 0 } else { self.rng.random_range(0..bytes.len()) };
            match self.rng.random_range(0..4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.rng.random()),
                2 if !bytes.is_empty() => bytes[at] ^= 1 << self.rng.random_range(0..8),
                _ if !bytes.is_empty() => drop(bytes.remove(at)),
                _ => {}
            }
        }
    }
}

fn wire_of(kind: &str) -> u32 {
    match kind {
        "fixed64" | "sfixed64" | "double" => 1,
        "fixed32" | "sfixed32" | "float" => 5,
        "E" | "M0.K" => 0,
        kind if SCALARS[..13].contains(&kind) => 0,
        _ => 2,
    }
}

fn varint(body: &mut Vec<u8>, value: u64) {
    prost_reflect::prost::encoding::encode_varint(value, body);
}

fn key_of(body: &mut Vec<u8>, number: u32, wire: u32) {
    varint(body, u64::from(number << 3 | wire));
}

fn blob(body: &mut Vec<u8>, bytes: &[u8]) {
    varint(body, bytes.len() as u64);
    body.extend(bytes);
}

/// What the engine makes of a value, or its reason. The engine's columns take what it makes.
fn by_engine(derived: &Derived, shape: &Shape, decoder: Option<&mut Decoder>, value: &[u8]) -> Result<Datum, String> {
    let mut datum = Vec::new();
    derived.transcoder.transcode(value, &mut datum).map_err(|fault| format!("{}: {fault}", fault.reason))?;
    if let Some(decoder) = decoder {
        let decoded = decoder.decode([datum.as_slice()].into_iter()).expect("content is no fault");
        assert_eq!((decoded.rows.num_rows(), decoded.rejected), (1, Vec::new()));
    }
    Ok(shape.read(&datum).expect("the engine's datum is one of the schema"))
}

/// A decoder to the same schema; none where no columns can hold it.
fn decoder(derived: &Derived) -> Option<Decoder> {
    let json = serde_json::to_string(&derived.schema).expect("JSON");
    let reader = ReaderSchema::parse(&json).ok()?;
    Some(Decoder::new(&derived.schema, &reader).expect("a schema can be read as itself"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_engine_and_the_audit_read_the_same(seed in any::<u64>()) {
        let mut maker = Maker { rng: Pcg64Mcg::seed_from_u64(seed), messages: Vec::new() };
        let text = maker.file();
        // In every other case somebody reads half of the record only.
        let reads = |name: &str| seed % 2 == 0 || name.bytes().last().is_none_or(|last| last % 2 == 0);
        let derived = derive(SchemaKind::Protobuf, &text, &[], &SchemaLimits::default(), DatumLimits::default(), &|_| false, &reads);
        let derived = derived.unwrap_or_else(|fault| panic!("{fault}\n{text}"));
        let (shape, audit) = of(SchemaKind::Protobuf, &text, &[], &|_| false, &reads).unwrap_or_else(|| panic!("the audit reads no\n{text}"));
        prop_assert_eq!(derived.schema.canonical_form(), shape.root.canonical_form(), "{}", text);

        let mut decoder = decoder(&derived);
        for round in 0..30 {
            let mut body = maker.message(0, 4);
            if round % 2 == 1 {
                maker.damage(&mut body);
            }
            let value = [&[0], body.as_slice()].concat();
            let (engine, audit) = (by_engine(&derived, &shape, decoder.as_mut(), &value), audit.read(&value));
            let is_same = match (&engine, &audit) {
                (Ok(engine), Ok(audit)) => format!("{engine:?}") == format!("{audit:?}"),
                (Err(_), Err(_)) => true,
                _ => false,
            };
            prop_assert!(is_same, "{:02x?}\nengine {:?}\naudit  {:?}\n{}", body, engine, audit, text);
        }
    }
}

/// The property would hold if everything were refused: whole records mostly are not, and damaged ones sometimes are.
#[test]
fn random_records_are_of_both_sorts() {
    let (mut whole, mut damaged) = ((0, 0), (0, 0));
    for seed in 0..60 {
        let mut maker = Maker { rng: Pcg64Mcg::seed_from_u64(seed), messages: Vec::new() };
        let text = maker.file();
        let (_, audit) = of(SchemaKind::Protobuf, &text, &[], &|_| false, &|_| true).expect("a schema");
        for _ in 0..20 {
            let mut value = [&[0], maker.message(0, 4).as_slice()].concat();
            whole = (whole.0 + usize::from(audit.read(&value).is_ok()), whole.1 + 1);
            maker.damage(&mut value);
            damaged = (damaged.0 + usize::from(audit.read(&value).is_err()), damaged.1 + 1);
        }
    }

    assert!(whole.0 * 2 > whole.1, "{whole:?}");
    assert!(damaged.0 * 5 > damaged.1, "{damaged:?}");
}

#[test]
fn a_record_of_another_message_is_known_by_its_indexes() {
    let text = "syntax = \"proto3\"; message A { map<string, int32> m = 1; message B { } } message C { int32 c = 1; }";
    let (shape, audit) = of(SchemaKind::Protobuf, text, &[], &|name| name == "C", &|_| true).expect("a schema");

    assert_eq!(shape.root.name().map(ToString::to_string), Some("C".into()));
    assert_eq!(audit.read(&[2, 2, 8, 14]), Ok(Datum::Record(vec![Datum::Int(14)])));
    assert_eq!(audit.read(&[0]), Err(OTHER_MESSAGE));
    assert_eq!(audit.read(&[4, 0, 0]), Err(OTHER_MESSAGE));
    assert!(audit.read(&[4, 0, 2]).is_err_and(|why| why != OTHER_MESSAGE), "there is no such message");
    assert_eq!(audit.read(&[1]), Err(Malformed("a message index is negative")));
    assert_eq!(audit.read_headed(&[2, 2], &[8, 14]), Ok(Datum::Record(vec![Datum::Int(14)])));
    assert_eq!(audit.read_headed(&[0], &[]), Err(OTHER_MESSAGE));
    assert!(audit.read_headed(&[2, 2, 0], &[8, 14]).is_err() && audit.read_headed(&[], &[8, 14]).is_err());
}
