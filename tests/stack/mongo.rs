//! Claims about the sink's writes, held to a real server: guards, races, faults, sizes, types; and that a sink outlives a panic.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use libtest_mimic::Failed;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc, rawdoc};
use mongodb::{Client, Collection, Database};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use testudo::mongo::document::{Shape, Times};
use testudo::mongo::{Batch, Health, Rule, Settings, Source, Tally, Update, Writer};
use testudo::stack::Stack;

use crate::Test;
use crate::damage::asked;
use crate::job::{Job, READING, wait_for};

pub const TESTS: &[Test] = &[
    ("mongo_newer_wins_older_and_equal_change_nothing", |stack| on(stack, newer_wins)),
    ("mongo_any_interleaving_gives_the_same_documents", |stack| on(stack, any_interleaving)),
    ("mongo_another_origin_is_not_overwritten", |stack| on(stack, foreign_origin)),
    ("mongo_a_repeated_reading_changes_nothing", |stack| on(stack, repeated_reading)),
    ("mongo_an_oversized_document_is_set_aside", |stack| on(stack, oversized)),
    ("mongo_a_document_that_the_server_refuses_is_set_aside", |stack| on(stack, refused)),
    ("mongo_a_document_that_an_index_cannot_take_is_set_aside", |stack| on(stack, not_indexed)),
    ("mongo_types_come_back_as_they_went", |stack| on(stack, types)),
    ("mongo_names_with_dots_and_dollars_stay_whole", |stack| on(stack, odd_names)),
    ("mongo_a_write_concern_error_is_repeated", |stack| on(stack, write_concern_error)),
    ("mongo_a_step_down_or_a_cut_connection_is_repeated", |stack| on(stack, step_down)),
    ("f55_a_panic_in_a_sink_loses_nothing", panicked),
];

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// Runs a claim on a database of its own.
fn on(stack: &Stack, claim: impl AsyncFnOnce(Place)) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let name = format!("sink_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    runtime.block_on(async {
        let client = Client::with_uri_str(stack.mongo_uri()).await?;
        let database = client.database(&name);
        claim(Place { client, database: database.clone() }).await;
        database.drop().await?;
        Ok(())
    })
}

/// Where a claim is tried.
struct Place {
    client: Client,
    database: Database,
}

impl Place {
    fn writer(&self) -> Writer {
        Writer::new(self.database.clone(), "zoo_analytics", &Settings::default())
    }

    async fn apply(&self, updates: Vec<Update>) -> Tally {
        let parts = testudo::telemetry::health::Health::default();
        let batch = Batch { documents: updates, ..Batch::default() };
        self.writer().apply(batch, &Health::new(parts.component("sink"))).await
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    async fn documents(&self, name: &str) -> Vec<Document> {
        let mut found = self.collection(name).find(doc! {}).sort(doc! { "_id": 1 }).await.expect("a cursor");
        let mut documents = Vec::new();
        while found.advance().await.expect("documents") {
            documents.push(found.deserialize_current().expect("a document"));
        }
        documents
    }

    /// The value of the one document that is there.
    async fn value(&self) -> i64 {
        let documents = self.documents("zoo_analytics").await;
        assert_eq!(documents.len(), 1, "{documents:?}");
        documents[0].get_i64("value").expect("a value")
    }

    async fn fail_next(&self, commands: &[&str], times: i32, fault: Document) {
        let mut data = doc! { "failCommands": commands };
        data.extend(fault);
        let command = doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data };
        let set = self.client.database("admin").run_command(command).await;
        set.expect("a server started with --setParameter enableTestCommands=1");
    }
}

fn source(topic_id: &str, partition: i32, offset: i64) -> Source {
    Source { topic: "zoo-analytics".into(), topic_id: topic_id.into(), partition, offset }
}

/// A result of window `key`, as documents of results are made; the value tells who wrote it.
fn result(key: &str, origin: &str, source: Source, value: i64) -> Update {
    let id = rawdoc! { "dev_id": key };
    let provenance = rawdoc! {
        "topic": &*source.topic, "topic_id": &*source.topic_id, "partition": source.partition, "offset": source.offset,
    };
    let document = rawdoc! { "_id": id.clone(), "value": value, "origin": origin, "source": provenance };
    Update { id, document, rule: Rule::Newest { origin: origin.into() }, source }
}

/// A result whose value is its offset.
fn at(key: &str, offset: i64) -> Update {
    result(key, "readings/0", source("t1", 0, offset), offset)
}

fn reading(topic_id: &str, offset: i64, text: &str) -> Update {
    let source = source(topic_id, 0, offset);
    let id = source.place();
    let document = rawdoc! { "_id": id.clone(), "text": text, "source": { "topic_id": topic_id } };
    Update { id, document, rule: Rule::Once, source }
}

