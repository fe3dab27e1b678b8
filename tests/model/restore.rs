//! Restores: what is decided about local state, and replays from a changelog of our own, interrupted or with something missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use testudo::engine::restore::{Decision, Facts, Loss, Restore, RestoreFault, Step, WindowPlan, decide};
use testudo::kafka::{Failure, Mark, Offset, Position, Read, RunBuilder, TopicPartition, TopicReader, Watermarks};
use testudo::store::{ChangelogProgress, Changes, LoggedProgress, Progress, StateStore, Swept, WindowStoreId, keys};

use crate::harness::MapStore;

/// A changelog partition in memory.
struct Log {
    records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    position: usize,
    /// The first offset that is still there.
    low: usize,
}

impl Log {
    /// Windows 0, 1, 2 … each a state of one byte, then progress at `position`.
    fn of(windows: u8, position: i64) -> Self {
        let window = |number: u8| (keys::changelog_key(i64::from(number), b"\x01k\0"), Some(vec![number]));
        let mut log = Self { records: (0..windows).map(window).collect(), position: 0, low: 0 };
        log.say(&logged(position));
        log
    }

    /// Appends progress.
    fn say(&mut self, logged: &LoggedProgress) {
        self.records.push((keys::changelog_progress_key(), Some(serde_json::to_vec(logged).expect("encodable"))));
    }
}

fn logged(position: i64) -> LoggedProgress {
    LoggedProgress {
        mark: Position(position).into(),
        stream_time_us: Some(77),
        swept: Swept::default(),
        identity: "identity".into(),
        input_id: Some("T1".into()),
        whole_from: 0,
    }
}

impl TopicReader for Log {
    fn bounds(&mut self, _: &TopicPartition, _: Duration) -> Result<Watermarks, Failure> {
        Ok(Watermarks { low: Position(self.low as i64), high: Position(self.records.len() as i64) })
    }

    fn start(&mut self, _: &TopicPartition, position: Position) -> Result<(), Failure> {
        self.position = position.0 as usize;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Failure> {
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
        is_new: false,
        loss_is_accepted: false,
    };
    Facts {
        partition: TopicPartition::new("in", 0),
        topic_id: "T1".into(),
        topic_partitions: 1,
        source: 0,
        committed: committed.map(|position| Position(position).into()),
        low: Position(0),
        windows: vec![window],
    }
}

/// Steps until done, at most `steps` times; how many changelog entries were read.
fn restore(facts: Facts, log: &mut Log, store: &MapStore, steps: usize) -> Result<Option<u64>, RestoreFault> {
    let mut restore = Restore::begin(facts, store)?;
    for _ in 0..steps {
        match restore.step(log, store, 2, Duration::ZERO)? {
            Step::Busy => {}
            Step::Lost(loss) => {
                assert_eq!((&*loss.partition.topic, loss.mark), ("in", Position(10).into()));
                loss.windows.iter().for_each(|lost| log.say(&lost.logged));
                restore.recorded(loss);
            }
            Step::Done(task, position) => {
                assert_eq!(task.stream_time_us, Some(77), "stream time comes back with the state (TIME-1)");
                assert_eq!(position, Position(10));
                return Ok(Some(restore.entries));
            }
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

/// The bound of an epoch was met among windows that start at one instant; compaction has taken their tombstones since.
#[test]
fn windows_that_a_half_done_sweep_has_reported_do_not_come_back_from_an_older_state() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log { records: Vec::new(), position: 0, low: 0 });
    for (start_us, key) in [(3, b"c"), (4, b"a"), (4, b"b"), (4, b"c"), (5, b"a")] {
        log.records.push((keys::changelog_key(start_us, key), Some(vec![1])));
    }
    log.say(&logged(9));
    restore(Facts { committed: Some(Position(9).into()), ..facts(None) }, &mut log, &store, 2).expect("begun");
    log.say(&LoggedProgress { swept: Swept::to(4, b"b".to_vec()), ..logged(10) });

    restore(facts(Some(10)), &mut log, &store, 100).expect("restored").expect("done");

    let left: Vec<(i64, Vec<u8>)> = store
        .states()
        .keys()
        .map(|key| keys::read_window_key(key).map(|key| (key.start_us, key.key.to_vec())).expect("a window's key"))
        .collect();
    assert_eq!(left, [(4, b"c".to_vec()), (5, b"a".to_vec())]);
    let later = [Swept::default(), Swept::to(4, b"a".to_vec()), Swept::to(4, b"b".to_vec()), Swept::until(4), Swept::to(5, Vec::new())];
    assert!(later.is_sorted_by(|before, after| before < after), "{later:?}");
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
        assert_eq!(progress.mark, Position(10).into());
    }
}

/// EOS-10: a changelog that knows less, or more, than the group is not guessed over.
#[test]
fn a_changelog_that_does_not_fit_the_group_is_refused() {
    for committed in [Some(11), Some(9), None] {
        let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));

