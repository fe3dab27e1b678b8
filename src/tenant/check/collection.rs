//! Collections: what feeds them, and whether its columns leave room for the documents' own fields.

use super::source::SourceDraft;
use crate::tenant::file::{RawCollection, TenantFile};
use crate::tenant::located::{Findings, Located};
use crate::tenant::model::{Collection, CollectionOf};
use crate::tenant::names;

/// Fields of a window's document beside the `by` and `select` columns.
const OF_WINDOW: [&str; 7] = ["_id", "window_start", "window_end", "origin", "tenant_version", "schema_id", "source"];

/// Fields of a record's document beside the source's columns.
const OF_RECORD: [&str; 5] = ["_id", "event_time", "timestamp", "schema_id", "source"];

/// Checks a collection of `database`.
pub(super) fn check(
    raw: &RawCollection,
    file: &TenantFile,
    sources: &[SourceDraft],
    database: &str,
    findings: &mut Findings,
) -> Option<Collection> {
    if let Err(why) = names::check_collection(database, &raw.name.value) {
        findings.fault(&raw.name, why);
    }
    let from = raw.from.as_ref()?;
    let of = feeder(from, file, findings)?;
    let source = match of {
        CollectionOf::Window(window) => {
            for (name, _) in file.windows[window].select.iter().filter(|(name, _)| OF_WINDOW.contains(&name.value.as_str())) {
                let message = format!("`{}` is a field of every document of {}", name.value, raw.name.key);
                findings.fault(name, message).help("choose another name");
            }
            if file.windows[window].size.is_some_and(|size| size.subsec_nanos() % 1_000_000 != 0) {
                let message = format!("{} has windows finer than a date in MongoDB: two of them would have one document", from.value);
                findings.fault(from, message).help("windows of whole milliseconds have documents of their own");
            }
            None
        }
        CollectionOf::Source(source) => Some(source),
        CollectionOf::Alert(alert) => {
            file.alerts[alert].from.as_ref().and_then(|from| file.sources.iter().position(|source| source.name.value == from.value))
        }
    };
    if let Some(columns) = source.and_then(|source| sources[source].columns.as_ref()) {
        let tenant_columns = columns.schema.fields().iter().take(columns.tenant_columns);
        for field in tenant_columns.filter(|field| OF_RECORD.contains(&field.name().as_str())) {
            let source = source.map_or("", |source| file.sources[source].name.key.as_str());
            findings
                .fault(&raw.name, format!("column `{}` has the name of a field of every document", field.name()))
                .help(format!("give the column another name in {source}.columns"));
        }
    }
    Some(Collection { name: raw.name.value.clone(), of })
}

fn feeder(from: &Located<String>, file: &TenantFile, findings: &mut Findings) -> Option<CollectionOf> {
    let windows = file.windows.iter().map(|window| &window.name.value).enumerate().map(|(index, name)| (name, CollectionOf::Window(index)));
    let sources = file.sources.iter().map(|source| &source.name.value).enumerate().map(|(index, name)| (name, CollectionOf::Source(index)));
    let alerts = file.alerts.iter().map(|alert| &alert.name.value).enumerate().map(|(index, name)| (name, CollectionOf::Alert(index)));
    let known: Vec<_> = windows.chain(sources).chain(alerts).collect();
    let found = known.iter().find(|(name, _)| **name == from.value);
    if found.is_none() {
        findings
            .fault(from, format!("there is no window, source or alert `{}`", from.value))
            .suggest(&from.value, known.iter().map(|(name, _)| name.as_str()));
    }
    found.map(|(_, of)| *of)
}