async fn newer_wins(place: Place) {
    assert_eq!(place.apply(vec![at("a", 5)]).await, Tally { written: 1, ..Tally::default() });
    assert_eq!(place.apply(vec![at("a", 5)]).await, Tally { stale: 1, ..Tally::default() });
    assert_eq!(place.apply(vec![at("a", 4)]).await, Tally { stale: 1, ..Tally::default() });
    assert_eq!(place.value().await, 5);

    assert_eq!(place.apply(vec![at("a", 6)]).await.written, 1);
    assert_eq!(place.value().await, 6);

    // The output topic was made anew: offsets begin again and must not freeze the document.
    assert_eq!(place.apply(vec![result("a", "readings/0", source("t2", 0, 1), 77)]).await.written, 1);
    assert_eq!(place.value().await, 77);
}

/// SINK-1, C115: two writers at once, any order, any cut, any repetition, old batches of a zombie among them.
async fn any_interleaving(place: Place) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let mut random = Pcg64::seed_from_u64(seed);
    for round in 0..20 {
        place.collection("zoo_analytics").drop().await.expect("dropped");
        let updates: Vec<Update> = (0..60).map(|offset| at(&format!("key{}", random.random_range(0..6)), offset)).collect();
        let newest: HashMap<Vec<u8>, i64> = updates.iter().map(|update| (update.id.as_bytes().to_vec(), update.source.offset)).collect();

        let writers: Vec<_> = (0..2).map(|_| batches(&updates, &mut random)).collect();
        let [first, second] = &writers[..] else { panic!("two writers") };
        tokio::join!(write_all(&place, first), write_all(&place, second));

        let found: HashMap<Vec<u8>, i64> = place
            .documents("zoo_analytics")
            .await
            .into_iter()
            .map(|document| {
                let id = RawDocumentBuf::try_from(document.get_document("_id").expect("an id")).expect("valid BSON");
                (id.as_bytes().to_vec(), document.get_i64("value").expect("a value"))
            })
            .collect();
        assert_eq!(found, newest, "SEED={seed}, round {round}");
    }
}

/// Every update at least once: in batches of random stretches in random order, then all of them again, one batch.
fn batches(updates: &[Update], random: &mut Pcg64) -> Vec<Vec<Update>> {
    let mut batches: Vec<Vec<Update>> = updates.chunks(random.random_range(1..9)).map(<[Update]>::to_vec).collect();
    for _ in 0..batches.len() {
        let (one, other) = (random.random_range(0..batches.len()), random.random_range(0..batches.len()));
        batches.swap(one, other);
        let repeated = batches[random.random_range(0..batches.len())].clone();
        batches.push(repeated);
    }
    batches
}

async fn write_all(place: &Place, batches: &[Vec<Update>]) {
    for batch in batches {
        place.apply(batch.clone()).await;
    }
}

/// KEY-1: one key in two topics of a source.
async fn foreign_origin(place: Place) {
    place.apply(vec![result("a", "readings/0", source("t1", 0, 5), 5)]).await;

    let tally = place.apply(vec![result("a", "readings-2/0", source("t1", 0, 9), 9), at("b", 10)]).await;

    assert_eq!((tally.written, tally.foreign, tally.stale), (1, 1, 0), "{tally:?}");
    assert!(tally.example.is_some_and(|example| example.contains("readings/0") && example.contains("readings-2/0")));
    let values: Vec<i64> =
        place.documents("zoo_analytics").await.iter().map(|document| document.get_i64("value").expect("a value")).collect();
    assert_eq!(values, [5, 10]);

    let moved = place.apply(vec![result("a", "readings/0", source("t1", 3, 50), 50)]).await;
    assert_eq!((moved.written, moved.moved), (0, 1), "{moved:?}");
}

async fn repeated_reading(place: Place) {
    let readings: Vec<Update> = (0..50).map(|offset| reading("t1", offset, "first")).collect();
    assert_eq!(place.apply(readings.clone()).await.written, 50);

    // After a crash the group's position is behind: some were written, some not.
    let mut again: Vec<Update> = (30..60).map(|offset| reading("t1", offset, "second")).collect();
    let tally = place.apply(std::mem::take(&mut again)).await;

    assert_eq!((tally.written, tally.stale, tally.set_aside), (10, 20, 0), "{tally:?}");
    let documents = place.documents("zoo_analytics").await;
    assert_eq!(documents.len(), 60);
    assert_eq!(documents[40].get_str("text").ok(), Some("first"));

    // The input topic was made anew: another record stands in the same place.
    assert_eq!(place.apply(vec![reading("t2", 40, "third")]).await.written, 1);
    assert_eq!(place.documents("zoo_analytics").await[40].get_str("text").ok(), Some("third"));
}