        let refused = restore(facts(committed), &mut log, &store, 100).expect_err("refused");

        match committed {
            Some(11) => assert!(matches!(refused, RestoreFault::Refused { .. }), "{refused}"),
            // The group may have answered before the last commit: the caller asks again.
            _ => assert!(matches!(refused, RestoreFault::Ahead { stored: Mark { position: Position(10), sweeps: 0 }, .. }), "{refused}"),
        }
        assert!(refused.to_string().contains("set the group to 10"), "{refused}");
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
    let empty = || Log { records: Vec::new(), position: 0, low: 0 };
    let store = Arc::new(MapStore::default());
    let refused = restore(facts(Some(10)), &mut empty(), &store, 100).expect_err("refused");
    assert!(refused.to_string().contains("--accept-state-loss w"), "{refused}");

    let mut accepted = facts(Some(10));
    accepted.windows[0].loss_is_accepted = true;
    let mut restoring = Restore::begin(accepted.clone(), &*store).expect("begun");
    let mut reader = empty();
    let (losses, done) = steps(&mut restoring, &mut reader, &store);
    assert_eq!(losses.len(), 1, "it is told before the partition goes on, and once: {losses:?}");
    assert_eq!(done, Some(Position(10)));
    let lost = &losses[0].windows[0];
    assert_eq!((lost.window.as_str(), lost.logged.mark, losses[0].mark), ("w", Position(10).into(), Position(10).into()));

    // On another machine, after it was recorded, nothing is left to accept; nor where nothing was lost.
    reader.say(&lost.logged);
    for mut log in [reader, Log::of(5, 10)] {
        let store = Arc::new(MapStore::default());
        let mut again = Restore::begin(accepted.clone(), &*store).expect("begun");
        assert_eq!(steps(&mut again, &mut log, &store), (Vec::new(), Some(Position(10))));
    }
}

/// Not recorded, it is met again, and the partition does not go on.
#[test]
fn a_loss_that_is_not_on_record_holds_the_partition() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log { records: Vec::new(), position: 0, low: 0 });
    let mut accepted = facts(Some(10));
    accepted.windows[0].loss_is_accepted = true;
    let mut restoring = Restore::begin(accepted, &*store).expect("begun");

    let met: Vec<bool> =
        (0..6).map(|_| matches!(restoring.step(&mut log, &*store, 2, Duration::ZERO).expect("stepped"), Step::Lost(_))).collect();

    assert_eq!(met, [false, true, true, true, true, true]);
    assert!(store.progress(&TopicPartition::new("in", 0)).expect("readable").is_none(), "nothing is stored before");
}

