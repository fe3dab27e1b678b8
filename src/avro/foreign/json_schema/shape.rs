//! The Avro type of each schema: what its values can be, and under which name they are found.
//!
//! An object with properties is a record; one that only says what its other members are is a map. A property that need not be there can
//! be null. Names of records are made of titles and paths, and do not count when they are read: JSON has none.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Value, json};

use super::super::json::PROPERTY;
use super::documents::{Documents, Place};
use super::refused;
use crate::avro::encode::avro_name;
use crate::avro::names::UNNAMED;
use crate::avro::schema::SchemaFault;

/// Longest name of a record that is made of a path, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// What a value can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    Text,
    Array,
    Object,
}

impl Kind {
    fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "string" => Self::Text,
            "array" => Self::Array,
            "object" => Self::Object,
            _ => return None,
        })
    }

    fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_f64() => Self::Number,
            Value::Number(_) => Self::Integer,
            Value::String(_) => Self::Text,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }
}

type Outcome<T> = Result<T, SchemaFault>;

/// The Avro record schema of what the schema describes, as JSON.
pub(super) fn record_of(documents: &Documents) -> Outcome<Value> {
    let mut shaping = Shaping { documents, names: HashSet::new() };
    let start = documents.start();
    let name = shaping.title(&start);
    let branches = shaping.branches(&start, &name)?;
    match branches.as_slice() {
        [record] if record["type"] == "record" => Ok(record.clone()),
        _ => Err(refused("#", "records must be objects with declared properties; a value of another kind has no columns")),
    }
}

struct Shaping<'d> {
    documents: &'d Documents,
    /// Names of records so far.
    names: HashSet<String>,
}

/// A schema with everything that it is composed of: what a `$ref` leads to, and the parts of an `allOf`.
struct Facets<'d>(Vec<Place<'d>>);

impl<'d> Facets<'d> {
    /// Each place where a keyword stands.
    fn of<'f>(&'f self, keyword: &'f str) -> impl Iterator<Item = Place<'d>> + 'f {
        self.0.iter().filter_map(move |place| place.keyword(keyword))
    }

    fn has(&self, keyword: &str) -> bool {
        self.of(keyword).next().is_some()
    }
}

impl<'d> Shaping<'d> {
    fn refuse<T>(&self, place: &Place<'d>, why: impl Into<String>) -> Outcome<T> {
        Err(refused(self.documents.show(place), why))
    }

    fn title(&self, place: &Place<'d>) -> String {
        let title = place.value.get("title").and_then(Value::as_str).unwrap_or("Record");
        let is_name = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if title.len() <= NAME_BYTES_MAX && title.split('.').all(is_name) { title.to_owned() } else { self.cut(&avro_name(title)) }
    }

    /// A name of bounded length; what [`avro_name`] makes is ASCII.
    fn cut(&self, name: &str) -> String {
        name.chars().take(NAME_BYTES_MAX).collect()
    }

