//! The Avro schema that a plan's datums are of. Each type stands where it is met first and by its name from there on.

use std::collections::HashSet;

use apache_avro::Schema;
use serde_json::{Value as Json, json};

use super::fault;
use super::plan::{Field, Form, Kind, Plan};
use crate::avro::limits::SchemaLimits;
use crate::avro::linked;
use crate::avro::schema::SchemaFault;

/// The schema of the plan's first message.
///
/// # Errors
/// [`SchemaFault`] when types hold each other deeper than `limits` allow, with the place.
pub(super) fn of(plan: &Plan, limits: &SchemaLimits) -> Result<Schema, SchemaFault> {
    let mut writing = Writing {
        plan,
        depth_max: limits.depth_max,
        are_written: vec![false; plan.messages.len()],
        are_enums_written: vec![false; plan.enums.len()],
    };
    let json = writing.message(0, 0, "")?;
    writing.check_names()?;
    linked::must_be_within_levels(std::slice::from_ref(&json))?;
    Schema::parse(&json).map_err(|error| fault(&plan.messages[0].full_name, format!("its Avro schema cannot be used: {error}")))
}

struct Writing<'p> {
    plan: &'p Plan,
    /// Nesting of JSON objects and arrays: parsers recurse on it.
    depth_max: usize,
    are_written: Vec<bool>,
    are_enums_written: Vec<bool>,
}

impl Writing<'_> {
    /// A name without namespace is looked for in the namespace where it is used, so no other type may have it there.
    fn check_names(&self) -> Result<(), SchemaFault> {
        let messages = self.plan.messages.iter().map(|message| &message.avro_name).zip(&self.are_written);
        let enums = self.plan.enums.iter().map(|symbols| &symbols.avro_name).zip(&self.are_enums_written);
        let names: Vec<&str> = messages.chain(enums).filter(|(_, is_written)| **is_written).map(|(name, _)| name.as_str()).collect();
        let bare: HashSet<&str> = names.iter().copied().filter(|name| !name.contains('.')).collect();
        let why = "another type has the same name and no package, so that Avro cannot tell them apart: give it a package";
        match names.into_iter().find(|name| name.rsplit_once('.').is_some_and(|(_, last)| bare.contains(last))) {
            Some(name) => Err(fault(name, why.into())),
            None => Ok(()),
        }
    }

    fn message(&mut self, at: u32, depth: usize, place: &str) -> Result<Json, SchemaFault> {
        let plan = self.plan;
        let message = &plan.messages[at as usize];
        if std::mem::replace(&mut self.are_written[at as usize], true) {
            return Ok(named(&message.avro_name));
        }
        if depth > self.depth_max {
            let why = format!("message types hold each other so deep that the Avro schema has more than {} levels", self.depth_max);
            return Err(fault(place, why));
        }
        let (namespace, name) = parts(&message.avro_name);
        let mut fields = Vec::with_capacity(message.fields.len());
        for field in &message.fields {
            fields.push(self.field(field, depth + 3, &format!("{}.{}", message.full_name, field.name))?);
        }
        Ok(json!({ "type": "record", "name": name, "namespace": namespace, "fields": fields }))
    }

    fn field(&mut self, field: &Field, depth: usize, place: &str) -> Result<Json, SchemaFault> {
        let schema = match field.form {
            Form::Plain => self.value(field.kind, depth, place)?,
            Form::Nullable => json!(["null", self.value(field.kind, depth + 1, place)?]),
            Form::List | Form::Pairs => json!({ "type": "array", "items": self.value(field.kind, depth + 1, place)? }),
            Form::Map => {
                let entry = field.kind.message().and_then(|entry| self.plan.messages[entry as usize].fields.get(1));
                let kind = entry.map_or(field.kind, |value| value.kind);
                json!({ "type": "map", "values": self.value(kind, depth + 1, place)? })
            }
        };
        let mut json = json!({ "name": field.name, "type": schema });
        if let (Some(default), Some(members)) = (&field.default, json.as_object_mut()) {
            members.insert("default".into(), default.clone());
        }
        Ok(json)
    }

    fn value(&mut self, kind: Kind, depth: usize, place: &str) -> Result<Json, SchemaFault> {
        Ok(match kind {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!("int"),
            Kind::Uint32 | Kind::Fixed32 => json!("long"),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => json!("long"),
            Kind::Float => json!("float"),
            Kind::Double => json!("double"),
            Kind::Bool => json!("boolean"),
            Kind::Text => json!("string"),
            Kind::Bytes => json!("bytes"),
            Kind::Timestamp(_) => json!({ "type": "long", "logicalType": "timestamp-micros" }),
            Kind::Wrapper(at) => return self.value(self.plan.messages[at as usize].fields[0].kind, depth, place),
            Kind::Message(at) | Kind::Group(at) => return self.message(at, depth, place),
            Kind::Enum(at) => {
                let symbols = &self.plan.enums[at as usize];
                if std::mem::replace(&mut self.are_enums_written[at as usize], true) {
                    return Ok(named(&symbols.avro_name));
                }
                let (namespace, name) = parts(&symbols.avro_name);
                json!({ "type": "enum", "name": name, "namespace": namespace, "symbols": symbols.names })
            }
        })
    }
}

/// Namespace and name.
fn parts(full_name: &str) -> (&str, &str) {
    full_name.rsplit_once('.').unwrap_or(("", full_name))
}

/// A type that stands further up. The dot keeps one without namespace from being looked for in the namespace around it.
fn named(full_name: &str) -> Json {
    match full_name.contains('.') {
        true => json!(full_name),
        false => json!(format!(".{full_name}")),
    }
}