/// Steps until done, with every loss on record when it is told.
fn steps(restoring: &mut Restore, log: &mut Log, store: &Arc<MapStore>) -> (Vec<Loss>, Option<Position>) {
    let mut losses = Vec::new();
    for _ in 0..20 {
        match restoring.step(log, &**store, 2, Duration::ZERO).expect("stepped") {
            Step::Busy => {}
            Step::Lost(loss) => {
                losses.push(loss.clone());
                restoring.recorded(loss);
            }
            Step::Done(_, position) => return (losses, Some(position)),
        }
    }
    (losses, None)
}

fn stored(position: i64) -> Progress {
    let changelog = ChangelogProgress { topic_id: "C1".into(), position: 7, logged: None };
    Progress {
        topic_id: "T1".into(),
        mark: Position(position).into(),
        stream_time_us: None,
        changelogs: BTreeMap::from([("w".to_owned(), changelog)]),
    }
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

/// Sweeps move the mark at a position that stays: on this machine before a crash, or on another one since.
#[test]
fn a_sweep_that_the_state_does_not_hold_is_replayed_and_one_too_many_is_ahead() {
    let at = |sweeps| Mark { position: Position(10), sweeps };
    let decided =
        |group, local| decide(&Facts { committed: Some(at(group)), ..facts(None) }, Some(&Progress { mark: at(local), ..stored(10) }));

    assert_eq!(decided(2, 2), Decision::Use);
    assert_eq!((decided(2, 1), decided(1, 0)), (Decision::Replay(vec![Some(Position(7))]), Decision::Replay(vec![Some(Position(7))])));
    // As after a group was set to where it stands, by hand.
    assert_eq!(decided(0, 1), Decision::Use);

    let store = Arc::new(MapStore::default());
    let mut log = Log::of(5, 10);
    log.say(&LoggedProgress { mark: at(1), ..logged(10) });
    let restored = restore(Facts { committed: Some(at(1)), ..facts(None) }, &mut log, &store, 100).expect("restored");
    assert!(restored.is_some());
    assert_eq!(store.progress(&TopicPartition::new("in", 0)).expect("readable").expect("stored").mark, at(1));
    // Changelog and state go on from their mark, not from the one that the group has forgotten.
    for store in [Arc::new(MapStore::default()), store] {
        let mut restoring = Restore::begin(facts(Some(10)), &*store).expect("begun");
        let task = loop {
            match restoring.step(&mut log, &*store, 2, Duration::ZERO).expect("restored") {
                Step::Done(task, _) => break task,
                Step::Busy => {}
                Step::Lost(loss) => panic!("{loss:?}"),
            }
        };
        assert_eq!(task.mark, at(1));
    }
}

/// What older programs wrote has no sweeps, and what this one writes without any can be read by them.
#[test]
fn a_progress_without_sweeps_is_written_as_before() {
    let text = serde_json::to_string(&logged(10)).expect("encodable");

    assert!(text.contains(r#""position":10"#) && !text.contains("sweeps"), "{text}");
    assert_eq!(serde_json::from_str::<LoggedProgress>(&text).expect("readable"), logged(10));
}

#[test]
fn nothing_local_replays_from_the_beginning() {
    assert_eq!(decide(&facts(Some(11)), None), Decision::Replay(vec![None]));
    assert_eq!(decide(&facts(None), None), Decision::Replay(vec![None]));
}

/// C100: the group's offsets are gone or set back, the state is not: nothing may be counted twice. The caller asks once more first.
#[test]
fn ahead_of_the_group_is_told_apart_with_the_way_out() {
    for committed in [Some(9), None] {
        assert_eq!(decide(&facts(committed), Some(&stored(10))), Decision::Ahead { stored: Position(10).into() });
        let store = MapStore::default();
        let progress = vec![(TopicPartition::new("in", 0), stored(10))];
        store.apply(Changes { states: Vec::new(), progress }).expect("applied");

        let fault = Restore::begin(facts(committed), &store).err().expect("refused");

        for words in ["set the group to 10", "KAFKA-20734", "testudo reset"] {
            assert!(fault.to_string().contains(words), "{fault}");
        }
    }
}

#[test]
fn recreated_topics_are_recognised_by_their_ids() {
    let input = Facts { topic_id: "T2".into(), ..facts(Some(10)) };
    assert!(matches!(decide(&input, Some(&stored(10))), Decision::Refuse(_)));
    let mut changelog = facts(Some(10));
    changelog.windows[0].changelog_id = "C2".into();
    assert!(matches!(decide(&changelog, Some(&stored(10))), Decision::Refuse(_)));
    changelog.windows[0].loss_is_accepted = true;
    assert_eq!(decide(&changelog, Some(&stored(10))), Decision::Replay(vec![None]));
}

/// F44: a changelog that was cut still ends at the group's position; what lay before the cut is missing all the same.
#[test]
fn a_cut_changelog_is_refused_however_often_the_restore_begins() {
    for steps in 0..5 {
        let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));
        log.low = 2;
        if steps > 0 {
            assert_eq!(restore(facts(Some(10)), &mut log, &store, steps.min(2)).expect("begun"), None);
        }

        let refused = restore(facts(Some(10)), &mut log, &store, 100).expect_err("refused");

        assert!(refused.to_string().contains("begins at 2, 0 is needed"), "{refused}");
    }
}

/// A loss is accepted once; the changelog then counts as whole from where it begins.
#[test]
fn an_accepted_cut_is_remembered() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));
    log.low = 2;
    let mut accepted = facts(Some(10));
    accepted.windows[0].loss_is_accepted = true;

    assert_eq!(restore(accepted, &mut log, &store, 100).expect("restored"), Some(4));

    let progress = store.progress(&TopicPartition::new("in", 0)).expect("readable").expect("stored");
    let known = progress.changelogs["w"].logged.clone().expect("logged");
    assert_eq!(known.whole_from, 2, "the store knows it too");
    // On another machine, without the operator's word: the changelog says it.
    assert_eq!(restore(facts(Some(10)), &mut log, &Arc::new(MapStore::default()), 100).expect("restored"), Some(5));
}

