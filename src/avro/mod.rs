//! Avro bytes ↔ columns: frame, inspect and decode what tenants' producers wrote; encode what Testudo writes. Records in other
//! formats become Avro first ([`foreign`]).
//!
//! Reading order is a record's: its frame names the writer schema; the gate has judged that schema; the inspector walks the
//! datum within bounds, so that nothing after it can fail on content; the decoder resolves datums to the reader's columns.

pub mod frame;
pub mod schema;

pub mod lenient;
pub mod linked;
mod names;

pub mod limits;

mod wire;

pub mod foreign;

pub mod inspect;
pub mod resolve;

mod blob;
mod cell;
mod column_form;
mod default_value;
mod oracle;
mod through_arrow;

pub mod decode;
pub mod encode;
pub mod gate;
pub mod guid;
pub mod registry;
pub mod settings;

#[cfg(test)]
mod cases_tests;
#[cfg(test)]
mod property_tests;

pub use decode::{DecodeFault, Decoded, Decoder, Path};
pub use encode::Encoder;
pub use foreign::{Derived, Reference, SchemaKind, Transcode, TranscodeFault};
pub use frame::{FrameFault, SchemaGuid, SchemaId, SchemaName};
pub use gate::{Accepted, Arbiter, Gate, Ruling, Verdict};
pub use guid::GuidAnswer;
pub use inspect::{DatumFault, Inspector};
pub use limits::{DatumLimits, SchemaLimits};
pub use resolve::check_readable;
pub use schema::{ReaderSchema, SchemaFault, parse_writer};
