//! An audit is worth something only if it finds what is wrong: bugs put into the running program, and topics and documents falsified
//! by hand.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::Failed;
use mongodb::bson::doc;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use testudo::avro::SchemaId;
use testudo::planted::Bug;
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Job, PATIENCE, READING, SMALL_EPOCHS, ZOO};
use crate::matrix::scorecard::{machine_and_versions, publish};

pub const TESTS: &[Test] = &[("the_audit_finds_planted_faults", planted), ("the_audits_find_planted_bugs", |stack| bugs(stack, &[]))];

pub const LONG_TESTS: &[Test] = &[("crash_planted_bugs", |stack| {
    bugs(stack, &COURSES)?;
    publish("planted", &table())
})];

/// So many tenants at a time.
const THREADS: usize = 3;
/// Lines of a report that is not as it should be.
const LINES_SHOWN: usize = 40;
/// Records of each of the two runs.
const RECORDS: u64 = 2_000;

/// What happens between a first run and the audits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// A second run, of records of the same times: few of them are not late. One transaction has all partitions.
    Plain,
    /// The same in many transactions.
    SmallEpochs,
    /// As plain, but readings of the same devices as in the first run: documents that are there get newer results.
    SameDevices,
    /// The second run is given its readings while a pause after its first commit lasts: one transaction has all partitions for sure, and
    /// they end apart.
    Uneven,
    /// As plain, after somebody has aborted a transaction in the input.
    AfterAbort,
    /// The second run ends at once where its first transaction has begun.
    Death,
}

/// All of them.
const COURSES: [Course; 6] = [Course::Plain, Course::SmallEpochs, Course::SameDevices, Course::Uneven, Course::AfterAbort, Course::Death];

/// A tenant in whose second run a bug is put in.
struct Case {
    bug: Option<Bug>,
    course: Course,
    /// What the audit says of it: one of these.
    audit: &'static [&'static str],
    /// What the audit by the ledger says; `None` where the ledger cannot know.
    ledger: Option<&'static str>,
}

/// The bugs that leave something behind; three more (an outcome guessed, doubt forgotten, a new member that goes on) need a broker that
/// fails at one moment, as the simulation has it, and a changelog read uncommitted needs a dead owner.
const CASES: [Case; 8] = [
    case(Bug::DroppedTail, Course::Plain, &["the last result of window", "no result; expected"], Some("missing    output")),
    case(Bug::DoubledRecord, Course::Plain, &["more alerts of this key", "one more dead letter"], Some("extra      output")),
    case(Bug::SwappedOffsets, Course::Uneven, &["is beyond the partition's end"], Some("the ledger ends at")),
    case(Bug::PositionsOffByOne, Course::Plain, &["the state stands at"], Some("the ledger ends at")),
    case(Bug::StaleUpsert, Course::SameDevices, &["made from"], Some("stale: it comes from")),
    case(Bug::UncommittedRead, Course::AfterAbort, &["never a result of"], Some("their sum is another")),
    case(Bug::StateBeforeCommit, Course::Death, &["the state stands at"], None),
    case(Bug::ForgottenStreamTime, Course::SmallEpochs, &["no dead letter of stage window"], Some("stream time went back")),
];

const fn case(bug: Bug, course: Course, audit: &'static [&'static str], ledger: Option<&'static str>) -> Case {
    Case { bug: Some(bug), course, audit, ledger }
}

/// How long a case took; or what is not as it should be.
type Found = Result<std::time::Duration, String>;

/// Every bug is found; nothing is in these courses without one.
fn bugs(stack: &Stack, controls: &[Course]) -> Result<(), Failed> {
    let controls: Vec<Case> = controls.iter().map(|course| Case { bug: None, course: *course, audit: &[], ledger: None }).collect();
    let cases: Vec<&Case> = controls.iter().chain(&CASES).collect();
    let found: Mutex<Vec<(&Case, Found)>> = Mutex::default();
    let waiting: Mutex<VecDeque<&Case>> = Mutex::new(cases.into());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let began = Instant::now();
                    let outcome =
                        case.run(stack).map(|()| began.elapsed()).map_err(|failed| failed.message().unwrap_or("failed").to_owned());
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((case, outcome));
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let bad: Vec<String> = found.iter().filter_map(|(case, found)| Some(format!("{}: {}", case.name(), found.as_ref().err()?))).collect();
    match bad.is_empty() && found.len() == CASES.len() + controls.len() {
        true => Ok(()),
        false => Err(bad.join("\n\n").into()),
    }
}

