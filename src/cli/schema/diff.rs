//! `testudo schema diff`: two schemas, field by field, nested ones too.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::registered::{Registered, failed, registry};
use crate::avro::lenient::as_written;
use crate::avro::registry::FetchedSchema;
use crate::avro::{SchemaId, SchemaKind, SchemaLimits};
use crate::cli::exit::{Exit, WithExit};
use crate::cli::read_text;
use crate::config::Config;

/// Flags of `testudo schema diff`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  testudo schema diff 7 9\n  testudo schema diff avro/stream-topic-1-value.avsc 9\n\n\
    - only in the first, + only in the second, ~ in both, but not alike.")]
pub struct Args {
    /// The older schema: its id, or a file.
    #[arg(value_name = "ID|FILE")]
    from: String,
    /// The newer schema: its id, or a file.
    #[arg(value_name = "ID|FILE")]
    to: String,
}

/// A field as two schemas can differ in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    path: String,
    of: String,
    default: Option<String>,
    aliases: Vec<String>,
}

/// Fetches or reads both, and tells.
pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let runtime = crate::cli::runtime(1)?;
    let mut registered = Registered::new(registry(config)?);
    let from = runtime.block_on(look_up(&args.from, &mut registered))?;
    let to = runtime.block_on(look_up(&args.to, &mut registered))?;
    println!("{} → {}", args.from, args.to);
    print!("{}", as_written(&differences(&fields_of(&args.from, &from)?, &fields_of(&args.to, &to)?)));
    Ok(())
}

async fn look_up(which: &str, registered: &mut Registered) -> anyhow::Result<FetchedSchema> {
    if let Ok(id) = which.parse() {
        return failed(&format!("schema {which}"), registered.schema(SchemaId(id)).await)?
            .map_err(|why| anyhow!(why))
            .exit(Exit::Incompatible);
    }
    let text = read_text(Path::new(which), "the schema")
        .with_context(|| format!("`{which}` is neither a schema id nor a file that can be read"))?;
    Ok(FetchedSchema { kind: kind_of(which, &text), ..FetchedSchema::avro(SchemaId(0), text) })
}

/// What a file is a schema of: told by its name and by what only a JSON Schema has.
fn kind_of(file: &str, text: &str) -> SchemaKind {
    if file.ends_with(".proto") {
        return SchemaKind::Protobuf;
    }
    let json: Value = serde_json::from_str(text).unwrap_or_default();
    match ["$schema", "$ref", "properties"].iter().any(|key| json.get(key).is_some()) {
        true => SchemaKind::Json,
        false => SchemaKind::Avro,
    }
}

fn fields_of(which: &str, fetched: &FetchedSchema) -> anyhow::Result<Vec<Field>> {
    let unusable = || format!("schema {which} cannot be compared");
    let schema = fetched.parse_as_written(&SchemaLimits::default()).with_context(unusable).exit(Exit::Incompatible)?;
    let json = serde_json::to_value(&schema).with_context(unusable)?;
    let mut fields = Vec::new();
    add_fields(&json, "", &mut fields);
    Ok(fields)
}

/// The fields of a record, and of records within them where these are defined.
fn add_fields(record: &Value, prefix: &str, found: &mut Vec<Field>) {
    for field in record.get("fields").and_then(Value::as_array).into_iter().flatten() {
        let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
        let path = format!("{prefix}{name}");
        let of = &field["type"];
        found.push(Field {
            path: path.clone(),
            of: words(of),
            default: field.get("default").map(Value::to_string),
            aliases: field
                .get("aliases")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        });
        for inner in records_in(of) {
            add_fields(inner, &format!("{path}."), found);
        }
    }
}

