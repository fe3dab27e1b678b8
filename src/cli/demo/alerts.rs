//! Reads the alerts as a tenant would, read-committed, and notes how old each is when it becomes visible.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::ensure;
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;

use crate::avro::frame;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::engine::branch::alert::alert_schema;
use crate::engine::job::output_avro;
use crate::tenant::{Alert, Tenant};

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
    let schemas: HashMap<String, Schema> =
        tenant.alerts.iter().map(|alert| Ok((alert.topic.to_string(), schema_of(tenant, alert)?))).collect::<anyhow::Result<_>>()?;
    ensure!(!schemas.is_empty(), "tenant {} has no alert to watch", tenant.name);
    let mut client = config.kafka.client("testudo-demo");
    client.set("group.id", "testudo-demo-alerts").set("isolation.level", "read_committed").set("enable.auto.commit", "false");
    client.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "5").set("topic.metadata.refresh.interval.ms", "500");
    client.set("allow.auto.create.topics", "false");
    let consumer: BaseConsumer = client.create()?;
    consumer.subscribe(&schemas.keys().map(String::as_str).collect::<Vec<_>>())?;
    Ok(thread::Builder::new().name("alerts".into()).spawn(move || read(&consumer, &schemas, &stop))?)
}

/// The schema that an alert's records are written with.
fn schema_of(tenant: &Tenant, alert: &Alert) -> anyhow::Result<Schema> {
    Ok(Schema::parse_str(&output_avro(tenant, &alert.name, &alert_schema(&tenant.sources[alert.source]))?)?)
}

fn read(consumer: &BaseConsumer, schemas: &HashMap<String, Schema>, stop: &AtomicBool) -> anyhow::Result<Seen> {
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
            && let Some(schema) = schemas.get(message.topic())
        {
            let value = GenericDatumReader::builder(schema).build()?.read_value(&mut datum)?;
            let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
            seen.samples.push(format!("{key}  {}", super::show::avro_line(&value)));
        }
    }
    Ok(seen)
}
