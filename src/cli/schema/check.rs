//! `testudo schema check`: before a deployment, can every registered version of the sources' subjects be processed, and what would change?
//!
//! Asks the registry alone: no broker, no state, nothing is changed.

use std::path::PathBuf;

use anyhow::anyhow;
use serde::Serialize;

use super::message::Verdict;
use super::registered::{Registered, Rest, Version, candidate, failed, registry};
use crate::avro::registry::RegistryFault;
use crate::cli::exit::{Exit, WithExit};
use crate::config::Config;
use crate::schemas::Judgement;
use crate::tenant::{Places, Tenant, tenants};

const EXAMPLES: &str = "\
Examples:
  testudo schema check tenants/zoo.toml                                     Every registered version
  testudo schema check --deleted tenants/zoo.toml                           ... soft-deleted ones too
  testudo schema check --candidate new.avsc --subject stream-topic-1-value tenants/zoo.toml
  testudo schema check --offline --candidate new.avsc --subject stream-topic-1-value tenants/zoo.toml
  testudo schema check --candidate new.avsc --subject stream-topic-1-value --reference zoo.Place=place.avsc tenants/zoo.toml
  testudo schema check --candidate new.proto --subject stream-topic-1-value --reference zoo/place.proto=places@2 tenants/zoo.toml

✓ read as it is written, ~ can be read, but not everything as it is written, ✗ cannot be read.

Exit codes: 0 every version can be read, 2 a tenant file or the command line is wrong, 3 the registry cannot be reached, 4 it refuses us,
5 a version cannot be read, a subject has no version, or (--strict) something would be read otherwise than it is written.";

/// Flags of `testudo schema check`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Tenant files [default: those of the configuration]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Judge soft-deleted versions too: their records may still be in the topics.
    #[arg(long)]
    deleted: bool,
    /// Judge this schema, which is not registered yet, instead of the registered versions.
    #[arg(long, value_name = "AVSC", requires = "subject")]
    candidate: Option<PathBuf>,
    /// The subject that the candidate is meant for.
    #[arg(long, requires = "candidate")]
    subject: Option<String>,
    /// A schema that the candidate refers to: NAME is what the candidate calls it (a type, the URI of a $ref, the path of an import), behind it
    /// stands a file, or a registered version as SUBJECT@VERSION, VERSION being a number or `latest`. What that refers to in turn comes along;
    /// a file's references are named as well. Repeatable.
    #[arg(long = "reference", value_name = "NAME=FILE", requires = "candidate")]
    references: Vec<Rest>,
    /// Do not ask the registry; for candidates only.
    #[arg(long, requires = "candidate")]
    offline: bool,
    /// Fail too when something would be read otherwise than it is written: a default in place of a field, a field that is not read, a promotion.
    #[arg(long)]
    strict: bool,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For a pipeline: one document.
    Json,
}

/// One judged version as JSON.
#[derive(Debug, Serialize)]
struct Line {
    tenant: String,
    source: String,
    subject: String,
    version: Option<i32>,
    id: Option<u32>,
    deleted: bool,
    /// What the subject's own compatibility rule says against a candidate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused_by_rule: Vec<String>,
    /// Why that rule was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_not_asked: Option<String>,
    #[serde(flatten)]
    judgement: Judgement,
}

/// What was found over all tenants.
#[derive(Debug, Default, Serialize)]
struct Found {
    versions: Vec<Line>,
    /// Subjects without any version.
    empty_subjects: Vec<String>,
}

/// Judges, tells, and ends with the exit code of what was found.
pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let files = if args.files.is_empty() { &config.tenants } else { &args.files };
    if files.is_empty() {
        return Err(anyhow!("no tenant file to check: name one, or set tenants in the configuration")).exit(Exit::Usage);
    }
    let checked = tenants(files, &config.tenant).exit(Exit::Usage)?;
    let runtime = crate::cli::runtime(1)?;
    let mut registered = Registered::new(registry(config)?);
    let mut found = Found::default();
    for tenant in &checked.tenants {
        let mut places = Places::of(tenant, &config.tenant);
        for source in 0..tenant.sources.len() {
            runtime.block_on(one_source(args, tenant, source, &mut registered, &mut places, &mut found))?;
        }
    }
    if let (Some(subject), true) = (&args.subject, found.versions.is_empty()) {
        let subjects: Vec<String> =
            checked.tenants.iter().flat_map(|tenant| &tenant.sources).flat_map(|source| source.subjects()).collect();
        return Err(anyhow!("no source reads subject {subject}; they read {}", subjects.join(", "))).exit(Exit::Usage);
    }
    if let Format::Json = args.format {
        println!("{}", serde_json::to_string_pretty(&found)?);
    }
    conclude(args, &found)
}

