//! What a schema asks for, worked out once: how to make up, and how to read from CSV text, a value for each of its fields.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, RecordSchema};
use apache_avro::types::Value;

use super::error::Error;
use super::event_time::EventForm;
use super::maker::Maker;

/// Records nest no deeper than this.
const DEPTH_MAX: usize = 16;

/// A record schema, compiled for making up records.
#[derive(Debug)]
pub struct Shape {
    /// The schema records are written with.
    pub schema: Schema,
    /// Its fields, in order.
    pub fields: Vec<Field>,
    /// Which field is the key.
    pub key: usize,
}

/// One top-level field.
#[derive(Debug)]
pub struct Field {
    /// Its Avro name.
    pub name: String,
    /// How to make up a value.
    pub maker: Maker,
    /// The schema's default as CSV replay needs it: the JSON value.
    pub default: Option<serde_json::Value>,
}

impl Shape {
    /// Compiles `schema` (JSON) for `topic`; `key` names the field of text type that becomes the Kafka key.
    ///
    /// # Errors
    /// [`Error::Schema`] when it is not a record, has a type nothing can be made up for, or no such key field.
    pub fn of(topic: &str, schema: &str, key: &str) -> Result<Self, Error> {
        let refuse = |why: String| Error::Schema { topic: topic.into(), why };
        let schema = Schema::parse_str(schema).map_err(|error| refuse(error.to_string()))?;
        let Schema::Record(record) = &schema else {
            return Err(refuse("its schema is not a record".into()));
        };
        let mut types = Types { named: HashMap::new(), open: Vec::new(), key };
        let fields = types.fields(record).map_err(refuse)?;
        let Some(at) = fields.iter().position(|field| field.name == key) else {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            return Err(refuse(format!("its schema has no key column {key}; it has {}", names.join(", "))));
        };
        if !fields[at].maker.is_key() {
            return Err(refuse(format!("key column {key} is not of type string")));
        }
        Ok(Self { schema, fields, key: at })
    }

    /// A record of this shape with nothing in it yet.
    pub fn blank(&self) -> Vec<(String, Value)> {
        self.fields.iter().map(|field| (field.name.clone(), Value::Null)).collect()
    }

    /// Puts another event time into every top-level field that holds it.
    pub fn set_event_time(&self, record: &mut [(String, Value)], us: i64) {
        for (field, (_, value)) in self.fields.iter().zip(record) {
            if let Some(timed) = field.maker.event_value(us) {
                *value = timed;
            }
        }
    }

    /// Whether some top-level field holds an instant as event time.
    pub fn has_event_time(&self) -> bool {
        self.fields.iter().any(|field| field.maker.event_form().is_some_and(EventForm::is_instant))
    }
}

/// The named types met so far.
struct Types<'s> {
    named: HashMap<String, &'s Schema>,
    open: Vec<String>,
    key: &'s str,
}

impl<'s> Types<'s> {
    fn fields(&mut self, record: &'s RecordSchema) -> Result<Vec<Field>, String> {
        let name = record.name.fullname(None);
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("record {name} nests deeper than {DEPTH_MAX}"));
        }
        self.open.push(name.clone());
        let is_top = self.open.len() == 1;
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let is_key = is_top && field.name == self.key;
            let maker = self.maker(&field.name, &field.schema, is_key).map_err(|why| format!("field {}: {why}", field.name))?;
            fields.push(Field { name: field.name.clone(), maker, default: field.default.clone() });
        }
        self.open.pop();
        Ok(fields)
    }

    fn maker(&mut self, name: &str, schema: &'s Schema, is_key: bool) -> Result<Maker, String> {
        if let Some(named) = schema.name() {
            if let Schema::Ref { .. } = schema {
                return self.referenced(name, named, is_key);
            }
            self.named.insert(named.fullname(None), schema);
        }
        if is_key && matches!(schema, Schema::String) {
            return Ok(Maker::Key);
        }
        if let Some(form) = EventForm::of(name, schema) {
            return Ok(Maker::Event(form));
        }
        Ok(match schema {
            Schema::Null => Maker::Null,
            Schema::Boolean => Maker::Flag,
            Schema::Int => Maker::int(name),
            Schema::Long => Maker::long(name),
            Schema::Float => Maker::float(name),
            Schema::Double => Maker::double(name),
            Schema::String => Maker::Text(name.into()),
            Schema::Bytes => Maker::Blob,
            Schema::Uuid(_) => Maker::Uuid,
            Schema::Fixed(fixed) => Maker::Fixed(fixed.size),
            Schema::Enum(symbols) => Maker::Symbol(symbols.symbols.clone()),
            Schema::Decimal(decimal) => Maker::Decimal {
                precision: decimal.precision,
                fixed: match &decimal.inner {
                    InnerDecimalSchema::Bytes => None,
                    InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                },
            },
            Schema::Array(array) => Maker::Array(Box::new(self.maker(name, &array.items, false)?)),
            Schema::Map(map) => Maker::Map(Box::new(self.maker(name, &map.types, false)?)),
            Schema::Record(record) => Maker::Record(self.fields(record)?.into_iter().map(|field| (field.name, field.maker)).collect()),
            Schema::Union(union) => self.branch(name, union.variants(), is_key)?,
            other => return Err(format!("no value can be made up for type {other:?}")),
        })
    }

    /// The first branch that is not null and can be made up; null where nothing else can.
    fn branch(&mut self, name: &str, branches: &'s [Schema], is_key: bool) -> Result<Maker, String> {
        let mut null = None;
        let mut why = "a union without branches".to_owned();
        for (index, branch) in (0_u32..).zip(branches) {
            if matches!(branch, Schema::Null) {
                null = Some(index);
                continue;
            }
            let depth = self.open.len();
            match self.maker(name, branch, is_key) {
                Ok(maker) => {
                    return Ok(Maker::Union { branch: index, null: null.or_else(|| null_of(branches)), maker: Box::new(maker) });
                }
                Err(refusal) => {
                    self.open.truncate(depth);
                    why = refusal;
                }
            }
        }
        null.map(|index| Maker::Union { branch: index, null: Some(index), maker: Box::new(Maker::Null) }).ok_or(why)
    }

    fn referenced(&mut self, name: &str, referenced: &Name, is_key: bool) -> Result<Maker, String> {
        let full = referenced.fullname(None);
        if self.open.contains(&full) {
            return Err(format!("type {full} contains itself and cannot be null"));
        }
        let Some(schema) = self.named.get(&full).copied() else {
            return Err(format!("type {full} is not defined before its use"));
        };
        self.maker(name, schema, is_key)
    }
}

fn null_of(branches: &[Schema]) -> Option<u32> {
    (0_u32..).zip(branches).find(|(_, branch)| matches!(branch, Schema::Null)).map(|(index, _)| index)
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
