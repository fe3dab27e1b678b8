//! Protobuf files and their records, read anew: through prost-reflect's messages, where the engine walks the bytes.
//!
//! Compiling a file to descriptors is a library's work and done once for both. What a descriptor becomes in Avro, and a message, is told
//! here from docs/schemas.md. Maps are read as the lists of entries that they are on the wire: prost-reflect keeps a map's entries in no order.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use serde_json::{Value as Json, json};

use super::{Foreign, size};
use crate::audit::datum::{Datum, Malformed, Shape};
use crate::avro::foreign::protobuf::compile;
use crate::avro::{Reference, SchemaLimits};

/// Levels of JSON objects and arrays above a record in the derived schema.
const LEVELS_MAX: usize = 96;

/// What a Protobuf file says in Avro's words, and what reads its records: those of the first message that is wanted, or else of the first.
pub fn of(
    text: &str,
    references: &[Reference],
    wanted: &dyn Fn(&str) -> bool,
    reads: &dyn Fn(&str) -> bool,
) -> Option<(Shape, Box<dyn Foreign>)> {
    let file = compile(text, references, &SchemaLimits::default()).ok()?;
    let messages = with_indexes(&file.messages().collect::<Vec<_>>(), &[]);
    let (indexes, message) = messages.iter().find(|(_, message)| wanted(message.full_name())).or(messages.first())?;
    let mut maps = HashSet::new();
    let pool = without_maps(file.parent_pool(), &mut maps)?;
    let message = pool.get_message_by_name(message.full_name())?;
    let unwanted: HashSet<Vec<u32>> =
        messages.iter().filter(|(other, found)| other != indexes && !wanted(found.full_name())).map(|(other, _)| other.clone()).collect();
    let unread: HashSet<String> = message.fields().map(|field| field.name().to_owned()).filter(|name| !reads(name)).collect();
    let reading = Reading { maps, message, indexes: indexes.clone(), unwanted, unread };
    let mut written = Written::default();
    let json = reading.record(&reading.message, 0, &mut written)?;
    let is_bare = |name: &str| written.0.contains_key(name);
    if written.0.keys().filter_map(|name| name.rsplit_once('.')).any(|(_, last)| is_bare(last)) {
        return None;
    }
    Some((Shape::parse(&json.to_string()).ok()?, Box::new(reading)))
}

/// The messages among and in `messages`, each with its indexes, in the order of the text. Entries of maps are not counted.
fn with_indexes(messages: &[MessageDescriptor], above: &[u32]) -> Vec<(Vec<u32>, MessageDescriptor)> {
    let counted = messages.iter().filter(|message| !message.is_map_entry());
    let mut found = Vec::new();
    for (index, message) in (0..).zip(counted) {
        let indexes = [above, &[index]].concat();
        found.push((indexes.clone(), message.clone()));
        found.extend(with_indexes(&message.child_messages().collect::<Vec<_>>(), &indexes));
    }
    found
}

/// The same files with lists of entries in the place of maps; `maps` receives the names of the entries' types.
fn without_maps(pool: &DescriptorPool, maps: &mut HashSet<String>) -> Option<DescriptorPool> {
    maps.extend(pool.all_messages().filter(MessageDescriptor::is_map_entry).map(|entry| entry.full_name().to_owned()));
    let files = pool.file_descriptor_protos().cloned().map(|mut file: FileDescriptorProto| {
        file.message_type.iter_mut().for_each(forget);
        file
    });
    let mut plain = DescriptorPool::new();
    plain.add_file_descriptor_protos(files).ok()?;
    Some(plain)
}

fn forget(message: &mut DescriptorProto) {
    message.options = None;
    message.nested_type.iter_mut().for_each(forget);
}

/// Types that stand in the schema already: names in Avro, and whose they are.
#[derive(Default)]
struct Written(HashMap<String, String>);

impl Written {
    /// Whether a type stands there already; none when another one has its name.
    fn is_known(&mut self, name: &str, full_name: &str) -> Option<bool> {
        match self.0.insert(name.to_owned(), full_name.to_owned()) {
            None => Some(false),
            Some(other) => (other == full_name).then_some(true),
        }
    }
}

