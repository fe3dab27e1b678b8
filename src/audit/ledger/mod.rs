//! `testudo audit --ledger`: holds topics and MongoDB against the ledger, in one pass over each, in bounded memory.
//!
//! Nothing is recomputed. The ledger says for each transaction which records went in and what came out; this says whether they are there,
//! each once and unaltered, and in which transaction the first is not. Whether what came out is *right* only the recomputing audit can
//! tell. Read top to bottom: [`walk`] goes through the ledger, [`chain`] follows an input partition, [`lane`] what came of it, and
//! [`collections`] and [`readings`] look at MongoDB beside it (docs/adr/0014-ledger.md).

mod findings;

mod chain;
mod lane;
mod layout;
mod source;
mod walk;

mod collections;
mod mongo;
mod readings;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::facts::ObservedPosition;
use super::history::History;
use super::job::{Collection, Declaration};
use super::observe::{self, Cluster, Schemas};
use super::report::{Kind, Report};
use super::{AuditError, Options};
use crate::kafka::{Settings, TopicPartition};
use crate::ledger::Transaction;
use crate::tenant::CollectionOf;
use collections::{Feed, Outputs};
use layout::{Role, ledger_topic, roles};
use mongo::Mongo;
use readings::Readings;
use source::{Source, Streams};
use walk::{Bounds, Walk, Witness};

/// Told how many of how many transactions have been looked at.
pub type Progress = dyn Fn(u64, u64) + Send + Sync;

/// Audits a tenant by its ledger. Reads only; the service may be at work. Needs a multi-threaded runtime's blocking threads.
///
/// # Errors
/// [`AuditError`] when the audit could not be made. What it found wrong is in the report: see [`Report::is_clean`].
pub async fn audit_by_ledger(options: Options, progress: Arc<Progress>) -> Result<Report, AuditError> {
    let schemas = Schemas { registry: options.registry, runtime: tokio::runtime::Handle::current() };
    let audit = Audit {
        declaration: Declaration::of(&options.tenant),
        kafka: options.kafka,
        schemas,
        events: options.tenant.events_topic(),
        database: options.mongo,
        first: options.first,
        progress,
    };
    tokio::task::spawn_blocking(move || audit.run()).await?
}

struct Audit {
    declaration: Declaration,
    kafka: Settings,
    schemas: Schemas,
    events: Arc<str>,
    database: Option<mongodb::Database>,
    first: usize,
    progress: Arc<Progress>,
}

/// What is there at the moment that is audited: everything up to these bounds is committed or will never be.
struct Moment {
    partitions: HashMap<Arc<str>, i32>,
    inputs: Vec<ObservedPosition>,
    outputs: BTreeMap<TopicPartition, (Role, Bounds)>,
    ledger: Vec<(TopicPartition, Bounds)>,
    history: Arc<History>,
    warnings: Vec<String>,
}

impl Audit {
    fn input_topics(&self) -> Vec<Arc<str>> {
        self.declaration.sources.iter().flat_map(|source| source.topics.iter().cloned()).collect()
    }

    fn run(&self) -> Result<Report, AuditError> {
        let cluster = Cluster::connect(&self.kafka, &self.declaration.own_name())?;
        let moment = self.moment(&cluster)?;
        let history = &moment.history;
        let inputs: BTreeMap<TopicPartition, i64> =
            moment.inputs.iter().map(|position| (position.partition.clone(), position.start)).collect();
        let of_inputs = inputs.keys().map(|partition| (partition.clone(), history.input_from(partition)));
        let of_outputs = moment.outputs.iter().map(|(partition, (_, bounds))| (partition.clone(), bounds.low));
        let read: Vec<(TopicPartition, i64)> = of_inputs.chain(of_outputs).collect();
        let ledger: Vec<(TopicPartition, i64)> = moment.ledger.iter().map(|(partition, bounds)| (partition.clone(), bounds.low)).collect();
        let mut records = Streams::open(&self.kafka, &self.declaration.own_name(), &read, history)?;
        let mut transactions = Streams::open(&self.kafka, &self.declaration.own_name(), &ledger, history)?;
        let is_cut = moment.ledger.iter().any(|(partition, bounds)| bounds.low > history.output_from(partition));
        let mut walk = Walk::new(&mut records, inputs, moment.outputs.clone(), is_cut, self.first);
        walk.follow(history);
        walk.findings.warnings.extend(moment.warnings.iter().cloned());
        if is_cut {
            walk.findings.warnings.push("the ledger's first records are gone already: what they told of is not audited".into());
        }
        for witness in self.witnesses(&moment)? {
            walk.witness(witness);
        }
        for (partition, bounds) in &moment.ledger {
            self.follow(partition, *bounds, &mut transactions, &mut walk)?;
        }
        let after = cluster.positions(&self.input_topics(), &moment.partitions)?;
        let after: HashMap<TopicPartition, Option<i64>> =
            after.into_iter().map(|position| (position.partition, position.committed)).collect();
        let committed = moment.inputs.into_iter().map(|position| {
            let after = after.get(&position.partition).copied().flatten();
            (position.partition, (position.committed, after))
        });
        Ok(walk.finish(&committed.collect())?.report())
    }

