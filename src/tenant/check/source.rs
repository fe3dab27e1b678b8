//! Sources: reader schema and columns, key, event time, bounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, SchemaRef};

use super::sql;
use crate::avro::ReaderSchema;
use crate::avro::encode::avro_name;
use crate::avro::lenient::{as_written, legal};
use crate::kafka::partitioner::Partitioner;
use crate::tenant::columns;
use crate::tenant::expression::types::sql_type;
use crate::tenant::expression::{Compiler, Expression};
use crate::tenant::file::RawSource;
use crate::tenant::located::{Findings, Located};
use crate::tenant::model::{Format, NonFinite, OnNewSchema, Source};
use crate::tenant::names;
use crate::tenant::subject::SubjectNaming;

/// How far ahead of its Kafka timestamp an event may be, unless declared.
const MAX_FUTURE: Duration = Duration::from_secs(600);

/// Longest value, unless declared: 1 MiB less 1 KiB, so that a dead letter of it with its headers fits a topic's default bound.
const RECORD_BYTES_MAX: usize = 1_048_576 - 1_024;

/// Bounds of `record_bytes_max`.
const RECORD_BYTES_RANGE: std::ops::RangeInclusive<usize> = 64..=64 * 1_048_576;

/// What is known of a source after its check; what was wrong is absent and reported.
pub(super) struct SourceDraft {
    pub(super) columns: Option<SourceColumns>,
    pub(super) key: Option<Expression>,
    event_time: Option<Expression>,
    name: String,
    topics: Vec<Arc<str>>,
    max_future: Duration,
    partitioner: Partitioner,
    non_finite: NonFinite,
    record_bytes_max: usize,
    format: Format,
    on_new_schema: OnNewSchema,
    subject: SubjectNaming,
    records: Vec<String>,
    schema_file: PathBuf,
}

/// The columns that expressions see.
pub(super) struct SourceColumns {
    pub(super) reader: Arc<ReaderSchema>,
    pub(super) schema: SchemaRef,
    pub(super) tenant_columns: usize,
    /// Fields that give no column, and why.
    pub(super) unusable: Vec<(String, String)>,
}

impl SourceDraft {
    /// The source, when nothing was wrong.
    pub(super) fn finish(self) -> Option<Source> {
        let columns = self.columns?;
        let reader = match self.subject.is_shared() {
            true => Arc::new(Arc::unwrap_or_clone(columns.reader).for_types(self.records.clone())),
            false => columns.reader,
        };
        Some(Source {
            name: self.name,
            topics: self.topics,
            reader,
            columns: columns.schema,
            tenant_columns: columns.tenant_columns,
            key: self.key?,
            event_time: self.event_time,
            max_future: self.max_future,
            partitioner: self.partitioner,
            non_finite: self.non_finite,
            record_bytes_max: self.record_bytes_max,
            format: self.format,
            on_new_schema: self.on_new_schema,
            subject: self.subject,
            records: self.records,
            schema_file: self.schema_file,
        })
    }
}

/// Checks one source of the tenant file at `path`.
pub(super) fn check(path: &Path, raw: &RawSource, compiler: &Compiler, findings: &mut Findings) -> SourceDraft {
    let columns = reader(path, raw, findings).and_then(|(reader, at)| source_columns(reader, &at, raw, findings));
    let (mut key, mut event_time) = (None, None);
    let records = columns.as_ref().map(|columns| records(raw, &columns.reader, findings)).unwrap_or_default();
    if let Some(columns) = &columns {
        key = raw.key.as_ref().and_then(|sql| key_of(sql, columns, compiler, findings));
        event_time = raw.event_time.as_ref().and_then(|sql| event_time_of(sql, columns, compiler, findings));
    }
    SourceDraft {
        columns,
        key,
        event_time,
        name: raw.name.value.clone(),
        topics: raw.topics.iter().map(|topic| topic.value.as_str().into()).collect(),
        max_future: raw.max_future.unwrap_or(MAX_FUTURE),
        partitioner: raw.partitioner.unwrap_or_default(),
        non_finite: raw.non_finite.unwrap_or(NonFinite::Refuse),
        record_bytes_max: raw.record_bytes_max.as_ref().map_or(RECORD_BYTES_MAX, |bytes| record_bytes_max(bytes, findings)),
        format: format(raw, findings),
        on_new_schema: raw.on_new_schema.unwrap_or_default(),
        subject: raw.subject.unwrap_or_default(),
        records,
        schema_file: schema_at(path, raw).map(|(_, file)| file).unwrap_or_default(),
    }
}

