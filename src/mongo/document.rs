//! Rows as documents (docs/semantics.md, "MongoDB"): what becomes of a window's result, an alert, a reading. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Fields};
use mongodb::bson::raw::{CStr, CString, cstr};
use mongodb::bson::{DateTime, RawBsonRef, RawDocumentBuf};

use super::column::{Column, ColumnFault, Unstorable, field_name, finer_than_dates};

/// Field names that a window's document has for itself.
const WINDOW_NAMES: [&str; 5] = ["_id", "origin", "tenant_version", "schema_id", "source"];

/// Field names that a record's document has for itself.
const RECORD_NAMES: [&str; 5] = ["_id", "event_time", "timestamp", "schema_id", "source"];

/// The part of a window's `_id` that is not a `by` column.
const WINDOW_ID_NAME: &CStr = cstr!("window");

/// The record that a document comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its topic.
    pub topic: Arc<str>,
    /// The topic's identity: a topic made anew has another, and its offsets begin again.
    pub topic_id: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

impl Source {
    /// `{topic, partition, offset}`: the `_id` of a record's document.
    pub fn place(&self) -> RawDocumentBuf {
        let mut place = RawDocumentBuf::new();
        place.append(cstr!("topic"), &*self.topic);
        place.append(cstr!("partition"), self.partition);
        place.append(cstr!("offset"), self.offset);
        place
    }

    /// Whether a document from here takes the place of one from `stored`. The server decides the same way: see
    /// [`super::statement`].
    pub fn is_newer_than(&self, stored: &Self) -> bool {
        self.topic_id != stored.topic_id || (self.partition == stored.partition && self.offset > stored.offset)
    }

    fn document(&self) -> RawDocumentBuf {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("topic"), &*self.topic);
        document.append(cstr!("topic_id"), &*self.topic_id);
        document.append(cstr!("partition"), self.partition);
        document.append(cstr!("offset"), self.offset);
        document
    }
}

/// When a document may replace the one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A window's result: newer replaces older, within one origin (input topic and partition).
    Newest {
        /// The origin, as `<input topic>/<partition>`.
        origin: Arc<str>,
    },
    /// A record never changes; only a topic made anew has another record in the same place.
    Once,
}

/// One document to be written.
#[derive(Clone, Debug)]
pub struct Update {
    /// The value of its `_id`.
    pub id: RawDocumentBuf,
    /// The whole document, `_id` first.
    pub document: RawDocumentBuf,
    /// When it may replace the one that is there.
    pub rule: Rule,
    /// Where it comes from.
    pub source: Source,
}

/// What a result's record says about its making.
#[derive(Clone, Debug)]
pub struct Making {
    /// Input topic and partition.
    pub origin: Arc<str>,
    /// Version of the tenant file.
    pub tenant_version: Arc<str>,
}

/// The times of a record.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Event time in microseconds since 1970, where it is known.
    pub event_us: Option<i64>,
    /// Kafka timestamp in milliseconds since 1970, below zero where there is none.
    pub kafka_ms: i64,
}

/// How rows of one kind become documents: names, and how many columns make the `_id`.
#[derive(Debug)]
pub struct Shape {
    fields: Vec<(FieldRef, CString)>,
    by: usize,
}

impl Shape {
    /// The shape of a window's results: `by` key columns, `window_start`, `window_end`, then what the tenant selected.
    ///
    /// # Errors
    /// [`ColumnFault`] when a column has a name that documents need for themselves.
    pub fn of_window(fields: &Fields, by: usize) -> Result<Self, ColumnFault> {
        for field in fields.iter().take(by) {
            // The server would take `{$…}` in an `_id` for an operator.
            if field.name() == WINDOW_ID_NAME.as_str() || field.name().starts_with('$') {
                return Err(taken(field.name(), "the `_id` of a window's document"));
            }
        }
        Self::new(fields, by, &WINDOW_NAMES, "a window's document")
    }

    /// The shape of readings and alerts: the source's columns.
    ///
    /// # Errors
    /// [`ColumnFault`] when a column has a name that documents need for themselves.
    pub fn of_records(fields: &[FieldRef]) -> Result<Self, ColumnFault> {
        Self::new(fields, 0, &RECORD_NAMES, "a record's document")
    }

