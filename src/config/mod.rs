//! Settings: defaults, then a file, then the environment, then flags; the later one wins, and each value remembers its origin.
//!
//! The layers are merged as one tree and typed once, so that every fault is found in one go. A tenant's own file can be
//! overridden the same way: `tenant.<name>.<path in its file>`.

pub mod layers;
pub mod tree;

pub mod bounds;
pub mod de;
pub mod fault;

pub mod redact;
pub mod show;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

pub use fault::{Fault, Faults};
pub use show::Notation;
use tree::{Given, Leaf, Node, Origin};

/// The file that is read when no other is named and it is there.
pub const DEFAULT_FILE: &str = "testudo.toml";
/// Instance names are part of transactional ids.
const INSTANCE_BYTES_MAX: usize = 100;

/// Everything that can be set. Holds secrets: shown only through [`Loaded::show`].
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This process among those of a tenant; stable over restarts. Default: the host's name.
    pub instance: String,
    /// Tenant files.
    pub tenants: Vec<PathBuf>,
    /// The broker.
    pub kafka: crate::kafka::Settings,
    /// The schema registry.
    pub registry: crate::avro::settings::Settings,
    /// The database; absent: nothing is written to MongoDB.
    pub mongo: Option<crate::mongo::settings::Settings>,
    /// How epochs are cut and how long is waited.
    pub engine: crate::engine::Settings,
    /// How a tenant's owner is told of what should be known.
    pub events: crate::schemas::settings::Settings,
    /// State on disk.
    pub store: crate::store::Settings,
    /// Health and metrics over HTTP.
    pub http: crate::http::Settings,
    /// The log.
    pub log: crate::telemetry::settings::Settings,
    /// Overrides of tenant files: `<name>.<path>`.
    pub tenant: Table,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instance: host_name(),
            tenants: Vec::new(),
            kafka: Default::default(),
            registry: Default::default(),
            mongo: None,
            engine: Default::default(),
            events: Default::default(),
            store: Default::default(),
            http: Default::default(),
            log: Default::default(),
            tenant: Table::new(),
        }
    }
}

impl fmt::Debug for Config {
    /// Names only: other fields may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("instance", &self.instance).field("tenants", &self.tenants).finish_non_exhaustive()
    }
}

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file named by `--config`; absent: [`DEFAULT_FILE`] if it is there.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with [`layers::PREFIX`] are left alone.
    pub environment: Vec<(String, String)>,
    /// `--set key=value`.
    pub sets: Vec<String>,
    /// `-X property=value`.
    pub properties: Vec<String>,
}

/// A configuration and how it came about.
#[derive(Clone)]
pub struct Loaded {
    /// The typed settings.
    pub config: Config,
    tree: Node,
}

impl Loaded {
    /// Merges and types all layers.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn from(sources: &Sources) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut given = Vec::new();
        let default_file = Path::new(DEFAULT_FILE);
        match &sources.file {
            Some(file) => given.extend(layers::file(file, &mut faults)),
            None if default_file.is_file() => given.extend(layers::file(default_file, &mut faults)),
            None => {}
        }
        given.extend(layers::environment(&sources.environment, &mut faults));
        given.extend(layers::flags(&sources.sets, &sources.properties, &mut faults));
        // MongoDB's defaults hold only where MongoDB is spoken of.
        let has_mongo = given.iter().any(|(path, _)| path.first().is_some_and(|section| section == "mongo"));
        let mut tree = Node::default();
        for (path, node) in defaults(has_mongo).into_iter().chain(given) {
            tree.put(&path, node);
        }
        match typed(&tree, &mut faults) {
            Some(config) if faults.is_empty() => Ok(Self { config, tree }),
            _ => {
                let secrets = redact::Secrets::of(&tree);
                for fault in &mut faults {
                    fault.text = secrets.scrub(&fault.text);
                }
                Err(Faults(faults))
            }
        }
    }

    /// The merged settings as text, without secrets.
    pub fn show(&self, notation: Notation, with_origin: bool) -> String {
        show::show(&self.tree, notation, with_origin)
    }

    /// The secrets, to be kept out of texts.
    pub fn secrets(&self) -> redact::Secrets {
        redact::Secrets::of(&self.tree)
    }
}

