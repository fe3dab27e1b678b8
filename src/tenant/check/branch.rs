//! Branches: alerts and windows over a source that may itself be partly wrong.

use arrow::datatypes::Schema;

use super::group::{self, RESERVED};
use super::source::{SourceColumns, SourceDraft};
use super::sql;
use crate::avro::encode::{EncodeFault, avro_name, avro_schema_of};
use crate::tenant::aggregate::CompiledSelect;
use crate::tenant::durations;
use crate::tenant::expression::{Compiler, Expression};
use crate::tenant::file::{RawAlert, RawSource, RawWindow};
use crate::tenant::located::{Findings, Located};
use crate::tenant::model::{Alert, GroupColumn, Window};
use crate::tenant::names;

/// Checks an alert.
pub(super) fn alert(
    raw: &RawAlert,
    raw_sources: &[RawSource],
    sources: &[SourceDraft],
    compiler: &Compiler,
    findings: &mut Findings,
) -> Option<Alert> {
    let source = source_of(raw.from.as_ref()?, raw_sources, findings)?;
    let columns = sources[source].columns.as_ref()?;
    let filter = sql::condition(raw.filter.as_ref()?, columns, compiler, findings)?;
    let tenant_columns = Schema::new(columns.schema.fields()[..columns.tenant_columns].to_vec());
    check_output(&tenant_columns, raw.topic.as_ref()?, &[], findings);
    Some(Alert { name: raw.name.value.clone(), source, filter, topic: raw.topic.as_ref()?.value.as_str().into() })
}

/// Checks a window.
pub(super) fn window(
    raw: &RawWindow,
    raw_sources: &[RawSource],
    sources: &[SourceDraft],
    compiler: &Compiler,
    findings: &mut Findings,
) -> Option<Window> {
    let source = source_of(raw.from.as_ref()?, raw_sources, findings)?;
    let columns = sources[source].columns.as_ref()?;
    let filter = raw.filter.as_ref().map(|filter| sql::condition(filter, columns, compiler, findings));
    let by = group::check(raw, &raw_sources[source], &sources[source], columns, compiler, findings);
    let items = select_items(raw, &by, findings);
    let compiled = select(raw, &items, &by, columns, compiler, findings)?;
    check_output(&compiled.output, raw.topic.as_ref()?, &raw.select, findings);
    Some(Window {
        name: raw.name.value.clone(),
        source,
        filter: match filter {
            Some(compiled) => Some(compiled?),
            None => None,
        },
        by: by.into_iter().map(|(name, expression)| GroupColumn { name, expression }).collect(),
        size_us: durations::micros(raw.size?),
        grace_us: durations::micros(raw.grace?),
        emit: raw.emit,
        topic: raw.topic.as_ref()?.value.as_str().into(),
        aggregates: compiled.aggregates,
        state: compiled.state,
        finished: compiled.finished,
        select: compiled.select,
        output: compiled.output,
    })
}

/// Compiles the items of `select`, all of them.
fn select(
    raw: &RawWindow,
    items: &[(String, String)],
    by: &[(String, Expression)],
    columns: &SourceColumns,
    compiler: &Compiler,
    findings: &mut Findings,
) -> Option<CompiledSelect> {
    let sql_of = |name: &str| raw.select.iter().find(|(item, _)| item.value == name).map(|(_, sql)| sql);
    match compiler.select(items, &columns.schema, by) {
        Ok(compiled) => {
            for (name, text) in &compiled.warnings {
                if let Some(sql) = sql_of(name) {
                    findings.warn(sql, text.as_str());
                }
            }
            Some(compiled)
        }
        Err(faults) => {
            for (name, fault) in faults {
                if let Some(sql) = sql_of(&name) {
                    sql::report(fault, sql, columns, findings);
                }
            }
            None
        }
    }
}

/// What is let out must have an Avro form; the fault is the item's where it is known which.
fn check_output(output: &Schema, topic: &Located<String>, select: &[(Located<String>, Located<String>)], findings: &mut Findings) {
    let Err(fault) = avro_schema_of("output", "", output) else { return };
    let item = match &fault {
        EncodeFault::Type { column, .. } => {
            select.iter().find(|(name, _)| *column == name.value || column.starts_with(&format!("{}.", name.value)))
        }
        _ => None,
    };
    findings.fault(item.map_or(topic, |(_, sql)| sql), fault.to_string());
}

/// Index of the source that `from` names.
fn source_of(from: &Located<String>, raw_sources: &[RawSource], findings: &mut Findings) -> Option<usize> {
    let found = raw_sources.iter().position(|source| source.name.value == from.value);
    if found.is_none() {
        findings
            .fault(from, format!("there is no source `{}`", from.value))
            .suggest(&from.value, raw_sources.iter().map(|source| source.name.value.as_str()));
    }
    found
}

/// The items of `select` whose names are right.
fn select_items(raw: &RawWindow, by: &[(String, Expression)], findings: &mut Findings) -> Vec<(String, String)> {
    let mut items: Vec<(String, String)> = Vec::with_capacity(raw.select.len());
    for (name, sql) in &raw.select {
        let in_avro = avro_name(&name.value);
        let taken = by.iter().map(|(name, _)| name).chain(items.iter().map(|(name, _)| name)).find(|other| avro_name(other) == in_avro);
        if let Err(why) = names::check_column(&name.value) {
            findings.fault(name, why);
        } else if RESERVED.contains(&in_avro.as_str()) {
            findings.fault(name, format!("`{}` is a name of the results' own", name.value)).help("choose another");
        } else if let Some(other) = taken {
            let message = if *other == name.value {
                format!("`{other}` is the name of a `by` column already")
            } else {
                format!("`{}` and `{other}` have one name in Avro, `{in_avro}`", name.value)
            };
            findings.fault(name, message).help("choose another");
        } else {
            items.push((name.value.clone(), sql.value.clone()));
        }
    }
    items
}
