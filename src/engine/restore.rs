//! From an assigned partition to one that may be processed: is the local state good, what has to be replayed, where to go on.
//!
//! The facts are read in this order, and the order matters:
//! 1. the worker's producer was initialised (its predecessor's transaction has ended);
//! 2. the group's committed position, a stable one: transactions of a former owner have ended (KIP-447);
//! 3. the changelogs' high watermarks: nothing that (2) committed lies behind them;
//! 4. the local progress, compared with (2) (EOS-9).
//!
//! A replay keeps what it has restored: each step writes data and changelog position together, under a source position
//! that matches nothing, so a crash in the middle goes on from there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::processor::{Task, TaskWindow};
use crate::kafka::{Mark, Position, Run, TopicPartition, TopicReader};
use crate::planted::Bug;
use crate::store::keys::{ChangelogKey, read_changelog_key, window_key};
use crate::store::{ChangelogProgress, Changes, Entry, LoggedProgress, Progress, ScanMax, StateChange, StateStore, StoreFault, Swept};

pub use super::decision::{Decision, Facts, RestoreFault, WindowPlan, decide};

/// Windows that are removed at once.
const REMOVED_AT_ONCE: ScanMax = ScanMax { entries: 20_000, bytes: 16 << 20 };

/// A partition on its way to being processed.
pub struct Restore {
    facts: Facts,
    progress: Progress,
    pending: Vec<(usize, Option<Position>)>,
    replaying: Option<Replaying>,
    /// Windows that were replayed over nothing, and where their changelogs began.
    replayed_whole: BTreeMap<String, Position>,
    /// Entries replayed so far.
    pub entries: u64,
}

struct Replaying {
    window: usize,
    end: Position,
}

/// How a restore stands after a step.
pub enum Step {
    /// More to do.
    Busy,
    /// State is lost, and the operator lets the partition go on without: when that is [on record](Restore::recorded).
    Lost(Loss),
    /// The partition may be processed from this position on (EOS-4).
    Done(Task, Position),
}

/// State that is lost, with the operator's consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The input partition.
    pub partition: TopicPartition,
    /// Where the group stands.
    pub mark: Mark,
    /// The windows.
    pub windows: Vec<LostWindow>,
}

/// A window whose state is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostWindow {
    /// Its name.
    pub window: String,
    /// Its changelog partition.
    pub changelog: TopicPartition,
    /// What that says from now on: it counts as whole.
    pub logged: LoggedProgress,
}

impl Restore {
    /// Begins to restore a partition by its facts and the local state.
    pub fn begin(facts: Facts, store: &dyn StateStore) -> Result<Self, RestoreFault> {
        let stored = if facts.windows.is_empty() { None } else { store.progress(&facts.partition)? };
        let partition = facts.partition.clone();
        let pending = match decide(&facts, stored.as_ref()) {
            Decision::Use => Vec::new(),
            Decision::Replay(from) => from.into_iter().enumerate().rev().collect(),
            Decision::Ahead { stored } => {
                return Err(RestoreFault::Ahead { partition, what: "the state".into(), stored, committed: facts.committed });
            }
            Decision::Refuse(why) => return Err(RestoreFault::Refused { partition, why }),
        };
        let unstored =
            || Progress { topic_id: facts.topic_id.clone(), mark: Progress::UNFINISHED, stream_time_us: None, changelogs: BTreeMap::new() };
        let progress = stored.unwrap_or_else(unstored);
        Ok(Self { facts, progress, pending, replaying: None, replayed_whole: BTreeMap::new(), entries: 0 })
    }

    /// The input partition.
    pub fn partition(&self) -> &TopicPartition {
        &self.facts.partition
    }

    /// Changelog entries of the current window that are still to be read, at most: control records count too.
    pub fn remaining(&self) -> u64 {
        let Some(Replaying { window, end }) = &self.replaying else { return 0 };
        let position = self.progress.changelogs.get(&self.facts.windows[*window].window).map_or(0, |changelog| changelog.position);
        u64::try_from(end.0 - position).unwrap_or(0)
    }

    /// Does a bounded part of the work: at most `entries_max` changelog records.
    pub fn step(
        &mut self,
        reader: &mut dyn TopicReader,
        store: &dyn StateStore,
        entries_max: usize,
        wait: Duration,
    ) -> Result<Step, RestoreFault> {
        if self.replaying.is_none() {
            let Some((window, from)) = self.pending.pop() else { return self.finish(store) };
            self.start(window, from, reader, store, wait)?;
            return Ok(Step::Busy);
        }
        self.read(reader, store, entries_max, wait)?;
        Ok(Step::Busy)
    }

