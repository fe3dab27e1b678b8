//! `testudo reset`: a tenant begins again, from positions of the operator's choice and with empty windows. Nothing is deleted that
//! cannot be computed again: the state folder is moved aside, outputs stay.
//!
//! The order makes every interruption safe. Before the last step the changelogs know nothing and the group still stands where it
//! stood, so a start in between is refused (EOS-10) and the command can be repeated; the last step moves all in one transaction.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use serde_json::json;
use tokio::runtime::Handle;

use super::exit::{Exit, WithExit};
use super::operator::{Positions, Site, WAIT, confirm, listed};
use super::removal;
use super::run::load;
use crate::config::Config;
use crate::engine::job::{create_missing, own_topics};
use crate::engine::standstill::{Standstill, StandstillFault, partitions_of, progress_record, windows_over};
use crate::kafka::{Broker, Outgoing, Position, TopicDescription, TopicPartition, TopicReader};
use crate::store::{LoggedProgress, Swept, set_aside};

const EXAMPLES: &str = "\
Examples:
  testudo reset tenants/zoo.toml                                    Begin again with the first records that are there
  testudo reset tenants/zoo.toml --to stream-topic-1/0=4711,stream-topic-1/1=4699
                                                                    ... with these; every partition has to be named
  testudo reset tenants/zoo.toml --generation 1                     Remove what a rebuild has left of the first generation

Moves the group, re-creates the changelogs, moves this machine's state folder aside. Outputs, dead letters, documents and the sinks'
groups stay: what is read again is produced once more. State folders on other machines have to be moved away by hand.";

/// Flags of `testudo reset`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The tenant's file.
    tenant: PathBuf,
    /// `earliest`, or TOPIC/PARTITION=OFFSET for each partition, with commas.
    #[arg(long, default_value = "earliest", value_name = "POSITIONS")]
    to: String,
    /// Remove what this generation has left, one that a rebuild has replaced or one whose rebuild is given up; the one that counts goes on.
    #[arg(long, value_name = "NUMBER", conflicts_with = "to")]
    generation: Option<u32>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Shows what would be done, asks, does it.
pub fn run(args: &Args, mut config: Config) -> anyhow::Result<()> {
    config.tenants = vec![args.tenant.clone()];
    let tenant = load(&config)?.remove(0);
    let runtime = super::runtime(1)?;
    let site = Site::new(config, tenant, runtime.handle())?;
    if let Some(number) = args.generation {
        return removal::run(&site, number, args.yes, runtime.handle());
    }
    site.must_be_settled()?;
    site.must_stand_still()?;
    let old = site.positions()?;
    let new = wanted(&site, &args.to)?;
    show(&site, &old, &new);
    confirm(&site.tenant, args.yes)?;
    let standstill = Standstill::enter(site.cluster.clone(), site.clock.clone(), &site.tenant, &site.inputs, site.join_wait())
        .exit_by(|fault| if matches!(fault, StandstillFault::Busy { .. }) { Exit::Failure } else { Exit::Unreachable })?;
    if *standstill.positions() != old {
        bail!("nothing was done: the group has moved meanwhile; look again");
    }
    let detail = json!({
        "generation": site.standing.current,
        "old_positions": listed(&old),
        "new_positions": new.iter().map(shown).collect::<HashMap<_, _>>(),
        "outputs": output_ends(&site)?.iter().map(shown).collect::<HashMap<_, _>>(),
    });
    site.record(&site.event("reset-begun", detail.clone()))?;
    let aside = set_aside(&site.config.store.dir.join(site.tenant.own_name()), "reset", site.clock.wall_ms()).exit(Exit::Damaged)?;
    recreate_changelogs(&site, runtime.handle())?;
    let mut records = progress(&site, &new);
    records.push(site.event("reset", detail));
    standstill
        .relocate(&format!("{}-operator", site.tenant.name), site.config.engine.transaction_timeout(), &records, &new)
        .context("the changelogs are empty, the group was not moved: give the command again")
        .exit(Exit::Unreachable)?;
    if let Some(aside) = aside {
        println!("the old state lies in {}", aside.display());
    }
    println!("done; start the tenant");
    Ok(())
}

fn shown((partition, position): &(TopicPartition, Position)) -> (String, i64) {
    (partition.to_string(), position.0)
}

