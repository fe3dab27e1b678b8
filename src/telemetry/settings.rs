//! How much is logged, and in which form.

use serde::{Deserialize, Serialize};

/// `[log]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Least level that is logged (`error`, `warn`, `info`, `debug`, `trace`), optionally per module: `info,testudo::engine=debug`.
    pub level: String,
    /// Form of a line.
    pub format: Format,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text at a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// One line of text.
    Text,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".into(), format: Format::Auto }
    }
}
