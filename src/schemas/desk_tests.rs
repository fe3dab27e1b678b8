//! Claims about desks on a topic in memory: several instances, restarts, failures, whatever the order of their turns.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::*;
use crate::avro::gate::{OnAnswer, Policy, SchemaLookup};
use crate::avro::registry::FetchedSchema;
use crate::avro::{Ruling, Verdict as GateVerdict};
use crate::clock::Clock;
use crate::kafka::Reaction;
use crate::schemas::record::Place;
use crate::schemas::testing::{self, READING};
use crate::telemetry::{Metrics, TenantMetrics};

/// Time that passes when told to.
#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, pause: Duration) {
        self.0.fetch_add(pause.as_millis() as u64, Ordering::SeqCst);
    }
}

type Log = Arc<Mutex<Vec<super::super::topics::Record>>>;

/// A topic in memory; fails as often as it is told to.
struct Memory {
    verdicts: Log,
    events: Log,
    at: usize,
    /// So many records are visible to this instance.
    sees: Arc<AtomicU64>,
    failing: Arc<AtomicI64>,
}

impl Topics for Memory {
    fn rewind(&mut self) -> Result<(), Failure> {
        self.at = 0;
        Ok(())
    }

    fn read(&mut self, _: Duration) -> Result<(Vec<super::super::topics::Record>, bool), Failure> {
        let log = self.verdicts.lock().expect("not poisoned");
        // One record at a time, so that instances fall behind each other.
        let visible = log.len().min(self.sees.load(Ordering::SeqCst) as usize);
        let next: Vec<_> = log.iter().take(visible).skip(self.at).take(1).cloned().collect();
        self.at += next.len();
        Ok((next, self.at == visible))
    }

    fn append(&mut self, to: Topic, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        if self.failing.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(Failure::new(Reaction::Retry, "append", "the broker is away"));
        }
        let log = if to == Topic::Verdicts { &self.verdicts } else { &self.events };
        log.lock().expect("not poisoned").push((key.to_vec(), Some(value.to_vec())));
        Ok(())
    }
}

/// Knows no schema: gates are told of schemas by desks here.
struct Nothing;

impl SchemaLookup for Nothing {
    fn look_up(&self, _: SchemaId, _: OnAnswer) {}
}

struct World {
    tenant: Arc<Tenant>,
    clock: Arc<HandClock>,
    verdicts: Log,
    events: Log,
    failing: Arc<AtomicI64>,
}

struct Instance {
    desk: Desk<Memory>,
    outbox: mpsc::Sender<Message>,
    sees: Arc<AtomicU64>,
}

impl World {
    fn new(policy: &str) -> Self {
        Self {
            tenant: testing::zoo(policy),
            clock: Arc::default(),
            verdicts: Log::default(),
            events: Log::default(),
            failing: Arc::default(),
        }
    }

    fn instance(&self, who: &str) -> Instance {
        let metrics = TenantMetrics::new(&Metrics::new(), "zoo");
        let gate = Gate::new(self.tenant.sources[0].reader.clone(), Arc::new(Nothing), self.clock.clone(), metrics, Policy::default());
        let (outbox, inbox) = mpsc::channel();
        let back = outbox.clone();
        let sees = Arc::new(AtomicU64::new(u64::MAX));
        let (verdicts, events) = (self.verdicts.clone(), self.events.clone());
        let topics = Memory { verdicts, events, at: 0, sees: sees.clone(), failing: self.failing.clone() };
        let desk = Desk::new(Tools {
            tenant: self.tenant.clone(),
            who: who.into(),
            topics,
            clock: self.clock.clone(),
            gates: vec![gate],
            inbox,
            board: Arc::default(),
            announcer: Box::new(move |_, key| back.send(Message::Announced(key)).expect("the desk lives")),
        });
        Instance { desk, outbox, sees }
    }

    fn events(&self) -> Vec<serde_json::Value> {
        let events = self.events.lock().expect("not poisoned");
        events.iter().map(|(_, value)| serde_json::from_slice(value.as_ref().expect("a value")).expect("JSON")).collect()
    }

