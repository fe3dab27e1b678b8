//! Protobuf in the place of Avro: a file that says what an Avro schema says, and its records from the Avro values that a fleet makes up.
//! The way back of `avro/foreign/protobuf.rs`.

use std::fmt::Write;

use apache_avro::Schema;
use apache_avro::schema::{EnumSchema, RecordSchema};
use apache_avro::types::Value as Avro;
use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use rand::RngExt;
use rand_pcg::Pcg64;

use crate::avro::foreign::protobuf::compile;
use crate::avro::frame::PREFIX_BYTES;
use crate::avro::{SchemaFault, SchemaLimits};

/// The Protobuf file of an Avro record schema; none where it has a type that Protobuf has not.
pub fn proto_of(schema: &Schema) -> Option<String> {
    let Schema::Record(record) = schema else { return None };
    let mut file = File::default();
    file.message(record)?;
    let package = record.name.namespace().map_or_else(String::new, |namespace| format!("package {namespace};\n"));
    let imports = if file.has_timestamps { "import \"google/protobuf/timestamp.proto\";\n" } else { "" };
    // The record comes first: it is the message that records are of.
    file.messages.reverse();
    Some(format!("syntax = \"proto3\";\n{package}{imports}{}", file.messages.concat()))
}

/// A file in the making.
#[derive(Default)]
struct File {
    /// Innermost first.
    messages: Vec<String>,
    has_timestamps: bool,
}

impl File {
    fn message(&mut self, record: &RecordSchema) -> Option<()> {
        let mut text = format!("\nmessage {} {{\n", record.name.name());
        for (number, field) in (1..).zip(&record.fields) {
            let (label, inner) = match &field.schema {
                Schema::Union(union) => match union.variants() {
                    [Schema::Null, inner] | [inner, Schema::Null] => ("optional ", inner),
                    _ => return None,
                },
                schema => ("", schema),
            };
            let (label, word) = match inner {
                Schema::Array(array) => ("repeated ", self.word(&array.items, &mut text)?),
                Schema::Map(map) => ("", format!("map<string, {}>", self.word(&map.types, &mut text)?)),
                inner => (label, self.word(inner, &mut text)?),
            };
            writeln!(text, "  {label}{word} {} = {number};", field.name).ok()?;
        }
        self.messages.push(text + "}\n");
        Some(())
    }

    /// The type's word; types that have to be defined are.
    fn word(&mut self, schema: &Schema, around: &mut String) -> Option<String> {
        let word = match schema {
            Schema::Int => "int32",
            Schema::Long => "int64",
            Schema::Float => "float",
            Schema::Double => "double",
            Schema::Boolean => "bool",
            Schema::String => "string",
            Schema::Bytes => "bytes",
            Schema::TimestampMillis | Schema::TimestampMicros => {
                self.has_timestamps = true;
                "google.protobuf.Timestamp"
            }
            Schema::Enum(found) => {
                around.push_str(&symbols(found)?);
                found.name.name()
            }
            Schema::Record(record) => {
                self.message(record)?;
                record.name.name()
            }
            Schema::Ref { name } => name.name(),
            _ => return None,
        };
        Some(word.to_owned())
    }
}

fn symbols(found: &EnumSchema) -> Option<String> {
    let mut text = format!("  enum {} {{\n", found.name.name());
    for (number, symbol) in found.symbols.iter().enumerate() {
        writeln!(text, "    {symbol} = {number};").ok()?;
    }
    Some(text + "  }\n")
}

/// Bytes in front of a message: the schema's name, and message indexes.
pub const FRAME_BYTES: usize = PREFIX_BYTES + INDEXES.len();

/// The message indexes of a file's first message.
pub const INDEXES: [u8; 1] = [0];

/// Writes records of a Protobuf file's first message.
#[derive(Clone, Debug)]
pub struct ProtobufWriter {
    message: MessageDescriptor,
}

