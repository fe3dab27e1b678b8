//! Tenants of a measurement, and the real program run on them as a process.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::machine::state_and_cpu_s;
use crate::reading;
use crate::rig::Rig;

/// Longest run to the end of an input, and longest audit.
const DRAIN_WITHIN: Duration = Duration::from_secs(300);
/// How often the process's end is looked for.
const STEP: Duration = Duration::from_millis(2);

/// The zoo's job on the peers' reading: one alert, one-minute windows by device. `TENANT` and `TOPIC` are filled in.
pub const ZOO: &str = r#"
tenant = "TENANT"
[source.readings]
topics = ["TOPIC"]
schema = "reading.avsc"
key = "dev_id"
event_time = "to_timestamp_millis(\"time\") AT TIME ZONE 'UTC'"
[alert.battery_low]
from = "readings"
where = "battery < 2000"
topic = "TENANT-alerts"
[window.zoo_analytics]
from = "readings"
where = "temperature > 20 AND humidity BETWEEN 30 AND 40"
by = ["dev_id"]
over = { tumbling = "1 minute" }
grace = "1 minute"
emit = "updates"
topic = "TENANT-analytics"
[window.zoo_analytics.select]
avg_temperature = "avg(temperature)"
avg_acceleration = "avg(acceleration)"
total_records = "count(*)"
throughput = "count(*) / 60.0"
"#;

/// A collection of the windows.
pub const WINDOWS_TO_MONGO: &str = "[mongo.zoo_analytics]\nfrom = \"zoo_analytics\"\n";
/// A collection of the readings.
pub const READINGS_TO_MONGO: &str = "[mongo.tortoise]\nfrom = \"readings\"\n";

/// Tenants with a folder for their files and state.
pub struct Job<'r> {
    rig: &'r Rig,
    /// Name of the first tenant; names its group and topics.
    pub name: String,
    /// Folder of its files.
    pub folder: PathBuf,
}

/// What a run to the end of its input came to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Readings whose positions were committed.
    pub readings: f64,
    /// From the first reading taken up to the last commit.
    pub seconds: f64,
    /// Readings per second.
    pub per_second: f64,
    /// Peak resident memory (`VmHWM`).
    pub peak_mib: f64,
    /// User and system time of the whole process, start and end included.
    pub cpu_s: f64,
    /// The broker's processor time meanwhile.
    pub broker_cpu_s: f64,
    /// From the start of the process to its end: with MongoDB on, until it holds everything.
    pub whole_s: f64,
}

