//! Admitted input records as documents: the engine's own admission decides what is in (docs/semantics.md, "Admission").

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::FieldRef;

use super::column::ColumnFault;
use super::document::{Shape, Source, Times};
use super::rows::{Batch, Rows, SetAside, SinkFault};
use crate::engine::admit::Admission;
use crate::kafka::Run;

/// An input topic, as far as its readings need it.
#[derive(Clone, Debug)]
pub struct InputTopic {
    /// Its identity.
    pub id: Arc<str>,
    /// Its partitions (KEY-1).
    pub partitions: i32,
}

/// Reads the records of one source.
pub struct ReadingRows {
    admission: Admission,
    shape: Shape,
    topics: HashMap<Arc<str>, InputTopic>,
}

impl ReadingRows {
    /// Rows of a source: `columns` are the tenant's columns of it, without the system's.
    ///
    /// # Errors
    /// [`ColumnFault`] when a column cannot be in a document.
    pub fn new(admission: Admission, columns: &[FieldRef], topics: HashMap<Arc<str>, InputTopic>) -> Result<Self, ColumnFault> {
        Ok(Self { admission, shape: Shape::of_records(columns)?, topics })
    }
}

impl Rows for ReadingRows {
    fn rows(&mut self, run: &Run) -> Result<Batch, SinkFault> {
        let fault = |cause: String| SinkFault::Rows { partition: run.partition.to_string(), cause };
        let topic = self.topics.get(&run.partition.topic).ok_or_else(|| fault("the topic is not the source's".into()))?;
        let admitted = self.admission.admit(run, topic.partitions).map_err(|error| fault(error.to_string()))?;
        // What is refused is the engine's to report: it has become a dead letter.
        let mut batch = Batch { waiting_at: admitted.waiting_at.map(|(offset, _)| offset), ..Batch::default() };
        let table = self.shape.table(&admitted.rows).map_err(|error| fault(error.to_string()))?;
        for (row, record) in admitted.records.iter().enumerate() {
            let record = *record as usize;
            let source = Source {
                topic: run.partition.topic.clone(),
                topic_id: topic.id.clone(),
                partition: run.partition.partition,
                offset: run.offsets()[record],
            };
            let times = Times { event_us: Some(admitted.times_us.value(row)), kafka_ms: run.timestamps_ms()[record] };
            match table.record(row, times, admitted.schema_ids.value(row), source.clone()) {
                Ok(update) => batch.documents.push(update),
                Err(unstorable) => batch.set_aside.push(SetAside {
                    source,
                    reason: "unstorable-value",
                    detail: unstorable.to_string(),
                    bytes: run.record(record).value.map_or(0, <[u8]>::len),
                }),
            }
        }
        Ok(batch)
    }
}
