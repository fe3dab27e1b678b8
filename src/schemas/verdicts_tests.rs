//! Claims about what holds, whatever the order in which instances wrote.

use proptest::prelude::*;

use super::*;
use crate::schemas::record::json;

fn key(id: u32) -> VerdictKey {
    VerdictKey { source: "readings".into(), id, reader: "r".into(), policy: "p".into() }
}

fn verdict(verdict: Decision, by: By, who: &str) -> Verdict {
    let (place, rule) = (None, None);
    Verdict {
        verdict,
        by,
        who: who.into(),
        when_ms: 0,
        note: None,
        place,
        reasons: Vec::new(),
        changes: Vec::new(),
        rule,
        announced: false,
    }
}

fn write(verdicts: &mut Verdicts, id: u32, value: &Verdict) -> Applied {
    verdicts.apply(&json(&Key::Verdict(key(id))), Some(&json(value)))
}

#[test]
fn of_the_policys_verdicts_the_first_holds_and_the_loser_learns_what_has_to_stand_last() {
    let mut verdicts = Verdicts::default();
    let (first, second) = (verdict(Decision::Accepted, By::Policy, "a"), verdict(Decision::Held, By::Policy, "b"));

    assert_eq!(write(&mut verdicts, 7, &first), Applied::Verdict(key(7)));
    let lost = write(&mut verdicts, 7, &second);

    let holds = json(&first);
    assert_eq!(lost, Applied::Lost { key: Key::Verdict(key(7)), who: "b".into(), holds: holds.clone() });
    assert_eq!(verdicts.apply(&json(&Key::Verdict(key(7))), Some(&holds)), Applied::Nothing);
    assert_eq!(verdicts.of(&key(7)).map(|verdict| verdict.verdict), Some(Decision::Accepted));
}

#[test]
fn the_owner_goes_before_the_policy_and_the_owners_last_word_holds() {
    let mut verdicts = Verdicts::default();
    write(&mut verdicts, 7, &verdict(Decision::Held, By::Policy, "a"));

    write(&mut verdicts, 7, &verdict(Decision::Accepted, By::Owner, "me"));
    assert!(verdicts.is_known("readings", 7));
    write(&mut verdicts, 7, &verdict(Decision::Refused, By::Owner, "me"));
    write(&mut verdicts, 7, &verdict(Decision::Held, By::Policy, "a"));

    assert_eq!(verdicts.of(&key(7)).map(|verdict| (verdict.verdict, verdict.by)), Some((Decision::Refused, By::Owner)));
    assert!(!verdicts.is_known("readings", 7));
}

#[test]
fn an_accepted_schema_is_known_under_the_next_tenant_file_and_a_held_one_is_not() {
    let mut verdicts = Verdicts::default();
    let baseline = Baseline { ids: vec![1, 2], who: "a".into(), when_ms: 0 };
    verdicts.apply(&json(&Key::Baseline { source: "readings".into() }), Some(&json(&baseline)));
    write(&mut verdicts, 2, &verdict(Decision::Held, By::Policy, "a"));
    write(&mut verdicts, 3, &verdict(Decision::Accepted, By::Owner, "me"));

    let known: Vec<u32> = (0..5).filter(|id| verdicts.is_known("readings", *id)).collect();

    assert_eq!(known, [1, 3]);
    assert_eq!(verdicts.settled("readings", "r", "p"), [2, 3].into());
    assert!(verdicts.settled("readings", "another", "p").is_empty());
}

#[test]
fn the_first_baseline_holds() {
    let mut verdicts = Verdicts::default();
    let key = json(&Key::Baseline { source: "readings".into() });
    let baseline = |ids: &[u32], who: &str| Baseline { ids: ids.to_vec(), who: who.into(), when_ms: 0 };

    verdicts.apply(&key, Some(&json(&baseline(&[1], "a"))));
    let lost = verdicts.apply(&key, Some(&json(&baseline(&[1, 2], "b"))));

    assert!(matches!(lost, Applied::Lost { who, .. } if who == "b"));
    assert!(verdicts.is_known("readings", 1) && !verdicts.is_known("readings", 2));
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let mut verdicts = Verdicts::default();

    assert_eq!(verdicts.apply(b"\xff", Some(b"{}")), Applied::Nothing);
    assert_eq!(verdicts.apply(&json(&Key::Verdict(key(7))), Some(b"{\"verdict\":\"perhaps\"}")), Applied::Nothing);
    assert_eq!(verdicts.all().count(), 0);
}

#[test]
fn an_announcement_is_noted_and_a_late_record_does_not_unsay_it() {
    let mut verdicts = Verdicts::default();
    let held = verdict(Decision::Held, By::Policy, "a");
    write(&mut verdicts, 7, &held);

    assert_eq!(write(&mut verdicts, 7, &Verdict { announced: true, ..held.clone() }), Applied::Verdict(key(7)));
    assert_eq!(write(&mut verdicts, 7, &held), Applied::Nothing);

    assert!(verdicts.of(&key(7)).is_some_and(|verdict| verdict.announced));
}

fn any_record() -> impl Strategy<Value = (u32, Verdict)> {
    let decision = prop_oneof![Just(Decision::Accepted), Just(Decision::Held), Just(Decision::Refused)];
    let by = prop_oneof![3 => Just(By::Policy), 1 => Just(By::Owner)];
    (0..3_u32, decision, by, prop_oneof![Just("a"), Just("b")]).prop_map(|(id, decision, by, who)| (id, verdict(decision, by, who)))
}

proptest! {
    /// The topic as compaction leaves it, once losers have mended what they wrote, says the same as the whole topic.
    #[test]
    fn compaction_changes_nothing_that_holds(records in proptest::collection::vec(any_record(), 0..20)) {
        let mut whole = Verdicts::default();
        let mut log: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (id, record) in &records {
            let (key, value) = (json(&Key::Verdict(key(*id))), json(record));
            let applied = whole.apply(&key, Some(&value));
            log.push((key, value));
            if let Applied::Lost { key, holds, .. } = applied {
                log.push((json(&key), holds));
            }
        }

        let compacted: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = log.into_iter().collect();
        let mut again = Verdicts::default();
        for (key, value) in &compacted {
            again.apply(key, Some(value));
        }

        let said = |verdicts: &Verdicts| verdicts.all().map(|(key, verdict)| (key.clone(), verdict.verdict, verdict.by)).collect::<Vec<_>>();
        prop_assert_eq!(said(&again), said(&whole));
    }
}
