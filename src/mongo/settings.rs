//! How to reach MongoDB, and how writes are bundled.

use std::time::Duration;

use mongodb::Client;
use mongodb::error::ErrorKind;
use mongodb::options::{ClientOptions, ConnectionString};
use secrecy::{ExposeSecret, SecretString};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tenant::durations;

/// Largest command that is sent on purpose. The server's bound is 16 MiB + 16 KiB for the whole command.
const BATCH_BYTES_MOST: usize = 12 << 20;

/// Most statements that a server takes in one command (`maxWriteBatchSize`).
const BATCH_STATEMENTS_MOST: usize = 100_000;

/// Longest wait for a batch to fill: documents are there that much later.
const LINGER_MOST: Duration = Duration::from_secs(60);

/// Longest wait for one attempt to write.
const WRITE_TIMEOUT_MOST: Duration = Duration::from_secs(3_600);

/// How long DNS may take to say which servers a `mongodb+srv://` name stands for.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the driver looks for a primary before it says that there is none.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// `[mongo]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Connection string, such as `mongodb://user:password@host:27017/?replicaSet=rs0`. Never shown with its password.
    #[serde(serialize_with = "without_password")]
    pub uri: SecretString,
    /// Most documents in one command, 1 to 100,000: more gain little, and are repeated together when the server fails.
    pub batch_statements_max: usize,
    /// Most bytes in one command, up to 12 MiB; a single larger document goes alone.
    pub batch_bytes_max: usize,
    /// How long a batch waits to be filled once its first record is there, such as `5ms`.
    #[serde(deserialize_with = "duration", serialize_with = "duration_text")]
    pub linger: Duration,
    /// How long one attempt to write may take before it is repeated, such as `30s`; above the 10 s that the server may wait for a majority.
    #[serde(deserialize_with = "duration", serialize_with = "duration_text")]
    pub write_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            uri: SecretString::from("mongodb://localhost:27017"),
            batch_statements_max: 2_000,
            batch_bytes_max: 8 << 20,
            linger: Duration::from_millis(5),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// What one command may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Statements.
    pub statements_max: usize,
    /// Bytes of all statements.
    pub bytes_max: usize,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    /// The connection string is not understood.
    #[error("failed to understand the connection string in mongo.uri: {0}; it has the form mongodb://user:password@host:27017/?options")]
    Uri(String),
    /// DNS does not say which servers its name stands for.
    #[error("failed to look up the servers of mongo.uri: {0}; does DNS answer, and does it know the name?")]
    LookUp(String),
}