impl ProtobufWriter {
    /// A writer of the first message of `text`, which imports nothing but Protobuf's own files.
    ///
    /// # Errors
    /// [`SchemaFault`] when the text is no such file.
    pub fn of(text: &str) -> Result<Self, SchemaFault> {
        let file = compile(text, &[], &SchemaLimits::default())?;
        let message = file.messages().next().ok_or_else(|| SchemaFault::Invalid("it has no message".into()))?;
        Ok(Self { message })
    }

    /// Appends message indexes, those of the first message, and a record.
    pub fn write(&self, record: &[(String, Avro)], value: &mut Vec<u8>) {
        value.extend(INDEXES);
        value.extend(message_of(&self.message, record).encode_to_vec());
    }

    /// Cuts a framed value of which `kept` bytes stay in any case, such that the rest is no record: many cuts are, since every field may be
    /// absent.
    pub fn cut(&self, value: &mut Vec<u8>, kept: usize, rng: &mut Pcg64) {
        let body = FRAME_BYTES;
        value.truncate(rng.random_range(kept..value.len().max(kept + 1)));
        while value.len() > body && DynamicMessage::decode(self.message.clone(), &value[body..]).is_ok() {
            value.pop();
        }
        // Without its message indexes it is none either; where they stay, a field begins and ends too early.
        match value.len() == body {
            true if kept < body => drop(value.pop()),
            true => value.push(0x80),
            false => {}
        }
    }

    /// Appends a field of a type that it is not declared with.
    pub fn add_wrong_type(&self, value: &mut Vec<u8>, rng: &mut Pcg64) {
        let numbers: Vec<u32> = self.message.fields().map(|field| field.number()).collect();
        let number = if numbers.is_empty() { 1 } else { numbers[rng.random_range(0..numbers.len())] };
        // No type is written as a group in proto3.
        for wire in [3, 4] {
            prost_reflect::prost::encoding::encode_varint(u64::from(number << 3 | wire), value);
        }
    }
}

fn message_of(descriptor: &MessageDescriptor, record: &[(String, Avro)]) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in record {
        let field = descriptor.get_field_by_name(name);
        if let Some((field, value)) = field.and_then(|field| Some((field.clone(), field_of(&field, value)?))) {
            message.set_field(&field, value);
        }
    }
    message
}

/// A field's value; none for null, which Protobuf says by leaving it out.
fn field_of(field: &FieldDescriptor, value: &Avro) -> Option<Value> {
    match value {
        Avro::Union(_, inner) => field_of(field, inner),
        Avro::Array(entries) if field.is_map() => {
            let entry = |entry: &Avro| if let Avro::Record(fields) = entry { entry_of(field, fields) } else { None };
            Some(Value::Map(entries.iter().filter_map(entry).collect()))
        }
        Avro::Array(items) => Some(Value::List(items.iter().filter_map(|item| value_of(&field.kind(), item)).collect())),
        Avro::Map(entries) => {
            let kind = field.kind().as_message()?.map_entry_value_field().kind();
            let entry = |(key, value): (&String, &Avro)| Some((MapKey::String(key.clone()), value_of(&kind, value)?));
            Some(Value::Map(entries.iter().filter_map(entry).collect()))
        }
        value => value_of(&field.kind(), value),
    }
}

/// A map's entry from a record of key and value.
fn entry_of(field: &FieldDescriptor, entry: &[(String, Avro)]) -> Option<(MapKey, Value)> {
    let kind = field.kind();
    let descriptor = kind.as_message()?;
    let [(_, key), (_, value)] = entry else { return None };
    let key = match value_of(&descriptor.map_entry_key_field().kind(), key)? {
        Value::Bool(key) => MapKey::Bool(key),
        Value::I32(key) => MapKey::I32(key),
        Value::I64(key) => MapKey::I64(key),
        Value::U32(key) => MapKey::U32(key),
        Value::U64(key) => MapKey::U64(key),
        Value::String(key) => MapKey::String(key),
        _ => return None,
    };
    Some((key, value_of(&descriptor.map_entry_value_field().kind(), value)?))
}

