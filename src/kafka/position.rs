//! Offsets and positions. A position is the *next* offset to read (Kafka's convention); the one `+ 1` of the code is here.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The offset of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The next offset to read of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position(pub i64);

impl Position {
    /// The position after the record at `offset` has been handled.
    pub fn after(offset: Offset) -> Self {
        Self(offset.0 + 1)
    }

    /// Whether the record at `offset` has been handled at this position.
    pub fn is_past(self, offset: Offset) -> bool {
        offset.0 < self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a group is in one partition: every transaction that changes something of the partition moves its mark, also one that takes no
/// record (docs/adr/0024-sweeps.md). Of two marks the larger one is the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// The next offset to read.
    pub position: Position,
    /// Transactions without a record of the partition that were committed at this position.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sweeps: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_zero(sweeps: &u32) -> bool {
    *sweeps == 0
}

impl Mark {
    /// Before the first record.
    pub const START: Self = Self { position: Position(0), sweeps: 0 };

    /// The mark after a transaction that takes no record.
    pub fn swept(self) -> Self {
        Self { sweeps: self.sweeps.saturating_add(1), ..self }
    }

    /// What stands beside the position in the group's offsets: nothing, mostly.
    pub fn metadata(self) -> Option<String> {
        (self.sweeps > 0).then(|| format!("{SWEEPS}{}", self.sweeps))
    }

    /// From a group's offset and what stands beside it. Other programs' words mean nothing.
    pub fn of(position: Position, metadata: &str) -> Self {
        Self { position, sweeps: metadata.strip_prefix(SWEEPS).and_then(|sweeps| sweeps.parse().ok()).unwrap_or(0) }
    }
}

/// Begins the metadata of a mark.
const SWEEPS: &str = "sweeps=";

impl From<Position> for Mark {
    fn from(position: Position) -> Self {
        Self { position, sweeps: 0 }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.position.fmt(f)?;
        match self.sweeps {
            0 => Ok(()),
            sweeps => write!(f, " ({SWEEPS}{sweeps})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_from_a_group() {
        for mark in [Mark::START, Mark::from(Position(7)), Mark::from(Position(7)).swept().swept()] {
            assert_eq!(Mark::of(mark.position, &mark.metadata().unwrap_or_default()), mark);
        }
        for foreign in ["", "sweeps", "sweeps=-1", "sweeps=x", "by hand"] {
            assert_eq!(Mark::of(Position(7), foreign), Mark::from(Position(7)));
        }
    }

    #[test]
    fn a_later_mark_is_larger() {
        let at = |position| Mark::from(Position(position));

        assert!(at(7) < at(7).swept() && at(7).swept() < at(7).swept().swept() && at(7).swept() < at(8));
        assert_eq!(format!("{} {}", at(7), at(7).swept()), "7 7 (sweeps=1)");
    }
}
