//! `testudo schema`: what is registered, what it means for a tenant, what was decided; and the owner's decisions.

mod book;
mod check;
mod decide;
mod diff;
mod ls;
mod message;
mod registered;
mod show;
mod waiting;

pub mod over_http;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;

use super::run::load as load_configured;
use crate::config::Config;
use crate::schemas::record::Decision;
use crate::tenant::Tenant;

/// Flags of `testudo schema`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Can every registered version be read, and what would change? For a pipeline, before deploying.
    Check(check::Args),
    /// Every schema that a tenant may meet, with what was decided.
    Ls(ls::Args),
    /// One schema, what it means for each source, and what was decided.
    Show(show::Args),
    /// Two schemas, field by field.
    Diff(diff::Args),
    /// Let a schema's records be used.
    Accept(decide::Args),
    /// Make a schema's records dead letters.
    Refuse(decide::Args),
}

/// Runs the command.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    match &args.command {
        Command::Check(args) => check::run(args, config),
        Command::Ls(args) => ls::run(args, config),
        Command::Show(args) => show::run(args, config),
        Command::Diff(args) => diff::run(args, config),
        Command::Accept(args) => decide::run(args, Decision::Accepted, config),
        Command::Refuse(args) => decide::run(args, Decision::Refused, config),
    }
}

/// The tenants of the files, or of the configuration when none is named.
fn load(files: &[PathBuf], config: &Config) -> anyhow::Result<Vec<Arc<Tenant>>> {
    match files.is_empty() {
        true => load_configured(config),
        false => load_configured(&Config { tenants: files.to_vec(), ..config.clone() }),
    }
}