/// F44: the local state is older than the cut.
#[test]
fn a_cut_behind_the_local_state_is_refused() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));
    let behind = ChangelogProgress { topic_id: "C1".into(), position: 1, logged: None };
    let progress = Progress { changelogs: BTreeMap::from([("w".to_owned(), behind)]), ..stored(3) };
    store.apply(Changes { states: Vec::new(), progress: vec![(TopicPartition::new("in", 0), progress)] }).expect("applied");
    log.low = 2;

    let refused = restore(facts(Some(10)), &mut log, &store, 100).expect_err("refused");

    assert!(refused.to_string().contains("begins at 2, 1 is needed"), "{refused}");
}

/// F46: on an empty disk only the changelog knows which input topic its positions were in.
#[test]
fn a_recreated_input_topic_is_recognised_by_the_changelog_too() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));
    let recreated = Facts { topic_id: "T2".into(), ..facts(Some(10)) };

    let refused = restore(recreated, &mut log, &store, 100).expect_err("refused");

    assert!(refused.to_string().contains("input topic was deleted and created again"), "{refused}");
}

#[test]
fn a_strangers_record_in_a_changelog_is_refused() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));
    log.records.insert(3, (b"hello".to_vec(), Some(b"world".to_vec())));

    let refused = restore(facts(Some(10)), &mut log, &store, 100).expect_err("refused");

    assert!(refused.to_string().contains("somebody else writes to it"), "{refused}");
}

/// A loss that is accepted never doubles anything: a changelog ahead of the group stays refused.
#[test]
fn an_accepted_loss_excuses_no_lead() {
    let (store, mut log) = (Arc::new(MapStore::default()), Log::of(5, 10));
    let mut accepted = facts(Some(9));
    accepted.windows[0].loss_is_accepted = true;

    let refused = restore(accepted, &mut log, &store, 100).expect_err("refused");

    assert!(matches!(refused, RestoreFault::Ahead { .. }), "{refused}");
}
