//! What the demonstration prints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use apache_avro::types::Value;
use indicatif::ProgressBar;
use mongodb::bson::{Bson, Document, doc};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Outcome;
use crate::cli::service::Service;
use crate::config::Config;
use crate::engine::rejection::header;
use crate::stack::Stack;
use crate::tenant::{CollectionOf, Tenant};

/// How many window documents are shown.
const DOCUMENTS: i64 = 3;
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
pub fn results(config: &Config, tenant: &Arc<Tenant>, outcome: &Outcome, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
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
    for (reason, count) in dead_letters(config, tenant)? {
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

fn dead_letters(config: &Config, tenant: &Tenant) -> anyhow::Result<BTreeMap<String, u64>> {
    let topic = tenant.dead_letters_topic();
    let mut client = config.kafka.client("testudo-demo");
    client.set("group.id", "testudo-demo-letters").set("isolation.level", "read_committed");
    client.set("enable.partition.eof", "true").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = client.create()?;
    let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(10))?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(&topic, i32::try_from(partition)?, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut reasons, mut ended, mut silent) = (BTreeMap::new(), 0, 0);
    while ended < partitions && silent < 50 {
        match consumer.poll(Duration::from_millis(200)) {
            None => silent += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) => {
                let reason = message.headers().and_then(|headers| headers.iter().find(|header| header.key == header::REASON));
                let reason = reason.and_then(|header| header.value).map_or("?".into(), String::from_utf8_lossy);
                *reasons.entry(reason.into_owned()).or_default() += 1;
            }
        }
    }
    Ok(reasons)
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
