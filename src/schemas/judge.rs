//! What a writer schema means for one source of a tenant: whether its records can be read, and if not, which field and which
//! expression of the tenant file are at fault; if so, what would be read instead of what is written. Pure: facts in, [`Judgement`] out.
//!
//! Rows are always resolved to the reader schema, so an expression never meets a column that is missing or of another type. What
//! can change under it are values: a column that a new version no longer feeds is its default in every row.

use std::collections::HashMap;
use std::fmt;

use apache_avro::Schema;
use datafusion_physical_expr::utils::collect_columns;
use serde::{Deserialize, Serialize};

use crate::avro::gate::check_kind;
use crate::avro::lenient::as_written;
use crate::avro::registry::FetchedSchema;
use crate::avro::resolve::{ColumnAccount, Origin, account};
use crate::avro::{SchemaFault, SchemaLimits, check_readable};
use crate::tenant::{Expression, Tenant};

/// Whether records of a schema can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readability {
    /// Every record can be read, apart from values named in the changes.
    Readable,
    /// No record can be read.
    Unreadable,
}

/// The judgement on a writer schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Whether its records can be read.
    pub verdict: Readability,
    /// Why not: everything that is wrong, with its place. Empty when they can be read.
    pub reasons: Vec<Finding>,
    /// What would be read instead of what is written, column by column; and what would not be read at all.
    pub changes: Vec<Finding>,
}

/// Something about a writer schema, and where it matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The field, by its path in the reader schema (of the writer schema, when the reader has none such); empty: the schema as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The tenant's name of the column, where it has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What is the matter, and what to do where there is something to do.
    pub text: String,
    /// The places of the tenant file that use the column, such as `alert.battery_low.where: battery < 2000`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
}

impl Judgement {
    /// Whether records can be read.
    pub fn is_readable(&self) -> bool {
        self.verdict == Readability::Readable
    }

    fn unreadable(reasons: Vec<Finding>, changes: Vec<Finding>) -> Self {
        Self { verdict: Readability::Unreadable, reasons, changes }
    }

    /// The reasons in one line; empty when records can be read.
    pub fn why_not(&self) -> String {
        self.reasons.iter().map(Finding::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.field, &self.column) {
            (field, _) if field.is_empty() => write!(f, "{}", self.text)?,
            (field, None) => write!(f, "field `{field}` {}", self.text)?,
            (field, Some(column)) => write!(f, "field `{field}` (column `{column}`) {}", self.text)?,
        }
        match self.used_by.is_empty() {
            true => Ok(()),
            false => write!(f, " [used by {}]", self.used_by.join(", ")),
        }
    }
}

/// Judges a schema as it was fetched, or as it stands in a file that is not registered yet: its bounds first, then [`judge`].
/// Panics when the tenant has no such source.
pub fn judge_fetched(fetched: &FetchedSchema, limits: &SchemaLimits, tenant: &Tenant, source: usize) -> Judgement {
    let mut judgement = judge_reworded(fetched, limits, tenant, source);
    for finding in judgement.reasons.iter_mut().chain(&mut judgement.changes) {
        (finding.field, finding.text) = (as_written(&finding.field), as_written(&finding.text));
    }
    judgement
}

fn judge_reworded(fetched: &FetchedSchema, limits: &SchemaLimits, tenant: &Tenant, source: usize) -> Judgement {
    let declared = tenant.sources[source].format.schemas().unwrap_or_default();
    if let Err(why) = check_kind(fetched.kind, declared) {
        return Judgement::unreadable(vec![whole(why)], Vec::new());
    }
    match fetched.parse_for(&tenant.sources[source].reader, limits) {
        Ok(writer) => judge(&writer, tenant, source),
        Err(fault) => Judgement::unreadable(vec![whole(fault.to_string())], Vec::new()),
    }
}

