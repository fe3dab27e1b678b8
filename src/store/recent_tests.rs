//! Claims about recent states: what is said is what the store would say, however little may be remembered.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LANE: LaneId = (1, 0);

fn key(partition: i32, start_us: i64, name: u8) -> Vec<u8> {
    keys::window_key(LANE.0, partition, start_us, &[1, name, 0])
}

fn look_up(recent: &Recent, key: &[u8]) -> Known {
    recent.look_up(std::iter::once(key)).remove(0)
}

fn note(recent: &Recent, key: &[u8], state: Option<&[u8]>) {
    recent.note(std::iter::once((key, state)));
}

/// One change: partition, window start, name, and the state's length and byte, or none for a deletion.
type Change = (i32, i64, u8, Option<(usize, u8)>);

fn change() -> impl Strategy<Value = Change> {
    (0..3, 0_i64..6, 0_u8..8, proptest::option::weighted(0.8, (0_usize..3_000, any::<u8>())))
}

proptest! {
    #[test]
    fn it_never_says_another_thing_than_the_store(
        before in proptest::collection::vec(change(), 0..30),
        changes in proptest::collection::vec(change(), 0..400),
        kib in 0_usize..600,
    ) {
        let mut store: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let apply = |store: &mut BTreeMap<Vec<u8>, Vec<u8>>, (partition, start_us, name, state): &Change| {
            let state = state.map(|(length, byte)| vec![byte; length]);
            match &state {
                Some(state) => drop(store.insert(key(*partition, *start_us, *name), state.clone())),
                None => drop(store.remove(&key(*partition, *start_us, *name))),
            }
            state
        };
        before.iter().for_each(|change| drop(apply(&mut store, change)));
        let budget = Budget::new(kib << 10);
        let recent = Recent::new(budget.clone());
        for partition in 0..3 {
            let of_lane = |key: &Vec<u8>| keys::read_window_key(key).filter(|window| window.partition == partition).map(|window| window.start_us);
            recent.begin((LANE.0, partition), store.keys().filter_map(of_lane).max());
        }
        for (number, change) in changes.iter().enumerate() {
            let state = apply(&mut store, change);
            note(&recent, &key(change.0, change.1, change.2), state.as_deref());
            // The window that has changed, and one that perhaps has not for long.
            for (start_us, name) in [(change.1, change.2), (change.1 * 5 % 6, (change.2 + number as u8) % 8)] {
                let key = key(change.0, start_us, name);
                match look_up(&recent, &key) {
                    Known::State(state) => prop_assert_eq!(Some(&state), store.get(&key)),
                    Known::Absent => prop_assert!(!store.contains_key(&key)),
                    Known::Unknown => {}
                }
            }
        }
        drop(recent);
        prop_assert_eq!(budget.used.load(Ordering::Relaxed), 0, "what was counted is given back");
    }
}

#[test]
fn what_was_written_is_known_and_so_is_what_was_not() {
    let recent = Recent::new(Budget::new(1 << 20));
    recent.begin(LANE, Some(10));

    note(&recent, &key(0, 20, 1), Some(b"state"));
    note(&recent, &key(0, 20, 2), Some(b"gone"));
    note(&recent, &key(0, 20, 2), None);

    assert_eq!(look_up(&recent, &key(0, 20, 1)), Known::State(b"state".to_vec()));
    assert_eq!(look_up(&recent, &key(0, 20, 2)), Known::Absent);
    assert_eq!(look_up(&recent, &key(0, 11, 9)), Known::Absent);
    assert_eq!(look_up(&recent, &key(0, 10, 9)), Known::Unknown, "it may have been there before");
    assert_eq!(look_up(&recent, &key(1, 20, 1)), Known::Unknown, "a lane that was not begun");
}

#[test]
fn windows_that_come_and_go_leave_no_room_taken() {
    let budget = Budget::new(64 << 20);
    let recent = Recent::new(budget.clone());
    recent.begin(LANE, None);

    for start_us in 0..20_000 {
        note(&recent, &key(0, start_us, 0), Some(&[7; 100]));
        note(&recent, &key(0, start_us - 100, 0), None);
    }

    assert!(budget.used.load(Ordering::Relaxed) < 4 * TABLE_BYTES_MIN, "{:?}", budget.used);
    assert_eq!(look_up(&recent, &key(0, 19_999, 0)), Known::State(vec![7; 100]));
    assert_eq!(look_up(&recent, &key(0, 19_800, 0)), Known::Absent);
}

#[test]
fn memory_stays_within_its_bound() {
    let budget = Budget::new(1 << 20);
    let recent = Recent::new(budget.clone());
    for partition in 0..4 {
        recent.begin((LANE.0, partition), None);
    }

    for round in 0..40_000_i64 {
        note(&recent, &key((round % 4) as i32, round, 0), Some(&[7; 100]));
        assert!(budget.used.load(Ordering::Relaxed) <= (1 << 20) + 4 * TABLE_BYTES_MIN);
    }

    assert_eq!(look_up(&recent, &key(3, 39_999, 0)), Known::State(vec![7; 100]));
    assert_eq!(look_up(&recent, &key(0, 0, 0)), Known::Unknown, "long forgotten");
    assert_eq!(look_up(&recent, &key(0, 50_000, 0)), Known::Absent);
}
