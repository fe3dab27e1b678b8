//! The broker's side: reachable, topics there or creatable, group readable, transactional id usable, timeout allowed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::runtime::Handle;

use super::findings::{Findings, exit_for, remedy_for};
use crate::cli::exit::Exit;
use crate::clock::{Clock, Deadline, SystemClock};
use crate::config::Config;
use crate::engine::generation::{self, Step};
use crate::engine::job::own_topics;
use crate::kafka::{Broker, Cluster, Failure, Reaction, TopicDescription, TransactionalProducer};
use crate::tenant::Tenant;

/// One question to the broker may take so long.
const WAIT: Duration = Duration::from_secs(10);
/// How often, and how long each time, the client is asked for its troubles.
const POLLS_MAX: usize = 20;
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Pause before a coordinator is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const CLIENT_ID: &str = "testudo-check";
const REACH: &str = "is the broker running, and does kafka.bootstrap name a listener that this machine reaches?";
const PERMIT: &str = "check kafka.properties (security.protocol, sasl.*, ssl.*) and the access rules of this user";

/// Remembers what the client says about its connections: the error of a call alone is often only "timed out".
#[derive(Clone, Debug, Default)]
struct Troubles(Arc<Mutex<Option<String>>>);

impl ClientContext for Troubles {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, text, "client message");
    }

    fn error(&self, _: KafkaError, reason: &str) {
        // "All brokers down" only repeats what the first one said better.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.to_owned());
    }
}

impl ConsumerContext for Troubles {}

impl Troubles {
    /// The client tells its troubles only while it is polled, and a moment after the call that failed.
    fn listen(&self, consumer: &BaseConsumer<Self>) {
        for _ in 0..POLLS_MAX {
            if self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                return;
            }
            if let Some(Err(error)) = consumer.poll(POLL_WAIT) {
                tracing::debug!(%error, "client trouble");
            }
        }
    }

    fn words(&self, error: &KafkaError) -> String {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => format!("{error} ({reason})"),
            None => error.to_string(),
        }
    }
}

/// Looks at everything the tenants need from the broker.
pub(super) fn look(tenants: &[Tenant], config: &Config, runtime: &Handle, findings: &mut Findings) {
    let Some(broker) = reach(config, findings) else { return };
    let admin: AdminClient<DefaultClientContext> = match config.kafka.client(CLIENT_ID).create() {
        Ok(admin) => admin,
        Err(error) => return findings.wrong(Exit::Usage, format!("no admin client can be made: {error}"), PERMIT),
    };
    transaction_timeout(config, &admin, broker, runtime, findings);
    findings.skipped("clock difference to the broker: the client cannot obtain the broker's clock");
    findings.skipped("rights to read inputs and to write outputs: not tried; they stand in docs/operations.md, \"Topics, ids, rights\"");
    let clock = SystemClock::shared();
    let cluster = Cluster::new(config.kafka.clone(), CLIENT_ID, config.engine.transaction_timeout(), clock.clone(), runtime.clone());
    for tenant in tenants {
        let Some(inputs) = inputs(tenant, &cluster, findings) else {
            continue;
        };
        generation(tenant, &cluster, &*clock, findings);
        outputs(tenant, &inputs, config.engine.ledger, &cluster, &admin, runtime, findings);
        group(tenant, &inputs, config, &*clock, findings);
        transactional_id(tenant, &cluster, findings);
    }
}

/// The id of a broker, if one answers.
fn reach(config: &Config, findings: &mut Findings) -> Option<i32> {
    let bootstrap = &config.kafka.bootstrap;
    let troubles = Troubles::default();
    let made: Result<BaseConsumer<Troubles>, _> = config.kafka.client(CLIENT_ID).create_with_context(troubles.clone());
    let consumer = match made {
        Ok(consumer) => consumer,
        Err(error) => {
            findings.wrong(Exit::Usage, format!("no client can be made: {error}"), "check kafka.properties");
            return None;
        }
    };
    let answer = consumer.fetch_metadata(None, WAIT);
    if answer.is_err() {
        troubles.listen(&consumer);
    }
    match answer {
        Ok(metadata) => {
            let brokers = metadata.brokers();
            findings.fine(format!("broker {bootstrap} answers ({} in the cluster)", brokers.len()));
            brokers.first().map(rdkafka::metadata::MetadataBroker::id)
        }
        Err(error) => {
            let words = troubles.words(&error);
            let exit = exit_for(&words);
            findings.wrong(exit, format!("broker {bootstrap} cannot be used: {words}"), remedy_for(exit, REACH, PERMIT));
            None
        }
    }
}

