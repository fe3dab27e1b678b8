//! What goes wrong in a case.

use std::time::Duration;

use super::points::{POINTS, Point};
use super::rig::{SESSION_TIMEOUT, TRANSACTION_TIMEOUT};

/// Long enough for the group to give a stopped process's partitions away, and for the broker to abort its transaction.
pub const PAUSE: Duration = Duration::from_millis(SESSION_TIMEOUT.as_millis() as u64 + TRANSACTION_TIMEOUT.as_millis() as u64 + 1_500);

/// One kind of fault.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The process ends at, or shortly after, a point.
    Point(&'static Point),
    /// `kill -9` at a random moment.
    Kill,
    /// SIGSTOP for longer than every time-out, then SIGCONT: a zombie.
    Pause,
    /// A worker panics.
    Panic,
    /// The broker is killed and started again.
    Broker,
    /// The registry is away while records of a new schema come.
    Registry,
    /// MongoDB is killed and started again.
    Database,
    /// MongoDB's primary steps down.
    StepDown,
}

impl Fault {
    /// Every kind, in the order of the scorecard.
    pub fn all() -> Vec<Self> {
        let others = [Self::Kill, Self::Pause, Self::Panic, Self::Broker, Self::Registry, Self::Database, Self::StepDown];
        POINTS.iter().map(Self::Point).chain(others).collect()
    }

    /// Name in the scorecard, and for `ONLY=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Point(point) => point.name,
            Self::Kill => "kill -9 at random",
            Self::Pause => "stopped and continued",
            Self::Panic => "worker panics",
            Self::Broker => "broker killed",
            Self::Registry => "registry away",
            Self::Database => "mongod killed",
            Self::StepDown => "mongod steps down",
        }
    }

    /// Step of the commit cycle, where the fault has one.
    pub fn step(self) -> &'static str {
        match self {
            Self::Point(point) => point.step,
            _ => "",
        }
    }
}
