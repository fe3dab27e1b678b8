//! JSON Schemas read anew: first every `$ref` is replaced by what it leads to, then the tree that is left is put into Avro's words. The
//! crate `jsonschema` holds records to their schema, here as in the service; everything else is the audit's own.

use std::collections::BTreeMap;

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::{Map, Value, json};

use super::{Foreign, json};
use crate::audit::bounds::is_within;
use crate::audit::datum::{Datum, Malformed, Shape};
use crate::audit::value::avro_name;
use crate::avro::Reference;

const SCHEMAS_MAX: usize = 50_000;
const LEVELS_MAX: usize = 128;
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What a JSON Schema says in Avro's words, and what reads its records.
pub fn of(text: &str, references: &[Reference]) -> Option<(Shape, Box<dyn Foreign>)> {
    let texts: Vec<&str> = references.iter().map(|reference| reference.text.as_str()).collect();
    if !is_within(text, &texts) {
        return None;
    }
    let mut library = vec![(String::new(), serde_json::from_str(text).ok()?)];
    for reference in references {
        library.push((reference.name.clone(), serde_json::from_str(&reference.text).ok()?));
    }
    let mut inlining = Inlining { library: &library, schemas_left: SCHEMAS_MAX, open: Vec::new() };
    let tree = inlining.schema(0, "", &library[0].1, 0)?;
    let avro = Naming::default().record(&tree, library[0].1["title"].as_str())?;
    let shape = Shape::parse(&avro.to_string()).ok()?;
    let root = library[0].1.clone();
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
    let options = jsonschema::options().with_retriever(Library(library)).with_pattern_options(patterns).should_validate_formats(false);
    let records = Records { shape: shape.clone(), validator: options.build(&root).ok()? };
    Some((shape, Box::new(records)))
}

struct Records {
    shape: Shape,
    validator: Validator,
}

impl Foreign for Records {
    fn read(&self, value: &[u8]) -> Result<Datum, Malformed> {
        let datum = json::read(value, &self.shape)?;
        let tree = serde_json::from_slice(value).map_err(|_| Malformed("not JSON"))?;
        if self.validator.is_valid(&tree) { Ok(datum) } else { Err(Malformed("not of its own schema")) }
    }
}

type Documents = Vec<(String, Value)>;

/// The documents, for the validator.
struct Library(Documents);

impl Retrieve for Library {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        find(&self.0, uri.as_str()).map(|at| self.0[at].1.clone()).ok_or_else(|| "not among the references".into())
    }
}

/// By `$id` or by name, as it stands, or else behind a base: what has most of it in common, the first of several.
fn find(library: &Documents, uri: &str) -> Option<usize> {
    let bare = |text: &str| text.trim_end_matches('#').to_owned();
    let uri = bare(uri);
    let mut best = None;
    let mut most = 0;
    for (at, (name, json)) in library.iter().enumerate() {
        let id = json.get("$id").and_then(Value::as_str).or(json.get("id").and_then(Value::as_str)).map(bare).unwrap_or_default();
        let name = bare(name);
        let in_common = if uri == id {
            usize::MAX
        } else if uri == name {
            usize::MAX - 1
        } else if !name.is_empty() && uri.ends_with(&format!("/{name}")) {
            name.len()
        } else if id.ends_with(&format!("/{uri}")) {
            uri.len()
        } else {
            0
        };
        if in_common > most {
            (best, most) = (Some(at), in_common);
        }
    }
    best
}

/// Replaces references by what they lead to.
struct Inlining<'l> {
    library: &'l Documents,
    schemas_left: usize,
    /// Places that are being put in place of a reference.
    open: Vec<(usize, String)>,
}

