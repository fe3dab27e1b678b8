//! The engine: read top to bottom, follow one record from the slice to the committed store.
//!
//! A worker polls slices; [`admit`] makes rows of records; [`branch`] makes results of rows; [`epoch`] holds what they will make
//! true; [`commit`] makes it true. [`restore`] brings a partition's state to where the group stands before any of that begins.
//! Broker, clock and store are reached through ports alone ([`crate::kafka::port`], [`crate::clock`], [`crate::store::port`]).

pub mod settings;
pub mod staging;

pub mod admit;
pub mod rejection;

pub mod branch;

pub mod epoch;
pub mod processor;

pub mod claims;
pub mod decision;
pub mod restore;

pub mod deeds;
pub mod generation;
pub mod job;
pub mod publish;
pub mod standstill;
pub mod status;
pub mod turn;

mod assignment;
pub mod commit;
mod held;
mod losses;
mod ownership;
mod sealing;
mod sweeping;
pub mod worker;

pub mod supervisor;

pub use settings::Settings;
