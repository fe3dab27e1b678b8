//! What goes wrong in a case.

use std::time::Duration;

use super::points::{POINTS, Point, Scene};
use super::rig::{SESSION_TIMEOUT, TRANSACTION_TIMEOUT};

/// Long enough for the group to give a stopped process's partitions away, and for the broker to abort its transaction.
pub const PAUSE: Duration = Duration::from_millis(SESSION_TIMEOUT.as_millis() as u64 + TRANSACTION_TIMEOUT.as_millis() as u64 + 1_500);

/// How often a case lets its fault happen, on one tenant, before it judges.
pub const HITS: u64 = 5;

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
    /// The process gets no more memory.
    Memory,
    /// The state's file system is full for a while.
    Disk,
    /// Nothing arrives from or at MongoDB for a while; nobody dies.
    DatabaseSilent,
    /// Nothing arrives from or at the registry for a while, while records of a new schema come.
    RegistrySilent,
    /// The broker is killed and started again.
    Broker,
    /// Nothing arrives from or at the broker for a while; nobody dies.
    BrokerSilent,
    /// The registry is away while records of a new schema come.
    Registry,
    /// MongoDB is killed and started again.
    Database,
    /// MongoDB's primary steps down.
    StepDown,
    /// It steps down in the middle of a bulk write.
    StepDownInBulk,
    /// Of three brokers the one that leads an input partition is killed and started again.
    Leader,
    /// The one that coordinates the transactions of a worker.
    TransactionCoordinator,
    /// The one that coordinates the group.
    GroupCoordinator,
}

/// Where a case can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Beside others: only its own tenant notices.
    Beside,
    /// Alone: it takes a server away, or the one place before the broker.
    Alone,
    /// Alone, on a stack of three brokers.
    ThreeBrokers,
}

impl Fault {
    /// Every kind, in the order of the scorecard.
    pub fn all() -> Vec<Self> {
        use Fault::*;
        let beside = [Kill, Pause, Panic, Memory, Disk, DatabaseSilent, RegistrySilent];
        let alone = [Broker, BrokerSilent, Registry, Database, StepDown, StepDownInBulk];
        let three = [Leader, TransactionCoordinator, GroupCoordinator];
        POINTS.iter().map(Self::Point).chain(beside).chain(alone).chain(three).collect()
    }

    /// Name in the scorecard, and for `ONLY=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Point(point) => point.name,
            Self::Kill => "kill -9 at random",
            Self::Pause => "stopped and continued",
            Self::Panic => "worker panics",
            Self::Memory => "memory limit",
            Self::Disk => "disk full",
            Self::DatabaseSilent => "mongod unreachable",
            Self::RegistrySilent => "registry unreachable",
            Self::Broker => "broker killed",
            Self::BrokerSilent => "broker unreachable",
            Self::Registry => "registry away",
            Self::Database => "mongod killed",
            Self::StepDown => "mongod steps down",
            Self::StepDownInBulk => "mongod steps down in a bulk",
            Self::Leader => "of three: leader killed",
            Self::TransactionCoordinator => "of three: transaction coordinator killed",
            Self::GroupCoordinator => "of three: group coordinator killed",
        }
    }

    /// Step of the commit cycle, where the fault has one.
    pub fn step(self) -> &'static str {
        match self {
            Self::Point(point) => point.step,
            _ => "",
        }
    }

    /// Where it can run.
    pub fn place(self) -> Place {
        match self {
            Self::Broker | Self::BrokerSilent | Self::Registry | Self::Database | Self::StepDown | Self::StepDownInBulk => Place::Alone,
            Self::Leader | Self::TransactionCoordinator | Self::GroupCoordinator => Place::ThreeBrokers,
            _ => Place::Beside,
        }
    }

    /// How many cases of it there are when kill points are to be hit `repeat` times: what costs seconds of waiting comes a quarter as
    /// often.
    pub fn cases(self, repeat: u64) -> u64 {
        let wanted = match self {
            Self::Point(_) | Self::Kill | Self::Panic => repeat,
            _ => repeat / 4,
        };
        wanted.max(1).div_ceil(HITS)
    }

    /// Whether other instances may work beside the one that it happens to.
    pub fn may_have_companions(self) -> bool {
        match self {
            Self::Point(point) => point.scene == Scene::Load,
            Self::Kill | Self::Pause | Self::Broker | Self::BrokerSilent => true,
            _ => self.place() == Place::ThreeBrokers,
        }
    }
}
