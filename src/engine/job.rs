//! A tenant's job, ready to be worked on: topics that exist, schemas that are registered, state that is open. Made once, shared by
//! the tenant's workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::admit::Admission;
use super::branch::alert::alert_schema;
use super::branch::{AlertBranch, BranchFault, OutputTopic, WindowBranch};
use super::processor::Processor;
use super::rejection::DeadLetterTopic;
use super::restore::{Facts, WindowPlan};
use super::settings::Settings;
use crate::avro::Gate;
use crate::avro::encode::{EncodeFault, Encoder, avro_name, avro_schema_of};
use crate::avro::frame::SchemaId;
use crate::avro::registry::RegistryFault;
use crate::clock::Clock;
use crate::kafka::{Broker, Failure, NewTopic, Position, TopicDescription, TopicPartition};
use crate::store::{StateStore, StoreFault, WindowIdentity, WindowStoreId};
use crate::tenant::{Tenant, Window};

/// How long one look at topics may take.
const ADMIN_WAIT: Duration = Duration::from_secs(10);

/// Registers an output schema under a subject and returns its id.
pub type RegisterSchema<'a> = dyn Fn(&str, &str) -> Result<SchemaId, RegistryFault> + Send + Sync + 'a;

/// Everything a worker of a tenant needs.
pub struct Job {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// How epochs are cut.
    pub settings: Settings,
    /// The tenant's state.
    pub store: Arc<dyn StateStore>,
    gates: Vec<Arc<Gate>>,
    topics: HashMap<Arc<str>, TopicDescription>,
    alert_schemas: Vec<OutputSchema>,
    window_schemas: Vec<OutputSchema>,
    stores: HashMap<(String, Arc<str>), WindowStore>,
}

struct OutputSchema {
    columns: SchemaRef,
    json: String,
    id: SchemaId,
}

#[derive(Clone)]
struct WindowStore {
    id: WindowStoreId,
    identity: String,
}

