//! When a member joins again, and when not: by what it sees, look by look.

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn partitions() -> Vec<TopicPartition> {
    (0..4).map(|number| TopicPartition::new("in", number)).collect()
}

/// A group at rest whose members have these partitions.
fn roster(me: &str, members: &[(&str, &[i32])]) -> Roster {
    let has = |numbers: &[i32]| numbers.iter().map(|number| TopicPartition::new("in", *number)).collect();
    Roster { me: me.into(), rests: true, members: members.iter().map(|(member, numbers)| ((*member).to_owned(), has(numbers))).collect() }
}

fn rebalancing(me: &str, members: &[(&str, &[i32])]) -> Roster {
    Roster { rests: false, ..roster(me, members) }
}

/// Looks every 5 s at what `at` says is there at that second; when the member joins again for the first time.
fn joins_again(me: &str, seconds: u64, at: impl Fn(u64) -> Option<Roster>) -> Option<u64> {
    let mut watch = Watch::new(PATIENCE);
    (0..seconds).step_by(5).find(|second| {
        let now = Duration::from_secs(*second);
        assert!(watch.is_due(now), "at {second} s");
        let found = match at(*second) {
            Some(mut roster) => {
                roster.me = me.into();
                watch.saw(&roster, &partitions(), now)
            }
            None => {
                watch.saw_nothing(now);
                None
            }
        };
        found.inspect(|partition| assert_eq!(*partition, TopicPartition::new("in", 3))).is_some()
    })
}

#[test]
fn a_partition_without_an_owner_is_healed_after_a_while() {
    let lacking = |_| Some(roster("a", &[("a", &[0, 1, 2])]));

    assert_eq!(joins_again("a", 600, lacking), Some(20));
    assert_eq!(joins_again("a", 600, |_| Some(roster("a", &[("a", &[0, 1, 2, 3])]))), None, "nothing lacks");
}

/// The second round of a rebalance comes when the former owner has let go, however often members come and go.
#[test]
fn rebalances_are_no_reason() {
    // Without an owner for 15 s, then a rebalance, again and again.
    let storm = |second: u64| match second % 20 {
        0 => Some(rebalancing("a", &[("a", &[0, 1, 2]), ("b", &[])])),
        _ => Some(roster("a", &[("a", &[0, 1, 2]), ("b", &[])])),
    };
    let owned_now_and_then = |second: u64| match second % 20 {
        0 => Some(roster("a", &[("a", &[0, 1, 2, 3]), ("b", &[])])),
        _ => Some(roster("a", &[("a", &[0, 1, 2]), ("b", &[])])),
    };
    let unanswered = |second: u64| (!second.is_multiple_of(20)).then(|| roster("a", &[("a", &[0, 1, 2]), ("b", &[])]));

    for member in ["a", "b"] {
        assert_eq!(joins_again(member, 3_600, storm), None);
        assert_eq!(joins_again(member, 3_600, owned_now_and_then), None);
        assert_eq!(joins_again(member, 3_600, unanswered), None);
    }
}

/// Looks that are far apart say nothing about what was between them.
#[test]
fn a_member_that_did_not_look_for_long_begins_anew() {
    let mut watch = Watch::new(PATIENCE);
    let lacking = roster("a", &[("a", &[0, 1, 2])]);

    for second in [0, 100, 200, 300] {
        assert_eq!(watch.saw(&lacking, &partitions(), Duration::from_secs(second)), None, "at {second} s");
    }
}

/// All see the same at the same time: the one with the least to let go acts first, the others have time to see it.
#[test]
fn members_act_one_after_the_other() {
    let lacking = |_| Some(roster("", &[("a", &[0, 1]), ("b", &[]), ("c", &[2])]));

    let acts: Vec<Option<u64>> = ["b", "c", "a"].map(|member| joins_again(member, 600, lacking)).to_vec();

    assert_eq!(acts, [Some(20), Some(25), Some(30)]);
    assert_eq!(joins_again("d", 600, lacking), None, "it is no member");
}

/// Where joining again does not help, such as when nobody else knows a topic yet, members do not storm.
#[test]
fn joining_again_in_vain_becomes_rare() {
    let mut watch = Watch::new(PATIENCE);
    let lacking = roster("a", &[("a", &[0, 1, 2])]);
    let times: Vec<u64> =
        (0..3_000).step_by(5).filter(|second| watch.saw(&lacking, &partitions(), Duration::from_secs(*second)).is_some()).collect();

    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();

    // A look after each the count begins anew.
    assert_eq!(times[0], 20);
    assert_eq!(pauses[..6], [45, 85, 165, 325, 325, 325]);
    // Once everything has an owner, the next loss is met as soon as the first.
    let since = Duration::from_secs(3_000);
    assert_eq!(watch.saw(&roster("a", &[("a", &[0, 1, 2, 3])]), &partitions(), since), None);
    let next = (1..100).map(|look| LOOK_EVERY * look).find(|after| watch.saw(&lacking, &partitions(), since + *after).is_some());
    assert_eq!(next, Some(LOOK_EVERY + PATIENCE));
}

#[test]
fn brokers_that_do_not_answer_are_left_alone_for_a_minute() {
    let mut watch = Watch::new(PATIENCE);

    watch.was_not_answered(Duration::from_secs(5));

    assert!(!watch.is_due(Duration::from_secs(64)) && watch.is_due(Duration::from_secs(65)));
}
