//! The layers settings come in, each as a list of (path, value): file, environment, flags.
//!
//! Under `kafka.properties`, `kafka.consumer` and `kafka.producer` the rest of a path is one librdkafka property, dots
//! included; in the environment, where names hold no dots, `_` stands for them (no property that may be set has an underscore).

use std::fs;
use std::path::{Path as FilePath, PathBuf};

use toml::{Table, Value};

use super::fault::Fault;
use super::redact::may_come_from_file;
use super::tree::{Given, Leaf, Node, Origin, Path};

/// Environment variables of this beginning are settings; two underscores separate keys.
pub const PREFIX: &str = "TESTUDO__";
/// A key of this ending names a file that holds the secret.
const FILE_SUFFIX: &str = "_file";
/// Configuration files are not longer than this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One entry of a layer: a setting, or the fact that a section is there.
pub type Entry = (Path, Node);

/// The settings of a file.
pub fn file(path: &FilePath, faults: &mut Vec<Fault>) -> Vec<Entry> {
    let origin = Origin::File(path.to_owned());
    let table = read(path).and_then(|text| {
        // The parser's whole text would quote the line, which may hold a secret (C133).
        text.parse::<Table>().map_err(|error| format!("line {}: {}", line_of(&text, error.span().map(|span| span.start)), error.message()))
    });
    let mut entries = Vec::new();
    match table {
        Ok(table) => flatten(&mut Path::new(), Value::Table(table), &origin, &mut entries),
        Err(text) => faults.push(Fault { path: Path::new(), origin: None, text: format!("failed to read {}: {text}", path.display()) }),
    }
    resolve_secret_files(entries, faults)
}

/// The settings among environment variables.
pub fn environment(variables: &[(String, String)], faults: &mut Vec<Fault>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (variable, value) in variables {
        let Some(keys) = variable.strip_prefix(PREFIX) else { continue };
        let path: Path = keys.split("__").map(str::to_lowercase).collect();
        if path.iter().any(String::is_empty) {
            faults.push(Fault {
                path: Path::new(),
                origin: None,
                text: format!("{variable}: two underscores separate keys, and a key is missing"),
            });
            continue;
        }
        let leaf = Leaf { given: Given::Text(value.clone()), origin: Origin::Environment(variable.clone()) };
        entries.push((property_path(path, true), Node::Leaf(leaf)));
    }
    resolve_secret_files(entries, faults)
}

/// The settings of flags: `--set key=value`, then `-X property=value`.
pub fn flags(sets: &[String], properties: &[String], faults: &mut Vec<Fault>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut refuse = |text: String| faults.push(Fault { path: Path::new(), origin: None, text });
    for set in sets {
        match split(set).and_then(|(key, value)| Some((keys(key)?, value))) {
            Some((path, value)) => entries.push((property_path(path, false), flag("--set", value))),
            // The value may be a secret: only the part before it is repeated.
            None => refuse(format!("--set {}: must be a dotted key, =, and a value", set.split('=').next().unwrap_or_default())),
        }
    }
    for property in properties {
        match property.split_once('=') {
            Some((name, value)) => {
                let path = ["kafka", "properties", name.trim()].map(str::to_owned).to_vec();
                entries.push((path, flag("-X", value)));
            }
            None => refuse(format!("-X {property}: must be a librdkafka property, =, and a value")),
        }
    }
    resolve_secret_files(entries, faults)
}

fn flag(name: &'static str, value: &str) -> Node {
    Node::Leaf(Leaf { given: Given::Text(value.to_owned()), origin: Origin::Flag(name) })
}

fn read(path: &FilePath) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("it has {length} bytes; at most {FILE_BYTES_MAX} are read"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn line_of(text: &str, at: Option<usize>) -> usize {
    text.bytes().take(at.unwrap_or_default()).filter(|byte| *byte == b'\n').count() + 1
}

/// Splits at the first `=` outside quotes.
fn split(set: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, c) in set.char_indices() {
        match (quote, c) {
            (None, '=') => return Some((set[..at].trim(), &set[at + 1..])),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

/// The keys of a dotted TOML key.
fn keys(dotted: &str) -> Option<Path> {
    let mut value = Value::Table(format!("{dotted} = 0").parse().ok()?);
    let mut path = Path::new();
    while let Value::Table(table) = value {
        let mut entries = table.into_iter();
        let (key, next) = entries.next()?;
        path.push(key);
        value = next;
    }
    Some(path)
}

fn flatten(path: &mut Path, value: Value, origin: &Origin, entries: &mut Vec<Entry>) {
    match value {
        Value::Table(table) => {
            if table.is_empty() {
                entries.push((path.clone(), Node::default()));
            }
            for (key, value) in table {
                path.push(key);
                flatten(path, value, origin, entries);
                path.pop();
            }
        }
        value => {
            let path = property_path(path.clone(), false);
            let given = if is_property(&path) { Given::Text(plain(value)) } else { Given::Typed(value) };
            entries.push((path, Node::Leaf(Leaf { given, origin: origin.clone() })));
        }
    }
}

fn is_property(path: &[String]) -> bool {
    path.len() > 2 && path[0] == "kafka" && matches!(path[1].as_str(), "properties" | "consumer" | "producer")
}

/// Joins what follows a table of librdkafka properties into one key.
fn property_path(path: Path, is_from_environment: bool) -> Path {
    if !is_property(&path) {
        return path;
    }
    let mut name = path[2..].join(".");
    if is_from_environment {
        let (stem, suffix) = name.strip_suffix(FILE_SUFFIX).map_or((name.as_str(), ""), |stem| (stem, FILE_SUFFIX));
        name = format!("{}{suffix}", stem.replace('_', "."));
    }
    vec![path[0].clone(), path[1].clone(), name]
}

/// librdkafka takes text only: `linger.ms = 5` in a file is meant as `"5"`.
fn plain(value: Value) -> String {
    if let Value::String(text) = value { text } else { value.to_string() }
}

/// Replaces each `<key>_file` of a secret by the file's content, without the line end that editors put there.
fn resolve_secret_files(entries: Vec<Entry>, faults: &mut Vec<Fault>) -> Vec<Entry> {
    let given: Vec<Path> = entries.iter().map(|(path, _)| path.clone()).collect();
    let mut resolved = Vec::with_capacity(entries.len());
    for (path, node) in entries {
        let (Some(secret), Node::Leaf(leaf)) = (secret_path(&path), &node) else {
            resolved.push((path, node));
            continue;
        };
        let mut refuse = |text: String| faults.push(Fault { path: path.clone(), origin: Some(leaf.origin.clone()), text });
        if given.contains(&secret) {
            refuse("the secret and its file are both given; give one".into());
            continue;
        }
        let file = PathBuf::from(super::redact::text_of(&leaf.given));
        match read(&file) {
            Ok(text) => {
                let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
                let origin = Origin::SecretFile(file, Box::new(leaf.origin.clone()));
                resolved.push((secret, Node::Leaf(Leaf { given: Given::Text(text.to_owned()), origin })));
            }
            Err(cause) => refuse(format!("failed to read {}: {cause}", file.display())),
        }
    }
    resolved
}

fn secret_path(path: &[String]) -> Option<Path> {
    let (last, parents) = path.split_last()?;
    let stem = last.strip_suffix(FILE_SUFFIX).filter(|stem| may_come_from_file(stem))?;
    let mut secret = parents.to_vec();
    secret.push(stem.to_owned());
    Some(secret)
}
