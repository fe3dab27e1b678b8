//! A rebalance storm: a second instance joins or leaves, in good order or not, every five seconds. Nothing is lost, work goes on,
//! and a partition that comes back finds its old state and replays only the tail. Under each of the three protocols of a group.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use testudo::stack::Stack;

use crate::Test;
use crate::job::Instance;
use crate::matrix::load::RATE;
use crate::matrix::progress::{Progress, Standstill, Watch};
use crate::matrix::rig::{PARTITIONS, Rig, SESSION_TIMEOUT};
use crate::matrix::scorecard::{machine_and_versions, publish};
use crate::matrix::verdict::Verdict;

pub const TESTS: &[Test] = &[
    ("f13_a_rebalance_storm_loses_nothing", |stack| storm(stack, "cooperative", Duration::from_secs(60)).map(|_| ())),
    ("the_storm_knows_a_whole_replay", |_| whole_replay_is_found()),
];

pub const LONG_TESTS: &[Test] = &[("crash_storm", |stack| publish("storm", &storms(stack, Duration::from_secs(180))?))];

/// The protocols of a group, as `kafka.group_protocol` names them; the default first.
pub const PROTOCOLS: [&str; 3] = ["cooperative", "eager", "consumer"];

/// Time between two moves.
const EVERY: Duration = Duration::from_secs(5);
/// Somebody moves on within this, whatever happens to the group; under the default, every partition.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

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

/// A storm that passed its judgement.
struct Storm {
    moves: usize,
    verdict: Verdict,
    standstill: Standstill,
    partitions: Moves,
    /// How often a worker dropped what was open and took everything up again.
    recoveries: usize,
}

/// Runs the storm under one protocol.
fn storm(stack: &Stack, protocol: &str, lasting: Duration) -> Result<Storm, Failed> {
    let seed = u64::from(std::process::id());
    let mut rig = Rig::new(stack)?;
    rig.job.use_protocol(protocol)?;
    let load = rig.load(seed);
    let one = rig.start("one", "", 2)?;
    rig.wait_for_more(1_000)?;
    let watch = Watch::start(Progress::of(&rig.job, PARTITIONS)?);
    let (began, mut moves, mut second, mut logs_of_two) = (Instant::now(), 0, None::<Instance>, String::new());
    while began.elapsed() < lasting {
        match second.take() {
            None => second = Some(rig.start("two", "", 2)?),
            // One that has not come so far yet, on a busy machine, makes no storm.
            Some(two) if moves_in(&logs_of_two)?.ready + moves_in(&two.log())?.ready == 0 => {
                second = Some(two);
                std::thread::sleep(EVERY / 5);
                continue;
            }
            Some(two) => {
                logs_of_two += &two.log();
                // Every other departure is a crash.
                if moves % 4 == 1 { two.terminate()? } else { two.kill()? }
            }
        }
        moves += 1;
        std::thread::sleep(EVERY);
    }
    let standstill = watch.stop()?;
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
    let recoveries = [&log_of_one, &logs_of_two].map(|log| log.matches("going back to the committed positions").count()).iter().sum();
    let partitions = Moves { ready: of_one.ready + of_two.ready, known: of_one.known + of_two.known, tail: of_one.tail + of_two.tail };
    let storm = Storm { moves, verdict, standstill, partitions, recoveries };
    println!("storm: {}", storm.row(protocol));
    if of_one.known == 0 || of_two.ready == 0 {
        return Err(format!("no partition went and came back: {of_one:?}, {of_two:?}").into());
    }
    // Somebody works on between any two moves, but for what an open transaction holds back; eager members all stop at each of them.
    let is_default = protocol == PROTOCOLS[0];
    let group_max = if is_default { EVERY * 2 } else { STANDSTILL_MAX };
    // Of the others the table says how long a partition waits.
    match standstill.group < group_max && (!is_default || standstill.partition < STANDSTILL_MAX) {
        true => Ok(storm),
        false => Err(format!("{protocol}: {standstill:?}, not below {group_max:?} and {STANDSTILL_MAX:?}\n{}", rig.logs()).into()),
    }
}

impl Storm {
    fn row(&self, protocol: &str) -> String {
        let Moves { ready, known, tail } = self.partitions;
        format!(
            "| {protocol} | {} | {} | {} | {} | {:.1} | {:.1} | {ready} | {known} | {} | {} |",
            self.moves,
            self.verdict.records,
            self.verdict.losses,
            self.verdict.duplicates,
            self.standstill.group.as_secs_f64(),
            self.standstill.partition.as_secs_f64(),
            tail / known.max(1) as i64,
            self.recoveries,
        )
    }
}

/// A storm under each protocol, at the same time: whatever else slows the machine down, slows them all down. A table about them.
fn storms(stack: &Stack, lasting: Duration) -> Result<String, Failed> {
    let mut text = format!(
        "Written by `make crash TESTS=crash_storm` on {}; {}. Three storms at the same time, each {} s under {RATE} records a second, with a join or a \
         departure every {} s, half of the departures by `kill -9`; two workers in each process, session time-out {} s.\n\n\
         | protocol | joins and departures | records | lost | double | longest without any progress, s | longest standstill of a partition, s \
         | partitions taken up | of these by a process that held them before | changelog records read for each of these | goings back |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        chrono::Utc::now().format("%Y-%m-%d"),
        machine_and_versions(),
        lasting.as_secs(),
        EVERY.as_secs(),
        SESSION_TIMEOUT.as_secs(),
    );
    std::thread::scope(|scope| {
        let storms = PROTOCOLS.map(|protocol| (protocol, scope.spawn(move || storm(stack, protocol, lasting))));
        for (protocol, storm) in storms {
            let storm = storm.join().map_err(|_| format!("the storm under {protocol} panicked"))??;
            writeln!(text, "{}", storm.row(protocol))?;
        }
        Ok(text)
    })
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