    /// Lets instances take turns until nothing is written any more.
    fn settle(&self, instances: &mut [&mut Instance]) {
        for _ in 0..60 {
            instances.iter_mut().for_each(|one| one.turn());
        }
    }
}

impl Instance {
    fn turn(&mut self) {
        if let Err(failure) = self.desk.turn(Duration::ZERO) {
            assert_eq!(failure.reaction, Reaction::Retry);
        }
    }

    fn baseline(&self, ids: &[u32]) {
        self.outbox.send(Message::Baseline { source: 0, ids: ids.to_vec() }).expect("the desk lives");
    }

    fn meet(&self, id: u32, json: &str) {
        let fetched = FetchedSchema::avro(SchemaId(id), json);
        let place = Some(Place { subject: "in-value".into(), version: id as i32 });
        let met = Met { source: 0, id, found: Ok(fetched), place, rule: None };
        self.outbox.send(Message::Met(Box::new(met))).expect("the desk lives");
    }

    /// What holds for an id.
    fn holds(&self, id: u32) -> Option<Decision> {
        self.desk.verdicts().all().find(|(key, _)| key.id == id).map(|(_, verdict)| verdict.verdict)
    }
}

const UNREADABLE: &str = r#"{"type":"record","name":"Reading","fields":[{"name":"dev_id","type":"int"}]}"#;

#[test]
fn what_was_there_before_the_first_start_is_known_and_what_comes_later_is_the_policys() {
    for (policy, expected) in [("compatible", Decision::Accepted), ("hold", Decision::Held), ("refuse", Decision::Refused)] {
        let world = World::new(policy);
        let mut one = world.instance("one");
        one.baseline(&[1]);
        world.settle(&mut [&mut one]);

        one.meet(1, READING);
        one.meet(2, READING);
        one.meet(3, UNREADABLE);
        world.settle(&mut [&mut one]);

        let unreadable = if policy == "hold" { Decision::Held } else { Decision::Refused };
        let held: Vec<_> = (1..4).map(|id| one.holds(id)).collect();
        assert_eq!(held, [Some(Decision::Accepted), Some(expected), Some(unreadable)], "{policy}");
        let announced: Vec<_> = world.events().iter().map(|event| event["schema_id"].as_u64()).collect();
        assert_eq!(announced, [Some(2), Some(3)], "known ones are no news");
    }
}

#[test]
fn no_schema_is_judged_before_the_baseline_is_known() {
    let world = World::new("hold");
    let mut one = world.instance("one");

    one.meet(1, READING);
    world.settle(&mut [&mut one]);
    assert_eq!(one.holds(1), None);

    one.baseline(&[1]);
    world.settle(&mut [&mut one]);
    assert_eq!(one.holds(1), Some(Decision::Accepted));
}

