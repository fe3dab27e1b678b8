//! Committed output records (window results, alerts) as documents.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Fields;

use super::column::ColumnFault;
use super::document::{Making, Shape, Source, Table, Times, Update};
use super::rows::{Batch, Rows, SetAside, SinkFault};
use crate::avro::frame::{self, SchemaId};
use crate::avro::{Accepted, Decoder, Gate, ReaderSchema, Verdict};
use crate::engine::rejection::header;
use crate::kafka::{RecordRef, Run, TopicDescription, TopicPartition};
use crate::tenant::Window;

/// What a result's text header may have.
const HEADER_BYTES_MAX: usize = 1_024;

/// Reads the records of one output topic.
pub struct ResultRows {
    kind: Kind,
    shape: Shape,
    reader: Arc<ReaderSchema>,
    gate: Arc<Gate>,
    topic_id: Arc<str>,
    decoders: HashMap<SchemaId, (Arc<Accepted>, Decoder)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Window,
    Alert,
}

/// Neighbouring records of one schema, by row in the run.
struct Stretch<'a> {
    accepted: Arc<Accepted>,
    datums: Vec<(usize, &'a [u8])>,
}

impl ResultRows {
    /// Rows of a window's results. `reader` is the schema of its output columns, `gate` stands in front of it, `topic_id` is the identity
    /// of the output topic.
    ///
    /// # Errors
    /// [`ColumnFault`] when a column cannot be in a document.
    pub fn of_window(window: &Window, reader: Arc<ReaderSchema>, gate: Arc<Gate>, topic_id: Arc<str>) -> Result<Self, ColumnFault> {
        Self::of_results(window.output.fields(), window.by.len(), reader, gate, topic_id)
    }

    fn of_results(fields: &Fields, by: usize, reader: Arc<ReaderSchema>, gate: Arc<Gate>, topic_id: Arc<str>) -> Result<Self, ColumnFault> {
        let shape = Shape::of_window(fields, by)?;
        Ok(Self { kind: Kind::Window, shape, reader, gate, topic_id, decoders: HashMap::new() })
    }

    /// Rows of an alert: `fields` are the columns that its records carry. The rest as in [`ResultRows::of_window`].
    ///
    /// # Errors
    /// [`ColumnFault`] when a column cannot be in a document.
    pub fn of_alert(fields: &Fields, reader: Arc<ReaderSchema>, gate: Arc<Gate>, topic_id: Arc<str>) -> Result<Self, ColumnFault> {
        let shape = Shape::of_records(fields)?;
        Ok(Self { kind: Kind::Alert, shape, reader, gate, topic_id, decoders: HashMap::new() })
    }

    fn source(&self, run: &Run, row: usize) -> Source {
        Source {
            topic: run.partition.topic.clone(),
            topic_id: self.topic_id.clone(),
            partition: run.partition.partition,
            offset: run.offsets()[row],
        }
    }

    fn set_aside(&self, run: &Run, row: usize, reason: &'static str, detail: String) -> SetAside {
        let bytes = run.record(row).value.map_or(0, <[u8]>::len);
        SetAside { source: self.source(run, row), reason, detail, bytes }
    }

    fn decode(&mut self, run: &Run, stretch: &Stretch<'_>, batch: &mut Batch) -> Result<(), SinkFault> {
        let fault = |cause: String| SinkFault::Rows { partition: run.partition.to_string(), cause };
        let decoder = decoder(&mut self.decoders, &stretch.accepted, &self.reader).map_err(fault)?;
        let decoded = decoder.decode(stretch.datums.iter().map(|(_, datum)| *datum)).map_err(|error| fault(error.to_string()))?;
        let table = self.shape.table(&decoded.rows).map_err(|error| fault(error.to_string()))?;
        let mut rejected = decoded.rejected.into_iter().peekable();
        let mut decoded_row = 0;
        for (index, (row, _)) in stretch.datums.iter().enumerate() {
            if let Some((_, detail)) = rejected.next_if(|(at, _)| *at == index) {
                batch.set_aside.push(self.set_aside(run, *row, "unresolvable-value", detail));
                continue;
            }
            match self.document(&table, decoded_row, run, *row, stretch.accepted.id) {
                Ok(update) => batch.documents.push(update),
                Err((reason, detail)) => batch.set_aside.push(self.set_aside(run, *row, reason, detail)),
            }
            decoded_row += 1;
        }
        Ok(())
    }