/// C117: a document of 17 MB does not hold up the next ones.
async fn oversized(place: Place) {
    let batch = vec![
        reading("t1", 0, "small"),
        reading("t1", 1, &"x".repeat(17 << 20)),
        reading("t1", 2, &"y".repeat(14 << 20)),
        reading("t1", 3, "small"),
    ];

    let tally = place.apply(batch).await;

    assert_eq!((tally.written, tally.set_aside), (3, 1), "{tally:?}");
    let markers = place.documents("zoo_analytics_set_aside").await;
    assert_eq!(markers.len(), 1);
    assert_eq!(markers[0].get_document("_id").ok(), Some(&doc! { "topic": "zoo-analytics", "partition": 0, "offset": 1_i64 }));
    assert_eq!(markers[0].get_str("reason").ok(), Some("document-too-large"));
    assert!(markers[0].get_i64("bytes").is_ok_and(|bytes| bytes > 17 << 20));
}

async fn refused(place: Place) {
    let rule = doc! { "text": { "$ne": "forbidden" } };
    place.database.create_collection("zoo_analytics").validator(rule).await.expect("a collection with a validator");
    let unique = doc! { "createIndexes": "zoo_analytics", "indexes": [{ "key": { "text": 1 }, "name": "text", "unique": true }] };
    place.database.run_command(unique).await.expect("a unique index");

    let tally = place
        .apply(vec![reading("t1", 0, "fine"), reading("t1", 1, "forbidden"), reading("t1", 2, "fine"), reading("t1", 3, "good")])
        .await;

    assert_eq!((tally.written, tally.set_aside), (2, 2), "{tally:?}");
    let mut offsets: Vec<i64> = place
        .documents("zoo_analytics_set_aside")
        .await
        .iter()
        .map(|marker| marker.get_document("_id").and_then(|id| id.get_i64("offset")).expect("a place"))
        .collect();
    offsets.sort_unstable();
    // Of the two that share the index's value either may have come first.
    assert!(offsets == [0, 1] || offsets == [1, 2], "{offsets:?}");
}

/// Indexes of the owner's: hashes of what is no array, words of a language that there is.
async fn not_indexed(place: Place) {
    for index in [doc! { "key": { "tags": "hashed" }, "name": "tags" }, doc! { "key": { "text": "text" }, "name": "text" }] {
        let command = doc! { "createIndexes": "zoo_analytics", "indexes": [index] };
        place.database.run_command(command).await.expect("an index");
    }
    let with = |offset: i64, more: Document| {
        let mut update = reading("t1", offset, "a tortoise");
        let mut document = Document::try_from(update.document).expect("valid BSON");
        document.extend(more);
        update.document = RawDocumentBuf::try_from(&document).expect("valid BSON");
        update
    };
    let refused = [doc! { "tags": ["slow", "old"] }, doc! { "language": "Tamil" }, doc! { "language": null }];
    let batch: Vec<Update> = (1..).zip(refused).map(|(offset, more)| with(offset, more)).collect();

    let tally = place.apply([batch, vec![with(0, doc! { "tags": "slow" }), with(4, doc! { "language": "german" })]].concat()).await;

    assert_eq!((tally.written, tally.set_aside, tally.repeated), (2, 3, 0), "{tally:?}");
    let markers = place.documents("zoo_analytics_set_aside").await;
    assert!(markers.iter().all(|marker| marker.get_str("reason").is_ok_and(|reason| reason == "refused-by-server")), "{markers:?}");
}

