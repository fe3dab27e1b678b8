//! `testudo emulate`: plays tenants' data sources, one client per topic, at a rate, with a share of wrong records.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use chrono::DateTime;

use super::exit::{Exit, WithExit};
use super::read_text;
use super::topics::create_missing;
use crate::avro::registry::{Registry, RegistryFault};
use crate::avro::{SchemaGuid, SchemaId, SchemaKind};
use crate::config::Config;
use crate::emulator::json::json_schema_of;
use crate::emulator::protobuf::proto_of;
use crate::emulator::{self, CsvSettings, Emulation, Extent, FleetSettings, Framing, Report, Surroundings, Wrong, run_all};
use crate::tenant::{Format, durations};

const EXAMPLES: &str = "\
Examples:
  # Two clients for the zoo's two topics, 10,000 records each, as fast as it goes
  testudo emulate
  # 500 records a second and client for a minute, with late and wrong records, and a report
  testudo emulate --rate 500 --duration 1m --late 0.01 --wrong truncated=0.001 --wrong json=0.001 --report emulation.csv
  # Replay a CSV file again and again
  testudo emulate --topic stream-topic-1 --csv tenants/zoo-sample.csv --repeat --rate 10 --endless

Kinds of wrong records: truncated, wrong-type, json, no-magic, unknown-id, null-key, missing-field, non-finite, far-future;
all=SHARE spreads a share evenly over them.";

/// Flags of `testudo emulate`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Topic to send to; each one given gets a client of its own, with a seed of its own.
    #[arg(long = "topic", value_name = "TOPIC", default_values = ["stream-topic-1", "stream-topic-2"])]
    topics: Vec<String>,
    /// Avro schema of the values [default: `avro/TOPIC-value.avsc`]
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Field of the schema that becomes the Kafka key.
    #[arg(long, value_name = "COLUMN", default_value = "dev_id")]
    key: String,
    /// Partitions of topics that do not exist yet and are created.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Use this id instead of registering the schema.
    #[arg(long, value_name = "ID")]
    schema_id: Option<u32>,
    #[command(flatten)]
    csv: CsvArgs,
    #[command(flatten)]
    extent: ExtentArgs,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Share of wrong records of a kind, 0 to 1; can be given for several kinds.
    #[arg(long, value_name = "KIND=SHARE", value_parser = wrong)]
    wrong: Vec<(Vec<Wrong>, f64)>,
    /// Seed of the first client; the same seed sends the same bytes from the same base time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Event time of the first record, ISO 8601 or milliseconds since 1970 [default: now, or such that a flat-out run ends now]
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    base_time: Option<i64>,
    /// Header of every record.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, Vec<u8>)>,
    /// Where records name their schema: value (an id in front of it), header-id or header-guid=GUID (Confluent Platform 8).
    #[arg(long, value_name = "WHERE", default_value = "value", value_parser = framing)]
    framing: Framing,
    /// Format of the values: avro, json-schema, protobuf or json (plain, without a frame). The schema is Avro in any case.
    #[arg(long, value_name = "FORMAT", default_value = "avro", value_parser = format)]
    format: Format,
    /// Write a report; the ending says whether as .csv or as .json.
    #[arg(long = "report", value_name = "FILE")]
    reports: Vec<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Replaying a file")]
struct CsvArgs {
    /// Replay this file instead of making records up; columns are found by header name, a hyphen meaning an underscore.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Device of rows without the key column.
    #[arg(long, value_name = "ID", default_value = "C2:9A:9F:E5:58:27", requires = "csv")]
    device: String,
    /// Begin again at the file's end.
    #[arg(long, requires = "csv")]
    repeat: bool,
    /// Leave the file's times as they are instead of moving them to the base time.
    #[arg(long, requires = "csv", conflicts_with = "base_time")]
    keep_times: bool,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "How much, how fast")]
struct ExtentArgs {
    /// Records per client [default: 10000, or the whole file]
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "endless"])]
    records: Option<u64>,
    /// For how long to send, such as 90s or 10m.
    #[arg(long, value_name = "TIME", value_parser = durations::parse, conflicts_with = "endless")]
    duration: Option<Duration>,
    /// Send until interrupted.
    #[arg(long)]
    endless: bool,
    /// Records per second and client [default: as fast as it goes]
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The fleet")]
struct FleetArgs {
    /// Devices per client.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    devices: u32,
    /// Event time between two readings of a device [default: 5s; with --rate such that event time keeps up with the clock]
    #[arg(long, value_name = "TIME", value_parser = durations::parse)]
    interval: Option<Duration>,
    /// Share of readings that are out of order.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    out_of_order: f64,
    /// How far out of order at most.
    #[arg(long, value_name = "TIME", value_parser = durations::parse, default_value = "10s")]
    out_of_order_by: Duration,
    /// Share of readings that are late.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    late: f64,
    /// How late at least; at most twice that.
    #[arg(long, value_name = "TIME", value_parser = durations::parse, default_value = "5m")]
    late_by: Duration,
    /// Share of readings with a low battery.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    low_battery: f64,
}

