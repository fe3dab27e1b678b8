//! What a member of a group holds, and as whom it came to hold it.
//!
//! A client whose session ends while a rebalance is unanswered joins as a new member and keeps its partitions without a word
//! (librdkafka 2.12.1, `rd_kafka_cgrp_revoke_all_rejoin_maybe`): somebody else may have worked on them since, and the new membership
//! would let stale work through.

use std::collections::BTreeSet;

use super::position::TopicPartition;
use super::reaction::{Failure, Reaction};
use crate::planted::Bug;

/// The partitions that a member holds, and its member id when it took the first of them.
#[derive(Debug, Default)]
pub struct Holding {
    partitions: BTreeSet<TopicPartition>,
    held_as: Option<String>,
}

impl Holding {
    /// The member takes partitions; `member` is its id, where it has one.
    pub fn take(&mut self, partitions: impl IntoIterator<Item = TopicPartition>, member: impl FnOnce() -> Option<String>) {
        self.partitions.extend(partitions);
        if !self.partitions.is_empty() {
            self.held_as.get_or_insert_with(|| member().unwrap_or_default());
        }
    }

    /// The member gives partitions up.
    pub fn give_up(&mut self, partitions: &[TopicPartition]) {
        self.partitions.retain(|held| !partitions.contains(held));
        if self.partitions.is_empty() {
            self.held_as = None;
        }
    }

    /// An error when the consumer has become another member and holds what the old one had. One that is not a member now is nobody else,
    /// and one that was told of its loss (`is_told`) is about to give everything up.
    pub fn check(&self, member: Option<&str>, is_told: bool, attempted: &str) -> Result<(), Failure> {
        let held_as = self.held_as.as_deref();
        let is_another = member.is_some_and(|member| !member.is_empty() && held_as.is_some_and(|before| before != member));
        match is_another && !is_told && !Bug::NewMemberGoesOn.is_planted() {
            true => {
                Err(Failure::new(Reaction::Rejoin, attempted, "this consumer has become another member, and holds what the old one had"))
            }
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_became_another_and_was_not_told_may_not_go_on() {
        let partition = TopicPartition::new("in", 0);
        let mut holding = Holding::default();
        assert!(holding.check(Some("a"), false, "poll").is_ok(), "it holds nothing");
        holding.take([partition.clone()], || Some("a".into()));
        holding.take([TopicPartition::new("in", 1)], || Some("b".into()));

        assert!(holding.check(Some("a"), false, "poll").is_ok());
        assert!(holding.check(Some(""), false, "poll").is_ok() && holding.check(None, false, "poll").is_ok(), "nobody at the moment");
        assert!(holding.check(Some("b"), true, "poll").is_ok(), "it will give them up");
        assert!(holding.check(Some("b"), false, "poll").is_err());

        holding.give_up(&[partition, TopicPartition::new("in", 1)]);
        assert!(holding.check(Some("b"), false, "poll").is_ok());
    }
}
