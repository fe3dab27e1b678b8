//! `testudo audit`: the second opinion on the whole engine.
//!
//! It reads the inputs up to the group's committed positions and recomputes what should have come of them, by
//! docs/semantics.md alone, with code that shares nothing with the engine: no columns, no DataFusion evaluation, no epochs,
//! one record and one row at a time. Then it reads what is there — outputs and dead letters read committed, MongoDB, the store —
//! and compares: [`compare()`] is pure, facts in, [`Report`] out. What it does not know it does not guess: such a branch is named
//! in a warning and left out.
//!
//! Not recomputed: approximate aggregates; `output-too-large`, which only the encoder can know.

mod aggregate;
mod cast;
mod eval;
mod functions;
mod sql;
mod sql_steps;
mod sums;
mod time;
mod types;
mod value;

mod datum;
mod digits;
mod foreign;
mod readable;
mod resolve;

mod admission;
mod bounds;
mod compare;
mod compare_documents;
mod documents;
mod facts;
mod fetch;
mod history;
mod job;
mod outputs;
mod recompute;
mod report;
mod rulings;

mod observe;

mod ledger;

#[cfg(test)]
mod against_engine_tests;
#[cfg(test)]
mod zoo;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rdkafka::error::KafkaError;

pub use compare::compare;
pub use facts::{Counts, Expected, InputRecord, Observed, Stored, StoredKey};
pub use job::{Declaration, Job, JobFault};
pub use ledger::audit_by_ledger;
pub use recompute::{For, GuidSchema, Recompute, WriterSchema, recompute};
pub use report::{Discrepancy, Kind, Report, Row};

use crate::avro::registry::{Registry, RegistryFault};
use crate::kafka::{Settings, TopicPartition};
use crate::tenant::Tenant;
use fetch::Stretch;
use history::History;
use observe::{Cluster, Schemas};
use outputs::Outputs;
use rulings::Rulings;

/// So often the audit begins again when the service moves on while it reads.
const ATTEMPTS: u32 = 3;

/// What to audit.
pub struct Options {
    /// The tenant, of which only names and SQL texts are used.
    pub tenant: Arc<Tenant>,
    /// How to reach the brokers.
    pub kafka: Settings,
    /// The schema registry.
    pub registry: Registry,
    /// The tenant's database; none leaves MongoDB out.
    pub mongo: Option<mongodb::Database>,
    /// What the store holds; none leaves the store out.
    pub store: Option<Stored>,
    /// How many discrepancies to keep.
    pub first: usize,
}

/// The audit itself failed: nothing is said about the service.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The tenant cannot be audited at all.
    #[error(transparent)]
    Job(#[from] JobFault),
    /// A call to the broker.
    #[error("failed to {attempted}: {cause}")]
    Kafka {
        /// What was attempted, on what.
        attempted: String,
        /// The client's words.
        cause: String,
    },
    /// A partition gave neither records nor its end.
    #[error("failed to read {place}: nothing came for a minute{trouble}; see that its brokers are up")]
    Stalled {
        /// The partition, or the first of those that are waited for.
        place: String,
        /// The client's last words, in brackets; empty where it said nothing.
        trouble: String,
    },
    /// A batch that was processed, or produced, cannot be read any more.
    #[error(
        "failed to read {partition}: the batch at offset {offset} cannot be read: {cause}; have another replica lead, if one has it whole. \
         What an operator left out by `testudo skip` is not asked for; anything else cannot be audited until retention has removed it"
    )]
    Unreadable {
        /// The partition.
        partition: String,
        /// The offset that the client names: mostly the batch's first.
        offset: i64,
        /// The client's words.
        cause: String,
    },
    /// The registry did not answer.
    #[error("failed to fetch schema {schema}: {cause}")]
    Registry {
        /// The schema's id or GUID.
        schema: String,
        /// Why.
        cause: RegistryFault,
    },
    /// MongoDB did not answer.
    #[error("failed to read collection {collection}: {cause}")]
    Mongo {
        /// The collection.
        collection: String,
        /// The driver's words.
        cause: Box<mongodb::error::Error>,
    },
    /// There is nothing to audit by.
    #[error("topic {topic} does not exist: the tenant has not run with engine.ledger = true; audit without --ledger")]
    NoLedger {
        /// The ledger's topic.
        topic: String,
    },
    /// The service worked on while its outputs were read.
    #[error(
        "failed to audit tenant {tenant}: its positions moved in each of {ATTEMPTS} attempts; stop the service or its inputs and try again"
    )]
    Moving {
        /// The tenant.
        tenant: String,
    },
    /// A thread of the audit panicked.
    #[error("failed to finish reading: {0}")]
    Lost(#[from] tokio::task::JoinError),
}

