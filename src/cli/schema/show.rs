//! `testudo schema show`: one schema, what it means for each source, and what was decided.

use std::path::PathBuf;

use anyhow::anyhow;

use super::book::{Book, pretty};
use super::ls::time;
use super::message::Verdict;
use super::registered::{Registered, Version, failed, registry};
use crate::avro::{SchemaId, SchemaKind, SchemaLimits};
use crate::cli::exit::{Exit, WithExit};
use crate::config::Config;
use crate::schemas::record::By;
use crate::tenant::Places;

/// Flags of `testudo schema show`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  testudo schema show 9 tenants/zoo.toml\n  testudo schema show --offline 9 tenants/zoo.toml")]
pub struct Args {
    /// The schema's id.
    id: u32,
    /// Tenant files [default: those of the configuration]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Do not ask the broker what was decided.
    #[arg(long)]
    offline: bool,
}

/// Fetches, judges and shows.
pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let tenants = super::load(&args.files, config)?;
    let runtime = crate::cli::runtime(1)?;
    let client = registry(config)?;
    let mut registered = Registered::new(client.clone());
    let about = format!("schema {}", args.id);
    let schema = failed(&about, runtime.block_on(registered.schema(SchemaId(args.id))))?;
    let found = failed(&about, runtime.block_on(client.versions_of(SchemaId(args.id))))?;
    for (subject, version) in &found {
        println!("subject {subject}, version {version}");
    }
    match &schema {
        Ok(fetched) => {
            println!("{}", pretty(fetched));
            if fetched.kind != SchemaKind::Avro
                && let Ok(derived) = fetched.parse(&SchemaLimits::default())
            {
                println!("read as the Avro schema\n{:#}", serde_json::to_value(&derived).unwrap_or_default());
            }
            fetched.chain.iter().for_each(|reference| println!("rests on {reference}"));
        }
        Err(why) => println!("{why}"),
    }
    let subjects: Vec<String> = found.iter().map(|(subject, _)| subject.clone()).collect();
    for tenant in &tenants {
        let book = match args.offline {
            true => None,
            false => Some(Book::open(tenant, config, runtime.handle())?),
        };
        let mut places = Places::of(tenant, &config.tenant);
        for (index, source) in tenant.sources.iter().enumerate() {
            let own = source.subjects().into_iter().find(|subject| subjects.contains(subject));
            let number = own.as_ref().and_then(|own| found.iter().find(|(subject, _)| subject == own)).map(|(_, number)| *number);
            let subject = own.or_else(|| subjects.first().cloned()).unwrap_or_else(|| "none".into());
            let version = Version { subject, number, id: Some(SchemaId(args.id)), is_deleted: false, schema: schema.clone() };
            let judgement = version.judge(tenant, index);
            println!("\ntenant {}, source {} (on_new_schema = \"{}\")", tenant.name, source.name, source.on_new_schema.word());
            print!("{}", Verdict { source, version: &version, judgement: &judgement }.text(&mut places));
            if let Some(book) = &book {
                println!("{}", decided(book, index, args.id));
            }
        }
    }
    match schema {
        Ok(_) => Ok(()),
        Err(why) => Err(anyhow!(why)).exit(Exit::Incompatible),
    }
}

fn decided(book: &Book, source: usize, id: u32) -> String {
    match book.verdicts.of(&book.key(source, id)) {
        None => "    decided: nothing yet".into(),
        Some(verdict) => {
            let by = if verdict.by == By::Owner { "its owner" } else { "the policy" };
            let note = verdict.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
            format!("    decided: {} since {} by {by} ({}){note}", verdict.verdict.word(), time(verdict.when_ms), verdict.who)
        }
    }
}
