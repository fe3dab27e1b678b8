//! Tests without a network: the house's rules, and the engine as a pure function of its input.

mod batching;
mod harness;
mod licences;
mod tidy;
