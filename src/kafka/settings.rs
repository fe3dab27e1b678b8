//! How to reach the broker: the few settings Testudo names, and any librdkafka property passed through.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
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
    /// Any librdkafka property for every client, such as `security.protocol`; those of one kind hold instead of these.
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

/// How long the partitions of a dead instance wait for another one, unless a property says otherwise.
pub const SESSION: Duration = Duration::from_secs(10);

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

/// Other names that librdkafka has for properties. A client's configuration is no list: of two names of one property either might hold.
///
/// # Source
/// librdkafka 2.12.1, `rdkafka_conf.c`.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("message.send.max.retries", "retries"),
    ("compression.codec", "compression.type"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("auto.commit.enable", "enable.auto.commit"),
];

fn own_name(key: &str) -> &str {
    OTHER_NAMES.iter().find(|(other, _)| *other == key).map_or(key, |(_, own)| own)
}

fn by_own_names(properties: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    properties.iter().map(|(key, value)| (own_name(key), value.as_str()))
}

impl Settings {
    /// Every property with where it stands, by its own name.
    fn placed(&self) -> Vec<(String, &str, &str)> {
        let mut all = Vec::new();
        for (place, properties) in
            [("kafka.properties", &self.properties), ("kafka.consumer", &self.consumer), ("kafka.producer", &self.producer)]
        {
            all.extend(properties.iter().map(|(key, value)| (format!("{place}.\"{key}\""), own_name(key), value.as_str())));
        }
        all
    }

    /// Names the properties that may not be set, with where they stand.
    pub fn reserved_in_use(&self) -> Vec<String> {
        self.placed().into_iter().filter(|(_, key, _)| RESERVED.contains(key)).map(|(place, ..)| place).collect()
    }

    /// What librdkafka refuses of the properties, with where that stands. The value of one that it does not know is not repeated: under its
    /// right name it may be a secret.
    pub fn refused(&self) -> Vec<String> {
        let why = |(place, key, value): (String, &str, &str)| match ClientConfig::new().set(key, value).create_native_config() {
            Err(KafkaError::ClientConfig(_, words, ..)) => Some(format!("{place}: {words}")),
            _ => None,
        };
        self.placed().into_iter().filter_map(|property| Self::tied(&property).or_else(|| why(property))).collect()
    }

    /// What a property of a producer is tied to, where that is set elsewhere.
    fn tied((place, key, _): &(String, &str, &str)) -> Option<String> {
        let is_tied = match *key {
            "transaction.timeout.ms" | "message.timeout.ms" => true,
            "socket.timeout.ms" => place.starts_with("kafka.producer"),
            _ => false,
        };
        is_tied.then(|| format!("{place}: it follows engine.transaction_timeout_ms, set that"))
    }

    /// What is given for consumers; it holds instead of what Testudo presets.
    pub fn of_consumers(&self) -> impl Iterator<Item = (&str, &str)> {
        by_own_names(&self.properties).chain(by_own_names(&self.consumer))
    }

    /// What is given for producers; it holds instead of what Testudo presets.
    pub fn of_producers(&self) -> impl Iterator<Item = (&str, &str)> {
        by_own_names(&self.properties).chain(by_own_names(&self.producer))
    }

    /// How long a member of a group that has ended counts, where it is not the broker that decides.
    pub fn session(&self) -> Duration {
        let given = self.of_consumers().filter(|(key, _)| *key == "session.timeout.ms").last();
        let configured = given.and_then(|(_, ms)| ms.parse().ok());
        configured.map_or(SESSION, Duration::from_millis)
    }

    /// The common part of every client's configuration.
    pub fn client(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", client_id);
        for (key, value) in by_own_names(&self.properties) {
            config.set(key, value);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_the_client_does_not_know_is_named_without_its_value() {
        let consumer = BTreeMap::from([("sasl.pasword".to_owned(), "marker".to_owned()), ("check.crcs".to_owned(), "perhaps".to_owned())]);
        let properties = BTreeMap::from([("sasl.password".to_owned(), "right".to_owned())]);

        let refused = Settings { consumer, properties, ..Settings::default() }.refused();

        let is_told = |name: &str| refused.iter().any(|text| text.starts_with(&format!("kafka.consumer.\"{name}\": ")));
        assert!(refused.len() == 2 && is_told("sasl.pasword") && is_told("check.crcs"), "{refused:?}");
        assert!(!refused.concat().contains("marker"), "{refused:?}");
    }

    #[test]
    fn what_is_tied_to_another_setting_is_refused_with_its_name() {
        let of = |name: &str| BTreeMap::from([(name.to_owned(), "5000".to_owned())]);
        let refused = |properties: &str, producer: &str| {
            Settings { properties: of(properties), producer: of(producer), ..Settings::default() }.refused()
        };

        let told = |place: &str| format!("{place}: it follows engine.transaction_timeout_ms, set that");
        assert_eq!(refused("socket.timeout.ms", "socket.timeout.ms"), [told("kafka.producer.\"socket.timeout.ms\"")]);
        assert_eq!(refused("message.timeout.ms", "linger.ms"), [told("kafka.properties.\"message.timeout.ms\"")]);
        assert_eq!(refused("delivery.timeout.ms", "linger.ms"), [told("kafka.properties.\"delivery.timeout.ms\"")]);
    }

    #[test]
    fn a_property_holds_under_each_of_its_names() {
        let consumer = BTreeMap::from([("max.partition.fetch.bytes".to_owned(), "1000".to_owned())]);
        let producer = BTreeMap::from([("compression.codec".to_owned(), "zstd".to_owned())]);
        let settings = Settings { consumer, producer, ..Settings::default() };

        assert_eq!(settings.of_consumers().collect::<Vec<_>>(), [("fetch.message.max.bytes", "1000")]);
        assert_eq!(settings.of_producers().collect::<Vec<_>>(), [("compression.type", "zstd")]);
    }

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
