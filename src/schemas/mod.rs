//! New schema versions, before use: judged, decided by the tenant's policy or its owner, remembered for all instances, announced.
//!
//! In reading order: [`judge`](mod@judge) says what a writer schema means for a source, [`decide`](mod@decide) what the policy says of it; the
//! topic `<tenant>-schemas` keeps [`record`]s, which [`verdicts`] folds to what holds; the [`desk`] follows and writes it for one tenant,
//! [`announce`] tells its owner, [`watch`](mod@watch) sees what is registered, and an [`office`] is all of
//! that at work. [`owner`] reads what holds and decides.

pub mod judge;

pub mod fingerprint;
pub mod record;

pub mod decide;
pub mod verdicts;

pub mod settings;

pub mod announce;
pub mod topics;

pub mod board;
pub mod desk;
pub mod owner;

mod watch;

pub mod office;

#[cfg(test)]
pub(crate) mod testing;

pub use fingerprint::policy_fingerprint;
pub use judge::{Finding, Judgement, Readability, judge, judge_fetched};
pub use office::Office;
pub use settings::Settings;
