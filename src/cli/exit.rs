//! How a command ends: one exit code per kind of failure, so that a supervisor knows whether trying again can help.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something unexpected.
    Failure = 1,
    /// The command line, the configuration or a tenant file is wrong.
    Usage = 2,
    /// A dependency could not be reached at start; trying again may help.
    Unreachable = 3,
    /// A dependency refused us: authentication or authorisation.
    Forbidden = 4,
    /// Topics or schemas do not fit what the tenant declares.
    Incompatible = 5,
    /// Local state is damaged or belongs to another history.
    Damaged = 6,
    /// Another living instance of the same name fenced us too often.
    Fenced = 7,
    /// The audit found a result that the input does not explain.
    Violation = 8,
    /// What is left waits for a person: the decision on a schema, or a way past a batch that cannot be read.
    Waiting = 9,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows its exit code; reads as its source.
#[derive(Debug)]
struct ExitError {
    code: Exit,
    source: anyhow::Error,
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

impl Error for ExitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The source's own text is this error's text already.
        self.source.source()
    }
}

/// Gives an error its exit code.
pub trait WithExit<T, E>: Sized {
    /// The same result, ending the process with the code that `code` finds for its error.
    fn exit_by(self, code: impl FnOnce(&E) -> Exit) -> anyhow::Result<T>;

    /// The same result, ending the process with `code` if it is an error.
    fn exit(self, code: Exit) -> anyhow::Result<T> {
        self.exit_by(|_| code)
    }
}

impl<T, E: Into<anyhow::Error>> WithExit<T, E> for Result<T, E> {
    fn exit_by(self, code: impl FnOnce(&E) -> Exit) -> anyhow::Result<T> {
        self.map_err(|error| ExitError { code: code(&error), source: error.into() }.into())
    }
}

/// The code that an error carries; the outermost one counts.
pub fn code_of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(|cause| cause.downcast_ref::<ExitError>()).map_or(Exit::Failure, |error| error.code)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_code_survives_context_and_the_text_is_told_once() {
        let error = Err::<(), _>(anyhow!("no answer").context("failed to reach the broker"))
            .exit(Exit::Unreachable)
            .context("failed to start tenant zoo")
            .expect_err("an error");

        assert_eq!(code_of(&error), Exit::Unreachable);
        assert_eq!(format!("{error:#}"), "failed to start tenant zoo: failed to reach the broker: no answer");
    }

    #[test]
    fn an_error_without_a_code_is_a_plain_failure() {
        assert_eq!(code_of(&anyhow!("what?")), Exit::Failure);
    }
}
