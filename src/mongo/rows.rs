//! What a sink asks of the layer that decodes: records in, documents out.

use mongodb::bson::RawDocumentBuf;
use mongodb::bson::raw::cstr;

use super::document::{Source, Update};
use crate::kafka::{Failure, Offset, Run, TopicDescription, TopicPartition};

/// Turns records into documents.
pub trait Rows: Send {
    /// Takes in what the topic of a partition is that is about to be read: it may have been widened, or made anew. Comes before the
    /// partition's first run.
    fn learn(&mut self, partition: &TopicPartition, topic: &TopicDescription);

    /// The documents of a run of one partition, in offset order.
    ///
    /// # Errors
    /// [`SinkFault`] when Testudo itself is at fault; records alone never cause one.
    fn rows(&mut self, run: &Run) -> Result<Batch, SinkFault>;

    /// Drops what is kept from one run to the next, which a panic may have left half done.
    fn forget(&mut self);
}

/// What became of records.
#[derive(Debug, Default)]
pub struct Batch {
    /// Documents to be written, in offset order within each partition.
    pub documents: Vec<Update>,
    /// Records that cannot become documents.
    pub set_aside: Vec<SetAside>,
    /// The record that has to wait for the verdict on its schema: nothing from it on was looked at.
    pub waiting_at: Option<Offset>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.set_aside.is_empty()
    }

    /// Takes what became of another partition's records in.
    pub fn append(&mut self, mut other: Self) {
        self.documents.append(&mut other.documents);
        self.set_aside.append(&mut other.set_aside);
    }
}

/// A record without a document: its collection gets none, `<collection>_set_aside` says why (C117).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The record.
    pub source: Source,
    /// A stable code.
    pub reason: &'static str,
    /// For people.
    pub detail: String,
    /// Bytes of the record or of the document that was too large.
    pub bytes: usize,
}

impl SetAside {
    /// The marker without its `_id`, which is [`Source::place`].
    pub fn marker(&self) -> RawDocumentBuf {
        let mut marker = RawDocumentBuf::new();
        marker.append(cstr!("reason"), self.reason);
        marker.append(cstr!("detail"), self.detail.as_str());
        marker.append(cstr!("bytes"), i64::try_from(self.bytes).unwrap_or(i64::MAX));
        marker
    }
}

/// A fault of the sink or its surroundings. Whatever it is, the sink goes back to the group's committed positions and tries again:
/// nothing was lost, and repeating changes nothing (SINK-1).
#[derive(Debug, thiserror::Error)]
pub enum SinkFault {
    /// The broker refuses.
    #[error(transparent)]
    Kafka(#[from] Failure),
    /// Records cannot be turned into documents.
    #[error("failed to make documents of records of {partition}: {cause}")]
    Rows {
        /// The partition.
        partition: String,
        /// What is wrong.
        cause: String,
    },
    /// A batch was given up before MongoDB took it: its partitions had to be released, or the sink was stopped.
    #[error("gave up a batch that MongoDB did not take in time; its records will be read again")]
    Abandoned,
    /// The task that writes ended without an answer.
    #[error("the task that writes to MongoDB ended without an answer; its records will be read again")]
    WriterGone,
    /// The sink may not work any more.
    #[error("{0}")]
    Superseded(String),
    /// A record came from a partition that was paused.
    #[error("{partition} delivered a record while it was paused; its records will be read again")]
    Stray {
        /// The partition.
        partition: String,
    },
    /// The sink panicked.
    #[error("the sink panicked: {0}; this is a defect of testudo, its records will be read again")]
    Panicked(String),
}
