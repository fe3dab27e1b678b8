//! Reads the cluster and MongoDB: plain consumers outside any group, read committed, from the first offset to the end.
//!
//! The audit looks at one moment. A transaction moves positions and outputs together, but its markers reach the partitions one
//! after another; so the last stable offset of every output must first come up to the high watermark seen with the positions.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::AuditError;
use super::documents;
use super::facts::{InputRecord, Observed, ObservedPosition};
use super::fetch::{self, Stretch, consumer};
use super::history::History;
use super::job::Declaration;
use super::recompute::{GuidSchema, WriterSchema};
use crate::avro::frame::{SchemaGuid, SchemaId};
use crate::avro::registry::{Registry, RegistryFault};
use crate::clock::{Clock, Deadline, SystemClock};
use crate::kafka::client::Callbacks;
use crate::kafka::{Settings, TopicPartition};
use crate::tenant::CollectionOf;

/// One request to a broker.
const REQUEST_WAIT: Duration = Duration::from_secs(30);
/// Open transactions are waited for so long; their timeout is 10 s, and the broker's sweep comes every 10 s.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// A registry that does not answer is asked so often.
const REGISTRY_TRIES: u32 = 5;

/// The cluster, seen by two consumers: one read committed, one that sees high watermarks.
pub struct Cluster {
    settings: Settings,
    group: String,
    committed: BaseConsumer<Callbacks>,
    uncommitted: BaseConsumer<Callbacks>,
    clock: Arc<dyn Clock>,
}

impl Cluster {
    /// Consumers of `group`, which they never join.
    ///
    /// # Errors
    /// [`AuditError::Kafka`] when the settings cannot be used.
    pub fn connect(settings: &Settings, group: &str) -> Result<Self, AuditError> {
        Ok(Self {
            settings: settings.clone(),
            group: group.to_owned(),
            committed: consumer(settings, group, "read_committed", &[])?,
            uncommitted: consumer(settings, group, "read_uncommitted", &[])?,
            clock: SystemClock::shared(),
        })
    }

    /// Number of partitions of each topic that exists.
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn partitions<'t>(&self, topics: impl Iterator<Item = &'t Arc<str>>) -> Result<HashMap<Arc<str>, i32>, AuditError> {
        let mut partitions = HashMap::new();
        for topic in topics {
            let attempted = || format!("describe topic {topic}");
            let metadata =
                self.committed.fetch_metadata(Some(topic), REQUEST_WAIT).map_err(|error| AuditError::kafka(attempted(), &error))?;
            let found = metadata.topics().iter().find(|found| found.name() == &**topic && found.error().is_none());
            if let Some(found) = found.filter(|found| !found.partitions().is_empty()) {
                partitions.insert(topic.clone(), found.partitions().len() as i32);
            }
        }
        Ok(partitions)
    }

    /// Where the group stands in each partition of `topics`, and the partition's bounds.
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn positions(&self, topics: &[Arc<str>], partitions: &HashMap<Arc<str>, i32>) -> Result<Vec<ObservedPosition>, AuditError> {
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..partitions.get(topic).copied().unwrap_or(0) {
                list.add_partition(topic, partition);
            }
        }
        let answer = self
            .committed
            .committed_offsets(list, REQUEST_WAIT)
            .map_err(|error| AuditError::kafka("read the group's committed positions".into(), &error))?;
        let mut positions = Vec::new();
        for element in answer.elements() {
            let partition = TopicPartition::new(element.topic(), element.partition());
            let (start, end) = self.bounds(&self.uncommitted, &partition)?;
            let committed = match element.offset() {
                Offset::Offset(position) => Some(position),
                _ => None,
            };
            let metadata = crate::kafka::ffi::metadata(&answer, &partition.topic, partition.partition);
            positions.push(ObservedPosition { partition, start, end, committed, metadata });
        }
        Ok(positions)
    }

    fn bounds(&self, consumer: &BaseConsumer<Callbacks>, partition: &TopicPartition) -> Result<(i64, i64), AuditError> {
        let attempted = || format!("read the bounds of {partition}");
        consumer
            .fetch_watermarks(&partition.topic, partition.partition, REQUEST_WAIT)
            .map_err(|error| AuditError::kafka(attempted(), &error))
    }

    /// Waits until everything that is written to `topic` now is committed or aborted; a warning when it is not in time.
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn settle(&self, topic: &Arc<str>, partitions: i32) -> Result<Option<String>, AuditError> {
        let deadline = Deadline::after(&*self.clock, SETTLE_WITHIN);
        for partition in (0..partitions).map(|partition| TopicPartition::new(topic.clone(), partition)) {
            let (_, end) = self.bounds(&self.uncommitted, &partition)?;
            loop {
                let (_, stable) = self.bounds(&self.committed, &partition)?;
                if stable >= end {
                    break;
                }
                if deadline.is_over(&*self.clock) {
                    return Ok(Some(format!("{partition}: a transaction is open at {stable}, what stands behind it was not looked at")));
                }
                self.clock.sleep(Duration::from_millis(100));
            }
        }
        Ok(None)
    }

    /// Reads a topic from its first record to its end; nothing where there is no such topic.
    ///
    /// # Errors
    /// [`AuditError`] when it cannot be read.
    pub fn read_whole(&self, topic: &Arc<str>, take: &mut dyn FnMut(&InputRecord)) -> Result<(), AuditError> {
        let count = self.partitions([topic].into_iter())?.get(topic).copied().unwrap_or(0);
        let stretches: Vec<Stretch> = (0..count).map(Stretch::whole).collect();
        self.read(topic, &stretches, &mut |record| {
            take(&record);
            Ok(())
        })
    }

    /// Reads stretches of a topic's partitions; of each partition they stand in order.
    ///
    /// # Errors
    /// [`AuditError`] when they cannot be read, or what `take` fails with.
    pub fn read(
        &self,
        topic: &Arc<str>,
        stretches: &[Stretch],
        take: &mut dyn FnMut(InputRecord) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        fetch::read(&self.settings, &self.group, topic, stretches, take)
    }
}

