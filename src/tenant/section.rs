//! Reading one table of a tenant file: each key is asked for once, by kind; what is missing, of the wrong kind or unknown becomes a fault.

use super::located::{At, Findings, Located};
use super::tree::{Node, Table, Value, dotted};

/// Longest text, in bytes: parsers of expressions recurse.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// A table that is being read.
pub(super) struct Section<'t> {
    table: &'t Table,
    /// Place of the key that names the table; the file's first byte for the top.
    at: At,
    path: String,
    asked: Vec<&'static str>,
    missing: Vec<(&'static str, &'static str)>,
}

impl<'t> Section<'t> {
    /// The file's top level.
    pub(super) fn top(table: &'t Table) -> Self {
        Self::new(table, At::File(0..0), String::new())
    }

    fn new(table: &'t Table, at: At, path: String) -> Self {
        Self { table, at, path, asked: Vec::new(), missing: Vec::new() }
    }

    /// The table under `key`, if it is there and one.
    pub(super) fn section(&mut self, key: &'static str, findings: &mut Findings) -> Option<Section<'t>> {
        let found = self.ask(key)?;
        into_section(found, findings)
    }

    /// The tables under `key`, each with its own name and the place of that: `[alert.<name>]`.
    pub(super) fn sections(&mut self, key: &'static str, findings: &mut Findings) -> Vec<(Located<String>, Section<'t>)> {
        self.entries(key, findings)
            .into_iter()
            .filter_map(|(name, node)| {
                let section = into_section(Located { value: node, key: name.key.clone(), at: name.at.clone() }, findings)?;
                Some((name, section))
            })
            .collect()
    }

    /// The texts under `key`, each with its own name: `{ name = "text" }`.
    pub(super) fn named_texts(&mut self, key: &'static str, findings: &mut Findings) -> Vec<(Located<String>, Located<String>)> {
        self.entries(key, findings)
            .into_iter()
            .filter_map(|(name, node)| {
                let text = text_of(Located { value: node, key: name.key.clone(), at: node.at.clone() }, findings)?;
                Some((name, text))
            })
            .collect()
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str, findings: &mut Findings) -> Option<Located<String>> {
        let found = self.ask(key)?;
        text_of(at_value(found), findings)
    }

    /// A text that must be there; `why` says what for.
    pub(super) fn required_text(&mut self, key: &'static str, why: &'static str, findings: &mut Findings) -> Option<Located<String>> {
        self.require(key, why);
        self.text(key, findings)
    }

    /// An array of texts, at least one; empty when it is not there or wrong.
    pub(super) fn required_texts(&mut self, key: &'static str, why: &'static str, findings: &mut Findings) -> Vec<Located<String>> {
        self.require(key, why);
        self.texts(key, why, findings)
    }

    /// An array of texts, at least one if it is there; empty when it is not there or wrong.
    pub(super) fn texts(&mut self, key: &'static str, why: &'static str, findings: &mut Findings) -> Vec<Located<String>> {
        let Some(found) = self.ask(key).map(at_value) else {
            return Vec::new();
        };
        let Value::Array(items) = &found.value.value else {
            let fault = findings.fault(&found, format!("must be an array of texts, this is {}", found.value.value.kind()));
            if let Value::Text(text) = &found.value.value {
                fault.help(format!("write {key} = [{}]", toml::Value::String(text.clone())));
            }
            return Vec::new();
        };
        if items.is_empty() {
            findings.fault(&found, format!("must not be empty: {why}"));
        }
        items.iter().filter_map(|node| text_of(Located { value: node, key: found.key.clone(), at: node.at.clone() }, findings)).collect()
    }

    /// A whole number.
    pub(super) fn integer(&mut self, key: &'static str, findings: &mut Findings) -> Option<Located<i64>> {
        let found = self.ask(key).map(at_value)?;
        match &found.value.value {
            Value::Integer(Some(integer)) => Some(found.with(*integer)),
            other => {
                let what = if matches!(other, Value::Integer(None)) { "one that is far too large" } else { other.kind() };
                findings.fault(&found, format!("must be an integer, this is {what}"));
                None
            }
        }
    }

    /// Where `key` stands, if it does.
    pub(super) fn place(&mut self, key: &'static str) -> Option<Located<()>> {
        self.ask(key).map(|found| found.with(()))
    }

    /// Notes that `key` must be there, for the reason `why`.
    pub(super) fn require(&mut self, key: &'static str, why: &'static str) {
        if !self.table.iter().any(|entry| entry.key == key) {
            self.missing.push((key, why));
        }
    }

    /// Ends the reading: keys that nobody asked for are unknown; required ones that are not there are missing, unless an unknown key
    /// was probably meant to be it.
    pub(super) fn finish(self, findings: &mut Findings) {
        let mut meant = Vec::new();
        for entry in self.table.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            let open = self.asked.iter().copied().filter(|key| !self.table.iter().any(|entry| entry.key == *key));
            meant.extend(super::fault::nearest(&entry.key, open));
            let fault = findings.fault_at(&entry.key_at, &join(&self.path, &entry.key), format!("unknown key `{}`", entry.key));
            if !fault.suggest(&entry.key, self.asked.iter().copied()) {
                fault.help(format!("known here: {}", self.asked.join(", ")));
            }
        }
        for (key, why) in self.missing.iter().filter(|(key, _)| !meant.contains(key)) {
            findings.fault_at(&self.at, &join(&self.path, key), format!("`{key}` is missing: {why}"));
        }
    }