/// C112: a timeout above the broker's maximum is refused only when the first transaction begins.
fn transaction_timeout(config: &Config, admin: &AdminClient<DefaultClientContext>, broker: i32, runtime: &Handle, findings: &mut Findings) {
    const PROPERTY: &str = "transaction.max.timeout.ms";
    let ours = config.engine.transaction_timeout_ms;
    let specifier = [ResourceSpecifier::Broker(broker)];
    let asked = admin.describe_configs(&specifier, &options());
    let answer = runtime.block_on(asked);
    let maximum =
        answer.ok().into_iter().flatten().flatten().find_map(|resource| resource.get(PROPERTY)?.value.as_ref()?.parse::<u64>().ok());
    match maximum {
        None => findings.skipped(format!("{PROPERTY} of the broker: not told to this user (needs DescribeConfigs on the cluster)")),
        Some(maximum) if ours > maximum => findings.wrong(
            Exit::Incompatible,
            format!("engine.transaction_timeout_ms is {ours}, the broker allows at most {maximum} ({PROPERTY})"),
            "lower the one or raise the other",
        ),
        Some(maximum) => findings.fine(format!("transaction timeout {ours} ms is within the broker's {maximum} ms")),
    }
}

/// The input topics, if all are there.
fn inputs(tenant: &Tenant, cluster: &Cluster, findings: &mut Findings) -> Option<HashMap<Arc<str>, TopicDescription>> {
    let names: Vec<Arc<str>> = tenant.input_topics().cloned().collect();
    let known = described(cluster, &names, findings)?;
    for name in &names {
        match known.get(name) {
            Some(topic) => findings.fine(format!("{}: input topic {name} has {} partitions", tenant.name, topic.partitions)),
            None => findings.wrong(
                Exit::Incompatible,
                format!("{}: input topic {name} does not exist, or may not be described", tenant.name),
                "create it, correct topics in the tenant file, or grant Describe and Read on it",
            ),
        }
    }
    (known.len() == names.len()).then_some(known)
}

/// Which generation counts: its group and topics are looked at from here on.
fn generation(tenant: &Tenant, cluster: &Cluster, clock: &dyn Clock, findings: &mut Findings) {
    let standing = match generation::read(cluster, clock, tenant) {
        Ok(standing) => standing,
        Err(failure) => return refused(&failure, findings),
    };
    tenant.generation.get_or_init(|| standing.generation());
    let (name, current) = (&tenant.name, standing.current);
    match standing.step {
        Step::Settled if current == 1 => {}
        Step::Settled => findings.fine(format!("{name}: generation {current} counts")),
        Step::Building(_) => findings.fine(format!("{name}: generation {current} counts, generation {} is being rebuilt", current + 1)),
        Step::Publishing | Step::Exchanging => findings.wrong(
            Exit::Incompatible,
            format!("{name}: generation {current} is not published whole yet"),
            "go on by `testudo run --rebuild`",
        ),
    }
}

fn described(cluster: &Cluster, names: &[Arc<str>], findings: &mut Findings) -> Option<HashMap<Arc<str>, TopicDescription>> {
    match cluster.describe(names, WAIT) {
        Ok(topics) => Some(topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect()),
        Err(failure) => {
            refused(&failure, findings);
            None
        }
    }
}

/// Topics that Testudo writes: there, or creatable.
fn outputs(
    tenant: &Tenant,
    inputs: &HashMap<Arc<str>, TopicDescription>,
    with_ledger: bool,
    cluster: &Cluster,
    admin: &AdminClient<DefaultClientContext>,
    runtime: &Handle,
    findings: &mut Findings,
) {
    let wanted = own_topics(tenant, inputs, with_ledger);
    let names: Vec<Arc<str>> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let Some(known) = described(cluster, &names, findings) else {
        return;
    };
    for topic in wanted {
        let (name, partitions) = (&topic.name, topic.partitions);
        // Only changelogs must be as wide as something else.
        let is_changelog = name.ends_with("-changelog");
        match known.get(name).map(|there| there.partitions) {
            Some(there) if is_changelog && there != partitions => findings.wrong(
                Exit::Incompatible,
                format!("{}: changelog {name} has {there} partitions, its input has {partitions}", tenant.name),
                "keys have moved between partitions: begin anew with another window name, or restore the old number",
            ),
            Some(there) => findings.fine(format!("{}: output topic {name} has {there} partitions", tenant.name)),
            None => creatable(tenant, name, partitions, admin, runtime, findings),
        }
    }
}

