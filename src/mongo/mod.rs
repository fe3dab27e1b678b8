//! The sink: carries committed results, alerts and admitted readings to MongoDB, where repeating changes nothing (SINK-1).
//!
//! A record's way: [`intake`] polls it from a committed topic; [`rows`] says what it becomes, [`results`] and [`readings`] decode it;
//! [`document`] makes a document of its [`column`](mod@column)s; [`statement`] guards it; [`write`](mod@write) sends it and reads the [`answer`]; then
//! [`sink`] commits the position.

pub mod settings;
pub mod status;

pub mod column;
pub mod document;

pub mod readings;
pub mod results;
pub mod rows;

pub mod answer;
pub mod statement;
pub mod write;

mod intake;
pub mod lease;
pub mod sink;
mod writing;

pub mod exchange;

pub mod check;

pub use column::{ColumnFault, Unstorable};
pub use document::{Rule, Source, Update};
pub use intake::begin_at;
pub use readings::ReadingRows;
pub use results::ResultRows;
pub use rows::{Batch, Rows, SetAside, SinkFault};
pub use settings::Settings;
pub use sink::{Sink, Surroundings, Target};
pub use status::{Health, SinkHandle};
pub use write::{Tally, Writer};
