//! Expected against observed, one row for each kind of effect. Pure: facts in, report out.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::facts::{Expected, ExpectedLetter, ExpectedWindow, Observed, ObservedLetter, ObservedWindow, Place, StoredKey, WindowId};
use super::job::Declaration;
use super::report::{Kind, Report};
use crate::kafka::TopicPartition;

/// The reason of records whose result did not fit its topic: only the encoder knows, so it is taken on trust.
const OUTPUT_TOO_LARGE: &str = "output-too-large";

/// Compares everything that should be with everything that is; keeps the `first` discrepancies.
pub fn compare(declaration: &Declaration, expected: &Expected, observed: &Observed, first: usize) -> Report {
    let mut report = Report::new(first, expected.counts);
    report.warnings.extend(expected.unaudited.iter().chain(&observed.history.warnings).cloned());
    report.deeds = observed.history.notes();
    let mut comparison = Comparison { declaration, expected, observed, report };
    comparison.positions();
    comparison.alerts();
    comparison.windows();
    comparison.letters();
    comparison.collections();
    comparison.store();
    comparison.report
}

/// A comparison under way.
pub(super) struct Comparison<'a> {
    pub(super) declaration: &'a Declaration,
    pub(super) expected: &'a Expected,
    pub(super) observed: &'a Observed,
    pub(super) report: Report,
}

