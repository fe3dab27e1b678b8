//! How the owner is told of what should be known before it is met.

use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// `[events]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Events are posted here as JSON, beside their topic. An address like this often is a secret, so it is never shown.
    #[serde(serialize_with = "hidden", skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<SecretString>,
    /// How long one post may take, in milliseconds.
    pub webhook_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { webhook_url: None, webhook_timeout_ms: 5_000 }
    }
}

impl Settings {
    /// How long one post may take.
    pub fn webhook_timeout(&self) -> Duration {
        Duration::from_millis(self.webhook_timeout_ms.max(1))
    }
}

/// Shows that a secret is set, and nothing else of it.
fn hidden<S: serde::Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "***").serialize(serializer)
}