impl AuditError {
    fn kafka(attempted: String, cause: &KafkaError) -> Self {
        Self::Kafka { attempted, cause: cause.to_string() }
    }
}

/// What the blocking part works with.
struct Reading {
    declaration: Declaration,
    job: Job,
    kafka: Settings,
    schemas: Schemas,
    /// The topic of verdicts on schemas, and what each source asks of it.
    verdicts: (Arc<str>, Rulings),
    /// The topic of events, among them operators' deeds.
    events: Arc<str>,
}

/// Audits a tenant. Reads only; needs a multi-threaded runtime's blocking threads.
///
/// # Errors
/// [`AuditError`] when the audit could not be made. What it found wrong is in the report: see [`Report::is_clean`].
pub async fn audit(options: Options) -> Result<Report, AuditError> {
    let declaration = Declaration::of(&options.tenant);
    let job = Job::compile(&declaration)?;
    let schemas = Schemas { registry: options.registry, runtime: tokio::runtime::Handle::current() };
    let verdicts = (options.tenant.schemas_topic(), Rulings::of(&options.tenant));
    let events = options.tenant.events_topic();
    let reading = Arc::new(Reading { declaration, job, kafka: options.kafka, schemas, verdicts, events });
    for _ in 0..ATTEMPTS {
        let outputs = on_blocking(&reading, Reading::outputs).await??;
        let mut observed = outputs.observed;
        observed.stored = options.store.clone();
        if let Some(database) = &options.mongo {
            observe::add_documents(database, &reading.declaration, &mut observed).await?;
        }
        let before = observed.positions.clone();
        let has_moved = on_blocking(&reading, move |reading| reading.has_moved(&before)).await??;
        if has_moved {
            tracing::warn!(tenant = reading.declaration.tenant, "positions moved while outputs were read, beginning again");
            continue;
        }
        let partitions = outputs.partitions;
        return on_blocking(&reading, move |reading| {
            let mut rulings = reading.rulings()?;
            rulings.follow(&observed.letters);
            let warnings = rulings.warnings();
            let expected = reading.inputs(&observed, &partitions, rulings)?;
            let mut report = compare(&reading.declaration, &expected, &observed, options.first);
            report.warnings.extend(outputs.warnings.into_iter().chain(warnings));
            Ok(report)
        })
        .await?;
    }
    Err(AuditError::Moving { tenant: reading.declaration.tenant.clone() })
}

async fn on_blocking<T: Send + 'static>(
    reading: &Arc<Reading>,
    work: impl FnOnce(&Reading) -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    let reading = reading.clone();
    tokio::task::spawn_blocking(move || work(&reading)).await
}

/// Outputs and positions of one moment.
struct Outcome {
    observed: Observed,
    partitions: HashMap<Arc<str>, i32>,
    warnings: Vec<String>,
}

impl Reading {
    fn input_topics(&self) -> Vec<Arc<str>> {
        self.declaration.sources.iter().flat_map(|source| source.topics.iter().cloned()).collect()
    }

    fn cluster(&self) -> Result<Cluster, AuditError> {
        Cluster::connect(&self.kafka, &self.declaration.own_name())
    }

