//! Restores: what is decided about local state, and replays from a changelog of our own, interrupted or with something missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use testudo::engine::restore::{Decision, Facts, Restore, RestoreFault, Step, WindowPlan, decide};
use testudo::kafka::{Failure, Offset, Position, Read, RunBuilder, TopicPartition, TopicReader, Watermarks};
use testudo::store::{ChangelogProgress, LoggedProgress, Progress, StateStore, WindowStoreId, keys};

use crate::harness::MapStore;

/// A changelog partition in memory.
struct Log {
    records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    position: usize,
}

impl Log {
    /// Windows 0, 1, 2 … each a state of one byte, then progress at `position`.
    fn of(windows: u8, position: i64) -> Self {
        let window = |number: u8| (keys::changelog_key(i64::from(number), b"\x01k\0"), Some(vec![number]));
        let mut records: Vec<_> = (0..windows).map(window).collect();
        let logged = LoggedProgress { position, stream_time_us: Some(77), swept_until_us: None, identity: "identity".into() };
        records.push((keys::changelog_progress_key(), Some(serde_json::to_vec(&logged).expect("encodable"))));
        Self { records, position: 0 }
    }
}

impl TopicReader for Log {
    fn bounds(&mut self, _: &TopicPartition, _: Duration) -> Result<Watermarks, Failure> {
        Ok(Watermarks { low: Position(0), high: Position(self.records.len() as i64) })
    }

    fn start(&mut self, _: &TopicPartition, position: Position) -> Result<(), Failure> {
        self.position = position.0 as usize;
        Ok(())
    }

    fn read(&mut self, records_max: usize, _: Duration) -> Result<Read, Failure> {
        let mut run = RunBuilder::new(TopicPartition::new("changelog", 0));
        for (key, value) in self.records.iter().skip(self.position).take(records_max) {
            run.push(Offset(self.position as i64), 1, Some(key), value.as_deref(), Vec::new());
            self.position += 1;
        }
        let is_at_end = self.position == self.records.len();
        Ok(Read { run: (!run.is_empty()).then(|| run.finish()), is_at_end, position: Position(self.position as i64) })
    }
}

fn facts(committed: Option<i64>) -> Facts {
    let window = WindowPlan {
        window: "w".into(),
        store: WindowStoreId(1),
        changelog: TopicPartition::new("changelog", 0),
        changelog_id: "C1".into(),
        identity: "identity".into(),
        may_start_empty: false,
    };
    Facts {
        partition: TopicPartition::new("in", 0),
        topic_id: "T1".into(),
        topic_partitions: 1,
        source: 0,
        committed: committed.map(Position),
        low: Position(0),
        windows: vec![window],
    }
}

/// Steps until done, at most `steps` times; how many changelog entries were read.
fn restore(facts: Facts, log: &mut Log, store: &MapStore, steps: usize) -> Result<Option<u64>, RestoreFault> {
    let mut restore = Restore::begin(facts, store)?;
    for _ in 0..steps {
        if let Step::Done(task, position) = restore.step(log, store, 2, Duration::ZERO)? {
            assert_eq!(task.stream_time_us, Some(77), "stream time comes back with the state (TIME-1)");
            assert_eq!(position, Position(10));
            return Ok(Some(restore.entries));
        }
    }
    Ok(None)
}

#[test]
fn an_empty_disk_comes_back_from_the_changelog_alone() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));

    let entries = restore(facts(Some(10)), &mut log, &store, 100).expect("restored");

    assert_eq!(entries, Some(6));
    assert_eq!(store.states().len(), 5);
}

#[test]
fn equal_positions_read_nothing() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));
    restore(facts(Some(10)), &mut log, &store, 100).expect("restored");

    assert_eq!(restore(facts(Some(10)), &mut log, &store, 100).expect("ready"), Some(0));
}