/// One instance saw version 2 before it took the baseline, the other after: the first baseline of the topic counts, for both.
#[test]
fn two_instances_that_start_at_once_come_to_the_same_verdicts() {
    let world = World::new("hold");
    let (mut one, mut two) = (world.instance("one"), world.instance("two"));
    one.baseline(&[1]);
    two.baseline(&[1, 2]);
    for id in [1, 2] {
        one.meet(id, READING);
        two.meet(id, READING);
    }

    two.turn();
    one.sees.store(0, Ordering::SeqCst);
    one.turn();
    one.sees.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(world.verdicts.lock().expect("not poisoned").len(), 2, "both wrote, neither had read the other's");
    world.settle(&mut [&mut two, &mut one]);

    let of = |instance: &Instance| [1, 2].map(|id| instance.holds(id));
    assert_eq!(of(&one), of(&two));
    assert_eq!(of(&one), [Some(Decision::Accepted); 2], "two's turn came first");
    let last_baseline =
        world.verdicts.lock().expect("not poisoned").iter().rev().find(|(key, _)| key.starts_with(br#"{"kind":"base"#)).cloned();
    let last_baseline = last_baseline.and_then(|(_, value)| value).expect("a baseline");
    assert!(String::from_utf8_lossy(&last_baseline).contains("[1,2]"), "the loser wrote the one that holds again");
}

#[test]
fn a_hold_survives_a_restart_and_the_owners_word_ends_it_everywhere() {
    let world = World::new("hold");
    let mut before = world.instance("one");
    before.baseline(&[]);
    before.meet(7, READING);
    world.settle(&mut [&mut before]);
    drop(before);

    let (mut one, mut two) = (world.instance("one"), world.instance("two"));
    world.settle(&mut [&mut one, &mut two]);
    assert_eq!((one.holds(7), two.holds(7)), (Some(Decision::Held), Some(Decision::Held)));
    assert_eq!(world.events().len(), 1, "a restart is no news");

    let (key, held) = one.desk.verdicts().all().next().map(|(key, verdict)| (key.clone(), verdict.clone())).expect("a verdict");
    let decided = Verdict { verdict: Decision::Accepted, by: By::Owner, who: "me".into(), announced: false, ..held };
    world.verdicts.lock().expect("not poisoned").push((json(&Key::Verdict(key.clone())), Some(json(&decided))));
    world.settle(&mut [&mut one, &mut two]);
    world.clock.sleep(Duration::from_secs(5));
    world.settle(&mut [&mut one, &mut two]);

    assert_eq!((one.holds(7), two.holds(7)), (Some(Decision::Accepted), Some(Decision::Accepted)));
    assert_eq!(ruling(&key, &decided), Ruling::Accept);
    let last = world.events().pop().expect("an event");
    assert_eq!((last["verdict"].as_str(), last["by"].as_str()), (Some("accepted"), Some("owner")));
}

#[test]
fn a_broker_that_is_away_loses_no_verdict_and_no_announcement() {
    let world = World::new("refuse");
    let mut one = world.instance("one");
    one.baseline(&[]);
    world.settle(&mut [&mut one]);
    one.meet(7, READING);
    world.failing.store(7, Ordering::SeqCst);

    for _ in 0..40 {
        one.turn();
        world.clock.sleep(ECHO_WITHIN);
    }

    assert_eq!(one.holds(7), Some(Decision::Refused));
    let ids: BTreeSet<String> = world.events().iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "told at least once, and every time under the same id: {ids:?}");
}

#[test]
fn an_announcement_whose_instance_died_is_made_by_another() {
    let world = World::new("refuse");
    let mut one = world.instance("one");
    one.baseline(&[]);
    world.settle(&mut [&mut one]);
    one.meet(7, READING);
    while one.desk.open.values().all(|open| open.echo_until.is_none()) {
        one.turn();
    }
    drop(one);

    let mut two = world.instance("two");
    world.settle(&mut [&mut two]);
    assert_eq!(world.events().len(), 0, "it may still live");
    world.clock.sleep(OTHERS_AFTER);
    world.settle(&mut [&mut two]);

    assert_eq!(world.events().len(), 1);
}

#[test]
fn gates_are_told_what_holds_and_only_once_everything_was_read() {
    let world = World::new("refuse");
    let mut one = world.instance("one");
    one.baseline(&[1]);
    world.settle(&mut [&mut one]);
    (1..9).for_each(|id| one.meet(id, READING));
    world.settle(&mut [&mut one]);

    let mut two = world.instance("two");
    two.turn();
    assert!(!two.desk.is_current(), "one record of many was read");
    world.settle(&mut [&mut two]);

    assert!(two.desk.is_current());
    let board = &two.desk.board;
    assert!(board.is_ready() && board.has_baseline(0) && (1..9).all(|id| board.is_settled(0, id)) && !board.is_settled(0, 9));
    assert!(matches!(two.desk.gates[0].verdict(SchemaId(3)), GateVerdict::Pending), "it was not looked up here");
}

#[test]
fn the_findings_of_a_hostile_schema_are_cut() {
    let fields: Vec<String> = (0..5_000).map(|at| format!(r#"{{"name":"f{at}","type":"int"}}"#)).collect();
    let hostile = format!(r#"{{"type":"record","name":"Reading","fields":[{}]}}"#, fields.join(","));
    let world = World::new("compatible");
    let mut one = world.instance("one");
    one.baseline(&[]);
    one.meet(7, &hostile);

    world.settle(&mut [&mut one]);

    let (_, verdict) = one.desk.verdicts().all().next().expect("a verdict");
    assert_eq!((verdict.verdict, verdict.changes.len()), (Decision::Refused, FINDINGS_MAX + 1));
}
