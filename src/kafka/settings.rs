//! How to reach the broker: the few settings Testudo names, and any librdkafka property passed through.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

/// `[kafka]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub bootstrap: String,
    /// Any librdkafka property for every client, such as `security.protocol`.
    pub properties: BTreeMap<String, String>,
    /// librdkafka properties for consumers alone.
    pub consumer: BTreeMap<String, String>,
    /// librdkafka properties for producers alone.
    pub producer: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bootstrap: "localhost:9092".into(), properties: BTreeMap::new(), consumer: BTreeMap::new(), producer: BTreeMap::new() }
    }
}

/// Properties that Testudo's guarantee rests on: setting them from outside is refused.
pub const RESERVED: [&str; 9] = [
    "enable.auto.commit",
    "enable.auto.offset.store",
    "isolation.level",
    "enable.idempotence",
    "transactional.id",
    "group.id",
    "auto.offset.reset",
    "partitioner",
    "plugin.library.paths",
];

impl Settings {
    /// Names the properties that may not be set, with where they stand.
    pub fn reserved_in_use(&self) -> Vec<String> {
        let places = [("kafka.properties", &self.properties), ("kafka.consumer", &self.consumer), ("kafka.producer", &self.producer)];
        places
            .into_iter()
            .flat_map(|(place, properties)| properties.keys().map(move |key| (place, key)))
            .filter(|(_, key)| RESERVED.contains(&key.as_str()))
            .map(|(place, key)| format!("{place}.\"{key}\""))
            .collect()
    }

    /// The common part of every client's configuration.
    pub fn client(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", client_id);
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }
}
