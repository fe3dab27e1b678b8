//! What a stack's folder remembers between the commands that start, look at and end it.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::ports::PortSet;
use super::{mongod, registry};

/// What was decided when the stack was first started; kept in `stack.json`, with the endpoints for whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Settings {
    /// Where the servers listen.
    pub ports: PortSet,
    /// Each broker's heap in MiB.
    pub kafka_heap_mib: u32,
    /// Whether the cluster notices failures in seconds.
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
    /// When `stack.json` is there but cannot be read, or describes servers of another layout than today's.
    pub fn load(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        match serde_json::from_str::<Record>(&text) {
            Ok(record) => Ok(Some(record.settings)),
            Err(error) => bail!(
                "{} was written by another version of testudo, whose servers and data this one cannot take over ({error}); \
                 end and remove them with `testudo stack down --wipe --dir {}`",
                path.display(),
                folder.display()
            ),
        }
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
            settings: self.clone(),
        };
        let text = serde_json::to_string_pretty(&record).context("failed to write the stack's endpoints as JSON")?;
        let (partial, path) = (folder.join("stack.json.partial"), folder.join(FILE));
        fs::write(&partial, text + "\n").with_context(|| format!("failed to write {}", partial.display()))?;
        fs::rename(&partial, &path).with_context(|| format!("failed to rename {}", partial.display()))
    }

    /// Where clients reach the brokers, commas between.
    pub fn bootstrap(&self) -> String {
        self.ports.brokers.iter().map(|port| address(*port)).collect::<Vec<_>>().join(",")
    }
}

/// `host:port` of one server.
pub(super) fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Whether a stack, of whatever version, was ever started in the folder.
pub(super) fn is_known(folder: &Path) -> bool {
    folder.join(FILE).is_file()
}

/// Forgets what the folder remembers.
///
/// # Errors
/// When the file cannot be removed.
pub(super) fn forget(folder: &Path) -> anyhow::Result<()> {
    fs::remove_file(folder.join(FILE)).with_context(|| format!("failed to remove {FILE} in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::super::ports::{Layout, Ports};
    use super::*;

    #[test]
    fn saved_settings_are_loaded_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = Ports::Free.choose(Layout { brokers: 3, fault_listener: true, secured: true }).expect("ports are free");
        let settings = Settings { ports, kafka_heap_mib: 512, fast_failure_settings: true };

        assert_eq!(Settings::load(folder.path()).expect("no file is no error"), None);
        settings.save(folder.path()).expect("the folder is ours");

        assert_eq!(Settings::load(folder.path()).expect("it was just written"), Some(settings));
    }

    #[test]
    fn folder_of_a_node_that_was_its_own_controller_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = r#"{"kafka": 29092, "kafka_controller": 29093, "registry": 28081, "mongod": 27117}"#;
        let settings = format!(r#"{{"ports": {ports}, "kafka_heap_mib": 512, "fast_failure_settings": false}}"#);
        let text = format!(r#"{{"bootstrap": "", "registry_url": "", "mongo_uri": "", "settings": {settings}}}"#);
        fs::write(folder.path().join(FILE), text).expect("the folder is ours");

        let error = Settings::load(folder.path()).expect_err("its data is of no use");

        assert!(error.to_string().contains("testudo stack down --wipe --dir"), "{error}");
        assert!(is_known(folder.path()), "down must find it");
    }
}