fn value_of(kind: &Kind, value: &Avro) -> Option<Value> {
    Some(match (kind, value) {
        (_, Avro::Union(_, inner)) => return value_of(kind, inner),
        (Kind::Message(descriptor), Avro::Record(fields)) => Value::Message(message_of(descriptor, fields)),
        (Kind::Message(descriptor), Avro::TimestampMicros(us)) => Value::Message(timestamp(descriptor, *us)),
        (Kind::Message(descriptor), Avro::TimestampMillis(ms)) => Value::Message(timestamp(descriptor, ms.saturating_mul(1_000))),
        (Kind::Message(descriptor), Avro::Null) => Value::Message(DynamicMessage::new(descriptor.clone())),
        (Kind::Message(descriptor), scalar) => Value::Message(wrapper(descriptor, scalar)?),
        (Kind::Enum(descriptor), Avro::Enum(_, symbol)) => Value::EnumNumber(descriptor.get_value_by_name(symbol)?.number()),
        (Kind::Uint32 | Kind::Fixed32, Avro::Long(value)) => Value::U32(u32::try_from(*value).unwrap_or_default()),
        (Kind::Uint64 | Kind::Fixed64, Avro::Long(value)) => Value::U64(u64::try_from(*value).unwrap_or_default()),
        (_, Avro::Int(value)) => Value::I32(*value),
        (_, Avro::Long(value)) => Value::I64(*value),
        (_, Avro::Float(value)) => Value::F32(*value),
        (_, Avro::Double(value)) => Value::F64(*value),
        (_, Avro::Boolean(value)) => Value::Bool(*value),
        (_, Avro::String(value)) => Value::String(value.clone()),
        (_, Avro::Bytes(value)) => Value::Bytes(value.clone().into()),
        _ => return None,
    })
}

fn timestamp(descriptor: &MessageDescriptor, us: i64) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("seconds", Value::I64(us.div_euclid(1_000_000)));
    let nanos = i32::try_from(us.rem_euclid(1_000_000) * 1_000).expect("a second has 10^9 nanoseconds");
    message.set_field_by_name("nanos", Value::I32(nanos));
    message
}

