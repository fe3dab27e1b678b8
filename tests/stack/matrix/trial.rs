//! One case: a tenant under load, one fault, the way back, and the judgement.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use mongodb::bson::doc;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use testudo::avro::SchemaId;
use testudo::stack::Stack;

use super::fault::{Fault, PAUSE};
use super::points::{Point, Scene};
use super::rig::Rig;
use super::verdict::Verdict;
use crate::job::{Instance, READING, wait_for};
use crate::zoo::send_under;

/// Records that are committed before something goes wrong, where the fault has no place of its own.
const SETTLED: i64 = 1_000;
/// Records of a schema that is new.
const NEW_RECORDS: u64 = 200;
/// Points that a panic in a worker is tried at.
const PANICS_AT: [&str; 5] = ["restore.ready", "process.half", "commit.sending", "commit.positions_sent", "commit.before_store"];

/// A fault and the seed of everything random about it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What goes wrong.
    pub fault: Fault,
    /// Decides moments, passes, delays, records and the number of instances.
    pub seed: u64,
}

/// What a case came to.
pub struct Outcome {
    /// The judgement.
    pub verdict: Verdict,
    /// From the restart (or the end of the fault) to the first commit, where nobody else could commit meanwhile.
    pub recovery: Option<Duration>,
    /// Instances that took part.
    pub instances: usize,
}

/// Runs a case on a tenant of its own.
pub fn run(stack: &Stack, case: Case) -> Result<Outcome, Failed> {
    let mut rig = Rig::new(stack)?;
    let outcome = inject_and_judge(&mut rig, case);
    // Whatever happened, the next case finds everything running.
    stack.start_broker()?;
    stack.start_registry()?;
    stack.start_mongod()?;
    let told = |failed: Failed| Failed::from(format!("{}\n{}", failed.message().unwrap_or("failed"), rig.logs()));
    let outcome = outcome.map_err(told)?;
    match outcome.verdict.is_clean() {
        true => Ok(outcome),
        false => Ok(Outcome {
            verdict: Verdict { findings: [outcome.verdict.findings, vec![rig.logs()]].concat(), ..outcome.verdict },
            ..outcome
        }),
    }
}

fn inject_and_judge(rig: &mut Rig<'_>, case: Case) -> Result<Outcome, Failed> {
    let mut rng = Pcg64::seed_from_u64(case.seed);
    let load = rig.load(case.seed);
    let mut others = companions(rig, case.fault, &mut rng)?;
    let workers = if others.is_empty() { 2 } else { 1 };
    let (one, recovery) = inject(rig, case.fault, workers, &mut others, &mut rng)?;
    let instances = 1 + others.len();
    // What comes after the fault is worked on like what came before.
    rig.wait_for_more(SETTLED)?;
    load.stop()?;
    others.push(one);
    let verdict = rig.judge(others)?;
    Ok(Outcome { verdict, recovery: recovery.filter(|_| instances == 1), instances })
}

/// Other instances that work beside the one that something happens to: none in most cases, one or two in others.
fn companions(rig: &Rig<'_>, fault: Fault, rng: &mut Pcg64) -> Result<Vec<Instance>, Failed> {
    let may_have = match fault {
        Fault::Point(point) => point.scene == Scene::Load,
        Fault::Kill | Fault::Pause | Fault::Broker => true,
        Fault::Panic | Fault::Registry | Fault::Database | Fault::StepDown => false,
    };
    let count = match rng.random_range(0..10) {
        _ if !may_have => 0,
        0..7 => 0,
        7..9 => 1,
        _ => 2,
    };
    ["two", "three"].into_iter().take(count).map(|name| rig.start(name, "", 1)).collect()
}

/// Makes the fault happen and starts again what it ended; how long the way back took.
fn inject(
    rig: &Rig<'_>,
    fault: Fault,
    workers: usize,
    others: &mut Vec<Instance>,
    rng: &mut Pcg64,
) -> Result<(Instance, Option<Duration>), Failed> {
    if let Fault::Point(point) = fault {
        others.extend(die_at(rig, point, workers, rng)?);
        return restarted(rig, workers);
    }
    let failpoints = match fault {
        Fault::Panic => format!("{}={}*off->1*panic->off", PANICS_AT[rng.random_range(0..PANICS_AT.len())], rng.random_range(0..4)),
        _ => String::new(),
    };
    let mut one = rig.start("one", &failpoints, workers)?;
    match fault {
        Fault::Point(_) => return Err("handled above".into()),
        Fault::Kill => {
            std::thread::sleep(Duration::from_millis(rng.random_range(200..3_000)));
            one.kill()?;
            std::thread::sleep(Duration::from_millis(rng.random_range(0..500)));
            return restarted(rig, workers);
        }
        Fault::Panic => wait_for("a panic", || Ok(one.log().contains("a worker panicked")))?,
        Fault::Pause => {
            rig.wait_for_more(SETTLED)?;
            one.signal("-STOP")?;
            std::thread::sleep(PAUSE);
            one.signal("-CONT")?;
        }
        Fault::Broker => {
            rig.wait_for_more(SETTLED)?;
            rig.job.stack.kill_broker()?;
            std::thread::sleep(Duration::from_millis(rng.random_range(0..4_000)));
            rig.job.stack.start_broker()?;
        }
        Fault::Registry => registry_away(rig, rng)?,
        Fault::Database => {
            rig.wait_for_more(SETTLED)?;
            rig.job.stack.kill_mongod()?;
            std::thread::sleep(Duration::from_millis(rng.random_range(0..3_000)));
            rig.job.stack.start_mongod()?;
        }
        Fault::StepDown => {
            rig.wait_for_more(SETTLED)?;
            step_down(rig)?;
        }
    }
    let since = Instant::now();
    let recovery = rig.progress.first_commit(rig.progress.committed()?, since)?;
    // Of the database and the registry the engine is independent: there is nothing to recover from.
    let is_measured = matches!(fault, Fault::Pause | Fault::Broker | Fault::Panic);
    Ok((one, is_measured.then_some(recovery)))
}

