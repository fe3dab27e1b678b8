//! The invariants, after a run has come to rest: each judge says what is wrong, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use testudo::kafka::TopicPartition;
use testudo::ledger::{Hasher, Sum, Transaction};
use testudo::store::LoggedProgress;
use testudo::store::keys::{ChangelogKey, read_changelog_key, window_key};

use super::cluster::Cluster;
use super::expected::{Expected, Produced, folded, logged};
use super::tail::Tail;
use super::updates::{by_window, start_and_count};
use crate::harness::Maps;

/// What a judge says.
pub type Judgement = Result<(), String>;

/// All that is judged.
pub struct Case<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The disks, by machine.
    pub disks: &'a [Maps],
    /// What should be.
    pub expected: &'a Expected,
    /// What was read on the way.
    pub tail: &'a Tail,
}

impl Case<'_> {
    /// All judges, in the order in which they say most.
    pub fn judge(&self) -> Judgement {
        self.tail.untrue(self.cluster).map_or(Ok(()), Err)?;
        self.nothing_is_open()?;
        self.positions_are_at_the_end()?;
        self.sequences_are_exact("low")?;
        self.sequences_are_exact("zoo-dead-letters")?;
        self.final_results_come_once("closed")?;
        self.updates_end_right_and_only_grow("updated")?;
        self.changelogs_fold_to_the_state()?;
        self.progress_never_goes_back()?;
        self.the_ledger_adds_up()?;
        self.owners_have_the_state()
    }

    fn partitions(&self, topic: &str) -> impl Iterator<Item = i32> + use<> {
        0..self.cluster.topics.get(topic).map_or(0, |topic| topic.logs.len() as i32)
    }

    fn actual(&self, topic: &str, partition: i32) -> Vec<Produced> {
        self.cluster.topics[topic].logs[partition as usize].committed().into_iter().map(Produced::from).collect()
    }

    fn wanted(&self, topic: &str, partition: i32) -> &[Produced] {
        self.expected.outputs.get(&(Arc::from(topic), partition)).map_or(&[], Vec::as_slice)
    }

    /// I8, EOS-1: no transaction is left open, in the coordinator or in any log.
    fn nothing_is_open(&self) -> Judgement {
        let unfinished = self.cluster.coordinator.unfinished();
        if !unfinished.is_empty() {
            return Err(format!("transactions of {unfinished:?} are open"));
        }
        for (name, topic) in &self.cluster.topics {
            if let Some(partition) = topic.logs.iter().position(super::log::Log::has_open) {
                return Err(format!("{name}/{partition} has a transaction open that nobody will end"));
            }
        }
        Ok(())
    }

    fn positions_are_at_the_end(&self) -> Judgement {
        for (partition, (wanted, _)) in &self.expected.progress {
            let position =
                self.cluster.group.positions(std::slice::from_ref(partition), true).map_err(|fault| format!("{partition}: {fault:?}"))?[0];
            let position = position.map(|mark| mark.position.0);
            if position != Some(*wanted) {
                return Err(format!("the group stands at {position:?} in {partition}, the input ends at {wanted}"));
            }
        }
        Ok(())
    }

    /// The ledger, where there is one: the ranges of a partition follow each other up to the group's position, and what they took and
    /// produced adds up to what is there.
    fn the_ledger_adds_up(&self) -> Judgement {
        let Some(ledger) = self.cluster.topics.get("zoo-ledger") else { return Ok(()) };
        let mut hasher = Hasher::default();
        let (mut ends, mut produced) = (BTreeMap::new(), BTreeMap::<TopicPartition, Sum>::new());
        for entry in ledger.logs[0].committed() {
            let transaction =
                Transaction::decode(entry.value.as_deref().unwrap_or_default()).map_err(|unreadable| unreadable.to_string())?;
            for range in &transaction.inputs {
                let (partition, first, end) = (&range.partition, range.first.0, range.end.0);
                let told =
                    || format!("{} #{} tells of {partition} from {first} to {end}", transaction.transactional_id, transaction.sequence);
                if let Some(before) = ends.insert(partition.clone(), end).filter(|before| *before != first) {
                    return Err(format!("{}, the range before ended at {before}", told()));
                }
                let mut taken = Sum::default();
                let log = &self.cluster.topics[&partition.topic].logs[partition.partition as usize];
                for record in log.committed().into_iter().filter(|record| (first..end).contains(&record.offset)) {
                    taken.add(hasher.input(record.offset, record.timestamp_ms, record.key.as_deref(), record.value.as_deref()));
                }
                if taken != range.taken {
                    return Err(format!("{} and took {:?}, there are {taken:?}", told(), range.taken));
                }
                range.outputs.iter().for_each(|(partition, sum)| *produced.entry(partition.clone()).or_default() += *sum);
            }
        }
        for (partition, (position, _)) in &self.expected.progress {
            if ends.get(partition) != Some(position) {
                return Err(format!("the ledger has {partition} up to {:?}, the group stands at {position}", ends.get(partition)));
            }
        }
        for (name, topic) in self.cluster.topics.iter().filter(|(name, _)| !["in", "zoo-ledger"].contains(&&***name)) {
            for (number, log) in topic.logs.iter().enumerate() {
                let mut found = Sum::default();
                for record in log.committed() {
                    let headers = record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref().unwrap_or_default()));
                    found.add(hasher.output(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers));
                }
                let told = produced.get(&TopicPartition::new(name.clone(), number as i32)).copied().unwrap_or_default();
                if found != told {
                    return Err(format!("the ledger tells of {told:?} in {name}/{number}, there are {found:?}"));
                }
            }
        }
        Ok(())
    }

    /// Alerts and dead letters: exactly those, in the order of their input (EOS-6).
    fn sequences_are_exact(&self, topic: &str) -> Judgement {
        for partition in self.partitions(topic) {
            let (actual, wanted) = (self.actual(topic, partition), self.wanted(topic, partition));
            if actual != wanted {
                let first =
                    actual.iter().zip(wanted).position(|(actual, wanted)| actual != wanted).unwrap_or(actual.len().min(wanted.len()));
                return Err(format!(
                    "{topic}/{partition} has {} records where {} are due; number {first} is {:?} where {:?} is due",
                    actual.len(),
                    wanted.len(),
                    actual.get(first),
                    wanted.get(first)
                ));
            }
        }
        Ok(())
    }

    /// TIME-2: one result for each window that closed. Those of one epoch have no order among themselves.
    fn final_results_come_once(&self, topic: &str) -> Judgement {
        for partition in self.partitions(topic) {
            let (mut actual, mut wanted) = (self.actual(topic, partition), self.wanted(topic, partition).to_vec());
            actual.sort();
            wanted.sort();
            if actual != wanted {
                let difference =
                    actual.iter().find(|record| !wanted.contains(record)).or_else(|| wanted.iter().find(|record| !actual.contains(record)));
                let counts = (actual.len(), wanted.len());
                return Err(format!(
                    "{topic}/{partition} has {} final results where {} are due, or others: {difference:?}",
                    counts.0, counts.1
                ));
            }
        }
        Ok(())
    }

    /// The last update of each window is the expected one; before it stand smaller ones, each once.
    fn updates_end_right_and_only_grow(&self, topic: &str) -> Judgement {
        for partition in self.partitions(topic) {
            let (actual, wanted) = (by_window(&self.actual(topic, partition)), by_window(self.wanted(topic, partition)));
            if actual.keys().ne(wanted.keys()) {
                return Err(format!("{topic}/{partition} has results of other windows than are due"));
            }
            for (window, updates) in &actual {
                if updates.last() != wanted[window].last() {
                    return Err(format!(
                        "{topic}/{partition}: window {window:?} ends with {:?}, not {:?}",
                        updates.last(),
                        wanted[window].last()
                    ));
                }
                let counts: Vec<i64> = updates.iter().map(|update| start_and_count(update).1).collect();
                if !counts.is_sorted_by(|before, after| before < after) {
                    return Err(format!("{topic}/{partition}: window {window:?} counts {counts:?}"));
                }
            }
        }
        Ok(())
    }

    fn changelogs(&self) -> impl Iterator<Item = (u32, &'static str)> {
        // Stores are numbered in the order of the tenant file.
        [(0, "zoo-updated-in-changelog"), (1, "zoo-closed-in-changelog")].into_iter()
    }

    /// A changelog's last values are the state, whatever compaction took away.
    fn changelogs_fold_to_the_state(&self) -> Judgement {
        for (store, topic) in self.changelogs() {
            for partition in self.partitions(topic) {
                let (actual, wanted) = (folded(&self.actual(topic, partition)), folded(self.wanted(topic, partition)));
                if actual.keys().ne(wanted.keys()) || actual.iter().any(|(key, value)| !is_same(key, value, &wanted[key])) {
                    return Err(format!("{topic}/{partition} does not fold to the expected state"));
                }
                for (key, value) in &actual {
                    if let Some(ChangelogKey::Window { start_us, key }) = read_changelog_key(key) {
                        let kept = self.expected.states.get(&window_key(store, partition, start_us, key));
                        if kept.map(Vec::as_slice) != Some(value) {
                            return Err(format!("{topic}/{partition} holds a state of {start_us} that the expected store does not"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// TIME-1, and the order of transactions: marks, stream times and swept bounds in a changelog only grow.
    fn progress_never_goes_back(&self) -> Judgement {
        for (_, topic) in self.changelogs() {
            for partition in self.partitions(topic) {
                let records = self.actual(topic, partition);
                let is_progress =
                    |record: &&Produced| matches!(record.key.as_deref().and_then(read_changelog_key), Some(ChangelogKey::Progress));
                let logged: Vec<_> = records.iter().filter(is_progress).filter_map(|record| logged(record.value.as_ref()?)).collect();
                let grows = logged.is_sorted_by(|before, after| {
                    before.mark < after.mark && before.stream_time_us <= after.stream_time_us && before.swept <= after.swept
                });
                if !grows {
                    return Err(format!("progress goes back in {topic}/{partition}: {logged:?}"));
                }
            }
        }
        Ok(())
    }

    /// EOS-3, EOS-9: who owns a partition has its state on disk, at the group's position.
    fn owners_have_the_state(&self) -> Judgement {
        let mut owned = BTreeSet::new();
        for client in self.cluster.clients.values() {
            for partition in client.owned() {
                if !owned.insert(partition.clone()) {
                    return Err(format!("{partition} has two owners"));
                }
                self.owner_has_the_state(&partition, &self.disks[client.process.machine])?;
            }
        }
        let unowned = self.expected.progress.keys().find(|partition| !owned.contains(*partition));
        unowned.map_or(Ok(()), |partition| Err(format!("nobody owns {partition}")))
    }

    fn owner_has_the_state(&self, partition: &TopicPartition, disk: &Maps) -> Judgement {
        let of = |states: &BTreeMap<Vec<u8>, Vec<u8>>| -> BTreeMap<Vec<u8>, Vec<u8>> {
            let is_its = |key: &[u8]| testudo::store::keys::read_window_key(key).is_some_and(|key| key.partition == partition.partition);
            states.iter().filter(|(key, _)| is_its(key)).map(|(key, state)| (key.clone(), state.clone())).collect()
        };
        let (actual, wanted) = (of(&disk.states), of(&self.expected.states));
        if actual != wanted {
            return Err(format!("the owner of {partition} has {} states where {} are due, or others", actual.len(), wanted.len()));
        }
        let Some((position, stream_time_us)) = self.expected.progress.get(partition) else { return Ok(()) };
        match disk.progress.get(partition) {
            Some(progress) if (progress.mark.position.0, progress.stream_time_us) == (*position, *stream_time_us) => Ok(()),
            other => {
                Err(format!("the owner of {partition} stands at {other:?}, where {position} and stream time {stream_time_us:?} are due"))
            }
        }
    }
}

/// Whether two changelog values say the same: progress records name their topics' identity, which another cluster gave.
fn is_same(key: &Bytes, actual: &Bytes, wanted: &Bytes) -> bool {
    match read_changelog_key(key) {
        Some(ChangelogKey::Progress) => {
            let (Some(actual), Some(wanted)) = (logged(actual), logged(wanted)) else { return false };
            // How many sweeps it took depends on where epochs were cut; that nothing is left behind the last one changes nothing.
            let is_swept = actual.swept <= wanted.swept;
            let is_at_the_end = actual.mark.position == wanted.mark.position;
            is_swept && is_at_the_end && LoggedProgress { mark: wanted.mark, swept: wanted.swept.clone(), ..actual } == wanted
        }
        _ => actual == wanted,
    }
}