/// Registers the schemas, sends until the end or an interrupt, reports.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let emulations = args.emulations()?;
    for emulation in &emulations {
        // What is wrong with schema, file or shares shows before anything is registered.
        let shape = emulation.shape().exit(Exit::Usage)?;
        emulation.messages(&shape, SchemaId(0)).exit(Exit::Usage)?;
    }
    let runtime = super::runtime(1)?;
    let topics: Vec<Arc<str>> = args.topics.iter().map(|topic| topic.as_str().into()).collect();
    create_missing(config, runtime.handle(), &topics, args.partitions).exit(Exit::Unreachable)?;
    let mut clients = Vec::with_capacity(emulations.len());
    for emulation in emulations {
        let id = match args.schema_id {
            Some(id) => SchemaId(id),
            None => runtime.block_on(register(&emulation, config))?,
        };
        clients.push((emulation, id));
    }
    let surroundings = Surroundings::visible();
    runtime.spawn(stop_at_interrupt(surroundings.stop.clone()));
    let report = run_all(&clients, &surroundings, &config.kafka).exit_by(|error| match error {
        emulator::Error::Broker(_) | emulator::Error::Undelivered { .. } => Exit::Unreachable,
        emulator::Error::Panicked { .. } => Exit::Failure,
        _ => Exit::Usage,
    })?;
    tell(&report, &args.reports)
}

async fn register(emulation: &Emulation, config: &Config) -> anyhow::Result<SchemaId> {
    let subject = format!("{}-value", emulation.topic);
    let registry = Registry::new(&config.registry).exit(Exit::Usage)?;
    let Some(kind) = emulation.format.schemas() else { return Ok(SchemaId::NONE) };
    let schema = match kind {
        SchemaKind::Json => {
            let shape = emulation.shape().exit(Exit::Usage)?;
            let derived = json_schema_of(&shape.schema);
            derived.ok_or_else(|| anyhow!("the schema of {subject} has a type that JSON Schema has not")).exit(Exit::Usage)?
        }
        SchemaKind::Protobuf => {
            let shape = emulation.shape().exit(Exit::Usage)?;
            proto_of(&shape.schema).ok_or_else(|| anyhow!("the schema of {subject} has a type that Protobuf has not")).exit(Exit::Usage)?
        }
        SchemaKind::Avro => emulation.schema.clone(),
    };
    let registered = registry.register_as(&subject, kind, &schema, &[]).await.exit_by(|fault| match fault {
        RegistryFault::Unauthorized(_) => Exit::Forbidden,
        RegistryFault::Refused { .. } => Exit::Incompatible,
        RegistryFault::Bad(_) => Exit::Usage,
        _ => Exit::Unreachable,
    });
    registered.with_context(|| format!("failed to register the schema of {subject}"))
}

async fn stop_at_interrupt(stop: Arc<AtomicBool>) {
    match tokio::signal::ctrl_c().await {
        Ok(()) => stop.store(true, Ordering::Relaxed),
        Err(error) => tracing::warn!(%error, "interrupts cannot be noticed"),
    }
}

fn tell(report: &Report, files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files {
        let text = if is_json(file) { report.json() } else { report.csv() };
        fs::write(file, text).with_context(|| format!("failed to write the report {}", file.display()))?;
    }
    for client in &report.clients {
        let wrong: u64 = client.wrong.values().sum();
        println!(
            "{} → {}: {} records ({wrong} wrong) in {:.2} s, {:.0} per second, {} bytes",
            client.client, client.topic, client.records, client.seconds, client.records_per_second, client.bytes
        );
    }
    let kinds: Vec<String> = report.wrong().iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    if !kinds.is_empty() {
        println!("wrong records: {}", kinds.join(", "));
    }
    Ok(())
}

fn is_json(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
}