impl<'r> Job<'r> {
    /// One tenant; `file` is its declaration with `TENANT` and `TOPIC` to be filled in.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn new(rig: &'r Rig, label: &str, file: &str, topic: &str) -> anyhow::Result<Self> {
        Self::many(rig, label, &[file], topic)
    }

    /// Several tenants in one process, all on one topic.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn many(rig: &'r Rig, label: &str, files: &[&str], topic: &str) -> anyhow::Result<Self> {
        let name = rig.unique(label);
        let folder = rig.folder(&name)?;
        fs::write(folder.join("reading.avsc"), reading::SCHEMA)?;
        let mut paths = Vec::with_capacity(files.len());
        for (number, file) in files.iter().enumerate() {
            let tenant = if number == 0 { name.clone() } else { format!("{name}-{number}") };
            let path = folder.join(format!("{tenant}.toml"));
            fs::write(&path, file.replace("TENANT", &tenant).replace("TOPIC", topic))?;
            paths.push(format!("{:?}", path.display().to_string()));
        }
        let config = format!(
            "instance = \"bench\"\ntenants = [{}]\n[engine]\nworkers = {}\n[kafka]\nbootstrap = \"{}\"\n[registry]\nurl = \"{}\"\n\
             [mongo]\nuri = \"{}\"\n[store]\ndir = {:?}\n",
            paths.join(", "),
            rig.workers,
            rig.stack.bootstrap(),
            rig.stack.registry_url(),
            rig.stack.mongo_uri(),
            folder.join("state").display().to_string(),
        );
        fs::write(folder.join("testudo.toml"), config)?;
        Ok(Self { rig, name, folder })
    }

    /// The tenant's database.
    pub fn database(&self) -> String {
        format!("stream_{}", self.name)
    }

    /// Where its state lies.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.rig.program);
        command.args(["--config", &self.folder.join("testudo.toml").display().to_string()]).args(arguments);
        command.current_dir(&self.folder).env_remove("FAILPOINTS").stdin(Stdio::null());
        command
    }

    /// Starts `testudo run` without an end; its log, a JSON object a line, goes to `<label>.log` in the folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, label: &str, arguments: &[&str]) -> anyhow::Result<Running> {
        let log = self.folder.join(format!("{label}.log"));
        let mut command = self.command(&["--log-format", "json", "run", "--no-http"]);
        command.args(arguments).stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn().with_context(|| format!("failed to start {}", self.rig.program.display()))?;
        Ok(Running { child, log })
    }

    /// Runs until all that is in the input is committed, and in MongoDB where that is on.
    ///
    /// # Errors
    /// When it fails, takes too long, or tells no result; with the end of its log.
    pub fn drain(&self, arguments: &[&str]) -> anyhow::Result<Outcome> {
        let (out, log) = (self.folder.join("result"), self.folder.join("drain.log"));
        let mut command = self.command(&["--log-format", "text", "run", "--no-http", "--drain"]);
        command.args(arguments).stdout(File::create(&out)?).stderr(File::create(&log)?);
        let (broker_before, begun) = (self.rig.broker_cpu_s(), Instant::now());
        let child = command.spawn().with_context(|| format!("failed to start {}", self.rig.program.display()))?;
        let cpu_s = Running { child, log }.end_within(DRAIN_WITHIN)?;
        let (broker_cpu_s, whole_s) = (self.rig.broker_cpu_s() - broker_before, begun.elapsed().as_secs_f64());
        let text = fs::read_to_string(&out)?;
        let result = text.lines().find_map(|line| line.strip_prefix("RESULT ")).context("the run told no RESULT")?;
        let number = |name| value(result, name).with_context(|| format!("no {name} in `{result}`"));
        let (readings, seconds) = (number("records")?, number("seconds")?);
        // The line's seconds have two decimals, its rate has them all.
        Ok(Outcome {
            readings,
            seconds,
            per_second: number("records_per_s")?,
            peak_mib: number("vmhwm_mib")?,
            cpu_s,
            broker_cpu_s,
            whole_s,
        })
    }

    /// Recomputes everything; a figure whose audit finds anything is void.
    ///
    /// # Errors
    /// When the audit does not end with exit code 0.
    pub fn audit(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let (out, log) = (self.folder.join("audit"), self.folder.join("audit.log"));
        let mut command = self.command(&["audit"]);
        command.args(arguments).stdout(File::create(&out)?).stderr(File::create(&log)?);
        let child = command.spawn()?;
        match (Running { child, log }).end_within(DRAIN_WITHIN) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.context(format!("the audit found: {}", tail(&fs::read_to_string(&out).unwrap_or_default())))),
        }
    }
}

/// A running program.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// When it does not end well in time.
    pub fn stop(self, within: Duration) -> anyhow::Result<f64> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(told.success(), "no process to end");
        self.end_within(within)
    }

    /// Waits for its end; the processor seconds that it used.
    ///
    /// # Errors
    /// When it does not end in time (it is killed), or ends badly.
    pub fn end_within(mut self, within: Duration) -> anyhow::Result<f64> {
        let deadline = Instant::now() + within;
        loop {
            // An ended process that was not waited for still has its times.
            match state_and_cpu_s(self.child.id()) {
                Some(('Z' | 'X', cpu_s)) => {
                    let status = self.child.wait()?;
                    ensure!(status.success(), "ended with {status}:\n{}", tail(&self.log()));
                    return Ok(cpu_s);
                }
                Some(_) if Instant::now() < deadline => std::thread::sleep(STEP),
                _ => bail!("did not end within {} s:\n{}", within.as_secs(), tail(&self.log())),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait())
        {
            eprintln!("pid {} cannot be ended: {error}", self.child.id());
        }
    }
}

/// A number of a line `… name=value …`.
pub fn value(line: &str, name: &str) -> Option<f64> {
    line.split_whitespace().find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)?.1.parse().ok())
}

/// The last lines of a text.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
