//! What becomes of a message: its fields as Avro has them, and where each is found on the wire. Made once for a schema; a type that contains
//! itself points back, so nothing here recurses.

use std::collections::HashMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind as ProtoKind, MessageDescriptor, Value};
use serde_json::{Value as Json, json};

/// All types that a message reaches; the message itself is the first.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) messages: Vec<Message>,
    pub(super) enums: Vec<Symbols>,
    /// Which fields of a record, the outermost message, nobody reads: what stands there may be beyond what Avro has.
    pub(super) passed_over: Vec<bool>,
}

/// A message type.
#[derive(Debug)]
pub(super) struct Message {
    /// Package, enclosing messages and name, with dots.
    pub(super) full_name: String,
    /// The same as Avro has it.
    pub(super) avro_name: String,
    /// In the order of the text.
    pub(super) fields: Vec<Field>,
    /// Field numbers, ascending, and which field each is.
    numbers: Vec<(u32, u32)>,
    /// How many oneofs there are.
    pub(super) oneofs: usize,
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) kind: Kind,
    pub(super) form: Form,
    /// The oneof that it is a member of.
    pub(super) oneof: Option<u32>,
    /// What its absence means.
    pub(super) absent: Absent,
    /// The same for people, as an Avro default.
    pub(super) default: Option<Json>,
}

/// How a field's values stand in the datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Plain,
    /// In a union with null.
    Nullable,
    /// In an array.
    List,
    /// In a map: the entries of a Protobuf map whose keys are texts.
    Map,
    /// In an array of entries: the entries of any other Protobuf map.
    Pairs,
}

/// What stands in the place of an absent field.
#[derive(Debug)]
pub(super) enum Absent {
    /// Nothing may: the field is required.
    Fault,
    /// A message with nothing in it.
    Empty,
    /// These bytes of Avro.
    Bytes(Vec<u8>),
}

/// A value's type. Numbers point into [`Plan::messages`] and [`Plan::enums`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int32,
    Sint32,
    Sfixed32,
    Uint32,
    Fixed32,
    Int64,
    Sint64,
    Sfixed64,
    Uint64,
    Fixed64,
    Float,
    Double,
    Bool,
    Text,
    Bytes,
    Enum(u32),
    Message(u32),
    Group(u32),
    /// `google.protobuf.Timestamp`.
    Timestamp(u32),
    /// A message of `google/protobuf/wrappers.proto`.
    Wrapper(u32),
}

/// An enum's values.
#[derive(Debug)]
pub(super) struct Symbols {
    /// The full name as Avro has it.
    pub(super) avro_name: String,
    /// The first name of each number, in the order of the text.
    pub(super) names: Vec<String>,
    /// Numbers, ascending, and which name each has.
    numbers: Vec<(i32, u32)>,
}

/// How a value stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Delimited,
    Group,
    Fixed32,
}

impl Message {
    /// The field with a number.
    #[inline]
    pub(super) fn field(&self, number: u32) -> Option<u32> {
        // Numbers mostly are 1, 2, 3, …
        match self.numbers.get(number.wrapping_sub(1) as usize) {
            Some((found, field)) if *found == number => Some(*field),
            _ => self.numbers.binary_search_by_key(&number, |(number, _)| *number).ok().map(|at| self.numbers[at].1),
        }
    }
}

impl Symbols {
    /// The symbol of a number.
    pub(super) fn symbol(&self, number: i32) -> Option<u32> {
        self.numbers.binary_search_by_key(&number, |(number, _)| *number).ok().map(|at| self.numbers[at].1)
    }
}

impl Kind {
    #[inline]
    pub(super) fn wire(self) -> Wire {
        match self {
            Self::Int32 | Self::Uint32 | Self::Sint32 | Self::Int64 | Self::Uint64 | Self::Sint64 | Self::Bool | Self::Enum(_) => {
                Wire::Varint
            }
            Self::Fixed64 | Self::Sfixed64 | Self::Double => Wire::Fixed64,
            Self::Fixed32 | Self::Sfixed32 | Self::Float => Wire::Fixed32,
            Self::Text | Self::Bytes | Self::Message(_) | Self::Timestamp(_) | Self::Wrapper(_) => Wire::Delimited,
            Self::Group(_) => Wire::Group,
        }
    }

    /// Whether several values may stand in one run of bytes.
    #[inline]
    pub(super) fn is_packable(self) -> bool {
        !matches!(self.wire(), Wire::Delimited | Wire::Group)
    }

    /// The message type, for values that are messages on the wire.
    pub(super) fn message(self) -> Option<u32> {
        match self {
            Self::Message(at) | Self::Group(at) | Self::Timestamp(at) | Self::Wrapper(at) => Some(at),
            _ => None,
        }
    }
}

