//! What a member of a group holds, and as whom it came to hold it.
//!
//! A client whose session ends while a rebalance is unanswered joins as a new member and keeps its partitions without a word
//! (librdkafka 2.12.1, `rd_kafka_cgrp_revoke_all_rejoin_maybe`): somebody else may have worked on them since, and the new membership
//! would let stale work through.

use std::collections::BTreeSet;
use std::time::Duration;

use super::position::TopicPartition;
use super::reaction::{Failure, Reaction};
use crate::planted::Bug;

/// How often a member that polls has to look who it is: the client's own thread is asked, and waited for. It looks before each commit, too,
/// so that what it does in between comes to nothing where it has become another one.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The partitions that a member holds, its member id when it took the first of them, and when it was last seen to have that.
#[derive(Debug, Default)]
pub struct Holding {
    partitions: BTreeSet<TopicPartition>,
    held_as: Option<String>,
    seen_at: Option<Duration>,
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

    /// Whether a member that polls has to look who it is, by the monotonic clock.
    pub fn is_due(&self, now: Duration) -> bool {
        self.seen_at.is_none_or(|seen| now.saturating_sub(seen) >= LOOK_EVERY)
    }

    /// An error when the consumer has become another member and holds what the old one had. One that is not a member now is nobody else,
    /// and one that was told of its loss (`is_told`) is about to give everything up.
    pub fn check(&mut self, member: Option<&str>, is_told: bool, now: Duration, attempted: &str) -> Result<(), Failure> {
        let held_as = self.held_as.as_deref();
        let is_another = member.is_some_and(|member| !member.is_empty() && held_as.is_some_and(|before| before != member));
        match is_another && !is_told && !Bug::NewMemberGoesOn.is_planted() {
            true => {
                Err(Failure::new(Reaction::Rejoin, attempted, "this consumer has become another member, and holds what the old one had"))
            }
            false => {
                self.seen_at = Some(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_became_another_and_was_not_told_may_not_go_on() {
        let partition = TopicPartition::new("in", 0);
        let (mut holding, now) = (Holding::default(), Duration::ZERO);
        assert!(holding.check(Some("a"), false, now, "poll").is_ok(), "it holds nothing");
        holding.take([partition.clone()], || Some("a".into()));
        holding.take([TopicPartition::new("in", 1)], || Some("b".into()));

        assert!(holding.check(Some("a"), false, now, "poll").is_ok());
        assert!(
            holding.check(Some(""), false, now, "poll").is_ok() && holding.check(None, false, now, "poll").is_ok(),
            "nobody at the moment"
        );
        assert!(holding.check(Some("b"), true, now, "poll").is_ok(), "it will give them up");
        assert!(holding.check(Some("b"), false, now, "poll").is_err());

        holding.give_up(&[partition, TopicPartition::new("in", 1)]);
        assert!(holding.check(Some("b"), false, now, "poll").is_ok());
    }

    #[test]
    fn a_member_looks_again_after_a_while_and_at_once_when_it_was_another() {
        let ms = Duration::from_millis;
        let mut holding = Holding::default();
        holding.take([TopicPartition::new("in", 0)], || Some("a".into()));

        assert!(holding.is_due(ms(0)), "it has never looked");
        assert!(holding.check(Some("a"), false, ms(0), "poll").is_ok());
        assert!(!holding.is_due(ms(99)) && holding.is_due(ms(100)));
        assert!(holding.check(Some("b"), false, ms(100), "poll").is_err());
        assert!(holding.is_due(ms(101)), "what it saw is no reason to wait");
    }
}
