//! The cluster as a whole: logs, coordinators, machines, requests that are still under way, and what happens when time passes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testudo::kafka::{Mark, NewTopic, Outgoing, TopicPartition};

use super::client::{Client, Process};
use super::faults::{Chances, Fault};
use super::group::{Group, Membership};
use super::log::{AppendFault, Log};
use super::plan::Plan;
use super::planted::Planted;
use super::random::Random;
use super::transactions::{Coordinator, Marker, Session, Target};

/// How often overdue transactions are looked for: `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Events of the trace that are kept.
const TRACE_MAX: usize = 120;

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Its identity.
    pub id: String,
    /// Whether it is compacted.
    pub is_compacted: bool,
    /// Its partitions.
    pub logs: Vec<Log>,
}

/// A machine that runs an instance.
#[derive(Debug, Default)]
pub struct Machine {
    /// Number of its present process.
    pub incarnation: u32,
    /// Its present process has ended without a word.
    pub is_crashed: bool,
    /// It stands still.
    pub is_frozen: bool,
    /// It does not reach the brokers until then.
    pub cut_off_until: Duration,
    /// Tells the workers of the present process to stop.
    pub stop: Option<Arc<AtomicBool>>,
}

/// A request that its client has given up, and that arrives all the same.
#[derive(Clone, Debug)]
pub enum Late {
    /// EndTxn.
    End { id: String, session: Session, is_commit: bool },
    /// AddPartitionsToTxn, AddOffsetsToTxn.
    Registration { id: String, session: Session, target: Target },
    /// TxnOffsetCommit.
    Positions { id: String, session: Session, membership: Membership, positions: Vec<(TopicPartition, Mark)> },
    /// Produce.
    Records { id: String, session: Session, partition: TopicPartition, sequence: usize, records: Vec<Outgoing> },
}

/// Everything there is beside the workers.
pub struct Cluster {
    /// When faults strike.
    pub chances: Chances,
    /// The cluster's own choices.
    pub random: Random,
    /// The bug that is put in.
    pub planted: Option<Planted>,
    /// Whether consumers are eager.
    pub is_eager: bool,
    /// Topics by name.
    pub topics: BTreeMap<Arc<str>, Topic>,
    /// The transaction coordinator.
    pub coordinator: Coordinator,
    /// The tenant's group.
    pub group: Group,
    /// The partitions that the group shares out.
    pub shared_out: Vec<TopicPartition>,
    /// Consumers by number.
    pub clients: BTreeMap<u64, Client>,
    /// Machines by number.
    pub machines: Vec<Machine>,
    /// No broker answers until then.
    pub outage_until: Duration,
    /// How often a member has joined again for the sake of a partition without an owner.
    pub joined_again: u64,
    under_way: Vec<(Duration, Late)>,
    swept: Duration,
    trace: Option<VecDeque<String>>,
}

impl Cluster {
    /// A cluster without topics.
    pub fn new(plan: &Plan, is_traced: bool) -> Self {
        Self {
            chances: Chances::new(plan.seed, plan.faults),
            random: Random::new(plan.seed, 1),
            planted: plan.planted,
            is_eager: plan.is_eager,
            topics: BTreeMap::new(),
            coordinator: Coordinator::default(),
            group: Group::default(),
            shared_out: Vec::new(),
            clients: BTreeMap::new(),
            machines: (0..plan.machines).map(|_| Machine::default()).collect(),
            outage_until: Duration::ZERO,
            joined_again: 0,
            under_way: Vec::new(),
            swept: Duration::ZERO,
            trace: is_traced.then(VecDeque::new),
        }
    }

    /// Creates a topic that is not there yet.
    pub fn create(&mut self, topic: &NewTopic, low: i64) {
        let number = self.topics.len();
        let is_compacted = topic.config.iter().any(|(key, value)| key == "cleanup.policy" && value == "compact");
        let logs = || (0..topic.partitions).map(|_| Log::starting_at(low)).collect();
        self.topics.entry(topic.name.clone()).or_insert_with(|| Topic { id: format!("topic-{number}"), is_compacted, logs: logs() });
    }

    /// A partition's log. Panics when there is none: clients name topics that they have looked up.
    pub fn log(&mut self, partition: &TopicPartition) -> &mut Log {
        let topic = self.topics.get_mut(&partition.topic).expect("a topic that exists");
        &mut topic.logs[partition.partition as usize]
    }

