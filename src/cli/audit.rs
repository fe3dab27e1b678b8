//! `testudo audit`: recomputes everything from the input, or goes by the ledger, and says where what is there first differs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Exit, WithExit};
use super::operator::find_generation;
use super::run::load;
use crate::audit::{AuditError, Options, Report, Stored, StoredKey, audit, audit_by_ledger};
use crate::avro::registry::Registry;
use crate::clock::{Deadline, SystemClock};
use crate::config::Config;
use crate::kafka::TopicPartition;
use crate::store::keys::KeyPart;
use crate::store::{self, StoredWindow};
use crate::tenant::Tenant;

/// Without a terminal the log tells how far an audit is, as often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How many discrepancies are shown unless told otherwise.
pub const FIRST: usize = 20;

const EXAMPLES: &str = "\
Examples:
  testudo audit tenants/zoo.toml                    Everything: topics, MongoDB, local state
  testudo audit --no-store tenants/zoo.toml         On another machine than the one that holds the state
  testudo audit --ledger tenants/zoo.toml           By the ledger: quick, also beside a service at work
  testudo audit --output json tenants/zoo.toml      For a pipeline

The audit reads up to the group's committed positions; a service that goes on working meanwhile makes it begin again.
With --ledger nothing is recomputed: each transaction's records must be there, once and unaltered, whether right or wrong.
It ends with exit code 8 when anything differs.";

/// Recomputes everything from the input and compares.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Tenant files; those of the configuration when none is given.
    tenants: Vec<PathBuf>,
    /// How many discrepancies to show.
    #[arg(long, default_value_t = FIRST)]
    first: usize,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Hold topics and MongoDB against the ledger instead of recomputing them; looks at no local state.
    #[arg(long)]
    ledger: bool,
    /// Leave MongoDB out.
    #[arg(long)]
    no_mongo: bool,
    /// Leave the local state out.
    #[arg(long)]
    no_store: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Audits the tenants one after the other.
pub fn run(args: Args, mut config: Config) -> anyhow::Result<()> {
    if !args.tenants.is_empty() {
        config.tenants.clone_from(&args.tenants);
    }
    if args.no_mongo {
        config.mongo = None;
    }
    let runtime = super::runtime(2)?;
    let mut violated = Vec::new();
    for tenant in load(&config)? {
        let name = tenant.name.clone();
        find_generation(&config, &tenant, runtime.handle())?;
        let audited = match args.ledger {
            true => runtime.block_on(audit_one_by_ledger(&config, tenant, args.first)),
            false => runtime.block_on(audit_one(&config, tenant, args.first, !args.no_store)),
        };
        let report = audited.with_context(|| format!("failed to audit {name}"))?;
        match args.output {
            Output::Table => print!("tenant {name}\n{report}"),
            Output::Json => println!("{}", report.json()),
        }
        if !report.is_clean() {
            violated.push(name);
        }
    }
    match violated.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("the audit found discrepancies in {}", violated.join(", "))).exit(Exit::Violation),
    }
}

/// Audits one tenant.
pub async fn audit_one(config: &Config, tenant: Arc<Tenant>, first: usize, with_store: bool) -> anyhow::Result<Report> {
    let store = match with_store {
        true => Some(stored(config, &tenant)?),
        false => None,
    };
    audit(options(config, tenant, store, first).await?).await.exit_by(exit_of)
}

/// Audits one tenant by its ledger, with a bar of transactions; without a terminal the log tells.
async fn audit_one_by_ledger(config: &Config, tenant: Arc<Tenant>, first: usize) -> anyhow::Result<Report> {
    let style = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} ledger records {per_sec} {eta}")?;
    let bar = ProgressBar::no_length().with_style(style).with_prefix(tenant.name.clone());
    let (shown, name, clock) = (bar.clone(), tenant.name.clone(), SystemClock::shared());
    let told = Mutex::new(Deadline::after(&*clock, TELL_EVERY));
    let progress = move |done, of| {
        shown.set_length(of);
        shown.set_position(done);
        if shown.is_hidden()
            && let Ok(mut until) = told.lock()
            && until.is_over(&*clock)
        {
            *until = Deadline::after(&*clock, TELL_EVERY);
            tracing::info!(tenant = name, done, of, "auditing by the ledger");
        }
    };
    let report = audit_by_ledger(options(config, tenant, None, first).await?, Arc::new(progress)).await.exit_by(exit_of);
    bar.finish_and_clear();
    report
}

async fn options(config: &Config, tenant: Arc<Tenant>, store: Option<Stored>, first: usize) -> anyhow::Result<Options> {
    let mongo = match &config.mongo {
        Some(settings) => Some(settings.client().await?.database(&tenant.database)),
        None => None,
    };
    Ok(Options { tenant, kafka: config.kafka.clone(), registry: Registry::new(&config.registry)?, mongo, store, first })
}

/// What the tenant's state folder holds.
fn stored(config: &Config, tenant: &Tenant) -> anyhow::Result<Stored> {
    let contents = store::inspect(&config.store.dir, &tenant.own_name())
        .context("failed to read the local state; `--no-store` leaves it out")
        .exit(Exit::Damaged)?;
    let whole = contents.progress.into_iter().filter(|(_, progress)| progress.is_whole());
    let positions = whole.map(|(partition, progress)| (partition, progress.mark.position.0)).collect();
    Ok(Stored { windows: contents.windows.into_iter().map(stored_key).collect(), positions })
}

fn stored_key(window: StoredWindow) -> StoredKey {
    let text = |part: KeyPart| match part {
        KeyPart::Text(text) => text,
        KeyPart::Integer(number) => number.to_string(),
    };
    StoredKey {
        window: window.window,
        origin: TopicPartition::new(window.topic, window.partition),
        start_us: window.start_us,
        key: window.key.into_iter().map(text).collect(),
    }
}

fn exit_of(error: &AuditError) -> Exit {
    match error {
        AuditError::Kafka { .. } | AuditError::Stalled { .. } | AuditError::Registry { .. } | AuditError::Mongo { .. } => Exit::Unreachable,
        AuditError::Unreadable { .. } => Exit::Damaged,
        AuditError::Job(_) => Exit::Usage,
        AuditError::NoLedger { .. } => Exit::Incompatible,
        AuditError::Moving { .. } | AuditError::Lost(_) => Exit::Failure,
    }
}
