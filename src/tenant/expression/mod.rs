//! SQL expressions of a tenant file, compiled once and evaluated on batches.
//!
//! A text goes through five steps, each its own file: it is parsed and its [`names`] are looked up (here mistakes get their place in the
//! text and a suggestion); DataFusion plans it; [`literals`] are fitted to the columns that they are compared with; types are coerced
//! and constants folded; and it becomes a physical expression, an [`Expression`], with checked [`arithmetic`]. The functions that may be
//! called stand in [`functions`].
//!
//! What a text means does not depend on how records fall into batches (DET-1): a row fails exactly if it fails alone.

pub(super) mod fault;
pub(super) mod names;

pub(super) mod functions;
pub mod types;

pub(super) mod arithmetic;
mod differences;
pub(super) mod divisions;
pub(super) mod guarded;
pub(super) mod literals;

mod compiled;
mod samples;

pub(super) mod compiler;
mod decimals;

pub use compiled::{Evaluated, EvaluationFault, Expression, evaluate_physical_rows};
pub use compiler::Compiler;
pub use fault::ExpressionFault;
pub(super) use names::Scope;

#[cfg(test)]
mod meaning_tests;
#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
