//! Bugs put in on purpose, where the engine meets broker and store: the judges have to find each of them.

use super::faults::Fault;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Positions are committed one short.
    PositionsOffByOne,
    /// The positions of two partitions change places.
    SwappedPositions,
    /// The last record of a transaction is not sent.
    DroppedTail,
    /// The first record of a transaction is sent twice.
    DoubledRecord,
    /// A commit is reported before it is sent: the store is ahead of the group (EOS-3).
    StoreBeforeCommit,
    /// A commit whose outcome is not known counts as one that happened (EOS-7).
    GuessedOutcome,
    /// Doubt about the coordinator's connection is not told (EOS-8).
    ForgottenDoubt,
    /// Positions are sent without membership, which is taken unfenced (EOS-2).
    NoMembership,
    /// A client that has become another member goes on with what it had.
    NewMemberGoesOn,
    /// The group's positions are older than they should be.
    StalePositions,
    /// Pending transactions are not waited for (KIP-447).
    UnstablePositions,
    /// The input is read uncommitted.
    OpenInputIsRead,
    /// The changelog is read uncommitted.
    OpenChangelogIsRead,
    /// A restore ends where an open transaction holds the changelog's end back (KAFKA-10167).
    ShortRestore,
    /// The store loses stream time (TIME-1).
    ForgottenStreamTime,
    /// A write batch is not applied as a whole (EOS-3).
    TornBatch,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::PositionsOffByOne,
        Self::SwappedPositions,
        Self::DroppedTail,
        Self::DoubledRecord,
        Self::StoreBeforeCommit,
        Self::GuessedOutcome,
        Self::ForgottenDoubt,
        Self::NoMembership,
        Self::NewMemberGoesOn,
        Self::StalePositions,
        Self::UnstablePositions,
        Self::OpenInputIsRead,
        Self::OpenChangelogIsRead,
        Self::ShortRestore,
        Self::ForgottenStreamTime,
        Self::TornBatch,
    ];

    /// Faults that bring it to light.
    pub fn needs(self) -> &'static [Fault] {
        match self {
            Self::PositionsOffByOne | Self::SwappedPositions | Self::DroppedTail | Self::DoubledRecord | Self::StalePositions => &[],
            Self::StoreBeforeCommit => &[Fault::Crash],
            Self::GuessedOutcome => &[Fault::RequestLost, Fault::LateEndTxn],
            Self::ForgottenDoubt => &[Fault::LateEndTxn, Fault::DoubledEndTxn],
            Self::NoMembership => &[Fault::Freeze],
            Self::NewMemberGoesOn => &[Fault::Freeze, Fault::Leave],
            Self::UnstablePositions => &[Fault::Freeze, Fault::SlowMarkers, Fault::Leave],
            Self::OpenInputIsRead => &[Fault::Upstream],
            Self::OpenChangelogIsRead => &[Fault::AnswerLost, Fault::DiskLoss, Fault::Crash, Fault::Freeze],
            Self::ShortRestore => &[Fault::Freeze, Fault::AnswerLost, Fault::Leave],
            Self::ForgottenStreamTime | Self::TornBatch => &[Fault::Crash],
        }
    }
}
