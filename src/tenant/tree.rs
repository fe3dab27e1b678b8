//! A tenant file as a tree that knows where every key and value stands, in the order in which they were written.
//!
//! Serde would stop at the first mistake and sort the tables; so the tree is made from TOML's own parse tree. Overrides, which come
//! from the service's configuration, are laid over it here, before anything is checked.

use std::fmt::Write as _;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::located::{At, Findings};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: At,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// Whole, or too large to be represented.
    Integer(Option<i64>),
    Boolean(bool),
    /// Another scalar, as written, with the name of its type.
    Other(&'static str, String),
    Array(Vec<Node>),
    Table(Table),
}

/// Entries in the order in which they were written.
pub(super) type Table = Vec<Entry>;

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: At,
    pub(super) node: Node,
}

impl Value {
    /// What it is, with an article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Other(kind, _) => kind,
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Parses the file's text; syntax errors become faults.
pub(super) fn parse(findings: &mut Findings) -> Option<Table> {
    let text = findings.text().to_owned();
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        let at = At::File(error.span().unwrap_or(text.len()..text.len()));
        findings.fault_at(&at, "", format!("not TOML: {}", error.message()));
    }
    errors.is_empty().then(|| table(document.get_ref()))
}

fn table(entries: &DeTable<'_>) -> Table {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| Entry {
        key: key.get_ref().to_string(),
        key_at: At::File(key.span()),
        node: node(value),
    };
    entries.into_iter().map(entry).collect()
}

fn node(spanned: &Spanned<DeValue<'_>>) -> Node {
    let value = match spanned.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok()),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Float(float) => Value::Other("a float", float.to_string()),
        DeValue::Datetime(datetime) => Value::Other("a date or time", datetime.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(node).collect()),
        DeValue::Table(entries) => Value::Table(table(entries)),
    };
    Node { value, at: At::File(spanned.span()) }
}

/// Lays `over` (the overrides of one tenant) over the file's tree. They change what the file declares and declare nothing new. A name that
/// differs in case from one name of the file is that: what comes from an environment is in small letters.
pub(super) fn lay_over(tree: &mut Table, over: &toml::Table, tenant: &str, findings: &mut Findings) {
    lay(tree, over, tenant, 0, findings);
}

/// `depth` 1 is below `source`, `alert`, `window` or `mongo`, where the tenant's own names stand; below `select` and `columns`, at 3, do more.
fn lay(tree: &mut Table, over: &toml::Table, path: &str, depth: usize, findings: &mut Findings) {
    let is_as_written = |key: &str| tree.iter().any(|entry| entry.key == key);
    // What is spelled as in the file is laid last, so that it holds.
    let mut over: Vec<(&String, &toml::Value)> = over.iter().collect();
    over.sort_by_key(|(key, _)| is_as_written(key));
    let holds_names = depth <= 1 || depth == 3 && (path.ends_with(".select") || path.ends_with(".columns"));
    for (key, value) in over {
        let path = format!("{path}.{}", dotted(key));
        let at = At::Override(format!("{path} = {value}"));
        // The file's own keys do not begin with the tenant's name.
        let shown_key = path.split_once('.').map_or(key.as_str(), |(_, below)| below);
        let known = place(tree, key);
        if depth == 0 && key == "tenant" {
            findings.fault_at(&at, shown_key, "a tenant's name is the file's: it cannot be given from outside");
            continue;
        }
        if holds_names && known.is_none() && (depth > 1 || value.is_table()) {
            let names: Vec<String> = tree.iter().map(|entry| entry.key.clone()).collect();
            findings
                .fault_at(&at, shown_key, format!("the tenant file declares no `{key}` here, and an override declares nothing new"))
                .suggest(key, names.iter().map(String::as_str));
            continue;
        }
        match (known.map(|index| &mut tree[index].node), value) {
            (Some(Node { value: Value::Table(below), .. }), toml::Value::Table(over)) => lay(below, over, &path, depth + 1, findings),
            (Some(node), toml::Value::String(text)) if matches!(node.value, Value::Array(_)) => *node = from_outside(&listed(text), &path),
            (Some(node), value) => *node = from_outside(value, &path),
            (None, value) => tree.push(Entry { key: key.clone(), key_at: at, node: from_outside(value, &path) }),
        }
    }
}

