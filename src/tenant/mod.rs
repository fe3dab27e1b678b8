//! What a tenant declares: the TOML file, its checks, and the compiled job.
//!
//! In reading order: a file's text becomes a tree that knows where everything stands ([`tree`], with overrides laid over it), the tree
//! becomes the raw shape ([`file`](mod@file)), and [`check`] turns that into the [`model`], compiling every expression on the way. Nothing here
//! stops at the first mistake: all of them come back at once as [`fault::Faults`].

pub mod fault;

mod located;
mod names;
mod tree;

pub mod durations;
mod section;

mod file;

pub mod columns;

pub mod aggregate;
pub mod expression;

pub mod check;
pub mod generation;
pub mod model;
pub mod places;
pub mod subject;

pub use check::{Checked, tenants};
pub use expression::Expression;
pub use fault::{Fault, Faults};
pub use generation::Generation;
pub use model::{
    Aggregate, Alert, Collection, CollectionOf, Emit, Format, GroupColumn, NonFinite, OnNewSchema, SelectColumn, Source, Tenant, Window,
};
pub use places::Places;
pub use subject::SubjectNaming;