/// The records that a type defines, through unions, arrays and maps.
fn records_in(of: &Value) -> Vec<&Value> {
    match of {
        Value::Array(branches) => branches.iter().flat_map(records_in).collect(),
        Value::Object(object) => match object.get("type") {
            Some(Value::String(name)) if name == "record" => vec![of],
            Some(Value::String(name)) if name == "array" => object.get("items").map(records_in).unwrap_or_default(),
            Some(Value::String(name)) if name == "map" => object.get("values").map(records_in).unwrap_or_default(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// A type as people say it.
fn words(of: &Value) -> String {
    let Value::Object(object) = of else {
        return match of {
            Value::String(name) => name.clone(),
            Value::Array(branches) => branches.iter().map(words).collect::<Vec<_>>().join(" or "),
            other => other.to_string(),
        };
    };
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| object.get(key).map_or_else(|| "0".to_owned(), Value::to_string);
    let base = match text("type") {
        "record" => format!("record {}", text("name")),
        "enum" => {
            let symbols = object.get("symbols").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            format!("enum {} {{{}}}", text("name"), symbols.collect::<Vec<_>>().join(", "))
        }
        "fixed" => format!("fixed {} of {} bytes", text("name"), number("size")),
        "array" => format!("array of {}", object.get("items").map(words).unwrap_or_default()),
        "map" => format!("map of {}", object.get("values").map(words).unwrap_or_default()),
        "" => object.get("type").map(words).unwrap_or_default(),
        plain => plain.to_owned(),
    };
    match text("logicalType") {
        "" => base,
        "decimal" => format!("decimal({}, {}) in {base}", number("precision"), number("scale")),
        logical => format!("{logical} in {base}"),
    }
}

/// What differs, a line each, in the order of the older schema, then of the newer.
fn differences(from: &[Field], to: &[Field]) -> String {
    let mut text = String::new();
    let mut alike = 0;
    let mut line = |sign: char, what: String| writeln!(text, "{sign} {what}").expect("writing to a String does not fail");
    for old in from {
        match to.iter().find(|new| new.path == old.path) {
            Some(new) if new == old => alike += 1,
            Some(new) => line('~', format!("`{}`: {}", old.path, changes(old, new).join(", "))),
            None => match to.iter().find(|new| new.aliases.contains(&old.path)) {
                Some(new) => line('-', format!("`{}`: {}; known as an alias of `{}`", old.path, old.of, new.path)),
                None => line('-', format!("`{}`: {}", old.path, old.of)),
            },
        }
    }
    for new in to.iter().filter(|new| !from.iter().any(|old| old.path == new.path)) {
        let default = new.default.as_ref().map_or_else(|| ", no default".to_owned(), |default| format!(", default {default}"));
        let aliases = if new.aliases.is_empty() { String::new() } else { format!(", alias of {}", new.aliases.join(", ")) };
        line('+', format!("`{}`: {}{default}{aliases}", new.path, new.of));
    }
    writeln!(text, "{alike} fields alike").expect("writing to a String does not fail");
    text
}

fn changes(old: &Field, new: &Field) -> Vec<String> {
    let mut changes = Vec::new();
    let none = || "none".to_owned();
    if old.of != new.of {
        changes.push(format!("{} → {}", old.of, new.of));
    }
    if old.default != new.default {
        changes.push(format!("default {} → {}", old.default.clone().unwrap_or_else(none), new.default.clone().unwrap_or_else(none)));
    }
    if old.aliases != new.aliases {
        changes.push(format!("aliases [{}] → [{}]", old.aliases.join(", "), new.aliases.join(", ")));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Vec<Field> {
        let fetched = FetchedSchema::avro(SchemaId(0), json);
        fields_of("x", &fetched).expect("a schema")
    }

    #[test]
    fn every_kind_of_difference_has_its_line() {
        let from = fields(
            r#"{"type":"record","name":"R","fields":[
                {"name":"same","type":"int"},
                {"name":"gone","type":"string"},
                {"name":"old","type":"int"},
                {"name":"number","type":["null","int"],"default":null},
                {"name":"level","type":{"type":"enum","name":"L","symbols":["A"]}},
                {"name":"place","type":{"type":"record","name":"Place","fields":[{"name":"x","type":"float"}]}}]}"#,
        );
        let to = fields(
            r#"{"type":"record","name":"R","fields":[
                {"name":"same","type":"int"},
                {"name":"new","type":"int","aliases":["old"]},
                {"name":"number","type":["null","string"],"default":null},
                {"name":"level","type":{"type":"enum","name":"L","symbols":["A","B"]}},
                {"name":"place","type":{"type":"record","name":"Place","fields":[{"name":"x","type":"double"}]}},
                {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":2},"default":"\u0000"}]}"#,
        );

        insta::assert_snapshot!(differences(&from, &to), @r#"
        - `gone`: string
        - `old`: int; known as an alias of `new`
        ~ `number`: null or int → null or string
        ~ `level`: enum L {A} → enum L {A, B}
        ~ `place.x`: float → double
        + `new`: int, no default, alias of old
        + `amount`: decimal(8, 2) in bytes, default "\u0000"
        2 fields alike
        "#);
    }

    /// Defaults are seen also where names have to be put in other words.
    #[test]
    fn a_default_that_changed_is_told_whatever_the_names_are() {
        let of = |namespace: &str, default: u8| {
            fields(&format!(
                r#"{{"type":"record","name":"R","namespace":"{namespace}","fields":[{{"name":"a","type":"int","default":{default}}}]}}"#
            ))
        };
        assert_eq!(differences(&of("com.acme.Outer$", 5), &of("com.acme.Outer$", 6)), "~ `a`: default 5 → 6\n0 fields alike\n");
        assert_eq!(differences(&of("com.acme.Outer", 5), &of("com.acme.Outer$", 5)), "1 fields alike\n");
    }

    #[test]
    fn equal_schemas_differ_in_nothing() {
        let one = fields(r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#);

        assert_eq!(differences(&one, &one), "1 fields alike\n");
    }
}