    fn start(
        &mut self,
        window: usize,
        from: Option<Position>,
        reader: &mut dyn TopicReader,
        store: &dyn StateStore,
        wait: Duration,
    ) -> Result<(), RestoreFault> {
        let plan = self.facts.windows[window].clone();
        let bounds = reader.bounds(&plan.changelog, wait.max(Duration::from_secs(5)))?;
        self.facts.check_bounds(&plan, from, bounds)?;
        let mut start = from.unwrap_or(bounds.low);
        if from.is_none_or(|from| from < bounds.low || from > bounds.high) {
            self.forget(&plan, store)?;
            start = bounds.low;
            self.replayed_whole.insert(plan.window.clone(), start);
        }
        self.progress.mark = Progress::UNFINISHED;
        let logged = self.progress.changelogs.remove(&plan.window).and_then(|known| known.logged).filter(|_| Some(start) == from);
        let changelog = ChangelogProgress { topic_id: plan.changelog_id.clone(), position: start.0, logged };
        self.progress.changelogs.insert(plan.window.clone(), changelog);
        tracing::info!(partition = %self.facts.partition, window = plan.window, from = start.0, until = bounds.high.0, "restoring from changelog");
        reader.start(&plan.changelog, start)?;
        self.replaying = Some(Replaying { window, end: bounds.high });
        if start >= bounds.high {
            self.replaying = None;
        }
        Ok(())
    }

    /// Removes what the store holds of a window, before a replay from the beginning.
    fn forget(&self, plan: &WindowPlan, store: &dyn StateStore) -> Result<(), StoreFault> {
        let windows = self.remove(plan, i64::MIN..=i64::MAX, None, store)?;
        if windows > 0 {
            tracing::warn!(partition = %self.facts.partition, window = plan.window, windows, "local windows were older than the changelog, replaying it whole");
        }
        Ok(())
    }

    /// Removes the windows with these starts from the store, those with keys up to `last` alone where there is one, in bounded steps. How
    /// many there were.
    fn remove(
        &self,
        plan: &WindowPlan,
        starts: RangeInclusive<i64>,
        last: Option<&[u8]>,
        store: &dyn StateStore,
    ) -> Result<usize, StoreFault> {
        let partition = self.facts.partition.partition;
        let mut removed = 0;
        loop {
            let mut found = store.started_within(plan.store, partition, *starts.start(), *starts.end(), REMOVED_AT_ONCE)?;
            found.retain(|entry| last.is_none_or(|last| *entry.key <= *last));
            if found.is_empty() {
                return Ok(removed);
            }
            removed += found.len();
            let key = |entry: &Entry| window_key(plan.store.0, partition, entry.start_us, &entry.key).into();
            let states = found.iter().map(|entry| (key(entry), None)).collect();
            store.apply(Changes { states, progress: Vec::new() })?;
        }
    }

    fn read(
        &mut self,
        reader: &mut dyn TopicReader,
        store: &dyn StateStore,
        entries_max: usize,
        wait: Duration,
    ) -> Result<(), RestoreFault> {
        let Some(Replaying { window, end }) = self.replaying else { return Ok(()) };
        let read = reader.read(entries_max, wait)?;
        let plan = self.facts.windows[window].clone();
        let states = match &read.run {
            Some(run) => self.replayed(&plan, run)?,
            None => Vec::new(),
        };
        self.entries += read.run.as_ref().map_or(0, |run| run.len() as u64);
        if let Some(changelog) = self.progress.changelogs.get_mut(&plan.window) {
            changelog.position = changelog.position.max(read.position.0);
        }
        let mut progress = self.progress.clone();
        // Whether a changelog that does not begin at 0 was cut is known at its end only: interrupted, it is replayed anew.
        progress.changelogs.retain(|window, _| self.replayed_whole.get(window).is_none_or(|start| start.0 == 0));
        store.apply(Changes { states, progress: vec![(self.facts.partition.clone(), progress)] })?;
        // The end is the high watermark: at the last stable offset an open transaction may still be holding records back.
        if read.position >= end {
            self.replaying = None;
        }
        Ok(())
    }

    fn replayed(&mut self, plan: &WindowPlan, run: &Run) -> Result<Vec<StateChange>, RestoreFault> {
        let mut states = Vec::with_capacity(run.len());
        for row in 0..run.len() {
            let record = run.record(row);
            let foreign = || {
                self.refused(format!(
                    "the changelog {} holds a record at {} that is not Testudo's: somebody else writes to it; take their right away, \
                     then begin again with `testudo reset`, or give the window a new name",
                    plan.changelog, record.offset
                ))
            };
            match record.key.and_then(read_changelog_key).ok_or_else(foreign)? {
                ChangelogKey::Window { start_us, key } => {
                    let key = window_key(plan.store.0, plan.changelog.partition, start_us, key);
                    states.push((key.into(), record.value.map(Bytes::copy_from_slice)));
                }
                ChangelogKey::Progress => {
                    let logged: LoggedProgress = record.value.and_then(|value| serde_json::from_slice(value).ok()).ok_or_else(foreign)?;
                    if let Some(changelog) = self.progress.changelogs.get_mut(&plan.window) {
                        changelog.logged = Some(logged);
                    }
                }
            }
        }
        Ok(states)
    }

