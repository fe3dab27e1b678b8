//! What commands of an operator that change a tenant's history have in common: they ask first, act on a tenant that stands still, and
//! leave a record of who did what on `<tenant>-events`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::exit::{Exit, WithExit};
use crate::clock::{Deadline, SharedClock, SystemClock};
use crate::config::Config;
use crate::engine::deeds;
use crate::engine::generation::{self, Standing, Step};
use crate::engine::job::owner_topics;
use crate::engine::standstill::partitions_of;
use crate::kafka::settings::GroupProtocol;
use crate::kafka::{Broker, Cluster, Failure, Outgoing, Position, Reaction, TopicDescription, TopicPartition};
use crate::store::lock::holder;
use crate::tenant::Tenant;

const CLIENT_ID: &str = "testudo-operator";
/// One question to the broker may take so long.
pub(super) const WAIT: Duration = Duration::from_secs(15);
/// Under KIP-848 the broker decides: its default of `group.consumer.session.timeout.ms`.
const BROKERS_SESSION: Duration = Duration::from_secs(45);
/// Members are waited for so much longer than their session lasts.
pub(super) const SESSION_MARGIN: Duration = Duration::from_secs(5);
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// A tenant, and the cluster it works on.
pub(super) struct Site {
    pub(super) config: Config,
    pub(super) tenant: Arc<Tenant>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) clock: SharedClock,
    /// Its input topics; all are there.
    pub(super) inputs: Vec<TopicDescription>,
    /// Which generation counts; the tenant is of it, unless it was given another one before.
    pub(super) standing: Standing,
    /// Clients that ask for positions, by group: a rebuild asks several times a second.
    clients: Mutex<BTreeMap<String, Arc<BaseConsumer>>>,
}

/// Where the partitions of a group stand.
pub(super) type Positions = BTreeMap<TopicPartition, Option<Position>>;

impl Site {
    /// Looks the tenant's input topics up.
    pub(super) fn new(config: Config, tenant: Arc<Tenant>, runtime: &Handle) -> anyhow::Result<Self> {
        let clock = SystemClock::shared();
        let timeout = config.engine.transaction_timeout();
        let cluster = Arc::new(Cluster::new(config.kafka.clone(), CLIENT_ID, timeout, clock.clone(), runtime.clone()));
        let names: Vec<Arc<str>> = tenant.input_topics().cloned().collect();
        let inputs = cluster.describe(&names, WAIT).exit(Exit::Unreachable)?;
        if let Some(missing) = names.iter().find(|name| !inputs.iter().any(|known| known.name == **name)) {
            return Err(anyhow!("input topic {missing} does not exist")).exit(Exit::Incompatible);
        }
        let standing = generation::read(&*cluster, &*clock, &tenant).exit_by(of_broker)?;
        tenant.generation.get_or_init(|| standing.generation());
        Ok(Self { config, tenant, cluster, clock, inputs, standing, clients: Mutex::default() })
    }

    /// Refuses while a rebuild is under way: what is done to one generation would not be done to the other.
    pub(super) fn must_be_settled(&self) -> anyhow::Result<()> {
        match self.standing.step {
            Step::Settled => Ok(()),
            _ => Err(anyhow!(
                "tenant {} is being rebuilt; let `testudo run --rebuild` end, or, before it has put the new generation in the old one's place, \
                 give it up by `testudo reset --generation {}`",
                self.tenant.name,
                self.standing.current + 1
            ))
            .exit(Exit::Incompatible),
        }
    }

    /// Refuses for any other generation than the one that is being rebuilt.
    pub(super) fn must_be_building(&self, number: u32) -> anyhow::Result<()> {
        match self.standing.step {
            Step::Building(_) if number == self.standing.current + 1 => Ok(()),
            _ => Err(anyhow!("generation {number} of tenant {} is not being rebuilt", self.tenant.name)).exit(Exit::Usage),
        }
    }

    /// Refuses while the tenant works, here or anywhere.
    pub(super) fn must_stand_still(&self) -> anyhow::Result<()> {
        must_be_free(&self.config.store.dir.join(self.tenant.own_name()))?;
        self.must_have_no_members(&self.tenant.group())
    }

