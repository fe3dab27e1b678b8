//! Named crash points for failure-injection tests; no code without the feature `failpoints`.
//!
//! A point is set from outside with `FAILPOINTS="commit.sent=panic"`; `commit.sent=1*off->abort` style actions follow
//! the `fail` crate. The action `return` at a Testudo point ends the process at once, like `kill -9`.

/// Passes the named point; with the feature on, a configured `return` action kills the process without clean-up.
#[inline]
pub fn at(_name: &str) {
    #[cfg(feature = "failpoints")]
    fail::eval(_name, |_| std::process::abort());
}

/// Reads `FAILPOINTS` once at start.
pub fn setup() {
    #[cfg(feature = "failpoints")]
    std::mem::forget(fail::FailScenario::setup());
}
