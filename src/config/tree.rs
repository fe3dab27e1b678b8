//! Settings before they are typed: a tree of tables whose leaves remember where they come from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml::Value;

/// The keys from the root to a setting.
pub type Path = Vec<String>;

/// A table of settings, or one setting.
#[derive(Clone, PartialEq)]
pub enum Node {
    /// Settings under one key.
    Table(BTreeMap<String, Node>),
    /// One setting.
    Leaf(Leaf),
}

/// One setting: what was given, and by whom.
#[derive(Clone, PartialEq)]
pub struct Leaf {
    /// What was given.
    pub given: Given,
    /// By whom.
    pub origin: Origin,
}

/// A value as it was given.
#[derive(Clone, PartialEq)]
pub enum Given {
    /// From a file: of a type.
    Typed(Value),
    /// From an environment variable, a flag or a secret's file: text, whose type the setting decides.
    Text(String),
}

/// Who gave a value; later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag, `--set` or `-X`.
    Flag(&'static str),
    /// A file that holds a secret, named by another setting.
    SecretFile(PathBuf, Box<Origin>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file) => write!(f, "file {}", file.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::SecretFile(file, named_by) => write!(f, "secret file {}, named by {named_by}", file.display()),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::Table(BTreeMap::new())
    }
}

impl Node {
    /// Puts `node` at `path`, over whatever is there; tables on the way are made.
    pub fn put(&mut self, path: &[String], node: Self) {
        let Some((first, rest)) = path.split_first() else {
            // An empty table only says that the section is there.
            let is_nothing_new = matches!((&*self, &node), (Self::Table(_), Self::Table(new)) if new.is_empty());
            if !is_nothing_new {
                *self = node;
            }
            return;
        };
        if let Self::Leaf(_) = self {
            *self = Self::default();
        }
        if let Self::Table(entries) = self {
            entries.entry(first.clone()).or_default().put(rest, node);
        }
    }

    /// What stands at `path`.
    pub fn get(&self, path: &[String]) -> Option<&Self> {
        match (path.split_first(), self) {
            (None, node) => Some(node),
            (Some((first, rest)), Self::Table(entries)) => entries.get(first)?.get(rest),
            (Some(_), Self::Leaf(_)) => None,
        }
    }

    /// Takes away what stands at `path`; false when nothing does.
    pub fn remove(&mut self, path: &[String]) -> bool {
        match (path, self) {
            ([last], Self::Table(entries)) => entries.remove(last).is_some(),
            ([first, rest @ ..], Self::Table(entries)) => entries.get_mut(first).is_some_and(|node| node.remove(rest)),
            _ => false,
        }
    }

    /// All settings with their paths, sorted by path.
    pub fn leaves(&self) -> Vec<(Path, &Leaf)> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found);
        found
    }

    fn collect<'a>(&'a self, path: &mut Path, found: &mut Vec<(Path, &'a Leaf)>) {
        match self {
            Self::Leaf(leaf) => found.push((path.clone(), leaf)),
            Self::Table(entries) => {
                for (key, node) in entries {
                    path.push(key.clone());
                    node.collect(path, found);
                    path.pop();
                }
            }
        }
    }
}

impl Given {
    /// The value, typed: text that is a TOML scalar is that scalar.
    pub fn typed(&self) -> Value {
        match self {
            Self::Typed(value) => value.clone(),
            Self::Text(text) => scalar(text),
        }
    }
}

/// Text as a TOML value where it is one, else as text.
pub fn scalar(text: &str) -> Value {
    text.trim().parse().unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A path as TOML writes it: keys with other characters than letters, digits, `-` and `_` in quotes.
pub fn dotted(path: &[String]) -> String {
    let is_bare = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let keys: Vec<String> =
        path.iter().map(|key| if is_bare(key) { key.clone() } else { Value::String(key.clone()).to_string() }).collect();
    keys.join(".")
}
