//! Reads the alerts as a tenant would, read-committed, and notes how old each is when it becomes visible.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;

use crate::avro::frame;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::tenant::Tenant;

/// How many alerts are kept to be shown.
const SAMPLES: usize = 5;

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// Age of each alert when it was read: from the append of its reading, milliseconds.
    pub latencies_ms: Vec<i64>,
    /// The first few, as text.
    pub samples: Vec<String>,
}

/// Reads until told to stop.
pub fn watch(config: &Config, tenant: &Tenant, stop: Arc<AtomicBool>) -> anyhow::Result<JoinHandle<anyhow::Result<Seen>>> {
    let topics: Vec<String> = tenant.alerts.iter().map(|alert| alert.topic.to_string()).collect();
    let schema = tenant.alerts.first().map(|alert| &tenant.sources[alert.source].reader);
    let schema = schema.map(|reader| reader.avro().clone()).context("the tenant has no alert to watch")?;
    let mut client = config.kafka.client("testudo-demo");
    client.set("group.id", "testudo-demo-alerts").set("isolation.level", "read_committed").set("enable.auto.commit", "false");
    client.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "5").set("topic.metadata.refresh.interval.ms", "500");
    client.set("allow.auto.create.topics", "false");
    let consumer: BaseConsumer = client.create()?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    consumer.subscribe(&names)?;
    Ok(thread::Builder::new().name("alerts".into()).spawn(move || read(&consumer, &schema, &stop))?)
}

fn read(consumer: &BaseConsumer, schema: &apache_avro::Schema, stop: &AtomicBool) -> anyhow::Result<Seen> {
    let clock = SystemClock::shared();
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let Some(polled) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = match polled {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "alerts not readable yet");
                continue;
            }
        };
        if let Some(appended_ms) = message.timestamp().to_millis() {
            seen.latencies_ms.push(clock.wall_ms() - appended_ms);
        }
        if seen.samples.len() < SAMPLES
            && let Some(Ok((_, mut datum))) = message.payload().map(frame::parse)
        {
            let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema).build()?;
            let value = reader.read_value(&mut datum)?;
            let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
            seen.samples.push(format!("{key}  {}", super::show::avro_line(&value)));
        }
    }
    Ok(seen)
}
