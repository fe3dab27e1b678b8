use std::collections::BTreeMap;

use super::*;
use crate::kafka::Position;
use crate::store::{Settings, progress::ChangelogProgress};

fn identity() -> WindowIdentity {
    WindowIdentity {
        window: "analytics".into(),
        topic: "in".into(),
        size_us: 60_000_000,
        grace_us: 0,
        emit: "updates".into(),
        by: vec!["dev-id Utf8".into()],
        aggregates: vec!["count(*)".into()],
        state: vec!["a0 Int64".into()],
    }
}

fn open(dir: &Path) -> Result<Store, StoreFault> {
    Store::open(dir, "zoo", &Memory::new(&Settings::default()))
}

fn some_progress(position: i64) -> Progress {
    let changelogs = BTreeMap::from([("analytics".to_owned(), ChangelogProgress { topic_id: "c".into(), position: 3, logged: None })]);
    Progress { topic_id: "t".into(), mark: Position(position).into(), stream_time_us: Some(-5), changelogs }
}

#[test]
fn data_and_progress_come_back_after_reopening() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let partition = TopicPartition::new("in", 2);
    {
        let store = open(dir.path()).expect("an empty folder opens");
        let id = store.window(&identity()).expect("a new window is taken in");
        let states = (0..10)
            .map(|minute| (keys::window_key(id.0, 2, minute * 60_000_000, b"\x01k\0").into(), Some(vec![minute as u8].into())))
            .collect();
        store.apply(Changes { states, progress: vec![(partition.clone(), some_progress(7))] }).expect("a batch is written");
    }

    let store = open(dir.path()).expect("it opens again");

    let id = store.window(&identity()).expect("the window is known");
    assert_eq!(store.progress(&partition).expect("readable"), Some(some_progress(7)));
    let (all, two) = (ScanMax { entries: 100, bytes: 100 }, ScanMax { entries: 2, bytes: 100 });
    let within = store.started_within(id, 2, 60_000_000, 180_000_000, all).expect("scannable");
    assert_eq!(within.iter().map(|entry| entry.state[0]).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(store.started_within(id, 2, i64::MIN, i64::MAX, two).expect("scannable").len(), 2);
    // A key of 3 bytes and a state of 1 each.
    let nine_bytes = ScanMax { bytes: 9, ..all };
    assert_eq!(store.started_within(id, 2, i64::MIN, i64::MAX, nine_bytes).expect("scannable").len(), 3);
    assert!(store.started_within(id, 1, i64::MIN, i64::MAX, all).expect("scannable").is_empty());
    let found = store.states(&[0, 1].map(|start_us| keys::window_key(id.0, 2, start_us, b"\x01k\0").into())).expect("readable");
    assert_eq!(found, [Some(vec![0]), None]);
}

#[test]
fn a_changed_window_is_refused_with_the_difference() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = open(dir.path()).expect("opens");
    store.window(&identity()).expect("taken in");

    let refused = store.window(&WindowIdentity { size_us: 1, ..identity() }).expect_err("another size is another window");

    assert!(refused.to_string().contains("its size was 60 s"), "{refused}");
}

#[test]
fn a_second_opener_is_told_who_is_in_the_way() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let _first = open(dir.path()).expect("opens");

    let second = open(dir.path()).err().expect("RocksDB's lock holds");

    assert!(matches!(second, StoreFault::Locked { .. }), "{second}");
}

#[test]
fn another_tenants_folder_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(open(dir.path()).expect("opens"));
    std::fs::rename(dir.path().join("zoo"), dir.path().join("machines")).expect("renamed");

    let refused = Store::open(dir.path(), "machines", &Memory::new(&Settings::default())).err().expect("refused");

    assert!(matches!(refused, StoreFault::Foreign { .. }), "{refused}");
}

#[test]
fn inspection_works_beside_an_open_store() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = open(dir.path()).expect("opens");
    let id = store.window(&identity()).expect("taken in");
    let states = vec![(keys::window_key(id.0, 2, 60, b"\x01k\0").into(), Some(vec![1].into()))];
    store.apply(Changes { states, progress: vec![(TopicPartition::new("in", 2), some_progress(7))] }).expect("written");

    let contents = inspect(dir.path(), "zoo").expect("readable");

    let expected = StoredWindow {
        window: "analytics".into(),
        topic: "in".into(),
        partition: 2,
        start_us: 60,
        key: vec![keys::KeyPart::Text("k".into())],
    };
    assert_eq!(contents.windows, [expected]);
    assert_eq!(contents.progress, [(TopicPartition::new("in", 2), some_progress(7))]);
}
