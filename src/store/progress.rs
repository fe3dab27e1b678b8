//! How far a partition's state has come: written in the same batch as the data (EOS-3), and read to decide what to restore (EOS-9).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kafka::{Mark, Position};

/// The stored progress of one input partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Identity of the input topic: a position means nothing in another one.
    pub topic_id: String,
    /// How far the state is: the next input offset that it does not hold yet.
    #[serde(flatten)]
    pub mark: Mark,
    /// Largest event time admitted, microseconds since 1970; `None` before the first record.
    pub stream_time_us: Option<i64>,
    /// For each window the changelog position that the data is at least equal to.
    pub changelogs: BTreeMap<String, ChangelogProgress>,
}

impl Progress {
    /// What stands in the store while a replay is unfinished; no group has such a mark.
    pub const UNFINISHED: Mark = Mark { position: Position(-1), sweeps: 0 };

    /// Whether no replay is unfinished.
    pub fn is_whole(&self) -> bool {
        self.mark != Self::UNFINISHED
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
    /// The mark that the same transaction committed.
    #[serde(flatten)]
    pub mark: Mark,
    /// Largest event time admitted, microseconds since 1970.
    pub stream_time_us: Option<i64>,
    /// Windows that are closed, reported and gone.
    #[serde(flatten)]
    pub swept: Swept,
    /// Who wrote it, to recognise a changelog whose window has changed.
    pub identity: String,
    /// Identity of the input topic that the position is in; absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_id: Option<String>,
    /// The changelog holds everything although it begins here: 0, unless a loss of older records was accepted.
    #[serde(default)]
    pub whole_from: i64,
}

/// Longest key in a progress record, in bytes; each takes up to four there, and the record has to stay far below a broker's bound.
const LOGGED_KEY_MAX: usize = 8 << 10;

/// Which closed windows of a partition are reported and gone. Their tombstones may be gone from the changelog too, so a replay over an older
/// state removes them by this. The larger one is the later one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Swept {
    /// Those that start up to here, microseconds since 1970.
    #[serde(rename = "swept_until_us")]
    pub until_us: Option<i64>,
    /// Of those that start here the ones whose keys, as the store has them, come up to this one: the bound of an epoch was met among them.
    #[serde(rename = "swept_within", default, skip_serializing_if = "Option::is_none")]
    pub within: Option<(i64, Vec<u8>)>,
}

impl Swept {
    /// All windows that start up to an instant, microseconds since 1970.
    pub fn until(until_us: i64) -> Self {
        Self { until_us: Some(until_us), within: None }
    }

    /// As a progress record says it: a key that is too long is left out. Then a replay, after a half-done sweep, over a state that is older
    /// than the changelog's tombstones live, would not know of those that start at one instant.
    pub fn logged(&self) -> Self {
        let within = self.within.clone().filter(|(_, key)| key.len() <= LOGGED_KEY_MAX);
        Self { within, ..*self }
    }

    /// Whether a window is among them; the key as the store has it.
    pub fn covers(&self, start_us: i64, key: &[u8]) -> bool {
        let is_first = |(start, last): &(i64, Vec<u8>)| start_us == *start && key <= last.as_slice();
        self.until_us >= Some(start_us) || self.within.as_ref().is_some_and(is_first)
    }

    /// All windows up to one of them.
    pub fn to(start_us: i64, key: Vec<u8>) -> Self {
        Self { until_us: start_us.checked_sub(1), within: Some((start_us, key)) }
    }
}