    fn entries(&mut self, key: &'static str, findings: &mut Findings) -> Vec<(Located<String>, &'t Node)> {
        let Some(found) = self.ask(key) else { return Vec::new() };
        let Value::Table(table) = &found.value.value else {
            findings.fault(&at_value(found.clone()), format!("must be a table, this is {}", found.value.value.kind()));
            return Vec::new();
        };
        table
            .iter()
            .map(|entry| (Located { value: entry.key.clone(), key: join(&found.key, &entry.key), at: entry.key_at.clone() }, &entry.node))
            .collect()
    }

    /// The value under `key`, with the place of the key.
    fn ask(&mut self, key: &'static str) -> Option<Located<&'t Node>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let entry = self.table.iter().find(|entry| entry.key == key)?;
        Some(Located { value: &entry.node, key: join(&self.path, key), at: entry.key_at.clone() })
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { dotted(key) } else { format!("{path}.{}", dotted(key)) }
}

fn at_value(found: Located<&Node>) -> Located<&Node> {
    Located { at: found.value.at.clone(), ..found }
}

fn into_section<'t>(found: Located<&'t Node>, findings: &mut Findings) -> Option<Section<'t>> {
    match &found.value.value {
        Value::Table(table) => Some(Section::new(table, found.at, found.key)),
        other => {
            findings.fault(&at_value(found.clone()), format!("must be a table, this is {}", other.kind()));
            None
        }
    }
}

fn text_of(found: Located<&Node>, findings: &mut Findings) -> Option<Located<String>> {
    let text = match (&found.value.value, &found.at) {
        (Value::Text(text), _) => text.clone(),
        // What comes from an environment has no quotes: a text that looks like a number arrives as one.
        (Value::Integer(Some(integer)), At::Override(_)) => integer.to_string(),
        (Value::Boolean(boolean), At::Override(_)) => boolean.to_string(),
        (Value::Other(_, written), At::Override(_)) => written.clone(),
        (other, _) => {
            findings.fault(&found, format!("must be text in quotes, this is {}", other.kind()));
            return None;
        }
    };
    if text.trim().is_empty() {
        findings.fault(&found, "must not be empty");
        return None;
    }
    if text.len() > TEXT_BYTES_MAX {
        findings.fault(&found, format!("has {} bytes, {TEXT_BYTES_MAX} are allowed", text.len()));
        return None;
    }
    Some(found.with(text))
}