fn table() -> String {
    let by_ledger = CASES.iter().filter(|case| case.ledger.is_some()).count();
    let mut text = format!(
        "Planted bugs caught on {}; {}: by `testudo audit` {} of {}, by `testudo audit --ledger` {by_ledger} of {by_ledger} that the ledger can know; \
         without a bug both found nothing.\n\n| bug | `testudo audit` says | `testudo audit --ledger` says |\n|---|---|---|\n",
        chrono::Utc::now().format("%Y-%m-%d"),
        machine_and_versions(),
        CASES.len(),
        CASES.len(),
    );
    for case in &CASES {
        let audit = case.audit.iter().map(|words| format!("“{words} …”")).collect::<Vec<_>>().join(" or ");
        let ledger = case.ledger.map_or("nothing: it looks at no state".to_owned(), |words| format!("“{words} …”"));
        writeln!(text, "| `{}` | {audit} | {ledger} |", case.name()).expect("a String takes everything");
    }
    text
}

impl Case {
    fn name(&self) -> String {
        self.bug.map_or_else(|| format!("no bug, {:?}", self.course), |bug| bug.point().to_owned())
    }

    fn run(&self, stack: &Stack) -> Result<(), Failed> {
        // Without its condition each record is in a window.
        let file: Vec<&str> = ZOO.lines().filter(|line| !line.starts_with("where = \"temperature")).collect();
        let job = Job::new(stack, &file.join("\n"), &[("NAME-in", READING)])?;
        job.create_topic(&job.topic("in"), if self.course == Course::AfterAbort { 1 } else { 2 })?;
        let schema = job.register(&job.topic("in"), READING)?;
        job.emulate(schema, 1, RECORDS, None, &[])?;
        job.drain()?;
        if self.course == Course::AfterAbort {
            abort_some(&job)?;
        }
        // Fleets have devices in common where their seeds differ by 256.
        if self.course == Course::Uneven {
            self.uneven_run(&job, schema)?;
        } else {
            job.emulate(schema, if self.course == Course::SameDevices { 257 } else { 2 }, RECORDS, None, &[])?;
            let ended = self.second_run(&job)?;
            if self.bug.is_none() && self.course != Course::Death && !ended.is_some_and(|status| status.success()) {
                return Err(format!("the second run ended with {ended:?}").into());
            }
        }
        said(&job, &["audit"], self.audit)?;
        said(&job, &["audit", "--ledger"], self.ledger.as_slice())
    }

    /// The second run of [`Course::Uneven`].
    fn uneven_run(&self, job: &Job<'_>, schema: SchemaId) -> Result<(), Failed> {
        let bug = self.bug.map(|bug| format!("{}=return", bug.point())).unwrap_or_default();
        let environment = [
            ("TESTUDO__ENGINE__WORKERS", "1"),
            ("TESTUDO__ENGINE__COMMIT_PAUSE_MS", "10000"),
            ("TESTUDO__ENGINE__COMMIT_INTERVAL_MS", "30000"),
            ("FAILPOINTS", &bug),
        ];
        let before = job.committed()?;
        let running = job.start("one", &environment)?;
        // A record without value is dropped by rule. When both are committed both partitions are being read, and a pause has begun.
        job.produce(&job.topic("in"), 0, None, None, 1)?;
        job.produce(&job.topic("in"), 1, None, None, 1)?;
        job.wait_committed(before + 2)?;
        job.emulate(schema, 2, RECORDS, None, &[])?;
        if job.end(0)? == job.end(1)? {
            job.produce(&job.topic("in"), 0, None, None, 1)?;
        }
        // In whichever order they stand.
        job.wait_committed(job.end(0)? + job.end(1)?)?;
        running.terminate()?;
        if self.bug.is_none() {
            job.drain()?;
        }
        Ok(())
    }

