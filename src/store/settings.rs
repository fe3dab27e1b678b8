//! Where state lives and how much memory it may use.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[store]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Folder of all tenants' state; one folder per tenant below it.
    pub dir: PathBuf,
    /// Memory for blocks read from disk, in MiB, shared by all tenants.
    pub block_cache_mib: usize,
    /// Memory for writes not yet on disk, in MiB, shared by all tenants.
    pub write_buffer_mib: usize,
    /// Memory for states written of late, in MiB, shared by all tenants: what it holds is not read from disk.
    pub recent_mib: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dir: PathBuf::from("testudo-state"), block_cache_mib: 32, write_buffer_mib: 16, recent_mib: 32 }
    }
}
