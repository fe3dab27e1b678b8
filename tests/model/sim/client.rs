//! What runs behind a consumer's calls: joining, heartbeats, rebalances, fetch positions, as librdkafka's own threads do it.
//!
//! One rebalance event is out at a time. The client goes on when the worker has answered it: it joins again only then. A session that
//! ends while an event is out is not told of: the client joins as a new member then, and still says that it owns what it had.
//!
//! # Source
//! librdkafka's `rdkafka_cgrp.c`, cooperative and eager protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use testudo::kafka::{Rebalance, TopicPartition};

use super::group::{Group, GroupFault, Membership, SESSION_TIMEOUT};

/// The machine and process a client lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Number of the machine.
    pub machine: usize,
    /// Which of its processes, counted up.
    pub incarnation: u32,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}.{}", self.machine, self.incarnation)
    }
}

/// How far a client's membership is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    /// It has to join.
    Due,
    /// It waits for the others.
    Sent,
    /// It knows its generation, and asks for its assignment.
    Synced,
    /// It is a member.
    Done,
}

/// Where fetching of a partition stands.
#[derive(Clone, Copy, Debug)]
pub struct Fetching {
    /// The next offset.
    pub position: i64,
    /// Nothing is delivered.
    pub is_paused: bool,
}

/// A consumer's inner life.
#[derive(Debug)]
pub struct Client {
    /// Where it lives.
    pub process: Process,
    /// Its name as a static member.
    pub instance: Option<String>,
    /// It gives up all it has before it joins again.
    is_eager: bool,
    /// Its membership, as far as it knows.
    pub membership: Membership,
    /// Partitions it was told to assign.
    pub fetching: BTreeMap<TopicPartition, Fetching>,
    /// An event that was not answered yet, and whether it was handed out.
    pub event: Option<(Rebalance, bool)>,
    join: Join,
    /// The generation of its last assignment.
    assigned_in: i32,
    /// When it heard of the group last.
    heard: Duration,
    /// To be assigned after what is revoked now was given up.
    assigned_next: Option<BTreeSet<TopicPartition>>,
    joins_again: bool,
}

impl Client {
    /// A client that has subscribed.
    pub fn new(process: Process, instance: Option<String>, is_eager: bool, now: Duration) -> Self {
        Self {
            process,
            instance,
            is_eager,
            membership: Membership::none(),
            fetching: BTreeMap::new(),
            event: None,
            join: Join::Due,
            assigned_in: -1,
            heard: now,
            assigned_next: None,
            joins_again: false,
        }
    }

    /// The partitions that it has.
    pub fn owned(&self) -> BTreeSet<TopicPartition> {
        self.fetching.keys().cloned().collect()
    }

    /// Whether it is a member that waits for nothing.
    pub fn is_at_rest(&self) -> bool {
        self.join == Join::Done && self.event.is_none()
    }

    /// What its background threads do when they cannot reach the group, or could not for a while.
    pub fn miss(&mut self, now: Duration) {
        if now.saturating_sub(self.heard) <= SESSION_TIMEOUT || self.join != Join::Done {
            return;
        }
        self.heard = now;
        match self.event {
            None => self.lose(GroupFault::UnknownMember),
            Some(_) => self.note(Err(GroupFault::UnknownMember)),
        }
    }

    /// What its background threads do when they get to it.
    pub fn work(&mut self, group: &mut Group, now: Duration) {
        self.heard = now;
        if self.event.is_some() {
            // Heartbeats go on; what they bring waits, but a lost membership is known at once.
            if matches!(self.join, Join::Done) {
                self.note(group.heartbeat(&self.membership));
            }
            return;
        }
        match self.join {
            Join::Due => {
                self.membership.member =
                    group.join(&self.membership.member, self.instance.as_deref(), (self.assigned_in, self.owned()), now);
                self.join = Join::Sent;
            }
            Join::Sent => match group.joined(&self.membership.member) {
                Ok(None) => {}
                Ok(Some(generation)) => (self.membership.generation, self.join) = (generation, Join::Synced),
                Err(fault) => self.lose(fault),
            },
            Join::Synced => match group.sync(&self.membership) {
                Ok(assigned) => self.assigned(assigned),
                Err(GroupFault::Rebalancing) => self.join = Join::Due,
                Err(fault) => self.lose(fault),
            },
            Join::Done => match group.heartbeat(&self.membership) {
                Ok(()) => {}
                Err(GroupFault::Rebalancing) if self.is_eager && !self.fetching.is_empty() => {
                    self.joins_again = true;
                    self.event = Some((Rebalance::Revoked(self.owned().into_iter().collect()), false));
                }
                Err(GroupFault::Rebalancing) => self.join = Join::Due,
                Err(fault) => self.lose(fault),
            },
        }
    }

    fn assigned(&mut self, assigned: BTreeSet<TopicPartition>) {
        let owned = self.owned();
        let revoked: Vec<TopicPartition> = owned.difference(&assigned).cloned().collect();
        let added: BTreeSet<TopicPartition> = assigned.difference(&owned).cloned().collect();
        (self.join, self.assigned_in) = (Join::Done, self.membership.generation);
        if revoked.is_empty() {
            self.event = Some((Rebalance::Assigned(added.into_iter().collect()), false));
        } else {
            self.assigned_next = Some(added);
            self.joins_again = true;
            self.event = Some((Rebalance::Revoked(revoked), false));
        }
    }

    /// What a heartbeat says about the membership while an event is out.
    fn note(&mut self, heartbeat: Result<(), GroupFault>) {
        match heartbeat {
            Err(GroupFault::UnknownMember) => self.membership.member.clear(),
            Err(GroupFault::IllegalGeneration) => self.membership.generation = -1,
            _ => {}
        }
    }

    /// The group has gone on without it.
    fn lose(&mut self, fault: GroupFault) {
        self.note(Err(fault));
        self.join = Join::Due;
        (self.assigned_next, self.joins_again) = (None, false);
        let owned: Vec<TopicPartition> = self.owned().into_iter().collect();
        if !owned.is_empty() {
            self.event = Some((Rebalance::Lost(owned), false));
        }
    }

    /// Gives up everything it has, to join again; without partitions it leaves at once, as the member that is handed back. In the
    /// midst of a rebalance nothing comes of it.
    pub fn join_again(&mut self) -> Option<String> {
        if !self.is_at_rest() {
            return None;
        }
        if self.fetching.is_empty() {
            self.join = Join::Due;
            return Some(std::mem::take(&mut self.membership.member));
        }
        self.joins_again = true;
        self.event = Some((Rebalance::Revoked(self.owned().into_iter().collect()), false));
        None
    }

    /// The worker has answered with `assign`.
    pub fn answer_assigned(&mut self, partitions: impl Iterator<Item = (TopicPartition, i64)>) {
        self.fetching.extend(partitions.map(|(partition, position)| (partition, Fetching { position, is_paused: true })));
        self.event = None;
        self.go_on();
    }

    /// The worker has answered with `unassign`.
    pub fn answer_released(&mut self, partitions: &[TopicPartition]) {
        self.fetching.retain(|partition, _| !partitions.contains(partition));
        self.event = None;
        match self.assigned_next.take() {
            Some(next) => self.event = Some((Rebalance::Assigned(next.into_iter().collect()), false)),
            None => self.go_on(),
        }
    }

    fn go_on(&mut self) {
        if std::mem::take(&mut self.joins_again) {
            self.join = Join::Due;
        }
    }
}