    /// Notes an event for the trace.
    pub fn note(&mut self, now: Duration, event: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_MAX {
                trace.pop_front();
            }
            trace.push_back(format!("{:>10.3} s  {}", now.as_secs_f64(), event()));
        }
    }

    /// The last events.
    pub fn trace(&self) -> String {
        self.trace.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Whether a process has ended.
    pub fn is_dead(&self, process: Process) -> bool {
        let machine = &self.machines[process.machine];
        machine.is_crashed || machine.incarnation != process.incarnation
    }

    /// Whether a process reaches the brokers.
    pub fn reaches(&self, process: Process, now: Duration) -> bool {
        let machine = &self.machines[process.machine];
        !self.is_dead(process) && !machine.is_frozen && now >= machine.cut_off_until && now >= self.outage_until
    }

    /// Ends a process without a word.
    pub fn crash(&mut self, machine: usize, now: Duration) {
        self.note(now, || format!("machine {machine} crashes"));
        let machine = &mut self.machines[machine];
        machine.is_crashed = true;
        if let Some(stop) = &machine.stop {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// Sends a request that will arrive after `delay`.
    pub fn send_late(&mut self, now: Duration, delay: Duration, late: Late) {
        self.note(now, || format!("under way for {:.3} s: {late:?}", delay.as_secs_f64()));
        self.under_way.push((now + delay, late));
    }

    /// Whether anything is still under way.
    pub fn is_quiet(&self) -> bool {
        self.under_way.is_empty() && self.coordinator.markers.is_empty()
    }

    /// What happens by itself.
    pub fn pass(&mut self, now: Duration) {
        if now >= self.outage_until {
            self.arrive(now);
            self.sweep(now);
            self.write_markers(now);
        }
        self.work_clients(now);
    }

    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        for id in self.coordinator.overdue(now) {
            self.note(now, || format!("transaction of {id} times out"));
            self.coordinator.time_out(&id);
        }
    }

    fn arrive(&mut self, now: Duration) {
        let (due, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.under_way).into_iter().partition(|(at, _)| *at <= now);
        self.under_way = left;
        for (_, late) in due {
            let outcome = match &late {
                Late::End { id, session, is_commit } => format!("{:?}", self.coordinator.end(id, *session, *is_commit)),
                Late::Registration { id, session, target } => format!("{:?}", self.coordinator.add(id, *session, target.clone(), now)),
                Late::Positions { id, session, membership, positions } => match self.coordinator.has(id, *session, &Target::Group) {
                    true => format!("{:?}", self.group.commit(*session, membership, positions)),
                    false => "no such transaction".into(),
                },
                Late::Records { id, session, partition, sequence, records } => {
                    format!("{:?}", self.append(id, *session, partition, *sequence, records))
                }
            };
            self.note(now, || format!("arrives late: {late:?}: {outcome}"));
        }
    }

    /// Appends a transaction's records, if the coordinator knows of them. `None`: it does not.
    pub fn append(
        &mut self,
        id: &str,
        session: Session,
        partition: &TopicPartition,
        sequence: usize,
        records: &[Outgoing],
    ) -> Option<Result<(), AppendFault>> {
        let is_known = self.log(partition).is_open(session.producer, session.epoch)
            || self.coordinator.has(id, session, &Target::Partition(partition.clone()));
        is_known.then(|| self.log(partition).append_open(session.producer, session.epoch, sequence, records))
    }

    fn write_markers(&mut self, now: Duration) {
        let markers = std::mem::take(&mut self.coordinator.markers);
        for marker in markers {
            if self.chances.strikes(Fault::SlowMarkers, 8_500) {
                self.coordinator.markers.push(marker);
            } else {
                self.write_marker(&marker, now);
            }
        }
    }

    fn write_marker(&mut self, marker: &Marker, now: Duration) {
        match &marker.target {
            Target::Partition(partition) => self.log(partition).mark(marker.session.producer, marker.session.epoch, marker.is_commit),
            Target::Group => self.group.mark(marker.session, marker.is_commit),
        }
        if self.coordinator.written(marker) {
            self.note(now, || format!("{}: all markers are written, commit: {}", marker.id, marker.is_commit));
        }
    }

    /// Sessions, joins and heartbeats: the consumers' background threads, as far as they run and reach the group.
    fn work_clients(&mut self, now: Duration) {
        if now >= self.outage_until {
            self.advance_group(now);
        }
        let mut heard = BTreeSet::new();
        let mut clients = std::mem::take(&mut self.clients);
        for client in clients.values_mut() {
            let machine = &self.machines[client.process.machine];
            if self.is_dead(client.process) || machine.is_frozen {
                continue;
            }
            if !self.reaches(client.process, now) {
                client.miss(now);
                continue;
            }
            if self.random.permille(700) {
                let before = client.event.is_some();
                client.work(&mut self.group, now);
                if let Some((event, _)) = client.event.as_ref().filter(|_| !before) {
                    self.note(now, || format!("{} of machine {}: {event:?}", client.membership.member, client.process.machine));
                }
            }
            heard.insert(client.membership.member.clone());
        }
        self.clients = clients;
        if now >= self.outage_until {
            self.group.hear(&heard, now);
            self.advance_group(now);
        }
    }

    fn advance_group(&mut self, now: Duration) {
        let gone = self.group.advance(now, self.outage_until, &self.shared_out);
        for member in gone {
            self.note(now, || format!("session of {member} ends"));
        }
    }
}
