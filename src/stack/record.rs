//! What a stack's folder remembers between the commands that start, look at and end it.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::ports::PortSet;
use super::{mongod, registry};

/// What was decided when the stack was first started; kept in `stack.json`, with the endpoints for whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Settings {
    /// Where the servers listen.
    pub ports: PortSet,
    /// The broker's heap in MiB.
    pub kafka_heap_mib: u32,
    /// Whether the broker notices failures in seconds.
    pub fast_failure_settings: bool,
}

/// `stack.json`.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    bootstrap: String,
    registry_url: String,
    mongo_uri: String,
    settings: Settings,
}

const FILE: &str = "stack.json";

impl Settings {
    /// What the folder remembers; nothing where no stack was ever started.
    ///
    /// # Errors
    /// When `stack.json` is there but cannot be read.
    pub fn load(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let record: Record = serde_json::from_str(&text).with_context(|| format!("failed to understand {}", path.display()))?;
        Ok(Some(record.settings))
    }

    /// Writes `stack.json`; a reader sees the old or the new one, never half of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let record = Record {
            bootstrap: self.bootstrap(),
            registry_url: registry::url(self.ports.registry),
            mongo_uri: mongod::uri(self.ports.mongod),
            settings: *self,
        };
        let text = serde_json::to_string_pretty(&record).context("failed to write the stack's endpoints as JSON")?;
        let (partial, path) = (folder.join("stack.json.partial"), folder.join(FILE));
        fs::write(&partial, text + "\n").with_context(|| format!("failed to write {}", partial.display()))?;
        fs::rename(&partial, &path).with_context(|| format!("failed to rename {}", partial.display()))
    }

    /// Where clients reach the broker.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.kafka)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::Ports;
    use super::*;

    #[test]
    fn saved_settings_are_loaded_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = Ports::Free.choose().expect("ports are free");
        let settings = Settings { ports, kafka_heap_mib: 512, fast_failure_settings: true };

        assert_eq!(Settings::load(folder.path()).expect("no file is no error"), None);
        settings.save(folder.path()).expect("the folder is ours");

        assert_eq!(Settings::load(folder.path()).expect("it was just written"), Some(settings));
    }
}