/// Why a job cannot start.
#[derive(Debug, thiserror::Error)]
pub enum JobFault {
    /// Input topics are missing.
    #[error("input topics {0} do not exist; create them, or correct `topics` in the tenant file")]
    MissingTopics(String),
    /// Topics that must agree do not.
    #[error("{0}")]
    Topology(String),
    /// The broker fails.
    #[error(transparent)]
    Kafka(#[from] Failure),
    /// The registry fails.
    #[error("failed to register the schema of subject {subject}: {source}")]
    Registry {
        /// The subject.
        subject: String,
        /// The registry's words.
        source: RegistryFault,
    },
    /// An output has no Avro form.
    #[error("output of `{branch}` has no Avro schema: {source}")]
    Output {
        /// The branch.
        branch: String,
        /// Why.
        source: EncodeFault,
    },
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// A branch cannot be made.
    #[error(transparent)]
    Branch(#[from] BranchFault),
}

impl Job {
    /// Prepares a tenant: looks topics up, creates those that are Testudo's own, registers output schemas, numbers the stores.
    pub fn prepare<B: Broker>(
        tenant: Arc<Tenant>,
        settings: Settings,
        broker: &B,
        clock: &dyn Clock,
        store: Arc<dyn StateStore>,
        gates: Vec<Arc<Gate>>,
        register: &RegisterSchema<'_>,
    ) -> Result<Self, JobFault> {
        let inputs = look_up(broker, tenant.input_topics().cloned().collect())?;
        let missing: Vec<&str> = tenant.input_topics().filter(|topic| !inputs.contains_key(*topic)).map(AsRef::as_ref).collect();
        if !missing.is_empty() {
            return Err(JobFault::MissingTopics(missing.join(", ")));
        }
        let wanted = own_topics(&tenant, &inputs);
        let topics = create_missing(broker, clock, inputs, wanted)?;
        let alert_schemas = tenant
            .alerts
            .iter()
            .map(|alert| output_schema(&tenant, &alert.name, &alert.topic, alert_schema(&tenant.sources[alert.source]), register))
            .collect::<Result<_, _>>()?;
        let window_schemas = tenant
            .windows
            .iter()
            .map(|window| output_schema(&tenant, &window.name, &window.topic, window.output.clone(), register))
            .collect::<Result<_, _>>()?;
        let stores = number_stores(&tenant, &*store)?;
        Ok(Self { tenant, settings, store, gates, topics, alert_schemas, window_schemas, stores })
    }

    /// A processor of its own for a worker.
    pub fn processor(&self) -> Result<Processor, JobFault> {
        let output = |topic: &Arc<str>| OutputTopic {
            name: topic.clone(),
            partitions: self.partitions(topic),
            record_bytes_max: self.settings.output_bytes_max,
        };
        let encoder = |schema: &OutputSchema, branch: &str| {
            Encoder::new(&schema.columns, &schema.json, schema.id).map_err(|source| JobFault::Output { branch: branch.to_owned(), source })
        };
        let admissions = self.gates.iter().enumerate().map(|(source, gate)| Admission::new(self.tenant.clone(), source, gate.clone()));
        let mut alerts = Vec::with_capacity(self.tenant.alerts.len());
        for (index, (alert, schema)) in self.tenant.alerts.iter().zip(&self.alert_schemas).enumerate() {
            alerts.push(AlertBranch::new(self.tenant.clone(), index, output(&alert.topic), encoder(schema, &alert.name)?));
        }
        let mut windows = Vec::with_capacity(self.tenant.windows.len());
        for (index, (window, schema)) in self.tenant.windows.iter().zip(&self.window_schemas).enumerate() {
            windows.push(WindowBranch::new(self.tenant.clone(), index, output(&window.topic), encoder(schema, &window.name)?)?);
        }
        let dead_letters = self.tenant.dead_letters_topic();
        let dead_letters = DeadLetterTopic {
            partitions: self.partitions(&dead_letters),
            value_bytes_max: self.settings.output_bytes_max,
            name: dead_letters,
        };
        Ok(Processor::new(admissions.collect(), alerts, windows, dead_letters, self.store.clone()))
    }

    /// The gate of a partition's source.
    pub fn gate(&self, partition: &TopicPartition) -> Option<&Arc<Gate>> {
        self.gates.get(self.source_of(&partition.topic)?)
    }

    /// What a restore has to know about an assigned partition.
    pub fn facts(&self, partition: &TopicPartition, committed: Option<Position>, low: Position) -> Result<Facts, JobFault> {
        let unknown = || JobFault::Topology(format!("{partition} was assigned, but its topic is no input of tenant {}", self.tenant.name));
        let source = self.source_of(&partition.topic).ok_or_else(unknown)?;
        let topic = self.topics.get(&partition.topic).ok_or_else(unknown)?;
        let windows = self.tenant.windows.iter().filter(|window| window.source == source);
        Ok(Facts {
            partition: partition.clone(),
            topic_id: topic.id.0.to_string(),
            topic_partitions: topic.partitions,
            source,
            committed,
            low,
            windows: windows.map(|window| self.window_plan(window, partition)).collect::<Result<_, _>>()?,
        })
    }

    fn window_plan(&self, window: &Window, partition: &TopicPartition) -> Result<WindowPlan, JobFault> {
        let changelog = self.tenant.changelog_topic(window, &partition.topic);
        let known = self.stores.get(&(window.name.clone(), partition.topic.clone()));
        let (Some(store), Some(topic)) = (known, self.topics.get(&changelog)) else {
            return Err(JobFault::Topology(format!("window {} has no changelog for {partition}", window.name)));
        };
        if partition.partition >= topic.partitions {
            return Err(JobFault::Topology(format!(
                "{} has {} partitions, its input has more: keys have moved between partitions; \
                 continue with a new topic of the wanted size, and a new tenant or window name",
                changelog, topic.partitions
            )));
        }
        // New where the partition has state, but never had any of this window.
        let progress = self.store.progress(partition)?;
        let is_new_here = progress.is_some_and(|progress| !progress.changelogs.contains_key(&window.name));
        Ok(WindowPlan {
            window: window.name.clone(),
            store: store.id,
            changelog: TopicPartition::new(changelog, partition.partition),
            changelog_id: topic.id.0.to_string(),
            identity: store.identity.clone(),
            may_start_empty: is_new_here || self.settings.start_empty.contains(&window.name),
        })
    }

    fn partitions(&self, topic: &str) -> i32 {
        self.topics.get(topic).map_or(1, |known| known.partitions)
    }

    fn source_of(&self, topic: &str) -> Option<usize> {
        self.tenant.sources.iter().position(|source| source.topics.iter().any(|name| &**name == topic))
    }
}

fn look_up<B: Broker>(broker: &B, names: Vec<Arc<str>>) -> Result<HashMap<Arc<str>, TopicDescription>, Failure> {
    Ok(broker.describe(&names, ADMIN_WAIT)?.into_iter().map(|topic| (topic.name.clone(), topic)).collect())
}

/// The topics that a tenant writes: outputs and dead letters as wide as its widest input, a changelog for each window and input topic.
/// Panics when `inputs` lacks one of its input topics.
pub fn own_topics(tenant: &Tenant, inputs: &HashMap<Arc<str>, TopicDescription>) -> Vec<NewTopic> {
    let widest = inputs.values().map(|topic| topic.partitions).max().unwrap_or(1);
    let outputs = tenant.alerts.iter().map(|alert| &alert.topic).chain(tenant.windows.iter().map(|window| &window.topic)).cloned();
    let plain = outputs.chain([tenant.dead_letters_topic()]).map(|name| NewTopic { name, partitions: widest, config: Vec::new() });
    let changelogs = tenant.windows.iter().flat_map(|window| {
        tenant.sources[window.source].topics.iter().map(|topic| NewTopic {
            name: tenant.changelog_topic(window, topic),
            partitions: inputs[topic].partitions,
            // Cleaned by tombstones, never by age (TIME-3); old event times must not expire it.
            config: vec![("cleanup.policy".into(), "compact".into()), ("message.timestamp.type".into(), "CreateTime".into())],
        })
    });
    plain.chain(changelogs).collect()
}

fn create_missing<B: Broker>(
    broker: &B,
    clock: &dyn Clock,
    inputs: HashMap<Arc<str>, TopicDescription>,
    wanted: Vec<NewTopic>,
) -> Result<HashMap<Arc<str>, TopicDescription>, JobFault> {
    let names: Vec<Arc<str>> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let mut known = look_up(broker, names.clone())?;
    let missing: Vec<NewTopic> = wanted.into_iter().filter(|topic| !known.contains_key(&topic.name)).collect();
    if !missing.is_empty() {
        tracing::info!(topics = ?missing.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), "creating topics");
        broker.create(&missing, ADMIN_WAIT)?;
        // A new topic takes a moment to be known to every broker.
        for _ in 0..50 {
            known = look_up(broker, names.clone())?;
            if names.iter().all(|name| known.contains_key(name)) {
                break;
            }
            clock.sleep(Duration::from_millis(100));
        }
    }
    if let Some(name) = names.iter().find(|name| !known.contains_key(*name)) {
        return Err(JobFault::Topology(format!("topic {name} was created but is not there; try again")));
    }
    known.extend(inputs);
    Ok(known)
}

fn output_schema(
    tenant: &Tenant,
    branch: &str,
    topic: &str,
    columns: SchemaRef,
    register: &RegisterSchema<'_>,
) -> Result<OutputSchema, JobFault> {
    let json = output_avro(tenant, branch, &columns).map_err(|source| JobFault::Output { branch: branch.to_owned(), source })?;
    let subject = format!("{topic}-value");
    let id = register(&subject, &json).map_err(|source| JobFault::Registry { subject, source })?;
    Ok(OutputSchema { columns, json, id })
}

/// The Avro schema under which a branch's output is registered: a record named as the branch, in the tenant's namespace.
pub fn output_avro(tenant: &Tenant, branch: &str, columns: &SchemaRef) -> Result<String, EncodeFault> {
    Ok(avro_schema_of(&avro_name(branch), &avro_name(&tenant.name), columns)?.to_string())
}

fn number_stores(tenant: &Tenant, store: &dyn StateStore) -> Result<HashMap<(String, Arc<str>), WindowStore>, StoreFault> {
    let mut stores = HashMap::new();
    for window in &tenant.windows {
        for topic in &tenant.sources[window.source].topics {
            let identity = identity_of(window, topic);
            let id = store.window(&identity)?;
            stores.insert((window.name.clone(), topic.clone()), WindowStore { id, identity: identity.fingerprint() });
        }
    }
    Ok(stores)
}

fn identity_of(window: &Window, topic: &str) -> WindowIdentity {
    WindowIdentity {
        window: window.name.clone(),
        topic: topic.to_owned(),
        size_us: window.size_us,
        grace_us: window.grace_us,
        emit: format!("{:?}", window.emit).to_lowercase(),
        by: window.by.iter().map(|column| format!("{} {}", column.name, column.expression.data_type())).collect(),
        aggregates: window.aggregates.iter().map(|aggregate| aggregate.sql.clone()).collect(),
        state: window.state.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect(),
    }
}
