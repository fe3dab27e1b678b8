//! `testudo skip`: leaves records of one input partition out that nobody can read, such as a batch whose checksum fails.
//!
//! Group and changelogs move in one transaction, with the record of who did it, so that the state stays what it was and everything
//! still agrees (EOS-9): the next start finds its state behind and reads the new position from the changelog.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use serde_json::json;

use super::exit::{Exit, WithExit};
use super::operator::{Site, WAIT, confirm};
use super::run::load;
use crate::config::Config;
use crate::engine::standstill::{Standstill, StandstillFault, last_logged, progress_record, windows_over};
use crate::kafka::{Broker, Mark, Outgoing, Position, TopicPartition, TopicReader};
use crate::store::{LoggedProgress, Swept};
use crate::tenant::Generation;

const EXAMPLES: &str = "\
Example:
  testudo skip tenants/zoo.toml stream-topic-1/3 --to 4712     The record at 4711 cannot be read: go on behind it

Stop all instances of the tenant first. What is left out is in no result; who did it stands on the tenant's events topic.";

/// Flags of `testudo skip`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The tenant's file.
    tenant: PathBuf,
    /// The input partition, as TOPIC/PARTITION.
    partition: String,
    /// The offset to go on with.
    #[arg(long, value_name = "OFFSET")]
    to: i64,
    /// Of a generation that is being rebuilt: its number.
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u32>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Shows what would be left out, asks, moves.
pub fn run(args: &Args, mut config: Config) -> anyhow::Result<()> {
    config.tenants = vec![args.tenant.clone()];
    let tenant = load(&config)?.remove(0);
    if let Some(number) = args.generation {
        tenant.generation.get_or_init(|| Generation { number, ..Generation::first() });
    }
    let runtime = super::runtime(1)?;
    let site = Site::new(config, tenant, runtime.handle())?;
    match args.generation {
        None => site.must_be_settled()?,
        Some(number) => site.must_be_building(number)?,
    }
    site.must_stand_still()?;
    let old = site.positions()?;
    let found = old.iter().find(|(partition, _)| partition.to_string() == args.partition);
    let Some((partition, committed)) = found else {
        return Err(anyhow!("{} is no input partition of tenant {}", args.partition, site.tenant.name)).exit(Exit::Usage);
    };
    let mut reader = site.cluster.reader()?;
    let bounds = reader.bounds(partition, WAIT).exit(Exit::Unreachable)?;
    let (from, to) = (committed.unwrap_or(bounds.low), Position(args.to));
    if to <= from || to > bounds.high {
        return Err(anyhow!(
            "{partition} stands at {from} and ends at {}: --to has to be one of {} to {}",
            bounds.high,
            from.0 + 1,
            bounds.high
        ))
        .exit(Exit::Usage);
    }
    if args.generation.is_some() {
        must_follow(&site, partition, to)?;
    }
    let logged = logged(&site, &mut reader, partition, *committed)?;
    println!("tenant {}, {partition}: offsets {from} to {} are left out, the tenant goes on with {to}", site.tenant.name, to.0 - 1);
    confirm(&site.tenant, args.yes)?;
    let standstill = Standstill::enter(site.cluster.clone(), site.clock.clone(), &site.tenant, &site.inputs, site.join_wait())
        .exit_by(|fault| if matches!(fault, StandstillFault::Busy { .. }) { Exit::Failure } else { Exit::Unreachable })?;
    if standstill.positions().get(partition) != Some(committed) {
        bail!("nothing was done: the group has moved meanwhile; look again");
    }
    let now_ms = site.clock.wall_ms();
    let moved = |(changelog, logged): (TopicPartition, LoggedProgress)| {
        progress_record(&changelog, &LoggedProgress { mark: to.into(), ..logged }, now_ms)
    };
    let generation = site.tenant.generation().number;
    let mut records: Vec<Outgoing> = logged.into_iter().map(moved).collect();
    records.push(site.event(
        "skip",
        json!({ "partition": args.partition, "from": from.0, "to": to.0, "generation": generation, "aside": args.generation.is_some() }),
    ));
    standstill
        .relocate(&format!("{}-operator", site.tenant.name), site.config.engine.transaction_timeout(), &records, &[(partition.clone(), to)])
        .context("nothing was moved")
        .exit(Exit::Unreachable)?;
    println!("done; start the tenant");
    Ok(())
}

/// A generation that is being rebuilt goes no further than the one that counts: what lies behind was let out by nobody yet.
fn must_follow(site: &Site, partition: &TopicPartition, to: Position) -> anyhow::Result<()> {
    let group = site.standing.generation().own_name(&site.tenant.name);
    match site.positions_of(&group, &site.inputs)?.get(partition).copied().flatten() {
        Some(stands_at) if stands_at >= to => Ok(()),
        stands_at => {
            let stands_at = stands_at.map_or_else(|| "nowhere yet".into(), |position| position.to_string());
            Err(anyhow!("generation {} stands at {stands_at} in {partition}: it has to be skipped there first", site.standing.current))
                .exit(Exit::Usage)
        }
    }
}

/// The last progress in each of the partition's changelogs, which has to be the group's.
fn logged(
    site: &Site,
    reader: &mut dyn TopicReader,
    partition: &TopicPartition,
    committed: Option<Position>,
) -> anyhow::Result<Vec<(TopicPartition, LoggedProgress)>> {
    let input_id = site.inputs.iter().find(|input| input.name == partition.topic).map(|input| input.id.0.to_string());
    let mut all = Vec::new();
    for (window, changelog, identity) in windows_over(&site.tenant, &partition.topic) {
        let changelog = TopicPartition::new(changelog, partition.partition);
        let last = last_logged(reader, &site.clock, &changelog).with_context(|| format!("failed to read {changelog}"))?;
        let stands_at = last.as_ref().map(|logged| logged.mark.position);
        if stands_at != committed {
            let shown = |position: Option<Position>| position.map_or_else(|| "no position".into(), |position| position.to_string());
            return Err(anyhow!(
                "{changelog} stands at {}, the group at {}: mend that first, `testudo run` says how (window {})",
                shown(stands_at),
                shown(committed),
                window.name
            ))
            .exit(Exit::Incompatible);
        }
        let nothing = LoggedProgress {
            mark: Mark::START,
            stream_time_us: None,
            swept: Swept::default(),
            identity: identity.fingerprint(),
            input_id: input_id.clone(),
            whole_from: 0,
        };
        all.push((changelog, last.unwrap_or(nothing)));
    }
    if let Some([(one, before), (other, after)]) = all.array_windows().find(|[(_, one), (_, other)]| one.mark != other.mark) {
        return Err(anyhow!("{one} stands at {}, {other} at {}: mend that first, `testudo run` says how", before.mark, after.mark))
            .exit(Exit::Incompatible);
    }
    Ok(all)
}
