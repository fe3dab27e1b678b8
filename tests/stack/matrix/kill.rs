//! Instance `one` ends without warning: at a point, at a random moment, for want of memory; and what makes it pass each point.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rand::RngExt;
use rand_pcg::Pcg64;
use testudo::avro::SchemaId;

use super::points::{Point, Scene};
use super::rig::Rig;
use super::trial::{Play, SETTLED};
use crate::job::{Instance, PATIENCE, READING, wait_for};
use crate::zoo::send_under;

/// Records of a schema that is new.
pub const NEW_RECORDS: u64 = 200;
/// Points that a panic in a worker is tried at.
const PANICS_AT: [&str; 5] = ["restore.ready", "process.half", "commit.sending", "commit.positions_sent", "commit.before_store"];
/// How a process ends at a failpoint (`src/failpoint.rs`).
const SIGABRT: i32 = 6;
/// So often a process is told to end until it passes the point on its way.
const STOPS_MAX: usize = 3;
/// How long a process may get along with the memory that it has.
const STARVED_WITHIN: Duration = Duration::from_secs(5);

/// How an instance that dies at a point leaves the stage.
pub struct Death {
    /// Instances that live on.
    pub others: Vec<Instance>,
    /// From its start to its first commit, if it came to that.
    pub recovery: Option<Duration>,
}

impl Play<'_, '_> {
    /// `one` dies at the point again and again; in the end it lives.
    pub fn die_at(&mut self, point: &Point, hits: u64) -> Result<Instance, Failed> {
        let mut companions = Vec::new();
        for _ in 0..hits {
            // Those who joined leave before the next one does, in good order or not; the last ones stay.
            for leaving in companions.drain(..) {
                self.dismiss(leaving)?;
            }
            let death = die_at(self.rig, point, self.workers(), &mut self.rng)?;
            self.hits += 1;
            self.note(death.recovery);
            companions = death.others;
            if matches!(point.scene, Scene::Restart | Scene::Replay) && self.rng.random_bool(0.5) {
                // A crash loop, or a life in between.
                let one = self.back()?;
                self.rig.wait_for_more(SETTLED / 2)?;
                one.kill()?;
            }
        }
        self.others.extend(companions);
        self.back()
    }

    fn dismiss(&mut self, instance: Instance) -> Result<(), Failed> {
        if self.rng.random_bool(0.5) { instance.kill() } else { instance.terminate() }
    }

    /// `one` is killed at random moments.
    pub fn be_killed(&mut self, hits: u64) -> Result<Instance, Failed> {
        for _ in 0..hits {
            let (before, since) = (self.rig.progress.committed()?, Instant::now());
            let mut one = self.rig.start("one", "", self.workers())?;
            let until = since + self.some_ms(200..3_000);
            let recovery = self.rig.progress.watch(&mut one, before, since, |_, _| Ok(Instant::now() >= until))?;
            one.kill()?;
            self.hits += 1;
            self.note(recovery);
            std::thread::sleep(self.some_ms(0..500));
        }
        self.back()
    }

    /// A worker of `one` panics; the process goes on by itself, and ends for the next time.
    pub fn panic(&mut self, hits: u64) -> Result<Instance, Failed> {
        let mut last = None;
        for _ in 0..hits {
            if let Some(one) = last.take() {
                self.dismiss(one)?;
            }
            let point = PANICS_AT[self.rng.random_range(0..PANICS_AT.len())];
            let one = self.rig.start("one", &format!("{point}={}*off->1*panic->off", self.rng.random_range(0..4)), self.workers())?;
            wait_for("a panic", || Ok(one.log().contains("a worker panicked")))?;
            let (before, since) = (self.rig.progress.committed()?, Instant::now());
            self.hits += 1;
            let recovery = self.rig.progress.first_commit(before, since)?;
            self.note(Some(recovery));
            last = Some(one);
        }
        last.ok_or_else(|| "there must be a last one".into())
    }

    /// `one` gets no more memory than it has. What lives on nevertheless is killed.
    pub fn starve(&mut self, hits: u64) -> Result<Instance, Failed> {
        for _ in 0..hits {
            let mut one = self.back()?;
            std::thread::sleep(self.some_ms(0..2_000));
            limit_memory(&one)?;
            let until = Instant::now() + STARVED_WITHIN;
            while one.ended()?.is_none() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
            if one.ended()?.is_none() {
                one.kill()?;
            }
            self.hits += 1;
        }
        self.back()
    }
}

