//! A transactional producer on the model. It repeats requests by itself for a while, as librdkafka does, and knows when it was in doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use testudo::clock::Deadline;
use testudo::kafka::{Failure, Mark, Outgoing, Reaction, TopicPartition, TransactionalProducer};

use super::cluster::{Cluster, Late};
use super::faults::Fault;
use super::group::{GroupFault, Membership};
use super::link::{Link, Loss};
use super::log::AppendFault;
use super::transactions::{Session, Target, TxnFault};

/// Pause before a request is repeated that the coordinator was too busy for.
const BUSY: Duration = Duration::from_millis(20);

/// A producer of one transactional id.
pub struct ModelProducer {
    link: Link,
    id: String,
    timeout: Duration,
    session: Option<Session>,
    queue: Vec<Outgoing>,
    registered: BTreeSet<Target>,
    sequences: BTreeMap<TopicPartition, usize>,
    /// Something was sent for this transaction, whether it arrived or not.
    has_sent: bool,
    /// Records were given up: the next transaction needs another epoch (KIP-360).
    needs_epoch: bool,
    is_in_doubt: bool,
    fatal: Option<String>,
}

impl ModelProducer {
    /// A producer that is not initialised yet.
    pub fn new(link: Link, id: &str, timeout: Duration) -> Self {
        Self {
            link,
            id: id.to_owned(),
            timeout,
            session: None,
            queue: Vec::new(),
            registered: BTreeSet::new(),
            sequences: BTreeMap::new(),
            has_sent: false,
            needs_epoch: false,
            is_in_doubt: false,
            fatal: None,
        }
    }

    /// A process in good health, a producer too. A connection that was lost on the way is a doubt.
    fn enter(&mut self, attempted: &str, deadline: Deadline) -> Result<(), Failure> {
        if let Some(cause) = &self.fatal {
            return Err(Failure { is_fenced: true, ..Failure::new(Reaction::ReplaceProducer, attempted, cause) });
        }
        let entered = self.link.enter(attempted, deadline.left(&*self.link.shared.clock));
        self.is_in_doubt |= !matches!(entered, Ok(false));
        entered.map(drop)
    }

    fn session(&self) -> Session {
        self.session.expect("transactions are initialised before they begin")
    }

    /// The end of this producer.
    fn fail(&mut self, attempted: &str, cause: impl std::fmt::Debug) -> Failure {
        let cause = format!("{cause:?}");
        self.link.shared.note(|| format!("{} of {}: {attempted}: {cause}", self.id, self.link.process));
        self.fatal = Some(cause.clone());
        Failure { is_fenced: cause.contains("Fenced"), ..Failure::new(Reaction::ReplaceProducer, attempted, cause) }
    }

    /// A request to a coordinator, repeated while it is too busy or does not answer. `Err(Retry)`: nobody knows whether it was done.
    fn ask<T>(
        &mut self,
        attempted: &str,
        deadline: Deadline,
        kinds: (Option<Fault>, Option<Fault>),
        late: impl Fn(&Self) -> Option<Late>,
        act: impl Fn(&Self, &mut Cluster, Duration) -> Result<T, TxnFault>,
    ) -> Result<T, Failure> {
        loop {
            self.enter(attempted, deadline)?;
            let is_moved = self.link.shared.cluster().chances.strikes(Fault::Moved, 500);
            let loss = self.link.loss(kinds.0, kinds.1);
            let now = self.link.shared.now();
            if !is_moved && let Loss::Late(delay) | Loss::Doubled(delay) = loss {
                self.is_in_doubt = true;
                if let Some(late) = late(self) {
                    self.link.shared.cluster().send_late(now, delay, late);
                }
            }
            if !is_moved && loss != Loss::Request && !matches!(loss, Loss::Late(_)) {
                let answer = act(self, &mut self.link.shared.cluster(), now);
                self.link.may_crash(attempted)?;
                if loss != Loss::Answer {
                    match answer {
                        Ok(answer) => return Ok(answer),
                        Err(TxnFault::Concurrent) => {}
                        Err(fault) => return Err(self.fail(attempted, fault)),
                    }
                }
            }
            let tries_again = match is_moved || matches!(loss, Loss::None | Loss::Doubled(_)) {
                true => self.link.waits(attempted, BUSY, deadline)?,
                false => {
                    self.is_in_doubt = true;
                    self.link.waits_in_vain(attempted, deadline)?
                }
            };
            if !tries_again {
                return Err(Failure::new(Reaction::Retry, attempted, format_args!("no answer in time ({loss:?})")));
            }
        }
    }

