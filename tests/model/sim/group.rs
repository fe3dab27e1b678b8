//! The group coordinator: members and generations of a classic group with the cooperative-sticky assignor, static members, and the
//! group's positions, which transactions move.
//!
//! # Source
//! Kafka's `ClassicGroup`, `GroupMetadataManager`, `OffsetMetadataManager`, `CooperativeStickyAssignor`; KIP-345, KIP-429, KIP-447.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use testudo::kafka::{Mark, TopicPartition};

use super::transactions::Session;

/// `session.timeout.ms` of the service's consumers.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a rebalance waits for members: `max.poll.interval.ms`.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(300);

/// Proof of membership, as a transaction takes it along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Member id.
    pub member: String,
    /// Generation.
    pub generation: i32,
}

impl Membership {
    /// What a consumer has that is no member. The broker takes it without a question.
    pub fn none() -> Self {
        Self { member: String::new(), generation: -1 }
    }
}

/// What the group answers when it does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupFault {
    /// The member is not known any more.
    UnknownMember,
    /// The generation is over.
    IllegalGeneration,
    /// Members are to join again.
    Rebalancing,
    /// A newer epoch of the producer has been here.
    Fenced,
    /// A transaction holds the position.
    Unstable,
}

#[derive(Debug, Default)]
struct Member {
    /// `group.instance.id` of a static member.
    instance: Option<String>,
    has_joined: bool,
    /// What it said it owns when it joined, and since which generation.
    owned: (i32, BTreeSet<TopicPartition>),
    assigned: BTreeSet<TopicPartition>,
    /// Since when nothing was heard of it.
    silent_since: Option<Duration>,
}

/// A consumer group.
#[derive(Debug, Default)]
pub struct Group {
    generation: i32,
    joins: u64,
    members: BTreeMap<String, Member>,
    /// Members are joining, until then.
    joining_until: Option<Duration>,
    committed: BTreeMap<TopicPartition, Mark>,
    /// What was committed before that.
    committed_before: BTreeMap<TopicPartition, Mark>,
    pending: BTreeMap<i64, BTreeMap<TopicPartition, Mark>>,
    epochs: BTreeMap<i64, i16>,
}

impl Group {
    /// JoinGroup with what the member owns, and since which generation; the answer is its id. A static member that comes back takes
    /// its own place, without a rebalance (KIP-345).
    pub fn join(&mut self, member: &str, instance: Option<&str>, owned: (i32, BTreeSet<TopicPartition>), now: Duration) -> String {
        let is_known = self.members.contains_key(member);
        let id = if is_known { member.to_owned() } else { self.new_id() };
        let is_it = |known: &Member| instance.is_some() && known.instance.as_deref() == instance;
        let before = self.members.iter().find(|(known, other)| **known != id && is_it(other)).map(|(known, _)| known.clone());
        let mut joining = match before.and_then(|before| self.members.remove(&before)) {
            Some(before) if self.joining_until.is_none() && owned.1.is_empty() => {
                self.members.insert(id.clone(), Member { silent_since: None, owned, ..before });
                return id;
            }
            _ => self.members.remove(&id).unwrap_or_default(),
        };
        self.rebalance(now);
        (joining.has_joined, joining.owned, joining.silent_since) = (true, owned, None);
        joining.instance = instance.map(str::to_owned);
        self.members.insert(id.clone(), joining);
        id
    }

    fn new_id(&mut self) -> String {
        self.joins += 1;
        format!("member-{}", self.joins)
    }

    /// The generation that a member's join came to, once it has.
    pub fn joined(&self, member: &str) -> Result<Option<i32>, GroupFault> {
        let known = self.members.get(member).ok_or(GroupFault::UnknownMember)?;
        Ok((!known.has_joined).then_some(self.generation))
    }

    /// SyncGroup: what a member is to have.
    pub fn sync(&self, membership: &Membership) -> Result<BTreeSet<TopicPartition>, GroupFault> {
        self.check(membership)?;
        match self.joining_until {
            Some(_) => Err(GroupFault::Rebalancing),
            None => Ok(self.members[&membership.member].assigned.clone()),
        }
    }

    /// Heartbeat.
    pub fn heartbeat(&mut self, membership: &Membership) -> Result<(), GroupFault> {
        self.check(membership)?;
        match self.joining_until {
            Some(_) => Err(GroupFault::Rebalancing),
            None => Ok(()),
        }
    }

    /// These members were heard just now, the others not.
    pub fn hear(&mut self, heard: &BTreeSet<String>, now: Duration) {
        for (id, member) in &mut self.members {
            member.silent_since = (!heard.contains(id)).then(|| member.silent_since.unwrap_or(now));
        }
    }

    /// Has all members join again.
    pub fn rebalance(&mut self, now: Duration) {
        self.joining_until.get_or_insert(now + REBALANCE_TIMEOUT);
    }

    /// LeaveGroup.
    pub fn leave(&mut self, member: &str, now: Duration) {
        if self.members.remove(member).is_some() {
            self.rebalance(now);
        }
    }