/// The position for each input partition.
fn wanted(site: &Site, to: &str) -> anyhow::Result<Vec<(TopicPartition, Position)>> {
    let given = match to {
        "earliest" => None,
        list => Some(parsed(list).exit(Exit::Usage)?),
    };
    let mut reader = site.cluster.reader()?;
    let mut positions = Vec::new();
    for partition in partitions_of(&site.inputs) {
        let bounds = reader.bounds(&partition, WAIT).exit(Exit::Unreachable)?;
        let position = match &given {
            None => bounds.low,
            Some(given) => match given.get(&partition.to_string()) {
                None => return Err(anyhow!("--to names no position for {partition}; every partition has to be named")).exit(Exit::Usage),
                Some(position) if *position < bounds.low || *position > bounds.high => {
                    return Err(anyhow!("{partition} holds {} to {}, not {position}", bounds.low, bounds.high)).exit(Exit::Usage);
                }
                Some(position) => *position,
            },
        };
        positions.push((partition, position));
    }
    match given.iter().flat_map(HashMap::keys).find(|name| !positions.iter().any(|(partition, _)| partition.to_string() == **name)) {
        Some(name) => Err(anyhow!("{name} is no input partition of tenant {}", site.tenant.name)).exit(Exit::Usage),
        None => Ok(positions),
    }
}

fn parsed(list: &str) -> anyhow::Result<HashMap<String, Position>> {
    let one = |item: &str| {
        let (partition, position) = item.split_once('=').with_context(|| format!("`{item}` is not TOPIC/PARTITION=OFFSET"))?;
        let position = position.trim().parse().with_context(|| format!("`{position}` is not an offset"))?;
        Ok((partition.trim().to_owned(), Position(position)))
    };
    list.split(',').map(one).collect()
}

fn show(site: &Site, old: &Positions, new: &[(TopicPartition, Position)]) {
    println!("tenant {}, group {}:", site.tenant.name, site.tenant.group());
    for (partition, position) in new {
        let before = old.get(partition).copied().flatten().map_or_else(|| "none".into(), |position| position.to_string());
        println!("  {partition}: position {before} becomes {position}");
    }
    println!("  state folder {}: moved aside", site.config.store.dir.join(site.tenant.own_name()).display());
    for changelog in changelogs(site) {
        println!("  changelog {changelog}: deleted, created again empty");
    }
    println!("  outputs, dead letters, documents, sinks' groups: stay; what is read again is produced once more");
}

/// Where outputs, dead letters and ledger end: what stands there was made before the reset, and audits begin behind it.
fn output_ends(site: &Site) -> anyhow::Result<Vec<(TopicPartition, Position)>> {
    let tenant = &site.tenant;
    let results = tenant.alerts.iter().map(|alert| &alert.topic).chain(tenant.windows.iter().map(|window| &window.topic)).cloned();
    let names: Vec<Arc<str>> = results.chain([tenant.dead_letters_topic(), tenant.ledger_topic()]).collect();
    let mut reader = site.cluster.reader()?;
    let there = site.cluster.describe(&names, WAIT).exit(Exit::Unreachable)?;
    let ends = partitions_of(&there).into_iter().map(|partition| {
        let bounds = reader.bounds(&partition, WAIT).exit(Exit::Unreachable)?;
        Ok((partition, bounds.high))
    });
    ends.collect()
}

fn changelogs(site: &Site) -> Vec<Arc<str>> {
    let of = |input: &TopicDescription| windows_over(&site.tenant, &input.name).into_iter().map(|(_, changelog, _)| changelog).collect();
    site.inputs.iter().flat_map(|input| -> Vec<Arc<str>> { of(input) }).collect()
}

/// Deletes the changelogs, waits until they are gone, and makes them again as `run` would.
fn recreate_changelogs(site: &Site, runtime: &Handle) -> anyhow::Result<()> {
    let names = changelogs(site);
    removal::delete_topics(site, &names, runtime).context("nothing but the state folder was moved; give the command again")?;
    let inputs: HashMap<Arc<str>, TopicDescription> = site.inputs.iter().map(|topic| (topic.name.clone(), topic.clone())).collect();
    let wanted = own_topics(&site.tenant, &inputs, site.config.engine.ledger);
    create_missing(&*site.cluster, &*site.clock, inputs, wanted).context("failed to create the changelogs; give the command again")?;
    Ok(())
}

/// The first record of every changelog partition: its input is at this position, and its windows are empty.
fn progress(site: &Site, positions: &[(TopicPartition, Position)]) -> Vec<Outgoing> {
    let mut records = Vec::new();
    for (partition, position) in positions {
        let Some(input) = site.inputs.iter().find(|input| input.name == partition.topic) else { continue };
        for (_, changelog, identity) in windows_over(&site.tenant, &input.name) {
            let logged = LoggedProgress {
                mark: (*position).into(),
                stream_time_us: None,
                swept: Swept::default(),
                identity: identity.recorded(),
                input_id: Some(input.id.0.to_string()),
                whole_from: 0,
            };
            records.push(progress_record(&TopicPartition::new(changelog, partition.partition), &logged, site.clock.wall_ms()));
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_partitions_are_shown() {
        let positions = parsed("in/0=5, in/1=7").expect("readable");

        assert_eq!(positions.get(&TopicPartition::new("in", 1).to_string()), Some(&Position(7)));
        assert!(parsed("in/0").is_err());
        assert!(parsed("in/0=x").is_err());
    }
}
