//! What all cases came to: a line each in `crash.csv`, a row for each kind of fault in `docs/reliability.md`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::Failed;
use testudo::stack::versions;

use super::fault::{Fault, HITS};
use super::trial::{Case, Outcome};
use super::verdict::Verdict;

/// A case that was run.
pub struct Line {
    /// The case.
    pub case: Case,
    /// How long it took.
    pub took: Duration,
    /// What it came to, or why it did not come to its end.
    pub result: Result<Outcome, String>,
}

/// Collects lines.
pub struct Scorecard {
    csv: csv::Writer<File>,
    lines: Vec<Line>,
}

impl Line {
    /// Whether everything was as it should be.
    pub fn is_good(&self) -> bool {
        self.result.as_ref().is_ok_and(|outcome| outcome.verdict.is_clean())
    }

    /// A line of the CSV file; of what was found it has the beginning.
    fn read(record: &csv::StringRecord) -> Result<Self, Failed> {
        let field = |at: usize| record.get(at).unwrap_or_default();
        let number = |at: usize| field(at).parse::<u64>().map_err(|error| format!("column {at} of {record:?}: {error}"));
        let fault = Fault::all().into_iter().find(|fault| fault.name() == field(0)).ok_or("a fault of that name is gone")?;
        let found: Vec<String> = Some(field(14).to_owned()).filter(|finding| !finding.is_empty()).into_iter().collect();
        let result = match field(3) {
            "" => Err(found.concat()),
            _ => Ok(Outcome {
                verdict: Verdict {
                    records: number(5)?,
                    losses: number(6)?,
                    duplicates: number(7)?,
                    wrong: number(8)?,
                    dirty: number(9)?,
                    stale: number(10)?,
                    open: number(11)?,
                    findings: found,
                },
                hits: number(3)?,
                recoveries: field(12).split_whitespace().map(|ms| Ok(Duration::from_millis(ms.parse()?))).collect::<Result<_, Failed>>()?,
                instances: field(4).parse()?,
            }),
        };
        Ok(Self { case: Case { fault, seed: number(2)?, hits: HITS }, took: Duration::from_millis(number(13)?), result })
    }

    /// What was wrong; empty when nothing was.
    pub fn fault_found(&self) -> String {
        match &self.result {
            Ok(outcome) => outcome.verdict.findings.join("\n"),
            Err(failure) => failure.clone(),
        }
    }
}

impl Scorecard {
    /// A new one; its CSV file begins anew.
    pub fn begin() -> Result<Self, Failed> {
        fs::create_dir_all(folder())?;
        let mut csv = csv::Writer::from_path(csv_path())?;
        csv.write_record([
            "fault",
            "step",
            "seed",
            "hits",
            "instances",
            "records",
            "losses",
            "duplicates",
            "wrong",
            "dirty",
            "stale",
            "open",
            "recovery_ms",
            "took_ms",
            "finding",
        ])?;
        Ok(Self { csv, lines: Vec::new() })
    }

    /// Goes on where a run broke off: what its file tells counts.
    pub fn resume() -> Result<Self, Failed> {
        let told = csv::Reader::from_path(csv_path())?.records().map(|record| Line::read(&record?)).collect::<Result<Vec<_>, Failed>>()?;
        let mut scorecard = Self::begin()?;
        told.into_iter().try_for_each(|line| scorecard.add(line))?;
        Ok(scorecard)
    }

    /// The cases so far.
    pub fn cases(&self) -> impl Iterator<Item = Case> {
        self.lines.iter().map(|line| line.case)
    }

    /// Adds a line, at once in the file too.
    pub fn add(&mut self, line: Line) -> Result<(), Failed> {
        let (name, step, seed) = (line.case.fault.name(), line.case.fault.step(), line.case.seed);
        let mut fields = vec![name.to_owned(), step.to_owned(), seed.to_string()];
        match &line.result {
            Ok(Outcome { verdict, hits, recoveries, instances }) => {
                let numbers =
                    [verdict.records, verdict.losses, verdict.duplicates, verdict.wrong, verdict.dirty, verdict.stale, verdict.open];
                fields.extend([hits.to_string(), instances.to_string()]);
                fields.extend(numbers.map(|number| number.to_string()));
                fields.push(recoveries.iter().map(|recovery| recovery.as_millis().to_string()).collect::<Vec<_>>().join(" "));
            }
            Err(_) => fields.extend(std::iter::repeat_n(String::new(), 10)),
        }
        fields.push(line.took.as_millis().to_string());
        fields.push(line.fault_found().lines().next().unwrap_or_default().to_owned());
        self.csv.write_record(&fields)?;
        self.csv.flush()?;
        self.lines.push(line);
        Ok(())
    }

    /// How many cases were not as they should be.
    pub fn bad(&self) -> usize {
        self.lines.iter().filter(|line| !line.is_good()).count()
    }

