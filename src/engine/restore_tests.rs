use super::*;

fn facts(committed: Option<i64>) -> Facts {
    let window = WindowPlan {
        window: "w".into(),
        store: WindowStoreId(1),
        changelog: TopicPartition::new("changelog", 0),
        changelog_id: "C1".into(),
        identity: "i".into(),
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
    assert_eq!(decide(&facts(Some(11)), Some(&stored(UNFINISHED))), Decision::Replay(vec![Some(Position(7))]));
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
