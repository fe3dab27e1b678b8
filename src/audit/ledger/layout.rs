//! Which input partition an output record came from, as far as the record tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::facts::InputRecord;
use crate::audit::job::Declaration;
use crate::audit::outputs::dead_letters_topic;
use crate::kafka::TopicPartition;

/// A header of progress records that an operator's command wrote: no transaction of the ledger tells of them.
pub const BY_OPERATOR: &str = "testudo-operator";

/// How the records of an output topic name their origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Alerts name none: the records of a partition make one lane.
    Alert(usize),
    /// Results name it in a header.
    Window(usize),
    /// Dead letters name it in headers.
    DeadLetters,
    /// A changelog belongs to an input topic, its partitions to those of the same number. It is compacted: old records vanish.
    Changelog(Arc<str>),
}

/// The output topics of a tenant.
pub fn roles(declaration: &Declaration) -> BTreeMap<Arc<str>, Role> {
    let alerts = declaration.alerts.iter().enumerate().map(|(index, alert)| (alert.topic.clone(), Role::Alert(index)));
    let windows = declaration.windows.iter().enumerate().map(|(index, window)| (window.topic.clone(), Role::Window(index)));
    let changelogs = declaration.windows.iter().flat_map(|window| {
        declaration.sources[window.source].topics.iter().map(|topic| {
            let changelog = format!("{}-{}-{topic}-changelog", declaration.own_name(), window.name);
            (Arc::from(changelog), Role::Changelog(topic.clone()))
        })
    });
    let letters = (dead_letters_topic(&declaration.tenant), Role::DeadLetters);
    alerts.chain(windows).chain(changelogs).chain([letters]).collect()
}

/// The ledger's topic.
pub fn ledger_topic(tenant: &str) -> Arc<str> {
    format!("{tenant}-ledger").into()
}

impl Role {
    /// The lane of a record: its origin, `Some(None)` where records of this role name none, `None` where it should name one and does not.
    pub fn lane(&self, record: &InputRecord) -> Option<Option<TopicPartition>> {
        match self {
            Self::Alert(_) => Some(None),
            Self::Window(_) => {
                let (topic, partition) = record.header("testudo-origin")?.rsplit_once('/')?;
                Some(Some(TopicPartition::new(topic, partition.parse().ok()?)))
            }
            Self::DeadLetters => {
                let (topic, partition) = (record.header("testudo-topic")?, record.header("testudo-partition")?);
                Some(Some(TopicPartition::new(topic, partition.parse().ok()?)))
            }
            Self::Changelog(topic) => Some(Some(TopicPartition::new(topic.clone(), record.partition.partition))),
        }
    }

    /// The lane in which the ledger's sums for an origin count.
    pub fn lane_of(&self, origin: &TopicPartition) -> Option<TopicPartition> {
        (!matches!(self, Self::Alert(_))).then(|| origin.clone())
    }
}
