//! One server process: started detached, remembered by pid and start time, ended by pid, never by name.
//!
//! The file `pid` in the service's folder is all the state there is: whoever reads it, the process that started the server or a later
//! one, can tell whether it still runs and end it. A pid alone could by then belong to a stranger; a pid with its start time cannot.
//! The file goes when the server ended in good order; what is left of it afterwards tells of an end without warning.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};

use crate::clock::{Deadline, SharedClock};

const POLL: Duration = Duration::from_millis(10);
const PROBE_EVERY: Duration = Duration::from_millis(50);
const LOG_TAIL_LINES: usize = 20;

/// How long a server may take to answer after its start: twenty times what it takes on two idle cores.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long a server may take to end by itself before it is killed.
const TERM_WITHIN: Duration = Duration::from_secs(20);
/// How long the system may take to bury a killed process.
const KILL_WITHIN: Duration = Duration::from_secs(10);

/// What a pid file says of a server that was killed; the file's time is the moment.
const KILLED: &str = "killed\n";

/// A server with a folder for its files: `pid`, `log`, and its data beside them.
#[derive(Debug)]
pub struct Service {
    /// Name for people; also the folder's name.
    pub name: &'static str,
    /// Absolute.
    pub folder: PathBuf,
}

/// Which process: a pid, and the start time that makes it unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    pid: u32,
    /// Clock ticks after boot.
    started: u64,
}

impl Service {
    /// The pid, while the recorded process runs.
    pub fn pid(&self) -> Option<u32> {
        self.identity().map(|identity| identity.pid)
    }

    /// Where the server's own words go.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// When the running server was started, or when it was killed, in wall milliseconds; nothing after an end in good order.
    pub fn changed_ms(&self) -> Option<i64> {
        let changed = fs::metadata(self.pid_file()).and_then(|facts| facts.modified()).ok()?;
        i64::try_from(changed.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    }

    /// When the server ended without warning, in wall milliseconds: the moment of [`Self::kill`], or now where nobody saw the end.
    /// Nothing while it runs, after an end in good order, and before its first start.
    pub fn ended_badly_ms(&self, clock: &SharedClock) -> Option<i64> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        if self.identity().is_some() {
            return None;
        }
        if text == KILLED { self.changed_ms() } else { Some(clock.wall_ms()) }
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    fn identity(&self) -> Option<Identity> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let recorded = Identity { pid: pid.parse().ok()?, started: started.parse().ok()? };
        (started_of(recorded.pid) == Some(recorded.started)).then_some(recorded)
    }

