//! The program: parse the command line, run the command, turn its end into an exit code.

use std::process::ExitCode;

use clap::Parser;
use testudo::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
