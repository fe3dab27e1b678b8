//! A byte is flipped, or a tail cut off, in each kind of file of a state folder. Whatever comes back is a state that once was, or the
//! folder is set aside: never something in between, never an empty state in the old folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;

use super::*;
use crate::kafka::{Position, TopicPartition};
use crate::store::{Changes, Memory, Progress, Settings, StateStore, Store, keys};

/// Windows that each batch writes.
const WINDOWS: i64 = 8;
/// Batches that lie in the table, and as many again in the write-ahead log.
const BATCHES: i64 = 3;

fn partition() -> TopicPartition {
    TopicPartition::new("in", 0)
}

fn open(dir: &Path) -> Result<Store, StoreFault> {
    Store::open(dir, "zoo", &Memory::new(&Settings::default()))
}

fn window(start: i64) -> Bytes {
    keys::window_key(1, 0, start, b"\x01key\0").into()
}

/// Batch `number`: every window's state is the number, and so is the position.
fn write(store: &Store, number: i64) {
    let states = (0..WINDOWS).map(|start| (window(start), Some(format!("state {number}").into()))).collect();
    let progress = Progress { topic_id: "t".into(), mark: Position(number).into(), stream_time_us: None, changelogs: BTreeMap::new() };
    store.apply(Changes { states, progress: vec![(partition(), progress)] }).expect("applied");
}

/// A folder with batches in a table and newer ones in the write-ahead log.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = open(dir.path()).expect("an empty folder opens");
    (1..=BATCHES).for_each(|number| write(&store, number));
    drop(store);
    // Recovery makes a table of the log.
    let store = open(dir.path()).expect("it opens again");
    (BATCHES + 1..=2 * BATCHES).for_each(|number| write(&store, number));
    drop(store);
    dir
}

/// The batch that the state is equal to, 0 for an empty one. Panics on a mixture.
fn batch(store: &Store) -> Result<i64, StoreFault> {
    let position = store.progress(&partition())?.map_or(0, |progress| progress.mark.position.0);
    let found = store.states(&(0..WINDOWS).map(window).collect::<Vec<_>>())?;
    let expected = (position > 0).then(|| format!("state {position}").into_bytes());
    assert!(found.iter().all(|state| *state == expected), "a mixture of batches under position {position}: {found:?}");
    Ok(position)
}

/// Opens and reads, and as the supervisor does, once more after damage. The batch that came back, and whether a folder was set aside.
fn recovered(dir: &Path) -> (i64, bool) {
    let first = open(dir).and_then(|store| batch(&store));
    let batch = match first {
        Err(damage @ StoreFault::Damaged { .. }) => {
            let memory = Memory::new(&Settings::default());
            batch(&Store::open_after_damage(dir, "zoo", &memory, &damage).expect("an empty folder opens")).expect("readable")
        }
        other => other.expect("damage or a state"),
    };
    let was_set_aside = names(dir).iter().any(|name| name.starts_with("zoo.damaged-"));
    (batch, was_set_aside)
}

fn names(dir: &Path) -> Vec<String> {
    let entry = |entry: std::io::Result<fs::DirEntry>| entry.expect("listed").file_name().to_string_lossy().into_owned();
    fs::read_dir(dir).expect("listed").map(entry).collect()
}

/// The newest file whose name has this part.
fn file(dir: &Path, part: &str) -> PathBuf {
    let folder = dir.join("zoo");
    let newest = names(&folder).into_iter().filter(|name| name.contains(part)).max();
    folder.join(newest.expect("such a file"))
}

/// Flips one byte after the other, about `tries` of them, each in a folder of its own.
fn flip(part: &str, tries: usize) -> Vec<(i64, bool)> {
    let origin = filled();
    let length = fs::metadata(file(origin.path(), part)).expect("there").len() as usize;
    let flipped = (0..length).step_by((length / tries).max(1)).map(|at| {
        let copy = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(copy.path().join("zoo")).expect("made");
        for name in names(&origin.path().join("zoo")) {
            fs::copy(origin.path().join("zoo").join(&name), copy.path().join("zoo").join(&name)).expect("copied");
        }
        let path = file(copy.path(), part);
        let mut bytes = fs::read(&path).expect("read");
        bytes[at] ^= 0x04;
        fs::write(&path, bytes).expect("written");
        recovered(copy.path())
    });
    flipped.collect()
}

