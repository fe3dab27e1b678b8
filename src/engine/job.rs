//! A tenant's job, ready to be worked on: topics that exist, schemas that are registered, state that is open. Made once, shared by
//! the tenant's workers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::admit::Admission;
use super::branch::alert::alert_schema;
use super::branch::{AlertBranch, BranchFault, OutputTopic, WindowBranch};
use super::claims::Claims;
use super::processor::Processor;
use super::publish::staging_topics;
use super::rejection::DeadLetterTopic;
use super::restore::{Facts, WindowPlan};
use super::settings::Settings;
use crate::avro::Gate;
use crate::avro::encode::{EncodeFault, Encoder, avro_name, avro_schema_of};
use crate::avro::frame::SchemaId;
use crate::avro::registry::RegistryFault;
use crate::clock::{Clock, Deadline};
use crate::kafka::{Broker, Failure, Mark, NewTopic, Outgoing, Position, Reaction, TopicDescription, TopicPartition};
use crate::ledger;
use crate::store::{StateStore, StoreFault, WindowIdentity, WindowStoreId};
use crate::tenant::{Tenant, Window};

/// How long one look at topics may take.
const ADMIN_WAIT: Duration = Duration::from_secs(10);
/// A new topic takes a moment to be known to every broker; a busy controller longer.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

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
    /// Which worker may touch which partition's state.
    pub claims: Arc<Claims>,
    gates: Vec<Arc<Gate>>,
    topics: RwLock<HashMap<Arc<str>, TopicDescription>>,
    alert_schemas: Vec<OutputSchema>,
    window_schemas: Vec<OutputSchema>,
    /// None where no ledger is written.
    ledger_schema: Option<SchemaId>,
    /// Where records of output topics go while the generation is being rebuilt.
    aside: HashMap<Arc<str>, Arc<str>>,
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
    /// Another generation has taken this one's place (docs/adr/0015-rebuild.md).
    #[error("{0}")]
    Superseded(String),
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
        let wanted = own_topics(&tenant, &inputs, settings.ledger);
        let topics = create_missing(broker, clock, inputs, wanted)?;
        check_widths(&tenant, &topics)?;
        let (topics, aside) = match settings.staging {
            None => (topics, HashMap::new()),
            Some(_) => {
                let wanted = staging_topics(&tenant, &topics);
                let aside = tenant.rebuilt_topics().into_iter().map(|topic| (topic.clone(), tenant.staging_topic(&topic))).collect();
                (create_missing(broker, clock, topics, wanted)?, aside)
            }
        };
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
        let ledger_schema = ledger_schema(&tenant, &settings, register)?;
        let stores = number_stores(&tenant, &*store)?;
        let topics = RwLock::new(topics);
        Ok(Self {
            tenant,
            settings,
            store,
            claims: Arc::default(),
            gates,
            topics,
            alert_schemas,
            window_schemas,
            ledger_schema,
            aside,
            stores,
        })
    }

    /// A processor of its own for the worker of a transactional id.
    pub fn processor(&self, transactional_id: &str) -> Result<Processor, JobFault> {
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
        let processor = Processor::new(admissions.collect(), alerts, windows, dead_letters, self.store.clone());
        let processor = processor.rebuilding(self.settings.staging.is_some());
        Ok(match self.ledger_schema {
            Some(schema) => processor.with_ledger(ledger::Writer::new(ledger::Author {
                topic: self.tenant.ledger_topic(),
                schema,
                transactional_id: transactional_id.to_owned(),
                tenant_version: self.tenant.version.clone(),
            })),
            None => processor,
        })
    }

    /// A record as it is sent: to the topic that it is for, or to the one aside while the generation is being rebuilt.
    pub fn placed<'r>(&self, record: &'r Outgoing) -> Cow<'r, Outgoing> {
        match self.aside.get(&record.topic) {
            Some(aside) => Cow::Owned(Outgoing { topic: aside.clone(), ..record.clone() }),
            None => Cow::Borrowed(record),
        }
    }

    /// The gate of a partition's source.
    pub fn gate(&self, partition: &TopicPartition) -> Option<&Arc<Gate>> {
        self.gates.get(self.source_of(&partition.topic)?)
    }

    /// What a restore has to know about an assigned partition.
    pub fn facts(&self, partition: &TopicPartition, committed: Option<Mark>, low: Position) -> Result<Facts, JobFault> {
        let unknown = || JobFault::Topology(format!("{partition} was assigned, but its topic is no input of tenant {}", self.tenant.name));
        let source = self.source_of(&partition.topic).ok_or_else(unknown)?;
        let topic = self.topic(&partition.topic).ok_or_else(unknown)?;
        let windows = self.tenant.windows.iter().filter(|window| window.source == source);
        Ok(Facts {
            partition: partition.clone(),
            topic_id: topic.id.0.to_string(),
            topic_partitions: topic.partitions,
            source,
            committed,
            low,
            windows: windows.map(|window| self.window_plan(window, &topic, partition)).collect::<Result<_, _>>()?,
        })
    }

    fn window_plan(&self, window: &Window, input: &TopicDescription, partition: &TopicPartition) -> Result<WindowPlan, JobFault> {
        let changelog = self.tenant.changelog_topic(window, &partition.topic);
        let known = self.stores.get(&(window.name.clone(), partition.topic.clone()));
        let (Some(store), Some(topic)) = (known, self.topic(&changelog)) else {
            return Err(JobFault::Topology(format!("window {} has no changelog for {partition}", window.name)));
        };
        if input.partitions > topic.partitions {
            return Err(widened(&changelog, topic.partitions, &input.name, input.partitions));
        }
        // New where the partition has whole state, but never had any of this window.
        let progress = self.store.progress(partition)?;
        let is_new = progress.is_some_and(|progress| progress.is_whole() && !progress.changelogs.contains_key(&window.name));
        Ok(WindowPlan {
            window: window.name.clone(),
            store: store.id,
            changelog: TopicPartition::new(changelog, partition.partition),
            changelog_id: topic.id.0.to_string(),
            identity: store.identity.clone(),
            is_new,
            loss_is_accepted: self.settings.may_start_empty(&self.tenant.name, &window.name),
        })
    }

    /// Looks the topics up again: one that was deleted, made anew or widened while the job works has to be noticed before a position in
    /// it is believed.
    ///
    /// # Errors
    /// While one is missing; it may come back.
    pub fn look_again<B: Broker>(&self, broker: &B) -> Result<(), Failure> {
        let names: Vec<Arc<str>> = self.topics.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let found = look_up(broker, names.clone())?;
        if let Some(missing) = names.iter().find(|name| !found.contains_key(*name)) {
            let attempted = format!("look up topic {missing}");
            return Err(Failure::new(Reaction::Retry, attempted, "it is not there any more; restore it, or stop the tenant"));
        }
        *self.topics.write().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    /// Every partition of the tenant's inputs, as the topics were when they were last looked up.
    pub fn input_partitions(&self) -> Vec<TopicPartition> {
        let of_topic = |topic: &Arc<str>| {
            (0..self.partitions(topic)).map(|number| TopicPartition { topic: topic.clone(), partition: number }).collect::<Vec<_>>()
        };
        self.tenant.input_topics().flat_map(of_topic).collect()
    }

    fn topic(&self, name: &str) -> Option<TopicDescription> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn partitions(&self, topic: &str) -> i32 {
        self.topic(topic).map_or(1, |known| known.partitions)
    }

    fn source_of(&self, topic: &str) -> Option<usize> {
        self.tenant.sources.iter().position(|source| source.topics.iter().any(|name| &**name == topic))
    }
}

