//! Claims about GUIDs, with a clock that moves when told and a registry that answers by script.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::avro::gate::OnAnswer;
use crate::clock::Clock;

#[derive(Default)]
struct StoppedClock(AtomicU64);

impl StoppedClock {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).expect("short"), Ordering::SeqCst);
    }
}

impl Clock for StoppedClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, pause: Duration) {
        self.pass(pause);
    }
}

/// Answers in turn; without an answer it keeps the question open.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<SchemaId, RegistryFault>>>,
    open: Mutex<Vec<OnId>>,
    asked: AtomicU64,
}

impl SchemaLookup for Script {
    fn look_up(&self, _: SchemaId, _: OnAnswer) {
        panic!("no id is asked for");
    }

    fn look_up_guid(&self, _: SchemaGuid, answer: OnId) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let next = self.answers.lock().expect("script").pop_front();
        match next {
            Some(outcome) => answer(outcome),
            None => self.open.lock().expect("open questions").push(answer),
        }
    }
}

const GUID: SchemaGuid = SchemaGuid([0xab; 16]);

fn stage(answers: impl IntoIterator<Item = Result<SchemaId, RegistryFault>>) -> (Arc<Guids>, Arc<Script>, Arc<StoppedClock>) {
    let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
    let clock = Arc::new(StoppedClock::default());
    (Guids::new(script.clone(), clock.clone(), Policy::default()), script, clock)
}

fn not_found() -> Result<SchemaId, RegistryFault> {
    Err(RegistryFault::NotFound("told".into()))
}

#[test]
fn a_guid_is_asked_for_once_and_its_records_wait_meanwhile() {
    let (guids, script, _) = stage([]);

    let GuidAnswer::Pending(stand_in) = guids.id_of(GUID) else { panic!("nothing is known yet") };
    assert_eq!(guids.id_of(GUID), GuidAnswer::Pending(stand_in));
    assert_eq!(guids.is_waiting(stand_in), Some(true));
    let answer = script.open.lock().expect("open questions").pop().expect("one question");
    answer(Ok(SchemaId(7)));

    assert_eq!(guids.is_waiting(stand_in), Some(false));
    assert_eq!(guids.id_of(GUID), GuidAnswer::Id(SchemaId(7)));
    assert_eq!(script.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn ids_are_no_stand_ins() {
    assert_eq!(stage([]).0.is_waiting(SchemaId(7)), None);
}

#[test]
fn a_registry_that_is_away_makes_records_wait_and_never_refuses_them_c25() {
    let away = || Err(RegistryFault::Unavailable("away".into()));
    let (guids, _, clock) = stage((0..30).map(|_| away()).chain([Ok(SchemaId(7))]));

    for _ in 0..30 {
        assert!(matches!(guids.id_of(GUID), GuidAnswer::Pending(_)));
        clock.pass(Duration::from_secs(5));
    }

    assert_eq!(guids.id_of(GUID), GuidAnswer::Id(SchemaId(7)));
}

#[test]
fn a_guid_that_no_schema_has_is_refused_after_some_tries_and_heals() {
    let (guids, _, clock) = stage((0..5).map(|_| not_found()).chain([Ok(SchemaId(7))]));
    for _ in 0..4 {
        assert!(matches!(guids.id_of(GUID), GuidAnswer::Pending(_)));
        clock.pass(Duration::from_secs(5));
    }

    assert!(matches!(guids.id_of(GUID), GuidAnswer::Refused("unknown-schema-id", _)));
    clock.pass(Duration::from_secs(31));
    assert_eq!(guids.id_of(GUID), GuidAnswer::Id(SchemaId(7)));
}

#[test]
fn a_registry_without_guids_is_named_at_once_c23() {
    let (guids, ..) = stage([Err(RegistryFault::Bad("no such path".into()))]);

    let answer = guids.id_of(GUID);

    let GuidAnswer::Refused("header-framed", detail) = answer else { panic!("{answer:?}") };
    assert!(detail.contains("abababab-abab-abab-abab-abababababab"), "{detail}");
}

#[test]
fn made_up_guids_are_forgotten() {
    let bad = || Err(RegistryFault::Bad("no such path".into()));
    let (guids, ..) = stage((0..5_000).map(|_| bad()));

    for number in 0..5_000_u32 {
        let mut guid = [0; 16];
        guid[..4].copy_from_slice(&number.to_be_bytes());
        guids.id_of(SchemaGuid(guid));
    }

    assert!(guids.lock().len() <= Policy::default().remembered_max);
}
