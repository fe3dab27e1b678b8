//! The command line: one file per command. Here the parts meet.

pub mod exit;

pub mod drain;
pub mod run;
pub mod service;
pub mod sinks;
pub mod topics;

pub mod audit;
mod changed;
pub mod check;
mod memory;

mod operator;
mod rebuild;
mod removal;
pub mod reset;
pub mod schema;
mod settle;
pub mod skip;
mod state_loss;

pub mod demo;
pub mod emulate;
pub mod stack;

pub mod config;
pub mod health;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::config::{Loaded, Sources, redact};
use crate::failpoint;
use crate::telemetry::logging;
use exit::{Exit, WithExit, code_of};

const EXAMPLES: &str = "\
Examples:
  testudo check tenants/zoo.toml                       Is the tenant file right?
  testudo check --connect tenants/zoo.toml             ... and does everything around it fit?
  testudo run tenants/zoo.toml                         Do the work
  testudo config show --origin                         Which settings hold, and why

Settings come from testudo.toml (or --config), the environment (TESTUDO__KAFKA__BOOTSTRAP=kafka:9092) and flags
(--set kafka.bootstrap=kafka:9092, -X security.protocol=SSL); the later one wins.

Exit codes: 0 done, 1 failure, 2 usage or configuration, 3 dependency unreachable at start, 4 not authenticated or authorised,
5 topics or schemas do not fit, 6 local state damaged, 7 fenced too often by an instance of the same name, 8 audit found a violation,
9 drained up to what waits for a decision.";

/// Exactly-once stream analytics for Kafka.
#[derive(Debug, Parser)]
#[command(name = "testudo", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Settings")]
struct Global {
    /// Configuration file [default: testudo.toml, if it is there]
    #[arg(long, global = true, env = "TESTUDO_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a value, such as engine.workers=2; can be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Set a librdkafka property of every client; can be repeated.
    #[arg(short = 'X', global = true, value_name = "PROPERTY=VALUE")]
    properties: Vec<String>,
    /// What to log: error, warn, info, debug, trace, also per module.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How to log: auto, text or json.
    #[arg(long, global = true, value_name = "FORM")]
    log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Do the tenants' work until told to stop.
    Run(run::Args),
    /// Check tenant files, and with --connect everything they need.
    Check(check::Args),
    /// Which schemas are registered, what they mean for a tenant, and what was decided about them.
    Schema(schema::Args),
    /// Compare what a tenant's job has left with what its input asks for.
    Audit(audit::Args),
    /// Have a tenant begin again, from chosen positions and with empty windows; asks first.
    Reset(reset::Args),
    /// Leave records out that nobody can read; asks first.
    Skip(skip::Args),
    /// Start everything on this machine and show a tenant at work.
    Demo(demo::Args),
    /// Play tenants' data sources: a CSV file or a made-up fleet of devices.
    Emulate(Box<emulate::Args>),
    /// Start and stop a broker, a registry and a database on this machine.
    Stack(stack::Args),
    /// Show the configuration.
    Config(config::Args),
    /// Ask a running instance whether it is ready.
    Health(health::Args),
}

/// Runs the command; whatever goes wrong is told on standard error and by the exit code.
pub fn run(mut cli: Cli) -> ExitCode {
    if matches!(cli.command, Command::Demo(_)) {
        // What it shows is on standard output; the log is for what goes wrong.
        cli.global.log_level.get_or_insert_with(|| "error,librdkafka=off,rdkafka=off".into());
    }
    let loaded = match cli.global.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error, &redact::Secrets::default()),
    };
    let secrets = loaded.secrets();
    match execute(cli.command, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, &secrets),
    }
}

fn execute(command: Command, loaded: Loaded) -> anyhow::Result<()> {
    failpoint::setup();
    if !matches!(command, Command::Config(_) | Command::Health(_)) {
        logging::setup(&loaded.config.log).exit(Exit::Usage)?;
    }
    match command {
        Command::Run(args) => run::run(args, loaded.config),
        Command::Check(args) => check::run(&args, &loaded.config),
        Command::Schema(args) => schema::run(&args, &loaded.config),
        Command::Audit(args) => audit::run(args, loaded.config),
        Command::Reset(args) => reset::run(&args, loaded.config),
        Command::Skip(args) => skip::run(&args, loaded.config),
        Command::Demo(args) => demo::run(args, loaded.config),
        Command::Emulate(args) => emulate::run(&args, &loaded.config),
        Command::Stack(args) => stack::run(args),
        Command::Config(args) => {
            config::run(&args, &loaded);
            Ok(())
        }
        Command::Health(args) => health::run(&args, &loaded.config),
    }
}

/// Tells an error, without secrets that a client's words may hold (C133).
fn fail(error: &anyhow::Error, secrets: &redact::Secrets) -> ExitCode {
    eprintln!("testudo: {}", secrets.scrub(&format!("{error:#}")));
    code_of(error).into()
}

impl Global {
    fn load(&self) -> anyhow::Result<Loaded> {
        let mut sets = self.sets.clone();
        sets.extend(self.log_level.iter().map(|level| format!("log.level={level}")));
        sets.extend(self.log_format.iter().map(|format| format!("log.format={format}")));
        let sources = Sources { file: self.config.clone(), environment: environment(), sets, properties: self.properties.clone() };
        Loaded::from(&sources).exit(Exit::Usage)
    }
}

/// A runtime for what a command asks brokers, registry and database.
fn runtime(threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().context("failed to start a runtime")
}

/// The environment as far as it is text.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// The text of a file that a person named, without the mark that some editors put in front.
fn read_text(file: &Path, what: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {what} {}", file.display())).exit(Exit::Usage)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
