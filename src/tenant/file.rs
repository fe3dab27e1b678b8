//! The raw shape of a tenant file: what may stand where, every value with its place, nothing judged yet but kinds and units.

use std::time::Duration;

use super::durations;
use super::located::{Findings, Located};
use super::model::{Emit, Format, NonFinite, OnNewSchema};
use super::section::Section;
use super::subject::SubjectNaming;
use super::tree::Table;
use crate::kafka::partitioner::Partitioner;

/// A whole file. Absent parts are absent, or wrong and already reported.
#[derive(Debug)]
pub(super) struct TenantFile {
    pub(super) tenant: Option<Located<String>>,
    pub(super) database: Option<Located<String>>,
    pub(super) sources: Vec<RawSource>,
    pub(super) alerts: Vec<RawAlert>,
    pub(super) windows: Vec<RawWindow>,
    pub(super) collections: Vec<RawCollection>,
}

/// `[source.<name>]`
#[derive(Debug)]
pub(super) struct RawSource {
    pub(super) name: Located<String>,
    pub(super) topics: Vec<Located<String>>,
    /// Path of the reader schema, relative to the tenant file's folder.
    pub(super) schema: Option<Located<String>>,
    /// New name, field.
    pub(super) columns: Vec<(Located<String>, Located<String>)>,
    pub(super) key: Option<Located<String>>,
    pub(super) event_time: Option<Located<String>>,
    pub(super) max_future: Option<Duration>,
    pub(super) partitioner: Option<Partitioner>,
    pub(super) non_finite: Option<NonFinite>,
    pub(super) record_bytes_max: Option<Located<i64>>,
    pub(super) format: Option<Located<Format>>,
    pub(super) on_new_schema: Option<OnNewSchema>,
    /// Keys that stand in the file and speak of registered schemas.
    pub(super) of_registry: Vec<Located<&'static str>>,
    pub(super) subject: Option<SubjectNaming>,
    /// Full names of record types.
    pub(super) records: Vec<Located<String>>,
}

/// `[alert.<name>]`
#[derive(Debug)]
pub(super) struct RawAlert {
    pub(super) name: Located<String>,
    pub(super) from: Option<Located<String>>,
    pub(super) filter: Option<Located<String>>,
    pub(super) topic: Option<Located<String>>,
}

/// `[window.<name>]`
#[derive(Debug)]
pub(super) struct RawWindow {
    pub(super) name: Located<String>,
    pub(super) from: Option<Located<String>>,
    pub(super) filter: Option<Located<String>>,
    pub(super) by: Vec<Located<String>>,
    pub(super) size: Option<Duration>,
    pub(super) grace: Option<Duration>,
    pub(super) emit: Emit,
    pub(super) topic: Option<Located<String>>,
    /// Name, expression.
    pub(super) select: Vec<(Located<String>, Located<String>)>,
}

/// `[mongo.<name>]`
#[derive(Debug)]
pub(super) struct RawCollection {
    pub(super) name: Located<String>,
    pub(super) from: Option<Located<String>>,
}

/// Reads the shape out of the tree.
pub(super) fn read(tree: &Table, findings: &mut Findings) -> TenantFile {
    let mut top = Section::top(tree);
    let tenant = top.required_text("tenant", "the tenant's name, which prefixes its topics and ids", findings);
    let database = top.text("database", findings);
    top.require("source", "a tenant reads at least one source, `[source.<name>]`");
    let sources: Vec<RawSource> =
        top.sections("source", findings).into_iter().map(|(name, section)| source(name, section, findings)).collect();
    if let (true, Some(at)) = (sources.is_empty(), top.place("source")) {
        findings.fault(&at, "must hold at least one source, `[source.<name>]`");
    }
    let alerts = top.sections("alert", findings).into_iter().map(|(name, section)| alert(name, section, findings)).collect();
    let windows = top.sections("window", findings).into_iter().map(|(name, section)| window(name, section, findings)).collect();
    let collections = top.sections("mongo", findings).into_iter().map(|(name, section)| collection(name, section, findings)).collect();
    top.finish(findings);
    TenantFile { tenant, database, sources, alerts, windows, collections }
}

