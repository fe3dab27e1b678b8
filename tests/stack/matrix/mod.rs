//! The fault matrix: a tenant under steady load, one fault, the way back, and a judgement that knows every record.
//!
//! [`points`] and [`fault`] say what can happen, [`trial`] lets it happen to a [`rig`] ([`kill`]: its process ends; [`disturb`]: what
//! surrounds it fails; [`roles`]: which of three brokers matters), [`load`] feeds it, [`witness`] and [`history`] watch Kafka and
//! MongoDB meanwhile, [`verdict`] judges, [`scorecard`] tells. [`full`] runs everything many times (`make crash`); `../crash.rs` has the
//! short version.

pub mod points;

pub mod fault;

pub mod load;
pub mod progress;

pub mod history;
pub mod witness;

pub mod verdict;

pub mod rig;

pub mod disturb;
pub mod kill;
pub mod roles;

pub mod trial;

pub mod scorecard;

pub mod full;
