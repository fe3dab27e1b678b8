//! What the audit says: one row for each kind of effect, and the first discrepancies with their places.

use std::fmt;

use serde::Serialize;

use super::facts::Counts;

/// What is wrong with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It should be there and is not.
    Missing,
    /// It is there and nothing calls for it.
    Extra,
    /// It is there and says something else.
    Different,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Discrepancy {
    /// The row it belongs to, such as `window zoo_analytics`.
    pub row: String,
    /// What is wrong.
    pub kind: Kind,
    /// Where: coordinates of input, output, window or document.
    pub at: String,
    /// What was expected and found, for people.
    pub detail: String,
}

/// Counts of one kind of effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What is counted, such as `alert battery_low`.
    pub what: String,
    /// How many there should be.
    pub expected: u64,
    /// How many there are.
    pub found: u64,
    /// How many lack.
    pub missing: u64,
    /// How many there are too many.
    pub extra: u64,
    /// How many say something else.
    pub different: u64,
    /// How many differ in one of these ways in windows whose state was lost with an operator's consent; not among the others.
    pub accepted: u64,
}

/// The audit's result.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// One row for each kind of effect.
    pub rows: Vec<Row>,
    /// The first discrepancies, at most as many as were asked for.
    pub discrepancies: Vec<Discrepancy>,
    /// The first differences in windows whose state was lost with an operator's consent.
    pub accepted: Vec<Discrepancy>,
    /// What operators did: who, when, where.
    pub deeds: Vec<String>,
    /// What was not audited, or taken on trust; a report with warnings is not a proof.
    pub warnings: Vec<String>,
    /// What is as it should be and may still surprise.
    pub notes: Vec<String>,
    /// How much was looked at.
    pub counts: Counts,
    #[serde(skip)]
    first: usize,
    #[serde(skip)]
    is_accepted: bool,
}

impl Report {
    /// An empty report that keeps the `first` discrepancies.
    pub fn new(first: usize, counts: Counts) -> Self {
        Self { first, counts, ..Self::default() }
    }

    /// Whether everything is as it should be. Warnings do not count: look at [`Report::warnings`] too.
    pub fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| row.missing + row.extra + row.different == 0)
    }

    /// Begins a row; the following [`Report::wrong`] belong to it.
    pub(super) fn row(&mut self, what: impl Into<String>, expected: usize, found: usize) {
        self.rows.push(Row { what: what.into(), expected: expected as u64, found: found as u64, ..Row::default() });
    }

    /// From now on discrepancies are those that somebody accepted, or not.
    pub(super) fn accept(&mut self, is_accepted: bool) {
        self.is_accepted = is_accepted;
    }

    /// Notes a discrepancy in the last row.
    pub(super) fn wrong(&mut self, kind: Kind, at: impl fmt::Display, detail: impl fmt::Display) {
        let Some(row) = self.rows.last_mut() else { return };
        let first = match (self.is_accepted, kind) {
            (true, _) => {
                row.accepted += 1;
                &mut self.accepted
            }
            (false, kind) => {
                match kind {
                    Kind::Missing => row.missing += 1,
                    Kind::Extra => row.extra += 1,
                    Kind::Different => row.different += 1,
                }
                &mut self.discrepancies
            }
        };
        if first.len() < self.first {
            first.push(Discrepancy { row: row.what.clone(), kind, at: at.to_string(), detail: detail.to_string() });
        }
    }

    /// The report as pretty JSON.
    pub fn json(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["clean"] = self.is_clean().into();
        format!("{value:#}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0).max(8);
        let Counts { records, admitted, tombstones, other_records, dropped, skipped, refused } = self.counts;
        write!(f, "{records} input records up to the committed positions: {admitted} admitted, {refused} refused")?;
        match dropped {
            0 => write!(f, ", {tombstones} tombstones")?,
            dropped => write!(f, ", {dropped} dropped by rule")?,
        }
        for (count, what) in [(other_records, "of other record types"), (skipped, "offsets skipped by operators")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        writeln!(f, "\n")?;
        writeln!(f, "{:width$}  {:>12}  {:>12}  {:>9}  {:>9}  {:>9}", "", "expected", "found", "missing", "extra", "different")?;
        for row in &self.rows {
            let Row { what, expected, found, missing, extra, different, accepted } = row;
            write!(f, "{what:width$}  {expected:>12}  {found:>12}  {missing:>9}  {extra:>9}  {different:>9}")?;
            match accepted {
                0 => writeln!(f)?,
                accepted => writeln!(f, "  {accepted} accepted")?,
            }
        }
        let total = |of: fn(&Row) -> u64| self.rows.iter().map(of).sum::<u64>();
        let (wrong, accepted) = (total(|row| row.missing + row.extra + row.different), total(|row| row.accepted));
        let lists = [
            (wrong, "discrepancies", &self.discrepancies),
            (accepted, "differences in windows whose state was lost, as an operator accepted", &self.accepted),
        ];
        for (total, what, first) in lists {
            if !first.is_empty() {
                writeln!(f, "\nfirst {} of {total} {what}:", first.len())?;
            }
            for Discrepancy { row, kind, at, detail } in first {
                writeln!(f, "  {:<9}  {row}  {at}  {detail}", format!("{kind:?}").to_lowercase())?;
            }
        }
        for deed in &self.deeds {
            writeln!(f, "operator: {deed}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "WARNING: {warning}")?;
        }
        match (self.is_clean(), self.warnings.is_empty()) {
            (true, _) if accepted > 0 => writeln!(f, "\nclean but for {accepted} differences that an operator accepted"),
            (true, true) => writeln!(f, "\nclean: every effect is there exactly once"),
            (true, false) => writeln!(f, "\nclean as far as it was audited: see the warnings"),
            (false, _) => writeln!(f, "\nNOT CLEAN"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_everything_and_shows_the_first() {
        let mut report = Report::new(1, Counts::default());
        report.row("alert battery_low", 2, 1);
        report.wrong(Kind::Missing, "in/0@1", "no such record");
        report.wrong(Kind::Missing, "in/0@2", "no such record");

        let text = report.to_string();

        assert!(!report.is_clean());
        assert!(text.contains("first 1 of 2 discrepancies") && text.contains("in/0@1") && !text.contains("in/0@2"), "{text}");
        assert!(text.contains("NOT CLEAN"), "{text}");
        assert!(report.json().contains("\"clean\": false"), "{}", report.json());
    }

    #[test]
    fn warnings_are_no_discrepancies_but_are_said() {
        let mut report = Report::new(20, Counts::default());
        report.warnings.push("window w: not audited: aggregate approx_distinct(x)".into());

        assert!(report.is_clean());
        assert!(report.to_string().contains("WARNING") && report.to_string().contains("see the warnings"));
    }
}
