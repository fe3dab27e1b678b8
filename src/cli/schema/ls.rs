//! `testudo schema ls`: every schema that a tenant may meet, with what was decided about it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::DateTime;
use serde::Serialize;

use super::book::Book;
use super::check::Format;
use super::registered::{Registered, failed, registry};
use crate::cli::operator::find_generation;
use crate::config::Config;
use crate::schemas::record::{By, VerdictKey};
use crate::tenant::Tenant;

/// Flags of `testudo schema ls`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  testudo schema ls tenants/zoo.toml\n  testudo schema ls --format json tenants/zoo.toml\n\n\
    Shows the registered versions of the tenant's subjects, soft-deleted ones too, and what stands in the topic <tenant>-schemas.\n\
    A verdict that was reached for an older tenant file is marked `(older file)`: the next start asks again.")]
pub struct Args {
    /// Tenant files [default: those of the configuration]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Places of next records, by source and schema id.
type Waiting = BTreeMap<(usize, u32), Vec<String>>;

/// One schema of one source.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    tenant: String,
    source: String,
    policy: &'static str,
    id: u32,
    subject: Option<String>,
    version: Option<i32>,
    deleted: bool,
    /// `accepted`, `held`, `refused`; none: not decided yet.
    verdict: Option<&'static str>,
    /// Whether the verdict was reached for the tenant file as it is.
    current: bool,
    since_ms: Option<i64>,
    by: Option<By>,
    who: Option<String>,
    note: Option<String>,
    /// Why its records cannot be read, in one line.
    why_not: Option<String>,
    /// Partitions whose next record is of this schema, if it is held: they wait there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<String>,
}

/// Asks registry and topic, and shows.
pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let tenants = super::load(&args.files, config)?;
    let runtime = crate::cli::runtime(1)?;
    let mut rows = Vec::new();
    for tenant in &tenants {
        let book = Book::open(tenant, config, runtime.handle())?;
        // Whose group stands where, after rebuilds.
        find_generation(config, tenant, runtime.handle())?;
        let client = registry(config)?;
        let waiting = book.waiting(&|guid| runtime.block_on(client.id_of_guid(guid)).ok())?;
        rows.extend(runtime.block_on(of_tenant(tenant, &book, &waiting, config))?);
    }
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Format::Text => print!("{}", table(&rows)),
    }
    Ok(())
}

/// The rows of a tenant: by source, then by id.
async fn of_tenant(tenant: &Arc<Tenant>, book: &Book, waiting: &Waiting, config: &Config) -> anyhow::Result<Vec<Row>> {
    let mut registered = Registered::new(registry(config)?);
    let mut rows = of_book(tenant, book);
    for (key, row) in rows.iter_mut().filter(|(_, row)| row.verdict == Some("held")) {
        row.waiting = waiting.get(key).cloned().unwrap_or_default();
    }
    for (index, source) in tenant.sources.iter().enumerate() {
        for subject in source.subjects() {
            for version in failed(&format!("subject {subject}"), registered.versions(&subject, true).await)? {
                let Some(id) = version.id else { continue };
                let row = rows.entry((index, id.0)).or_insert_with(|| blank(tenant, index, id.0));
                (row.subject, row.version, row.deleted) = (Some(version.subject.clone()), version.number, version.is_deleted);
            }
        }
    }
    Ok(rows.into_values().collect())
}

/// What the topic alone knows.
pub(super) fn of_book(tenant: &Tenant, book: &Book) -> BTreeMap<(usize, u32), Row> {
    let mut rows: BTreeMap<(usize, u32), Row> = BTreeMap::new();
    for (key, verdict) in book.verdicts.all() {
        let Some(index) = tenant.sources.iter().position(|source| source.name == key.source) else { continue };
        let is_current = book.is_current(key);
        let row = rows.entry((index, key.id)).or_insert_with(|| blank(tenant, index, key.id));
        // What holds now goes before what held for an older file, and of these the later.
        if (row.current, row.since_ms) > (is_current, Some(verdict.when_ms)) {
            continue;
        }
        row.verdict = Some(verdict.verdict.word());
        row.current = is_current;
        (row.since_ms, row.by, row.who) = (Some(verdict.when_ms), Some(verdict.by), Some(verdict.who.clone()));
        row.note.clone_from(&verdict.note);
        let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
        row.why_not = (!reasons.is_empty()).then(|| reasons.join("; "));
        if let Some(place) = &verdict.place {
            (row.subject, row.version) = (Some(place.subject.clone()), Some(place.version));
        }
    }
    rows
}

