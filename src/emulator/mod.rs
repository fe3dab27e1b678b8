//! Tenant data sources for demos, tests and load: a CSV file replayed, or a seeded fleet made up from nothing but an Avro schema.
//!
//! The same emulation gives the same bytes: everything below [`send`] is a pure function of its settings.

pub mod emulation;

pub mod stream;

pub mod csv;
pub mod fleet;

pub mod json;
pub mod protobuf;
pub mod wrong;

pub mod shape;

pub mod event_time;
pub mod maker;
pub mod ranges;

pub mod pace;
pub mod send;

pub mod error;
pub mod report;

pub use self::csv::CsvSettings;
pub use emulation::{Emulation, Extent, Framing, Surroundings, run_all};
pub use error::Error;
pub use fleet::FleetSettings;
pub use report::{ClientReport, Report};
pub use stream::Message;
pub use wrong::Wrong;
