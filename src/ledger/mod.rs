//! The ledger: one record per transaction, in that transaction, that says what went in and what came out.
//!
//! For each input partition it has the range of positions, counts and an order-free sum of the records, and below it the sums of what
//! they came to in each output partition. `testudo audit --ledger` holds topics and MongoDB against it without recomputing anything
//! (docs/adr/0014-ledger.md).
//!
//! The topic has one partition. A transaction that continues another's range begins after the other's positions are committed, so
//! its record stands behind the other's: the ledger's order is an order in which everything can have happened.

pub mod digest;
pub mod record;
pub mod writer;

pub use digest::{Hasher, Sum};
pub use record::{Range, Transaction};
pub use writer::{Author, Taken, Writer};
