//! What can go wrong while emulating, told apart by who can help.

use std::path::PathBuf;

use crate::kafka::Failure;

/// A failed emulation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The schema is not Avro, or not one that records can be made up for.
    #[error("cannot make up records for topic {topic}: {why}")]
    Schema {
        /// The topic the schema is for.
        topic: String,
        /// What is wrong with it.
        why: String,
    },
    /// A setting is out of its range.
    #[error("emulation setting {setting}: {why}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The CSV file cannot be opened or read.
    #[error("failed to read {}: {cause}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The reader's words.
        cause: csv::Error,
    },
    /// A row of the CSV file does not fit the schema.
    #[error("{} line {line}, column {column}: {why}", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// Line number from 1.
        line: u64,
        /// The column's name in the schema.
        column: String,
        /// What is wrong with the cell.
        why: String,
    },
    /// A made-up value could not be encoded.
    #[error("failed to encode a record for topic {topic}: {cause}")]
    Encode {
        /// The topic.
        topic: String,
        /// The encoder's words.
        cause: Box<apache_avro::Error>,
    },
    /// The broker refused or did not answer.
    #[error(transparent)]
    Broker(#[from] Failure),
    /// The broker refused some records after they had been queued.
    #[error("{failed} of {sent} records for topic {topic} were not delivered; first cause: {cause}")]
    Undelivered {
        /// The topic.
        topic: String,
        /// Records queued.
        sent: u64,
        /// Records not acknowledged.
        failed: u64,
        /// The client's words for the first of them.
        cause: String,
    },
    /// A client's thread ended by panic.
    #[error("the thread of {client} panicked")]
    Panicked {
        /// The client's name.
        client: String,
    },
}