/// EOS-9: a crash in the middle of a restore goes on where it was, and its half is never taken for the whole.
#[test]
fn an_interrupted_restore_goes_on() {
    for steps in 1..5 {
        let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));
        assert_eq!(restore(facts(Some(10)), &mut log, &store, steps).expect("begun"), None);

        let entries = restore(facts(Some(10)), &mut log, &store, 100).expect("restored").expect("done");

        assert!(entries <= 6, "{entries} entries after {steps} steps");
        assert_eq!(store.states().len(), 5);
        let progress = store.progress(&TopicPartition::new("in", 0)).expect("readable").expect("stored");
        assert_eq!(progress.position, 10);
    }
}

/// EOS-10: a changelog that knows less, or more, than the group is not guessed over.
#[test]
fn a_changelog_that_does_not_fit_the_group_is_refused() {
    for committed in [Some(11), Some(9), None] {
        let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));

        let refused = restore(facts(committed), &mut log, &store, 100).expect_err("refused");

        assert!(matches!(refused, RestoreFault::Refused { .. }), "{refused}");
    }
}

#[test]
fn a_changed_declaration_is_refused() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));
    let mut changed = facts(Some(10));
    changed.windows[0].identity = "another".into();

    let refused = restore(changed, &mut log, &store, 100).expect_err("refused");

    assert!(refused.to_string().contains("was changed"), "{refused}");
}

/// A lost changelog may be started over only where the operator says so.
#[test]
fn an_empty_changelog_is_refused_unless_the_loss_is_accepted() {
    let empty = || Log { records: Vec::new(), position: 0 };
    let store = Arc::new(MapStore::default());
    let refused = restore(facts(Some(10)), &mut empty(), &store, 100).expect_err("refused");
    assert!(refused.to_string().contains("start_empty"), "{refused}");

    let mut accepted = facts(Some(10));
    accepted.windows[0].may_start_empty = true;
    let mut restoring = Restore::begin(accepted, &*store).expect("begun");
    let mut reader = empty();
    for _ in 0..10 {
        if let Step::Done(_, position) = restoring.step(&mut reader, &*store, 2, Duration::ZERO).expect("stepped") {
            assert_eq!(position, Position(10));
            return;
        }
    }
    panic!("not restored");
}

fn stored(position: i64) -> Progress {
    let changelog = ChangelogProgress { topic_id: "C1".into(), position: 7, logged: None };
    Progress { topic_id: "T1".into(), position, stream_time_us: None, changelogs: BTreeMap::from([("w".to_owned(), changelog)]) }
}

#[test]
fn equal_positions_need_no_replay() {
    assert_eq!(decide(&facts(Some(10)), Some(&stored(10))), Decision::Use);
}

#[test]
fn behind_replays_from_the_stored_position() {
    assert_eq!(decide(&facts(Some(11)), Some(&stored(10))), Decision::Replay(vec![Some(Position(7))]));
    // -1 stands in the store while a replay is unfinished.
    assert_eq!(decide(&facts(Some(11)), Some(&stored(-1))), Decision::Replay(vec![Some(Position(7))]));
}

#[test]
fn nothing_local_replays_from_the_beginning() {
    assert_eq!(decide(&facts(Some(11)), None), Decision::Replay(vec![None]));
    assert_eq!(decide(&facts(None), None), Decision::Replay(vec![None]));
}

/// C100: the group's offsets are gone, the state is not: nothing may be counted twice.
#[test]
fn ahead_of_the_group_is_refused_with_the_way_out() {
    for committed in [Some(9), None] {
        let Decision::Refuse(why) = decide(&facts(committed), Some(&stored(10))) else { panic!("must refuse") };
        assert!(why.contains("set the group to 10"), "{why}");
    }
}

#[test]
fn recreated_topics_are_recognised_by_their_ids() {
    let input = Facts { topic_id: "T2".into(), ..facts(Some(10)) };
    assert!(matches!(decide(&input, Some(&stored(10))), Decision::Refuse(_)));
    let mut changelog = facts(Some(10));
    changelog.windows[0].changelog_id = "C2".into();
    assert!(matches!(decide(&changelog, Some(&stored(10))), Decision::Refuse(_)));
    changelog.windows[0].may_start_empty = true;
    assert_eq!(decide(&changelog, Some(&stored(10))), Decision::Replay(vec![None]));
}
