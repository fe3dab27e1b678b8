//! Bugs put in on purpose: the judges have to find each of them. Those of the program stand where they would be made, behind a switch
//! ([`Bug`]); some that the program has no place for stand in the model of its client or its disk.

use testudo::planted::Bug;

use super::faults::Fault;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// One of the program's own.
    Program(Bug),
    /// Positions are sent without membership, which is taken unfenced (EOS-2).
    NoMembership,
    /// The group's positions are older than they should be.
    StalePositions,
    /// Pending transactions are not waited for (KIP-447).
    UnstablePositions,
    /// A restore ends where an open transaction holds the changelog's end back (KAFKA-10167).
    ShortRestore,
    /// A write batch is not applied as a whole (EOS-3).
    TornBatch,
}

/// Of the program's bugs the one that needs MongoDB: `mongo.rs` has a model of its own for it.
pub const OF_SINKS: Bug = Bug::StaleUpsert;

impl Planted {
    /// All that a run can find.
    pub fn all() -> impl Iterator<Item = Self> {
        let of_program = Bug::ALL.into_iter().filter(|bug| *bug != OF_SINKS).map(Self::Program);
        of_program.chain([Self::NoMembership, Self::StalePositions, Self::UnstablePositions, Self::ShortRestore, Self::TornBatch])
    }

    /// Its name in a plan.
    pub fn word(self) -> String {
        match self {
            Self::Program(bug) => bug.point().to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// The program's switch, where it has one.
    pub fn bug(self) -> Option<Bug> {
        if let Self::Program(bug) = self { Some(bug) } else { None }
    }

    /// Faults that bring it to light.
    pub fn needs(self) -> &'static [Fault] {
        match self {
            Self::StalePositions => &[],
            Self::NoMembership => &[Fault::Freeze],
            Self::UnstablePositions => &[Fault::Freeze, Fault::SlowMarkers, Fault::Leave],
            Self::ShortRestore => &[Fault::Freeze, Fault::AnswerLost, Fault::Leave, Fault::SlowMarkers],
            Self::TornBatch => &[Fault::Crash],
            Self::Program(bug) => match bug {
                Bug::DroppedTail | Bug::DoubledRecord | Bug::SwappedOffsets | Bug::PositionsOffByOne | Bug::StaleUpsert => &[],
                Bug::UncommittedRead => &[Fault::Upstream],
                Bug::UncommittedRestore => &[Fault::AnswerLost, Fault::DiskLoss, Fault::Crash, Fault::Freeze],
                Bug::StateBeforeCommit | Bug::ForgottenStreamTime => &[Fault::Crash],
                Bug::GuessedOutcome => &[Fault::RequestLost, Fault::LateEndTxn],
                Bug::ForgottenDoubt => &[Fault::LateEndTxn, Fault::DoubledEndTxn],
                Bug::NewMemberGoesOn => &[Fault::Freeze, Fault::Leave],
            },
        }
    }
}