impl Comparison<'_> {
    fn positions(&mut self) {
        let positions = &self.observed.positions;
        let committed = positions.iter().filter(|position| position.committed.is_some()).count();
        self.report.row("positions", committed, committed);
        let rest = &self.observed.history;
        let windows = rest.of_windows(self.declaration.generation.number);
        for position in positions {
            match position.committed {
                Some(committed) if committed > position.end => {
                    let detail = format!("committed position {committed} is beyond the partition's end {}", position.end);
                    self.report.wrong(Kind::Different, &position.partition, detail);
                }
                Some(committed) if committed < position.start => {
                    let detail = format!("records {committed} to {} are gone before they were processed", position.start - 1);
                    self.report.wrong(Kind::Different, &position.partition, detail);
                }
                _ => {}
            }
            let asked_from = rest.input_from(&position.partition).min(windows.input_from(&position.partition));
            if position.start > asked_from && position.committed.is_some() {
                self.report.warnings.push(format!(
                    "{}: records below {} are gone, what they made cannot be recomputed",
                    position.partition, position.start
                ));
            }
        }
    }

    /// Outputs that nobody can read belong to nothing.
    fn unreadable(&mut self, row: &str) {
        for record in self.observed.unreadable.iter().filter(|record| record.row == row) {
            self.report.wrong(Kind::Extra, &record.place, &record.why);
        }
    }

    fn alerts(&mut self) {
        let nothing = HashMap::new();
        for (alert, index) in self.declaration.alerts.iter().zip(0..) {
            let Some(expected) = self.expected.alerts.get(&index) else {
                continue;
            };
            let observed = self.observed.alerts.get(&index).unwrap_or(&nothing);
            let row = format!("alert {}", alert.name);
            let count = |alerts: &HashMap<_, Vec<(u128, Place)>>| alerts.values().map(Vec::len).sum();
            self.report.row(&row, count(expected), count(observed));
            self.unreadable(&row);
            let excused = self.excused(&format!("alert.{}", alert.name));
            let mut wrong: Vec<(Kind, Place, String)> = Vec::new();
            for (identity, expected) in expected {
                let found = observed.get(identity).map_or(&[][..], Vec::as_slice);
                let (mut lacking, surplus) = unmatched(expected, found);
                lacking.retain(|place| !excused.contains(place));
                let pairs = lacking.len().min(surplus.len());
                wrong.extend(
                    lacking
                        .iter()
                        .zip(&surplus)
                        .map(|(input, output)| (Kind::Different, output.clone(), format!("does not say what input {input} calls for"))),
                );
                wrong.extend(lacking[pairs..].iter().map(|place| (Kind::Missing, place.clone(), "this input's alert is not there".into())));
                wrong.extend(
                    surplus[pairs..]
                        .iter()
                        .map(|place| (Kind::Extra, place.clone(), "more alerts of this key and timestamp than inputs".into())),
                );
            }
            let unasked = observed.iter().filter(|(identity, _)| !expected.contains_key(*identity)).flat_map(|(_, found)| found);
            wrong.extend(
                unasked.map(|(_, place)| (Kind::Extra, place.clone(), "no input calls for an alert of this key and timestamp here".into())),
            );
            self.note_all(wrong);
        }
    }

    fn note_all(&mut self, mut wrong: Vec<(Kind, Place, String)>) {
        wrong.sort_by(|left, right| left.1.cmp(&right.1));
        for (kind, place, detail) in wrong {
            self.report.wrong(kind, place, detail);
        }
    }

    /// Inputs whose result a stage reported as too large to be written.
    fn excused(&self, stage: &str) -> HashSet<Place> {
        let of_stage = self.observed.letters.iter().filter(|((_, of), _)| &**of == stage);
        of_stage
            .filter(|(_, letters)| letters.iter().any(|letter| letter.reason == OUTPUT_TOO_LARGE))
            .map(|((place, _), _)| place.clone())
            .collect()
    }

    fn windows(&mut self) {
        let unaudited = &self.expected.unaudited_stages;
        for (window, index) in self.declaration.windows.iter().zip(0..) {
            if unaudited.contains(format!("window.{}", window.name).as_str()) {
                continue;
            }
            let expected = self
                .expected
                .windows
                .iter()
                .filter(|(id, _)| id.window == index && (!window.is_final || self.expected.windows[*id].is_closed));
            let found = self.observed.windows.keys().filter(|id| id.window == index).count();
            let row = format!("window {}", window.name);
            self.report.row(&row, expected.count(), found);
            self.unreadable(&row);
            let open = self.expected.windows.iter().filter(|(id, expected)| id.window == index && !expected.is_closed).count();
            if window.is_final && open > 0 {
                // C67: silence after the last record is no fault, and says nothing by itself.
                let why = "a `final` result comes when a later record takes stream time past end and grace";
                self.report.notes.push(format!("{row}: {open} open, no result yet: {why}"));
            }
            for (id, expected) in self.expected.windows.iter().filter(|(id, _)| id.window == index) {
                self.report.accept(self.was_lost(index, &id.origin, id.start_us));
                match self.observed.windows.get(id) {
                    Some(observed) if window.is_final => final_results(&mut self.report, id, expected, observed),
                    Some(observed) => updates(&mut self.report, id, expected, observed),
                    None if window.is_final && !expected.is_closed => {}
                    None => self.report.wrong(Kind::Missing, describe(id), format!("no result; expected {}", expected.text)),
                }
            }
            for (id, observed) in
                self.observed.windows.iter().filter(|(id, _)| id.window == index && !self.expected.windows.contains_key(*id))
            {
                self.report.accept(self.was_lost(index, &id.origin, id.start_us));
                for (_, place) in &observed.results {
                    self.report.wrong(Kind::Extra, place, format!("no input falls into {}", describe(id)));
                }
            }
            self.report.accept(false);
        }
    }

    /// Whether a window had begun when its state was lost with an operator's consent.
    fn was_lost(&self, window: usize, origin: &TopicPartition, start_us: i64) -> bool {
        self.expected.lost.get(&(window, origin.clone())).is_some_and(|stream_time| start_us <= *stream_time)
    }

    /// Whether a record is taken for late only because stream time is known that was lost with a window's state.
    fn forgot_late(&self, place: &Place, stage: &str, reasons: &[&str]) -> bool {
        let window = stage.strip_prefix("window.").filter(|_| reasons == ["late"]);
        let lost_at = window.and_then(|window| self.observed.history.lost_at(window, &place.partition));
        lost_at.is_some_and(|lost_at| place.offset >= lost_at)
    }

    fn letters(&mut self) {
        let found = self.observed.letters.values().map(Vec::len).sum();
        self.report.row("dead letters", self.expected.letters.len(), found);
        self.unreadable("dead letters");
        for ((place, stage), expected) in &self.expected.letters {
            self.report.accept(self.forgot_late(place, stage, &expected.reasons));
            match self.observed.letters.get(&(place.clone(), stage.clone())).map(Vec::as_slice) {
                None | Some([]) => self.report.wrong(
                    Kind::Missing,
                    place,
                    format!("no dead letter of stage {stage}, reason {}", expected.reasons.join(" or ")),
                ),
                Some([first, more @ ..]) => {
                    if let Some(difference) = difference(stage, expected, first) {
                        self.report.wrong(Kind::Different, place, format!("dead letter {}: {difference}", first.place));
                    }
                    for letter in more {
                        self.report.wrong(Kind::Extra, place, format!("one more dead letter of stage {stage}, {}", letter.place));
                    }
                }
            }
        }
        self.report.accept(false);
        let mut trusted = 0_u64;
        for ((place, stage), letters) in self.observed.letters.iter().filter(|(id, _)| !self.expected.letters.contains_key(*id)) {
            for letter in letters {
                if self.expected.unaudited_stages.contains(stage) || letter.reason == OUTPUT_TOO_LARGE {
                    trusted += 1;
                } else {
                    self.report.wrong(
                        Kind::Extra,
                        place,
                        format!(
                            "dead letter {} of stage {stage}, reason {} for a record that is not refused there",
                            letter.place, letter.reason
                        ),
                    );
                }
            }
        }
        if trusted > 0 {
            self.report
                .warnings
                .push(format!("{trusted} dead letters are taken on trust: of stages that are not audited, or {OUTPUT_TOO_LARGE}"));
        }
    }

    /// The store holds exactly the windows that stream time has not closed, and is nowhere ahead of the group (EOS-3).
    fn store(&mut self) {
        let Some(stored) = &self.observed.stored else { return };
        let open = self.expected.windows.iter().filter(|(_, window)| !window.is_closed);
        let open: BTreeSet<StoredKey> = open
            .map(|(id, window)| StoredKey {
                window: self.declaration.windows[id.window].name.clone(),
                origin: id.origin.clone(),
                start_us: id.start_us,
                key: window.store_key.clone(),
            })
            .collect();
        let is_audited = |key: &&StoredKey| !self.expected.unaudited_stages.contains(format!("window.{}", key.window).as_str());
        let windows: BTreeSet<StoredKey> = stored.windows.iter().filter(is_audited).cloned().collect();
        self.report.row("store", open.len(), windows.len());
        let committed: HashMap<&TopicPartition, Option<i64>> =
            self.observed.positions.iter().map(|position| (&position.partition, position.committed)).collect();
        for (partition, position) in &stored.positions {
            let committed = committed.get(partition).copied().flatten();
            if committed.is_none_or(|committed| *position > committed) {
                let stands = committed.map_or_else(|| "at no position".to_owned(), |committed| format!("at {committed}"));
                self.report.wrong(Kind::Different, partition, format!("the state stands at {position}, the group {stands}"));
            }
        }
        let name = |key: &StoredKey| format!("{} of {} from {} key {}", key.window, key.origin, micros(key.start_us), key.key.join(", "));
        let index = |key: &StoredKey| self.declaration.windows.iter().position(|window| window.name == key.window);
        let was_lost = |key: &StoredKey| index(key).is_some_and(|window| self.was_lost(window, &key.origin, key.start_us));
        let lacking = open.difference(&windows).map(|key| (Kind::Missing, key, "an open window that the store does not hold"));
        let surplus = windows.difference(&open).map(|key| (Kind::Extra, key, "a window that is closed or never was"));
        let wrong: Vec<_> = lacking.chain(surplus).map(|(kind, key, why)| (was_lost(key), kind, name(key), why)).collect();
        for (is_accepted, kind, at, why) in wrong {
            self.report.accept(is_accepted);
            self.report.wrong(kind, at, why);
        }
        self.report.accept(false);
    }
}