fn blank(tenant: &Tenant, source: usize, id: u32) -> Row {
    let declared = &tenant.sources[source];
    Row {
        tenant: tenant.name.clone(),
        source: declared.name.clone(),
        policy: declared.on_new_schema.word(),
        id,
        subject: None,
        version: None,
        deleted: false,
        verdict: None,
        current: false,
        since_ms: None,
        by: None,
        who: None,
        note: None,
        why_not: None,
        waiting: Vec::new(),
    }
}

/// One line for each row, under a line for each source.
fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut heading = String::new();
    for row in rows {
        let of = format!("tenant {}, source {} (on_new_schema = \"{}\")\n", row.tenant, row.source, row.policy);
        if of != heading {
            heading.clone_from(&of);
            text.push_str(&of);
        }
        text.push_str(&line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let place = match (&row.subject, row.version) {
        (Some(subject), Some(version)) => format!("{subject} version {version}{}", if row.deleted { " (deleted)" } else { "" }),
        _ => "registered elsewhere".into(),
    };
    let verdict = row.verdict.unwrap_or("undecided");
    let mut line = format!("  {:>6}  {place:40}  {verdict:9}", row.id);
    if let (Some(since), Some(who)) = (row.since_ms, &row.who) {
        let by = if row.by == Some(By::Owner) { "its owner" } else { "the policy" };
        line.push_str(&format!("  since {} by {by} ({who})", time(since)));
    }
    if row.verdict.is_some() && !row.current {
        line.push_str(" (older file)");
    }
    line.push('\n');
    for (what, told) in [("reason", &row.note), ("cannot be read", &row.why_not)] {
        if let Some(told) = told {
            line.push_str(&format!("          {what}: {told}\n"));
        }
    }
    if !row.waiting.is_empty() {
        line.push_str(&format!("          waiting for a decision: {}\n", row.waiting.join(", ")));
    }
    line
}

/// ISO 8601, to the second.
pub(super) fn time(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).map_or_else(|| ms.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A key for people.
pub(super) fn named(key: &VerdictKey) -> String {
    format!("schema {} for source {}", key.id, key.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_where_what_since_when_by_whom_and_why() {
        let held = Row {
            tenant: "zoo".into(),
            source: "readings".into(),
            policy: "hold",
            id: 9,
            subject: Some("in-value".into()),
            version: Some(3),
            deleted: false,
            verdict: Some("held"),
            current: true,
            since_ms: Some(1_744_100_000_000),
            by: Some(By::Policy),
            who: Some("one".into()),
            note: None,
            why_not: Some("field `battery` cannot be read: it is written as string and read as int".into()),
            waiting: vec!["in/0 at 1200".into(), "in/3 at 1180".into()],
        };
        let owners = Row {
            id: 10,
            verdict: Some("refused"),
            by: Some(By::Owner),
            who: Some("ada".into()),
            note: Some("wait for spring".into()),
            current: false,
            why_not: None,
            waiting: Vec::new(),
            ..held.clone()
        };
        let unknown = Row {
            id: 11,
            verdict: None,
            since_ms: None,
            who: None,
            by: None,
            why_not: None,
            version: Some(4),
            deleted: true,
            waiting: Vec::new(),
            ..held.clone()
        };

        insta::assert_snapshot!(table(&[held, owners, unknown]), @r#"
        tenant zoo, source readings (on_new_schema = "hold")
               9  in-value version 3                        held       since 2025-04-08T08:13:20Z by the policy (one)
                  cannot be read: field `battery` cannot be read: it is written as string and read as int
                  waiting for a decision: in/0 at 1200, in/3 at 1180
              10  in-value version 3                        refused    since 2025-04-08T08:13:20Z by its owner (ada) (older file)
                  reason: wait for spring
              11  in-value version 4 (deleted)              undecided
        "#);
    }
}