/// Types the tree; a faulty setting is noted and left out, so that the next one is found too.
fn typed(tree: &Node, faults: &mut Vec<Fault>) -> Option<Config> {
    let mut rest = tree.clone();
    loop {
        let error = match Config::deserialize(de::NodeDeserializer(&rest)) {
            Ok(config) => {
                faults.extend(judged(&config, tree));
                return Some(config);
            }
            Err(error) => error,
        };
        let origin = match tree.get(&error.path) {
            Some(Node::Leaf(leaf)) => Some(leaf.origin.clone()),
            Some(table) => table.leaves().first().map(|(_, leaf)| leaf.origin.clone()),
            None => None,
        };
        let last = error.path.last().map(String::as_str).unwrap_or_default();
        let known = error.known.and_then(|known| fault::suggestion(last, known.iter().copied()));
        let text = match known {
            Some(near) => format!("{}; did you mean {near}?", error.text),
            None => error.text.clone(),
        };
        let is_gone = rest.remove(&error.path);
        // What is missing only because a faulty part was left out is no fault of its own.
        if is_gone || faults.is_empty() {
            faults.push(Fault { path: error.path, origin, text });
        }
        if !is_gone {
            return None;
        }
    }
}

/// What is wrong although every setting has the right type.
fn judged(config: &Config, tree: &Node) -> Vec<Fault> {
    let fault = |path: &[&str], text: String| {
        let path: tree::Path = path.iter().map(|key| (*key).to_owned()).collect();
        let origin = if let Some(Node::Leaf(leaf)) = tree.get(&path) { Some(leaf.origin.clone()) } else { None };
        Fault { path, origin, text }
    };
    let mut faults = Vec::new();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if config.instance.is_empty() || config.instance.len() > INSTANCE_BYTES_MAX || !config.instance.bytes().all(is_plain) {
        faults.push(fault(&["instance"], format!("must be 1 to {INSTANCE_BYTES_MAX} letters, digits, dots, - or _")));
    }
    if config.kafka.bootstrap.trim().is_empty() {
        faults.push(fault(&["kafka", "bootstrap"], "must name at least one broker, host:port".into()));
    }
    for (path, text) in bounds::crossed(config) {
        faults.push(fault(&path, text));
    }
    for text in config.mongo.iter().flat_map(crate::mongo::settings::Settings::faults) {
        faults.push(fault(&[], text));
    }
    for place in config.kafka.reserved_in_use() {
        faults.push(fault(&[], format!("{place}: the exactly-once guarantee rests on this property, it cannot be set")));
    }
    for text in config.kafka.refused() {
        faults.push(fault(&[], text));
    }
    faults
}

/// The built-in values, as the lowest layer.
fn defaults(has_mongo: bool) -> Vec<layers::Entry> {
    let Config { instance, tenants, kafka, registry, engine, events, store, http, log, .. } = Config::default();
    let mut entries = Vec::new();
    let mut add = |path: tree::Path, value: Value| built_in(path, value, &mut entries);
    let mut section = |name: &str, settings: Result<Value, toml::ser::Error>| {
        add(vec![name.to_owned()], settings.expect("built-in settings are text, numbers, lists and tables"));
    };
    section("instance", Value::try_from(instance));
    section("tenants", Value::try_from(tenants));
    section("kafka", Value::try_from(kafka));
    section("registry", Value::try_from(registry));
    section("engine", Value::try_from(engine));
    section("events", Value::try_from(events));
    section("store", Value::try_from(store));
    section("http", Value::try_from(http));
    section("log", Value::try_from(log));
    if has_mongo {
        section("mongo", Value::try_from(crate::mongo::settings::Settings::default()));
    }
    entries
}

fn built_in(path: tree::Path, value: Value, entries: &mut Vec<layers::Entry>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let path = path.iter().cloned().chain([key]).collect();
                built_in(path, value, entries);
            }
        }
        value => entries.push((path, Node::Leaf(Leaf { given: Given::Typed(value), origin: Origin::Default }))),
    }
}

/// The host's name, as far as it can be part of a transactional id.
fn host_name() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String = kernel.trim().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect();
    if plain.is_empty() { "instance".into() } else { plain }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
