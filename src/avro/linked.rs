//! Schemas that rest on those of other subjects: they become one that needs no other.
//!
//! A registry's references say which subjects a schema rests on, not in which of them a type is defined: it may stand inside another type
//! of a subject's text. So all texts are parsed as the fields of one record, those that define a type before those that name it.

use std::collections::HashMap;

use apache_avro::Schema;
use serde_json::{Value, json};

use super::lenient::{Leniency, reworded};
use super::names::Names;
use super::schema::SchemaFault;

/// Of the record that holds all texts.
const BUNDLE: &str = "TestudoBundle";
/// Most levels of types within types. Whatever walks along a schema recurses on them; those of the text may be few where each type names the
/// one before.
const LEVELS_MAX: usize = 200;

/// The same as [`parse`], in other words; none where there are no others.
pub fn parse_reworded(json: &str, references: &[&str], leniency: Leniency) -> Option<Result<Schema, SchemaFault>> {
    let (json, references) = reworded(json, references, leniency)?;
    Some(parse(&json, &references.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Parses a schema whose types are partly defined in `references`, given in any order, and makes it self-contained. The texts must be
/// within the bounds of [`super::SchemaLimits`]: this recurses.
///
/// # Errors
/// [`SchemaFault::Invalid`] when a text is no schema, or a type is not defined or defined twice; [`SchemaFault::TooLarge`] when types are too
/// far within one another.
pub fn parse(json: &str, references: &[&str]) -> Result<Schema, SchemaFault> {
    let invalid = |error: apache_avro::Error| SchemaFault::Invalid(error.to_string());
    let value = |text: &&str| serde_json::from_str(text).map_err(|error| SchemaFault::Invalid(error.to_string()));
    let mut texts = definitions_first(references.iter().map(value).collect::<Result<_, _>>()?);
    texts.push(value(&json)?);
    must_be_within_levels(&texts)?;
    if references.is_empty() {
        return Schema::parse_str(json).map_err(invalid);
    }
    let fields: Vec<Value> = texts.into_iter().enumerate().map(|(at, text)| json!({ "name": format!("_{at}"), "type": text })).collect();
    let bundle = Schema::parse(&json!({ "type": "record", "name": BUNDLE, "fields": fields })).map_err(invalid)?;
    let definitions: Vec<Schema> = Names::of(&bundle)?.definitions().cloned().collect();
    let Schema::Record(mut bundle) = bundle else { return Err(SchemaFault::Invalid("not a record".into())) };
    let mut schema = bundle.fields.pop().map_or(Schema::Null, |last| last.schema);
    schema.denormalize(&definitions).map_err(invalid)?;
    Ok(schema)
}

/// Holds schemas, each behind those that define what it names, to the bound on types within types.
///
/// # Errors
/// [`SchemaFault::TooLarge`].
pub fn must_be_within_levels(schemas: &[Value]) -> Result<(), SchemaFault> {
    let mut levels = Levels::default();
    match schemas.iter().map(|schema| levels.of(schema, "")).max() {
        Some(deepest) if deepest > LEVELS_MAX => {
            Err(SchemaFault::TooLarge { what: format!("{deepest} levels of types within types"), bound: LEVELS_MAX })
        }
        _ => Ok(()),
    }
}

/// The texts, each behind those that define what it names.
fn definitions_first(texts: Vec<Value>) -> Vec<Value> {
    let mut named: Vec<Vec<String>> = Vec::with_capacity(texts.len());
    let mut definers = HashMap::new();
    for (at, text) in texts.iter().enumerate() {
        let mut types = Types::default();
        types.collect(text, "");
        definers.extend(types.defined.into_iter().map(|name| (name, at)));
        named.push(types.named);
    }
    let mut texts: Vec<Option<Value>> = texts.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(texts.len());
    // Each is opened once and taken once, when all that it names has been.
    let mut is_open = vec![false; texts.len()];
    let mut left: Vec<usize> = (0..texts.len()).rev().collect();
    while let Some(at) = left.last().copied() {
        if !is_open[at] {
            is_open[at] = true;
            left.extend(named[at].iter().filter_map(|name| definers.get(name)).filter(|other| !is_open[**other]));
        } else {
            left.pop();
            ordered.extend(texts[at].take());
        }
    }
    ordered
}

/// The full names in a text.
#[derive(Default)]
struct Types {
    defined: Vec<String>,
    named: Vec<String>,
}

impl Types {
    fn collect(&mut self, schema: &Value, namespace: &str) {
        match schema {
            Value::String(name) => self.named.push(full(name, namespace)),
            Value::Array(branches) => branches.iter().for_each(|branch| self.collect(branch, namespace)),
            Value::Object(object) => {
                let given = |key: &str| object.get(key).and_then(Value::as_str);
                match given("type").unwrap_or_default() {
                    "record" | "error" | "enum" | "fixed" => {
                        let name = full(given("name").unwrap_or_default(), given("namespace").unwrap_or(namespace));
                        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                        for field in object.get("fields").and_then(Value::as_array).into_iter().flatten() {
                            field.get("type").into_iter().for_each(|of| self.collect(of, namespace));
                        }
                        self.defined.push(name);
                    }
                    "array" => object.get("items").into_iter().for_each(|items| self.collect(items, namespace)),
                    "map" => object.get("values").into_iter().for_each(|values| self.collect(values, namespace)),
                    _ => object.get("type").into_iter().for_each(|of| self.collect(of, namespace)),
                }
            }
            _ => {}
        }
    }
}

/// How far types stand within one another, along the names too.
#[derive(Default)]
struct Levels {
    of_types: HashMap<String, usize>,
}

impl Levels {
    /// The levels of a schema whose named types were seen before, or are its own. One that names itself adds nothing by that.
    fn of(&mut self, schema: &Value, namespace: &str) -> usize {
        match schema {
            Value::String(name) => self.of_types.get(&full(name, namespace)).copied().unwrap_or(1),
            Value::Array(branches) => 1 + branches.iter().map(|branch| self.of(branch, namespace)).max().unwrap_or_default(),
            Value::Object(object) => {
                let given = |key: &str| object.get(key).and_then(Value::as_str);
                match given("type").unwrap_or_default() {
                    "record" | "error" => {
                        let name = full(given("name").unwrap_or_default(), given("namespace").unwrap_or(namespace));
                        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                        let fields = object.get("fields").and_then(Value::as_array).into_iter().flatten();
                        let below = fields.filter_map(|field| field.get("type")).map(|of| self.of(of, namespace)).max();
                        let levels = 1 + below.unwrap_or_default();
                        // A parser finds types by their aliases too; of several of a name the deepest counts, whichever it takes.
                        let aliases = object.get("aliases").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
                        for name in aliases.map(|alias| full(alias, namespace)).chain([name.clone()]) {
                            let known = self.of_types.entry(name).or_default();
                            *known = levels.max(*known);
                        }
                        levels
                    }
                    "array" => 1 + object.get("items").map_or(0, |items| self.of(items, namespace)),
                    "map" => 1 + object.get("values").map_or(0, |values| self.of(values, namespace)),
                    _ => object.get("type").map_or(0, |of| self.of(of, namespace)),
                }
            }
            _ => 0,
        }
    }
}

fn full(name: &str, namespace: &str) -> String {
    match name.strip_prefix('.') {
        Some(own) => own.to_owned(),
        None if name.contains('.') || namespace.is_empty() => name.to_owned(),
        None => format!("{namespace}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = r#"{"type":"record","name":"Device","namespace":"test.devices","fields":[
        {"name":"model","type":{"type":"enum","name":"Model","symbols":["A","B"]}},
        {"name":"place","type":{"type":"record","name":"test.geo.Place","fields":[{"name":"zone","type":"int"}]}}]}"#;
    const VISIT: &str = r#"{"type":"record","name":"Visit","namespace":"test.visits","fields":[
        {"name":"at","type":"test.geo.Place"},{"name":"models","type":{"type":"array","items":"test.devices.Model"}}]}"#;
    const REPORT: &str = r#"{"type":"record","name":"Report","namespace":"test","fields":[
        {"name":"last","type":["null","test.visits.Visit"]},{"name":"home","type":"test.geo.Place"},
        {"name":"model","type":"test.devices.Model"},{"name":"device","type":"test.devices.Device"}]}"#;

    /// A sibling of C17: the type stands inside another one of the referenced subject.
    #[test]
    fn c17_a_type_inside_a_referenced_type_is_found_in_any_order() {
        let one = parse(REPORT, &[DEVICE, VISIT]).expect("all types are defined");
        let other = parse(REPORT, &[VISIT, DEVICE]).expect("all types are defined");

        assert_eq!(one, other);
        let text = serde_json::to_string(&one).expect("a schema is JSON");
        let alone = Schema::parse_str(&text).expect("the schema needs no other");
        assert_eq!(alone.canonical_form().matches("zone").count(), 1, "{text}");
    }

    #[test]
    fn c17_a_text_may_be_a_name_or_have_no_name() {
        let metadata = r#"{"type":"record","name":"Metadata","fields":[{"name":"id","type":"string"}]}"#;

        let by_name = parse(r#""Metadata""#, &[metadata]).expect("a name is a schema");
        let of_union =
            parse(r#"["null","Metadata"]"#, &[r#"["null","string"]"#, r#"{"type":"int"}"#, metadata]).expect("unions are schemas");

        assert_eq!(by_name, Schema::parse_str(metadata).expect("a schema"));
        assert!(matches!(of_union, Schema::Union(_)));
    }

    #[test]
    fn what_is_not_defined_or_defined_twice_is_refused_by_name() {
        let missing = parse(REPORT, &[VISIT]).expect_err("no place").to_string();
        let twice = parse(REPORT, &[DEVICE, VISIT, r#"{"type":"enum","name":"Model","namespace":"test.devices","symbols":["A"]}"#]);

        assert!(missing.contains("test.geo.Place"), "{missing}");
        assert!(twice.is_err_and(|fault| fault.to_string().contains("`test.devices.Model` is defined twice")));
        assert!(parse("{", &[DEVICE]).is_err() && parse(REPORT, &["{"]).is_err(), "no JSON");
    }

    /// C15: flat as texts, and deep: each record holds the one before, which it calls by its name or its alias.
    #[test]
    fn a_chain_of_types_is_bounded() {
        let chain = |links: usize, called: &str| {
            let link = |at: usize| {
                let field = if at == 0 { String::new() } else { format!(r#"{{"name":"x","type":"{called}{}"}}"#, at - 1) };
                format!(r#"{{"type":"record","name":"R{at}","aliases":["A{at}"],"fields":[{field}]}}"#)
            };
            let branches: Vec<String> = (0..=links).map(link).collect();
            let last = format!(r#"{{"type":"record","name":"M","fields":[{{"name":"f","type":"{called}{links}"}}]}}"#);
            (format!(r#"{{"type":"record","name":"All","fields":[{{"name":"of","type":[{}]}}]}}"#, branches.join(",")), last)
        };
        let whole = |(all, last): (String, String)| {
            format!(r#"{{"type":"record","name":"W","fields":[{{"name":"a","type":{all}}},{{"name":"b","type":{last}}}]}}"#)
        };
        let bound =
            |parsed: Result<Schema, SchemaFault>| parsed.err().map(|fault| matches!(fault, SchemaFault::TooLarge { bound: 200, .. }));
        let (all, last) = chain(150, "R");
        assert_eq!(bound(parse(&last, &[&all])), None);
        for links in [300, 4_900] {
            let (all, last) = chain(links, "R");
            assert_eq!(bound(parse(&last, &[&all])), Some(true), "{links}");
            for called in ["R", "A"] {
                assert_eq!(bound(parse(&whole(chain(links, called)), &[])), Some(true), "{called} {links}");
            }
        }
    }

    #[test]
    fn texts_that_name_each_other_end() {
        let node = |name: &str, other: &str| {
            format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"of","type":["null","{other}"]}}]}}"#)
        };

        assert!(parse(r#""A""#, &[&node("A", "B"), &node("B", "A")]).is_err(), "a registry cannot hold them");
    }
}
