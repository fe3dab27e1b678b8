//! A rebalance storm: a second instance joins or leaves, in good order or not, every five seconds. Nothing is lost, work goes on,
//! and a partition that comes back finds its old state and replays only the tail.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use testudo::stack::Stack;

use crate::Test;
use crate::job::Instance;
use crate::matrix::rig::Rig;
use crate::matrix::scorecard::publish;

pub const TESTS: &[Test] = &[
    ("f13_a_rebalance_storm_loses_nothing", |stack| storm(stack, Duration::from_secs(60)).map(|_| ())),
    ("the_storm_knows_a_whole_replay", |_| whole_replay_is_found()),
];

pub const LONG_TESTS: &[Test] = &[("crash_storm", |stack| publish("storm", &storm(stack, Duration::from_secs(180))?))];

/// Time between two moves.
const EVERY: Duration = Duration::from_secs(5);

/// How partitions came to an instance, from its logs.
#[derive(Debug, Default)]
struct Moves {
    /// Partitions made ready.
    ready: usize,
    /// Of these, known to the instance from before.
    known: usize,
    /// Changelog records read for those known from before.
    tail: i64,
}

/// Runs the storm; a paragraph about it.
fn storm(stack: &Stack, lasting: Duration) -> Result<String, Failed> {
    let seed = u64::from(std::process::id());
    let mut rig = Rig::new(stack)?;
    let load = rig.load(seed);
    let one = rig.start("one", "", 2)?;
    rig.wait_for_more(1_000)?;
    let (began, mut moves, mut second, mut logs_of_two) = (Instant::now(), 0, None::<Instance>, String::new());
    while began.elapsed() < lasting {
        let before = rig.progress.committed()?;
        match second.take() {
            None => second = Some(rig.start("two", "", 2)?),
            Some(two) => {
                logs_of_two += &two.log();
                // Every other departure is a crash.
                if moves % 4 == 1 { two.terminate()? } else { two.kill()? }
            }
        }
        moves += 1;
        std::thread::sleep(EVERY);
        if rig.progress.committed()? == before {
            return Err(format!("no progress within {} s of move {moves}\n{}", EVERY.as_secs(), rig.logs()).into());
        }
    }
    load.stop()?;
    let log_of_one = one.log();
    if let Some(two) = &second {
        logs_of_two += &two.log();
    }
    let verdict = rig
        .judge([Some(one), second].into_iter().flatten().collect())
        .map_err(|failed| Failed::from(format!("{}\n{}", failed.message().unwrap_or("failed"), rig.logs())))?;
    if !verdict.is_clean() {
        return Err(format!("{verdict:#?}\n{}", rig.logs()).into());
    }
    let (of_one, of_two) = (moves_in(&log_of_one)?, moves_in(&logs_of_two)?);
    if of_one.known == 0 || of_two.known == 0 {
        return Err(format!("no partition came back: {of_one:?}, {of_two:?}").into());
    }
    Ok(format!(
        "{moves} joins and departures in {} s, half of the departures by `kill -9`: {} records, none lost or doubled; work went on between any \
         two of them. Partitions were taken up {} times, {} of them by an instance that had held them before: these read {} changelog records \
         each on average.",
        lasting.as_secs(),
        verdict.records,
        of_one.ready + of_two.ready,
        of_one.known + of_two.known,
        (of_one.tail + of_two.tail) / (of_one.known + of_two.known).max(1) as i64,
    ))
}

/// Follows partitions through the log of one instance (and of its successors on the same state).
///
/// A replay that begins before the end of an earlier finished one is an error: the old state was not used.
fn moves_in(log: &str) -> Result<Moves, Failed> {
    let mut moves = Moves::default();
    // How far the instance's state is known to reach, and how far a replay in progress goes.
    let (mut reached, mut replaying) = (HashMap::<String, i64>::new(), HashMap::<String, i64>::new());
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    for line in lines {
        let Some(partition) = line["partition"].as_str().map(ToOwned::to_owned) else { continue };
        match line["message"].as_str() {
            Some("restoring from changelog") => {
                let (from, until) = (line["from"].as_i64().unwrap_or(0), line["until"].as_i64().unwrap_or(0));
                match reached.get(&partition) {
                    Some(known) if from < *known => {
                        return Err(format!("{partition} is replayed from {from}, its state reached {known} before").into());
                    }
                    Some(_) => moves.tail += until - from,
                    None => {}
                }
                replaying.insert(partition, until);
            }
            Some("partition ready") => {
                moves.ready += 1;
                moves.known += usize::from(reached.contains_key(&partition));
                let until = replaying.remove(&partition).unwrap_or(0);
                let known = reached.entry(partition).or_default();
                *known = until.max(*known);
            }
            _ => {}
        }
    }
    Ok(moves)
}

fn whole_replay_is_found() -> Result<(), Failed> {
    let restoring =
        |from, until| format!("{{\"message\":\"restoring from changelog\",\"partition\":\"in/0\",\"from\":{from},\"until\":{until}}}\n");
    let ready = "{\"message\":\"partition ready\",\"partition\":\"in/0\"}\n";
    let tail_only = format!("{}{ready}{}{ready}", restoring(0, 100), restoring(150, 160));
    let whole = format!("{}{ready}{}{ready}", restoring(0, 100), restoring(0, 160));

    let moves = moves_in(&tail_only)?;

    assert_eq!((moves.ready, moves.known, moves.tail), (2, 1, 10));
    assert!(moves_in(&whole).is_err(), "a replay from the beginning is not a tail");
    Ok(())
}
