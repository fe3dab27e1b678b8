//! `testudo config show`: the settings as they hold, without secrets.

use clap::Subcommand;

use crate::config::{Loaded, Notation};

/// Flags of `testudo config`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Print the merged settings; secrets are hidden.
    #[command(
        after_help = "Examples:\n  testudo config show --origin\n  TESTUDO__KAFKA__BOOTSTRAP=kafka:9092 testudo config show --output json"
    )]
    Show {
        /// Say for each setting where its value comes from.
        #[arg(long)]
        origin: bool,
        /// Notation to print in.
        #[arg(long, value_enum, default_value = "toml", value_name = "NOTATION")]
        output: Notation,
    },
}

/// Prints what `args` asks for.
pub fn run(args: &Args, loaded: &Loaded) {
    let Action::Show { origin, output } = args.action;
    print!("{}", loaded.show(output, origin));
}