impl Plan {
    /// The plan of `root`, of which the fields are needed that somebody `reads`, and those that may not be absent.
    pub(super) fn of(root: &MessageDescriptor, reads: &dyn Fn(&str) -> bool) -> Self {
        let mut making = Making::default();
        making.message(root);
        let mut messages = Vec::new();
        while let Some(descriptor) = making.found.get(messages.len()).cloned() {
            let message = making.fill(&descriptor);
            messages.push(message);
        }
        let may_be_absent = |field: &Field| matches!(field.absent, Absent::Bytes(_));
        let passed_over = messages.first().map_or_else(Vec::new, |record: &Message| {
            record.fields.iter().map(|field| may_be_absent(field) && !reads(&field.name)).collect()
        });
        Self { messages, enums: making.enums, passed_over }
    }
}

/// A plan in the making: types are numbered when they are met first.
#[derive(Default)]
struct Making {
    found: Vec<MessageDescriptor>,
    numbers: HashMap<String, u32>,
    enums: Vec<Symbols>,
    enum_numbers: HashMap<String, u32>,
}

impl Making {
    fn message(&mut self, descriptor: &MessageDescriptor) -> u32 {
        if let Some(number) = self.numbers.get(descriptor.full_name()) {
            return *number;
        }
        let number = index(self.found.len());
        self.numbers.insert(descriptor.full_name().to_owned(), number);
        self.found.push(descriptor.clone());
        number
    }

    fn fill(&mut self, descriptor: &MessageDescriptor) -> Message {
        // In the order of the text; `fields()` goes by number.
        let named = descriptor.descriptor_proto().field.iter();
        let in_order = named.filter_map(|field| descriptor.get_field(u32::try_from(field.number()).ok()?));
        let descriptors: Vec<FieldDescriptor> = in_order.collect();
        let oneofs: Vec<String> =
            descriptor.oneofs().filter(|oneof| !oneof.is_synthetic()).map(|oneof| oneof.full_name().to_owned()).collect();
        let fields = descriptors.iter().map(|field| self.field(field, &oneofs)).collect();
        let mut numbers: Vec<(u32, u32)> = descriptors.iter().map(FieldDescriptor::number).zip(0..).collect();
        numbers.sort_unstable();
        Message {
            full_name: descriptor.full_name().to_owned(),
            avro_name: avro_name(descriptor.full_name(), descriptor.package_name()),
            fields,
            numbers,
            oneofs: oneofs.len(),
        }
    }

    fn field(&mut self, field: &FieldDescriptor, oneofs: &[String]) -> Field {
        let oneof = field.containing_oneof().and_then(|oneof| oneofs.iter().position(|name| name == oneof.full_name())).map(index);
        let kind = self.kind(field);
        let form = form_of(field);
        let (absent, default) = match form {
            Form::Nullable => (Absent::Bytes(vec![0]), Some(Json::Null)),
            Form::List | Form::Pairs => (Absent::Bytes(vec![0]), Some(json!([]))),
            Form::Map => (Absent::Bytes(vec![0]), Some(json!({}))),
            Form::Plain if field.is_required() => (Absent::Fault, None),
            Form::Plain => self.absent(field, kind),
        };
        Field { name: field.name().into(), kind, form, oneof, absent, default }
    }

    fn kind(&mut self, field: &FieldDescriptor) -> Kind {
        match field.kind() {
            ProtoKind::Int32 => Kind::Int32,
            ProtoKind::Sint32 => Kind::Sint32,
            ProtoKind::Sfixed32 => Kind::Sfixed32,
            ProtoKind::Uint32 => Kind::Uint32,
            ProtoKind::Fixed32 => Kind::Fixed32,
            ProtoKind::Int64 => Kind::Int64,
            ProtoKind::Sint64 => Kind::Sint64,
            ProtoKind::Sfixed64 => Kind::Sfixed64,
            ProtoKind::Uint64 => Kind::Uint64,
            ProtoKind::Fixed64 => Kind::Fixed64,
            ProtoKind::Float => Kind::Float,
            ProtoKind::Double => Kind::Double,
            ProtoKind::Bool => Kind::Bool,
            ProtoKind::String => Kind::Text,
            ProtoKind::Bytes => Kind::Bytes,
            ProtoKind::Enum(descriptor) => Kind::Enum(self.symbols(&descriptor)),
            ProtoKind::Message(descriptor) => {
                let number = self.message(&descriptor);
                match field.is_group() {
                    true => Kind::Group(number),
                    false if is_timestamp(&descriptor) => Kind::Timestamp(number),
                    false if is_wrapper(&descriptor) => Kind::Wrapper(number),
                    false => Kind::Message(number),
                }
            }
        }
    }

