//! Raw collection: readings into MongoDB by Testudo's sink, beside a bare bulk loader that inserts the very same documents.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::options::{Acknowledgment, InsertManyOptions, WriteConcern};
use mongodb::{Collection, Database};

use crate::Args;
use crate::book::{Book, OURS};
use crate::job::{Job, READINGS_TO_MONGO, ZOO};
use crate::machine::{median, say};
use crate::reading::{Fleet, Input};
use crate::rig::Rig;

/// Documents of one command, as in Testudo's sink.
const BATCH: usize = 2_000;
const STEP: Duration = Duration::from_millis(10);
const WITHIN: Duration = Duration::from_secs(180);
const LOADER: &str = "bulk loader";
const TWO_LOADERS: &str = "bulk loader, two connections";

/// Measures sink and loader by turns, so that both meet the same server.
pub fn measure(rig: &Rig, args: &Args, book: &mut Book) -> anyhow::Result<()> {
    book.forget(&["collection"]);
    let readings = (args.records / 10).max(10_000);
    let input = Fleet { readings, devices: 1_000, partitions: 4, seed: args.seed }.fill(rig, "zoo-collection")?;
    let client = rig.mongo()?;
    // Not counted: servers that have just started are slower.
    let (_, database) = sink(rig, &client, &input)?;
    rig.runtime.block_on(database.drop().into_future())?;
    let mut rows = Vec::new();
    let mut rates: [Vec<f64>; 3] = Default::default();
    for run in 1..=args.runs.min(3) {
        let (ours, database) = sink(rig, &client, &input)?;
        let documents = rig.runtime.block_on(all(&database.collection("tortoise")))?;
        ensure!(documents.len() as u64 == readings, "{} of {readings} readings are in the collection", documents.len());
        rig.runtime.block_on(database.drop().into_future())?;
        let loads = [(OURS, ours), (LOADER, load(rig, &client, &documents, 1)?), (TWO_LOADERS, load(rig, &client, &documents, 2)?)];
        for ((system, rate), rates) in loads.into_iter().zip(&mut rates) {
            rates.push(rate);
            rows.push(vec![system.to_owned(), run.to_string(), readings.to_string(), format!("{rate:.0}")]);
        }
        say(&format!("  documents/s: testudo {ours:.0}, loaders {rates:.0?}"));
    }
    for (system, rates) in [OURS, LOADER, TWO_LOADERS].iter().zip(&rates) {
        book.figure("collection", system, median(rates), "readings/s");
    }
    book.table(
        "collection",
        "Readings into MongoDB: Testudo's sink (which drops repeats and keeps positions) and bare unordered bulk inserts of the same documents, w: majority",
        &["system", "run", "readings", "readings_per_s"],
        &rows,
    )
}

/// The rate at which the collection grows, seen from outside.
fn sink(rig: &Rig, client: &mongodb::Client, input: &Input) -> anyhow::Result<(f64, Database)> {
    let job = Job::new(rig, "collect", &format!("{ZOO}{READINGS_TO_MONGO}"), &input.topic)?;
    let database = client.database(&job.database());
    let collection: Collection<RawDocumentBuf> = database.collection("tortoise");
    let running = job.start("collect", &[])?;
    let begun = Instant::now();
    let mut first: Option<(u64, Instant)> = None;
    let rate = loop {
        let count = rig.runtime.block_on(collection.estimated_document_count().into_future())?;
        let now = Instant::now();
        if let Some((from, since)) = first
            && count >= input.readings
        {
            break (count - from) as f64 / now.duration_since(since).as_secs_f64();
        }
        if count > 0 && first.is_none() {
            first = Some((count, now));
        }
        ensure!(
            begun.elapsed() < WITHIN,
            "{count} of {} readings after {} s:\n{}",
            input.readings,
            WITHIN.as_secs(),
            crate::job::tail(&running.log())
        );
        std::thread::sleep(STEP);
    };
    running.stop(WITHIN)?;
    job.audit(&[])?;
    Ok((rate, database))
}

async fn all(collection: &Collection<RawDocumentBuf>) -> anyhow::Result<Vec<RawDocumentBuf>> {
    let mut cursor = collection.find(doc! {}).await?;
    let mut documents = Vec::new();
    while cursor.advance().await? {
        documents.push(cursor.current().to_owned());
    }
    Ok(documents)
}

/// Inserts documents into a new collection, on so many connections at once; documents per second.
fn load(rig: &Rig, client: &mongodb::Client, documents: &[RawDocumentBuf], connections: usize) -> anyhow::Result<f64> {
    let database = client.database(&rig.unique("loader"));
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).build();
    let options = InsertManyOptions::builder().ordered(false).write_concern(concern).build();
    let share = documents.len().div_ceil(connections).max(1);
    let parts: Vec<Vec<RawDocumentBuf>> = documents.chunks(share).map(<[_]>::to_vec).collect();
    rig.runtime.block_on(database.create_collection("tortoise").into_future())?;
    let begun = Instant::now();
    let loading = |part: Vec<RawDocumentBuf>| {
        let (collection, options) = (database.collection::<RawDocumentBuf>("tortoise"), options.clone());
        rig.runtime.spawn(async move {
            for batch in part.chunks(BATCH) {
                collection.insert_many(batch).with_options(options.clone()).await?;
            }
            Ok::<_, mongodb::error::Error>(())
        })
    };
    let tasks: Vec<_> = parts.into_iter().map(loading).collect();
    for task in tasks {
        rig.runtime.block_on(task).context("a loader panicked")??;
    }
    let rate = documents.len() as f64 / begun.elapsed().as_secs_f64();
    rig.runtime.block_on(database.drop().into_future())?;
    Ok(rate)
}