/// Forbids a process to map memory beyond what it has mapped.
fn limit_memory(instance: &Instance) -> Result<(), Failed> {
    let pid = instance.pid().to_string();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mapped = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().split(' ').next()?.parse::<u64>().ok());
    let bytes = mapped.ok_or("the size of a process is in its status")? << 10;
    let outcome = Command::new("prlimit").args(["--pid", &pid, &format!("--as={bytes}:")]).output()?;
    match outcome.status.success() {
        true => Ok(()),
        false => Err(format!("memory not limited: {}", String::from_utf8_lossy(&outcome.stderr)).into()),
    }
}

/// Lets instance `one` live until it dies at the point. One that is told to end while its workers are just being started anew may end
/// without passing a point of theirs: that is tried again.
pub fn die_at(rig: &Rig<'_>, point: &Point, workers: usize, rng: &mut Pcg64) -> Result<Death, Failed> {
    for _ in 0..STOPS_MAX {
        if let Some(death) = try_to_die_at(rig, point, workers, rng)? {
            return Ok(death);
        }
    }
    Err(format!("it ended {STOPS_MAX} times in good order without passing {}", point.name).into())
}

/// `None`: it ended in good order, as it was told to.
fn try_to_die_at(rig: &Rig<'_>, point: &Point, workers: usize, rng: &mut Pcg64) -> Result<Option<Death>, Failed> {
    if matches!(point.scene, Scene::Restart | Scene::Replay) && rig.progress.committed()? == 0 {
        let first = rig.start("one", "", workers)?;
        rig.wait_for_more(SETTLED)?;
        first.kill()?;
    }
    let state = rig.job.path("state");
    if point.scene == Scene::Replay && state.exists() {
        std::fs::remove_dir_all(state)?;
    }
    let (before, since) = (rig.progress.committed()?, Instant::now());
    let mut one = rig.start("one", &setting(point, rng), workers)?;
    let (others, first) = enact(rig, point, workers, &mut one, (before, since))?;
    let deadline = Instant::now() + PATIENCE;
    let mut status = None;
    let watched = rig.progress.watch(&mut one, before, since, |_, one| {
        status = one.ended()?;
        Ok(status.is_some() || Instant::now() > deadline)
    })?;
    if point.scene == Scene::Refused {
        rig.refuse_alerts(false)?;
    }
    let Some(status) = status else {
        return Err(format!("{} was not passed within {} s", point.name, PATIENCE.as_secs()).into());
    };
    let is_at_point = status.signal() == Some(SIGABRT) && one.log().contains(&format!("\"point\":\"{}\"", point.failpoint));
    match is_at_point {
        true => Ok(Some(Death { others, recovery: if point.scene == Scene::Join { None } else { first.or(watched) } })),
        false if point.scene == Scene::Stop && status.success() => Ok(None),
        false => Err(format!("it must die at {}, not end with {status}", point.name).into()),
    }
}

/// Does what makes `one` pass the point, unless it passes it before: its workers share partitions out among themselves, too, and are
/// started anew when one of them cannot go on. Who joined it, and how long its first commit took where it was waited for.
fn enact(
    rig: &Rig<'_>,
    point: &Point,
    workers: usize,
    one: &mut Instance,
    (before, since): (i64, Instant),
) -> Result<(Vec<Instance>, Option<Duration>), Failed> {
    match point.scene {
        Scene::Load | Scene::Restart | Scene::Replay => Ok((Vec::new(), None)),
        Scene::NewSchema => {
            let (id, text) = new_schema(rig)?;
            send_under(&rig.job, id, &text, NEW_RECORDS)?;
            Ok((Vec::new(), None))
        }
        Scene::Join => {
            let joining = if rig.wait_until_owner(one)? { vec![rig.start("two", "", workers)?] } else { Vec::new() };
            Ok((joining, None))
        }
        Scene::Refused => {
            let first = rig.progress.first_commit_or_end(one, before, since)?;
            if first.is_some() {
                rig.refuse_alerts(true)?;
            }
            Ok((Vec::new(), first))
        }
        Scene::Stop => {
            let first = rig.progress.first_commit_or_end(one, before, since)?;
            if first.is_some() {
                one.signal("-TERM")?;
            }
            Ok((Vec::new(), first))
        }
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

/// The readings' schema with a field more, which nobody has seen: its id and text.
pub fn new_schema(rig: &Rig<'_>) -> Result<(SchemaId, String), Failed> {
    let mut schema: serde_json::Value = serde_json::from_str(READING)?;
    let name = format!("firmware_{}", rig.next_number());
    let added = serde_json::json!({"name": name, "type": "string", "default": "unknown"});
    schema["fields"].as_array_mut().ok_or("a record schema has fields")?.push(added);
    let text = schema.to_string();
    Ok((rig.job.register(&rig.job.topic("in"), &text)?, text))
}