    fn symbols(&mut self, descriptor: &EnumDescriptor) -> u32 {
        if let Some(number) = self.enum_numbers.get(descriptor.full_name()) {
            return *number;
        }
        let mut names = Vec::new();
        let mut numbers: HashMap<i32, u32> = HashMap::new();
        for value in &descriptor.enum_descriptor_proto().value {
            numbers.entry(value.number()).or_insert_with(|| {
                names.push(value.name().to_owned());
                index(names.len() - 1)
            });
        }
        let mut numbers: Vec<(i32, u32)> = numbers.into_iter().collect();
        numbers.sort_unstable();
        let number = index(self.enums.len());
        self.enum_numbers.insert(descriptor.full_name().to_owned(), number);
        self.enums.push(Symbols { avro_name: avro_name(descriptor.full_name(), descriptor.package_name()), names, numbers });
        number
    }

    /// What a field without presence has when it is not there: its default, or its type's zero.
    fn absent(&self, field: &FieldDescriptor, kind: Kind) -> (Absent, Option<Json>) {
        let zigzag = |value: i64| {
            let mut bytes = Vec::new();
            let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
            while rest > 0x7f {
                bytes.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            bytes
        };
        let blob = |value: &[u8]| [zigzag(i64::try_from(value.len()).unwrap_or(i64::MAX)), value.to_vec()].concat();
        let finite = |value: f64| value.is_finite().then(|| json!(value));
        let (bytes, default) = match (kind, field.default_value()) {
            (Kind::Enum(at), Value::EnumNumber(number)) => {
                let symbols = &self.enums[at as usize];
                let Some(symbol) = symbols.symbol(number) else { return (Absent::Fault, None) };
                (zigzag(symbol.into()), Some(json!(symbols.names[symbol as usize])))
            }
            (_, Value::Bool(value)) => (vec![u8::from(value)], Some(json!(value))),
            (_, Value::I32(value)) => (zigzag(value.into()), Some(json!(value))),
            (_, Value::I64(value)) => (zigzag(value), Some(json!(value))),
            (_, Value::U32(value)) => (zigzag(value.into()), Some(json!(value))),
            (_, Value::U64(value)) => match i64::try_from(value) {
                Ok(value) => (zigzag(value), Some(json!(value))),
                // A default that no long holds is as good as none.
                Err(_) => return (Absent::Fault, None),
            },
            (_, Value::F32(value)) => (value.to_le_bytes().to_vec(), finite(value.into())),
            (_, Value::F64(value)) => (value.to_le_bytes().to_vec(), finite(value)),
            (_, Value::String(value)) => (blob(value.as_bytes()), Some(json!(value))),
            (_, Value::Bytes(value)) => (blob(&value), Some(json!(value.iter().map(|byte| char::from(*byte)).collect::<String>()))),
            _ => return (Absent::Empty, None),
        };
        (Absent::Bytes(bytes), default)
    }
}

/// A type's full name as Avro has it. Without a package, types in others get no namespace either: a type without one could not be named in them.
fn avro_name(full_name: &str, package: &str) -> String {
    if package.is_empty() { full_name.replace('.', "_") } else { full_name.to_owned() }
}

/// How a field's values stand in the datum.
fn form_of(field: &FieldDescriptor) -> Form {
    let kind = field.kind();
    if field.is_map() {
        let key = kind.as_message().map(|entry| entry.map_entry_key_field().kind());
        return if matches!(key, Some(ProtoKind::String)) { Form::Map } else { Form::Pairs };
    }
    if field.is_list() {
        return Form::List;
    }
    let is_entry = field.parent_message().is_map_entry();
    let has_default = field.field_descriptor_proto().default_value.is_some();
    match field.supports_presence() && !is_entry && !field.is_required() && !has_default {
        true => Form::Nullable,
        false => Form::Plain,
    }
}

fn is_timestamp(descriptor: &MessageDescriptor) -> bool {
    let fields: Vec<(u32, ProtoKind)> = descriptor.fields().map(|field| (field.number(), field.kind())).collect();
    descriptor.full_name() == "google.protobuf.Timestamp" && fields == [(1, ProtoKind::Int64), (2, ProtoKind::Int32)]
}

fn is_wrapper(descriptor: &MessageDescriptor) -> bool {
    let Some(wrapped) = descriptor.full_name().strip_prefix("google.protobuf.").and_then(|name| name.strip_suffix("Value")) else {
        return false;
    };
    let kind = match wrapped {
        "Double" => ProtoKind::Double,
        "Float" => ProtoKind::Float,
        "Int64" => ProtoKind::Int64,
        "UInt64" => ProtoKind::Uint64,
        "Int32" => ProtoKind::Int32,
        "UInt32" => ProtoKind::Uint32,
        "Bool" => ProtoKind::Bool,
        "String" => ProtoKind::String,
        "Bytes" => ProtoKind::Bytes,
        _ => return false,
    };
    let fields: Vec<(u32, ProtoKind)> = descriptor.fields().map(|field| (field.number(), field.kind())).collect();
    fields == [(1, kind)] && descriptor.fields().all(|field| !field.is_list() && !field.supports_presence())
}

/// Schemas are bounded far below this in [`crate::avro::SchemaLimits`].
fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a schema has fewer than 2^32 types, fields and symbols")
}