impl Inlining<'_> {
    fn schema(&mut self, document: usize, at: &str, schema: &Value, level: usize) -> Option<Value> {
        let Value::Object(members) = schema else { return Some(schema.clone()) };
        self.schemas_left = self.schemas_left.checked_sub(1)?;
        let leads_elsewhere = ["$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor", "$anchor"];
        let is_inner = !at.is_empty() && members.get("$id").is_some_and(Value::is_string);
        if level > LEVELS_MAX || is_inner || leads_elsewhere.iter().any(|keyword| members.contains_key(*keyword)) {
            return None;
        }
        let mut own = Map::new();
        let mut target = None;
        for (keyword, value) in members {
            let below = format!("{at}/{}", escaped(keyword));
            match (keyword.as_str(), value) {
                ("$ref", Value::String(reference)) => target = Some(self.target(document, at, reference, level)?),
                ("definitions" | "$defs" | "$vocabulary" | "default" | "examples", _) => {}
                ("properties" | "patternProperties" | "dependentSchemas" | "dependencies", Value::Object(named)) => {
                    let mut inlined = Map::new();
                    for (name, value) in named {
                        inlined.insert(name.clone(), self.schema(document, &format!("{below}/{}", escaped(name)), value, level + 1)?);
                    }
                    own.insert(keyword.clone(), inlined.into());
                }
                ("enum" | "const", value) => drop(own.insert(keyword.clone(), value.clone())),
                (_, Value::Array(items)) => {
                    let items =
                        items.iter().enumerate().map(|(index, item)| self.schema(document, &format!("{below}/{index}"), item, level + 1));
                    own.insert(keyword.clone(), items.collect::<Option<Vec<Value>>>()?.into());
                }
                (_, value) => drop(own.insert(keyword.clone(), self.schema(document, &below, value, level + 1)?)),
            }
        }
        match target {
            None => Some(own.into()),
            Some(target) if self.is_old(document) => Some(target),
            Some(target) => Some(json!({ "allOf": [target, own] })),
        }
    }

    fn target(&mut self, document: usize, at: &str, reference: &str, level: usize) -> Option<Value> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let target = if uri.is_empty() { document } else { find(self.library, uri)? };
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return None;
        }
        let pointer = percent_decoded(fragment)?;
        let place = (target, pointer.clone());
        let stands_within = target == document && (at == pointer || at.starts_with(&format!("{pointer}/")));
        if stands_within || self.open.contains(&place) {
            return None;
        }
        let library = self.library;
        let found = library[target].1.pointer(&pointer)?;
        self.open.push(place);
        let inlined = self.schema(target, &pointer, found, level + 1);
        self.open.pop();
        inlined
    }

    /// Drafts in which nothing counts beside a `$ref`.
    fn is_old(&self, document: usize) -> bool {
        let draft = |at: usize| self.library[at].1.get("$schema").and_then(Value::as_str);
        let draft = draft(document).or(draft(0)).unwrap_or_default();
        draft.contains("draft-04") || draft.contains("draft-06") || draft.contains("draft-07")
    }
}

fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

fn percent_decoded(fragment: &str) -> Option<String> {
    let mut parts = fragment.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2).filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()))?, 16).ok()?);
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Puts an inlined schema into Avro's words.
#[derive(Default)]
struct Naming {
    records: usize,
}

/// Avro types by the kind of JSON that they are for, in the order of a union's branches.
type Kinds = BTreeMap<u8, Value>;

const NULL: u8 = 0;
const BOOLEAN: u8 = 1;
const INTEGER: u8 = 2;
const NUMBER: u8 = 3;
const TEXT: u8 = 4;
const ARRAY: u8 = 5;
const OBJECT: u8 = 6;

impl Naming {
    fn record(&mut self, tree: &Value, title: Option<&str>) -> Option<Value> {
        let kinds = self.kinds(tree)?;
        let mut record = kinds.get(&OBJECT).filter(|of| kinds.len() == 1 && of["type"] == "record")?.clone();
        // Of all names this one alone says something: which type of record it is, where a topic has several.
        let title = title.unwrap_or("Record");
        let is_name = title.len() <= 200 && title.split('.').all(|part| !part.is_empty() && avro_name(part) == part);
        record["name"] = if is_name { title.into() } else { avro_name(title).chars().take(200).collect::<String>().into() };
        Some(record)
    }

    fn value(&mut self, tree: &Value) -> Option<Value> {
        let kinds = self.kinds(tree)?;
        let mut branches: Vec<Value> = kinds.into_values().collect();
        if branches.len() == 1 { branches.pop() } else { Some(branches.into()) }
    }

    fn kinds(&mut self, tree: &Value) -> Option<Kinds> {
        let mut parts = Vec::new();
        collect(tree, &mut parts)?;
        let all = |keyword: &'static str| parts.iter().filter_map(move |part| part.get(keyword));
        let mut possible: Option<Vec<u8>> = None;
        let declared = all("type").map(words_of).chain(all("const").map(|value| Some(vec![kind_of(value)])));
        let declared = declared.chain(all("enum").map(|values| Some(values.as_array()?.iter().map(kind_of).collect())));
        for kinds in declared {
            let kinds = kinds?;
            possible = Some(match possible {
                None => kinds,
                Some(before) => intersection(&before, &kinds),
            });
        }
        if possible.is_none() && (all("properties").next().is_some() || all("additionalProperties").next().is_some()) {
            possible = Some(vec![OBJECT]);
        }
        if possible.is_none() && all("items").next().is_some() {
            possible = Some(vec![ARRAY]);
        }
        let alternatives: Vec<&Value> = all("oneOf").chain(all("anyOf")).filter_map(Value::as_array).flatten().collect();
        let Some(possible) = possible else { return self.alternatives(&alternatives) };
        let shapes = |branch: &&Value| ["properties", "items", "allOf"].iter().any(|keyword| branch.get(keyword).is_some());
        if possible.is_empty() || alternatives.iter().any(shapes) {
            return None;
        }
        let mut kinds = Kinds::new();
        for kind in possible {
            let of = match kind {
                NULL => json!("null"),
                BOOLEAN => json!("boolean"),
                INTEGER => {
                    let has = |keyword| all(keyword).filter_map(Value::as_i64).any(|bound| bound == i64::from(bound as i32));
                    if has("minimum") && has("maximum") { json!("int") } else { json!("long") }
                }
                NUMBER => json!("double"),
                TEXT => match all("format").find_map(Value::as_str) {
                    Some("date-time") => json!({"type": "long", "logicalType": "timestamp-micros"}),
                    Some("date") => json!({"type": "int", "logicalType": "date"}),
                    Some("uuid") => json!({"type": "string", "logicalType": "uuid"}),
                    _ => json!("string"),
                },
                ARRAY => {
                    let items: Vec<&Value> = all("items").collect();
                    match items.as_slice() {
                        [only] if !only.is_array() && all("prefixItems").next().is_none() => {
                            json!({"type": "array", "items": self.value(only)?})
                        }
                        _ => return None,
                    }
                }
                _ => self.object(&parts)?,
            };
            kinds.insert(kind, of);
        }
        if kinds.contains_key(&NUMBER) {
            kinds.remove(&INTEGER);
        }
        Some(kinds)
    }

