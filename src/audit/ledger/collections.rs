//! MongoDB beside the walk: every committed result, alert and admitted record against the documents, a batch at a time.
//!
//! A window's document must be the last result of its window: one that is older than a result in the topic is stale, one that names a result
//! as its source must say what that says. Together with their number that leaves no document unaccounted for. Documents of readings are
//! counted, range by range: what they hold only the recomputing audit can tell.

use std::collections::HashMap;
use std::sync::Arc;

use mongodb::bson::{Bson, Document, doc};

use super::findings::Findings;
use super::mongo::Mongo;
use super::walk::{Bounds, Witness};
use crate::audit::AuditError;
use crate::audit::datum::Shape;
use crate::audit::documents::{alert_hashes, observed_alert, observed_result, result_hashes, to_bson};
use crate::audit::facts::{DocumentHashes, InputRecord, ObservedDocument, Place};
use crate::audit::job::WindowDeclaration;
use crate::audit::observe::Schemas;
use crate::audit::report::Kind;
use crate::audit::resolve::record_as_written;
use crate::audit::value::{Value, avro_name};
use crate::kafka::TopicPartition;
use crate::ledger::Range;

/// Documents that are asked for at once.
const BATCH: usize = 1_000;

type Fields = Vec<(Arc<str>, Value)>;

/// What a collection of output records holds.
pub enum Feed {
    /// A window's results.
    Window(WindowDeclaration),
    /// An alert's records.
    Alert,
}

/// A collection that is fed from an output topic.
pub struct Outputs<'w> {
    /// The collection's name.
    pub name: String,
    /// The topic.
    pub topic: Arc<str>,
    /// What its records are.
    pub feed: Feed,
    /// The database.
    pub mongo: Mongo<'w>,
    /// The registry.
    pub schemas: &'w Schemas,
    /// Up to here its sink has written.
    pub written: HashMap<TopicPartition, i64>,
    /// What is audited of the topic.
    pub bounds: HashMap<TopicPartition, Bounds>,
    shapes: HashMap<u32, Option<Shape>>,
    batch: Vec<Wanted>,
    matched: u64,
    waiting: u64,
    foreign: u64,
    set_aside: u64,
}

/// The document that a record should have.
struct Wanted {
    place: Place,
    id: Document,
    hashes: DocumentHashes,
    origin: Option<String>,
}

impl<'w> Outputs<'w> {
    /// A collection of which nothing was looked at yet.
    pub fn new(name: &str, topic: &Arc<str>, feed: Feed, mongo: Mongo<'w>, schemas: &'w Schemas) -> Self {
        Self {
            name: name.to_owned(),
            topic: topic.clone(),
            feed,
            mongo,
            schemas,
            written: HashMap::new(),
            bounds: HashMap::new(),
            shapes: HashMap::new(),
            batch: Vec::new(),
            matched: 0,
            waiting: 0,
            foreign: 0,
            set_aside: 0,
        }
    }

    fn row(&self) -> String {
        format!("mongo {}", self.name)
    }

    /// The fields of a record and its schema's id; `None` where it has none that can be read.
    fn fields(&mut self, record: &InputRecord) -> Result<Option<(u32, Fields)>, AuditError> {
        let Some([0, a, b, c, d, datum @ ..]) = record.value.as_deref() else { return Ok(None) };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        if !self.shapes.contains_key(&id) {
            let shape = self.schemas.get(id)?.shape();
            self.shapes.insert(id, shape);
        }
        let Some(Some(shape)) = self.shapes.get(&id) else { return Ok(None) };
        let read = shape.read(datum).ok().and_then(|datum| record_as_written(&datum, shape).ok());
        Ok(read.map(|fields| (id, fields)))
    }

    /// The document that a record should have; `None` where it can have none.
    fn wanted(&mut self, record: &InputRecord) -> Result<Option<Wanted>, AuditError> {
        let Some((schema_id, fields)) = self.fields(record)? else { return Ok(None) };
        let place = record.place();
        Ok(match &self.feed {
            Feed::Alert => Some(Wanted {
                id: doc! { "topic": &*place.partition.topic, "partition": place.partition.partition, "offset": place.offset },
                hashes: alert_hashes(&fields, record, schema_id),
                origin: None,
                place,
            }),
            Feed::Window(declared) => {
                let text = record.header("testudo-origin");
                let origin = text.and_then(|text| {
                    let (topic, partition) = text.rsplit_once('/')?;
                    Some(TopicPartition::new(topic, partition.parse().ok()?))
                });
                origin.map(|origin| {
                    let hashes = result_hashes(&fields, &declared.by, &origin);
                    Wanted { id: window_id(declared, &fields), hashes, origin: Some(origin.to_string()), place }
                })
            }
        })
    }

