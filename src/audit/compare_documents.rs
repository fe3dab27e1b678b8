//! MongoDB against what feeds it: a window's collection against the last results, a record's against the records.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::compare::{Comparison, describe};
use super::facts::{DocumentHashes, ObservedDocument, Place, WindowId};
use super::report::Kind;
use crate::kafka::TopicPartition;
use crate::tenant::CollectionOf;

impl Comparison<'_> {
    /// Every collection that was read.
    pub(super) fn collections(&mut self) {
        for collection in &self.declaration.collections {
            let Some(documents) = self.observed.documents.get(&collection.name) else {
                continue;
            };
            match collection.of {
                CollectionOf::Window(window) => self.window_collection(&collection.name, window, documents),
                CollectionOf::Source(source) => self.source_collection(&collection.name, source, documents),
                CollectionOf::Alert(alert) => self.alert_collection(&collection.name, alert, documents),
            }
        }
    }

    /// A window's collection holds the last result of each window: its values, and where they came from.
    fn window_collection(&mut self, name: &str, index: usize, documents: &[ObservedDocument]) {
        let mut wanted: BTreeMap<u128, Vec<(DocumentHashes, &Place, &WindowId)>> = BTreeMap::new();
        for (id, window) in self.observed.windows.iter().filter(|(id, _)| id.window == index) {
            let (Some((_, last)), Some(hashes)) = (window.results.last(), window.document) else { continue };
            wanted.entry(hashes.id).or_default().push((hashes, last, id));
        }
        let is_earlier = |document: &&ObservedDocument| !wanted.contains_key(&document.id_hash) && self.is_from_before(document);
        let (earlier, documents): (Vec<&ObservedDocument>, Vec<&ObservedDocument>) = documents.iter().partition(is_earlier);
        self.report.row(format!("mongo {name}"), wanted.len(), documents.len());
        self.note_earlier(name, earlier.len());
        for document in documents {
            let Some(candidates) = wanted.remove(&document.id_hash) else {
                self.report.wrong(Kind::Extra, &document.id, "no result in the output topic calls for this document");
                continue;
            };
            // Of one key in two topics the first origin's result stays (KEY-1), so any of them will do.
            let is_right = |(hashes, last, _): &(DocumentHashes, &Place, &WindowId)| {
                hashes.document == document.hash && document.source.as_ref() == Some(*last)
            };
            if !candidates.iter().any(is_right) {
                let made_from = document.source.as_ref().map_or_else(|| "nothing it names".into(), ToString::to_string);
                let last = candidates.iter().map(|(_, last, _)| last.to_string()).collect::<Vec<_>>().join(" or ");
                self.report.wrong(Kind::Different, &document.id, format!("made from {made_from}, the last result is {last}"));
            }
        }
        let excused = self.set_aside(name);
        for (_, last, id) in wanted.into_values().flatten().filter(|(_, last, _)| !excused.contains(last)) {
            self.report.wrong(Kind::Missing, describe(id), format!("no document; the last result is {last}"));
        }
    }

    /// A source's collection holds every admitted record up to the committed positions, exactly once; the sink may be further.
    fn source_collection(&mut self, name: &str, source: usize, documents: &[ObservedDocument]) {
        let committed: HashMap<&TopicPartition, i64> =
            self.observed.positions.iter().map(|position| (&position.partition, position.committed.unwrap_or(0))).collect();
        let is_ahead = |document: &&ObservedDocument| {
            document.source.as_ref().is_some_and(|place| committed.get(&place.partition).is_some_and(|position| place.offset >= *position))
        };
        let is_left_out =
            |document: &&ObservedDocument| document.source.as_ref().is_some_and(|place| self.observed.history.leaves_out(place));
        let (left_out, documents): (Vec<&ObservedDocument>, Vec<&ObservedDocument>) = documents.iter().partition(is_left_out);
        let (ahead, documents): (Vec<&ObservedDocument>, Vec<&ObservedDocument>) = documents.into_iter().partition(is_ahead);
        self.record_collection(name, self.expected.admitted.get(&source), &documents);
        if !left_out.is_empty() {
            let count = left_out.len();
            self.report
                .notes
                .push(format!("mongo {name}: {count} documents of records that an operator left out, which the sink does not"));
        }
        if !ahead.is_empty() {
            self.report
                .warnings
                .push(format!("mongo {name}: {} documents of records beyond the committed positions were not looked at", ahead.len()));
        }
    }

    /// An alert's collection holds every record of the alert's topic.
    fn alert_collection(&mut self, name: &str, alert: usize, documents: &[ObservedDocument]) {
        let is_earlier = |document: &&ObservedDocument| self.is_from_before(document);
        let (earlier, documents): (Vec<&ObservedDocument>, Vec<&ObservedDocument>) = documents.iter().partition(is_earlier);
        self.note_earlier(name, earlier.len());
        self.record_collection(name, self.observed.alert_documents.get(&alert), &documents);
    }

    /// Whether a document was made from an output that stands before the last reset.
    fn is_from_before(&self, document: &ObservedDocument) -> bool {
        let history = &self.observed.history;
        document.source.as_ref().is_some_and(|place| place.offset < history.output_from(&place.partition))
    }

    fn note_earlier(&mut self, name: &str, documents: usize) {
        if documents > 0 {
            self.report.notes.push(format!("mongo {name}: {documents} documents are from before the reset and were not looked at"));
        }
    }

    /// One document for each record, none besides.
    fn record_collection(&mut self, name: &str, wanted: Option<&BTreeMap<Place, DocumentHashes>>, documents: &[&ObservedDocument]) {
        let nothing = BTreeMap::new();
        let wanted = wanted.unwrap_or(&nothing);
        self.report.row(format!("mongo {name}"), wanted.len(), documents.len());
        let mut seen: BTreeSet<&Place> = BTreeSet::new();
        for document in documents {
            match document.source.as_ref().and_then(|place| Some((place, wanted.get(place)?))) {
                Some((place, _)) if !seen.insert(place) => {
                    self.report.wrong(Kind::Extra, place, format!("one more document, {}", document.id))
                }
                Some((place, hashes)) if hashes.document != document.hash || hashes.id != document.id_hash => {
                    self.report.wrong(Kind::Different, place, "the document does not say what the record does");
                }
                Some(_) => {}
                None => self.report.wrong(Kind::Extra, &document.id, "no record calls for this document"),
            }
        }
        let excused = self.set_aside(name);
        for place in wanted.keys().filter(|place| !seen.contains(place) && !excused.contains(place)) {
            self.report.wrong(Kind::Missing, place, "no document");
        }
    }

    /// Records that the sink says make no document: taken on trust.
    fn set_aside(&mut self, name: &str) -> BTreeSet<Place> {
        let set_aside = self.observed.set_aside.get(name).cloned().unwrap_or_default();
        if !set_aside.is_empty() {
            self.report.warnings.push(format!("mongo {name}: {} records were set aside and have no document", set_aside.len()));
        }
        set_aside
    }
}
