//! Peers beside us: runs the scripts of a kit on our broker and reads their lines. The kit is no part of this repository.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::Args;
use crate::job::tail;
use crate::machine::say;
use crate::rig::Rig;

/// What the report calls the bare consumer.
pub const CEILING: &str = "bare librdkafka";

/// A kit, told where our servers are.
pub struct Kit {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Kit {
    /// The kit of `--peers`. Its home (`PEERS_HOME`) keeps what it builds.
    ///
    /// # Errors
    /// When there is none, or its home cannot be written.
    pub fn of(rig: &Rig, args: &Args) -> anyhow::Result<Self> {
        let folder = args.peers.as_ref().context("no kit of peers was named")?;
        let folder = folder.canonicalize().with_context(|| format!("there is no kit in {}", folder.display()))?;
        let home = PathBuf::from(std::env::var("PEERS_HOME").unwrap_or_else(|_| "/tmp/peers".into()));
        fs::create_dir_all(home.join("run"))?;
        // The kit's meters look at these two processes by pid.
        for server in ["kafka", "mongod"] {
            fs::write(home.join(format!("run/{server}.pid")), rig.pid_of(server)?.to_string())?;
        }
        let environment = vec![
            ("PEERS_HOME", home.display().to_string()),
            ("KAFKA_PORT", port_of(&rig.stack.bootstrap())?),
            ("REGISTRY_PORT", port_of(&rig.stack.registry_url())?),
            ("MONGO_PORT", port_of(&rig.stack.mongo_uri())?),
        ];
        Ok(Self { folder, environment })
    }

    /// Drains a topic; the line `RESULT …`.
    pub fn throughput(&self, system: &str, topic: &str, options: &[&str]) -> anyhow::Result<String> {
        self.run(&format!("run-{system}.sh"), &[&[topic][..], options].concat(), &[], "RESULT")
    }

    /// Compares what the last run of a system left with what it should be.
    pub fn verify(&self, system: &str) -> anyhow::Result<()> {
        self.run("verify.sh", &[system], &[], "").map(|_| ())
    }

    /// Latency of alerts; the line `LATENCY …`. The first 15 s are warm-up.
    pub fn latency(&self, system: &str, seconds: u64) -> anyhow::Result<String> {
        self.run("latency.sh", &[system], &[("SECONDS_", (seconds + 15).to_string())], "LATENCY")
    }

    /// Recovery after a kill at half of a topic; the line `RECOVERY …`.
    pub fn recovery(&self, system: &str, topic: &str) -> anyhow::Result<String> {
        self.run("recovery.sh", &[system, topic], &[], "RECOVERY")
    }

    fn run(&self, script: &str, arguments: &[&str], environment: &[(&str, String)], line: &str) -> anyhow::Result<String> {
        say(&format!("  {script} {}", arguments.join(" ")));
        let mut command = Command::new(self.folder.join(script));
        command.args(arguments).current_dir(&self.folder).envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = command.envs(environment.iter().map(|(name, value)| (name, value))).output();
        let output = output.with_context(|| format!("failed to run {script} of the kit"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{script} ended with {}:\n{}\n{}",
            output.status,
            tail(&text),
            tail(&String::from_utf8_lossy(&output.stderr))
        );
        let found = text.lines().find(|candidate| candidate.starts_with(line)).with_context(|| format!("{script} told no {line}"))?;
        say(&format!("  {found}"));
        Ok(found.to_owned())
    }
}

/// The port of `…:port…`.
fn port_of(address: &str) -> anyhow::Result<String> {
    let after = address.rsplit_once("127.0.0.1:").with_context(|| format!("no local port in {address}"))?.1;
    Ok(after.chars().take_while(char::is_ascii_digit).collect())
}