    /// How the second run ended; `None` where it had to be ended, as a bug may keep it from its end.
    fn second_run(&self, job: &Job<'_>) -> Result<Option<ExitStatus>, Failed> {
        let bug = self.bug.map(|bug| format!("{}=return", bug.point()));
        let death = (self.course == Course::Death).then(|| "commit.begun=return".to_owned());
        let is_small = self.course == Course::SmallEpochs;
        // Everything is there when the first epoch is filled.
        let all = (!is_small).then(|| "intake.polled=sleep(300)".to_owned());
        let failpoints: Vec<String> = [bug, death, all].into_iter().flatten().collect();
        let mut command = job.command(&["--set", "engine.workers=1", "--set", "engine.commit_interval_ms=3000", "run", "--drain"]);
        command.envs(SMALL_EPOCHS.into_iter().filter(|_| is_small)).env("FAILPOINTS", failpoints.join(";"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        child.kill()?;
        child.wait()?;
        Ok(None)
    }
}

/// An audit must find something and say one of these; where there is none it must find nothing.
fn said(job: &Job<'_>, arguments: &[&str], one_of: &[&str]) -> Result<(), Failed> {
    let output = job.command(arguments).args(["--first", "100000"]).output()?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let is_right = match output.status.code() {
        Some(8) => one_of.iter().any(|words| text.contains(words)),
        Some(0) => one_of.is_empty(),
        _ => false,
    };
    match is_right {
        true => Ok(()),
        false => {
            let shown: String = text.lines().take(LINES_SHOWN).collect::<Vec<_>>().join("\n");
            Err(format!("{arguments:?} ended with {}, wanted one of {one_of:?}:\n{shown}", output.status).into())
        }
    }
}

/// Somebody sends readings again, in a transaction that is aborted.
fn abort_some(job: &Job<'_>) -> Result<(), Failed> {
    let topic = job.topic("in");
    let readings = job.read(&topic)?;
    let mut config = job.client();
    config.set("transactional.id", format!("{}-upstream", job.name));
    let producer: BaseProducer = config.create()?;
    producer.init_transactions(PATIENCE)?;
    producer.begin_transaction()?;
    for reading in readings.iter().rev().take(100) {
        let record = BaseRecord::<[u8], [u8]>::to(&topic)
            .partition(0)
            .timestamp(reading.timestamp_ms)
            .key(reading.key.as_deref().unwrap_or_default())
            .payload(reading.value.as_deref().unwrap_or_default());
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
    producer.abort_transaction(PATIENCE)?;
    Ok(())
}

fn planted(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 5_000, None, &[])?;
    job.drain()?;
    job.audit()?;

    let windows = job.collection("zoo_analytics")?;
    let readings = job.collection("tortoise")?;
    let some_window = job.block_on(async { windows.find_one(doc! {}).await })?.ok_or("a window")?;
    let some_reading = job.block_on(async { readings.find_one(doc! {}).await })?.ok_or("a reading")?;
    let id = some_window.get("_id").cloned().ok_or("an id")?;

    job.block_on(async { windows.update_one(doc! {"_id": id.clone()}, doc! {"$inc": {"total_records": 1_i64}}).await })?;
    said(&job, &["audit"], &["different  mongo zoo_analytics"])?;
    job.block_on(async { windows.replace_one(doc! {"_id": id}, some_window).await })?;
    job.audit()?;

    job.block_on(async { readings.delete_one(doc! {"_id": some_reading.get("_id").cloned()}).await })?;
    said(&job, &["audit"], &["missing    mongo tortoise"])?;
    job.block_on(async { readings.insert_one(some_reading).await })?;
    job.audit()?;

    let alert = job.read(&job.topic("alert"))?.into_iter().next().ok_or("an alert")?;
    job.produce(&job.topic("alert"), 0, alert.key.as_deref(), alert.value.as_deref(), alert.timestamp_ms)?;
    said(&job, &["audit"], &["extra      alert battery_low"])
}