fn source(name: Located<String>, mut section: Section<'_>, findings: &mut Findings) -> RawSource {
    let partitioners = [("murmur2", Partitioner::Murmur2), ("crc32", Partitioner::Crc32), ("none", Partitioner::None)];
    let non_finite = [("refuse", NonFinite::Refuse), ("accept", NonFinite::Accept)];
    let on_new_schema = [OnNewSchema::Compatible, OnNewSchema::Hold, OnNewSchema::Refuse].map(|policy| (policy.word(), policy));
    let subjects = [SubjectNaming::Topic, SubjectNaming::Record, SubjectNaming::TopicRecord].map(|naming| (naming.word(), naming));
    let of_registry = ["on_new_schema", "subject", "records"];
    let of_registry = of_registry.into_iter().filter_map(|key| Some(section.place(key)?.with(key))).collect();
    let formats = Format::ALL.map(|format| (format.word(), format));
    let source = RawSource {
        name,
        of_registry,
        format: placed_choice(&mut section, "format", &formats, findings),
        topics: section.required_texts("topics", "the input topics", findings),
        schema: section.text("schema", findings),
        columns: section.named_texts("columns", findings),
        key: section.required_text("key", "an expression that is each record's Kafka key", findings),
        event_time: section.text("event_time", findings),
        max_future: duration(&mut section, "max_future", durations::parse_above_zero, findings),
        partitioner: choice(&mut section, "partitioner", &partitioners, findings),
        non_finite: choice(&mut section, "non_finite", &non_finite, findings),
        record_bytes_max: section.integer("record_bytes_max", findings),
        on_new_schema: choice(&mut section, "on_new_schema", &on_new_schema, findings),
        subject: choice(&mut section, "subject", &subjects, findings),
        records: section.texts("records", "the full names of the record types to read", findings),
    };
    section.finish(findings);
    source
}

fn alert(name: Located<String>, mut section: Section<'_>, findings: &mut Findings) -> RawAlert {
    let alert = RawAlert {
        name,
        from: section.required_text("from", "the source to read", findings),
        filter: section.required_text("where", "the condition that lets a record out", findings),
        topic: section.required_text("topic", "the output topic", findings),
    };
    section.finish(findings);
    alert
}

fn window(name: Located<String>, mut section: Section<'_>, findings: &mut Findings) -> RawWindow {
    section.require("grace", "how long after its end a window waits for late records; \"0s\" for not at all");
    section.require("over", "the windows' length, such as { tumbling = \"1 minute\" }");
    section.require("select", "what is computed for each window");
    let emits = [("updates", Emit::Updates), ("final", Emit::Final)];
    let window = RawWindow {
        name,
        from: section.required_text("from", "the source to read", findings),
        filter: section.text("where", findings),
        by: section.required_texts("by", "the window's key, which contains the source's key", findings),
        size: section.section("over", findings).and_then(|over| size(over, findings)),
        grace: duration(&mut section, "grace", durations::parse, findings),
        emit: choice(&mut section, "emit", &emits, findings).unwrap_or(Emit::Updates),
        topic: section.required_text("topic", "the output topic", findings),
        select: section.named_texts("select", findings),
    };
    if let (true, Some(select)) = (window.select.is_empty(), section.place("select")) {
        findings.fault(&select, "must hold at least one text, such as total = \"count(*)\"");
    }
    section.finish(findings);
    window
}

fn collection(name: Located<String>, mut section: Section<'_>, findings: &mut Findings) -> RawCollection {
    let from = section.required_text("from", "the window, alert or source whose results are kept", findings);
    section.finish(findings);
    RawCollection { name, from }
}

/// `over = { tumbling = "1 minute" }`
fn size(mut over: Section<'_>, findings: &mut Findings) -> Option<Duration> {
    for kind in ["hopping", "session", "count"] {
        if let Some(at) = over.place(kind) {
            findings
                .fault(&at, format!("{kind} windows are not yet available"))
                .help("tumbling windows are: over = { tumbling = \"1 minute\" }");
            return None;
        }
    }
    over.require("tumbling", "the windows' length");
    let size = duration(&mut over, "tumbling", durations::parse_above_zero, findings);
    over.finish(findings);
    size
}

fn duration(
    section: &mut Section<'_>,
    key: &'static str,
    parse: fn(&str) -> Result<Duration, String>,
    findings: &mut Findings,
) -> Option<Duration> {
    let text = section.text(key, findings)?;
    parse(&text.value).map_err(|why| findings.fault(&text, why)).ok()
}

/// One of several words.
fn choice<T: Copy>(section: &mut Section<'_>, key: &'static str, known: &[(&'static str, T)], findings: &mut Findings) -> Option<T> {
    placed_choice(section, key, known, findings).map(|choice| choice.value)
}

/// One of several words, with its place.
fn placed_choice<T: Copy>(
    section: &mut Section<'_>,
    key: &'static str,
    known: &[(&'static str, T)],
    findings: &mut Findings,
) -> Option<Located<T>> {
    let text = section.text(key, findings)?;
    let found = known.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        findings.fault(&text, format!("`{}` is none of {}", text.value, words.join(", "))).suggest(&text.value, words);
    }
    found.map(|(_, choice)| text.with(*choice))
}