/// Where `key` stands, or else the only key that differs from it in case.
fn place(tree: &Table, key: &str) -> Option<usize> {
    let mut alike = (0..tree.len()).filter(|index| tree[*index].key.eq_ignore_ascii_case(key));
    tree.iter().position(|entry| entry.key == key).or_else(|| alike.next().filter(|_| alike.next().is_none()))
}

/// Items between commas, as in all settings; an expression may hold commas of its own.
fn listed(text: &str) -> toml::Value {
    let is_expression = text.contains(['(', '\'', '"']);
    let items: Vec<&str> =
        if is_expression { vec![text] } else { text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect() };
    items.into()
}

fn from_outside(value: &toml::Value, path: &str) -> Node {
    let at = At::Override(format!("{path} = {value}"));
    let value = match value {
        toml::Value::String(text) => Value::Text(text.clone()),
        toml::Value::Integer(integer) => Value::Integer(Some(*integer)),
        toml::Value::Boolean(boolean) => Value::Boolean(*boolean),
        toml::Value::Float(float) => Value::Other("a float", float.to_string()),
        toml::Value::Datetime(datetime) => Value::Other("a date or time", datetime.to_string()),
        toml::Value::Array(items) => Value::Array(items.iter().map(|item| from_outside(item, path)).collect()),
        toml::Value::Table(entries) => Value::Table(
            entries
                .iter()
                .map(|(key, value)| {
                    let path = format!("{path}.{}", dotted(key));
                    Entry { key: key.clone(), key_at: At::Override(format!("{path} = {value}")), node: from_outside(value, &path) }
                })
                .collect(),
        ),
    };
    Node { value, at }
}

/// A key as TOML writes it in a path: in quotes when it holds more than letters, digits, `-` and `_`.
pub(super) fn dotted(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if is_bare { key.to_owned() } else { format!("\"{}\"", key.escape_default()) }
}

/// The tree as text that depends on what is declared only: not on comments, spacing, quoting or line ends.
pub(super) fn canonical(tree: &Table) -> String {
    let mut text = String::new();
    write_table(tree, &mut text);
    text
}

fn write_table(table: &Table, text: &mut String) {
    text.push('{');
    for entry in table {
        write!(text, "{:?}=", entry.key).expect("writing to a String does not fail");
        write_value(&entry.node.value, text);
    }
    text.push('}');
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Text(inner) => write!(text, "{inner:?};").expect("writing to a String does not fail"),
        Value::Integer(integer) => write!(text, "{integer:?};").expect("writing to a String does not fail"),
        Value::Boolean(boolean) => write!(text, "{boolean};").expect("writing to a String does not fail"),
        Value::Other(_, written) => write!(text, "{written};").expect("writing to a String does not fail"),
        Value::Array(items) => {
            text.push('[');
            items.iter().for_each(|item| write_value(&item.value, text));
            text.push(']');
        }
        Value::Table(table) => write_table(table, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Table {
        parse(&mut Findings::new("t.toml", text)).expect("good TOML")
    }

    #[test]
    fn entries_keep_the_order_in_which_they_were_written() {
        let keys: Vec<String> = parsed("zebra = 1\n[c.y]\nb = 1\na = 2\n[c.x]\n[b]\n").into_iter().map(|entry| entry.key).collect();

        assert_eq!(keys, ["zebra", "c", "b"]);
        assert_eq!(canonical(&parsed("[c]\nb = 1\na = 'x'")), r#"{"c"={"b"=Some(1);"a"="x";}}"#);
    }

    #[test]
    fn the_canonical_text_ignores_spelling() {
        let one = parsed("a = \"x\" # note\n[b]\nc = {d = 16}\n");
        let same = parsed("a='x'\r\nb.c.d = 0x10\r\n");

        assert_eq!(canonical(&one), canonical(&same));
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let text = "a = \nb = 1\nb = 2\n";
        let mut findings = Findings::new("t.toml", text);

        assert!(parse(&mut findings).is_none());
        let places: Vec<String> = findings.faults.iter().map(|fault| fault.to_string().chars().take(10).collect()).collect();
        assert_eq!(places, ["t.toml:1:5", "t.toml:3:1"], "{:?}", findings.faults);
    }
}
