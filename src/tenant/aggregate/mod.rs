//! A window's select expressions: aggregates of records, and what is said about them when a window is reported.
//!
//! `count(*) / 60.0` is two things: an aggregate over the source's columns, kept in the window's state, and an expression over finished
//! windows, `agg0 / 60.0`. [`select`] takes the calls out of the texts, [`calls`] compiles each once. Only aggregates that resume exactly
//! from their state are compiled (DET-1); `resume_tests.rs` proves it of each.

mod calls;
mod select;

pub use select::{CompiledSelect, WINDOW_END, WINDOW_START};

#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod select_tests;
