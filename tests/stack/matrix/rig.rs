//! One tenant under observation: its load, its witnesses, and the judgement at the end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Failed;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use testudo::avro::SchemaId;
use testudo::stack::Stack;

use super::history::History;
use super::load::Load;
use super::progress::Progress;
use super::verdict::Verdict;
use super::witness::{self, Witness};
use crate::job::{Instance, Job, READING, wait_for};

/// Partitions of the input.
pub const PARTITIONS: i32 = 4;
/// Session time-out of the tenant's consumers, as [`QUICK`] sets it.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(2);
/// `transaction.timeout.ms` of its producers, as [`QUICK`] sets it.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(4);

/// Small epochs and short time-outs, so that there is much to be hit and little to wait for.
pub const QUICK: [(&str, &str); 4] = [
    ("TESTUDO__ENGINE__EPOCH_RECORDS_MAX", "200"),
    ("TESTUDO__ENGINE__SLICE_RECORDS_MAX", "100"),
    ("TESTUDO__ENGINE__TRANSACTION_TIMEOUT_MS", "4000"),
    ("TESTUDO__KAFKA__CONSUMER__SESSION_TIMEOUT_MS", "2000"),
];

/// A tenant of its own on the stack, watched.
pub struct Rig<'s> {
    /// The tenant.
    pub job: Job<'s>,
    /// Id of its readings' schema.
    pub schema: SchemaId,
    /// How far it has come.
    pub progress: Progress,
    /// More of its instances' environment, such as a way through a wire.
    pub environment: Vec<(&'static str, String)>,
    witness: Witness,
    history: History,
    numbered: AtomicU32,
}

impl<'s> Rig<'s> {
    /// A new zoo.
    pub fn new(stack: &'s Stack) -> Result<Self, Failed> {
        let job = Job::zoo(stack, PARTITIONS)?;
        let schema = job.register(&job.topic("in"), READING)?;
        let progress = Progress::of(&job, PARTITIONS)?;
        let history = History::begin(&job)?;
        let witness = Witness::start(job.client(), outputs(&job));
        Ok(Self { job, schema, progress, environment: Vec::new(), witness, history, numbered: AtomicU32::new(0) })
    }

    /// Another number each time, the same ones in each run.
    pub fn next_number(&self) -> u32 {
        self.numbered.fetch_add(1, Ordering::Relaxed)
    }

    /// A load on the input.
    pub fn load(&self, seed: u64) -> Load {
        Load::start(&self.job, self.schema, seed)
    }

