//! Instructions of a stage for each of its records, counted by valgrind: the same on a busy machine as on an idle one.
//!
//! Criterion's `--test` runs a benchmark once. What the program does without any benchmark is counted too and taken off.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::book::{Book, OURS};
use crate::machine::say;

/// Records of one run of a stage, as in `benches/stages.rs`.
const RECORDS: f64 = 8_192.0;
/// Benchmarks whose one run would count their preparation too.
const PREPARED: [&str; 3] = ["epoch/", "engine/group", "store/apply"];
const NOTHING: &str = "no stage has this name";

/// Counts every stage and writes `instructions.csv`.
///
/// # Errors
/// When valgrind or the built benchmark is missing.
pub fn measure(book: &mut Book) -> anyhow::Result<()> {
    let program = stages()?;
    let listed = Command::new(&program).args(["--bench", "--list"]).output().context("failed to list the stages")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = listed.lines().filter_map(|line| line.strip_suffix(": benchmark").or(line.strip_suffix(": bench")));
    let names: Vec<&str> = names.filter(|name| !PREPARED.iter().any(|prepared| name.starts_with(prepared))).collect();
    ensure!(!names.is_empty(), "{} lists no stages", program.display());
    book.forget(&["instructions-"]);
    let nothing = instructions(&program, NOTHING)?;
    let mut rows = Vec::new();
    for name in names {
        let per_record = (instructions(&program, name)? - nothing) / RECORDS;
        say(&format!("  {name}: {per_record:.0} instructions per record"));
        book.figure(&format!("instructions-{name}"), OURS, per_record, "instructions per record");
        rows.push(vec![name.to_owned(), format!("{per_record:.0}")]);
    }
    let about = "Instructions of a stage for each of its records, first run of a new process, counted by valgrind's callgrind";
    book.table("instructions", about, &["stage", "per_record"], &rows)
}

/// The benchmark that was built last, beside this program.
fn stages() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program stands in a folder")?;
    let is_it =
        |path: &PathBuf| path.extension().is_none() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("stages-"));
    let built = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(is_it);
    let newest = built.max_by_key(|path| path.metadata().and_then(|facts| facts.modified()).ok());
    newest.context("the stages are not built: run `cargo bench --bench stages` first")
}

fn instructions(program: &Path, stage: &str) -> anyhow::Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).args(["--bench", "--test", "--exact", stage]);
    let output = command.output().context("failed to run valgrind; install it")?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "valgrind ended with {}:\n{}", output.status, crate::job::tail(&told));
    let collected = told.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.with_context(|| format!("valgrind told no number:\n{}", crate::job::tail(&told)))
}
