//! What belongs to one only: topics that are written, tenants' names, collections — within a tenant and among all that are loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::tenant::file::{RawSource, TenantFile};
use crate::tenant::located::{Findings, Located};
use crate::tenant::names;

/// Who has what so far.
#[derive(Default)]
pub(super) struct Claims {
    tenants: BTreeMap<String, PathBuf>,
    /// Topics that are written: what for, and by which file.
    written: BTreeMap<String, (String, PathBuf)>,
    /// All topics, with `.` and `_` made the same, as the broker does for its metrics.
    spellings: BTreeMap<String, String>,
    /// By database in lower case (MongoDB refuses databases that differ by case only) and collection.
    collections: BTreeMap<(String, String), (String, PathBuf)>,
    /// Consumer groups: whose, and by which file.
    groups: BTreeMap<String, (String, PathBuf)>,
}

impl Claims {
    /// Compares a file with itself and with those before it.
    pub(super) fn add(&mut self, path: &Path, file: &TenantFile, findings: &mut Findings) {
        let inputs = self.inputs(&file.sources, findings);
        let Some(tenant) = &file.tenant else { return };
        if let Some(other) = self.tenants.get(&tenant.value) {
            // Everything derived from the name would clash as well: one fault says it.
            findings.fault(tenant, format!("tenant `{}` is also that of {}", tenant.value, other.display()));
            return;
        }
        self.tenants.insert(tenant.value.clone(), path.to_owned());
        self.outputs(path, file, &inputs, findings);
        // Of a name that is illegal itself nothing can be derived.
        if names::check_own(&tenant.value).is_ok() {
            self.derived(path, tenant, file, &inputs, findings);
        }
        self.collections(path, tenant, file, findings);
        self.groups(path, tenant, file, findings);
    }