impl Settings {
    /// What is wrong with the values; empty when nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let uri = self.uri.expose_secret();
        // As far as that can be told without DNS.
        faults.extend(ConnectionString::parse(uri).err().map(|error| client_fault(uri, &error).to_string()));
        if !(1..=BATCH_STATEMENTS_MOST).contains(&self.batch_statements_max) {
            faults.push(format!("mongo.batch_statements_max is {}, it must be 1 to {BATCH_STATEMENTS_MOST}", self.batch_statements_max));
        }
        if !(1..=BATCH_BYTES_MOST).contains(&self.batch_bytes_max) {
            faults.push(format!("mongo.batch_bytes_max is {}, it must be 1 to {BATCH_BYTES_MOST}", self.batch_bytes_max));
        }
        if self.linger > LINGER_MOST {
            faults.push(format!("mongo.linger is {}, it must be 1m at most", humantime::format_duration(self.linger)));
        }
        if self.write_timeout > WRITE_TIMEOUT_MOST {
            faults.push(format!("mongo.write_timeout is {}, it must be 1h at most", humantime::format_duration(self.write_timeout)));
        }
        if self.write_timeout < Duration::from_secs(1) {
            faults.push("mongo.write_timeout is below 1s: a loaded server could never answer in time".to_owned());
        }
        faults
    }

    /// What one command may hold.
    pub fn bounds(&self) -> Bounds {
        Bounds { statements_max: self.batch_statements_max.max(1), bytes_max: self.batch_bytes_max.clamp(1, BATCH_BYTES_MOST) }
    }

    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientFault`] when the connection string is not understood or its SRV record is not found.
    pub async fn client(&self) -> Result<Client, ClientFault> {
        let uri = self.uri.expose_secret();
        let fault = |error: mongodb::error::Error| client_fault(uri, &error);
        let mut options = match tokio::time::timeout(LOOK_UP_TIMEOUT, ClientOptions::parse(uri)).await {
            Ok(parsed) => parsed.map_err(fault)?,
            Err(_) => return Err(ClientFault::LookUp(format!("no answer within {} s", LOOK_UP_TIMEOUT.as_secs()))),
        };
        options.app_name.get_or_insert_with(|| "testudo".to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION_TIMEOUT);
        options.connect_timeout.get_or_insert(SELECTION_TIMEOUT);
        Client::with_options(options).map_err(fault)
    }

    /// `text` without the connection string's password.
    pub fn scrub(&self, text: &str) -> String {
        scrub(self.uri.expose_secret(), text)
    }
}

fn client_fault(uri: &str, error: &mongodb::error::Error) -> ClientFault {
    let words = scrub(uri, &error.kind.to_string());
    match &*error.kind {
        ErrorKind::DnsResolve { .. } => ClientFault::LookUp(words),
        _ if quotes_credentials(uri, &words) => {
            ClientFault::Uri("a part of it makes no sense; in user and password / ? # [ ] @ : and % are written percent-encoded".into())
        }
        _ => ClientFault::Uri(words),
    }
}

/// Whether words repeat a part of what may be a user's name or password, wherever a sign that stands in it has cut it.
fn quotes_credentials(uri: &str, words: &str) -> bool {
    let (_, rest) = uri.split_once("://").unwrap_or(("", uri));
    let (before, _) = rest.rsplit_once('@').or_else(|| rest.split_once('?')).unwrap_or((rest, ""));
    before.split(['/', '?', '#', '[', ']', '@', ':', '%', ',']).any(|part| part.len() > 2 && words.contains(part))
}

fn password_of(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

fn scrub(uri: &str, text: &str) -> String {
    match password_of(uri) {
        Some(password) => text.replace(password, "********"),
        None => text.to_owned(),
    }
}

/// Durations as people write them: `5ms`, `30s`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    durations::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn duration_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

fn without_password<S: Serializer>(uri: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    let uri = uri.expose_secret();
    serializer.serialize_str(&scrub(uri, uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_people_write_them() {
        let settings: Settings = toml::from_str("linger = \"20ms\"\nbatch_statements_max = 500").expect("valid settings");

        assert_eq!(settings.linger, Duration::from_millis(20));
        assert_eq!(settings.bounds(), Bounds { statements_max: 500, bytes_max: 8 << 20 });
        assert_eq!(settings.faults(), Vec::<String>::new());
        assert!(toml::from_str::<Settings>("batch = 1").is_err(), "an unknown key is refused");
    }

    #[test]
    fn bounds_that_no_server_takes_are_faults() {
        let linger = Duration::from_secs(86_400);
        let settings = Settings { batch_statements_max: 0, batch_bytes_max: 17 << 20, linger, ..Settings::default() };

        assert_eq!(settings.faults().len(), 3, "{:?}", settings.faults());
    }

    /// A name that no DNS is asked for, because a part of it is longer than any may be.
    #[tokio::test]
    async fn what_dns_does_not_say_is_no_mistake_in_the_connection_string() {
        let of = |uri: &str| Settings { uri: SecretString::from(uri), ..Settings::default() };

        let unknown = of(&format!("mongodb+srv://{}.example.org", "a".repeat(64))).client().await;
        let wrong = of("mongo://db.example.org").client().await;

        assert!(matches!(unknown, Err(ClientFault::LookUp(_))));
        assert!(matches!(wrong, Err(ClientFault::Uri(_))));
    }

    /// C133: the password is in no text that is made of settings.
    #[test]
    fn the_password_is_never_shown() {
        let settings: Settings = toml::from_str("uri = \"mongodb://zoo:s3cr3t-marker@db:27017/?replicaSet=rs0\"").expect("valid settings");

        let shown = [format!("{settings:?}"), toml::to_string(&settings).expect("serializable"), settings.scrub("bad s3cr3t-marker")];

        for text in shown {
            assert!(!text.contains("s3cr3t-marker"), "{text}");
        }
    }

    /// C133: what is no URI may still hold a password, and the driver repeats the part that it does not understand.
    #[test]
    fn a_connection_string_that_is_none_is_told_without_its_parts() {
        let told = |uri: &str| toml::from_str::<Settings>(&format!("uri = \"{uri}\"")).expect("a text").faults().join("; ");

        for uri in [
            "mongodb://zoo:s3cr3t?marker@db:27017/",
            "mongodb://zoo:s3cr3t/marker@db",
            "mongodb://zoo:s3cr3tmarker",
            "mongodb://zoo:s3%c%@db",
        ] {
            let told = told(uri);
            assert!(!told.is_empty() && !told.contains("s3c") && !told.contains("marker"), "{uri}: {told}");
        }
        assert!(
            told("mongodb://zoo:pw@db/?retryWrites=maybe").contains("retrywrites"),
            "{}",
            told("mongodb://zoo:pw@db/?retryWrites=maybe")
        );
        assert_eq!(told("mongodb://zoo:pw@db:27017/?replicaSet=rs0"), "");
    }
}