    /// Starts the server in a process group of its own, so that neither Ctrl-C nor this process's end reaches it.
    ///
    /// # Errors
    /// When the log or pid file cannot be written or the program cannot be started.
    pub fn launch(&self, mut command: Command) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("failed to make the folder {}", self.folder.display()))?;
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.with_context(|| format!("failed to open {}", self.log().display()))?;
        let errors = log.try_clone().context("failed to share the log file")?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let mut child = command.spawn().with_context(|| format!("failed to start {} as {}", self.name, command.get_program().display()))?;
        let pid = child.id();
        let started = started_of(pid).unwrap_or_default();
        // Takes the dead process off the system's list; a thread, since it may end at any time and nobody else waits for it.
        std::thread::spawn(move || child.wait());
        fs::write(self.pid_file(), format!("{pid} {started}\n")).with_context(|| format!("failed to record the pid of {}", self.name))
    }

    /// Waits until `probe` says that the server answers.
    ///
    /// # Errors
    /// When the process ends or does not answer in time; the error shows the end of its log.
    pub async fn until_ready(&self, probe: impl AsyncFn() -> bool) -> anyhow::Result<()> {
        let ready = async {
            while !probe().await {
                ensure!(
                    self.pid().is_some(),
                    "{} ended instead of starting; its log {} ends with\n{}",
                    self.name,
                    self.log().display(),
                    self.log_tail()
                );
                tokio::time::sleep(PROBE_EVERY).await;
            }
            Ok(())
        };
        match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(outcome) => outcome,
            Err(_) => bail!(
                "{} does not answer after {} s; its log {} ends with\n{}",
                self.name,
                READY_WITHIN.as_secs(),
                self.log().display(),
                self.log_tail()
            ),
        }
    }

    /// Asks the server to end (TERM), and kills it when it does not. A server that does not run is fine; one that is paused goes on to
    /// its end.
    ///
    /// # Errors
    /// When the process cannot be ended.
    pub fn stop(&self, clock: &SharedClock) -> anyhow::Result<()> {
        let Some(identity) = self.identity() else { return Ok(()) };
        signal(identity, "TERM")?;
        signal(identity, "CONT")?;
        if self.is_gone_within(TERM_WITHIN, clock) {
            return fs::remove_file(self.pid_file()).with_context(|| format!("failed to forget the pid of {}", self.name));
        }
        eprintln!("stack: {} (pid {}) did not end in {} s and is killed", self.name, identity.pid, TERM_WITHIN.as_secs());
        self.kill(clock)
    }

    /// Ends the server without warning (KILL), as a power cut would. A server that does not run is fine.
    ///
    /// # Errors
    /// When the process does not go away.
    pub fn kill(&self, clock: &SharedClock) -> anyhow::Result<()> {
        let Some(identity) = self.identity() else { return Ok(()) };
        signal(identity, "KILL")?;
        ensure!(self.is_gone_within(KILL_WITHIN, clock), "{} (pid {}) is still there after KILL", self.name, identity.pid);
        fs::write(self.pid_file(), KILLED).with_context(|| format!("failed to record the end of {}", self.name))
    }

    /// Stops the server where it stands (STOP), as a long pause of its machine would: its connections stay open, nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal_running("STOP")
    }

    /// Lets a paused server go on (CONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal_running("CONT")
    }

    fn signal_running(&self, name: &str) -> anyhow::Result<()> {
        let identity = self.identity().with_context(|| format!("failed to send {name} to {}: it does not run", self.name))?;
        signal(identity, name)
    }

    fn is_gone_within(&self, within: Duration, clock: &SharedClock) -> bool {
        let deadline = Deadline::after(&**clock, within);
        while self.identity().is_some() {
            if deadline.is_over(&**clock) {
                return false;
            }
            clock.sleep(POLL);
        }
        true
    }

    fn log_tail(&self) -> String {
        let text = fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n")
    }
}

/// Sends a signal by the shell's own `kill`: a system call would need `unsafe`, and not every machine has the program.
fn signal(identity: Identity, name: &str) -> anyhow::Result<()> {
    let outcome = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &identity.pid.to_string()]).output();
    let outcome = outcome.with_context(|| format!("failed to run sh to send {name} to pid {}", identity.pid))?;
    // The process may have ended by itself between the look and the signal.
    if outcome.status.success() || started_of(identity.pid) != Some(identity.started) {
        return Ok(());
    }
    let reason = io::Error::other(String::from_utf8_lossy(&outcome.stderr).trim().to_owned());
    Err(reason).with_context(|| format!("failed to send {name} to pid {}", identity.pid))
}

/// When the process started, in clock ticks after boot; nothing for a process that is not there or only waits to be buried.
fn started_of(pid: u32) -> Option<u64> {
    started_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads `/proc/<pid>/stat`: the second field, the program's name in parentheses, may hold anything; the state is the third field, the
/// number of threads the 20th, the start time the 22nd. A killed process is a zombie from the end of its first thread on; only with
/// the end of its last one are its files and ports free.
fn started_in(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let state = fields.first()?;
    let threads: u32 = fields.get(17)?.parse().ok()?;
    let is_buried = matches!(*state, "Z" | "X") && threads <= 1;
    if is_buried { None } else { fields.get(19)?.parse().ok() }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