    fn outputs(&self) -> Result<Outcome, AuditError> {
        let cluster = self.cluster()?;
        let history = observe::history(&cluster, &self.events)?.with_losses_of(self.declaration.generation.number);
        let mut outputs = Outputs::new(&self.declaration, &self.job);
        let topics: Vec<Arc<str>> = outputs.topics().cloned().collect();
        let inputs = self.input_topics();
        let partitions = cluster.partitions(topics.iter().chain(&inputs))?;
        let positions = cluster.positions(&inputs, &partitions)?;
        let mut warnings = Vec::new();
        for topic in &topics {
            let Some(count) = partitions.get(topic).copied() else {
                warnings.push(format!("topic {topic} does not exist"));
                continue;
            };
            warnings.extend(cluster.settle(topic, count)?);
            let from = |number: &i32| history.output_from(&TopicPartition::new(topic.clone(), *number));
            let to_the_end: Vec<Stretch> =
                (0..count).map(|partition| Stretch { from: from(&partition), ..Stretch::whole(partition) }).collect();
            cluster.read(topic, &to_the_end, &mut |record| {
                if let Some(id) = outputs.unknown_schema(&record) {
                    outputs.learn(id, &self.schemas.get(id)?);
                }
                outputs.push(&record);
                Ok(())
            })?;
        }
        let observed = Observed { positions, history, ..outputs.finish() };
        Ok(Outcome { observed, partitions, warnings })
    }

    /// Whether the group's positions are other than they were.
    fn has_moved(&self, before: &[facts::ObservedPosition]) -> Result<bool, AuditError> {
        let cluster = self.cluster()?;
        let inputs = self.input_topics();
        let now = cluster.positions(&inputs, &cluster.partitions(inputs.iter())?)?;
        let committed = |positions: &[facts::ObservedPosition]| {
            let standing = |position: &facts::ObservedPosition| (position.committed, position.metadata.clone());
            positions.iter().map(|position| (position.partition.clone(), standing(position))).collect::<HashMap<_, _>>()
        };
        Ok(committed(&now) != committed(before))
    }

    /// What was decided about writer schemas; nothing where there is no such topic.
    fn rulings(&self) -> Result<Rulings, AuditError> {
        let (topic, mut rulings) = self.verdicts.clone();
        let cluster = self.cluster()?;
        cluster.read_whole(&topic, &mut |record| rulings.push(record.key.as_deref().unwrap_or_default(), record.value.as_deref()))?;
        Ok(rulings)
    }

    fn inputs(&self, observed: &Observed, partitions: &HashMap<Arc<str>, i32>, rulings: Rulings) -> Result<Expected, AuditError> {
        let cluster = self.cluster()?;
        let mut recompute = Recompute::new(&self.job, &self.declaration.collections, partitions);
        recompute.rule(rulings);
        let history = &observed.history;
        recompute.follow(history);
        let (windows, rest) = (history.of_windows(self.declaration.generation.number), history.of_the_rest());
        for topic in self.input_topics() {
            let mut stretches: Vec<Stretch> = Vec::new();
            for position in observed.positions.iter().filter(|position| position.partition.topic == topic) {
                let partition = &position.partition;
                let until = position.committed.unwrap_or(0);
                let began = |history: &History| history.input_from(partition).max(position.start);
                let from = began(&windows).min(began(&rest));
                // What one of the two had to read is read.
                let kept = |history: &History| history.not_skipped(partition, began(history), until);
                let kept = united(kept(&windows), kept(&rest));
                let offsets: i64 = kept.iter().map(|kept| kept.end - kept.start).sum();
                recompute.skip(u64::try_from(until - from - offsets).unwrap_or(0));
                stretches.extend(kept.into_iter().map(|Range { start, end }| Stretch {
                    partition: partition.partition,
                    from: start,
                    until: Some(end),
                }));
            }
            cluster.read(&topic, &stretches, &mut |record| {
                if let Some(guid) = recompute.unknown_guid(&record) {
                    recompute.learn_guid(guid, &self.schemas.id_of(guid)?);
                }
                if let Some(id) = recompute.unknown_schema(&record) {
                    recompute.learn(id, &self.schemas.get(id)?);
                }
                let is_of = |history: &History| history.reads(&record.partition, record.offset);
                recompute.push_for(&record, For { windows: is_of(&windows), rest: is_of(&rest) });
                Ok(())
            })?;
        }
        Ok(recompute.finish())
    }
}

/// Offsets that are in either of two lists, in order.
fn united(mut ranges: Vec<Range<i64>>, others: Vec<Range<i64>>) -> Vec<Range<i64>> {
    ranges.extend(others);
    ranges.sort_by_key(|range| range.start);
    let mut united: Vec<Range<i64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match united.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => united.push(range),
        }
    }
    united
}
