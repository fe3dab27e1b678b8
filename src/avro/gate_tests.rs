//! Claims about the gate, with a clock that stands still and a registry that answers by script.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::avro::Reference;
use crate::clock::Clock;
use crate::telemetry::Metrics;

const READING: &str = r#"{"type":"record","name":"Reading","fields":[{"name":"battery","type":"int"}]}"#;

#[derive(Default)]
struct StoppedClock {
    ms: AtomicU64,
}

impl StoppedClock {
    fn pass(&self, time: Duration) {
        self.ms.fetch_add(u64::try_from(time.as_millis()).expect("short"), Ordering::SeqCst);
    }
}

impl Clock for StoppedClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.ms.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, pause: Duration) {
        self.pass(pause);
    }
}

/// Answers by script, in turn; without a script it keeps the question open.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<FetchedSchema, RegistryFault>>>,
    open: Mutex<Vec<(SchemaId, OnAnswer)>>,
    asked: AtomicU64,
}

impl SchemaLookup for Script {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let next = self.answers.lock().expect("script").pop_front();
        match next {
            Some(outcome) => answer(outcome),
            None => self.open.lock().expect("open questions").push((id, answer)),
        }
    }
}

struct Stage {
    gate: Arc<Gate>,
    script: Arc<Script>,
    clock: Arc<StoppedClock>,
}

impl Stage {
    fn with(policy: Policy, answers: impl IntoIterator<Item = Result<FetchedSchema, RegistryFault>>) -> Self {
        let reader = Arc::new(ReaderSchema::parse(READING).expect("a reader schema"));
        let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
        let clock = Arc::new(StoppedClock::default());
        let metrics = TenantMetrics::new(&Metrics::new(), "zoo");
        let gate = Gate::new(reader, script.clone(), clock.clone(), metrics, policy);
        Self { gate, script, clock }
    }

    fn answering(answers: impl IntoIterator<Item = Result<FetchedSchema, RegistryFault>>) -> Self {
        Self::with(Policy::default(), answers)
    }

    fn verdict(&self) -> Verdict {
        self.gate.verdict(SchemaId(7))
    }

    fn asked(&self) -> u64 {
        self.script.asked.load(Ordering::SeqCst)
    }
}

fn fetched(json: &str) -> FetchedSchema {
    FetchedSchema::avro(SchemaId(7), json)
}

fn down() -> Result<FetchedSchema, RegistryFault> {
    Err(RegistryFault::Unavailable("connection refused".into()))
}

fn unknown() -> Result<FetchedSchema, RegistryFault> {
    Err(RegistryFault::NotFound("code 40403".into()))
}

#[test]
fn an_id_seen_while_the_registry_is_down_is_held_and_then_accepted_c25() {
    let stage = Stage::answering((0..40).map(|_| down()).chain([Ok(fetched(READING))]));

    for _ in 0..41 {
        assert!(matches!(stage.verdict(), Verdict::Pending));
        stage.clock.pass(Policy::default().pause_max);
    }

    assert!(matches!(stage.verdict(), Verdict::Accepted(accepted) if accepted.id == SchemaId(7)));
    assert_eq!(stage.asked(), 41);
}

#[test]
fn wrong_credentials_hold_records_and_refuse_none() {
    let stage = Stage::answering([Err(RegistryFault::Unauthorized("401".into())), Ok(fetched(READING))]);

    assert!(matches!(stage.verdict(), Verdict::Pending));
    stage.clock.pass(Duration::from_secs(5));
    assert!(matches!(stage.verdict(), Verdict::Pending));

    assert!(matches!(stage.verdict(), Verdict::Accepted(_)));
}

#[test]
fn between_tries_the_registry_is_left_alone() {
    let stage = Stage::answering([down()]);

    (0..100).for_each(|_| assert!(matches!(stage.verdict(), Verdict::Pending)));

    assert_eq!(stage.asked(), 1);
    stage.clock.pass(Policy::default().pause_first / 2);
    stage.verdict();
    assert_eq!(stage.asked(), 1, "the jitter takes a quarter off at most");
    stage.clock.pass(Policy::default().pause_first / 2);
    stage.verdict();
    assert_eq!(stage.asked(), 2);
}

#[test]
fn an_id_that_does_not_exist_is_missing_after_repeated_tries_and_heals() {
    let stage = Stage::answering((0..6).map(|_| unknown()).chain([Ok(fetched(READING))]));

    for _ in 0..5 {
        assert!(matches!(stage.verdict(), Verdict::Pending));
        stage.clock.pass(Duration::from_secs(5));
    }
    assert!(matches!(stage.verdict(), Verdict::Missing { detail } if detail.contains("40403")));
    assert_eq!(stage.asked(), 5);

    stage.clock.pass(Duration::from_secs(25));
    assert!(matches!(stage.verdict(), Verdict::Pending), "asked again");
    assert!(matches!(stage.verdict(), Verdict::Missing { .. }), "one more answer is enough");
    stage.clock.pass(Duration::from_secs(30));
    assert!(matches!(stage.verdict(), Verdict::Pending));
    assert!(matches!(stage.verdict(), Verdict::Accepted(_)));
}

