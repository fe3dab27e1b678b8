//! From runs to a sealed epoch: admission, branches and dead letters of one worker, without a broker in sight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::admit::{Admission, AdmitFault, Admitted};
use super::branch::time::stream_times;
use super::branch::{AlertBranch, BranchFault, SealedPartition, SealedWindows, WindowBranch};
use super::epoch::{Advance, Epoch, SealedEpoch};
use super::rejection::{DeadLetterTopic, Rejection};
use super::sweeping::SWEEP_MAX;
use crate::avro::frame::SchemaId;
use crate::failpoint;
use crate::kafka::{Headers, Mark, Offset, Outgoing, Position, Run, TopicPartition};
use crate::ledger;
use crate::planted::Bug;
use crate::store::{ChangelogProgress, Changes, LoggedProgress, Progress, ScanMax, StateStore, Swept, WindowStoreId, keys};

/// A fault of Testudo or its surroundings while processing; nothing of the epoch is lost, it is done again.
#[derive(Debug, thiserror::Error)]
pub enum ProcessFault {
    /// Admission failed.
    #[error(transparent)]
    Admit(#[from] AdmitFault),
    /// A branch failed.
    #[error(transparent)]
    Branch(#[from] BranchFault),
}

/// Where a restored partition stands, as the processor needs it.
#[derive(Clone, Debug)]
pub struct Task {
    /// Index of its source.
    pub source: usize,
    /// Partitions of its topic (KEY-1).
    pub topic_partitions: i32,
    /// Identity of its topic.
    pub topic_id: String,
    /// The committed mark.
    pub mark: Mark,
    /// Largest event time admitted.
    pub stream_time_us: Option<i64>,
    /// For each window its changelog and where the store keeps it.
    pub windows: BTreeMap<String, TaskWindow>,
}

/// The state of one window in one partition.
#[derive(Clone, Debug)]
pub struct TaskWindow {
    /// Number in the store.
    pub store: WindowStoreId,
    /// Changelog topic.
    pub changelog: Arc<str>,
    /// Changelog position that the store is at least equal to.
    pub progress: ChangelogProgress,
    /// Identity of the declaration, for the changelog.
    pub identity: String,
    /// Windows that are closed, reported and gone.
    pub swept: Swept,
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Processed {
    /// The record that has to wait for its schema; nothing from it on was taken.
    pub waiting_at: Option<(Offset, SchemaId)>,
    /// How far stream time was ahead of each late record, microseconds.
    pub late_by_us: Vec<i64>,
    /// Largest distance between a record's event time and its Kafka timestamp, microseconds (C43).
    pub distance_us: i64,
}

/// Processes the runs of one worker.
pub struct Processor {
    admissions: Vec<Admission>,
    alerts: Vec<AlertBranch>,
    pub(super) windows: Vec<WindowBranch>,
    dead_letters: DeadLetterTopic,
    store: Arc<dyn StateStore>,
    pub(super) tasks: BTreeMap<TopicPartition, Task>,
    /// Partitions with closed windows that are still to be swept.
    pub(super) owing: BTreeSet<TopicPartition>,
    pub(super) epoch: Epoch,
    ledger: Option<ledger::Writer>,
    /// Lets out only what comes of windows: the rest was let out by the generation before.
    is_rebuilding: bool,
    /// What a small epoch sweeps of closed windows.
    pub(super) sweep: ScanMax,
}

impl Processor {
    /// A processor with one admission for each source, in their order.
    pub fn new(
        admissions: Vec<Admission>,
        alerts: Vec<AlertBranch>,
        windows: Vec<WindowBranch>,
        dead_letters: DeadLetterTopic,
        store: Arc<dyn StateStore>,
    ) -> Self {
        let (tasks, owing, epoch) = (BTreeMap::new(), BTreeSet::new(), Epoch::default());
        Self { admissions, alerts, windows, dead_letters, store, tasks, owing, epoch, ledger: None, is_rebuilding: false, sweep: SWEEP_MAX }
    }

    /// For a generation that is being rebuilt, or not.
    pub fn rebuilding(self, is_rebuilding: bool) -> Self {
        Self { is_rebuilding, ..self }
    }

    /// Writes a ledger record with every epoch.
    pub fn with_ledger(self, ledger: ledger::Writer) -> Self {
        Self { ledger: Some(ledger), ..self }
    }

    /// Takes a restored partition in.
    pub fn open(&mut self, partition: &TopicPartition, task: Task) {
        for branch in &mut self.windows {
            if let Some(window) = task.windows.get(&branch.declared().name) {
                branch.open(partition, window.store, window.changelog.clone(), window.swept.clone());
            }
        }
        self.tasks.insert(partition.clone(), task);
        self.look_for_owed(partition);
    }

    /// Gives a partition up; the epoch is empty (EOS-5).
    pub fn close(&mut self, partition: &TopicPartition) {
        debug_assert!(!self.epoch.advances.contains_key(partition), "EOS-5: {partition} has an epoch open");
        self.tasks.remove(partition);
        self.owing.remove(partition);
        for branch in &mut self.windows {
            branch.close(partition);
        }
    }

    /// The epoch being filled.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// About as many bytes as the open epoch will take when it is sealed: alerts and dead letters, and what becomes of touched windows.
    pub fn held_bytes(&self) -> usize {
        self.epoch.bytes + self.windows.iter().map(WindowBranch::held_bytes).sum::<usize>()
    }

    /// Takes a run of an open partition into the epoch.
    pub fn process(&mut self, run: &Run, now: Duration) -> Result<Processed, ProcessFault> {
        let Some(task) = self.tasks.get(&run.partition) else {
            return Err(BranchFault::State { branch: "intake".into(), cause: format!("{} was not restored (EOS-4)", run.partition) }.into());
        };
        let (source, stream_time_us) = (task.source, self.stream_time(&run.partition));
        let mut admitted = self.admissions[source].admit(run, task.topic_partitions)?;
        let stream = stream_times(stream_time_us, admitted.times_us.values());
        let mut refused = std::mem::take(&mut admitted.rejections);
        self.offer(source, run, &admitted, &stream, &mut refused)?;
        // In the order of the records, however they were cut into runs (DET-1).
        refused.sort_by_key(|rejection| rejection.row);
        let is_told = |rejection: &&Rejection| !self.is_rebuilding || rejection.stage.starts_with("window.");
        let (told, untold): (Vec<&Rejection>, Vec<&Rejection>) = refused.iter().partition(is_told);
        for rejection in &told {
            let letter = self.dead_letters.letter(run, rejection);
            self.epoch.count_dead_letter(rejection);
            self.note(&run.partition, std::slice::from_ref(&letter));
            self.epoch.push(letter);
        }
        let late = refused.iter().filter(|rejection| rejection.reason == "late");
        let late_rows = late.filter_map(|rejection| admitted.records.binary_search(&(rejection.row as u32)).ok());
        let late_by_us = late_rows.map(|row| stream[row].saturating_sub(admitted.times_us.value(row))).collect();
        if let Some(position) = admitted.position {
            self.advance(run, &admitted, position, stream.last().copied().or(stream_time_us), now);
            let untold = untold.iter().filter(|rejection| !rejection.stage.starts_with("alert.")).count() as u64;
            self.take_into_ledger(run, &admitted, position, told.len(), untold);
        }
        Ok(Processed { waiting_at: admitted.waiting_at, late_by_us, distance_us: distance_us(run, &admitted) })
    }

    /// Offers admitted rows to every branch of their source.
    fn offer(
        &mut self,
        source: usize,
        run: &Run,
        admitted: &Admitted,
        stream: &[i64],
        refused: &mut Vec<Rejection>,
    ) -> Result<(), ProcessFault> {
        if admitted.rows.num_rows() == 0 {
            return Ok(());
        }
        let mut alerts = Vec::new();
        for branch in self.alerts.iter_mut().filter(|branch| branch.source() == source) {
            branch.apply(run, admitted, &mut alerts, refused)?;
        }
        if self.is_rebuilding {
            alerts.clear();
        }
        self.epoch.counts.alerts += alerts.len() as u64;
        self.note(&run.partition, &alerts);
        for alert in alerts {
            self.epoch.push(alert);
        }
        failpoint::at("process.half");
        for branch in self.windows.iter_mut().filter(|branch| branch.source() == source) {
            branch.absorb(run, admitted, stream, &*self.store, refused)?;
        }
        Ok(())
    }

    fn advance(&mut self, run: &Run, admitted: &Admitted, position: Position, stream_time_us: Option<i64>, now: Duration) {
        let taken = run.offsets().partition_point(|offset| position.is_past(Offset(*offset)));
        self.epoch.counts.records += taken as u64;
        self.epoch.counts.admitted += admitted.rows.num_rows() as u64;
        self.epoch.counts.tombstones += admitted.tombstones;
        self.epoch.counts.other_records += admitted.other_records;
        self.epoch.began.get_or_insert(now);
        let latest_ms = run.timestamps_ms()[..taken].iter().copied().max().unwrap_or(-1);
        let (before_ms, before) = self.epoch.advances.get(&run.partition).map_or((-1, 0), |advance| (advance.latest_ms, advance.records));
        let advance =
            Advance { mark: position.into(), stream_time_us, latest_ms: latest_ms.max(before_ms), records: before + taken as u64 };
        self.epoch.advances.insert(run.partition.clone(), advance);
    }

    /// Tells the ledger which records were dealt with; those that were refused without a dead letter of their own count as dropped.
    fn take_into_ledger(&mut self, run: &Run, admitted: &Admitted, position: Position, dead_letters: usize, untold: u64) {
        let stream_time_us = self.stream_time(&run.partition);
        if let (Some(ledger), Some(task)) = (&mut self.ledger, self.tasks.get(&run.partition)) {
            let taken = ledger::Taken {
                records: run.offsets().partition_point(|offset| position.is_past(Offset(*offset))),
                end: position,
                admitted: admitted.rows.num_rows() as u64,
                dropped: admitted.tombstones + admitted.other_records + untold,
                dead_letters: dead_letters as u64,
                stream_time_us,
                schema_ids: admitted.schema_ids.values(),
            };
            ledger.took(run, task.mark.position, &taken);
        }
    }

    /// Tells the ledger of records that are to be produced because of records of `origin`.
    fn note(&mut self, origin: &TopicPartition, records: &[Outgoing]) {
        if let (Some(ledger), Some(task)) = (&mut self.ledger, self.tasks.get(origin)) {
            ledger.produced_all(origin, task.mark.position, records);
        }
    }

    fn stream_time(&self, partition: &TopicPartition) -> Option<i64> {
        match self.epoch.advances.get(partition) {
            Some(advance) => advance.stream_time_us,
            None => self.tasks.get(partition).and_then(|task| task.stream_time_us),
        }
    }

    /// Closes the epoch: what it makes true, as data. `None` when nothing happened.
    pub fn seal(&mut self) -> Result<Option<SealedEpoch>, ProcessFault> {
        if self.epoch.is_empty() {
            return Ok(None);
        }
        self.take_owing_in();
        let mut sweep = self.sweep_max();
        let mut sealed: Vec<(usize, SealedWindows)> = Vec::with_capacity(self.windows.len());
        for index in 0..self.windows.len() {
            let advances = &self.epoch.advances;
            let stream_time = |partition: &TopicPartition| advances.get(partition)?.stream_time_us;
            let mut share = sweep.share(self.windows.len() - index);
            let given = share;
            sealed.push((index, self.windows[index].seal(&stream_time, &*self.store, &mut share)?));
            sweep = sweep.without(given.without(share));
        }
        self.keep_what_was_swept(&sealed);
        let epoch = std::mem::take(&mut self.epoch);
        if epoch.is_empty() {
            // Nothing is left in the store after all.
            self.settle_branches()?;
            return Ok(None);
        }
        let mut end = SealedEpoch {
            outgoing: vec![epoch.outgoing],
            marks: epoch.advances.iter().map(|(partition, advance)| (partition.clone(), advance.mark)).collect(),
            changes: Changes::default(),
            logged: BTreeMap::new(),
            advances: epoch.advances,
            counts: epoch.counts,
            began: epoch.began.unwrap_or_default(),
        };
        for (index, windows) in sealed {
            self.collect(index, windows, &mut end);
        }
        self.write_progress(&mut end);
        if let Some(ledger) = &mut self.ledger {
            let latest_ms = end.advances.values().map(|advance| advance.latest_ms).max().unwrap_or(-1);
            end.outgoing.push(ledger.close(Outgoing::stamp(latest_ms)));
        }
        Ok(Some(end))
    }

    fn collect(&mut self, window: usize, sealed: SealedWindows, end: &mut SealedEpoch) {
        let name = self.windows[window].declared().name.clone();
        let mut results = Vec::with_capacity(sealed.partitions.len());
        let mut changelogs = Vec::with_capacity(sealed.partitions.len());
        for SealedPartition { partition, results: of_it, changelog } in sealed.partitions {
            self.note(&partition, &of_it);
            self.note(&partition, &changelog);
            end.counts.results += of_it.len() as u64;
            if !changelog.is_empty() {
                *end.logged.entry((partition, name.clone())).or_default() += changelog.len() as i64;
            }
            results.push(of_it);
            changelogs.push(changelog);
        }
        if Bug::DroppedTail.is_planted() {
            results.iter_mut().rev().find_map(Vec::pop);
        }
        end.outgoing.extend(results.into_iter().chain(changelogs));
        match end.changes.states.is_empty() {
            true => end.changes.states = sealed.states,
            false => end.changes.states.extend(sealed.states),
        }
    }

    /// Progress of every partition that moved: into its changelogs, and beside the state.
    fn write_progress(&mut self, end: &mut SealedEpoch) {
        let Self { tasks, windows, ledger, .. } = self;
        let mut records = Vec::new();
        for (partition, advance) in &end.advances {
            let Some(task) = tasks.get(partition).filter(|task| !task.windows.is_empty()) else { continue };
            let mut changelogs = BTreeMap::new();
            for (name, window) in &task.windows {
                let logged = LoggedProgress {
                    mark: advance.mark,
                    stream_time_us: advance.stream_time_us,
                    swept: swept(windows, name, partition),
                    identity: window.identity.clone(),
                    input_id: Some(task.topic_id.clone()),
                    whole_from: window.progress.logged.as_ref().map_or(0, |logged| logged.whole_from),
                };
                let record = Outgoing {
                    topic: window.changelog.clone(),
                    partition: partition.partition,
                    key: Some(keys::changelog_progress_key().into()),
                    value: Some(Bytes::from(serde_json::to_vec(&logged).expect("numbers and text always encode"))),
                    timestamp_ms: Outgoing::stamp(advance.latest_ms),
                    headers: Headers::default(),
                };
                if let Some(ledger) = ledger {
                    ledger.produced(partition, task.mark.position, &record);
                }
                records.push(record);
                let count = end.logged.entry((partition.clone(), name.clone())).or_default();
                *count += 1;
                let progress = &window.progress;
                let position = progress.position + *count;
                changelogs.insert(name.clone(), ChangelogProgress { topic_id: progress.topic_id.clone(), position, logged: Some(logged) });
            }
            let progress =
                Progress { topic_id: task.topic_id.clone(), mark: advance.mark, stream_time_us: advance.stream_time_us, changelogs };
            end.changes.progress.push((partition.clone(), progress));
        }
        end.outgoing.push(records);
    }

    /// The sealed epoch is committed and stored.
    pub fn settle(&mut self, sealed: &SealedEpoch) -> Result<(), ProcessFault> {
        for (partition, advance) in &sealed.advances {
            if let Some(task) = self.tasks.get_mut(partition) {
                task.stream_time_us = advance.stream_time_us;
                task.mark = advance.mark;
            }
        }
        for ((partition, window), count) in &sealed.logged {
            if let Some(window) = self.tasks.get_mut(partition).and_then(|task| task.windows.get_mut(window)) {
                window.progress.position += count;
            }
        }
        self.settle_branches()?;
        sealed.advances.keys().for_each(|partition| self.look_for_owed(partition));
        Ok(())
    }

    fn settle_branches(&mut self) -> Result<(), ProcessFault> {
        for branch in &mut self.windows {
            branch.settle()?;
        }
        self.owing.clone().iter().for_each(|partition| self.look_for_owed(partition));
        Ok(())
    }

    /// Everything uncommitted is dropped; the caller goes back to committed positions.
    pub fn discard(&mut self) -> Result<(), ProcessFault> {
        self.epoch = Epoch::default();
        if let Some(ledger) = &mut self.ledger {
            ledger.discard();
        }
        for branch in &mut self.windows {
            branch.discard()?;
        }
        Ok(())
    }
}

fn swept(windows: &[WindowBranch], window: &str, partition: &TopicPartition) -> Swept {
    let branch = windows.iter().find(|branch| branch.declared().name == window);
    branch.and_then(|branch| branch.swept(partition)).map(Swept::logged).unwrap_or_default()
}

/// Largest distance between event time and Kafka timestamp among admitted rows, microseconds.
fn distance_us(run: &Run, admitted: &Admitted) -> i64 {
    let timestamps = admitted.records.iter().map(|record| run.timestamps_ms()[*record as usize]);
    // A record without a Kafka timestamp has none to be far from.
    let stamped = admitted.times_us.values().iter().zip(timestamps).filter(|(_, timestamp_ms)| *timestamp_ms >= 0);
    stamped.map(|(time, timestamp_ms)| time.saturating_sub(timestamp_ms.saturating_mul(1_000)).saturating_abs()).max().unwrap_or(0)
}
