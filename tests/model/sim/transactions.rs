//! The transaction coordinator: who may use a transactional id, in which state its transaction is, which markers are still to be written.
//!
//! It speaks to clients that do not know KIP-890's second part, as librdkafka's do not: an epoch serves many transactions, so an EndTxn
//! that arrives late ends whatever transaction of its epoch is open then (KAFKA-17754).
//!
//! # Source
//! Kafka's `TransactionCoordinator` and `TransactionMetadata`; KIP-98, KIP-360, KIP-447.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use testudo::kafka::TopicPartition;

/// Where a transactional id's transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none.
    Empty,
    /// It is open.
    Ongoing,
    /// It is decided, markers are being written; true is a commit.
    Prepared(bool),
    /// All markers are written.
    Complete(bool),
}

/// What the coordinator answers when it does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnFault {
    /// Another epoch is the current one.
    Fenced,
    /// The last transaction's markers are being written: ask again.
    Concurrent,
    /// The transaction is not in a state for that.
    InvalidState,
}

/// A producer's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Producer id.
    pub producer: i64,
    /// Epoch.
    pub epoch: i16,
}

/// Where a marker is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A partition.
    Partition(TopicPartition),
    /// The group's positions.
    Group,
}

/// A marker on its way.
#[derive(Clone, Debug)]
pub struct Marker {
    /// The transactional id.
    pub id: String,
    /// Who ends.
    pub session: Session,
    /// Where.
    pub target: Target,
    /// Whether it commits.
    pub is_commit: bool,
}

/// A transactional id.
#[derive(Debug)]
pub struct Txn {
    /// Current producer id and epoch.
    pub session: Session,
    /// State of the last transaction.
    pub state: State,
    targets: BTreeSet<Target>,
    began: Duration,
    timeout: Duration,
}

/// The coordinator.
#[derive(Debug, Default)]
pub struct Coordinator {
    txns: BTreeMap<String, Txn>,
    /// Markers that are still to be written, in any order.
    pub markers: Vec<Marker>,
}

impl Coordinator {
    /// InitProducerId: fences older sessions, ends what they left open. `known` is a session that asks for its next epoch (KIP-360).
    pub fn init(&mut self, id: &str, known: Option<Session>, timeout: Duration) -> Result<Session, TxnFault> {
        let producer = self.txns.len() as i64 + 1;
        let new = || Txn {
            session: Session { producer, epoch: -1 },
            state: State::Empty,
            targets: BTreeSet::new(),
            began: Duration::ZERO,
            timeout,
        };
        let txn = self.txns.entry(id.to_owned()).or_insert_with(new);
        if known.is_some_and(|known| known != txn.session) {
            return Err(TxnFault::Fenced);
        }
        match txn.state {
            State::Prepared(_) => Err(TxnFault::Concurrent),
            State::Ongoing => {
                txn.session.epoch += 1;
                self.decide(id, false);
                Err(TxnFault::Concurrent)
            }
            State::Empty | State::Complete(_) => {
                txn.session.epoch += 1;
                (txn.state, txn.timeout) = (State::Empty, timeout);
                Ok(txn.session)
            }
        }
    }

    /// AddPartitionsToTxn, AddOffsetsToTxn.
    pub fn add(&mut self, id: &str, session: Session, target: Target, now: Duration) -> Result<(), TxnFault> {
        let txn = self.current(id, session)?;
        match txn.state {
            State::Prepared(_) => return Err(TxnFault::Concurrent),
            State::Ongoing => {}
            State::Empty | State::Complete(_) => (txn.state, txn.began) = (State::Ongoing, now),
        }
        txn.targets.insert(target);
        Ok(())
    }

    /// Whether a transaction is open and holds `target`: what partitions ask before they take a transaction's first record (KIP-890).
    pub fn has(&self, id: &str, session: Session, target: &Target) -> bool {
        let holds = |txn: &Txn| txn.session == session && txn.state == State::Ongoing && txn.targets.contains(target);
        self.txns.get(id).is_some_and(holds)
    }

    /// EndTxn.
    pub fn end(&mut self, id: &str, session: Session, is_commit: bool) -> Result<(), TxnFault> {
        let txn = self.current(id, session)?;
        match txn.state {
            State::Ongoing => {
                self.decide(id, is_commit);
                Ok(())
            }
            State::Prepared(decided) if decided == is_commit => Err(TxnFault::Concurrent),
            State::Complete(decided) if decided == is_commit => Ok(()),
            State::Empty | State::Prepared(_) | State::Complete(_) => Err(TxnFault::InvalidState),
        }
    }

    /// Transactions that have been open for too long.
    pub fn overdue(&self, now: Duration) -> Vec<String> {
        let is_overdue = |txn: &Txn| txn.state == State::Ongoing && now.saturating_sub(txn.began) > txn.timeout;
        self.txns.iter().filter(|(_, txn)| is_overdue(txn)).map(|(id, _)| id.clone()).collect()
    }

    /// Aborts a transaction that took too long; its session is fenced.
    pub fn time_out(&mut self, id: &str) {
        if let Some(txn) = self.txns.get_mut(id) {
            txn.session.epoch += 1;
            self.decide(id, false);
        }
    }

    /// A marker was written. Whether it was its transaction's last.
    pub fn written(&mut self, marker: &Marker) -> bool {
        let Some(txn) = self.txns.get_mut(&marker.id) else { return false };
        txn.targets.remove(&marker.target);
        if txn.targets.is_empty() {
            txn.state = State::Complete(marker.is_commit);
        }
        txn.targets.is_empty()
    }

    /// Ids whose transaction has not ended.
    pub fn unfinished(&self) -> Vec<&str> {
        let is_unfinished = |txn: &Txn| matches!(txn.state, State::Ongoing | State::Prepared(_));
        self.txns.iter().filter(|(_, txn)| is_unfinished(txn)).map(|(id, _)| id.as_str()).collect()
    }

    /// The transactional ids.
    pub fn ids(&self) -> Vec<String> {
        self.txns.keys().cloned().collect()
    }

    fn current(&mut self, id: &str, session: Session) -> Result<&mut Txn, TxnFault> {
        self.txns.get_mut(id).filter(|txn| txn.session == session).ok_or(TxnFault::Fenced)
    }

    fn decide(&mut self, id: &str, is_commit: bool) {
        let Some(txn) = self.txns.get_mut(id) else { return };
        txn.state = State::Prepared(is_commit);
        let session = txn.session;
        let marker = |target: &Target| Marker { id: id.to_owned(), session, target: target.clone(), is_commit };
        self.markers.extend(txn.targets.iter().map(marker));
    }
}
