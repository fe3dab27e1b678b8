//! What the walk notes: a row for each topic and collection, discrepancies, and the earliest transaction that has one.

use std::fmt::Display;

use crate::audit::facts::Counts;
use crate::audit::report::{Kind, Report};

/// A row of the report, being filled.
#[derive(Debug, Default)]
struct Row {
    what: String,
    expected: u64,
    found: u64,
    wrong: Vec<(Kind, String, String)>,
    /// Discrepancies beyond those that are kept.
    more: Vec<(Kind, u64)>,
}

/// Everything noted so far.
#[derive(Debug)]
pub struct Findings {
    rows: Vec<Row>,
    first: usize,
    earliest: Option<(i64, String)>,
    /// What was not looked at.
    pub warnings: Vec<String>,
    /// What is right and may surprise.
    pub notes: Vec<String>,
    /// What operators did.
    pub deeds: Vec<String>,
    /// How much went in.
    pub counts: Counts,
}

impl Findings {
    /// Nothing noted; of each row the `first` discrepancies will be kept.
    pub fn new(first: usize) -> Self {
        Self {
            rows: Vec::new(),
            first,
            earliest: None,
            warnings: Vec::new(),
            notes: Vec::new(),
            deeds: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn row(&mut self, what: &str) -> &mut Row {
        let at = self.rows.iter().position(|row| row.what == what).unwrap_or_else(|| {
            self.rows.push(Row { what: what.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// So many things should be there, and so many are.
    pub fn count(&mut self, what: &str, expected: u64, found: u64) {
        let row = self.row(what);
        row.expected += expected;
        row.found += found;
    }

    /// Something is wrong.
    pub fn wrong(&mut self, what: &str, kind: Kind, at: impl Display, detail: impl Display) {
        let first = self.first;
        let row = self.row(what);
        if row.wrong.len() < first {
            row.wrong.push((kind, at.to_string(), detail.to_string()));
            return;
        }
        match row.more.iter_mut().find(|(more, _)| *more == kind) {
            Some((_, count)) => *count += 1,
            None => row.more.push((kind, 1)),
        }
    }

    /// Warns of something that was not looked at, once.
    pub fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Remembers the earliest transaction with a discrepancy, by its place in the ledger.
    pub fn parts_at(&mut self, ledger_offset: i64, transaction: impl Display) {
        if self.earliest.as_ref().is_none_or(|(earliest, _)| ledger_offset < *earliest) {
            self.earliest = Some((ledger_offset, transaction.to_string()));
        }
    }

    /// The report.
    pub fn report(self) -> Report {
        let mut report = Report::new(self.first, self.counts);
        for row in self.rows {
            report.row(row.what, usize::try_from(row.expected).unwrap_or(usize::MAX), usize::try_from(row.found).unwrap_or(usize::MAX));
            for (kind, at, detail) in row.wrong {
                report.wrong(kind, at, detail);
            }
            for (kind, count) in row.more {
                (0..count).for_each(|_| report.wrong(kind, "…", "more of the same kind"));
            }
        }
        report.deeds = self.deeds;
        report.notes = self.notes;
        report.notes.extend(self.earliest.map(|(_, transaction)| format!("the first discrepancy is in transaction {transaction}")));
        report.warnings = self.warnings;
        report
    }
}