fn creatable(
    tenant: &Tenant,
    name: &str,
    partitions: i32,
    admin: &AdminClient<DefaultClientContext>,
    runtime: &Handle,
    findings: &mut Findings,
) {
    let topic = [NewTopic::new(name, partitions, TopicReplication::Fixed(-1))];
    let answer = runtime.block_on(admin.create_topics(&topic, &options().validate_only(true)));
    let refusal = match answer {
        Ok(answers) => answers.into_iter().find_map(Result::err).map(|(_, code)| code.to_string()),
        Err(error) => Some(error.to_string()),
    };
    match refusal {
        None => findings.fine(format!("{}: output topic {name} will be created with {partitions} partitions", tenant.name)),
        Some(words) => findings.wrong(
            exit_for(&words),
            format!("{}: output topic {name} is not there and cannot be created: {words}", tenant.name),
            format!("create it with {partitions} partitions, or grant Create on it"),
        ),
    }
}

fn group(tenant: &Tenant, inputs: &HashMap<Arc<str>, TopicDescription>, config: &Config, clock: &dyn Clock, findings: &mut Findings) {
    let group = tenant.group();
    let mut client = config.kafka.client(CLIENT_ID);
    client.set("group.id", &group).set("enable.auto.commit", "false");
    let mut partitions = TopicPartitionList::new();
    for topic in inputs.values() {
        partitions.add_partition_range(&topic.name, 0, topic.partitions - 1);
    }
    match committed(&client, &partitions, &group, clock) {
        Ok(begun) => findings.fine(format!("{}: group {group} can be read; {begun} partitions have a position", tenant.name)),
        Err(failure) => {
            let exit = exit_for(&failure.cause);
            findings.wrong(exit, format!("{}: {failure}", tenant.name), remedy_for(exit, REACH, "grant Read and Describe on the group"));
        }
    }
}

/// How many of the partitions have a committed position. A coordinator that is just being found is asked again.
fn committed(client: &ClientConfig, partitions: &TopicPartitionList, group: &str, clock: &dyn Clock) -> Result<usize, Failure> {
    let deadline = Deadline::after(clock, WAIT);
    let failed = |error| Failure::of(format!("read the positions of group {group}"), &error);
    let consumer: BaseConsumer = client.create().map_err(failed)?;
    loop {
        match consumer.committed_offsets(partitions.clone(), WAIT).map_err(failed) {
            Ok(found) => {
                return Ok(found.elements().iter().filter(|element| element.offset().to_raw().is_some_and(|raw| raw >= 0)).count());
            }
            Err(failure) if failure.reaction != Reaction::Retry || deadline.is_over(clock) => return Err(failure),
            Err(_) => clock.sleep(RETRY_PAUSE),
        }
    }
}

/// Initialises a producer under an id of its own, so that no running instance is fenced.
fn transactional_id(tenant: &Tenant, cluster: &Cluster, findings: &mut Findings) {
    let id = format!("{}-check", tenant.name);
    match cluster.producer(&id).and_then(|mut producer| producer.init(WAIT)) {
        Ok(()) => findings.fine(format!("{}: transactional id {id} can be used", tenant.name)),
        Err(failure) => {
            let exit = match exit_for(&failure.cause) {
                Exit::Unreachable if failure.reaction == Reaction::Stop => Exit::Incompatible,
                exit => exit,
            };
            let remedy = remedy_for(exit, "is the transaction coordinator up (topic __transaction_state), is the timeout allowed?", {
                "grant Write and Describe on transactional ids that begin with the tenant's name"
            });
            findings.wrong(exit, format!("{}: transactional id {id} cannot be used: {failure}", tenant.name), remedy);
        }
    }
}

fn refused(failure: &Failure, findings: &mut Findings) {
    let exit = exit_for(&failure.cause);
    findings.wrong(exit, failure.to_string(), remedy_for(exit, REACH, PERMIT));
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT))
}
