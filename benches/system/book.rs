//! Where results go: figures of the report, and a CSV file for each measurement, with date, machine, versions and seed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::machine::{machine_and_versions, say, today};

/// The system that is ours.
pub const OURS: &str = "testudo";

/// One number of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured, such as `throughput-narrow`.
    pub id: String,
    /// Whose it is: [`OURS`], a peer, or a ceiling.
    pub system: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// Day of the measurement, ISO 8601.
    pub date: String,
}

/// Figures and files of all measurements, those of earlier days included.
pub struct Book {
    folder: PathBuf,
    seed: u64,
    figures: Vec<Figure>,
    failures: Vec<(String, String)>,
}

impl Book {
    /// Opens the folder, with the figures that an earlier run left there.
    ///
    /// # Errors
    /// When the folder cannot be made, or its figures cannot be read.
    pub fn open(folder: &Path, seed: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(folder.join("data")).with_context(|| format!("failed to make {}", folder.join("data").display()))?;
        let mut book = Self { folder: folder.to_owned(), seed, figures: Vec::new(), failures: Vec::new() };
        for row in book.rows("figures")? {
            if let [id, system, value, unit, date] = row.as_slice() {
                let value = value.parse().with_context(|| format!("figures.csv: {id} of {system} is no number: {value}"))?;
                let (id, system, unit, date) = (id.clone(), system.clone(), unit.clone(), date.clone());
                book.figures.push(Figure { id, system, value, unit, date });
            }
        }
        Ok(book)
    }

    /// The folder of report and plots.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Notes a number, instead of an older one.
    pub fn figure(&mut self, id: &str, system: &str, value: f64, unit: &str) {
        say(&format!("    {id}, {system}: {value:.1} {unit}"));
        self.figures.retain(|known| known.id != id || known.system != system);
        self.figures.push(Figure { id: id.into(), system: system.into(), value, unit: unit.into(), date: today() });
    }

    /// Numbers whose names begin so are measured anew: what is not measured in this run, such as a peer, must not stand beside what is.
    pub fn forget(&mut self, beginnings: &[&str]) {
        self.figures.retain(|known| !beginnings.iter().any(|beginning| known.id.starts_with(beginning)));
    }

    /// A system's number.
    pub fn value(&self, id: &str, system: &str) -> Option<f64> {
        self.figures.iter().find(|known| known.id == id && known.system == system).map(|known| known.value)
    }

    /// All numbers of one kind.
    pub fn all<'b>(&'b self, id: &'b str) -> impl Iterator<Item = &'b Figure> {
        self.figures.iter().filter(move |known| known.id == id)
    }

    /// The day of the oldest and of the newest figure.
    pub fn dates(&self) -> Option<(&str, &str)> {
        let dates = || self.figures.iter().map(|figure| figure.date.as_str());
        Some((dates().min()?, dates().max()?))
    }

    /// A measurement did not come to its end.
    pub fn failed(&mut self, what: &str, error: &anyhow::Error) {
        say(&format!("FAILED {what}: {error:#}"));
        self.failures.push((what.to_owned(), format!("{error:#}")));
    }

    /// What failed in this run.
    pub fn failures(&self) -> Vec<String> {
        self.failures.iter().map(|(what, error)| format!("{what}: {error}")).collect()
    }

    /// What failed in this run, in a few words without paths, for the report.
    pub fn failed_parts(&self) -> Vec<&str> {
        self.failures.iter().map(|(what, _)| what.as_str()).collect()
    }

    /// Writes `data/<name>.csv`: two lines about the measurement, a header, rows.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn table(&self, name: &str, about: &str, header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
        let path = self.csv(name);
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        writer.write_record(header)?;
        for row in rows {
            writer.write_record(row)?;
        }
        let text = String::from_utf8(writer.into_inner().context("failed to end the table")?)?;
        let head = format!("# {about}\n# {}; seed {}; {}\n", today(), self.seed, machine_and_versions());
        fs::write(&path, head + &text).with_context(|| format!("failed to write {}", path.display()))
    }

    /// The rows of `data/<name>.csv`, without header; none when there is no such file.
    ///
    /// # Errors
    /// When the file is there and is no CSV.
    pub fn rows(&self, name: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let path = self.csv(name);
        if !path.is_file() {
            return Ok(Vec::new());
        }
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_path(&path)?;
        let rows: Result<Vec<_>, _> = reader.records().map(|row| row.map(|row| row.iter().map(str::to_owned).collect())).collect();
        rows.with_context(|| format!("failed to read {}", path.display()))
    }

    /// The second line of `data/<name>.csv`: day, seed, machine and versions.
    pub fn made(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.csv(name)).ok()?;
        Some(text.lines().nth(1)?.strip_prefix("# ")?.to_owned())
    }

    /// Writes the figures.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> anyhow::Result<()> {
        let row = |figure: &Figure| {
            let value = format!("{:.3}", figure.value);
            vec![figure.id.clone(), figure.system.clone(), value, figure.unit.clone(), figure.date.clone()]
        };
        let mut rows: Vec<Vec<String>> = self.figures.iter().map(row).collect();
        rows.sort();
        self.table("figures", "The report's numbers, each from its last measurement", &["figure", "system", "value", "unit", "date"], &rows)
    }

    fn csv(&self, name: &str) -> PathBuf {
        self.folder.join("data").join(format!("{name}.csv"))
    }
}