    /// Input topics by the source that reads them. Tenants may share them, sources of one tenant may not.
    fn inputs<'f>(&mut self, sources: &'f [RawSource], findings: &mut Findings) -> BTreeMap<&'f str, &'f Located<String>> {
        let mut inputs: BTreeMap<&str, &Located<String>> = BTreeMap::new();
        for source in sources {
            for topic in &source.topics {
                self.spell(topic, &topic.value, findings);
                match inputs.get(topic.value.as_str()) {
                    Some(other) if other.key == source.name.key => {
                        findings.fault(topic, format!("topic `{}` is listed twice", topic.value));
                    }
                    Some(other) => {
                        findings.fault(topic, format!("topic `{}` belongs to {} already: a topic has one source", topic.value, other.key));
                    }
                    None => {
                        inputs.insert(&topic.value, &source.name);
                    }
                }
            }
        }
        inputs
    }

    fn outputs(&mut self, path: &Path, file: &TenantFile, inputs: &BTreeMap<&str, &Located<String>>, findings: &mut Findings) {
        let alerts = file.alerts.iter().filter_map(|alert| Some((&alert.name, alert.topic.as_ref()?)));
        let windows = file.windows.iter().filter_map(|window| Some((&window.name, window.topic.as_ref()?)));
        for (branch, topic) in alerts.chain(windows) {
            self.spell(topic, &topic.value, findings);
            if names::is_of_generation(&topic.value) {
                findings.fault(topic, format!("topic `{}` ends as those do that a rebuild fills: `.g` and a number", topic.value));
            }
            if let Some(source) = inputs.get(topic.value.as_str()) {
                findings.fault(topic, format!("topic `{}` is an input of {}: the tenant would feed itself", topic.value, source.key));
            }
            self.write(path, topic, &topic.value, format!("the output of {}", branch.key), findings);
        }
    }

    /// Topics that Testudo names: dead letters, ledger, verdicts on schemas, events, which generation counts, and changelogs.
    fn derived(
        &mut self,
        path: &Path,
        tenant: &Located<String>,
        file: &TenantFile,
        inputs: &BTreeMap<&str, &Located<String>>,
        findings: &mut Findings,
    ) {
        for (ending, what) in [
            ("dead-letters", "dead letters"),
            ("ledger", "ledger"),
            ("schemas", "verdicts on schemas"),
            ("events", "events"),
            ("generation", "generation"),
        ] {
            let topic = format!("{}-{ending}", tenant.value);
            if let Some(source) = inputs.get(topic.as_str()) {
                findings.fault(*source, format!("topic `{topic}` holds the tenant's own {what}: it cannot be its input"));
            }
            self.name(path, tenant, topic, format!("the {what} of the tenant"), findings);
        }
        for window in &file.windows {
            let source = window.from.as_ref().and_then(|from| file.sources.iter().find(|source| source.name.value == from.value));
            let is_legal = names::check_own(&window.name.value).is_ok();
            let topics = source.iter().filter(|_| is_legal).flat_map(|source| &source.topics);
            for topic in topics.filter(|topic| names::check_topic(&topic.value).is_ok()) {
                let changelog = format!("{}-{}-{}-changelog", tenant.value, window.name.value, topic.value);
                self.name(path, &window.name, changelog, format!("the changelog of {}", window.name.key), findings);
            }
        }
    }

    /// Collections, and beside each the one of what has no document.
    fn collections(&mut self, path: &Path, tenant: &Located<String>, file: &TenantFile, findings: &mut Findings) {
        let database = super::database(file);
        for collection in &file.collections {
            for part in ["", "_set_aside"] {
                let key = (database.to_lowercase(), format!("{}{part}", collection.name.value));
                let Some((other, other_path)) = self.collections.get(&key) else {
                    let fed = format!("fed by tenant `{}`", tenant.value);
                    let what = if part.is_empty() { fed } else { format!("where {} keeps what has no document", collection.name.key) };
                    self.collections.insert(key, (what, path.to_owned()));
                    continue;
                };
                let message = format!("collection `{}` of database `{database}` is {other} ({})", key.1, other_path.display());
                let help = if other_path == path { "choose another name" } else { "give one of the tenants another database" };
                findings.fault(&collection.name, message).help(help);
                break;
            }
        }
    }

    /// Consumer groups: the tenant's, and one for each collection. Names are joined by `-`, which they may hold themselves.
    fn groups(&mut self, path: &Path, tenant: &Located<String>, file: &TenantFile, findings: &mut Findings) {
        let own = (tenant, tenant.value.clone(), format!("tenant `{}`", tenant.value));
        let sinks = file.collections.iter().map(|collection| {
            let group = format!("{}-mongo-{}", tenant.value, collection.name.value);
            (&collection.name, group, format!("{} of tenant `{}`", collection.name.key, tenant.value))
        });
        for (at, group, whose) in std::iter::once(own).chain(sinks) {
            if let Some((other, other_path)) = self.groups.get(&group) {
                let message =
                    format!("`{group}` would be the consumer group of {whose}, and it is that of {other} ({})", other_path.display());
                findings.fault(at, message).help("choose another name");
                continue;
            }
            self.groups.insert(group, (whose, path.to_owned()));
        }
    }

    /// A derived topic: its name must be legal, and nobody else's.
    fn name(&mut self, path: &Path, at: &Located<String>, topic: String, what: String, findings: &mut Findings) {
        if let Err(why) = names::check_topic(&topic) {
            findings.fault(at, format!("{what}: {why}")).help("shorten the name");
            return;
        }
        self.write(path, at, &topic, what, findings);
    }

    fn write(&mut self, path: &Path, at: &Located<String>, topic: &str, what: String, findings: &mut Findings) {
        if let Some((other, other_path)) = self.written.get(topic) {
            let whose = if other_path == path { String::new() } else { format!(" in {}", other_path.display()) };
            findings.fault(at, format!("topic `{topic}` would be {what}, and it is {other}{whose}"));
            return;
        }
        self.written.insert(topic.to_owned(), (what, path.to_owned()));
    }

    /// A declared topic: its name must be legal, and no other may differ from it by `.` and `_` only.
    fn spell(&mut self, at: &Located<String>, topic: &str, findings: &mut Findings) {
        if let Err(why) = names::check_topic(topic) {
            findings.fault(at, why);
            return;
        }
        let other = self.spellings.entry(topic.replace('.', "_")).or_insert_with(|| topic.to_owned());
        if other != topic {
            findings.fault(at, format!("topics `{topic}` and `{other}` differ by `.` and `_` only, which Kafka refuses"));
        }
    }
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
