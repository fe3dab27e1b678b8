//! How far a partition's state has come: written in the same batch as the data (EOS-3), and read to decide what to restore (EOS-9).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The stored progress of one input partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Identity of the input topic: a position means nothing in another one.
    pub topic_id: String,
    /// The next input offset that the state does not hold yet.
    pub position: i64,
    /// Largest event time admitted, microseconds since 1970; `None` before the first record.
    pub stream_time_us: Option<i64>,
    /// For each window the changelog position that the data is at least equal to.
    pub changelogs: BTreeMap<String, ChangelogProgress>,
}

impl Progress {
    /// The source position that stands in the store while a replay is unfinished.
    pub const UNFINISHED: i64 = -1;

    /// Whether no replay is unfinished.
    pub fn is_whole(&self) -> bool {
        self.position != Self::UNFINISHED
    }
}

/// A position in a changelog. It may be any lower bound: replaying last values is idempotent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangelogProgress {
    /// Identity of the changelog topic.
    pub topic_id: String,
    /// The next changelog offset to replay.
    pub position: i64,
    /// The last progress record below that position.
    pub logged: Option<LoggedProgress>,
}

/// The progress record that every epoch writes to the changelogs it touches: what a restore from nothing needs besides the windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedProgress {
    /// The input position that the same transaction committed.
    pub position: i64,
    /// Largest event time admitted, microseconds since 1970.
    pub stream_time_us: Option<i64>,
    /// Windows that start up to here are closed, reported and gone, microseconds since 1970.
    pub swept_until_us: Option<i64>,
    /// Who wrote it, to recognise a changelog whose window has changed.
    pub identity: String,
    /// Identity of the input topic that the position is in; absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_id: Option<String>,
    /// The changelog holds everything although it begins here: 0, unless a loss of older records was accepted.
    #[serde(default)]
    pub whole_from: i64,
}