/// What operators did, as it stands on the topic of events.
///
/// # Errors
/// When it cannot be read.
pub fn history(cluster: &Cluster, events: &Arc<str>) -> Result<History, AuditError> {
    let mut history = History::default();
    cluster.read_whole(events, &mut |record| history.push(record))?;
    Ok(history)
}

/// The registry, asked from a thread that may block.
pub struct Schemas {
    /// The client.
    pub registry: Registry,
    /// The runtime that it needs.
    pub runtime: tokio::runtime::Handle,
}

impl Schemas {
    /// The schema of an id.
    ///
    /// # Errors
    /// [`AuditError::Registry`] when the registry does not answer in several tries.
    pub fn get(&self, id: u32) -> Result<WriterSchema, AuditError> {
        let mut tries = 0;
        loop {
            match self.runtime.block_on(self.registry.schema(SchemaId(id))) {
                Ok(fetched) => {
                    return Ok(WriterSchema::Known { kind: fetched.kind, json: fetched.json, references: fetched.references });
                }
                Err(RegistryFault::NotFound(_)) => return Ok(WriterSchema::Missing),
                Err(RegistryFault::Bad(_) | RegistryFault::Refused { .. }) => return Ok(WriterSchema::Unusable),
                Err(_) if tries < REGISTRY_TRIES => {
                    tries += 1;
                    self.runtime.block_on(tokio::time::sleep(Duration::from_secs(1)));
                }
                Err(cause) => return Err(AuditError::Registry { schema: id.to_string(), cause }),
            }
        }
    }

    /// The id of a GUID's schema.
    ///
    /// # Errors
    /// [`AuditError::Registry`] when the registry does not answer in several tries.
    pub fn id_of(&self, guid: [u8; 16]) -> Result<GuidSchema, AuditError> {
        let mut tries = 0;
        loop {
            match self.runtime.block_on(self.registry.id_of_guid(SchemaGuid(guid))) {
                Ok(id) => return Ok(GuidSchema::Id(id.0)),
                Err(RegistryFault::NotFound(_)) => return Ok(GuidSchema::Missing),
                Err(RegistryFault::Bad(_) | RegistryFault::Refused { .. }) => return Ok(GuidSchema::NoGuids),
                Err(_) if tries < REGISTRY_TRIES => {
                    tries += 1;
                    self.runtime.block_on(tokio::time::sleep(Duration::from_secs(1)));
                }
                Err(cause) => return Err(AuditError::Registry { schema: SchemaGuid(guid).to_string(), cause }),
            }
        }
    }
}

/// Adds the documents of the tenant's collections, reduced to what is compared, and the markers of records without one.
///
/// # Errors
/// [`AuditError::Mongo`].
pub async fn add_documents(database: &mongodb::Database, declaration: &Declaration, observed: &mut Observed) -> Result<(), AuditError> {
    for collection in &declaration.collections {
        let reduce = match collection.of {
            CollectionOf::Window(_) => documents::observed_result,
            CollectionOf::Source(_) => documents::observed_reading,
            CollectionOf::Alert(_) => documents::observed_alert,
        };
        let mut found = Vec::new();
        for_each(database, &collection.name, |document| found.push(reduce(document))).await?;
        observed.documents.insert(collection.name.clone(), found);
        let mut set_aside = BTreeSet::new();
        for_each(database, &format!("{}_set_aside", collection.name), |marker| set_aside.extend(documents::set_aside(marker))).await?;
        observed.set_aside.insert(collection.name.clone(), set_aside);
    }
    Ok(())
}

async fn for_each(database: &mongodb::Database, collection: &str, mut take: impl FnMut(&Document)) -> Result<(), AuditError> {
    let mongo = |cause: mongodb::error::Error| AuditError::Mongo { collection: collection.to_owned(), cause: Box::new(cause) };
    let mut cursor = database.collection::<Document>(collection).find(doc! {}).await.map_err(mongo)?;
    while cursor.advance().await.map_err(mongo)? {
        take(&cursor.deserialize_current().map_err(mongo)?);
    }
    Ok(())
}
