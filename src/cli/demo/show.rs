//! What the demonstration prints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use apache_avro::types::Value;
use indicatif::ProgressBar;
use mongodb::bson::{Bson, Document, doc};
use tokio::runtime::Runtime;

use super::Outcome;
use crate::cli::drain::ends_of;
use crate::cli::service::Service;
use crate::clock::{Deadline, SystemClock};
use crate::config::Config;
use crate::engine::rejection::header;
use crate::kafka::{Broker, Cluster, Header, TopicReader};
use crate::stack::Stack;
use crate::tenant::{CollectionOf, Tenant};

/// How many window documents are shown.
const DOCUMENTS: i64 = 3;
/// Dead letters are read so many at a time, each time waited for so long, and all within this time.
const LETTERS_AT_ONCE: usize = 10_000;
const READ_WAIT: Duration = Duration::from_millis(200);
const LETTERS_WITHIN: Duration = Duration::from_secs(30);
/// How often a line is printed where there is no terminal to redraw.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A heading.
pub fn step(what: &str) {
    println!("\n▸ {what}");
}

/// Where the stack answers.
pub fn endpoints(stack: &Stack) {
    println!("  Kafka                {}", stack.bootstrap());
    println!("  schema registry      {}", stack.registry_url());
    println!("  MongoDB              {}", stack.mongo_uri());
}

/// One line of live progress: redrawn on a terminal, printed now and then elsewhere.
pub fn progress(bar: &ProgressBar, service: &Service, told: &mut Duration, now: Duration) {
    let totals = service.totals();
    let line = format!(
        "{} readings committed, {} alerts, {} window results, {} dead letters",
        totals.records, totals.alerts, totals.results, totals.dead_letters
    );
    if bar.is_hidden() && now.saturating_sub(*told) >= LINE_EVERY {
        println!("  {line}");
        *told = now;
    }
    bar.set_message(line);
    bar.tick();
}

/// What came out.
pub fn results(config: &Config, tenant: &Arc<Tenant>, outcome: &Outcome, runtime: &Runtime) -> anyhow::Result<()> {
    step("what went in");
    for client in &outcome.report.clients {
        let wrong: u64 = client.wrong.values().sum();
        println!(
            "  {:<10} {:<20} {:>8} records, {:>5} of them wrong, {:.0} records/s",
            client.client, client.topic, client.records, wrong, client.records_per_second
        );
    }
    step("alerts, as a tenant reads them");
    for alert in &outcome.alerts {
        println!("  {alert}");
    }
    latencies(&outcome.latencies_ms);
    step("window documents in MongoDB");
    for document in runtime.block_on(documents(config, tenant))? {
        println!("  {document}");
    }
    step("dead letters by reason");
    for (reason, count) in dead_letters(config, tenant, runtime)? {
        println!("  {reason:<24} {count:>8}");
    }
    Ok(())
}

fn latencies(latencies_ms: &[i64]) {
    let mut sorted = latencies_ms.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1)));
    if let (Some(p50), Some(p99)) = (at(0.5), at(0.99)) {
        println!("  {} alerts; from append of the reading to its alert visible: p50 {p50} ms, p99 {p99} ms", sorted.len());
    }
}

async fn documents(config: &Config, tenant: &Tenant) -> anyhow::Result<Vec<String>> {
    let settings = config.mongo.as_ref().context("no MongoDB is configured")?;
    let database = settings.client().await?.database(&tenant.database);
    let mut shown = Vec::new();
    for collection in tenant.collections.iter().filter(|collection| matches!(collection.of, CollectionOf::Window(_))) {
        let mut cursor =
            database.collection::<Document>(&collection.name).find(doc! {}).sort(doc! { "window_start": -1 }).limit(DOCUMENTS).await?;
        while cursor.advance().await? {
            shown.push(format!("{}: {}", collection.name, plain(&Bson::Document(cursor.deserialize_current()?))));
        }
    }
    Ok(shown)
}

fn plain(value: &Bson) -> String {
    match value {
        Bson::Document(document) => {
            let fields: Vec<String> = document.iter().map(|(name, value)| format!("{name}: {}", plain(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Bson::DateTime(time) => time.try_to_rfc3339_string().unwrap_or_else(|_| time.to_string()),
        other => other.to_string(),
    }
}

fn dead_letters(config: &Config, tenant: &Tenant, runtime: &Runtime) -> anyhow::Result<BTreeMap<String, u64>> {
    let clock = SystemClock::shared();
    let timeout = config.engine.transaction_timeout();
    let broker = Cluster::new(config.kafka.clone(), "testudo-demo", timeout, clock.clone(), runtime.handle().clone());
    let deadline = Deadline::after(&*clock, LETTERS_WITHIN);
    let mut reader = broker.reader()?;
    let mut reasons = BTreeMap::new();
    for (partition, end) in ends_of(&broker, &[tenant.dead_letters_topic()])? {
        let from = reader.bounds(&partition, deadline.left(&*clock))?.low;
        reader.start(&partition, from)?;
        loop {
            let read = reader.read(LETTERS_AT_ONCE, READ_WAIT)?;
            if let Some(run) = &read.run {
                (0..run.len()).for_each(|row| *reasons.entry(reason_of(run.headers(row))).or_default() += 1);
            }
            if read.is_at_end || read.position >= end {
                break;
            }
            ensure!(!deadline.is_over(&*clock), "{partition} did not come to its end within {} s", LETTERS_WITHIN.as_secs());
        }
    }
    Ok(reasons)
}

fn reason_of(headers: &[Header]) -> String {
    let reason = headers.iter().find(|header| header.name == header::REASON).and_then(|header| header.value.as_deref());
    reason.map_or("?".into(), String::from_utf8_lossy).into_owned()
}

/// An Avro record on one line.
pub fn avro_line(value: &Value) -> String {
    let Value::Record(fields) = value else { return format!("{value:?}") };
    let texts: Vec<String> = fields.iter().map(|(name, value)| format!("{name} {}", avro_text(value))).collect();
    texts.join(", ")
}

fn avro_text(value: &Value) -> String {
    match value {
        Value::Union(_, inner) => avro_text(inner),
        Value::Null => "null".into(),
        Value::Boolean(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Long(value) | Value::TimestampMillis(value) | Value::TimestampMicros(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::String(value) | Value::Enum(_, value) => value.clone(),
        other => format!("{other:?}"),
    }
}