    fn register(&mut self, target: &Target, deadline: Deadline) -> Result<(), Failure> {
        if self.registered.contains(target) {
            return Ok(());
        }
        self.has_sent = true;
        let late =
            |producer: &Self| Some(Late::Registration { id: producer.id.clone(), session: producer.session(), target: target.clone() });
        self.ask("register in the transaction", deadline, (Some(Fault::LateRegistration), None), late, |producer, cluster, now| {
            cluster.coordinator.add(&producer.id, producer.session(), target.clone(), now)
        })?;
        self.registered.insert(target.clone());
        Ok(())
    }

    /// Sends a partition's records until they are acknowledged.
    fn produce(&mut self, partition: &TopicPartition, records: &[Outgoing], deadline: Deadline) -> Result<(), Failure> {
        let attempted = "produce";
        let sequence = self.sequences.get(partition).copied().unwrap_or(0);
        let session = self.session();
        loop {
            self.enter(attempted, deadline)?;
            let loss = self.link.loss(Some(Fault::LateProduce), None);
            let now = self.link.shared.now();
            if let Loss::Late(delay) = loss {
                let late =
                    Late::Records { id: self.id.clone(), session, partition: partition.clone(), sequence, records: records.to_vec() };
                self.link.shared.cluster().send_late(now, delay, late);
            }
            if matches!(loss, Loss::None | Loss::Answer) {
                let outcome = self.link.shared.cluster().append(&self.id, session, partition, sequence, records);
                self.link.may_crash(attempted)?;
                match outcome {
                    None => return Err(Failure::new(Reaction::Abort, attempted, "the partition is in no open transaction")),
                    Some(Err(AppendFault::Fenced)) => return Err(self.fail(attempted, AppendFault::Fenced)),
                    Some(Err(fault)) => return Err(self.fail(attempted, fault)),
                    Some(Ok(())) if loss == Loss::None => break,
                    Some(Ok(())) => {}
                }
            }
            if !self.link.waits_in_vain(attempted, deadline)? {
                return Err(Failure::new(Reaction::Retry, attempted, "no acknowledgement in time"));
            }
        }
        self.sequences.insert(partition.clone(), sequence + records.len());
        Ok(())
    }

    /// Registers all partitions, then sends to each of them.
    fn send_batches(&mut self, batches: &BTreeMap<TopicPartition, Vec<Outgoing>>, deadline: Deadline) -> Result<(), Failure> {
        for partition in batches.keys() {
            self.register(&Target::Partition(partition.clone()), deadline)?;
        }
        for (partition, records) in batches {
            self.produce(partition, records, deadline)?;
        }
        Ok(())
    }

    fn end(&mut self, is_commit: bool, wait: Duration) -> Result<(), Failure> {
        let attempted = if is_commit { "commit" } else { "abort" };
        let late = |producer: &Self| Some(Late::End { id: producer.id.clone(), session: producer.session(), is_commit });
        let kinds = (Some(Fault::LateEndTxn), Some(Fault::DoubledEndTxn));
        let deadline = self.link.deadline(wait);
        self.ask(attempted, deadline, kinds, late, |producer, cluster, now| {
            let answer = cluster.coordinator.end(&producer.id, producer.session(), is_commit);
            cluster.note(now, || format!("{} of {}: {attempted}: {answer:?}", producer.id, producer.link.process));
            answer
        })
    }

    fn forget(&mut self) {
        self.queue.clear();
        self.registered.clear();
        self.has_sent = false;
    }
}

impl TransactionalProducer for ModelProducer {
    type Group = Membership;