fn wrapper(descriptor: &MessageDescriptor, scalar: &Avro) -> Option<DynamicMessage> {
    let field = descriptor.get_field_by_name("value")?;
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field(&field, value_of(&field.kind(), scalar)?);
    Some(message)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::avro::foreign::{Derived, derive};
    use crate::avro::{DatumLimits, SchemaKind};

    fn derived(text: &str) -> Derived {
        derive(SchemaKind::Protobuf, text, &[], &SchemaLimits::default(), DatumLimits::default(), &|_| false, &|_| true).expect("a schema")
    }

    #[test]
    fn an_avro_schema_has_its_protobuf_file() {
        let schema = Schema::parse_str(
            r#"{"type": "record", "name": "R", "namespace": "zoo", "fields": [
                {"name": "id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
                {"name": "n", "type": ["null", "int"]}, {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
                {"name": "in", "type": {"type": "record", "name": "I", "fields": [{"name": "d", "type": "double"}]}},
                {"name": "l", "type": {"type": "array", "items": "I"}}, {"name": "m", "type": {"type": "map", "values": "long"}}]}"#,
        )
        .expect("a schema");

        let text = proto_of(&schema).expect("a file");

        let expected = "syntax = \"proto3\";\npackage zoo;\nimport \"google/protobuf/timestamp.proto\";\n\nmessage R {\n  string id = 1;\n  \
            google.protobuf.Timestamp at = 2;\n  optional int32 n = 3;\n  enum E {\n    A = 0;\n    B = 1;\n  }\n  E e = 4;\n  I in = 5;\n  \
            repeated I l = 6;\n  map<string, int64> m = 7;\n}\n\nmessage I {\n  double d = 1;\n}\n";
        assert_eq!(text, expected);
        assert_eq!(derived(&text).schema.name().map(ToString::to_string), Some("zoo.R".into()));
        let decimal = r#"{"type": "record", "name": "R", "fields": [{"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4}}]}"#;
        assert_eq!(proto_of(&Schema::parse_str(decimal).expect("a schema")), None);
    }

    #[test]
    fn what_is_to_be_wrong_is_wrong() {
        const TEXT: &str = "syntax = \"proto3\"; message M { string a = 1; int32 b = 2; M c = 3; repeated double d = 4; }";
        let (writer, derived) = (ProtobufWriter::of(TEXT).expect("a writer"), derived(TEXT));
        let record: Vec<(String, Avro)> =
            vec![("a".into(), Avro::String("abc".into())), ("b".into(), Avro::Int(7)), ("d".into(), Avro::Array(vec![Avro::Double(1.0)]))];
        let mut rng = Pcg64::seed_from_u64(1);
        for _ in 0..200 {
            let mut cut = vec![0; 5];
            writer.write(&record, &mut cut);
            let mut retyped = cut[5..].to_vec();
            writer.cut(&mut cut, 5, &mut rng);
            writer.add_wrong_type(&mut retyped, &mut rng);

            let told = |value: &[u8]| derived.transcoder.transcode(value, &mut Vec::new()).map_err(|fault| fault.reason);
            assert_eq!(told(&cut[5..]), Err("truncated"), "{cut:?}");
            let mut headed = vec![0; 5];
            writer.write(&record, &mut headed);
            writer.cut(&mut headed, FRAME_BYTES, &mut rng);
            assert!(headed.len() > FRAME_BYTES);
            assert_eq!(told(&headed[5..]), Err("truncated"), "{headed:?}");
            assert_eq!(told(&retyped), Err("wrong-type"));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        const TEXT: &str = r#"
            syntax = "proto3";
            import "google/protobuf/timestamp.proto";
            import "google/protobuf/wrappers.proto";
            message M {
                string id = 1; google.protobuf.Timestamp at = 2; google.protobuf.DoubleValue wrapped = 3; optional uint32 left_out = 4;
                repeated N list = 5; map<string, int64> map = 6; map<int32, E> pairs = 7; E e = 8; bytes b = 9;
            }
            message N { fixed64 n = 1; }
            enum E { ZERO = 0; TWO = 2; }
        "#;
        let some = |value: Avro| Avro::Union(1, Box::new(value));
        let n = Avro::Record(vec![("n".into(), Avro::Long(7))]);
        let pair = Avro::Record(vec![("key".into(), Avro::Int(-3)), ("value".into(), Avro::Enum(1, "TWO".into()))]);
        let record: Vec<(String, Avro)> = vec![
            ("id".into(), Avro::String("d1".into())),
            ("at".into(), some(Avro::TimestampMicros(-1))),
            ("wrapped".into(), some(Avro::Double(0.0))),
            ("left_out".into(), Avro::Union(0, Box::new(Avro::Null))),
            ("list".into(), Avro::Array(vec![n.clone(), n])),
            ("map".into(), Avro::Map([("a".into(), Avro::Long(1))].into())),
            ("pairs".into(), Avro::Array(vec![pair])),
            ("e".into(), Avro::Enum(0, "ZERO".into())),
            ("b".into(), Avro::Bytes(vec![1, 2])),
        ];
        let derived = derive(SchemaKind::Protobuf, TEXT, &[], &SchemaLimits::default(), DatumLimits::default(), &|_| false, &|_| true)
            .expect("a schema");
        let (mut value, mut datum) = (Vec::new(), Vec::new());

        ProtobufWriter::of(TEXT).expect("a writer").write(&record, &mut value);

        derived.transcoder.transcode(&value, &mut datum).expect("a message");
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&derived.schema).build().expect("a reader");
        assert_eq!(reader.read_value(&mut datum.as_slice()).expect("a datum"), Avro::Record(record));
    }
}