    /// Refuses while a group has members. One that ended counts until its session does, so that is waited for.
    pub(super) fn must_have_no_members(&self, group: &str) -> anyhow::Result<()> {
        let deadline = Deadline::after(&*self.clock, self.session() + SESSION_MARGIN);
        let mut has_told = false;
        loop {
            let members = self.members_of(group)?;
            if members.is_empty() {
                return Ok(());
            }
            if deadline.is_over(&*self.clock) {
                bail!("group {group} has members: {}; stop all instances of the tenant first", members.join(", "));
            }
            if !has_told {
                eprintln!(
                    "group {group} has members ({}); one that has ended counts for up to {} s more, waiting",
                    members.join(", "),
                    self.session().as_secs()
                );
                has_told = true;
            }
            self.clock.sleep(LOOK_PAUSE);
        }
    }

    /// The members of a group.
    pub(super) fn members_of(&self, group: &str) -> anyhow::Result<Vec<String>> {
        let deadline = Deadline::after(&*self.clock, WAIT);
        loop {
            match self.cluster.group_members(group, WAIT) {
                // A coordinator that is just being found.
                Err(failure) if failure.reaction == Reaction::Retry && !deadline.is_over(&*self.clock) => self.clock.sleep(LOOK_PAUSE),
                answer => return answer.exit_by(of_broker),
            }
        }
    }

    /// How long a member of the tenant's groups that has ended counts.
    pub(super) fn session(&self) -> Duration {
        match self.config.kafka.group_protocol {
            GroupProtocol::Consumer => BROKERS_SESSION,
            GroupProtocol::Cooperative | GroupProtocol::Eager => self.config.kafka.session(),
        }
    }

    /// How long it may take to become the group's only member.
    pub(super) fn join_wait(&self) -> Duration {
        self.session() + WAIT
    }

    /// Where the group stands, without joining it.
    pub(super) fn positions(&self) -> anyhow::Result<Positions> {
        self.positions_of(&self.tenant.group(), &self.inputs)
    }

    /// Where a group stands in topics, without joining it.
    pub(super) fn positions_of(&self, group: &str, topics: &[TopicDescription]) -> anyhow::Result<Positions> {
        let mut list = TopicPartitionList::new();
        for partition in partitions_of(topics) {
            list.add_partition(&partition.topic, partition.partition);
        }
        let client = self.bare_consumer(group)?;
        let deadline = Deadline::after(&*self.clock, WAIT);
        let found = loop {
            match client.committed_offsets(list.clone(), WAIT) {
                // A coordinator that is just being found.
                Err(_) if !deadline.is_over(&*self.clock) => self.clock.sleep(LOOK_PAUSE),
                answer => break answer.context("failed to read the group's positions").exit(Exit::Unreachable)?,
            }
        };
        let position = |offset| if let Offset::Offset(offset) = offset { Some(Position(offset)) } else { None };
        let elements = found.elements();
        let of = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            (TopicPartition::new(element.topic(), element.partition()), position(element.offset()))
        };
        Ok(elements.iter().map(of).collect())
    }

    fn bare_consumer(&self, group: &str) -> anyhow::Result<Arc<BaseConsumer>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(group) {
            // What it tells of its connections would pile up.
            while client.poll(Duration::ZERO).is_some() {}
            return Ok(client.clone());
        }
        let mut config = self.config.kafka.client(CLIENT_ID);
        config.set("group.id", group).set("enable.auto.commit", "false").set("isolation.level", "read_committed");
        let client: Arc<BaseConsumer> = Arc::new(config.create().context("failed to make a client")?);
        clients.insert(group.to_owned(), client.clone());
        Ok(client)
    }

    /// A record of what was done, for `<tenant>-events`.
    pub(super) fn event(&self, kind: &str, detail: Value) -> Outgoing {
        deeds::event(&self.tenant, kind, self.clock.wall_ms(), &who(), detail)
    }

    /// Writes an event by itself, before what it tells of is done.
    pub(super) fn record(&self, event: &Outgoing) -> anyhow::Result<()> {
        let name = &event.topic;
        let failed = || format!("failed to record the action on {name}; nothing was done");
        if self.cluster.describe(std::slice::from_ref(name), WAIT).with_context(failed).exit(Exit::Unreachable)?.is_empty() {
            self.cluster.create(&owner_topics(&self.tenant), WAIT).with_context(failed)?;
        }
        let mut client = self.config.kafka.client(CLIENT_ID);
        client.set("enable.idempotence", "true").set("message.timeout.ms", WAIT.as_millis().to_string());
        let producer: BaseProducer = client.create().with_context(failed)?;
        let mut record = BaseRecord::<[u8], [u8]>::to(name).partition(event.partition).timestamp(event.timestamp_ms);
        record = record.key(event.key.as_deref().unwrap_or_default()).payload(event.value.as_deref().unwrap_or_default());
        producer.send(record).map_err(|(error, _)| error).with_context(failed)?;
        producer.flush(WAIT).with_context(failed).exit(Exit::Unreachable)?;
        match producer.in_flight_count() {
            0 => Ok(()),
            _ => Err(anyhow!(failed())).exit(Exit::Unreachable),
        }
    }
}