    /// The table for people, after what it took and when, and what it does not hold.
    pub fn table(&self, run: &RunFacts) -> String {
        let outcomes: Vec<&Outcome> = self.lines.iter().filter_map(|line| line.result.as_ref().ok()).collect();
        let records: u64 = outcomes.iter().map(|outcome| outcome.verdict.records).sum();
        let hits: u64 = outcomes.iter().map(|outcome| outcome.hits).sum();
        let mut text = format!(
            "Written by `{}` on {}; {}. {hits} faults in {} cases over {records} records in {} min{}; {} cases bad. Seeds: {}.{}\n\n",
            run.command,
            chrono::Utc::now().format("%Y-%m-%d"),
            machine_and_versions(),
            self.lines.len(),
            run.took.as_secs().div_ceil(60),
            if run.resumed > 0 { format!(", after a run that broke off behind {} of the cases", run.resumed) } else { String::new() },
            self.bad(),
            run.seeds,
            run.missing.iter().map(|(fault, why)| format!(" Not run: {fault} ({why}).")).collect::<String>(),
        );
        text += "| fault | step | faults | cases | records | lost | double | wrong | dirty reads | stale overwrites | left open | recovery ms, median | worst | bad cases |\n";
        text += "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
        for fault in Fault::all() {
            let lines: Vec<&Line> = self.lines.iter().filter(|line| line.case.fault.name() == fault.name()).collect();
            row(&mut text, fault.name(), fault.step(), &lines);
        }
        row(&mut text, "**all**", "", &self.lines.iter().collect::<Vec<_>>());
        text += &format!(
            "\nThat these checks find what is wrong is shown by {} bugs put in on purpose (`tests/stack/planted.rs`, `tests/model/sim/planted.rs`).\n",
            testudo::planted::Bug::ALL.len()
        );
        text
    }
}

/// What the scorecard tells beside its lines.
pub struct RunFacts {
    /// What writes it again.
    pub command: String,
    /// How long it was.
    pub took: Duration,
    /// Cases of a run before that broke off.
    pub resumed: usize,
    /// The seeds of its cases.
    pub seeds: String,
    /// Kinds of fault that could not happen here, and why.
    pub missing: Vec<(&'static str, &'static str)>,
}

fn row(text: &mut String, name: &str, step: &str, lines: &[&Line]) {
    if lines.is_empty() {
        return;
    }
    let outcomes: Vec<&Outcome> = lines.iter().filter_map(|line| line.result.as_ref().ok()).collect();
    let sum = |number: fn(&Outcome) -> u64| outcomes.iter().map(|outcome| number(outcome)).sum::<u64>();
    let mut recoveries: Vec<u128> = outcomes.iter().flat_map(|outcome| &outcome.recoveries).map(Duration::as_millis).collect();
    recoveries.sort_unstable();
    let shown = |recovery: Option<&u128>| recovery.map_or_else(|| "–".to_owned(), u128::to_string);
    let written = writeln!(
        text,
        "| {name} | {step} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        sum(|outcome| outcome.hits),
        lines.len(),
        sum(|outcome| outcome.verdict.records),
        sum(|outcome| outcome.verdict.losses),
        sum(|outcome| outcome.verdict.duplicates),
        sum(|outcome| outcome.verdict.wrong),
        sum(|outcome| outcome.verdict.dirty),
        sum(|outcome| outcome.verdict.stale),
        sum(|outcome| outcome.verdict.open),
        shown(recoveries.get(recoveries.len() / 2)),
        shown(recoveries.last()),
        lines.iter().filter(|line| !line.is_good()).count(),
    );
    written.expect("a String takes everything");
}

/// Cores, processor, memory, and what ran.
pub fn machine_and_versions() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start_matches([' ', '\t', ':']).to_owned())).unwrap_or_default()
    };
    let memory_kib: u64 = field("/proc/meminfo", "MemTotal").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    format!(
        "{} cores ({}), {} GiB; Testudo {}, librdkafka {}, {} (one broker with one copy, where not said otherwise), {}, {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        field("/proc/cpuinfo", "model name"),
        memory_kib.div_ceil(1 << 20),
        env!("CARGO_PKG_VERSION"),
        rdkafka::util::get_rdkafka_version().1,
        versions::KAFKA.title,
        versions::REGISTRY.title,
        versions::MONGOD.title,
    )
}

/// Where lines, logs and (with `TESTUDO_CRASH_OUT`) sections go: that folder, or the build's.
pub fn folder() -> PathBuf {
    own_folder().unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")))
}

fn own_folder() -> Option<PathBuf> {
    std::env::var_os("TESTUDO_CRASH_OUT").map(PathBuf::from)
}

/// Where the lines go.
pub fn csv_path() -> PathBuf {
    folder().join("crash.csv")
}

/// Replaces what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in `docs/reliability.md`. With `TESTUDO_CRASH_OUT` the page
/// stays as it is, and `NAME.md` in that folder is the text.
pub fn publish(name: &str, text: &str) -> Result<(), Failed> {
    if let Some(folder) = own_folder() {
        return Ok(fs::write(folder.join(format!("{name}.md")), text)?);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
    let page = fs::read_to_string(&path)?;
    Ok(fs::write(&path, replaced(&page, name, text)?)?)
}

fn replaced(page: &str, name: &str, text: &str) -> Result<String, Failed> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let missing = || format!("the page has no place for {name}");
    let (before, rest) = page.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}