async fn one_source(
    args: &Args,
    tenant: &Tenant,
    source: usize,
    registered: &mut Registered,
    places: &mut Places,
    found: &mut Found,
) -> anyhow::Result<()> {
    let declared = &tenant.sources[source];
    if declared.format.schemas().is_none()
        && let Format::Text = args.format
    {
        println!("· source {} reads JSON without registered schemas: there is nothing to check", declared.name);
    }
    let kind = declared.format.schemas().unwrap_or_default();
    for subject in declared.subjects() {
        let mut versions = Vec::new();
        match (&args.candidate, &args.subject) {
            (Some(file), Some(meant)) if *meant == subject => {
                let version = candidate(file, &subject, kind, &args.references)?;
                versions.push(registered.with_references(version, &args.references, args.offline).await?);
            }
            (Some(_), _) => {}
            (None, _) => {
                versions = failed(&format!("subject {subject}"), registered.versions(&subject, args.deleted).await)?;
                if versions.is_empty() {
                    tell_empty(args, tenant, &subject);
                    found.empty_subjects.push(subject.clone());
                }
            }
        }
        for version in versions {
            let said = match version.number.is_none() && !args.offline {
                true => rule_on(args, registered, &version).await?,
                false => Said::default(),
            };
            found.versions.push(judged(args, tenant, source, &version, said, places));
        }
    }
    Ok(())
}

/// What a subject's own rule says of a candidate.
#[derive(Default)]
struct Said {
    refused: Vec<String>,
    not_asked: Option<String>,
}

async fn rule_on(args: &Args, registered: &Registered, version: &Version) -> anyhow::Result<Said> {
    let files: Vec<String> = args.references.iter().filter_map(Rest::file).map(|file| file.display().to_string()).collect();
    if !files.is_empty() {
        // A registry knows references by subject and version alone.
        let not_asked = format!("{} is not registered; register it and name it as SUBJECT@VERSION", files.join(", "));
        return Ok(Said { not_asked: Some(not_asked), ..Said::default() });
    }
    let answer = match registered.rule_on(version).await {
        // Some registries keep schemas with references and cannot compare them; what was judged here stands.
        Err(RegistryFault::Refused { message, .. }) if !args.references.is_empty() => {
            return Ok(Said {
                not_asked: Some(format!("the registry does not take it with its references: {message}")),
                ..Said::default()
            });
        }
        answer => answer,
    };
    Ok(Said { refused: failed(&format!("the rule of subject {}", version.subject), answer)?, ..Said::default() })
}

fn judged(args: &Args, tenant: &Tenant, source: usize, version: &Version, said: Said, places: &mut Places) -> Line {
    let Said { refused: refused_by_rule, not_asked: rule_not_asked } = said;
    let judgement = version.judge(tenant, source);
    let declared = &tenant.sources[source];
    if let Format::Text = args.format {
        let verdict = Verdict { source: declared, version, judgement: &judgement };
        print!("{}", verdict.text(places));
        for message in &refused_by_rule {
            println!("    the subject's own rule refuses it: {message}");
        }
        if let Some(why) = &rule_not_asked {
            println!("    the subject's own rule was not asked: {why}");
        }
    }
    Line {
        tenant: tenant.name.clone(),
        source: declared.name.clone(),
        subject: version.subject.clone(),
        version: version.number,
        id: version.id.map(|id| id.0),
        deleted: version.is_deleted,
        refused_by_rule,
        rule_not_asked,
        judgement,
    }
}

fn tell_empty(args: &Args, tenant: &Tenant, subject: &str) {
    if let Format::Text = args.format {
        println!(
            "✗ subject {subject}: has no version\n    to do: have the producers of tenant {} register their schema under it",
            tenant.name
        );
    }
}

fn conclude(args: &Args, found: &Found) -> anyhow::Result<()> {
    let unreadable = found.versions.iter().filter(|line| !line.judgement.is_readable()).count();
    let forbidden = found.versions.iter().filter(|line| !line.refused_by_rule.is_empty()).count();
    let changed = found.versions.iter().filter(|line| !line.judgement.changes.is_empty()).count();
    let mut faults = Vec::new();
    let mut note = |count: usize, what: &str| {
        if count > 0 {
            faults.push(format!("{what}: {count}"));
        }
    };
    note(unreadable, "cannot be read");
    note(forbidden, "refused by the subject's own rule");
    note(found.empty_subjects.len(), "subjects without a version");
    note(if args.strict { changed } else { 0 }, "read otherwise than written");
    match faults.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("versions looked at: {}; {}", found.versions.len(), faults.join("; "))).exit(Exit::Incompatible),
    }
}