/// Starts the instance again and waits for its first commit.
fn restarted(rig: &Rig<'_>, workers: usize) -> Result<(Instance, Option<Duration>), Failed> {
    let (before, since) = (rig.progress.committed()?, Instant::now());
    let one = rig.start("one", "", workers)?;
    let recovery = rig.progress.first_commit(before, since)?;
    Ok((one, Some(recovery)))
}

/// Lets instance `one` live until it dies at the point; instances that live on are returned.
pub fn die_at(rig: &Rig<'_>, point: &Point, workers: usize, rng: &mut Pcg64) -> Result<Vec<Instance>, Failed> {
    if matches!(point.scene, Scene::Restart | Scene::Replay) && rig.progress.committed()? == 0 {
        let first = rig.start("one", "", workers)?;
        rig.wait_for_more(SETTLED)?;
        first.kill()?;
    }
    let state = rig.job.path("state");
    if point.scene == Scene::Replay && state.exists() {
        std::fs::remove_dir_all(state)?;
    }
    let mut others = Vec::new();
    let mut one = rig.start("one", &setting(point, rng), workers)?;
    match point.scene {
        Scene::Load | Scene::Restart | Scene::Replay => {}
        Scene::NewSchema => {
            let (id, text) = new_schema(rig)?;
            send_under(&rig.job, id, &text, NEW_RECORDS)?;
        }
        Scene::Join => {
            rig.wait_until_owner(&one)?;
            others.push(rig.start("two", "", workers)?);
        }
        Scene::Refused => {
            rig.wait_for_more(1)?;
            rig.refuse_alerts(true)?;
        }
        Scene::Stop => {
            rig.wait_for_more(1)?;
            one.signal("-TERM")?;
        }
    }
    let ended = one.wait();
    if point.scene == Scene::Refused {
        rig.refuse_alerts(false)?;
    }
    match ended.map_err(|failed| format!("{} was not passed: {}", point.name, failed.message().unwrap_or_default()))?.success() {
        false => Ok(others),
        true => Err(format!("it must die at {}, not end in good order", point.name).into()),
    }
}

/// The failpoint's setting: how often it passes, and how long after the point the process lives on.
fn setting(point: &Point, rng: &mut Pcg64) -> String {
    let passes = rng.random_range(0..=point.passes_max);
    match point.delay_max_us {
        0 => format!("{}={passes}*off->return", point.failpoint),
        most => format!("{}={passes}*off->return({})", point.failpoint, rng.random_range(0..=most)),
    }
}

/// The readings' schema with one field more, which nobody has seen: its id and text.
fn new_schema(rig: &Rig<'_>) -> Result<(SchemaId, String), Failed> {
    let mut schema: serde_json::Value = serde_json::from_str(READING)?;
    let added = serde_json::json!({"name": "firmware", "type": "string", "default": "unknown"});
    schema["fields"].as_array_mut().ok_or("a record schema has fields")?.push(added);
    let text = schema.to_string();
    Ok((rig.job.register(&rig.job.topic("in"), &text)?, text))
}

/// The registry goes away; records of a new schema come meanwhile and wait.
fn registry_away(rig: &Rig<'_>, rng: &mut Pcg64) -> Result<(), Failed> {
    rig.wait_for_more(SETTLED)?;
    let (id, text) = new_schema(rig)?;
    rig.job.stack.stop_registry()?;
    send_under(&rig.job, id, &text, NEW_RECORDS)?;
    std::thread::sleep(Duration::from_millis(rng.random_range(500..3_000)));
    rig.job.stack.start_registry()?;
    Ok(())
}

fn step_down(rig: &Rig<'_>) -> Result<(), Failed> {
    let command = doc! { "replSetStepDown": 2, "secondaryCatchUpPeriodSecs": 0, "force": true };
    rig.job.block_on(async {
        let client = mongodb::Client::with_uri_str(rig.job.stack.mongo_uri()).await?;
        client.database("admin").run_command(command).await?;
        Ok(())
    })
}