struct Reading {
    /// Names of map entries' types.
    maps: HashSet<String>,
    message: MessageDescriptor,
    indexes: Vec<u32>,
    /// Indexes of the messages that the source has nothing to do with.
    unwanted: HashSet<Vec<u32>>,
    /// Fields of the record that the source does not read.
    unread: HashSet<String>,
}

impl Foreign for Reading {
    fn read(&self, value: &[u8]) -> Result<Datum, Malformed> {
        let (indexes, body) = indexes(value)?;
        self.read_body(&indexes, body)
    }

    fn read_headed(&self, head: &[u8], value: &[u8]) -> Result<Datum, Malformed> {
        match indexes(head)? {
            (indexes, []) => self.read_body(&indexes, value),
            _ => Err(Malformed("more than message indexes in its header")),
        }
    }
}

impl Reading {
    fn read_body(&self, indexes: &[u32], body: &[u8]) -> Result<Datum, Malformed> {
        if *indexes != *self.indexes {
            return Err(if self.unwanted.contains(indexes) { super::OTHER_MESSAGE } else { Malformed("of a message that is not read") });
        }
        let message = DynamicMessage::decode(self.message.clone(), body).map_err(|_| Malformed("not a Protobuf message"))?;
        let datum = self.record_datum(&message)?;
        if size::is_within(&datum, body.len()) { Ok(datum) } else { Err(Malformed("too much")) }
    }
}

/// The message indexes in front of a record, and the rest.
fn indexes(value: &[u8]) -> Result<(Vec<u32>, &[u8]), Malformed> {
    let mut rest = value;
    let mut next = || {
        let raw = prost_reflect::prost::encoding::decode_varint(&mut rest).map_err(|_| Malformed("no message index"))?;
        // Zigzag numbers: odd ones are negative.
        if raw % 2 == 0 { Ok(raw / 2) } else { Err(Malformed("a message index is negative")) }
    };
    let count = next()?;
    if count > 32 {
        return Err(Malformed("too many message indexes"));
    }
    let mut indexes = Vec::new();
    for _ in 0..count {
        indexes.push(u32::try_from(next()?).unwrap_or(u32::MAX));
    }
    if indexes.is_empty() {
        indexes.push(0);
    }
    Ok((indexes, rest))
}

/// A message's fields in the order of the text.
fn fields_of(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let numbers = message.descriptor_proto().field.iter().filter_map(|field| u32::try_from(field.number()).ok());
    numbers.filter_map(|number| message.get_field(number)).collect()
}

/// Names of an enum's numbers: where a number has several, the first.
fn symbols_of(descriptor: &EnumDescriptor) -> Vec<(i32, String)> {
    let mut symbols: Vec<(i32, String)> = Vec::new();
    let mut seen = HashSet::new();
    for value in &descriptor.enum_descriptor_proto().value {
        if seen.insert(value.number()) {
            symbols.push((value.number(), value.name().to_owned()));
        }
    }
    symbols
}

/// The one value of a wrapper message.
fn wrapped(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    let name = message.full_name().strip_prefix("google.protobuf.")?.strip_suffix("Value")?.to_lowercase();
    let fields = fields_of(message);
    let [value] = fields.as_slice() else { return None };
    let is_it = format!("{:?}", value.kind()) == name && value.number() == 1 && !value.is_list() && !value.supports_presence();
    is_it.then(|| value.clone())
}

fn is_timestamp(message: &MessageDescriptor) -> bool {
    let kinds: Vec<Kind> = message.fields().map(|field| field.kind()).collect();
    message.full_name() == "google.protobuf.Timestamp" && kinds == [Kind::Int64, Kind::Int32]
}

/// A field that may be told to be absent, other than in a map's entry.
fn is_nullable(field: &FieldDescriptor) -> bool {
    field.supports_presence() && !field.is_required() && field.field_descriptor_proto().default_value.is_none()
}

impl Reading {
    /// The entry type of a field that is a map.
    fn entry_of(&self, field: &FieldDescriptor) -> Option<MessageDescriptor> {
        match field.kind() {
            Kind::Message(entry) if field.is_list() && self.maps.contains(entry.full_name()) => Some(entry),
            _ => None,
        }
    }

