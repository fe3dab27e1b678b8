//! What operators see: log lines, the catalogue of metrics, and which parts of the service are ready.

pub mod handle;
pub mod health;
pub mod logging;
pub mod metric;
pub mod settings;

pub use handle::{MongoMetrics, PartitionMetrics, RestoreMetrics, TenantMetrics, WorkerMetrics};
pub use health::{ComponentState, Health, HealthHandle};
pub use metric::{CommitOutcome, LagTo, Metrics, Phase, WriteOutcome};
pub use settings::{Format, Settings};