impl Args {
    fn emulations(&self) -> anyhow::Result<Vec<Emulation>> {
        if let Some(file) = self.reports.iter().find(|file| !is_json(file) && file.extension().is_none_or(|ending| ending != "csv")) {
            return Err(anyhow!("--report {}: the name must end in .csv or .json", file.display())).exit(Exit::Usage);
        }
        let one = |(index, topic): (usize, &String)| {
            let file = self.schema.clone().unwrap_or_else(|| PathBuf::from(format!("avro/{topic}-value.avsc")));
            let schema = read_text(&file, "the schema")?;
            Ok(Emulation {
                client: format!("client-{}", index + 1),
                topic: topic.clone(),
                schema,
                key: self.key.clone(),
                seed: self.seed.wrapping_add(index as u64),
                fleet: self.fleet.settings(self.extent.rate)?,
                csv: self.csv.settings(),
                extent: self.extent.extent(self.csv.csv.is_some()),
                rate: self.extent.rate,
                base_time_ms: self.base_time,
                wrong: self.shares(),
                headers: self.headers.clone(),
                framing: self.framing,
                format: self.format,
            })
        };
        self.topics.iter().enumerate().map(one).collect()
    }

    fn shares(&self) -> BTreeMap<Wrong, f64> {
        let mut shares = BTreeMap::new();
        for (kinds, share) in &self.wrong {
            for kind in kinds {
                *shares.entry(*kind).or_default() += share / kinds.len() as f64;
            }
        }
        shares
    }
}

impl CsvArgs {
    fn settings(&self) -> Option<CsvSettings> {
        let file = self.csv.clone()?;
        Some(CsvSettings { file, device: self.device.clone(), is_repeated: self.repeat, keeps_times: self.keep_times })
    }
}

impl ExtentArgs {
    fn extent(&self, is_file: bool) -> Extent {
        match (self.records, self.duration) {
            (Some(records), _) => Extent::Records(records),
            (None, Some(duration)) => Extent::For(duration),
            (None, None) if self.endless || is_file => Extent::Endless,
            (None, None) => Extent::Records(10_000),
        }
    }
}

impl FleetArgs {
    fn settings(&self, rate: Option<NonZeroU32>) -> anyhow::Result<FleetSettings> {
        let interval_us = match (self.interval, rate) {
            (Some(interval), _) => us(interval)?,
            // Event time keeps up with the clock.
            (None, Some(rate)) => (i64::from(self.devices) * 1_000_000 / i64::from(rate.get())).max(1),
            (None, None) => FleetSettings::default().interval_us,
        };
        Ok(FleetSettings {
            devices: self.devices,
            interval_us,
            out_of_order: self.out_of_order,
            out_of_order_us: us(self.out_of_order_by)?,
            late: self.late,
            late_us: us(self.late_by)?,
            low_battery: self.low_battery,
        })
    }
}

fn us(duration: Duration) -> anyhow::Result<i64> {
    i64::try_from(duration.as_micros()).with_context(|| format!("{duration:?} is too long")).exit(Exit::Usage)
}

fn wrong(text: &str) -> anyhow::Result<(Vec<Wrong>, f64)> {
    let (kind, share) = text.split_once('=').ok_or_else(|| anyhow!("must be a kind, = and a share"))?;
    let share: f64 = share.parse().with_context(|| format!("\"{share}\" is not a share between 0 and 1"))?;
    if !(0.0..=1.0).contains(&share) {
        bail!("{share} is not a share between 0 and 1");
    }
    let kinds = if kind == "all" { Wrong::ALL.to_vec() } else { vec![kind.parse().map_err(|why: String| anyhow!(why))?] };
    Ok((kinds, share))
}

fn format(text: &str) -> anyhow::Result<Format> {
    let known = [Format::Avro, Format::JsonSchema, Format::Protobuf, Format::Json];
    known.into_iter().find(|format| format.word() == text).ok_or_else(|| {
        let words = known.map(Format::word).join(", ");
        anyhow!("must be one of {words}")
    })
}

fn framing(text: &str) -> anyhow::Result<Framing> {
    match (text, text.strip_prefix("header-guid=")) {
        ("value", _) => Ok(Framing::Value),
        ("header-id", _) => Ok(Framing::HeaderId),
        (_, Some(guid)) => {
            let guid = uuid::Uuid::parse_str(guid).with_context(|| format!("\"{guid}\" is no GUID"))?;
            Ok(Framing::HeaderGuid(SchemaGuid(guid.into_bytes())))
        }
        _ => bail!("must be value, header-id or header-guid=GUID"),
    }
}

fn time_ms(text: &str) -> anyhow::Result<i64> {
    match text.parse() {
        Ok(ms) => Ok(ms),
        Err(_) => Ok(DateTime::parse_from_rfc3339(text).with_context(|| format!("\"{text}\" is no time"))?.timestamp_millis()),
    }
}

fn header(text: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let (name, value) = text.split_once('=').ok_or_else(|| anyhow!("must be a name, = and a value"))?;
    Ok((name.to_owned(), value.as_bytes().to_vec()))
}