    fn init(&mut self, wait: Duration) -> Result<(), Failure> {
        let deadline = self.link.deadline(wait);
        let (known, timeout) = (self.session, self.timeout);
        let session = self.ask(
            "initialise transactions",
            deadline,
            (None, None),
            |_| None,
            |producer, cluster, now| {
                let answer = cluster.coordinator.init(&producer.id, known, timeout);
                cluster.note(now, || format!("{} of {}: initialise: {answer:?}", producer.id, producer.link.process));
                answer
            },
        )?;
        self.session = Some(session);
        self.sequences.clear();
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.link.alive("begin")?;
        self.forget();
        match &self.fatal {
            Some(cause) => Err(Failure::new(Reaction::ReplaceProducer, "begin", cause)),
            None => Ok(()),
        }
    }

    fn send(&mut self, record: &Outgoing, _: Duration) -> Result<(), Failure> {
        self.link.alive("send")?;
        self.link.may_crash("send")?;
        self.queue.push(record.clone());
        Ok(())
    }

    fn drain(&mut self, wait: Duration) -> Result<(), Failure> {
        let deadline = self.link.deadline(wait);
        let mut batches: BTreeMap<TopicPartition, Vec<Outgoing>> = BTreeMap::new();
        for record in std::mem::take(&mut self.queue) {
            batches.entry(TopicPartition::new(record.topic.clone(), record.partition)).or_default().push(record);
        }
        self.send_batches(&batches, deadline).map_err(|failure| {
            self.needs_epoch = true;
            // The client gives the records up when their time is over, which fails the transaction.
            match failure.reaction {
                Reaction::Retry => Failure { reaction: Reaction::Abort, ..failure },
                _ => failure,
            }
        })
    }

    fn send_positions(&mut self, positions: &[(TopicPartition, Mark)], group: &Membership, wait: Duration) -> Result<(), Failure> {
        let attempted = "send positions into the transaction";
        let deadline = self.link.deadline(wait);
        self.register(&Target::Group, deadline)?;
        loop {
            self.enter(attempted, deadline)?;
            let loss = self.link.loss(Some(Fault::LatePositions), None);
            // The group's coordinator, too: late positions would set the next transaction's back, as a late EndTxn would end it.
            self.is_in_doubt |= loss != Loss::None;
            let (now, session) = (self.link.shared.now(), self.session());
            if let Loss::Late(delay) = loss {
                let late =
                    Late::Positions { id: self.id.clone(), session, membership: Membership::clone(group), positions: positions.to_vec() };
                self.link.shared.cluster().send_late(now, delay, late);
            }
            if matches!(loss, Loss::None | Loss::Answer) {
                let answer = {
                    let mut cluster = self.link.shared.cluster();
                    let is_known = cluster.coordinator.has(&self.id, session, &Target::Group);
                    let answer = if is_known { cluster.group.commit(session, group, positions) } else { Err(GroupFault::Fenced) };
                    cluster.note(now, || format!("{} of {}: positions {}: {answer:?}", self.id, group.member, shown(positions)));
                    answer
                };
                self.link.may_crash(attempted)?;
                match answer {
                    Ok(()) if loss == Loss::None => return Ok(()),
                    Ok(()) => {}
                    Err(GroupFault::Fenced) => return Err(self.fail(attempted, GroupFault::Fenced)),
                    Err(fault) => return Err(Failure::new(Reaction::Rejoin, attempted, format_args!("{fault:?}"))),
                }
            }
            if !self.link.waits_in_vain(attempted, deadline)? {
                return Err(Failure::timed_out(Reaction::Retry, attempted, wait));
            }
        }
    }

    fn commit(&mut self, wait: Duration) -> Result<(), Failure> {
        if !self.has_sent {
            return Ok(());
        }
        self.end(true, wait)?;
        self.forget();
        Ok(())
    }

    fn abort(&mut self, wait: Duration) -> Result<(), Failure> {
        if self.has_sent {
            self.end(false, wait)?;
        }
        self.forget();
        if std::mem::take(&mut self.needs_epoch) {
            self.init(wait)?;
        }
        Ok(())
    }

    fn take_coordinator_doubt(&mut self) -> bool {
        std::mem::take(&mut self.is_in_doubt)
    }

    fn take_refusal(&mut self) -> Option<String> {
        None
    }
}

fn shown(positions: &[(TopicPartition, Mark)]) -> String {
    positions.iter().map(|(partition, position)| format!("{partition} {position}")).collect::<Vec<_>>().join(", ")
}