/// Expected entries without an equal found one, and the other way round, each in order of place.
fn unmatched(expected: &[(u128, Place)], found: &[(u128, Place)]) -> (Vec<Place>, Vec<Place>) {
    let mut surplus: Vec<&(u128, Place)> = found.iter().collect();
    let mut lacking = Vec::new();
    for (hash, place) in expected {
        match surplus.iter().position(|(found, _)| found == hash) {
            Some(at) => {
                surplus.remove(at);
            }
            None => lacking.push(place.clone()),
        }
    }
    (lacking, surplus.into_iter().map(|(_, place)| place.clone()).collect())
}

/// Of a window that reports when it closes there is one result when it is closed, and none before.
fn final_results(report: &mut Report, id: &WindowId, expected: &ExpectedWindow, observed: &ObservedWindow) {
    let allowed = usize::from(expected.is_closed);
    for ((hash, place), at) in observed.results.iter().zip(0..) {
        if at >= allowed {
            let why = if expected.is_closed { "one more result of" } else { "a result of the open window" };
            report.wrong(Kind::Extra, place, format!("{why} {}", describe(id)));
        } else if *hash != expected.result {
            report.wrong(Kind::Different, place, format!("not the result of {}: {}", describe(id), expected.text));
        }
    }
}

/// Of a window that reports updates each result is its value after more records than the one before, and the last after all.
fn updates(report: &mut Report, id: &WindowId, expected: &ExpectedWindow, observed: &ObservedWindow) {
    let mut from = 0;
    let mut is_last_right = false;
    for (hash, place) in &observed.results {
        is_last_right = match expected.after_each[from..].iter().position(|after| after == hash) {
            Some(more) => {
                from += more + 1;
                *hash == expected.result
            }
            None if expected.after_each.contains(hash) => {
                report.wrong(Kind::Extra, place, format!("a result of {} again, without a record in between", describe(id)));
                *hash == expected.result
            }
            None => {
                report.wrong(Kind::Different, place, format!("never a result of {}; in the end {}", describe(id), expected.text));
                true
            }
        };
    }
    if let (false, Some((_, place))) = (is_last_right, observed.results.last()) {
        let detail = format!(
            "the last result of {} is that after {from} of {} records; in the end {}",
            describe(id),
            expected.after_each.len(),
            expected.text
        );
        report.wrong(Kind::Different, place, detail);
    }
}

