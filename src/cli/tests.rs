//! Claims about the command line.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parsed(words: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("testudo").chain(words.iter().copied()))
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn settings_may_stand_before_and_after_the_command() {
    for words in [["--set", "engine.workers=2", "config", "show"], ["config", "show", "--set", "engine.workers=2"]] {
        let cli = parsed(&words).expect("parses");
        assert_eq!(cli.global.sets, ["engine.workers=2"]);
    }
}

#[test]
fn log_flags_are_settings() {
    let cli = parsed(&["--log-level", "debug", "--log-format", "json", "config", "show"]).expect("parses");

    let config = cli.global.load().expect("loads").config;

    assert_eq!(config.log.level, "debug");
    assert_eq!(config.log.format, crate::telemetry::Format::Json);
}

#[test]
fn every_command_has_help_with_a_purpose() {
    for command in Cli::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
    }
}

#[test]
fn contradicting_extents_are_refused() {
    let error = parsed(&["emulate", "--records", "5", "--duration", "1m"]).expect_err("two ends");

    assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
}

#[test]
fn a_wrong_share_or_kind_is_refused_with_what_there_is() {
    for bad in ["truncated=2", "nonsense=0.1", "truncated"] {
        assert_eq!(parsed(&["emulate", "--wrong", bad]).expect_err("refused").kind(), ErrorKind::ValueValidation, "{bad}");
    }
    let text = parsed(&["emulate", "--wrong", "nonsense=0.1"]).expect_err("refused").to_string();
    assert!(text.contains("there are truncated, wrong-type"), "{text}");
}

#[test]
fn a_usage_error_of_ours_ends_with_code_2() {
    let error = parsed(&["--set", "nonsense", "config", "show"]).expect("parses").global.load().err().expect("no =");

    assert_eq!(code_of(&error), Exit::Usage);
}