    /// Looks the batch's documents up and compares them.
    fn check(&mut self, findings: &mut Findings) -> Result<(), AuditError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let ids: Vec<Bson> = batch.iter().map(|wanted| Bson::Document(wanted.id.clone())).collect();
        let mut documents: HashMap<u128, (ObservedDocument, Option<String>)> = HashMap::with_capacity(ids.len());
        self.mongo.find(&self.name, doc! { "_id": { "$in": ids } }, |document| {
            let observed = match self.feed {
                Feed::Window(_) => observed_result(document),
                Feed::Alert => observed_alert(document),
            };
            documents.insert(observed.id_hash, (observed, document.get_str("origin").ok().map(str::to_owned)));
        })?;
        for wanted in batch {
            let Some((document, origin)) = documents.get(&wanted.hashes.id) else {
                self.missing(&wanted, findings)?;
                continue;
            };
            if origin.is_some() && *origin != wanted.origin {
                // Of one key in two topics the first origin's results stay (KEY-1).
                self.foreign += 1;
            } else if document.source.as_ref() == Some(&wanted.place) {
                self.matched += 1;
                if document.hash != wanted.hashes.document {
                    findings.wrong(&self.row(), Kind::Different, &document.id, format!("does not say what {} says", wanted.place));
                }
            } else if !is_newer(document, &wanted.place) {
                let source = document.source.as_ref().map_or_else(|| "nowhere".to_owned(), Place::to_string);
                let detail = format!("stale: it comes from {source}, {} is newer", wanted.place);
                findings.wrong(&self.row(), Kind::Different, &document.id, detail);
            }
        }
        Ok(())
    }

    fn missing(&mut self, wanted: &Wanted, findings: &mut Findings) -> Result<(), AuditError> {
        let Place { partition, offset } = &wanted.place;
        match self.mongo.is_set_aside(&self.name, partition, *offset)? {
            true => self.set_aside += 1,
            false => findings.wrong(&self.row(), Kind::Missing, &wanted.place, format!("no document {}", wanted.id)),
        }
        Ok(())
    }
}

/// Whether a document comes from a later record of the same partition.
fn is_newer(document: &ObservedDocument, place: &Place) -> bool {
    document.source.as_ref().is_some_and(|source| source.partition == place.partition && source.offset > place.offset)
}

/// The `_id` that a window's sink gives its document.
fn window_id(declared: &WindowDeclaration, fields: &[(Arc<str>, Value)]) -> Document {
    let value = |name: &str| fields.iter().find(|(field, _)| **field == *name).map(|(_, value)| value);
    let mut id = Document::new();
    for (name, _) in &declared.by {
        match value(&avro_name(name)) {
            Some(Value::Uuid(bytes)) => id.insert(name, mongodb::bson::Uuid::from_bytes(*bytes)),
            Some(other) => id.insert(name, to_bson(other)),
            None => None,
        };
    }
    if let Some(start) = value("window_start") {
        id.insert("window", to_bson(start));
    }
    id
}

impl Witness for Outputs<'_> {
    fn output(&mut self, record: &InputRecord, findings: &mut Findings) -> Result<(), AuditError> {
        if record.partition.topic != self.topic {
            return Ok(());
        }
        if self.written.get(&record.partition).is_none_or(|written| record.offset >= *written) {
            self.waiting += 1;
            return Ok(());
        }
        match self.wanted(record)? {
            Some(wanted) => self.batch.push(wanted),
            // The sink cannot read it either.
            None => self.set_aside += 1,
        }
        if self.batch.len() >= BATCH { self.check(findings) } else { Ok(()) }
    }

    fn range(&mut self, _: i64, _: &Range, _: &mut Findings) -> Result<(), AuditError> {
        Ok(())
    }

    fn finish(&mut self, findings: &mut Findings) -> Result<(), AuditError> {
        self.check(findings)?;
        let row = self.row();
        let mut found = self.mongo.count(&self.name, doc! {})?;
        if found > self.matched {
            // A service at work goes on writing.
            let place = match self.feed {
                Feed::Window(_) => "source",
                Feed::Alert => "_id",
            };
            let is_later = |(partition, bounds): (&TopicPartition, &Bounds)| {
                let end = self.written.get(partition).copied().unwrap_or(0).min(bounds.end);
                doc! { format!("{place}.partition"): partition.partition, format!("{place}.offset"): { "$gte": end } }
            };
            // What stands before the first record, after a reset or when old ones are gone, was made of records that are not audited.
            let is_earlier = |(partition, bounds): (&TopicPartition, &Bounds)| {
                doc! { format!("{place}.partition"): partition.partition, format!("{place}.offset"): { "$lt": bounds.low } }
            };
            let others: Vec<Document> = self.bounds.iter().map(is_later).chain(self.bounds.iter().map(is_earlier)).collect();
            found -= if others.is_empty() { 0 } else { self.mongo.count(&self.name, doc! { "$or": others })?.min(found) };
        }
        findings.count(&row, self.matched, found);
        for _ in self.matched..found {
            findings.wrong(&row, Kind::Extra, &self.name, "a document that no record in the topic calls for");
        }
        told(findings, &row, self.waiting, self.set_aside, self.foreign);
        Ok(())
    }
}

/// Tells what was not compared.
pub fn told(findings: &mut Findings, row: &str, waiting: u64, set_aside: u64, foreign: u64) {
    if waiting > 0 {
        findings.warnings.push(format!("{row}: the sink has not written {waiting} records yet, they were not compared"));
    }
    if set_aside > 0 {
        findings.warnings.push(format!("{row}: {set_aside} records were set aside and have no document"));
    }
    if foreign > 0 {
        findings.notes.push(format!("{row}: {foreign} results of keys that belong to another origin (KEY-1)"));
    }
}