/// C07, C79, C81, C121: what Arrow holds is what a reader of MongoDB gets.
async fn types(place: Place) {
    let money = Decimal128Array::from(vec![1_250, -1]).with_precision_and_scale(8, 2).expect("a decimal type");
    let times = vec![1_648_039_676_974_854, 253_370_768_461_999_999];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("money", Arc::new(money)),
        ("total_records", Arc::new(Int64Array::from(vec![7, 2_147_483_648]))),
        ("average", Arc::new(Float64Array::from(vec![21.0, f64::NAN]))),
        ("seen", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("+00:00"))),
        ("text", Arc::new(StringArray::from(vec![Some("ä\u{0}b"), None]))),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect()).expect("rows");
    let shape = Shape::of_records(rows.schema_ref().fields()).expect("a shape");
    let table = shape.table(&rows).expect("a table");
    let times = Times { event_us: Some(1_999), kafka_ms: 3 };
    let record = |row: i64| table.record(row as usize, times, 9, source("t1", 0, row)).expect("storable");

    place.apply(vec![record(0), record(1)]).await;

    let documents = place.documents("zoo_analytics").await;
    let decimal = |text: &str| Bson::Decimal128(text.parse().expect("a decimal"));
    assert_eq!(documents[0].get("money"), Some(&decimal("12.50")));
    assert_eq!(documents[1].get("money"), Some(&decimal("-0.01")));
    assert_eq!(documents[0].get("total_records"), Some(&Bson::Int64(7)));
    assert_eq!(documents[1].get("total_records"), Some(&Bson::Int64(2_147_483_648)));
    assert_eq!(documents[0].get("average"), Some(&Bson::Double(21.0)));
    assert!(matches!(documents[1].get("average"), Some(Bson::Double(value)) if value.is_nan()));
    assert_eq!(documents[0].get("seen"), Some(&Bson::DateTime(DateTime::from_millis(1_648_039_676_974))));
    assert_eq!(documents[1].get("seen"), Some(&Bson::DateTime(DateTime::from_millis(253_370_768_461_999))));
    assert_eq!(documents[0].get_str("text").ok(), Some("ä\u{0}b"));
    assert_eq!(documents[1].get("text"), Some(&Bson::Null));
    assert_eq!(documents[0].get("event_time"), Some(&Bson::DateTime(DateTime::from_millis(1))));
}

/// C91: inserted, replaced and left alone, names and values that look like paths and operators stay what they are.
async fn odd_names(place: Place) {
    let odd = |offset: i64| {
        let mut update = at("a", offset);
        update.document = rawdoc! {
            "_id": { "dev_id": "a" }, "avg.temp": offset, "$avg": "$five", "nested": { "$set.x": 1 }, "origin": "readings/0",
            "source": { "topic": "zoo-analytics", "topic_id": "t1", "partition": 0, "offset": offset },
        };
        update
    };

    place.apply(vec![odd(1)]).await;
    place.apply(vec![odd(2)]).await;
    place.apply(vec![odd(1)]).await;

    let documents = place.documents("zoo_analytics").await;
    assert_eq!(documents[0].get("avg.temp"), Some(&Bson::Int64(2)));
    assert_eq!(documents[0].get_str("$avg").ok(), Some("$five"));
    assert_eq!(documents[0].get_document("nested").ok(), Some(&doc! { "$set.x": 1 }));
}

/// C123: the server did the write and says that no majority has it.
async fn write_concern_error(place: Place) {
    let error = doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };
    place.fail_next(&["update"], 2, error).await;

    let tally = place.apply(vec![at("a", 5)]).await;

    assert_eq!(tally.repeated, 2, "{tally:?}");
    assert_eq!(place.value().await, 5);
}

/// F17: whatever the server and the connection do, the batch is repeated until it is acknowledged, and health says so meanwhile.
async fn step_down(place: Place) {
    place.fail_next(&["insert"], 2, doc! { "errorCode": 10_107 }).await;
    let tally = place.apply(vec![reading("t1", 0, "a")]).await;
    assert_eq!((tally.written, tally.repeated), (1, 2), "{tally:?}");

    place.fail_next(&["insert"], 1, doc! { "closeConnection": true }).await;
    let tally = place.apply(vec![reading("t1", 1, "b")]).await;
    assert_eq!((tally.written, tally.repeated), (1, 1), "{tally:?}");

    let parts = testudo::telemetry::health::Health::default();
    let health = Health::new(parts.component("sink"));
    health.reads();
    assert!(parts.is_ready());
    // Longer than the sum of the pauses that are looked at: taken away again below.
    place.fail_next(&["insert"], 1_000, doc! { "errorCode": 189 }).await;
    let writer = place.writer();
    let batch = Batch { documents: vec![reading("t1", 2, "c")], ..Batch::default() };
    let writing = writer.apply(batch, &health);
    tokio::pin!(writing);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut writing).await;
    assert!(early.is_err(), "nothing is given up");
    assert!(!parts.is_ready(), "a sink that cannot write says so");
    let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    place.client.database("admin").run_command(off).await.expect("the fail point taken away");
    assert_eq!(writing.await.written, 1);
    assert!(parts.is_ready());
}

/// It says so, and joins its group again.
fn panicked(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 2_000, None, &[])?;

    let running = job.start("one", &[("FAILPOINTS", "sink.written=1*panic->off")])?;

    wait_for("a panic", || Ok(running.log().contains("the sink panicked")))?;
    wait_for("all readings", || Ok(job.documents("tortoise")? == 2_000))?;
    wait_for("readiness", || Ok(asked(&running, "/readyz")?.contains("200 OK")))?;
    running.terminate()?;
    job.drain()?;
    job.audit()
}