/// F41: every byte of a table is under a checksum.
#[test]
fn a_flipped_byte_in_a_table_is_found() {
    let ends = flip(".sst", 40);

    assert!(ends.iter().all(|end| *end == (0, true) || *end == (2 * BATCHES, false)), "{ends:?}");
    assert!(ends.contains(&(0, true)), "no flip was found: {ends:?}");
}

/// F41: RocksDB would go on behind a wrong record of its log; we do not.
#[test]
fn a_flipped_byte_in_the_log_is_found_or_only_behind() {
    let ends = flip(".log", 40);

    assert!(ends.iter().all(|(batch, set_aside)| if *set_aside { *batch == 0 } else { *batch >= BATCHES }), "{ends:?}");
    assert!(ends.contains(&(0, true)), "no flip was found: {ends:?}");
}

/// Every byte: one that turns a record's type into that of a recycled log has RocksDB 11.8 read for ever, and one that makes a record too
/// long has it forget a table and apply the logs to what is left.
#[test]
fn a_flipped_byte_in_the_manifest_or_its_name_is_found() {
    for part in ["MANIFEST", "CURRENT"] {
        let ends = flip(part, usize::MAX);

        assert!(ends.iter().all(|(batch, set_aside)| if *set_aside { *batch == 0 } else { *batch >= BATCHES }), "{part}: {ends:?}");
        assert!(ends.contains(&(0, true)), "no flip of {part} was found: {ends:?}");
    }
}

#[test]
fn a_flipped_byte_in_the_options_changes_nothing() {
    let ends = flip("OPTIONS", 5);

    assert!(ends.iter().all(|end| *end == (2 * BATCHES, false)), "{ends:?}");
}

/// EOS-10, F01: `kill -9` and a full disk tear the last record of the log; that is no damage.
#[test]
fn a_torn_tail_of_the_log_is_only_behind() {
    let length = fs::metadata(file(filled().path(), ".log")).expect("there").len();
    for cut in (0..length).step_by(17) {
        let dir = filled();
        let log = fs::OpenOptions::new().write(true).open(file(dir.path(), ".log")).expect("opened");
        log.set_len(length - cut).expect("cut");

        let (batch, was_set_aside) = recovered(dir.path());

        assert!(!was_set_aside, "set aside after {cut} bytes were cut off");
        assert!(batch >= BATCHES, "batch {batch} after {cut} bytes were cut off");
    }
}

/// A folder that lost a file must not come back empty under its old name: nobody would hear of it.
#[test]
fn a_missing_file_is_damage() {
    for part in [".sst", "MANIFEST", "CURRENT"] {
        let dir = filled();
        fs::remove_file(file(dir.path(), part)).expect("removed");

        assert_eq!(recovered(dir.path()), (0, true), "{part}");
    }
}

/// F43: a database without our mark is somebody else's.
#[test]
fn another_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    rocksdb::DB::open(&options, dir.path().join("zoo")).expect("made").put("theirs", "1").expect("written");

    let refused = open(dir.path()).err().expect("refused");

    assert!(matches!(refused, StoreFault::Foreign { .. }), "{refused}");
    let db = rocksdb::DB::open(&rocksdb::Options::default(), dir.path().join("zoo")).expect("still there");
    assert_eq!(db.get("theirs").expect("readable").as_deref(), Some(&b"1"[..]));
}

/// F42: the holder's process id is in the message.
#[test]
fn a_folder_in_use_names_its_holder() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let _first = open(dir.path()).expect("opens");

    let refused = open(dir.path()).err().expect("refused").to_string();

    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
}