    fn alternatives(&mut self, alternatives: &[&Value]) -> Option<Kinds> {
        let mut kinds = Kinds::new();
        for alternative in alternatives {
            for (kind, of) in self.kinds(alternative)? {
                match kinds.get(&kind) {
                    Some(before) if *before != of => return None,
                    _ => drop(kinds.insert(kind, of)),
                }
            }
        }
        if kinds.contains_key(&NUMBER) {
            kinds.remove(&INTEGER);
        }
        if kinds.is_empty() { None } else { Some(kinds) }
    }

    fn object(&mut self, parts: &[&Map<String, Value>]) -> Option<Value> {
        let mut properties: BTreeMap<&String, &Value> = BTreeMap::new();
        for (name, schema) in parts.iter().filter_map(|part| part.get("properties")?.as_object()).flatten() {
            if properties.insert(name, schema).is_some_and(|before| before != schema) {
                return None;
            }
        }
        if properties.is_empty() {
            let of_all = parts.iter().filter_map(|part| part.get("additionalProperties")).find(|of| of.is_object())?;
            return Some(json!({"type": "map", "values": self.value(of_all)?}));
        }
        self.records += 1;
        let name = format!("Record_{}", self.records);
        let required: Vec<&str> =
            parts.iter().filter_map(|part| part.get("required")?.as_array()).flatten().filter_map(Value::as_str).collect();
        let mut fields = Vec::new();
        for (property, schema) in properties {
            let field = avro_name(property);
            let mut kinds = self.kinds(schema)?;
            let is_required = required.contains(&property.as_str());
            if !is_required {
                kinds.insert(NULL, json!("null"));
            }
            let mut branches: Vec<Value> = kinds.into_values().collect();
            let of = if branches.len() == 1 { branches.pop()? } else { branches.into() };
            let mut described = json!({"name": field, "type": of, "property": property});
            if !is_required {
                described["default"] = Value::Null;
            }
            fields.push(described);
        }
        let mut names: Vec<&Value> = fields.iter().map(|field| &field["name"]).collect();
        names.sort_by_key(|name| name.as_str());
        let is_clear = names.windows(2).all(|pair| pair[0] != pair[1]);
        is_clear.then(|| json!({"type": "record", "name": name, "unnamed": true, "fields": fields}))
    }
}

/// A schema with the parts of its `allOf`; none where it allows everything or nothing.
fn collect<'t>(tree: &'t Value, parts: &mut Vec<&'t Map<String, Value>>) -> Option<()> {
    let own = tree.as_object()?;
    parts.push(own);
    own.get("allOf").and_then(Value::as_array).into_iter().flatten().try_for_each(|part| collect(part, parts))
}

fn words_of(declared: &Value) -> Option<Vec<u8>> {
    let kind = |word: &Value| {
        let words = ["null", "boolean", "integer", "number", "string", "array", "object"];
        words.iter().zip(NULL..=OBJECT).find(|(known, _)| **known == *word).map(|(_, kind)| kind)
    };
    match declared {
        Value::Array(words) if !words.is_empty() => words.iter().map(kind).collect(),
        word => Some(vec![kind(word)?]),
    }
}

fn kind_of(value: &Value) -> u8 {
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOLEAN,
        Value::Number(number) => {
            if number.is_f64() {
                NUMBER
            } else {
                INTEGER
            }
        }
        Value::String(_) => TEXT,
        Value::Array(_) => ARRAY,
        Value::Object(_) => OBJECT,
    }
}

/// What both allow; a whole number is a number too.
fn intersection(left: &[u8], right: &[u8]) -> Vec<u8> {
    let allows = |kinds: &[u8], kind: u8| kinds.contains(&kind) || (kind == INTEGER && kinds.contains(&NUMBER));
    (NULL..=OBJECT).filter(|kind| allows(left, *kind) && allows(right, *kind)).collect()
}

#[cfg(test)]
mod tests;
