//! The configuration as it holds, for `testudo config show`: merged, with secrets hidden, with origins where they are asked for.

use std::collections::BTreeMap;

use serde_json::json;
use toml::{Table, Value};

use super::redact::{HIDDEN, Secrets, is_secret_key};
use super::tree::{Given, Leaf, Node, Path, dotted};

/// In which notation to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Notation {
    /// TOML, which Testudo reads back.
    Toml,
    /// JSON.
    Json,
}

/// The tree as text.
pub fn show(tree: &Node, notation: Notation, with_origin: bool) -> String {
    let secrets = Secrets::of(tree);
    match (notation, with_origin) {
        (Notation::Toml, false) => nested(tree, &secrets, &mut Path::new()).to_string(),
        (Notation::Json, false) => pretty(&json!(nested(tree, &secrets, &mut Path::new()))),
        (Notation::Toml, true) => {
            let line = |(path, leaf): (Path, &Leaf)| {
                format!("{} = {}  # {}\n", dotted(&path), shown(&path, leaf, &secrets), secrets.scrub(&leaf.origin.to_string()))
            };
            tree.leaves().into_iter().map(line).collect()
        }
        (Notation::Json, true) => {
            let entry = |(path, leaf): (Path, &Leaf)| {
                let value = json!(shown(&path, leaf, &secrets));
                (dotted(&path), json!({ "value": value, "origin": secrets.scrub(&leaf.origin.to_string()) }))
            };
            pretty(&json!(tree.leaves().into_iter().map(entry).collect::<BTreeMap<_, _>>()))
        }
    }
}

fn pretty(json: &serde_json::Value) -> String {
    format!("{json:#}\n")
}

fn nested(node: &Node, secrets: &Secrets, path: &mut Path) -> Table {
    let mut table = Table::new();
    let Node::Table(entries) = node else { return table };
    for (key, node) in entries {
        path.push(key.clone());
        let value = match node {
            Node::Leaf(leaf) => shown(path, leaf, secrets),
            Node::Table(_) => Value::Table(nested(node, secrets, path)),
        };
        path.pop();
        table.insert(key.clone(), value);
    }
    table
}

fn shown(path: &[String], leaf: &Leaf, secrets: &Secrets) -> Value {
    if path.iter().any(|key| is_secret_key(key)) {
        return HIDDEN.into();
    }
    let is_property = path.len() == 3 && path[0] == "kafka";
    match &leaf.given {
        Given::Text(text) if is_property => secrets.scrub(text).into(),
        given => scrubbed(given.typed(), secrets),
    }
}

fn scrubbed(value: Value, secrets: &Secrets) -> Value {
    match value {
        Value::String(text) => secrets.scrub(&text).into(),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| scrubbed(item, secrets)).collect()),
        Value::Table(table) => {
            let hide = |(key, value): (String, Value)| {
                let value = if is_secret_key(&key) { HIDDEN.into() } else { scrubbed(value, secrets) };
                (key, value)
            };
            Value::Table(table.into_iter().map(hide).collect())
        }
        other => other,
    }
}