    /// Compares what was restored with what the group says, then lets the partition go.
    fn finish(&mut self, store: &dyn StateStore) -> Result<Step, RestoreFault> {
        let was_replayed = !self.progress.is_whole();
        let logged = self.progress.changelogs.values().filter_map(|changelog| Some(changelog.logged.as_ref()?.mark));
        let committed = self.facts.committed_or_later(logged.chain([self.progress.mark]));
        self.facts.committed = committed;
        if was_replayed {
            self.check_logged()?;
            if let Some(loss) = self.accepted_loss() {
                return Ok(Step::Lost(loss));
            }
        }
        let position = self.facts.start();
        if was_replayed && !self.facts.windows.is_empty() {
            let logged = self.progress.changelogs.values().filter_map(|changelog| changelog.logged.as_ref()?.stream_time_us);
            self.progress.stream_time_us = logged.max().max(self.progress.stream_time_us);
            if let Some(committed) = self.facts.committed {
                self.progress.mark = committed;
            }
            self.remove_closed(store)?;
            store.apply(Changes { states: Vec::new(), progress: vec![(self.facts.partition.clone(), self.progress.clone())] })?;
        }
        let window = |plan: &WindowPlan| {
            let unknown = || ChangelogProgress { topic_id: plan.changelog_id.clone(), position: 0, logged: None };
            let progress = self.progress.changelogs.get(&plan.window).cloned().unwrap_or_else(unknown);
            let changelog: Arc<str> = plan.changelog.topic.clone();
            let swept = self.swept(plan);
            (plan.window.clone(), TaskWindow { store: plan.store, changelog, progress, identity: plan.identity.clone(), swept })
        };
        let task = Task {
            source: self.facts.source,
            topic_partitions: self.facts.topic_partitions,
            topic_id: self.facts.topic_id.clone(),
            mark: self.facts.committed.unwrap_or_else(|| position.into()),
            stream_time_us: self.progress.stream_time_us.filter(|_| !Bug::ForgottenStreamTime.is_planted()),
            windows: self.facts.windows.iter().map(window).collect(),
        };
        tracing::info!(partition = %self.facts.partition, position = position.0, entries = self.entries, replayed = was_replayed, "partition ready");
        Ok(Step::Done(task, position))
    }

    /// Every changelog's last progress must be the group's mark: otherwise some of it is missing (EOS-10).
    fn check_logged(&self) -> Result<(), RestoreFault> {
        for plan in &self.facts.windows {
            let logged = self.progress.changelogs.get(&plan.window).and_then(|changelog| changelog.logged.as_ref());
            self.facts.check_logged(plan, logged, self.replayed_whole.get(&plan.window).copied())?;
        }
        Ok(())
    }

    /// What is lost and was not accepted before.
    fn accepted_loss(&self) -> Option<Loss> {
        let mark = self.facts.committed?;
        let windows: Vec<LostWindow> = self.facts.windows.iter().filter_map(|plan| self.lost(plan, mark)).collect();
        (!windows.is_empty()).then(|| Loss { partition: self.facts.partition.clone(), mark, windows })
    }

    /// What a window's changelog has to say to count as whole up to the group's mark, from where it begins; `None` where it does.
    fn lost(&self, plan: &WindowPlan, mark: Mark) -> Option<LostWindow> {
        let changelog = self.progress.changelogs.get(&plan.window).filter(|_| plan.loss_is_accepted)?;
        let begins = self.replayed_whole.get(&plan.window).map_or(0, |start| start.0);
        let known = match &changelog.logged {
            Some(logged) if logged.mark == mark && logged.whole_from >= begins => return None,
            Some(logged) => logged.clone(),
            None if plan.is_new => return None,
            None => LoggedProgress {
                mark,
                stream_time_us: None,
                swept: Swept::default(),
                identity: plan.identity.clone(),
                input_id: Some(self.facts.topic_id.clone()),
                whole_from: 0,
            },
        };
        let logged = LoggedProgress { mark, whole_from: known.whole_from.max(begins), ..known };
        Some(LostWindow { window: plan.window.clone(), changelog: plan.changelog.clone(), logged })
    }

    /// A [loss](Step::Lost) is on record, in the changelogs too: it is not met again.
    pub fn recorded(&mut self, loss: Loss) {
        for lost in loss.windows {
            tracing::warn!(partition = %loss.partition, window = lost.window, "going on with a loss of state that was accepted");
            if let Some(changelog) = self.progress.changelogs.get_mut(&lost.window) {
                changelog.logged = Some(lost.logged);
            }
        }
    }

    /// Removes windows that were closed and reported before: their tombstones may have been compacted away.
    fn remove_closed(&self, store: &dyn StateStore) -> Result<(), StoreFault> {
        for plan in &self.facts.windows {
            let swept = self.swept(plan);
            if let Some(bound) = swept.until_us {
                self.remove(plan, i64::MIN..=bound, None, store)?;
            }
            if let Some((start_us, key)) = swept.within {
                self.remove(plan, start_us..=start_us, Some(&key), store)?;
            }
        }
        Ok(())
    }

    fn swept(&self, plan: &WindowPlan) -> Swept {
        let logged = self.progress.changelogs.get(&plan.window).and_then(|changelog| changelog.logged.as_ref());
        logged.map(|logged| logged.swept.clone()).unwrap_or_default()
    }

    fn refused(&self, why: String) -> RestoreFault {
        RestoreFault::Refused { partition: self.facts.partition.clone(), why }
    }
}