fn look_up<B: Broker>(broker: &B, names: Vec<Arc<str>>) -> Result<HashMap<Arc<str>, TopicDescription>, Failure> {
    Ok(broker.describe(&names, ADMIN_WAIT)?.into_iter().map(|topic| (topic.name.clone(), topic)).collect())
}

/// The topics for a tenant's owner: verdicts on schemas, and events. Each has one order, so one partition.
pub fn owner_topics(tenant: &Tenant) -> [NewTopic; 2] {
    // A verdict that lost a race is written over within seconds, long before it may be compacted away.
    let verdicts = vec![("cleanup.policy".into(), "compact".into()), ("min.compaction.lag.ms".into(), "86400000".into())];
    // Events are the trail of audits: they are kept.
    let events = vec![("retention.ms".into(), "-1".into())];
    [(tenant.schemas_topic(), verdicts), (tenant.events_topic(), events)].map(|(name, config)| NewTopic { name, partitions: 1, config })
}

/// The topics that a tenant writes: outputs and dead letters as wide as its widest input, a changelog for each window and input topic.
/// A ledger where one is written. Panics when `inputs` lacks one of its input topics.
pub fn own_topics(tenant: &Tenant, inputs: &HashMap<Arc<str>, TopicDescription>, with_ledger: bool) -> Vec<NewTopic> {
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
    // Kept until somebody says otherwise: what it no longer tells of cannot be audited. One partition, see `ledger`.
    let kept = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("message.timestamp.type", "CreateTime")];
    let kept = kept.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let ledger = with_ledger.then(|| NewTopic { name: tenant.ledger_topic(), partitions: 1, config: kept });
    plain.chain(owner_topics(tenant)).chain(ledger).chain(changelogs).collect()
}

/// Creates those of `wanted` that are missing and waits until they are known; all of them, with `inputs`.
pub fn create_missing<B: Broker>(
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
        let within = Deadline::after(clock, KNOWN_WITHIN);
        loop {
            known = look_up(broker, names.clone())?;
            if names.iter().all(|name| known.contains_key(name)) || within.is_over(clock) {
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

/// KEY-1: a key's place must not move while state of it lies elsewhere.
fn check_widths(tenant: &Tenant, topics: &HashMap<Arc<str>, TopicDescription>) -> Result<(), JobFault> {
    for window in &tenant.windows {
        for input in &tenant.sources[window.source].topics {
            let name = tenant.changelog_topic(window, input);
            let (Some(changelog), Some(known)) = (topics.get(&name), topics.get(input)) else { continue };
            if known.partitions > changelog.partitions {
                return Err(widened(&name, changelog.partitions, input, known.partitions));
            }
        }
    }
    Ok(())
}

fn widened(changelog: &str, had: i32, input: &str, has: i32) -> JobFault {
    JobFault::Topology(format!(
        "input topic {input} had {had} partitions and has {has} now ({changelog} still has {had}): keys have moved between partitions (KEY-1); \
         copy the records into a new topic of {has} partitions, re-keyed, and read that under a new tenant name, \
         or accept that all results begin again: `testudo reset`"
    ))
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

fn ledger_schema(tenant: &Tenant, settings: &Settings, register: &RegisterSchema<'_>) -> Result<Option<SchemaId>, JobFault> {
    if !settings.ledger {
        return Ok(None);
    }
    let subject = format!("{}-value", tenant.ledger_topic());
    register(&subject, ledger::record::SCHEMA).map(Some).map_err(|source| JobFault::Registry { subject, source })
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
            stores.insert((window.name.clone(), topic.clone()), WindowStore { id, identity: identity.recorded() });
        }
    }
    Ok(stores)
}

/// What a window's stored bytes over an input topic mean.
pub fn identity_of(window: &Window, topic: &str) -> WindowIdentity {
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