    fn document(&self, table: &Table<'_>, at: usize, run: &Run, row: usize, schema: SchemaId) -> Result<Update, (&'static str, String)> {
        let source = self.source(run, row);
        let record = run.record(row);
        let made = match self.kind {
            Kind::Window => table.window(at, &making(&record)?, schema.0, source),
            Kind::Alert => table.record(at, Times { event_us: None, kafka_ms: record.timestamp_ms }, schema.0, source),
        };
        made.map_err(|unstorable| ("unstorable-value", unstorable.to_string()))
    }
}

impl Rows for ResultRows {
    fn learn(&mut self, _: &TopicPartition, topic: &TopicDescription) {
        self.topic_id = topic.id.0.clone();
    }

    fn rows(&mut self, run: &Run) -> Result<Batch, SinkFault> {
        let mut batch = Batch::default();
        let mut stretch: Option<Stretch<'_>> = None;
        for row in 0..run.len() {
            let record = run.record(row);
            let Some(value) = record.value else { continue };
            let (id, datum) = match frame::parse(value) {
                Ok(framed) => framed,
                Err(fault) => {
                    batch.set_aside.push(self.set_aside(run, row, fault.reason(), fault.to_string()));
                    continue;
                }
            };
            if stretch.as_ref().is_some_and(|open| open.accepted.id != id)
                && let Some(ended) = stretch.take()
            {
                self.decode(run, &ended, &mut batch)?;
            }
            let accepted = match &stretch {
                Some(open) => open.accepted.clone(),
                None => match self.gate.verdict(id) {
                    Verdict::Accepted(accepted) => accepted,
                    Verdict::Pending | Verdict::Held { .. } => {
                        batch.waiting_at = Some(record.offset);
                        break;
                    }
                    Verdict::Missing { detail } => {
                        batch.set_aside.push(self.set_aside(run, row, "unknown-schema-id", detail));
                        continue;
                    }
                    Verdict::Refused { detail } | Verdict::OtherRecord { name: detail } => {
                        batch.set_aside.push(self.set_aside(run, row, "schema-refused", detail));
                        continue;
                    }
                },
            };
            match accepted.inspector.inspect(datum) {
                Ok(()) => stretch.get_or_insert_with(|| Stretch { accepted, datums: Vec::new() }).datums.push((row, datum)),
                Err(found) => batch.set_aside.push(self.set_aside(run, row, found.reason(), found.to_string())),
            }
        }
        if let Some(ended) = stretch {
            self.decode(run, &ended, &mut batch)?;
        }
        Ok(batch)
    }

    fn forget(&mut self) {
        self.decoders.clear();
    }
}

/// The decoder of a schema; made anew when the gate has judged the id anew.
fn decoder<'d>(
    decoders: &'d mut HashMap<SchemaId, (Arc<Accepted>, Decoder)>,
    accepted: &Arc<Accepted>,
    reader: &ReaderSchema,
) -> Result<&'d mut Decoder, String> {
    let is_current = decoders.get(&accepted.id).is_some_and(|(known, _)| Arc::ptr_eq(known, accepted));
    if !is_current {
        let made = Decoder::new(&accepted.schema, reader).map_err(|error| error.to_string())?;
        decoders.insert(accepted.id, (accepted.clone(), made));
    }
    decoders.get_mut(&accepted.id).map(|(_, decoder)| decoder).ok_or_else(|| "no decoder".to_owned())
}

/// What a window's result says about itself in its headers; a record without them was not produced by Testudo.
fn making(record: &RecordRef<'_>) -> Result<Making, (&'static str, String)> {
    let text = |name: &str| {
        let header = record.headers.iter().rfind(|header| header.name == name);
        let value = header.and_then(|header| header.value.as_deref()).filter(|value| value.len() <= HEADER_BYTES_MAX);
        value
            .and_then(|value| std::str::from_utf8(value).ok())
            .map(Arc::from)
            .ok_or_else(|| ("not-a-result", format!("the header {name} is missing or not text: the record was not produced by Testudo")))
    };
    Ok(Making { origin: text(header::ORIGIN)?, tenant_version: text(header::TENANT_VERSION)? })
}

#[cfg(test)]
#[path = "results_tests.rs"]
mod tests;
