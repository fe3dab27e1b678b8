//! Tests without a network: the house's rules, and the engine as a pure function of its input.

mod batching;
mod cases;
mod clock_jumps;
mod extremes;
mod harness;
mod kept;
mod licences;
mod restore;
mod rig;
mod sim;
mod tidy;
mod windows;
