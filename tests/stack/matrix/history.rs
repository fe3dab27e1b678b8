//! Every version that MongoDB's documents went through during a run, from its change stream: none may go back to an older result,
//! none may show a result that was not committed, and what is written once stays as it is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use mongodb::bson::{Bson, Document, Timestamp, doc};
use mongodb::change_stream::event::{ChangeStreamEvent, OperationType};
use mongodb::{Client, Database};

use super::witness::Records;
use crate::job::{Job, PATIENCE};

/// Marks the end of what is looked at.
const END: &str = "end_of_history";

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Versions older than the one before.
    pub stale: Vec<String>,
    /// Versions of results that were never committed.
    pub uncommitted: Vec<String>,
    /// How many versions there were.
    pub versions: u64,
}

/// The moment from which on versions are looked at.
pub struct History {
    database: Database,
    since: Timestamp,
}

impl History {
    /// Begins now, before the tenant's database exists.
    pub fn begin(job: &Job<'_>) -> Result<Self, Failed> {
        job.block_on(async {
            let client = Client::with_uri_str(job.stack.mongo_uri()).await?;
            let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
            let time =
                hello.get_document("lastWrite").and_then(|write| write.get_document("opTime")).and_then(|time| time.get_timestamp("ts"));
            let since = time.map_err(|error| format!("the database says no operation time: {error}"))?;
            Ok(Self { database: client.database(&job.database()), since })
        })
    }

    /// Reads all versions until now. `results` is the topic that the windows' collection is fed from, `committed` what is in it.
    pub fn judge(&self, job: &Job<'_>, results: &str, committed: &Records) -> Result<Findings, Failed> {
        job.block_on(self.read(results, committed))
    }

    async fn read(&self, results: &str, committed: &Records) -> Result<Findings, Failed> {
        self.database.collection::<Document>(END).insert_one(doc! {}).await?;
        let mut events = self.database.watch().start_at_operation_time(self.since).await?;
        let mut versions = Versions { results, committed, places: HashMap::new(), findings: Findings::default() };
        let mut brought = Instant::now();
        loop {
            let Some(event) = events.next_if_any().await? else {
                if brought.elapsed() > PATIENCE {
                    let versions = versions.findings.versions;
                    return Err(format!("the change stream did not come to its end; it brought {versions} versions").into());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            brought = Instant::now();
            let collection = event.ns.as_ref().and_then(|space| space.coll.clone()).unwrap_or_default();
            match collection.as_str() {
                END => return Ok(versions.findings),
                "zoo_analytics" => versions.result(&event),
                _ => versions.record(&collection, &event),
            }
        }
    }
}

struct Versions<'a> {
    results: &'a str,
    committed: &'a Records,
    /// Where each document's latest version comes from.
    places: HashMap<String, (i32, i64)>,
    findings: Findings,
}

impl Versions<'_> {
    /// A version of a window's document.
    fn result(&mut self, event: &ChangeStreamEvent<Document>) {
        self.findings.versions += 1;
        let id = event.document_key.as_ref().map(ToString::to_string).unwrap_or_default();
        let before = self.places.get(&id).copied();
        let Some(place) = place_of(event, before) else {
            self.findings.stale.push(format!("{id} was changed by {:?} without a source", event.operation_type));
            return;
        };
        if before.is_some_and(|before| place.0 == before.0 && place.1 <= before.1) {
            self.findings.stale.push(format!("{id} went from {before:?} to {place:?}"));
        }
        if !self.committed.contains_key(&(self.results.to_owned(), place.0, place.1)) {
            self.findings.uncommitted.push(format!("{id} shows {}/{}@{}", self.results, place.0, place.1));
        }
        self.places.insert(id, place);
    }

    /// A version of a record's document, which is written once.
    fn record(&mut self, collection: &str, event: &ChangeStreamEvent<Document>) {
        self.findings.versions += 1;
        if event.operation_type != OperationType::Insert && event.document_key.is_some() {
            self.findings.stale.push(format!("{collection}: {:?} of {:?}", event.operation_type, event.document_key));
        }
    }
}

/// Partition and offset of the output record that a version shows; an update says only what is new.
fn place_of(event: &ChangeStreamEvent<Document>, before: Option<(i32, i64)>) -> Option<(i32, i64)> {
    let changed = event.update_description.as_ref().map(|update| &update.updated_fields);
    let source = event.full_document.as_ref().or(changed).and_then(|document| document.get_document("source").ok());
    if let Some(source) = source {
        return Some((source.get_i32("partition").ok()?, source.get_i64("offset").ok()?));
    }
    match changed?.get("source.offset") {
        Some(Bson::Int64(offset)) => Some((before?.0, *offset)),
        _ => None,
    }
}
