//! How to reach the broker: the few settings Testudo names, and any librdkafka property passed through.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

/// How a consumer group shares its partitions out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupProtocol {
    /// Only partitions that move are given up (KIP-429), by a member of the group.
    #[default]
    Cooperative,
    /// All partitions are given up at each change.
    Eager,
    /// The broker shares out (KIP-848, Kafka 4.0).
    Consumer,
}

/// `[kafka]` of the configuration.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub bootstrap: String,
    /// How the workers' group shares partitions out (ADR 0018).
    pub group_protocol: GroupProtocol,
    /// Any librdkafka property for every client, such as `security.protocol`.
    pub properties: BTreeMap<String, String>,
    /// librdkafka properties for consumers alone.
    pub consumer: BTreeMap<String, String>,
    /// librdkafka properties for producers alone.
    pub producer: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap: "localhost:9092".into(),
            group_protocol: GroupProtocol::default(),
            properties: BTreeMap::new(),
            consumer: BTreeMap::new(),
            producer: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for Settings {
    /// Names of properties only: their values may be secrets (C133).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |properties: &BTreeMap<String, String>| properties.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("Settings")
            .field("bootstrap", &self.bootstrap)
            .field("group_protocol", &self.group_protocol)
            .field("properties", &names(&self.properties))
            .field("consumer", &names(&self.consumer))
            .field("producer", &names(&self.producer))
            .finish()
    }
}

/// Properties that Testudo's guarantee rests on: setting them from outside is refused.
pub const RESERVED: [&str; 15] = [
    "enable.auto.commit",
    "enable.auto.offset.store",
    "isolation.level",
    "enable.idempotence",
    "transactional.id",
    "group.id",
    "auto.offset.reset",
    "partitioner",
    "partition.assignment.strategy",
    "group.protocol",
    "group.instance.id",
    "enable.partition.eof",
    "delivery.report.only.error",
    "log.connection.close",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c133_debug_names_properties_without_their_values() {
        let of = |name: &str| BTreeMap::from([(name.to_owned(), "marker".to_owned())]);
        let settings = Settings {
            properties: of("sasl.password"),
            consumer: of("ssl.key.password"),
            producer: of("sasl.oauthbearer.config"),
            ..Settings::default()
        };

        let shown = format!("{settings:?}");

        assert!(!shown.contains("marker"), "{shown}");
        assert!(["sasl.password", "ssl.key.password", "sasl.oauthbearer.config"].iter().all(|name| shown.contains(name)), "{shown}");
    }
}
