//! How to reach the schema registry.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// `[registry]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Base URL, such as `http://localhost:8081`; several, separated by commas, are tried in order.
    pub url: String,
    /// User name for basic authentication (Confluent Cloud: the API key).
    pub username: Option<String>,
    /// Password for basic authentication (Confluent Cloud: the API secret).
    #[serde(serialize_with = "hidden")]
    pub password: Option<SecretString>,
    /// Bearer token, instead of user name and password.
    #[serde(serialize_with = "hidden")]
    pub token: Option<SecretString>,
    /// Certificates to trust beside the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take, body included, such as `5s`.
    #[serde(with = "human_duration")]
    pub request_timeout: Duration,
    /// How often the sources' subjects are looked at for new versions, in milliseconds.
    pub watch_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: "http://localhost:8081".into(),
            username: None,
            password: None,
            token: None,
            ca_file: None,
            request_timeout: Duration::from_secs(5),
            watch_ms: 5_000,
        }
    }
}

impl Settings {
    /// How often subjects are looked at.
    pub fn watch_every(&self) -> Duration {
        Duration::from_millis(self.watch_ms)
    }
}

/// Shows that a secret is set, and nothing else of it.
fn hidden<S: serde::Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "***").serialize(serializer)
}

/// Durations as people write them: `500ms`, `5s`, `2m`.
mod human_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|cause| D::Error::custom(format!("failed to read `{text}` as a duration: {cause}; write it as `5s`")))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_is_read_but_never_written_c133() {
        let settings: Settings = toml::from_str("username = 'key'\npassword = 'marker'\ntoken = 'marker'").expect("settings");

        let written = toml::to_string(&settings).expect("settings serialise");

        assert_eq!(settings.password.as_ref().map(ExposeSecret::expose_secret), Some("marker"));
        assert!(!written.contains("marker") && written.contains("***"), "{written}");
        assert!(!format!("{settings:?}").contains("marker"));
    }

    #[test]
    fn a_timeout_is_written_with_its_unit() {
        let settings: Settings = toml::from_str("request_timeout = '1500ms'").expect("settings");
        assert_eq!(settings.request_timeout, Duration::from_millis(1_500));

        let fault = toml::from_str::<Settings>("request_timeout = '5'").expect_err("no unit");

        assert!(fault.to_string().contains("write it as `5s`"), "{fault}");
    }

    #[test]
    fn an_unknown_key_is_refused_c127() {
        assert!(toml::from_str::<Settings>("pasword = 'x'").is_err());
    }
}
