//! Where an expression stands in its tenant file, found again long after the file's check: for messages about what came later, such as
//! a schema that breaks it.

use std::fs;
use std::path::Path;

use super::fault::Fault;
use super::located::{Findings, Located};
use super::model::Tenant;
use super::tree::{self, Node, Table, Value};

/// A tenant file whose values can be pointed at. Without the file, messages name it and the key.
#[derive(Debug)]
pub struct Places {
    findings: Findings,
    tree: Table,
}

impl Places {
    /// The places of `tenant`'s file with the overrides (tables by tenant name) that were laid over it.
    pub fn of(tenant: &Tenant, overrides: &toml::Table) -> Self {
        let text = fs::read_to_string(&tenant.file).unwrap_or_default();
        let over = overrides.get(&tenant.name).and_then(toml::Value::as_table);
        Self::of_text(&tenant.file, text.strip_prefix('\u{feff}').unwrap_or(&text), &tenant.name, over)
    }

    fn of_text(file: &Path, text: &str, tenant: &str, over: Option<&toml::Table>) -> Self {
        let mut findings = Findings::new(file, text);
        let mut tree = tree::parse(&mut findings).unwrap_or_default();
        if let Some(over) = over {
            tree::lay_over(&mut tree, over, tenant, &mut findings);
        }
        Self { findings, tree }
    }

    /// A message about `column` in the expression `sql` that stands under `key`, such as `alert.battery_low.where`; of a key that holds
    /// several, in the one that holds `sql`.
    pub fn point(&mut self, key: &str, sql: &str, column: &str, message: impl Into<String>) -> Fault {
        match find(&self.tree, key, sql, column) {
            Some(text) => self.findings.fault_inside(&text, mention(&text.value, column), message).clone(),
            None => {
                let mut fault = Fault::of_file(self.findings.file(), message);
                fault.key = key.to_owned();
                fault
            }
        }
    }
}

fn find(tree: &Table, key: &str, sql: &str, column: &str) -> Option<Located<String>> {
    let mut table = tree;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        let node = &table.iter().find(|entry| entry.key == part)?.node;
        match (&node.value, parts.peek()) {
            (Value::Table(below), Some(_)) => table = below,
            (_, Some(_)) => return None,
            (_, None) => return text_in(node, key, sql, column),
        }
    }
    None
}

/// The text itself; of several, the one that holds `sql`, or else mentions the column.
fn text_in(node: &Node, key: &str, sql: &str, column: &str) -> Option<Located<String>> {
    let named: Vec<(String, &Node)> = match &node.value {
        Value::Text(_) => vec![(key.to_owned(), node)],
        Value::Array(items) => items.iter().map(|item| (key.to_owned(), item)).collect(),
        Value::Table(entries) => entries.iter().map(|entry| (format!("{key}.{}", tree::dotted(&entry.key)), &entry.node)).collect(),
        _ => Vec::new(),
    };
    let texts: Vec<Located<String>> = named
        .into_iter()
        .filter_map(|(key, node)| match &node.value {
            Value::Text(text) => Some(Located { value: text.clone(), key, at: node.at.clone() }),
            _ => None,
        })
        .collect();
    let tight = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).flat_map(char::to_lowercase).collect::<String>();
    let holds = texts.iter().position(|text| tight(&text.value).contains(&tight(sql)));
    let chosen =
        holds.or_else(|| texts.iter().position(|text| mention(&text.value, column).is_some())).or((!texts.is_empty()).then_some(0))?;
    texts.into_iter().nth(chosen)
}

/// The character (from 1) where a column is named in an expression: in quotes as it is, without in any case.
fn mention(sql: &str, column: &str) -> Option<usize> {
    let letters: Vec<char> = sql.chars().collect();
    let is_word = |letter: &char| letter.is_alphanumeric() || *letter == '_';
    let mut at = 0;
    while at < letters.len() {
        let (start, first) = (at, letters[at]);
        at += 1;
        if first == '\'' || first == '"' {
            while at < letters.len() && letters[at] != first {
                at += 1;
            }
            let inner: String = letters[start + 1..at].iter().collect();
            at += 1;
            if first == '"' && inner == column {
                return Some(start + 1);
            }
        } else if is_word(&first) {
            while letters.get(at).is_some_and(is_word) {
                at += 1;
            }
            if letters[start..at].iter().collect::<String>().eq_ignore_ascii_case(column) {
                return Some(start + 1);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"tenant = "zoo"
[alert.low]
where = "battery < 2000 AND name <> 'battery'"
[window.w]
by = ['"dev-id"', "site"]
[window.w.select]
mean = "avg( battery ) * 2"
total = "count(*)"
"#;

    fn places(over: &str) -> Places {
        let over: toml::Table = toml::from_str(over).expect("good TOML");
        Places::of_text(Path::new("zoo.toml"), FILE, "zoo", Some(&over))
    }

    #[test]
    fn a_column_is_pointed_at_where_an_expression_names_it() {
        let mut places = places("");
        let mut at = |key: &str, sql: &str, column: &str| places.point(key, sql, column, "here").to_string();

        let lines = [
            at("alert.low.where", "battery < 2000 AND name <> 'battery'", "battery"),
            at("window.w.by", "\"dev-id\"", "dev-id"),
            at("window.w.select", "avg(battery)", "battery"),
            at("window.gone.where", "x", "x"),
        ]
        .join("\n");
        insta::assert_snapshot!(lines, @r#"
        zoo.toml:3:10: alert.low.where: here
          where = "battery < 2000 AND name <> 'battery'"
                   ^^^^^^^
        zoo.toml:5:8: window.w.by: here
          by = ['"dev-id"', "site"]
                 ^^^^^^^^
        zoo.toml:7:14: window.w.select.mean: here
          mean = "avg( battery ) * 2"
                       ^^^^^^^
        zoo.toml: window.gone.where: here
        "#);
    }

    #[test]
    fn an_expression_from_outside_is_shown_as_it_was_given() {
        let fault = places("[alert.low]\nwhere = \"battery < 1\"").point("alert.low.where", "battery < 1", "battery", "here");

        assert!(fault.to_string().contains("given from outside the file"), "{fault}");
    }

    #[test]
    fn texts_in_quotes_are_no_columns() {
        assert_eq!(mention("name = 'battery' AND Battery > 1", "battery"), Some(22));
        assert_eq!(mention("batteries", "battery"), None);
        assert_eq!(mention("'open", "open"), None);
    }
}
