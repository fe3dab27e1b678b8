//! Whether every partition that a group shares out has an owner, by the coordinator's word.
//!
//! A static member that is replaced between the two rounds of a cooperative rebalance is told the first round's assignment, in which what
//! has to move belongs to nobody, and the coordinator sees no reason for a second round until somebody joins or leaves (KIP-345, KIP-429).
//! So members look at what all of them have together, and one of them joins again where that is not everything (ADR 0016).
//!
//! Between two rounds a partition has no owner for as long as its former one takes to commit and let go. So it is given time, and members
//! act one after the other: the first has the least to let go itself, and a rebalance ends the waiting of all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::position::TopicPartition;

/// How often a member looks.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long it waits after a question that was not answered: asking stands still for a while, and every broker is asked.
const LOOK_AFTER_SILENCE: Duration = Duration::from_mins(1);
/// Who has joined again in vain waits twice as long the next time, up to so many times.
const DOUBLINGS_MAX: u32 = 4;

/// A group's members, and what each was told that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The member that asked.
    pub me: String,
    /// No rebalance is under way; otherwise nobody can tell who has what.
    pub rests: bool,
    /// Every member's partitions, by its id.
    pub members: BTreeMap<String, BTreeSet<TopicPartition>>,
}

impl Roster {
    /// How many members act before the one that asked; `None`: it is no member.
    fn turn(&self) -> Option<u32> {
        let mine = (self.members.get(&self.me)?.len(), &self.me);
        let is_before = |(member, has): &(&String, &BTreeSet<TopicPartition>)| (has.len(), *member) < mine;
        Some(u32::try_from(self.members.iter().filter(is_before).count()).unwrap_or(u32::MAX))
    }
}

/// What one member has seen of its group.
#[derive(Debug)]
pub struct Watch {
    patience: Duration,
    next_look: Duration,
    last_look: Option<Duration>,
    /// Partitions without an owner, and since when.
    unowned: BTreeMap<TopicPartition, Duration>,
    /// How often in a row joining again was of no use.
    in_vain: u32,
}

impl Watch {
    /// A watch that gives a partition's former owner so much time to let go.
    pub fn new(patience: Duration) -> Self {
        Self { patience, next_look: Duration::ZERO, last_look: None, unowned: BTreeMap::new(), in_vain: 0 }
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: Duration) -> bool {
        now >= self.next_look
    }

    /// The coordinator does not say who has what; what may have happened meanwhile is not known either.
    pub fn saw_nothing(&mut self, now: Duration) {
        self.next_look = now + LOOK_EVERY;
        self.last_look = None;
        self.unowned.clear();
    }

    /// Brokers are away, or busy.
    pub fn was_not_answered(&mut self, now: Duration) {
        self.saw_nothing(now);
        self.next_look = now + LOOK_AFTER_SILENCE;
    }

    /// Takes in what the coordinator says about `all` partitions: the one for whose sake this member has to join again, if there is one.
    pub fn saw(&mut self, roster: &Roster, all: &[TopicPartition], now: Duration) -> Option<TopicPartition> {
        let Some(turn) = roster.turn().filter(|_| roster.rests) else {
            self.saw_nothing(now);
            return None;
        };
        if self.last_look.is_none_or(|before| now.saturating_sub(before) > LOOK_EVERY * 2) {
            self.unowned.clear();
        }
        (self.next_look, self.last_look) = (now + LOOK_EVERY, Some(now));
        let owned: BTreeSet<&TopicPartition> = roster.members.values().flatten().collect();
        let before = std::mem::take(&mut self.unowned);
        let unowned = all.iter().filter(|partition| !owned.contains(partition));
        self.unowned = unowned.map(|partition| (partition.clone(), before.get(partition).copied().unwrap_or(now))).collect();
        let Some((partition, since)) = self.unowned.iter().min_by_key(|(_, since)| **since) else {
            self.in_vain = 0;
            return None;
        };
        let wait = (self.patience + LOOK_EVERY.saturating_mul(turn)).saturating_mul(1 << self.in_vain);
        if now.saturating_sub(*since) < wait {
            return None;
        }
        let partition = partition.clone();
        self.unowned.clear();
        self.in_vain = (self.in_vain + 1).min(DOUBLINGS_MAX);
        Some(partition)
    }
}

#[cfg(test)]
#[path = "ownership_tests.rs"]
mod tests;