/// What a dead letter says that it should not.
fn difference(stage: &Arc<str>, expected: &ExpectedLetter, found: &ObservedLetter) -> Option<String> {
    // The contract names the finer reasons of inspection and transcoding; which of them a cut or twisted value gives depends on the walk.
    if !matches!(&**stage, "inspect" | "transcode") && !expected.reasons.contains(&found.reason.as_str()) {
        return Some(format!("reason {}, expected {}", found.reason, expected.reasons.join(" or ")));
    }
    if found.key != expected.key {
        return Some("another key than the record's".into());
    }
    if found.timestamp_ms != expected.timestamp_ms {
        return Some(format!("timestamp {}, expected {}", found.timestamp_ms, expected.timestamp_ms));
    }
    let (length, hash) = expected.value;
    let (said, kept, kept_hash) = found.value;
    let is_whole_or_cut = said == length && (kept < length || kept == length && kept_hash == hash);
    (!is_whole_or_cut).then(|| format!("{kept} bytes of {said}, the record has {length}, or other bytes"))
}

fn micros(us: i64) -> String {
    super::time::timestamp_text(i128::from(us) * 1_000)
}

/// A window in words.
pub(super) fn describe(id: &WindowId) -> String {
    format!("window of {} from {} key {}", id.origin, micros(id.start_us), String::from_utf8_lossy(&id.key))
}
