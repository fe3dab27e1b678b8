//! How the engine cuts epochs and how long it waits.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::staging::Staging;
use super::sweeping::SWEEP_MAX;

/// `[engine]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Worker threads per tenant; 0 is the number of cores.
    pub workers: usize,
    /// An epoch is sealed when it is this old, milliseconds.
    pub commit_interval_ms: u64,
    /// The same while as many records as the epoch has still wait in the log, milliseconds: fewer, larger transactions catch up sooner.
    pub catch_up_interval_ms: u64,
    /// Shortest pause between two transactions of a worker, milliseconds: while the coordinator still writes the markers of the
    /// last one, it answers the next with CONCURRENT_TRANSACTIONS, and the client waits 20 ms before it asks again.
    pub commit_pause_ms: u64,
    /// An epoch is sealed at this many records.
    pub epoch_records_max: usize,
    /// An epoch is sealed when it holds about this many bytes: alerts, dead letters, what becomes of the windows it has touched.
    pub epoch_bytes_max: usize,
    /// At most this many records are taken by one poll.
    pub slice_records_max: usize,
    /// `transaction.timeout.ms` of the producers, milliseconds: how long a dead instance can hold others up.
    pub transaction_timeout_ms: u64,
    /// How long a stop may take before it is forced, milliseconds.
    pub shutdown_timeout_ms: u64,
    /// Most bytes of a produced record's key and value (a dead letter's value); headers come on top, `max.message.bytes` of the topics must hold both.
    pub output_bytes_max: usize,
    /// After this many fencings by a living rival within a minute the tenant stops (exit code 7).
    pub fencings_max: usize,
    /// Workers are static members of their group (KIP-345): a restarted instance has its partitions back at once; those of one that
    /// stays away go to others after the session time-out, also after a clean stop.
    pub static_membership: bool,
    /// Every transaction writes a record of itself on `<tenant>-ledger`, for `testudo audit --ledger`.
    pub ledger: bool,
    /// Windows whose changelog may be missing although their input has been read, as `tenant/window`: new ones, or ones whose loss is
    /// accepted.
    pub start_empty: Vec<String>,
    /// Who runs this process, for records of what flags allow.
    #[serde(skip)]
    pub operator: serde_json::Value,
    /// Closed windows that a small epoch sweeps, at most; what is left over is swept in the next one. Simulations have it small.
    #[serde(skip, default = "sweep_max")]
    pub sweep_max: usize,
    /// Set while a generation is being rebuilt.
    #[serde(skip)]
    pub staging: Option<Arc<Staging>>,
}

fn sweep_max() -> usize {
    SWEEP_MAX.entries
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 0,
            commit_interval_ms: 100,
            catch_up_interval_ms: 1_000,
            commit_pause_ms: 5,
            epoch_records_max: 1_000_000,
            epoch_bytes_max: 64 << 20,
            slice_records_max: 8_192,
            transaction_timeout_ms: 10_000,
            shutdown_timeout_ms: 20_000,
            output_bytes_max: 1_000_000,
            fencings_max: 5,
            static_membership: true,
            ledger: true,
            start_empty: Vec::new(),
            operator: serde_json::Value::Null,
            sweep_max: sweep_max(),
            staging: None,
        }
    }
}

impl Settings {
    /// Worker threads per tenant.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        }
    }

    /// Whether a tenant's window may go on without state that is lost.
    pub fn may_start_empty(&self, tenant: &str, window: &str) -> bool {
        self.start_empty.iter().any(|named| named.split_once('/') == Some((tenant, window)))
    }

    /// Age at which an epoch is sealed.
    pub fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_interval_ms)
    }

    /// Age at which an epoch is sealed while more than another one waits.
    pub fn catch_up_interval(&self) -> Duration {
        Duration::from_millis(self.catch_up_interval_ms)
    }

    /// Shortest pause between two transactions.
    pub fn commit_pause(&self) -> Duration {
        Duration::from_millis(self.commit_pause_ms)
    }

    /// `transaction.timeout.ms`.
    pub fn transaction_timeout(&self) -> Duration {
        Duration::from_millis(self.transaction_timeout_ms)
    }

    /// How long a stop may take.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown_timeout_ms)
    }
}