    /// Takes the bounds of everything, in an order in which nothing can be missed: a record that stands before its topic's end now belongs
    /// to a transaction whose ledger record stands before the ledger's end, which is asked for when that transaction has ended.
    fn moment(&self, cluster: &Cluster) -> Result<Moment, AuditError> {
        let inputs = self.input_topics();
        let roles = roles(&self.declaration);
        let ledger = ledger_topic(&self.declaration.own_name());
        let partitions = cluster.partitions(inputs.iter().chain(roles.keys()).chain([&ledger]))?;
        if !partitions.contains_key(&ledger) {
            return Err(AuditError::NoLedger { topic: ledger.to_string() });
        }
        let mut warnings: Vec<String> = Vec::new();
        warnings.extend(roles.keys().filter(|topic| !partitions.contains_key(*topic)).map(|topic| format!("topic {topic} does not exist")));
        let topics: Vec<Arc<str>> = roles.keys().filter(|topic| partitions.contains_key(*topic)).cloned().collect();
        // The ledger is of one generation, and tells of nothing before.
        let mut history = observe::history(cluster, &self.events)?.of_windows(self.declaration.generation.number);
        history.generation = self.declaration.generation.clone();
        let history = Arc::new(history);
        let positions = cluster.positions(&inputs, &partitions)?;
        let bounds = |position: &ObservedPosition| {
            let low = position.start.max(history.output_from(&position.partition));
            Bounds { low, end: position.end.max(low) }
        };
        let outputs = cluster.positions(&topics, &partitions)?;
        let outputs = outputs.into_iter().filter_map(|position| {
            let role = roles.get(&position.partition.topic)?.clone();
            Some((position.partition.clone(), (role, bounds(&position))))
        });
        let outputs = outputs.collect();
        let settle = |topics: &[Arc<str>], warnings: &mut Vec<String>| -> Result<(), AuditError> {
            for topic in topics {
                warnings.extend(cluster.settle(topic, partitions[topic])?);
            }
            Ok(())
        };
        settle(&topics, &mut warnings)?;
        let ledger_bounds = cluster.positions(std::slice::from_ref(&ledger), &partitions)?;
        settle(std::slice::from_ref(&ledger), &mut warnings)?;
        // The markers of a transaction reach its partitions one after the other.
        settle(&topics, &mut warnings)?;
        warnings.sort();
        warnings.dedup();
        let ledger = ledger_bounds.iter().map(|position| (position.partition.clone(), bounds(position))).collect();
        Ok(Moment { partitions, inputs: positions, outputs, ledger, history, warnings })
    }

    /// Follows one partition of the ledger to its end.
    fn follow(
        &self,
        partition: &TopicPartition,
        bounds: Bounds,
        transactions: &mut Streams,
        walk: &mut Walk<'_>,
    ) -> Result<(), AuditError> {
        let mut read_until = bounds.low;
        while read_until < bounds.end {
            let Some(record) = transactions.next(partition, bounds.end)? else { break };
            read_until = record.offset + 1;
            match Transaction::decode(record.value.as_deref().unwrap_or_default()) {
                Ok(transaction) => {
                    walk.findings.count("ledger", 1, 1);
                    walk.transaction(record.offset, &transaction)?;
                }
                Err(unreadable) => {
                    walk.findings.count("ledger", 0, 1);
                    walk.findings.wrong("ledger", Kind::Extra, record.place(), unreadable);
                }
            }
            (self.progress)(u64::try_from(read_until - bounds.low).unwrap_or(0), u64::try_from(bounds.end - bounds.low).unwrap_or(0));
        }
        Ok(())
    }

    /// Those who hold MongoDB's collections against what passes by.
    fn witnesses(&self, moment: &Moment) -> Result<Vec<Box<dyn Witness + '_>>, AuditError> {
        let Some(database) = &self.database else { return Ok(Vec::new()) };
        let mongo = Mongo { database, runtime: &self.schemas.runtime };
        let mut witnesses: Vec<Box<dyn Witness + '_>> = Vec::new();
        for collection in &self.declaration.collections {
            let name = &collection.name;
            let (topic, feed) = match collection.of {
                CollectionOf::Source(source) => {
                    let written = self.written(collection, &self.declaration.sources[source].topics, moment)?;
                    witnesses.push(Box::new(Readings::new(name, mongo, written)));
                    continue;
                }
                CollectionOf::Window(window) => {
                    (&self.declaration.windows[window].topic, Feed::Window(self.declaration.windows[window].clone()))
                }
                CollectionOf::Alert(alert) => (&self.declaration.alerts[alert].topic, Feed::Alert),
            };
            let mut outputs = Outputs::new(name, topic, feed, mongo, &self.schemas);
            outputs.written = self.written(collection, std::slice::from_ref(topic), moment)?;
            let of_topic = moment.outputs.iter().filter(|(partition, _)| partition.topic == *topic);
            outputs.bounds = of_topic.map(|(partition, (_, bounds))| (partition.clone(), *bounds)).collect();
            witnesses.push(Box::new(outputs));
        }
        Ok(witnesses)
    }

    /// How far a collection's sink has written each partition.
    fn written(&self, collection: &Collection, topics: &[Arc<str>], moment: &Moment) -> Result<HashMap<TopicPartition, i64>, AuditError> {
        let group = self.declaration.sink_group(collection);
        let positions = Cluster::connect(&self.kafka, &group)?.positions(topics, &moment.partitions)?;
        Ok(positions.into_iter().map(|position| (position.partition, position.committed.unwrap_or(0))).collect())
    }
}
