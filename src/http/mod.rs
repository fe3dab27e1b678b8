//! What the service says about itself over HTTP: is it alive, is it ready, its metrics, and what it is.
//!
//! Answers only, but for one thing: an owner may decide about schemas from here ([`schemas`]). A request body is not read.

pub mod schemas;
pub mod server;
pub mod settings;

mod answers;
mod guard;

pub use answers::Info;
pub use schemas::{Decision, Owner, Refusal};
pub use server::{Error, ServerHandle, serve, serve_for};
pub use settings::Settings;
