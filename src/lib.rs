//! Testudo: exactly-once stream analytics for Kafka.
//!
//! A record's path, from the client's fetch to the committed result:
//!
//! 1. [`engine::worker`] polls a *slice*: for each partition a run of records in offset order;
//! 2. [`engine::admit`] turns runs into rows: frame, gate, inspect, decode, key, event time, stream time;
//!    whatever is refused becomes a dead letter with a reason;
//! 3. [`engine::branch`] computes alerts and windows over rows;
//! 4. [`engine::epoch`] collects everything these records will make true, as plain data;
//! 5. [`engine::commit`] makes it true in one Kafka transaction, then in one write batch of the [`store`];
//! 6. [`mongo`] carries committed results to MongoDB, where repeating changes nothing.
//!
//! Modules stand in layer order: each imports only what stands above it in this file (held by `tests/model/tidy.rs`).

pub mod clock;
pub mod failpoint;
pub mod planted;

pub mod telemetry;

pub mod kafka;

pub mod avro;

pub mod tenant;

pub mod store;

pub mod ledger;

pub mod engine;

pub mod schemas;

pub mod mongo;

pub mod audit;

pub mod http;

pub mod emulator;

pub mod stack;

pub mod config;

pub mod cli;
