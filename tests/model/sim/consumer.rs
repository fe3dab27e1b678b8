//! A group member on the model.

use std::sync::Arc;
use std::time::Duration;

use testudo::kafka::{
    Failure, GroupConsumer, Holding, Mark, Offset, Polled, Position, Reaction, Rebalance, Roster, RunBuilder, Slice, TopicPartition,
    Watermarks,
};
use testudo::planted::Bug;

use super::client::Client;
use super::faults::Fault;
use super::group::{GroupFault, Membership};
use super::link::{LOOK, Link};
use super::log::Entry;
use super::planted::Planted;

/// A member of the tenant's group.
pub struct ModelConsumer {
    link: Link,
    number: u64,
    holding: Holding,
}

impl ModelConsumer {
    /// A consumer of `topics`.
    pub fn subscribe(link: Link, instance: Option<&str>, topics: &[Arc<str>]) -> Self {
        let now = link.shared.now();
        let number = {
            let mut cluster = link.shared.cluster();
            let partitions = topics.iter().flat_map(|topic| {
                let partitions = cluster.topics.get(topic).map_or(0, |topic| topic.logs.len());
                (0..partitions).map(|partition| TopicPartition::new(topic.clone(), partition as i32))
            });
            cluster.shared_out = partitions.collect();
            let number = cluster.clients.keys().last().map_or(0, |last| last + 1);
            let client = Client::new(link.process, instance.map(str::to_owned), cluster.is_eager, now);
            cluster.clients.insert(number, client);
            number
        };
        Self { link, number, holding: Holding::default() }
    }

    fn with_client<T>(&self, act: impl FnOnce(&mut Client) -> T) -> Result<T, Failure> {
        let mut cluster = self.link.shared.cluster();
        let client = cluster.clients.get_mut(&self.number);
        client.map(act).ok_or_else(|| Failure::new(Reaction::Rejoin, "use a consumer", "it is closed"))
    }

    /// A call that asks nobody.
    fn local(&self, attempted: &str) -> Result<(), Failure> {
        self.link.alive(attempted)?;
        self.link.may_crash(attempted)
    }

    fn is_who_it_was(&mut self, attempted: &str) -> Result<(), Failure> {
        let is_told = |client: &mut Client| matches!(client.event, Some((Rebalance::Lost(_), _)));
        let (member, is_told) = self.with_client(|client| (client.membership.member.clone(), is_told(client)))?;
        self.holding.check(Some(&member), is_told, self.link.shared.now(), attempted)
    }

    /// Records of the partitions that are fetched, at most `most`.
    fn fetch(&self, most: usize) -> Result<Slice, Failure> {
        let mut cluster = self.link.shared.cluster();
        let is_dirty = Bug::UncommittedRead.is_planted();
        let Some(client) = cluster.clients.get(&self.number) else { return Ok(Slice::default()) };
        let fetching: Vec<(TopicPartition, i64)> = client
            .fetching
            .iter()
            .filter(|(_, fetching)| !fetching.is_paused)
            .map(|(partition, fetching)| (partition.clone(), fetching.position))
            .collect();
        let mut slice = Slice::default();
        for (partition, from) in fetching {
            let most = 1 + cluster.random.below(most.min(24));
            if cluster.random.permille(300) {
                continue;
            }
            let log = cluster.log(&partition);
            if from < log.low {
                return Err(Failure::new(Reaction::Rejoin, format!("fetch {partition}"), "the position is no longer in the log"));
            }
            let (entries, next) = log.read(from, most, is_dirty);
            let mut run = RunBuilder::new(partition.clone());
            entries.into_iter().for_each(|entry| push(&mut run, entry));
            if !run.is_empty() {
                slice.runs.push(run.finish());
            }
            if let Some(fetching) = cluster.clients.get_mut(&self.number).and_then(|client| client.fetching.get_mut(&partition)) {
                fetching.position = next;
            }
        }
        Ok(slice)
    }
}

/// Appends an entry to a run.
pub fn push(run: &mut RunBuilder, entry: &Entry) {
    run.push(Offset(entry.offset), entry.timestamp_ms, entry.key.as_deref(), entry.value.as_deref(), entry.headers.clone());
}

impl Drop for ModelConsumer {
    /// Leaves the group, unless it is a static member, its process has ended or is cut off: then the group finds out by itself.
    fn drop(&mut self) {
        let now = self.link.shared.now();
        let mut cluster = self.link.shared.cluster();
        let reaches = cluster.reaches(self.link.process, now);
        if let Some(client) = cluster.clients.remove(&self.number)
            && reaches
            && client.instance.is_none()
        {
            cluster.group.leave(&client.membership.member, now);
        }
    }
}

impl GroupConsumer for ModelConsumer {
    type Group = Membership;

    fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Polled, Failure> {
        let mut polled = Polled::default();
        match self.link.enter("poll", wait.max(Duration::from_millis(1))) {
            Ok(_) => {}
            Err(failure) if failure.reaction == Reaction::Retry => {
                polled.troubles.push(failure);
                return Ok(polled);
            }
            Err(failure) => return Err(failure),
        }
        for is_last in [false, true] {
            let event = self.with_client(|client| {
                let (event, was_handed_out) = client.event.as_mut()?;
                (!std::mem::replace(was_handed_out, true)).then(|| event.clone())
            })?;
            if event.is_some() || self.holding.is_due(self.link.shared.now()) {
                self.is_who_it_was("poll")?;
            }
            polled.rebalances.extend(event);
            polled.slice = self.fetch(records_max)?;
            if is_last || !polled.rebalances.is_empty() || !polled.slice.runs.is_empty() {
                break;
            }
            self.link.waits("poll", wait, self.link.deadline(wait))?;
        }
        Ok(polled)
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Position)]) -> Result<(), Failure> {
        self.local("assign")?;
        let member = self.with_client(|client| {
            client.answer_assigned(partitions.iter().map(|(partition, position)| (partition.clone(), position.0)));
            client.membership.member.clone()
        })?;
        self.holding.take(partitions.iter().map(|(partition, _)| partition.clone()), || Some(member));
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        self.local("unassign")?;
        self.with_client(|client| client.answer_released(partitions))?;
        self.holding.give_up(partitions);
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        self.local("pause")?;
        self.with_client(|client| {
            for partition in partitions {
                if let Some(fetching) = client.fetching.get_mut(partition) {
                    fetching.is_paused = true;
                }
            }
        })
    }

    fn resume(&mut self, partition: &TopicPartition, position: Position) -> Result<(), Failure> {
        self.local("resume")?;
        if self.link.shared.cluster().chances.strikes(Fault::NotReady, 4_000) {
            return Err(Failure::new(Reaction::Retry, format!("resume {partition}"), "the client is not ready"));
        }
        let is_known = self.with_client(|client| match client.fetching.get_mut(partition) {
            Some(fetching) => {
                (fetching.position, fetching.is_paused) = (position.0, false);
                true
            }
            None => false,
        })?;
        match is_known {
            true => Ok(()),
            false => Err(Failure::new(Reaction::Retry, format!("resume {partition}"), "it is not assigned")),
        }
    }

    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Mark>>, Failure> {
        let attempted = "read committed positions";
        let deadline = self.link.deadline(wait);
        self.link.enter(attempted, wait)?;
        loop {
            {
                let mut cluster = self.link.shared.cluster();
                let planted = cluster.planted;
                let is_moved = cluster.chances.strikes(Fault::Moved, 800);
                match cluster.group.positions(partitions, planted != Some(Planted::UnstablePositions)) {
                    Ok(positions) if !is_moved => {
                        let stale = |(position, partition): (Option<Mark>, &TopicPartition)| match planted {
                            Some(Planted::StalePositions) => cluster.group.position_before(partition).or(position),
                            _ => position,
                        };
                        return Ok(positions.into_iter().zip(partitions).map(stale).collect());
                    }
                    Ok(_) | Err(GroupFault::Unstable) => {}
                    Err(fault) => return Err(Failure::new(Reaction::Rejoin, attempted, format_args!("{fault:?}"))),
                }
            }
            if !self.link.waits(attempted, LOOK, deadline)? {
                return Err(Failure::timed_out(Reaction::Retry, attempted, wait));
            }
        }
    }

    fn watermarks(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Failure> {
        self.link.enter("read bounds", wait)?;
        let mut cluster = self.link.shared.cluster();
        let log = cluster.log(partition);
        Ok(Watermarks { low: Position(log.low), high: Position(log.stable_end()) })
    }

    fn fetch_positions(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<Position>>, Failure> {
        self.local("read fetch positions")?;
        self.with_client(|client| {
            let position = |partition| client.fetching.get(partition).map(|fetching| Position(fetching.position));
            partitions.iter().map(position).collect()
        })
    }

    fn known_end(&mut self, partition: &TopicPartition) -> Option<Position> {
        Some(Position(self.link.shared.cluster().log(partition).next))
    }

    fn roster(&mut self) -> Result<Option<Roster>, Failure> {
        self.local("ask who is in the group")?;
        let now = self.link.shared.now();
        let cluster = self.link.shared.cluster();
        let client = cluster.clients.get(&self.number);
        let Some(client) = client.filter(|client| client.instance.is_some() && cluster.reaches(client.process, now)) else {
            return Ok(None);
        };
        let (rests, members) = (cluster.group.is_stable(), cluster.group.assignments());
        Ok(Some(Roster { me: client.membership.member.clone(), rests, members }))
    }

    fn join_again(&mut self) -> Result<(), Failure> {
        self.local("join again")?;
        let now = self.link.shared.now();
        let mut cluster = self.link.shared.cluster();
        cluster.note(now, || format!("client {} joins again", self.number));
        cluster.joined_again += 1;
        let reaches = cluster.reaches(self.link.process, now);
        let Some(client) = cluster.clients.get_mut(&self.number) else { return Ok(()) };
        if let Some(left) = client.join_again()
            && reaches
        {
            cluster.group.leave(&left, now);
        }
        Ok(())
    }

    fn group(&mut self) -> Result<Membership, Failure> {
        self.local("take group membership")?;
        let membership = self.with_client(|client| client.membership.clone())?;
        let planted = self.link.shared.cluster().planted;
        if planted == Some(Planted::NoMembership) {
            return Ok(Membership::none());
        }
        self.is_who_it_was("take group membership")?;
        match membership.member.is_empty() || membership.generation < 1 {
            true => Err(Failure::new(Reaction::Rejoin, "take group membership", "this consumer is not a member of its group")),
            false => Ok(membership),
        }
    }
}
