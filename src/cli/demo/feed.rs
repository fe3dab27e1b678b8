//! What the demonstration sends: the sample file once, then a fleet on each input topic, a few records wrong on purpose.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::Args;
use crate::avro::SchemaId;
use crate::avro::registry::Registry;
use crate::cli::topics::create_missing;
use crate::config::Config;
use crate::emulator::{CsvSettings, Emulation, Extent, FleetSettings, Report, Surroundings, Wrong, run_all};
use crate::kafka::Settings;
use crate::tenant::Tenant;

/// Partitions of each input topic.
const PARTITIONS: i32 = 4;

/// Ready to send.
pub struct Clients {
    sample: Emulation,
    fleets: Vec<Emulation>,
    schema_ids: Vec<SchemaId>,
}

/// Registers the input schemas, creates the input topics, and prepares one client for each.
pub fn prepare(args: &Args, config: &Config, tenant: &Tenant, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Clients> {
    let registry = Registry::new(&config.registry)?;
    let topics: Vec<Arc<str>> = tenant.input_topics().cloned().collect();
    create_missing(config, runtime.handle(), &topics, PARTITIONS)?;
    let (mut fleets, mut schema_ids) = (Vec::new(), Vec::new());
    for (number, topic) in topics.iter().enumerate() {
        let file = args.schemas.join(format!("{topic}-value.avsc"));
        let schema = std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let id = runtime.block_on(registry.register(&format!("{topic}-value"), &schema))?;
        println!("  {topic}: {PARTITIONS} partitions, schema id {id}");
        schema_ids.push(id);
        fleets.push(fleet(number, topic, schema, args));
    }
    let first = fleets.first().context("the tenant has no input topic")?;
    let sample = Emulation {
        client: "sample".into(),
        csv: Some(CsvSettings { file: args.sample.clone(), device: "C2:9A:9F:E5:58:27".into(), is_repeated: false, keeps_times: false }),
        extent: Extent::Endless,
        rate: None,
        wrong: BTreeMap::new(),
        ..first.clone()
    };
    Ok(Clients { sample, fleets, schema_ids })
}

fn fleet(number: usize, topic: &str, schema: String, args: &Args) -> Emulation {
    Emulation {
        client: format!("client-{}", number + 1),
        topic: topic.to_owned(),
        schema,
        seed: number as u64 + 1,
        // Every device reports each five seconds, as the zoo's tags do: event time keeps pace with the clock.
        fleet: FleetSettings { devices: args.rate.saturating_mul(5).max(1), ..FleetSettings::default() },
        extent: Extent::For(Duration::from_secs(args.seconds)),
        rate: NonZeroU32::new(args.rate),
        wrong: Wrong::ALL.into_iter().map(|kind| (kind, args.wrong / Wrong::ALL.len() as f64)).collect(),
        ..Emulation::default()
    }
}

impl Clients {
    /// Sends the sample, then all fleets at once.
    pub fn send(self, kafka: &Settings) -> anyhow::Result<Report> {
        let mut report = self.sample.run(kafka, self.schema_ids[0])?;
        let fleets: Vec<(Emulation, SchemaId)> = self.fleets.into_iter().zip(self.schema_ids).collect();
        report.clients.extend(run_all(&fleets, &Surroundings::quiet(), kafka)?.clients);
        Ok(report)
    }
}