/// Judges a parsed writer schema for `tenant.sources[source]`. Panics when the tenant has no such source.
pub fn judge(writer: &Schema, tenant: &Tenant, source: usize) -> Judgement {
    let reader = &tenant.sources[source].reader;
    let readable = check_readable(writer, reader);
    let account = match account(writer, reader) {
        Ok(account) => account,
        Err(fault) => return Judgement::unreadable(vec![finding_of(&readable.err().unwrap_or(fault))], Vec::new()),
    };
    let uses = uses_of(tenant, source);
    let columns = &tenant.sources[source].columns;
    let place = |at: usize, path: &str, text: String| {
        let name = columns.fields().get(at).map(|field| field.name().clone()).unwrap_or_default();
        let used_by = uses.get(&name).cloned().unwrap_or_default();
        let top = path.split('.').next().unwrap_or_default();
        Finding { field: path.to_owned(), column: (name != top).then_some(name), text, used_by }
    };
    let (mut reasons, mut changes) = (Vec::new(), Vec::new());
    for (at, column) in account.columns.iter().enumerate() {
        match &column.origin {
            Origin::Nothing { path, why } => reasons.push(place(at, path, format!("cannot be read: {why}"))),
            _ if column.is_as_written() => {}
            _ => changes.extend(changes_of(column).into_iter().map(|text| place(at, &column.field, text))),
        }
    }
    changes.extend(account.unread.iter().map(|(field, written_as)| Finding {
        field: field.clone(),
        column: None,
        text: format!("is written as {written_as} and not read: the reader schema has no such field"),
        used_by: Vec::new(),
    }));
    match readable {
        Ok(()) => Judgement { verdict: Readability::Readable, reasons, changes },
        // The check has the last word, whatever the account found.
        Err(fault) if reasons.is_empty() => Judgement::unreadable(vec![finding_of(&fault)], changes),
        Err(_) => Judgement::unreadable(reasons, changes),
    }
}

fn changes_of(column: &ColumnAccount) -> Vec<String> {
    let read_as = &column.read_as;
    let origin = match &column.origin {
        Origin::Default { value } => Some(format!("is not written: every row would hold the reader's default, {value}")),
        Origin::Written { field, written_as } if *field != column.field => {
            Some(format!("is written as field `{field}`, {written_as}, and read as {read_as}"))
        }
        Origin::Written { written_as, .. } if written_as != read_as => Some(format!("is written as {written_as} and read as {read_as}")),
        Origin::Written { .. } | Origin::Nothing { .. } => None,
    };
    let refused = column.refused_values.iter().map(|value| format!("has values that would be refused one by one: {value}"));
    origin.into_iter().chain(refused).collect()
}

fn finding_of(fault: &SchemaFault) -> Finding {
    match fault {
        SchemaFault::Unreadable { field, why } => {
            Finding { field: field.clone(), column: None, text: format!("cannot be read: {why}"), used_by: Vec::new() }
        }
        other => whole(other.to_string()),
    }
}

fn whole(text: String) -> Finding {
    Finding { field: String::new(), column: None, text, used_by: Vec::new() }
}

/// For each column of a source, the places of the tenant file that use it: key and text.
pub fn uses_of(tenant: &Tenant, source: usize) -> HashMap<String, Vec<String>> {
    let mut uses: HashMap<String, Vec<String>> = HashMap::new();
    for (key, text, columns) in places(tenant, source) {
        for column in columns {
            uses.entry(column).or_default().push(format!("{key}: {text}"));
        }
    }
    uses
}

/// Every expression over a source's columns, in the order of the tenant file: its key in the file, its text, its columns.
pub(super) fn places(tenant: &Tenant, source: usize) -> Vec<(String, String, Vec<String>)> {
    let of = |key: String, expression: &Expression| (key, expression.sql().to_owned(), expression.columns().to_vec());
    let declared = &tenant.sources[source];
    let mut places = vec![of(format!("source.{}.key", declared.name), &declared.key)];
    places.extend(declared.event_time.iter().map(|expression| of(format!("source.{}.event_time", declared.name), expression)));
    for alert in tenant.alerts.iter().filter(|alert| alert.source == source) {
        places.push(of(format!("alert.{}.where", alert.name), &alert.filter));
    }
    for window in tenant.windows.iter().filter(|window| window.source == source) {
        places.extend(window.filter.iter().map(|filter| of(format!("window.{}.where", window.name), filter)));
        places.extend(window.by.iter().map(|part| of(format!("window.{}.by", window.name), &part.expression)));
        for aggregate in &window.aggregates {
            let arguments = aggregate.arguments.iter().flat_map(collect_columns).map(|column| column.name().to_owned());
            let mut columns: Vec<String> = arguments.chain(aggregate.filter.iter().flat_map(|filter| filter.columns().to_vec())).collect();
            columns.sort_unstable();
            columns.dedup();
            places.push((format!("window.{}.select", window.name), aggregate.sql.clone(), columns));
        }
    }
    places
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
