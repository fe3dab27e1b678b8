//! What the service says about itself over HTTP: is it alive, is it ready, its metrics, and what it is.
//!
//! Answers only; nothing can be changed from here, and a request body is not read.

pub mod server;
pub mod settings;

mod answers;
mod guard;

pub use answers::Info;
pub use server::{Error, ServerHandle, serve};
pub use settings::Settings;