    /// Ends sessions, and rebalances that everybody joined or that waited long enough. Who lost the session.
    pub fn advance(&mut self, now: Duration, heard_from: Duration, partitions: &[TopicPartition]) -> Vec<String> {
        let is_gone =
            |member: &Member| member.silent_since.is_some_and(|since| now.saturating_sub(since.max(heard_from)) > SESSION_TIMEOUT);
        let gone: Vec<String> = self.members.iter().filter(|(_, member)| is_gone(member)).map(|(id, _)| id.clone()).collect();
        for member in &gone {
            self.leave(member, now);
        }
        let Some(until) = self.joining_until else { return gone };
        if now >= until {
            self.members.retain(|_, member| member.has_joined);
        }
        if self.members.values().all(|member| member.has_joined) {
            self.joining_until = None;
            self.generation += 1;
            self.assign(partitions);
            self.members.values_mut().for_each(|member| member.has_joined = false);
        }
        gone
    }

    /// Balanced, sticky, and in two steps: a partition that another member has is free only when that one has joined without it. Of
    /// two members that say they own a partition the one of the later generation does.
    fn assign(&mut self, partitions: &[TopicPartition]) {
        let (count, members) = (partitions.len(), self.members.len());
        if members == 0 {
            return;
        }
        let mut owners: BTreeMap<TopicPartition, (i32, Option<String>)> = BTreeMap::new();
        for (id, member) in &self.members {
            let (generation, owned) = &member.owned;
            for partition in owned {
                let owner = owners.entry(partition.clone()).or_insert_with(|| (*generation, Some(id.clone())));
                match generation.cmp(&owner.0) {
                    Ordering::Less => {}
                    Ordering::Equal if owner.1.as_ref() == Some(id) => {}
                    // Nobody can tell who has it: both give it up.
                    Ordering::Equal => owner.1 = None,
                    Ordering::Greater => *owner = (*generation, Some(id.clone())),
                }
            }
        }
        let mut larger_left = count % members;
        for (id, member) in &mut self.members {
            let mut most = count / members;
            let own: Vec<&TopicPartition> =
                partitions.iter().filter(|owned| owners.get(*owned).is_some_and(|(_, owner)| owner.as_ref() == Some(id))).collect();
            if own.len() > most && larger_left > 0 {
                (most, larger_left) = (most + 1, larger_left - 1);
            }
            member.assigned = own.into_iter().take(most).cloned().collect();
        }
        for partition in partitions.iter().filter(|partition| !owners.contains_key(*partition)) {
            if let Some(member) = self.members.values_mut().min_by_key(|member| member.assigned.len()) {
                member.assigned.insert(partition.clone());
            }
        }
    }

    /// TxnOffsetCommit. A transaction without membership is not asked for one (the trap of KIP-447).
    pub fn commit(&mut self, session: Session, membership: &Membership, marks: &[(TopicPartition, Mark)]) -> Result<(), GroupFault> {
        if *membership != Membership::none() {
            self.check(membership)?;
        }
        let epoch = self.epochs.entry(session.producer).or_insert(session.epoch);
        if session.epoch < *epoch {
            return Err(GroupFault::Fenced);
        }
        *epoch = session.epoch;
        let pending = self.pending.entry(session.producer).or_default();
        pending.extend(marks.iter().cloned());
        Ok(())
    }

    /// A transaction's marker.
    pub fn mark(&mut self, session: Session, is_commit: bool) {
        let epoch = self.epochs.entry(session.producer).or_insert(session.epoch);
        *epoch = session.epoch.max(*epoch);
        let pending = self.pending.remove(&session.producer).unwrap_or_default();
        if is_commit {
            for (partition, mark) in pending {
                if let Some(before) = self.committed.insert(partition.clone(), mark) {
                    self.committed_before.insert(partition, before);
                }
            }
        }
    }

    /// OffsetFetch; stable positions are refused while a transaction holds one.
    pub fn positions(&self, partitions: &[TopicPartition], is_stable: bool) -> Result<Vec<Option<Mark>>, GroupFault> {
        if is_stable && self.pending.values().any(|pending| partitions.iter().any(|partition| pending.contains_key(partition))) {
            return Err(GroupFault::Unstable);
        }
        Ok(partitions.iter().map(|partition| self.committed.get(partition).copied()).collect())
    }

    /// All committed marks.
    pub fn marks(&self) -> &BTreeMap<TopicPartition, Mark> {
        &self.committed
    }

    /// The mark of a partition before the committed one.
    pub fn position_before(&self, partition: &TopicPartition) -> Option<Mark> {
        self.committed_before.get(partition).copied()
    }

    /// Whether no transaction holds a position.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// What each member was told that it has.
    pub fn assignments(&self) -> BTreeMap<String, BTreeSet<TopicPartition>> {
        self.members.iter().map(|(id, member)| (id.clone(), member.assigned.clone())).collect()
    }

    /// Number of members, dead ones too whose session has not ended.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Whether no rebalance is going on.
    pub fn is_stable(&self) -> bool {
        self.joining_until.is_none()
    }

    fn check(&self, membership: &Membership) -> Result<(), GroupFault> {
        if !self.members.contains_key(&membership.member) {
            return Err(GroupFault::UnknownMember);
        }
        if membership.generation != self.generation {
            return Err(GroupFault::IllegalGeneration);
        }
        Ok(())
    }
}
