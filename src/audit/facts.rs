//! What is compared: everything that should be there, and everything that is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::history::History;
use crate::kafka::TopicPartition;

/// One record of a topic as it was read.
#[derive(Clone, Debug)]
pub struct InputRecord {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp in milliseconds, -1 where it has none.
    pub timestamp_ms: i64,
    /// Key bytes.
    pub key: Option<Vec<u8>>,
    /// Value bytes.
    pub value: Option<Vec<u8>>,
    /// Headers, in order; a value may be null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl InputRecord {
    /// The text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(found.1.as_deref().unwrap_or_default()).ok()
    }

    /// Topic, partition and offset.
    pub fn place(&self) -> Place {
        Place { partition: self.partition.clone(), offset: self.offset }
    }
}

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset.
    pub offset: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// What makes two alert records the same one: key, Kafka timestamp, place; their values are compared within it.
pub type Identity = u128;

/// Alert records of one topic by identity: hashes of their values, and where each came from or stands.
pub type Alerts = HashMap<Identity, Vec<(u128, Place)>>;

/// A window of one key over one input partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowId {
    /// Index of the window's declaration.
    pub window: usize,
    /// The input partition.
    pub origin: TopicPartition,
    /// Its start in microseconds since 1970.
    pub start_us: i64,
    /// The Kafka key of its results.
    pub key: Arc<[u8]>,
}

/// What a window should have come to.
#[derive(Clone, Debug)]
pub struct ExpectedWindow {
    /// Hash of the result after all its records.
    pub result: u128,
    /// The values of that result, for people.
    pub text: String,
    /// Hashes of the results after each record, of windows that report updates.
    pub after_each: Vec<u128>,
    /// Whether stream time has closed it.
    pub is_closed: bool,
    /// The parts of its key as the store has them.
    pub store_key: Vec<String>,
}

/// What is known of a dead letter besides its place and stage.
#[derive(Clone, Debug)]
pub struct ExpectedLetter {
    /// The reasons that it may give; more than one where the order of two checks is not part of the contract.
    pub reasons: Vec<&'static str>,
    /// The original record's key, hashed.
    pub key: u128,
    /// The original record's Kafka timestamp.
    pub timestamp_ms: i64,
    /// Length and hash of the original value.
    pub value: (usize, u128),
}

/// A record's place and the stage that refused it.
pub type LetterId = (Place, Arc<str>);

/// Everything that the input calls for.
#[derive(Debug, Default)]
pub struct Expected {
    /// Alerts by index of their declaration.
    pub alerts: BTreeMap<usize, Alerts>,
    /// Windows.
    pub windows: BTreeMap<WindowId, ExpectedWindow>,
    /// Dead letters.
    pub letters: BTreeMap<LetterId, ExpectedLetter>,
    /// Hashes of `_id` and document of admitted records, by source; only of sources that feed a collection.
    pub admitted: BTreeMap<usize, BTreeMap<Place, DocumentHashes>>,
    /// What was not recomputed, and why.
    pub unaudited: Vec<String>,
    /// Stages that were not recomputed: their dead letters are nobody's.
    pub unaudited_stages: BTreeSet<Arc<str>>,
    /// Stream time of input partitions where the state of windows over them was lost with consent, by index of the window.
    pub lost: BTreeMap<(usize, TopicPartition), i64>,
    /// Counts for the report.
    pub counts: Counts,
}

/// Hashes of a document's `_id` and of everything in it that the input determines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentHashes {
    /// Of the `_id`.
    pub id: u128,
    /// Of the document.
    pub document: u128,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Input records up to the committed positions.
    pub records: u64,
    /// Of these, admitted.
    pub admitted: u64,
    /// Of these, without value: dropped by rule.
    pub tombstones: u64,
    /// Of these, of record types that their source does not read: dropped by rule.
    pub other_records: u64,
    /// Of these, dropped by one of these rules; the ledger does not tell which.
    pub dropped: u64,
    /// Offsets that an operator left out; not among the others, and not read.
    pub skipped: u64,
    /// Of these, refused before any branch.
    pub refused: u64,
}

/// Results of one window as they stand in the output topic.
#[derive(Clone, Debug)]
pub struct ObservedWindow {
    /// Hashes of all results, in offset order, and where they stand.
    pub results: Vec<(u128, Place)>,
    /// Hashes of the document that the last one should have become; none where no collection is fed by the window.
    pub document: Option<DocumentHashes>,
}

/// A dead letter as it stands in its topic.
#[derive(Clone, Debug)]
pub struct ObservedLetter {
    /// Where it stands.
    pub place: Place,
    /// The reason it gives.
    pub reason: String,
    /// Its key, hashed.
    pub key: u128,
    /// Its Kafka timestamp.
    pub timestamp_ms: i64,
    /// The original length it gives, its own length, and the hash of its value.
    pub value: (usize, usize, u128),
}

/// An input partition as broker and group know it.
#[derive(Clone, Debug)]
pub struct ObservedPosition {
    /// The partition.
    pub partition: TopicPartition,
    /// Its first offset.
    pub start: i64,
    /// The offset after its last.
    pub end: i64,
    /// The group's committed position.
    pub committed: Option<i64>,
    /// What stands beside it: it changes with transactions that take no record.
    pub metadata: String,
}

/// A MongoDB document, reduced to what is compared.
#[derive(Clone, Debug)]
pub struct ObservedDocument {
    /// Its `_id`, for people.
    pub id: String,
    /// Hash of its `_id`.
    pub id_hash: u128,
    /// Hash of everything that the input determines.
    pub hash: u128,
    /// The record that it was made from: of the output topic for a window, the input record otherwise.
    pub source: Option<Place>,
}

/// A window that the store holds open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredKey {
    /// Name of the window's declaration.
    pub window: String,
    /// Input partition.
    pub origin: TopicPartition,
    /// Its start in microseconds since 1970.
    pub start_us: i64,
    /// The parts of its key: texts as they are, everything else as a whole number.
    pub key: Vec<String>,
}

/// What the store holds.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Its windows.
    pub windows: Vec<StoredKey>,
    /// Where its partitions stand in the input; those whose restore is unfinished are absent.
    pub positions: Vec<(TopicPartition, i64)>,
}

/// Everything that is there, read committed.
#[derive(Debug, Default)]
pub struct Observed {
    /// Alerts by index of their declaration.
    pub alerts: BTreeMap<usize, Alerts>,
    /// Hashes of the documents of alert records, by index of the declaration; only of alerts that feed a collection.
    pub alert_documents: BTreeMap<usize, BTreeMap<Place, DocumentHashes>>,
    /// Windows.
    pub windows: BTreeMap<WindowId, ObservedWindow>,
    /// Dead letters.
    pub letters: BTreeMap<LetterId, Vec<ObservedLetter>>,
    /// Outputs that cannot be read: where, and why.
    pub unreadable: Vec<Unreadable>,
    /// Input positions.
    pub positions: Vec<ObservedPosition>,
    /// MongoDB's documents by collection name; a collection that is not audited is absent.
    pub documents: BTreeMap<String, Vec<ObservedDocument>>,
    /// Records that a collection's sink set aside because they make no document, by collection name.
    pub set_aside: BTreeMap<String, BTreeSet<Place>>,
    /// What the store holds; absent when the store is not audited.
    pub stored: Option<Stored>,
    /// What operators did.
    pub history: History,
}

/// An output record that means nothing.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// The row of the report that it belongs to.
    pub row: String,
    /// Where it stands.
    pub place: Place,
    /// Why.
    pub why: String,
}
