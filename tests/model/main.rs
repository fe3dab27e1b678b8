//! Tests without a network: the house's rules, and the engine as a pure function of its input.

mod batching;
mod cases;
mod harness;
mod licences;
mod rig;
mod tidy;
mod windows;
