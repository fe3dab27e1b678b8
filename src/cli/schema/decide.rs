//! `testudo schema accept` and `refuse`: the owner's word on a schema, which goes before the policy's and holds for every instance.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use tokio::runtime::Handle;

use super::book::{Book, Word, place_of};
use super::ls::named;
use super::registered::{Registered, Version, failed, registry};
use crate::avro::SchemaId;
use crate::cli::exit::{Exit, WithExit};
use crate::config::Config;
use crate::schemas::record::{Decision, VerdictKey};
use crate::tenant::Tenant;

/// Flags of `testudo schema accept` and `testudo schema refuse`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  testudo schema accept 9 tenants/zoo.toml\n  testudo schema refuse 9 --reason \"battery in volts\" tenants/zoo.toml\n\n\
    Written to the topic <tenant>-schemas, read back, and announced on <tenant>-events by a running instance. Partitions that wait go on\n\
    within seconds. The last word holds: it can be taken back by the other command, for records that have not been read yet.\n\n\
    Exit codes: 0 it holds, 2 a tenant file or the command line is wrong, 3 broker or registry cannot be reached, 4 one refuses us,\n\
    5 the schema cannot be accepted because its records cannot be read."
)]
pub struct Args {
    /// The schema's id.
    id: u32,
    /// Tenant files [default: those of the configuration]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only for this source [default: every source that may meet the schema]
    #[arg(long)]
    source: Option<String>,
    /// Why, for those who read it later.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who decides [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
}

/// Decides for the tenants of the files.
pub(super) fn run(args: &Args, decision: Decision, config: &Config) -> anyhow::Result<()> {
    let tenants = super::load(&args.files, config)?;
    let runtime = crate::cli::runtime(1)?;
    let who = args.who.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "owner".into());
    let word = Word { decision, who, note: args.reason.clone() };
    let mut decided = 0;
    for tenant in &tenants {
        for key in decide(tenant, args.id, args.source.as_deref(), &word, config, runtime.handle())? {
            println!("{} of tenant {}: {}", named(&key), tenant.name, consequence(decision, tenant));
            decided += 1;
        }
    }
    match decided {
        0 => Err(anyhow!(
            "no source of {} may meet schema {}: it is registered under none of their subjects, and nothing was decided about it; name one by --source",
            tenants.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>().join(", "),
            args.id
        ))
        .exit(Exit::Usage),
        _ => Ok(()),
    }
}

fn consequence(decision: Decision, tenant: &Tenant) -> String {
    match decision {
        Decision::Accepted => "accepted; partitions that wait for it go on".into(),
        Decision::Refused => {
            format!("refused; its records become dead letters on {}, partitions that wait for it go on", tenant.dead_letters_topic())
        }
        Decision::Held => "held; its records wait".into(),
    }
}

/// Writes the owner's word for each source of a tenant that may meet the schema. What was decided. Blocks; not to be called on a runtime's own thread.
///
/// # Errors
/// With the exit code of what is in the way; nothing was written then, or less than was wanted.
pub(super) fn decide(
    tenant: &Arc<Tenant>,
    id: u32,
    only: Option<&str>,
    word: &Word,
    config: &Config,
    runtime: &Handle,
) -> anyhow::Result<Vec<VerdictKey>> {
    if let Some(source) = only.filter(|only| !tenant.sources.iter().any(|source| source.name == **only)) {
        return Err(anyhow!("tenant {} has no source `{source}`", tenant.name)).exit(Exit::Usage);
    }
    let client = registry(config)?;
    let about = format!("schema {id}");
    let schema = failed(&about, runtime.block_on(Registered::new(client.clone()).schema(SchemaId(id))))?;
    let found = failed(&about, runtime.block_on(client.versions_of(SchemaId(id))))?;
    let version = Version { subject: String::new(), number: None, id: Some(SchemaId(id)), is_deleted: false, schema };
    let mut book = Book::open(tenant, config, runtime)?;
    let may_meet = |source: usize| {
        let declared = &tenant.sources[source];
        let is_its_own = declared.subjects().iter().any(|subject| found.iter().any(|(known, _)| known == subject));
        match only {
            Some(only) => declared.name == only,
            None => is_its_own || book.verdicts.of(&book.key(source, id)).is_some(),
        }
    };
    let sources: Vec<usize> = (0..tenant.sources.len()).filter(|source| may_meet(*source)).collect();
    let mut decided = Vec::with_capacity(sources.len());
    for source in sources {
        let declared = &tenant.sources[source];
        let judgement = version.judge(tenant, source);
        if word.decision == Decision::Accepted && !judgement.is_readable() {
            return Err(anyhow!(
                "schema {id} cannot be accepted for source {}: {}; `testudo schema show {id}` says what to do",
                declared.name,
                judgement.why_not()
            ))
            .exit(Exit::Incompatible);
        }
        let key = book.key(source, id);
        book.decide(&key, word, &judgement, place_of(&found, &declared.subjects()))?;
        decided.push(key);
    }
    Ok(decided)
}
