//! `make bench`: what Testudo does on this machine, measured from outside with the real program on a fresh stack, beside its ceilings and,
//! where a kit is given, its peers on the same broker and input.
//!
//! Each part is a file. A part that fails is told and does not stop the others. Numbers go to CSV files, plots and a report below
//! `docs/performance`; parts that were not run keep their last figures, each with its date.

#![allow(clippy::disallowed_methods, reason = "measures by the machine's clock")]

mod book;
mod ceiling;
mod collection;
mod cost;
mod growth;
mod instructions;
mod job;
mod latency;
mod machine;
mod peers;
mod plot;
mod probe;
mod progress;
mod reading;
mod recovery;
mod report;
mod restore;
mod rig;
mod sizing;
mod stages;
mod throughput;

use std::path::PathBuf;

use anyhow::ensure;
use clap::Parser;

use book::Book;
use rig::Rig;

/// Measures Testudo; `make bench` runs it.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure [default: everything].
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Readings of the narrow input; the wide one has two fifths of it, the others less.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    records: u64,
    /// Worker threads per tenant (0: the number of cores).
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// How often a throughput is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    runs: u64,
    /// How long latency is measured.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Seed of the inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of a kit that runs peers beside us (its README says how).
    #[arg(long, value_name = "KIT")]
    peers: Option<PathBuf>,
    /// Which of the kit's peers to run.
    #[arg(long, value_delimiter = ',', default_value = "kafka-streams")]
    systems: Vec<String>,
    /// Where report, plots and CSV files go.
    #[arg(long, default_value = "docs/performance", value_name = "FOLDER")]
    out: PathBuf,
    /// Scratch folder for the stack's data and the tenants' state; removed at the end.
    #[arg(long, default_value = ".testudo/bench", value_name = "FOLDER")]
    scratch: PathBuf,
    /// The program to measure [default: the one built beside this].
    #[arg(long, default_value = env!("CARGO_BIN_EXE_testudo"), hide_default_value = true)]
    testudo: PathBuf,
    /// Cargo hands this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Readings per second, narrow and wide, beside the bare consumer and peers.
    Throughput,
    /// From the append of a reading to its alert, and to its document.
    Latency,
    /// Readings into MongoDB beside a bare bulk loader.
    Collection,
    /// Restart after `kill -9`, and restore from the changelog.
    Recovery,
    /// Curves over partitions, devices, branches, tenants.
    Growth,
    /// Requests to the broker for each commit, bytes for each key.
    Cost,
    /// Collects what `cargo bench --bench stages --bench gate` measured last.
    Stages,
    /// Counts the stages' instructions with valgrind; only when named.
    Instructions,
    /// Only writes plots and report anew from the figures that are there.
    Report,
}

/// Measures one part.
type Measure = fn(&Rig, &Args, &mut Book) -> anyhow::Result<()>;

/// All that measures.
static PARTS: [(Part, Measure); 6] = [
    (Part::Throughput, throughput::measure),
    (Part::Latency, latency::measure),
    (Part::Collection, collection::measure),
    (Part::Recovery, recovery::measure),
    (Part::Growth, growth::measure),
    (Part::Cost, cost::measure),
];

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut book = Book::open(&args.out, args.seed)?;
    let wanted: Vec<_> = PARTS.iter().filter(|(part, _)| args.wants(*part)).collect();
    if !wanted.is_empty() {
        let rig = Rig::new(&args)?;
        for (part, measure) in wanted {
            machine::say(&format!("{part:?}"));
            if let Err(error) = measure(&rig, &args, &mut book) {
                book.failed(&format!("{part:?}").to_lowercase(), &error);
            }
            book.save()?;
        }
        rig.end()?;
    }
    if args.wants(Part::Stages)
        && let Err(error) = stages::collect(&mut book)
    {
        book.failed("stages", &error);
    }
    if args.only.contains(&Part::Instructions)
        && let Err(error) = instructions::measure(&mut book)
    {
        book.failed("instructions", &error);
    }
    book.save()?;
    report::write(&book)?;
    println!("report: {}", args.out.join("report.md").display());
    let failures = book.failures();
    ensure!(failures.is_empty(), "{} measurements failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}