#[test]
fn one_question_is_open_for_an_id_at_a_time() {
    let stage = Stage::answering([]);

    for _ in 0..50 {
        assert!(matches!(stage.verdict(), Verdict::Pending));
        stage.clock.pass(Duration::from_secs(60));
    }
    assert_eq!(stage.asked(), 1);

    let (_, answer) = stage.script.open.lock().expect("open questions").pop().expect("one");
    answer(Ok(fetched(READING)));
    assert!(matches!(stage.verdict(), Verdict::Accepted(_)));
}

#[test]
fn a_question_that_is_given_up_is_asked_again() {
    let stage = Stage::answering([]);
    stage.verdict();

    stage.script.open.lock().expect("open questions").clear();
    stage.clock.pass(Duration::from_secs(5));
    stage.verdict();

    assert_eq!(stage.asked(), 2);
}

#[test]
fn a_schema_that_cannot_be_read_is_refused_naming_id_and_field() {
    let stage = Stage::answering([Ok(fetched(r#"{"type":"record","name":"Reading","fields":[{"name":"volt","type":"int"}]}"#))]);

    stage.verdict();

    assert!(matches!(stage.verdict(), Verdict::Refused { detail } if detail.contains("writer schema 7") && detail.contains("battery")));
    assert_eq!(stage.asked(), 1);
}

#[test]
fn a_schema_of_another_kind_than_declared_is_refused_by_name() {
    let json = r#"{"type": "object", "properties": {"battery": {"type": "integer"}}, "required": ["battery"]}"#;
    let of_kind = |kind| FetchedSchema { kind, ..fetched(json) };
    let detail = |stage: &Stage| match (stage.verdict(), stage.verdict()) {
        (_, Verdict::Refused { detail }) => detail,
        other => panic!("{other:?}"),
    };

    let found = detail(&Stage::answering([Ok(of_kind(SchemaKind::Json))]));

    assert!(
        found.contains("it is a schema of JSON Schema, the source declares Avro") && found.contains("format = \"json-schema\""),
        "{found}"
    );
    let policy = Policy { kind: SchemaKind::Json, ..Policy::default() };
    let found =
        detail(&Stage::with(policy, [Ok(fetched(r#"{"type":"record","name":"Reading","fields":[{"name":"battery","type":"int"}]}"#))]));
    assert!(found.contains("it is a schema of Avro, the source declares JSON Schema"), "{found}");
}

#[test]
fn a_json_schema_is_accepted_with_what_transcodes_its_records() {
    let json = r#"{"properties": {"battery": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["battery"]}"#;
    let policy = Policy { kind: SchemaKind::Json, ..Policy::default() };
    let stage = Stage::with(policy, [Ok(FetchedSchema { kind: SchemaKind::Json, ..fetched(json) })]);

    stage.verdict();

    let Verdict::Accepted(accepted) = stage.verdict() else { panic!("not accepted: {:?}", stage.verdict()) };
    let (transcoder, mut datum) = (accepted.transcoder.as_ref().expect("the records are JSON"), Vec::new());
    assert_eq!(transcoder.transcode(br#"{"battery": 7}"#, &mut datum), Ok(()));
    assert_eq!(datum, [14]);
    assert_eq!(transcoder.transcode(br#"{"battery": 10}"#, &mut datum).expect_err("its own schema").reason, "not-of-schema");
}

#[test]
fn types_of_other_subjects_are_resolved_c17() {
    let fetched = FetchedSchema {
        id: SchemaId(7),
        kind: SchemaKind::Avro,
        json: r#"{"type":"record","name":"Reading","namespace":"test","fields":[{"name":"battery","type":"int"},{"name":"meta","type":"test.message.Metadata"}]}"#.into(),
        references: vec![Reference {
            name: "test.message.Metadata".into(),
            text: r#"{"type":"record","name":"Metadata","namespace":"test.message","fields":[{"name":"by","type":"string"}]}"#.into(),
        }],
        direct: Vec::new(),
        chain: vec!["test.message.Metadata (subject metadata, version 1)".into()],
    };
    let stage = Stage::answering([Ok(fetched)]);

    stage.verdict();

    let Verdict::Accepted(accepted) = stage.verdict() else { panic!("not accepted: {:?}", stage.verdict()) };
    assert_eq!(accepted.references, ["test.message.Metadata (subject metadata, version 1)"]);
    assert_eq!(accepted.inspector.inspect(&[0x02, 0x02, b'x']), Ok(()));
}

#[test]
fn made_up_ids_push_each_other_out_and_never_an_accepted_one() {
    let policy = Policy { remembered_max: 3, missing_tries: 1, ..Policy::default() };
    let stage = Stage::with(policy, [Ok(fetched(READING))].into_iter().chain((0..20).map(|_| unknown())));
    stage.verdict();

    for id in 100..120 {
        stage.gate.verdict(SchemaId(id));
        assert!(matches!(stage.gate.verdict(SchemaId(id)), Verdict::Missing { .. }));
    }

    assert!(matches!(stage.verdict(), Verdict::Accepted(_)));
    assert_eq!(stage.asked(), 21);
}

#[test]
fn open_questions_are_bounded() {
    let stage = Stage::with(Policy { asking_max: 2, ..Policy::default() }, []);

    (0..10).for_each(|id| assert!(matches!(stage.gate.verdict(SchemaId(id)), Verdict::Pending)));

    assert_eq!(stage.asked(), 2);
}

/// Remembers what it is told.
#[derive(Default)]
struct Listener(Mutex<Vec<(SchemaId, bool)>>);

impl Arbiter for Listener {
    fn unruled(&self, id: SchemaId, found: Result<FetchedSchema, String>) {
        self.0.lock().expect("told").push((id, found.is_ok()));
    }
}

impl Stage {
    fn ruled(answers: impl IntoIterator<Item = Result<FetchedSchema, RegistryFault>>) -> (Self, Arc<Listener>) {
        let reader = Arc::new(ReaderSchema::parse(READING).expect("a reader schema"));
        let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
        let (clock, listener) = (Arc::new(StoppedClock::default()), Arc::new(Listener::default()));
        let metrics = TenantMetrics::new(&Metrics::new(), "zoo");
        let gate = Gate::with_arbiter(reader, script.clone(), clock.clone(), metrics, Policy::default(), Some(listener.clone()));
        (Self { gate, script, clock }, listener)
    }
}

#[test]
fn a_schema_waits_for_its_ruling_and_follows_each() {
    let (stage, listener) = Stage::ruled([Ok(fetched(READING))]);
    stage.verdict();

    assert!(matches!(stage.verdict(), Verdict::Pending));
    assert_eq!(*listener.0.lock().expect("told"), [(SchemaId(7), true)], "told once");

    stage.gate.rule(SchemaId(7), Ruling::Hold { detail: "the owner sleeps".into() });
    assert!(matches!(stage.verdict(), Verdict::Held { detail } if detail == "the owner sleeps"));
    assert!(stage.verdict().must_wait());
    assert_eq!(stage.gate.held_in_use(), [SchemaId(7)]);
    stage.gate.rule(SchemaId(7), Ruling::Accept);
    assert!(matches!(stage.verdict(), Verdict::Accepted(_)));
    stage.gate.rule(SchemaId(7), Ruling::Refuse { detail: "changed my mind".into() });
    assert!(matches!(stage.verdict(), Verdict::Refused { detail } if detail == "changed my mind"));
    assert_eq!(stage.asked(), 1);
}

#[test]
fn a_ruling_that_was_there_first_needs_no_arbiter() {
    let (stage, listener) = Stage::ruled([Ok(fetched(READING))]);
    stage.gate.rule(SchemaId(7), Ruling::Accept);

    stage.verdict();

    assert!(matches!(stage.verdict(), Verdict::Accepted(_)));
    assert!(listener.0.lock().expect("told").is_empty());
}

#[test]
fn what_cannot_be_read_is_never_accepted_but_may_be_held() {
    let unreadable = r#"{"type":"record","name":"Reading","fields":[{"name":"battery","type":"string"}]}"#;
    let (stage, _) = Stage::ruled([Ok(fetched(unreadable))]);
    stage.verdict();

    stage.gate.rule(SchemaId(7), Ruling::Hold { detail: "wait".into() });
    assert!(matches!(stage.verdict(), Verdict::Held { .. }));
    stage.gate.rule(SchemaId(7), Ruling::Accept);
    assert!(matches!(stage.verdict(), Verdict::Refused { detail } if detail.contains("battery")));
}

/// Each made-up id needs five answers and pauses in between; a thousand of them need hardly more time than one.
#[test]
fn ids_that_were_asked_ahead_become_known_in_the_time_of_one() {
    let stage = Stage::answering((0..5_000).map(|_| unknown()));
    stage.gate.ask_ahead((0..500).map(SchemaId));

    // As a worker does: wait at the first id that is not known, then at the next.
    let (mut waited, mut next) = (Duration::ZERO, 0);
    while next < 500 {
        match stage.gate.verdict(SchemaId(next)) {
            Verdict::Missing { .. } => next += 1,
            _ => {
                stage.clock.pass(Duration::from_millis(10));
                waited += Duration::from_millis(10);
            }
        }
    }

    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

#[test]
fn a_registry_in_trouble_is_asked_for_one_id_at_a_time() {
    let stage = Stage::answering([down()]);
    stage.gate.verdict(SchemaId(0));
    stage.script.answers.lock().expect("script").extend((0..100).map(|_| down()));

    stage.gate.ask_ahead((1..50).map(SchemaId));
    let asked = stage.asked();
    stage.clock.pass(Duration::from_secs(10));
    stage.gate.verdict(SchemaId(0));

    assert_eq!(stage.asked(), asked + 1, "the others wait until somebody waits for them");
}