/// The declared format. Without registered schemas nothing can be said about them.
fn format(raw: &RawSource, findings: &mut Findings) -> Format {
    let format = raw.format.as_ref().map(|format| format.value).unwrap_or_default();
    if format.schemas().is_none() {
        for key in &raw.of_registry {
            let message =
                format!("`{}` says something about registered schemas; records of format \"{}\" have none", key.value, format.word());
            findings.fault(key, message).help("drop it; the reader schema alone says what is read");
        }
    }
    format
}

/// The record types that a source reads: those declared, else the reader schema's own.
fn records(raw: &RawSource, reader: &ReaderSchema, findings: &mut Findings) -> Vec<String> {
    let Some(first) = raw.records.first() else {
        return vec![reader.full_name()];
    };
    if !raw.subject.unwrap_or_default().is_shared() {
        findings
            .fault(
                first,
                "`records` says which of several record types in a topic are read, but this source's subjects are one for each topic",
            )
            .help(format!("add {}.subject = \"record\" or \"topic-record\", as the producers have it, or drop `records`", raw.name.key));
    }
    for record in &raw.records {
        if !reader.is_named_for(&legal(&record.value)) {
            findings
                .fault(
                    record,
                    format!(
                        "records of type `{}` can never be read with the reader schema, which is `{}`",
                        record.value,
                        as_written(&reader.full_name())
                    ),
                )
                .help("give the reader schema the other name as an alias, or declare a source of its own for it");
        }
    }
    raw.records.iter().map(|record| record.value.clone()).collect()
}

fn record_bytes_max(bytes: &Located<i64>, findings: &mut Findings) -> usize {
    match usize::try_from(bytes.value) {
        Ok(bytes) if RECORD_BYTES_RANGE.contains(&bytes) => bytes,
        _ => {
            let (low, high) = (RECORD_BYTES_RANGE.start(), RECORD_BYTES_RANGE.end());
            findings.fault(bytes, format!("must lie between {low} and {high} bytes, this is {}", bytes.value));
            RECORD_BYTES_MAX
        }
    }
}

/// The value of the tenant file that names the reader schema, and the schema's file.
fn schema_at(path: &Path, raw: &RawSource) -> Option<(Located<String>, PathBuf)> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let first_topic = raw.topics.first();
    let by_default = first_topic.map(|topic| topic.with(format!("../avro/{}-value.avsc", topic.value)));
    let at = raw.schema.clone().or(by_default)?;
    let file = folder.join(&at.value);
    Some((at, file))
}

/// The reader schema, and the value of the tenant file that names it.
fn reader(path: &Path, raw: &RawSource, findings: &mut Findings) -> Option<(ReaderSchema, Located<String>)> {
    let (at, file) = schema_at(path, raw)?;
    let json = match fs::read_to_string(&file) {
        Ok(json) => json,
        Err(error) => {
            let fault = findings.fault(&at, format!("the reader schema cannot be read from {}: {error}", file.display()));
            if raw.schema.is_none() {
                fault.help(format!("put it there, or say where it is: {}.schema = \"…\", relative to the tenant file", raw.name.key));
            }
            return None;
        }
    };
    match ReaderSchema::parse(json.strip_prefix('\u{feff}').unwrap_or(&json)) {
        Ok(reader) => Some((reader, at)),
        Err(why) => {
            findings.fault(&at, format!("the reader schema in {} does not serve: {why}", file.display()));
            None
        }
    }
}

fn source_columns(reader: ReaderSchema, at: &Located<String>, raw: &RawSource, findings: &mut Findings) -> Option<SourceColumns> {
    let faults_before = findings.faults.len();
    let renamed = |field: &str| raw.columns.iter().find(|(_, of)| of.value == field).map(|(new, _)| new);
    check_renames(&reader, raw, findings);
    let mut fields: Vec<Field> = Vec::with_capacity(reader.fields().len());
    for field in reader.fields() {
        let new_name = renamed(field.name());
        let name = new_name.map_or(field.name(), |new| &new.value).clone();
        if columns::SYSTEM.contains(&name.as_str()) {
            findings.fault(new_name.unwrap_or(at), format!("column `{name}` has the name of a system column")).help(format!(
                "rename it: {}.columns = {{ \"…\" = \"{}\" }}",
                raw.name.key,
                field.name()
            ));
        }
        if let Some(other) = fields.iter().find(|other| avro_name(other.name()) == avro_name(&name)) {
            let message = if *other.name() == name {
                format!("there is a column `{name}` already")
            } else {
                format!("columns `{}` and `{name}` have one name in Avro, `{}`", other.name(), avro_name(&name))
            };
            let others_name = raw.columns.iter().map(|(new, _)| new).find(|new| new.value == *other.name());
            findings.fault(new_name.or(others_name).unwrap_or(at), message).help("rename one of them to something else");
        }
        fields.push(field.as_ref().clone().with_name(name));
    }
    for (field, why) in reader.unusable() {
        findings.warn(at, format!("field `{field}` gives no column: {why}"));
    }
    for (field, logical_type) in reader.misplaced() {
        let message = format!("field `{field}` has its logicalType \"{logical_type}\" beside its type, where it means nothing");
        let inside = format!("{{\"type\": …, \"logicalType\": \"{logical_type}\"}}");
        findings.warn(at, format!("{message}: write it as \"type\": {inside}, here and in the writers' schemas"));
    }
    if findings.faults.len() > faults_before {
        return None;
    }
    let unusable = reader.unusable().to_vec();
    Some(SourceColumns { tenant_columns: fields.len(), schema: columns::with_system(fields), reader: Arc::new(reader), unusable })
}