    fn is_plain(&self, field: &FieldDescriptor) -> bool {
        self.maps.contains(field.parent_message().full_name()) || !is_nullable(field)
    }

    fn record(&self, message: &MessageDescriptor, level: usize, written: &mut Written) -> Option<Json> {
        let name = avro_name(message.full_name(), message.package_name());
        if written.is_known(&name, message.full_name())? {
            return Some(reference(&name));
        }
        if level > LEVELS_MAX {
            return None;
        }
        let mut fields = Vec::new();
        for field in fields_of(message) {
            let kind = match self.entry_of(&field) {
                Some(entry) if has_text_keys(&entry) => {
                    json!({ "type": "map", "values": self.kind(&entry.get_field(2)?.kind(), level + 4, written)? })
                }
                _ if field.is_list() => json!({ "type": "array", "items": self.kind(&field.kind(), level + 4, written)? }),
                _ if self.is_plain(&field) => self.kind(&field.kind(), level + 3, written)?,
                _ => json!(["null", self.kind(&field.kind(), level + 4, written)?]),
            };
            fields.push(json!({ "name": field.name(), "type": kind }));
        }
        let (namespace, name) = name.rsplit_once('.').unwrap_or(("", &name));
        Some(json!({ "type": "record", "namespace": namespace, "name": name, "fields": fields }))
    }

    fn kind(&self, kind: &Kind, level: usize, written: &mut Written) -> Option<Json> {
        Some(match kind {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!("int"),
            Kind::Uint32 | Kind::Fixed32 | Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => json!("long"),
            Kind::Float => json!("float"),
            Kind::Double => json!("double"),
            Kind::Bool => json!("boolean"),
            Kind::String => json!("string"),
            Kind::Bytes => json!("bytes"),
            Kind::Enum(found) => {
                let name = avro_name(found.full_name(), found.package_name());
                if written.is_known(&name, found.full_name())? {
                    return Some(reference(&name));
                }
                let (namespace, name) = name.rsplit_once('.').unwrap_or(("", &name));
                let symbols: Vec<String> = symbols_of(found).into_iter().map(|(_, name)| name).collect();
                json!({ "type": "enum", "namespace": namespace, "name": name, "symbols": symbols })
            }
            Kind::Message(message) if is_timestamp(message) => json!({ "type": "long", "logicalType": "timestamp-micros" }),
            Kind::Message(message) => match wrapped(message) {
                Some(value) => return self.kind(&value.kind(), level, written),
                None => return self.record(message, level, written),
            },
        })
    }

    /// A whole record: what nobody reads is as if it were not there, where it may be absent.
    fn record_datum(&self, record: &DynamicMessage) -> Result<Datum, Malformed> {
        let nothing = DynamicMessage::new(record.descriptor());
        let datum = |field: FieldDescriptor| match self.unread.contains(field.name()) {
            true => self.field_datum(&nothing, &field).or_else(|_| self.field_datum(record, &field)),
            false => self.field_datum(record, &field),
        };
        Ok(Datum::Record(fields_of(&record.descriptor()).into_iter().map(datum).collect::<Result<_, _>>()?))
    }

    fn message_datum(&self, message: &DynamicMessage) -> Result<Datum, Malformed> {
        let fields = fields_of(&message.descriptor()).into_iter().map(|field| self.field_datum(message, &field));
        Ok(Datum::Record(fields.collect::<Result<_, _>>()?))
    }

    fn field_datum(&self, message: &DynamicMessage, field: &FieldDescriptor) -> Result<Datum, Malformed> {
        let value = message.get_field(field);
        let entry = self.entry_of(field);
        match value.as_ref() {
            Value::List(entries) if entry.is_some() => self.map_datum(entries, entry.as_ref().is_some_and(has_text_keys)),
            Value::List(items) => {
                Ok(Datum::Array(items.iter().map(|item| self.value_datum(&field.kind(), item)).collect::<Result<_, _>>()?))
            }
            value if self.is_plain(field) => match field.is_required() && !message.has_field(field) {
                true => Err(Malformed("a required field is not there")),
                false => self.value_datum(&field.kind(), value),
            },
            _ if !message.has_field(field) => Ok(Datum::Union(0, Box::new(Datum::Null))),
            value => Ok(Datum::Union(1, Box::new(self.value_datum(&field.kind(), value)?))),
        }
    }