    fn new(fields: &[FieldRef], by: usize, names: &[&str], whose: &str) -> Result<Self, ColumnFault> {
        let named = |field: &FieldRef| match names.contains(&field.name().as_str()) {
            true => Err(taken(field.name(), whose)),
            false => Ok((field.clone(), field_name(field.name())?)),
        };
        Ok(Self { fields: fields.iter().map(named).collect::<Result<_, _>>()?, by })
    }

    /// Looks at a batch whose columns are the shape's, by position.
    ///
    /// # Errors
    /// [`ColumnFault`] when a column's type has no BSON form.
    pub fn table(&self, rows: &RecordBatch) -> Result<Table<'_>, ColumnFault> {
        let columns = self.fields.iter().zip(rows.columns());
        let keys = rows.columns().iter().zip(&self.fields).take(if self.by == 0 { 0 } else { self.by + 1 });
        let fine = keys.flat_map(|(array, (field, _))| finer_than_dates(array).into_iter().map(|row| (row, field.name().clone())));
        let fine = fine.collect();
        Ok(Table { shape: self, columns: columns.map(|((field, _), array)| Column::new(field, array)).collect::<Result<_, _>>()?, fine })
    }
}

fn taken(column: &str, whose: &str) -> ColumnFault {
    ColumnFault { column: column.to_owned(), cause: format!("{whose} has a field of that name: rename the column in the tenant file") }
}

/// A batch of rows, ready to become documents.
pub struct Table<'s> {
    shape: &'s Shape,
    columns: Vec<Column>,
    /// Rows whose key has no date that is its own, and the column.
    fine: HashMap<usize, String>,
}

impl Table<'_> {
    /// The document of a window's result.
    ///
    /// # Errors
    /// [`Unstorable`] when BSON cannot hold a value.
    pub fn window(&self, row: usize, making: &Making, schema_id: u32, source: Source) -> Result<Update, Unstorable> {
        if let Some(column) = self.fine.get(&row) {
            return Err(Unstorable::Fine { column: column.clone() });
        }
        let mut id = RawDocumentBuf::new();
        self.put(row, 0..self.shape.by, &mut id)?;
        self.columns[self.shape.by].value(row)?.put(&mut id, WINDOW_ID_NAME);
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("_id"), &id);
        self.put(row, self.shape.by..self.columns.len(), &mut document)?;
        document.append(cstr!("origin"), &*making.origin);
        document.append(cstr!("tenant_version"), &*making.tenant_version);
        document.append(cstr!("schema_id"), as_registered(schema_id));
        document.append(cstr!("source"), source.document());
        Ok(Update { id, document, rule: Rule::Newest { origin: making.origin.clone() }, source })
    }

    /// The document of a reading or an alert.
    ///
    /// # Errors
    /// [`Unstorable`] when BSON cannot hold a value.
    pub fn record(&self, row: usize, times: Times, schema_id: u32, source: Source) -> Result<Update, Unstorable> {
        let id = source.place();
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("_id"), &id);
        self.put(row, 0..self.columns.len(), &mut document)?;
        if let Some(event_us) = times.event_us {
            document.append(cstr!("event_time"), DateTime::from_millis(event_us.div_euclid(1_000)));
        }
        let timestamp = if times.kafka_ms < 0 { RawBsonRef::Null } else { RawBsonRef::DateTime(DateTime::from_millis(times.kafka_ms)) };
        document.append(cstr!("timestamp"), timestamp);
        document.append(cstr!("schema_id"), as_registered(schema_id));
        // The rest of the source is in `_id` already.
        let mut topic = RawDocumentBuf::new();
        topic.append(cstr!("topic_id"), &*source.topic_id);
        document.append(cstr!("source"), topic);
        Ok(Update { id, document, rule: Rule::Once, source })
    }

    fn put(&self, row: usize, columns: std::ops::Range<usize>, document: &mut RawDocumentBuf) -> Result<(), Unstorable> {
        for index in columns {
            self.columns[index].value(row)?.put(document, &self.shape.fields[index].1);
        }
        Ok(())
    }
}

/// Registries number schemas with signed ints.
fn as_registered(schema_id: u32) -> i32 {
    schema_id.cast_signed()
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