/// Refuses while a process of this machine works on a state folder.
pub(super) fn must_be_free(folder: &Path) -> anyhow::Result<()> {
    match holder(folder) {
        Ok(Some(process)) => Err(anyhow!("process {process} works on {}; stop it first", folder.display())).exit(Exit::Damaged),
        _ => Ok(()),
    }
}

/// Finds out which generation of a tenant counts.
pub(super) fn find_generation(config: &Config, tenant: &Tenant, runtime: &Handle) -> anyhow::Result<Standing> {
    let (clock, timeout) = (SystemClock::shared(), config.engine.transaction_timeout());
    let cluster = Cluster::new(config.kafka.clone(), CLIENT_ID, timeout, clock.clone(), runtime.clone());
    let standing = generation::read(&cluster, &*clock, tenant).exit_by(of_broker)?;
    tenant.generation.get_or_init(|| standing.generation());
    Ok(standing)
}

fn of_broker(failure: &Failure) -> Exit {
    match failure.reaction {
        _ if failure.is_forbidden => Exit::Forbidden,
        Reaction::Stop => Exit::Incompatible,
        _ => Exit::Unreachable,
    }
}

/// Asks whoever sits at the terminal to type the tenant's name, unless the command line said yes already.
pub(super) fn confirm(tenant: &Tenant, is_agreed: bool) -> anyhow::Result<()> {
    if is_agreed {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(anyhow!("nothing was done: there is no terminal to ask; look at the above and give --yes")).exit(Exit::Usage);
    }
    eprint!("Type the tenant's name to go on: ");
    std::io::stderr().flush().context("failed to ask")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("failed to read the answer")?;
    match answer.trim() == tenant.name {
        true => Ok(()),
        false => Err(anyhow!("nothing was done")),
    }
}

/// The operating system's user, and where.
pub(super) fn who() -> Value {
    let uid = fs::metadata("/proc/self").ok().map(|process| process.uid());
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = uid.and_then(|uid| user_in(&passwd, uid));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    json!({ "user": user, "uid": uid, "sudo_user": std::env::var("SUDO_USER").ok(), "host": host })
}

/// # Source
/// passwd(5): `name:password:uid:gid:…`.
fn user_in(passwd: &str, uid: u32) -> Option<String> {
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    passwd.lines().find_map(named)
}

/// `topic/partition=position`, for people and events.
pub(super) fn listed(positions: &Positions) -> BTreeMap<String, Option<i64>> {
    positions.iter().map(|(partition, position)| (partition.to_string(), position.map(|position| position.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nzoo:x:1000:1000::/home/zoo:/bin/sh\n";

        assert_eq!(user_in(passwd, 1_000).as_deref(), Some("zoo"));
        assert_eq!(user_in(passwd, 1), None);
    }
}