    /// A map by the order of its keys; the last entry of a key counts.
    fn map_datum(&self, entries: &[Value], has_text_keys: bool) -> Result<Datum, Malformed> {
        let (mut texts, mut others) = (BTreeMap::new(), BTreeMap::new());
        for entry in entries.iter().filter_map(Value::as_message) {
            let key = entry.get_field_by_number(1).ok_or(Malformed("no key"))?;
            let number = match key.as_ref() {
                Value::String(key) => {
                    texts.insert(key.clone(), entry);
                    continue;
                }
                Value::Bool(key) => i64::from(*key),
                Value::I32(key) => i64::from(*key),
                Value::U32(key) => i64::from(*key),
                Value::I64(key) => *key,
                Value::U64(key) => i64::try_from(*key).map_err(|_| Malformed("a key is no long"))?,
                _ => return Err(Malformed("a key of no type")),
            };
            others.insert(number, entry);
        }
        if !has_text_keys {
            return Ok(Datum::Array(others.into_values().map(|entry| self.message_datum(entry)).collect::<Result<_, _>>()?));
        }
        let value = |entry: &DynamicMessage| {
            let field = entry.descriptor().get_field(2).ok_or(Malformed("no value"))?;
            self.value_datum(&field.kind(), &entry.get_field(&field))
        };
        Ok(Datum::Map(texts.into_iter().map(|(key, entry)| Ok((key, value(entry)?))).collect::<Result<_, Malformed>>()?))
    }

    fn value_datum(&self, kind: &Kind, value: &Value) -> Result<Datum, Malformed> {
        Ok(match (kind, value) {
            (Kind::Enum(found), Value::EnumNumber(number)) => {
                let symbol = symbols_of(found).iter().position(|(known, _)| known == number);
                Datum::Enum(symbol.ok_or(Malformed("an enum has no such number"))?)
            }
            (Kind::Message(found), Value::Message(message)) if is_timestamp(found) => {
                let part = |number| message.get_field_by_number(number);
                let (Some(seconds), Some(nanos)) = (part(1).and_then(|part| part.as_i64()), part(2).and_then(|part| part.as_i32())) else {
                    return Err(Malformed("no timestamp"));
                };
                // From 0001-01-01T00:00:00Z until the end of 9999.
                if !(-62_135_596_800..=253_402_300_799).contains(&seconds) || !(0..=999_999_999).contains(&nanos) {
                    return Err(Malformed("a timestamp is out of range"));
                }
                Datum::Long(seconds * 1_000_000 + i64::from(nanos) / 1_000)
            }
            (Kind::Message(found), Value::Message(message)) => match wrapped(found) {
                Some(field) => self.value_datum(&field.kind(), &message.get_field(&field))?,
                None => self.message_datum(message)?,
            },
            (_, Value::Bool(value)) => Datum::Bool(*value),
            (_, Value::I32(value)) => Datum::Int(*value),
            (_, Value::I64(value)) => Datum::Long(*value),
            (_, Value::U32(value)) => Datum::Long((*value).into()),
            (_, Value::U64(value)) => Datum::Long(i64::try_from(*value).map_err(|_| Malformed("a number is no long"))?),
            (_, Value::F32(value)) => Datum::Float(*value),
            (_, Value::F64(value)) => Datum::Double(*value),
            (_, Value::String(value)) => Datum::Text(value.clone()),
            (_, Value::Bytes(value)) => Datum::Bytes(value.to_vec()),
            _ => return Err(Malformed("a value of another type")),
        })
    }
}

fn has_text_keys(entry: &MessageDescriptor) -> bool {
    entry.get_field(1).is_some_and(|key| key.kind() == Kind::String)
}

/// Types in messages of no package have names of their own.
fn avro_name(full_name: &str, package: &str) -> String {
    if package.is_empty() { full_name.split('.').collect::<Vec<_>>().join("_") } else { full_name.to_owned() }
}

/// A type that stands further up; the dot is for one without namespace.
fn reference(full_name: &str) -> Json {
    if full_name.contains('.') { json!(full_name) } else { json!(format!(".{full_name}")) }
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
