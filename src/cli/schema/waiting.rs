//! Where a tenant's partitions wait: the schema of the record that its group comes to next.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::avro::frame::{SchemaGuid, SchemaId, SchemaName, of_record};
use crate::clock::{Clock, Deadline};
use crate::kafka::{Broker, Cluster, Failure, TopicPartition, TopicReader};
use crate::tenant::Tenant;

/// One question to the broker.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Wait for the next record of a partition.
const RECORD_WITHIN: Duration = Duration::from_secs(2);
/// Partitions that were not looked at by then are left out.
const ALL_WITHIN: Duration = Duration::from_secs(30);

/// By source and schema id: the places of the next records, such as `zoo-in/3 at 1200`. Records that name their schema by a GUID that
/// `id_of` does not know, or not at all, are left out; so is what is being written at this moment.
pub(super) fn next_ids(
    tenant: &Tenant,
    cluster: &Cluster,
    clock: &dyn Clock,
    id_of: &dyn Fn(SchemaGuid) -> Option<SchemaId>,
) -> Result<BTreeMap<(usize, u32), Vec<String>>, Failure> {
    let mut guids: HashMap<SchemaGuid, Option<SchemaId>> = HashMap::new();
    let deadline = Deadline::after(clock, ALL_WITHIN);
    let mut reader = cluster.reader()?;
    let mut places = BTreeMap::<(usize, u32), Vec<String>>::new();
    for (source, declared) in tenant.sources.iter().enumerate() {
        let topics = cluster.describe(&declared.topics, ANSWER_WITHIN)?;
        let partitions: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|topic| (0..topic.partitions).map(|partition| TopicPartition::new(topic.name.clone(), partition)))
            .collect();
        let positions = cluster.group_positions(&tenant.group(), &partitions, ANSWER_WITHIN)?;
        for (partition, position) in partitions.iter().zip(positions) {
            let Some(position) = position.filter(|_| !deadline.is_over(clock)) else { continue };
            if reader.bounds(partition, ANSWER_WITHIN)?.high <= position {
                continue;
            }
            reader.start(partition, position)?;
            let Some(run) = reader.read(1, RECORD_WITHIN)?.run.filter(|run| !run.is_empty()) else { continue };
            let value = run.record(0).value.unwrap_or_default();
            let kind = declared.format.schemas().unwrap_or_default();
            let id = match of_record(run.headers(0), value, kind).map(|framed| framed.name) {
                Ok(SchemaName::Id(id)) => Some(id),
                Ok(SchemaName::Guid(guid)) => *guids.entry(guid).or_insert_with(|| id_of(guid)),
                Err(_) => None,
            };
            if let Some(id) = id {
                places.entry((source, id.0)).or_default().push(format!("{partition} at {}", run.offsets()[0]));
            }
        }
    }
    Ok(places)
}
