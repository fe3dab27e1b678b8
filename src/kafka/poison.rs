//! Below the record: a batch whose checksum fails, that cannot be decompressed, or whose form is unknown.
//!
//! librdkafka reports such a batch in the place of its records and goes on *behind* it. Whoever takes what comes next has skipped
//! records silently; so the report is a value, nothing of the partition is taken after it in the same poll, and the partition is held.

use rdkafka::error::RDKafkaErrorCode as Code;

use super::position::{Offset, TopicPartition};

/// A batch that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Where it lies.
    pub partition: TopicPartition,
    /// The offset that the client names: mostly the batch's first.
    pub offset: Offset,
    /// The client's words.
    pub cause: String,
}

/// Whether an error stands for a batch that cannot be read.
///
/// # Source
/// librdkafka's `rdkafka_msgset_reader.c`, `rdkafka_fetcher.c`.
pub fn is_poison(code: Code) -> bool {
    matches!(
        code,
        Code::BadMessage
            | Code::BadCompression
            | Code::NotImplemented
            | Code::CriticalSystemResource
            | Code::Underflow
            | Code::InvalidMessage
            | Code::MessageSizeTooLarge
    )
}
