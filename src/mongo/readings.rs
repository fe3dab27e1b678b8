//! Admitted input records as documents: the engine's own admission decides what is in (docs/semantics.md, "Admission").

use std::collections::HashMap;

use arrow::datatypes::FieldRef;

use super::column::ColumnFault;
use super::document::{Shape, Source, Times};
use super::rows::{Batch, Rows, SetAside, SinkFault};
use crate::engine::admit::Admission;
use crate::kafka::{Run, TopicDescription, TopicPartition};

/// Reads the records of one source.
pub struct ReadingRows {
    admission: Admission,
    shape: Shape,
    /// The topic of each partition as it was when that was assigned: the engine, too, places keys by this (KEY-1).
    topics: HashMap<TopicPartition, TopicDescription>,
}

impl ReadingRows {
    /// Rows of a source: `columns` are the tenant's columns of it, without the system's.
    ///
    /// # Errors
    /// [`ColumnFault`] when a column cannot be in a document.
    pub fn new(admission: Admission, columns: &[FieldRef]) -> Result<Self, ColumnFault> {
        Ok(Self { admission, shape: Shape::of_records(columns)?, topics: HashMap::new() })
    }
}

impl Rows for ReadingRows {
    fn learn(&mut self, partition: &TopicPartition, topic: &TopicDescription) {
        self.topics.insert(partition.clone(), topic.clone());
    }

    fn rows(&mut self, run: &Run) -> Result<Batch, SinkFault> {
        let fault = |cause: String| SinkFault::Rows { partition: run.partition.to_string(), cause };
        let topic = self.topics.get(&run.partition).ok_or_else(|| fault("its topic was not looked up".into()))?;
        let admitted = self.admission.admit(run, topic.partitions).map_err(|error| fault(error.to_string()))?;
        // What is refused is the engine's to report: it has become a dead letter.
        let mut batch = Batch { waiting_at: admitted.waiting_at.map(|(offset, _)| offset), ..Batch::default() };
        let table = self.shape.table(&admitted.rows).map_err(|error| fault(error.to_string()))?;
        for (row, record) in admitted.records.iter().enumerate() {
            let record = *record as usize;
            let source = Source {
                topic: run.partition.topic.clone(),
                topic_id: topic.id.0.clone(),
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

    fn forget(&mut self) {
        self.admission.forget();
    }
}