    /// Starts an instance with these failpoints.
    pub fn start(&self, instance: &str, failpoints: &str, workers: usize) -> Result<Instance, Failed> {
        let workers = workers.to_string();
        let mut environment = QUICK.to_vec();
        environment.push(("TESTUDO__ENGINE__WORKERS", &workers));
        environment.push(("FAILPOINTS", failpoints));
        environment.extend(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
        self.job.start(instance, &environment)
    }

    /// Waits until so many records more are committed.
    pub fn wait_for_more(&self, records: i64) -> Result<(), Failed> {
        let wanted = self.progress.committed()? + records;
        wait_for(&format!("{wanted} committed records"), || Ok(self.progress.committed()? >= wanted))
    }

    /// Waits until an instance has owned every partition; false where it ended before.
    pub fn wait_until_owner(&self, instance: &mut Instance) -> Result<bool, Failed> {
        let is_owner = |instance: &Instance| ready_partitions(&instance.log()).len() == PARTITIONS as usize;
        wait_for("one instance to own every partition", || Ok(instance.ended()?.is_some() || is_owner(instance)))?;
        Ok(instance.ended()?.is_none())
    }

    /// Has the broker refuse records of the alert's topic, or take them again.
    pub fn refuse_alerts(&self, refused: bool) -> Result<(), Failed> {
        let topic = self.job.topic("alert");
        // Too little for an alert, enough for a transaction's marker (78 bytes): refused markers would hang the transaction.
        let most = if refused { "100" } else { "1048588" };
        let admin: AdminClient<DefaultClientContext> = self.job.client().create()?;
        let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", most);
        for answer in self.job.block_on(admin.alter_configs([&change], &AdminOptions::new()))? {
            answer.map_err(|(_, code)| format!("{topic} not changed: {code}"))?;
        }
        Ok(())
    }

    /// Ends everything in good order, then judges. The load has ended.
    pub fn judge(&mut self, instances: Vec<Instance>) -> Result<Verdict, Failed> {
        self.progress.wait_for_everything()?;
        for instance in instances {
            instance.terminate()?;
        }
        // MongoDB gets the rest, and this instance the state of every partition.
        self.job.drain()?;
        let topics = outputs(&self.job);
        let (seen, committed) = (self.witness.end()?, witness::committed(&self.job.client(), &topics)?);
        let mut verdict = Verdict::default();
        verdict.saw_dirty(&witness::dirty(&seen, &committed));
        let history = self.history.judge(&self.job, &self.job.topic("analytics"), &committed)?;
        verdict.saw_dirty(&history.uncommitted);
        verdict.saw_stale(&history.stale);
        if seen.is_empty() || history.versions == 0 {
            return Err("the witnesses saw nothing".into());
        }
        verdict.looked_for_open_transactions(&self.job)?;
        verdict.audited(&self.job)?;
        if verdict.is_clean()
            && let Err(failed) = clean_up(&self.job)
        {
            // What is left only makes the broker slower.
            println!("tenant {} was not removed: {}", self.job.name, failed.message().unwrap_or("failed"));
        }
        Ok(verdict)
    }

    /// Keeps all logs, for a report of what went wrong: where they are, and their ends.
    pub fn logs(&self) -> String {
        logs_of(&self.job)
    }
}

/// Keeps the logs of a tenant's processes in the build folder; where they are, and their ends, oldest first.
pub fn logs_of(job: &Job<'_>) -> String {
    const LINES: usize = 15;
    let kept = super::scorecard::folder().join("crash-logs").join(&job.name);
    let mut logs: Vec<_> = std::fs::read_dir(job.dir.path()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.sort_by_key(|path| std::fs::metadata(path).and_then(|data| data.modified()).ok());
    let mut text = match std::fs::create_dir_all(&kept) {
        Ok(()) => format!("whole logs are in {}", kept.display()),
        Err(error) => format!("the logs could not be kept in {}: {error}", kept.display()),
    };
    for path in logs {
        let name = path.file_name().unwrap_or_default();
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        if let Err(error) = std::fs::write(kept.join(name), &log) {
            text += &format!("\n{} could not be kept: {error}", path.display());
        }
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"librdkafka\"")).collect();
        text += &format!("\n== {}\n{}", name.display(), lines[lines.len().saturating_sub(LINES)..].join("\n"));
    }
    text
}

/// Partitions that an instance said were ready.
pub fn ready_partitions(log: &str) -> std::collections::BTreeSet<String> {
    let lines = log.lines().filter(|line| line.contains("\"partition ready\""));
    let parsed = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    parsed.filter_map(|line| Some(line["partition"].as_str()?.to_owned())).collect()
}

/// The tenant's outputs that readers of committed data may follow; changelogs are compacted.
fn outputs(job: &Job<'_>) -> Vec<String> {
    ["alert", "analytics", "dead-letters"].map(|name| job.topic(name)).to_vec()
}

/// Removes a tenant's topics and database, so that hundreds of tenants do not burden one small broker.
fn clean_up(job: &Job<'_>) -> Result<(), Failed> {
    let prefix = format!("{}-", job.name);
    let admin: AdminClient<DefaultClientContext> = job.client().create()?;
    let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10))?;
    let topics: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).filter(|name| name.starts_with(&prefix)).collect();
    for answer in job.block_on(admin.delete_topics(&topics, &AdminOptions::new()))? {
        answer.map_err(|(topic, code)| format!("{topic} not deleted: {code}"))?;
    }
    job.block_on(async { mongodb::Client::with_uri_str(job.stack.mongo_uri()).await?.database(&job.database()).drop().await })?;
    Ok(())
}
