//! `testudo check`: are the tenant files right, and with `--connect`, does everything around them fit?
//!
//! One line for each thing that was looked at: ✓ it fits, ✗ it does not (why, and what to do), – it could not be looked at.

mod broker;
mod database;
mod findings;
mod local;
mod registry;

use std::path::PathBuf;

use anyhow::anyhow;

use super::exit::{Exit, WithExit};
use crate::config::Config;
use crate::tenant::{Tenant, tenants};
use findings::Findings;

/// Flags of `testudo check`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  testudo check tenants/*.toml\n  testudo check --connect tenants/zoo.toml\n\n\
    Exit codes: 0 all fits, 2 a tenant file is wrong, 3 something cannot be reached, 4 it refuses us, 5 topics or schemas do not fit.")]
pub struct Args {
    /// Tenant files [default: those of the configuration]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also look at the broker, the registry, MongoDB and the state folder. Nothing is created or changed, but for an empty probe that is written to `_testudo_check` in MongoDB.
    #[arg(long)]
    connect: bool,
}

/// Checks the files, then, if asked, their surroundings.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let files = if args.files.is_empty() { &config.tenants } else { &args.files };
    if files.is_empty() {
        return Err(anyhow!("no tenant file to check: name one, or set tenants in the configuration")).exit(Exit::Usage);
    }
    let checked = tenants(files, &config.tenant).exit(Exit::Usage)?;
    for warning in &checked.warnings {
        println!("warning: {warning}");
    }
    for tenant in &checked.tenants {
        println!("✓ {}: {}", tenant.file.display(), summary(tenant));
    }
    if args.connect { connect(&checked.tenants, config) } else { Ok(()) }
}

fn connect(tenants: &[Tenant], config: &Config) -> anyhow::Result<()> {
    let runtime = super::runtime(1)?;
    let mut findings = Findings::default();
    broker::look(tenants, config, runtime.handle(), &mut findings);
    runtime.block_on(async {
        registry::look(tenants, config, &mut findings).await;
        database::look(tenants, config, &mut findings).await;
    });
    local::look(tenants, config, &mut findings);
    match findings.worst() {
        None => Ok(()),
        Some(exit) => Err(anyhow!("{} of {} checks failed", findings.failed(), findings.total())).exit(exit),
    }
}

fn summary(tenant: &Tenant) -> String {
    let topics = tenant.input_topics().count();
    format!(
        "tenant {} reads {topics} topics; {} alerts, {} windows, {} collections",
        tenant.name,
        tenant.alerts.len(),
        tenant.windows.len(),
        tenant.collections.len()
    )
}
