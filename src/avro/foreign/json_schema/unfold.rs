//! What following every `$ref` of a schema would cost, found before anything follows them: no chain leads back to where it began, and all
//! of it together stays small. A schema that meets itself would be a column without end, or a validation without one.

use std::collections::HashMap;

use serde_json::Value;

use super::documents::{Documents, Place};
use super::refused;
use crate::avro::schema::SchemaFault;

/// Most schemas that one may unfold to.
const SCHEMAS_MAX: u64 = 50_000;

/// Most levels, through references too; whatever walks a schema recurses on them.
const LEVELS_MAX: usize = 128;

/// Keywords whose value is data, or definitions that count where they are referred to.
const NOT_WALKED: [&str; 7] = ["enum", "const", "default", "examples", "definitions", "$defs", "$vocabulary"];

/// Keywords whose value holds schemas under names of the author's.
const NAMED: [&str; 4] = ["properties", "patternProperties", "dependentSchemas", "dependencies"];

/// Keywords that lead elsewhere in ways that are not followed here.
const NOT_FOLLOWED: [&str; 5] = ["$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor", "$anchor"];

/// Refuses what leads back to itself or unfolds without measure.
pub(super) fn check(documents: &Documents) -> Result<(), SchemaFault> {
    let mut walk = Walk { documents, known: HashMap::new(), open: Vec::new() };
    walk.schema(&documents.start(), 0).map(drop)
}

struct Walk<'d> {
    documents: &'d Documents,
    /// Schemas in each place that a reference leads to.
    known: HashMap<(usize, String), u64>,
    /// Places that are being walked, because a reference leads there.
    open: Vec<(usize, String)>,
}

impl<'d> Walk<'d> {
    fn schema(&mut self, place: &Place<'d>, level: usize) -> Result<u64, SchemaFault> {
        let refuse = |why: String| Err(refused(self.documents.show(place), why));
        if level > LEVELS_MAX {
            return refuse(format!("the schema is nested deeper than {LEVELS_MAX} levels, references followed"));
        }
        if let Some(keyword) = NOT_FOLLOWED.iter().find(|keyword| place.value.get(**keyword).is_some()) {
            return refuse(format!("`{keyword}` is not followed; write a `$ref` to a JSON pointer, such as `#/$defs/name`"));
        }
        if !place.pointer.is_empty() && place.value.get("$id").is_some_and(Value::is_string) {
            return refuse("an `$id` within a schema makes its references mean something else; register that schema by itself".into());
        }
        let mut schemas = 1u64;
        for (keyword, below) in place.members() {
            schemas = schemas.saturating_add(match below.value {
                Value::String(reference) if keyword == "$ref" => self.reference(place, reference, level)?,
                _ if NOT_WALKED.contains(&keyword) => 0,
                _ if NAMED.contains(&keyword) => self.each(below.members().map(|(_, below)| below).collect(), level)?,
                _ => self.keyword(&below, level)?,
            });
        }
        match schemas > SCHEMAS_MAX {
            true => Err(refused(self.documents.show(place), format!("the schema unfolds to more than {SCHEMAS_MAX} others"))),
            false => Ok(schemas),
        }
    }

    fn keyword(&mut self, place: &Place<'d>, level: usize) -> Result<u64, SchemaFault> {
        match place.value {
            Value::Object(_) => self.schema(place, level + 1),
            Value::Array(_) => self.each(place.items().collect(), level),
            _ => Ok(0),
        }
    }

    fn each(&mut self, places: Vec<Place<'d>>, level: usize) -> Result<u64, SchemaFault> {
        let mut schemas = 0u64;
        for place in places.iter().filter(|place| place.value.is_object()) {
            schemas = schemas.saturating_add(self.schema(place, level + 1)?);
        }
        Ok(schemas)
    }

    fn reference(&mut self, place: &Place<'d>, reference: &str, level: usize) -> Result<u64, SchemaFault> {
        let target = self.documents.follow(place, reference)?;
        let key = (target.document, target.pointer.clone());
        if let Some(schemas) = self.known.get(&key) {
            return Ok(*schemas);
        }
        let is_within = place.document == target.document && format!("{}/", place.pointer).starts_with(&format!("{}/", target.pointer));
        if is_within || self.open.contains(&key) {
            let why = format!("`$ref` to `{reference}` leads back to where it stands: a schema that contains itself has no columns");
            return Err(refused(self.documents.show(place), why));
        }
        self.open.push(key.clone());
        let schemas = self.schema(&target, level + 1)?;
        self.open.pop();
        self.known.insert(key, schemas);
        Ok(schemas)
    }
}