fn check_renames(reader: &ReaderSchema, raw: &RawSource, findings: &mut Findings) {
    let known: Vec<&str> = reader.fields().iter().map(|field| field.name().as_str()).collect();
    for (index, (new, field)) in raw.columns.iter().enumerate() {
        if let Err(why) = names::check_column(&new.value) {
            findings.fault(new, why);
        }
        if raw.columns[..index].iter().any(|(_, earlier)| earlier.value == field.value) {
            findings.fault(field, format!("field `{}` has been renamed already", field.value));
        }
        if let Some((_, why)) = reader.unusable().iter().find(|(name, _)| *name == field.value) {
            findings.fault(field, format!("field `{}` cannot be used: {why}", field.value));
        } else if !known.contains(&field.value.as_str()) {
            let fault = findings.fault(field, format!("the reader schema has no field `{}`", field.value));
            if known.contains(&new.value.as_str()) {
                fault.help(format!("the new name stands first: {{ \"{}\" = \"{}\" }}", field.value, new.value));
            } else {
                fault.suggest(&field.value, known.iter().copied());
            }
        }
    }
}

fn key_of(sql: &Located<String>, columns: &SourceColumns, compiler: &Compiler, findings: &mut Findings) -> Option<Expression> {
    let key = sql::scalar(sql, columns, compiler, findings)?;
    if !is_text(key.data_type()) {
        findings
            .fault(sql, format!("the key must be text, this is {}", sql_type(key.data_type())))
            .help(format!("write CAST({} AS VARCHAR), if that is what the records' Kafka keys hold", sql.value));
        return None;
    }
    refuse_event_time("key", sql, &key, findings)?;
    Some(key)
}

fn event_time_of(sql: &Located<String>, columns: &SourceColumns, compiler: &Compiler, findings: &mut Findings) -> Option<Expression> {
    let event_time = sql::scalar(sql, columns, compiler, findings)?;
    refuse_event_time("event time", sql, &event_time, findings)?;
    let refuse = |findings: &mut Findings, message: String, help: String| findings.fault(sql, message).help(help);
    match event_time.data_type() {
        DataType::Timestamp(_, Some(_)) => return Some(event_time),
        DataType::Timestamp(_, None) => refuse(
            findings,
            "the event time is a timestamp without zone, so it names no instant".into(),
            format!("name its zone: {} AT TIME ZONE 'UTC', or 'Europe/Helsinki'", sql.value),
        ),
        DataType::Int64 | DataType::Int32 => refuse(
            findings,
            "the event time must be a timestamp, this is a number".into(),
            format!("if it counts milliseconds since 1970: to_timestamp_millis({}) AT TIME ZONE 'UTC'", sql.value),
        ),
        other => refuse(
            findings,
            format!("the event time must be a timestamp with a zone, this is {}", sql_type(other)),
            format!("if it is text with a zone, such as 2018-10-21T00:00:18Z: to_timestamp_micros({}) AT TIME ZONE 'UTC'", sql.value),
        ),
    }
    None
}

/// `_time` is computed after key and event time.
fn refuse_event_time(what: &str, sql: &Located<String>, expression: &Expression, findings: &mut Findings) -> Option<()> {
    if !expression.columns().iter().any(|column| column == columns::TIME) {
        return Some(());
    }
    let place = sql.value.find(columns::TIME).map(|byte| sql.value[..byte].chars().count() + 1);
    findings.fault_inside(sql, place, format!("the {what} cannot use `{}`, which is known after it", columns::TIME));
    None
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
