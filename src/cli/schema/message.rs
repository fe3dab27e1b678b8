//! A judgement as a compiler would tell it: which version, which field, which expression at which place of the tenant file, what would be
//! read instead, what to do.

use std::fmt::Write as _;
use std::path::{Component, PathBuf};

use super::registered::Version;
use crate::schemas::Judgement;
use crate::schemas::judge::Finding;
use crate::tenant::fault::nearest;
use crate::tenant::{OnNewSchema, Places, Source};

/// Expressions that are shown with their line; more are named.
const SHOWN_MAX: usize = 2;

/// A judged version, and what is needed to tell it.
pub(super) struct Verdict<'a> {
    pub(super) source: &'a Source,
    pub(super) version: &'a Version,
    pub(super) judgement: &'a Judgement,
}

impl Verdict<'_> {
    /// The whole message, several lines.
    pub(super) fn text(&self, places: &mut Places) -> String {
        let mut text = String::new();
        self.write(places, &mut text).expect("writing to a String does not fail");
        text
    }

    fn write(&self, places: &mut Places, text: &mut String) -> std::fmt::Result {
        let Self { judgement, version, .. } = self;
        let about = format!("subject {}, {}", version.subject, version.name());
        match (judgement.is_readable(), judgement.changes.is_empty()) {
            (true, true) => writeln!(text, "✓ {about}: read as it is written")?,
            (true, false) => writeln!(text, "~ {about}: can be read, but not everything as it is written")?,
            (false, _) => writeln!(text, "✗ {about}: cannot be read by source {}", self.source.name)?,
        }
        if let Ok(schema) = &version.schema {
            for reference in &schema.chain {
                writeln!(text, "    rests on {reference}")?;
            }
        }
        for reason in &judgement.reasons {
            self.finding(reason, "needs", places, text)?;
            writeln!(text, "      to do: {}", self.remedy(reason))?;
        }
        let mut before = "";
        for change in judgement.changes.iter().filter(|_| judgement.is_readable()) {
            // Several changes of a field have the same places.
            match change.field == before {
                true => writeln!(text, "    {}", told(change))?,
                false => self.finding(change, "sees", places, text)?,
            }
            before = &change.field;
            if let Some(hint) = self.hint(change) {
                writeln!(text, "      {hint}")?;
            }
        }
        if !judgement.is_readable() {
            writeln!(text, "    read instead: nothing; {}", self.instead())?;
        }
        Ok(())
    }

    fn finding(&self, finding: &Finding, verb: &str, places: &mut Places, text: &mut String) -> std::fmt::Result {
        writeln!(text, "    {}", told(finding))?;
        let column = finding.column.as_deref().unwrap_or_else(|| top(&finding.field));
        let mut uses = finding.used_by.iter().filter_map(|place| place.split_once(": "));
        for (key, sql) in uses.by_ref().take(SHOWN_MAX) {
            let fault = places.point(key, sql, column, format!("{verb} `{column}`"));
            for line in fault.to_string().lines() {
                writeln!(text, "      {line}")?;
            }
        }
        let more: Vec<String> = uses.map(|(key, sql)| format!("{key} ({sql})")).collect();
        match more.is_empty() {
            true => Ok(()),
            false => writeln!(text, "      and so does {}", more.join(", ")),
        }
    }

    /// The reader schema's file, without going down and up again.
    fn reader_file(&self) -> String {
        let mut path = PathBuf::new();
        for part in self.source.schema_file.components() {
            match part {
                Component::ParentDir if matches!(path.components().next_back(), Some(Component::Normal(_))) => drop(path.pop()),
                other => path.push(other),
            }
        }
        path.display().to_string()
    }

    /// What becomes of records that cannot be read.
    fn instead(&self) -> String {
        match self.source.on_new_schema {
            OnNewSchema::Compatible | OnNewSchema::Refuse => "each of its records becomes a dead letter `schema-refused`".into(),
            OnNewSchema::Hold => format!(
                "the partitions with its records wait (on_new_schema = \"hold\") until `testudo schema refuse {}`, or until it can be read",
                self.version.id.map_or_else(|| "ID".to_owned(), |id| id.to_string())
            ),
        }
    }

    fn remedy(&self, reason: &Finding) -> String {
        let file = self.reader_file();
        let field = &reason.field;
        if field.is_empty() {
            return remedy_in(&reason.text).unwrap_or("have the producers register another schema").to_owned();
        }
        if let Some(unread) = self.renamed(field) {
            return format!(
                "if `{field}` was renamed to `{unread}`: give it \"aliases\": [\"{unread}\"] in {file}; else give it a default there"
            );
        }
        match remedy_in(&reason.text) {
            Some(remedy) => format!("in {file}, {remedy}"),
            None => format!(
                "declare `{field}` in {file} as it is written and convert it in SQL, or have the producers register another version"
            ),
        }
    }

    /// A change that is perhaps a rename that nobody told the reader of.
    fn hint(&self, change: &Finding) -> Option<String> {
        if !change.text.starts_with("is not written") {
            return None;
        }
        let field = top(&change.field);
        let unread = self.renamed(field)?;
        Some(format!(
            "was it renamed to `{unread}`? then give `{field}` \"aliases\": [\"{unread}\"] in {}, and its values are read",
            self.reader_file()
        ))
    }

    /// The field that nobody reads and that is probably `field` under a new name: the only one, or the one named most like it.
    fn renamed(&self, field: &str) -> Option<&str> {
        let is_missing = |finding: &Finding| finding.field == field && is_not_written(&finding.text);
        let is_gone = self.judgement.reasons.iter().chain(&self.judgement.changes).any(is_missing);
        let unread =
            self.judgement.changes.iter().filter(|change| change.text.contains("and not read: ")).map(|change| change.field.as_str());
        let unread: Vec<&str> = unread.collect();
        match (is_gone, unread.as_slice()) {
            (false, _) | (_, []) => None,
            (_, [only]) if is_alike(only, field) => Some(*only),
            (_, several) => nearest(field, several.iter().copied()),
        }
    }
}

/// Names of which one begins with the other, or that share a word.
fn is_alike(one: &str, other: &str) -> bool {
    let words = |name: &str| name.split('_').map(str::to_lowercase).filter(|word| word.len() > 2).collect::<Vec<_>>();
    let (of_one, of_other) = (words(one), words(other));
    of_one.iter().any(|word| of_other.iter().any(|known| known.starts_with(word.as_str()) || word.starts_with(known.as_str())))
        || nearest(one, [other]).is_some()
}

fn is_not_written(text: &str) -> bool {
    text.starts_with("is not written") || text.contains("the writer schema has no such field")
}

/// The finding without what to do, which is told apart, and without its uses, which are shown.
fn told(finding: &Finding) -> String {
    let plain = Finding { used_by: Vec::new(), ..finding.clone() }.to_string();
    match remedy_in(&finding.text) {
        Some(remedy) => plain.strip_suffix(remedy).map_or(plain.clone(), |cut| cut.trim_end_matches(": ").to_owned()),
        None => plain,
    }
}

/// What a reason says is to be done: its last clause, where there is one.
fn remedy_in(text: &str) -> Option<&str> {
    const BEGINNINGS: [&str; 6] = ["add ", "make ", "declare ", "give ", "split ", "remove "];
    let (_, last) = text.rsplit_once(": ")?;
    BEGINNINGS.iter().any(|beginning| last.starts_with(beginning)).then_some(last)
}

fn top(path: &str) -> &str {
    path.split('.').next().unwrap_or_default()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