    fn facets(&self, place: &Place<'d>) -> Outcome<Facets<'d>> {
        let mut facets = Vec::new();
        self.add_facets(place, &mut facets)?;
        Ok(Facets(facets))
    }

    /// Ends: references that lead back were refused before.
    fn add_facets(&self, place: &Place<'d>, facets: &mut Vec<Place<'d>>) -> Outcome<()> {
        match place.value {
            Value::Object(_) => {}
            Value::Bool(true) => return self.refuse(place, "`true` allows values of every type; declare one"),
            _ => return self.refuse(place, "this is no schema of any value"),
        }
        let reference = place.value.get("$ref").and_then(Value::as_str);
        if let Some(reference) = reference {
            self.add_facets(&self.documents.follow(place, reference)?, facets)?;
        }
        if reference.is_none() || self.documents.counts_beside_ref(place.document) {
            facets.push(place.clone());
            for part in place.keyword("allOf").iter().flat_map(|all| all.items().collect::<Vec<_>>()) {
                self.add_facets(&part, facets)?;
            }
        }
        Ok(())
    }

    /// The Avro type of a schema's values.
    fn value(&mut self, place: &Place<'d>, name: &str) -> Outcome<Value> {
        let mut branches = self.branches(place, name)?;
        Ok(if branches.len() == 1 { branches.remove(0) } else { Value::Array(branches) })
    }

    /// The Avro types of a schema's values, null first.
    fn branches(&mut self, place: &Place<'d>, name: &str) -> Outcome<Vec<Value>> {
        let facets = self.facets(place)?;
        let kinds = self.kinds(place, &facets)?;
        let Some(kinds) = kinds else { return self.alternatives(place, &facets, name) };
        for keyword in ["oneOf", "anyOf"] {
            for branch in facets.of(keyword).flat_map(|branches| branches.items().collect::<Vec<_>>()) {
                if let Some(shaping) = ["properties", "$ref", "items", "allOf"].iter().find(|keyword| branch.value.get(**keyword).is_some())
                {
                    let why =
                        format!("`{shaping}` in a branch of `{keyword}` changes a shape that is declared beside it; declare it there");
                    return self.refuse(&branch, why);
                }
            }
        }
        let mut branches = Vec::with_capacity(kinds.len());
        for kind in kinds {
            branches.push(match kind {
                Kind::Null => json!("null"),
                Kind::Boolean => json!("boolean"),
                Kind::Integer => whole_of(&facets),
                Kind::Number => json!("double"),
                Kind::Text => text_of(&facets),
                Kind::Array => self.array(place, &facets, name)?,
                Kind::Object => self.object(place, &facets, name)?,
            });
        }
        Ok(branches)
    }

    /// What values can be, ascending; none when only alternatives say it.
    fn kinds(&self, place: &Place<'d>, facets: &Facets<'d>) -> Outcome<Option<BTreeSet<Kind>>> {
        let mut kinds: Option<BTreeSet<Kind>> = None;
        let mut narrow = |found: BTreeSet<Kind>| {
            kinds = Some(match kinds.take() {
                None => found,
                // A whole number is a number too.
                Some(before) => {
                    let is_in =
                        |kind: &Kind, of: &BTreeSet<Kind>| of.contains(kind) || (*kind == Kind::Integer && of.contains(&Kind::Number));
                    let both = before.iter().filter(|kind| is_in(kind, &found)).chain(found.iter().filter(|kind| is_in(kind, &before)));
                    both.copied().collect()
                }
            });
        };
        for declared in facets.of("type") {
            let words: Vec<&str> = match declared.value {
                Value::String(word) => vec![word],
                Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            match words.iter().map(|word| Kind::of_word(word)).collect::<Option<BTreeSet<Kind>>>().filter(|kinds| !kinds.is_empty()) {
                Some(found) => narrow(found),
                None => return self.refuse(&declared, "this names no type"),
            }
        }
        for constant in facets.of("const") {
            narrow([Kind::of_value(constant.value)].into());
        }
        for values in facets.of("enum") {
            narrow(values.value.as_array().into_iter().flatten().map(Kind::of_value).collect());
        }
        if kinds.is_none() && (facets.has("properties") || facets.has("additionalProperties")) {
            kinds = Some([Kind::Object].into());
        }
        if kinds.is_none() && facets.has("items") {
            kinds = Some([Kind::Array].into());
        }
        let Some(mut kinds) = kinds else { return Ok(None) };
        if kinds.contains(&Kind::Number) {
            kinds.remove(&Kind::Integer);
        }
        if kinds.is_empty() {
            return self.refuse(place, "no value can be of all types that are declared here");
        }
        Ok(Some(kinds))
    }

    /// The types of `oneOf` or `anyOf`, where nothing else says what values are: each kind of value in one branch.
    fn alternatives(&mut self, place: &Place<'d>, facets: &Facets<'d>, name: &str) -> Outcome<Vec<Value>> {
        let branches: Vec<Place<'d>> = ["oneOf", "anyOf"]
            .iter()
            .flat_map(|keyword| facets.of(keyword).collect::<Vec<_>>())
            .flat_map(|all| all.items().collect::<Vec<_>>())
            .collect();
        if branches.is_empty() {
            return self.refuse(place, "it does not say what its values are; declare a `type`");
        }
        let mut by_kind: BTreeMap<Kind, Value> = BTreeMap::new();
        for branch in &branches {
            for found in self.branches(branch, name)? {
                if by_kind.get(&kind_of(&found)).is_some_and(|before| *before != found) {
                    let why = "two alternatives of one kind of value cannot be told apart in a column; declare one that has what both have";
                    return self.refuse(branch, why);
                }
                by_kind.insert(kind_of(&found), found);
            }
        }
        if by_kind.contains_key(&Kind::Number) {
            by_kind.remove(&Kind::Integer);
        }
        Ok(by_kind.into_values().collect())
    }

    fn array(&mut self, place: &Place<'d>, facets: &Facets<'d>, name: &str) -> Outcome<Value> {
        if let Some(tuple) = facets.of("prefixItems").next() {
            return self.refuse(&tuple, "items of different types have no column; declare one type with `items`");
        }
        let mut declared = facets.of("items");
        match (declared.next(), declared.next()) {
            (None, _) => self.refuse(place, "an array must declare its `items`"),
            (Some(_), Some(second)) => self.refuse(&second, "`items` are declared twice"),
            (Some(items), None) if items.value.is_array() => {
                self.refuse(&items, "items of different types have no column; declare one type")
            }
            (Some(items), None) => Ok(json!({ "type": "array", "items": self.value(&items, &format!("{name}_item"))? })),
        }
    }

    fn object(&mut self, place: &Place<'d>, facets: &Facets<'d>, name: &str) -> Outcome<Value> {
        let mut properties: BTreeMap<&'d str, Place<'d>> = BTreeMap::new();
        for declared in facets.of("properties") {
            for (property, below) in declared.members() {
                match properties.get(property) {
                    Some(before) if before.value != below.value => return self.refuse(&below, format!("`{property}` is declared twice")),
                    _ => drop(properties.insert(property, below.clone())),
                }
            }
        }
        if properties.is_empty() {
            return self.map(place, facets, name);
        }
        let required: HashSet<&str> =
            facets.of("required").filter_map(|names| names.value.as_array()).flatten().filter_map(Value::as_str).collect();
        let own = self.own_name(name);
        let simple = own.rsplit('.').next().unwrap_or_default().to_owned();
        let mut fields: Vec<Value> = Vec::with_capacity(properties.len());
        for (property, below) in &properties {
            let field = avro_name(property);
            if let Some(other) = fields.iter().find(|other| other["name"] == field.as_str()) {
                let other = other[PROPERTY].as_str().unwrap_or(&field).to_owned();
                return self.refuse(below, format!("`{property}` and `{other}` have one name in Avro, `{field}`"));
            }
            let branches = self.branches(below, &self.cut(&format!("{simple}_{field}")))?;
            fields.push(field_of(&field, property, branches, required.contains(property)));
        }
        let mut record = json!({ "type": "record", "name": own, "fields": fields });
        record[UNNAMED] = json!(true);
        Ok(record)
    }

    fn map(&mut self, place: &Place<'d>, facets: &Facets<'d>, name: &str) -> Outcome<Value> {
        match facets.of("additionalProperties").find(|values| values.value.is_object()) {
            Some(values) => Ok(json!({ "type": "map", "values": self.value(&values, &format!("{name}_value"))? })),
            None => self.refuse(place, "an object must declare `properties`, or with `additionalProperties` the type of them all"),
        }
    }

    /// The name, with a number behind it where it is taken.
    fn own_name(&mut self, name: &str) -> String {
        let mut own = name.to_owned();
        let mut number = 1;
        while !self.names.insert(own.clone()) {
            number += 1;
            own = format!("{name}_{number}");
        }
        own
    }
}

fn field_of(field: &str, property: &str, mut branches: Vec<Value>, is_required: bool) -> Value {
    if !is_required && branches.first().is_none_or(|first| first != "null") {
        branches.insert(0, json!("null"));
    }
    let of = if branches.len() == 1 { branches.remove(0) } else { Value::Array(branches) };
    let mut described = json!({ "name": field, "type": of });
    if !is_required {
        described["default"] = Value::Null;
    }
    if field != property {
        described[PROPERTY] = json!(property);
    }
    described
}

/// A whole number; one of 32 bits where the schema bounds it on both sides.
fn whole_of(facets: &Facets<'_>) -> Value {
    let is_bounded =
        |keyword: &'static str| facets.of(keyword).any(|bound| bound.value.as_i64().is_some_and(|bound| i32::try_from(bound).is_ok()));
    if is_bounded("minimum") && is_bounded("maximum") { json!("int") } else { json!("long") }
}

/// Text, or what its format makes of it.
fn text_of(facets: &Facets<'_>) -> Value {
    match facets.of("format").find_map(|format| format.value.as_str()) {
        Some("date-time") => json!({ "type": "long", "logicalType": "timestamp-micros" }),
        Some("date") => json!({ "type": "int", "logicalType": "date" }),
        Some("uuid") => json!({ "type": "string", "logicalType": "uuid" }),
        _ => json!("string"),
    }
}

/// The kind of values that an Avro type made here holds.
fn kind_of(avro: &Value) -> Kind {
    match avro.as_str().or(avro["logicalType"].as_str()).or(avro["type"].as_str()) {
        Some("null") => Kind::Null,
        Some("boolean") => Kind::Boolean,
        Some("int" | "long") => Kind::Integer,
        Some("double") => Kind::Number,
        Some("array") => Kind::Array,
        Some("record" | "map") => Kind::Object,
        _ => Kind::Text,
    }
}
