//! `testudo run --rebuild`: a tenant whose windows were changed is computed anew from what its inputs hold, beside the generation that
//! counts, and takes its place when it is complete (docs/adr/0015-rebuild.md).
//!
//! Four steps, each written down when it is complete, so that a rebuild that ended anywhere goes on there: *build* aside, following
//! the current generation; *switch* in one transaction, while nobody works; *publish* what stands aside into the output topics; *exchange*
//! the collections. Read top to bottom.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::json;

use super::drain::ends_of;
use super::exit::{Exit, WithExit};
use super::operator::{Positions, SESSION_MARGIN, Site, WAIT, listed};
use super::removal;
use super::run::{ended, load};
use super::service::{Service, Surroundings};
use super::sinks::Sinks;
use crate::clock::Deadline;
use crate::config::Config;
use crate::engine::generation::{self, Scribe, Standing, Step};
use crate::engine::job::create_missing;
use crate::engine::publish::Copier;
use crate::engine::staging::Staging;
use crate::engine::standstill::{Standstill, StandstillFault, last_logged, partitions_of, windows_over};
use crate::engine::turn::{self, Turn};
use crate::failpoint;
use crate::kafka::settings::GroupProtocol;
use crate::kafka::{Broker, Cluster, Position, Settings, TopicDescription, TopicPartition, TopicReader};
use crate::mongo::exchange;
use crate::store::{identity, lock};
use crate::telemetry::health::{Health, HealthHandle};
use crate::telemetry::metric::Metrics;
use crate::tenant::{Collection, CollectionOf, Tenant};

/// How often the current generation's positions are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const STEP_PAUSE: Duration = Duration::from_millis(20);
/// The sinks of a published generation are at the topics' ends within this time after they last moved.
const SINKS_STALL_MAX: Duration = Duration::from_secs(300);

/// A rebuild under way.
pub(super) struct Rebuild<'r> {
    pub(super) config: &'r Config,
    pub(super) around: &'r Surroundings,
    /// Signals to stop that have come.
    pub(super) signals: &'r AtomicUsize,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is complete.
    Done,
    /// It was told to stop; it goes on at the next start.
    Stopped,
}

impl Rebuild<'_> {
    /// Rebuilds the one configured tenant, if its windows were changed; goes on with a rebuild that was begun.
    pub(super) fn run(&self) -> anyhow::Result<Ended> {
        let site = self.site()?;
        if site.standing.step == Step::Settled && changes(&site)?.is_empty() {
            tracing::info!(tenant = site.tenant.name, generation = site.standing.current, "nothing to rebuild: no window was changed");
            return Ok(Ended::Done);
        }
        let wants_mongo = window_collections(&site.tenant).next().is_some();
        if wants_mongo && self.config.mongo.is_none() {
            return Err(anyhow!("tenant {} feeds collections from windows: a rebuild exchanges them, and needs MongoDB", site.tenant.name))
                .exit(Exit::Usage);
        }
        let health = self.around.health.component(format!("rebuild {}", site.tenant.name));
        health.not_ready("starting");
        let timeout = self.config.engine.transaction_timeout();
        create_missing(&*site.cluster, &*site.clock, HashMap::new(), vec![generation::topic(&site.tenant)])?;
        let _turns = self.take_turns(&site)?;
        let mut scribe = Scribe::start(site.cluster.clone(), site.clock.clone(), &site.tenant, timeout)?;
        loop {
            // Each step stands on what the one before has written.
            let site = self.site()?;
            let ended = match &site.standing.step {
                Step::Settled if changes(&site)?.is_empty() => {
                    health.retire();
                    return Ok(Ended::Done);
                }
                Step::Settled => begin(&site, &mut scribe)?,
                Step::Building(declared) => self.build(&site, declared, &health)?,
                Step::Publishing => self.publish(&site, &mut scribe, &health)?,
                Step::Exchanging => self.exchange(&site, &mut scribe, &health)?,
            };
            if ended == Ended::Stopped {
                return Ok(ended);
            }
        }
    }

    /// The right to rebuild, on this machine and in the cluster. A process that was killed counts until its session is over, unless this is
    /// the same instance.
    fn take_turns(&self, site: &Site) -> anyhow::Result<(File, Turn)> {
        let name = &site.tenant.name;
        let folder = self.config.store.dir.join(turn::group(&site.tenant));
        let taken = lock::take(&folder).with_context(|| format!("failed to lock {}", folder.display())).exit(Exit::Damaged)?;
        let Some(file) = taken else {
            let process = lock::holder(&folder).ok().flatten().map_or_else(|| "another process".into(), |id| format!("process {id}"));
            return Err(anyhow!("tenant {name} is being rebuilt by {process} on this machine already; let it end, or stop it"))
                .exit(Exit::Damaged);
        };
        let instance = format!("testudo-{}", self.config.instance);
        // Whatever the tenant's own groups do: names of members that outlive their process, and no moving of what somebody has.
        let kafka = Settings { group_protocol: GroupProtocol::Cooperative, ..self.config.kafka.clone() };
        let timeout = self.config.engine.transaction_timeout();
        let cluster = Cluster::new(kafka, &instance, timeout, site.clock.clone(), self.around.runtime.clone());
        let wait = self.config.kafka.session() + SESSION_MARGIN;
        match Turn::take(&cluster, &*site.clock, &site.tenant, &instance, wait).exit(Exit::Unreachable)? {
            Some(turn) => Ok((file, turn)),
            None => {
                let mut others = site.members_of(&turn::group(&site.tenant))?;
                others.retain(|member| !member.starts_with(&format!("{instance} at ")));
                bail!("tenant {name} is being rebuilt by {} already; let it end, or stop it", others.join(", "))
            }
        }
    }

    /// The tenant as of now: of the generation that counts.
    fn site(&self) -> anyhow::Result<Site> {
        Site::new(self.config.clone(), load(self.config)?.remove(0), &self.around.runtime)
    }

    fn is_stopped(&self) -> bool {
        self.signals.load(Ordering::Relaxed) > 0
    }

    /// Builds the next generation aside until it stands where the current one does and nobody works on that; then switches.
    fn build(&self, site: &Site, declared: &BTreeMap<String, String>, health: &HealthHandle) -> anyhow::Result<Ended> {
        if *declared != declaration(&site.tenant) {
            return Err(anyhow!(
                "generation {} of tenant {} is being rebuilt from another declaration of its windows; take the last change back, or give that \
                 rebuild up by `testudo reset --generation {0}`",
                site.standing.current + 1,
                site.tenant.name
            ))
            .exit(Exit::Incompatible);
        }
        let next = next_of(&site.standing, self.config)?;
        tracing::warn!(tenant = next.name, generation = next.generation().number, "rebuilding; the generation before goes on meanwhile");
        let staging = Arc::new(Staging::default());
        let mut config = self.config.clone();
        config.engine.staging = Some(staging.clone());
        // Of its own: what it is doing is not yet what the tenant is doing.
        let aside = Surroundings { metrics: Metrics::new(), health: Arc::new(Health::default()), runtime: self.around.runtime.clone() };
        let service = Service::start(&config, vec![next.clone()], &aside)?;
        let followed = self.follow(site, &service, &staging, health);
        let (faults, all_ended) = service.stop(config.engine.shutdown_timeout());
        if let Some((_, fault)) = faults.into_iter().next() {
            return Err(ended(&next, fault, self.config));
        }
        let Some(standstill) = followed? else { return Ok(Ended::Stopped) };
        if !all_ended {
            bail!("the workers of generation {} did not end in time; start again", next.generation().number);
        }
        switch(site, &next, standstill)?;
        Ok(Ended::Done)
    }

    /// Follows the current generation until it stands still and all of it is done; `None` when told to stop, or when the service ended.
    fn follow(
        &self,
        site: &Site,
        service: &Service,
        staging: &Staging,
        health: &HealthHandle,
    ) -> anyhow::Result<Option<Standstill<Cluster>>> {
        let next = site.standing.current + 1;
        let mut has_told = false;
        loop {
            let ends = told(site.positions()).map(|positions| follow_to(&positions, staging));
            let look = Deadline::after(&*site.clock, LOOK_EVERY);
            while !self.is_stopped() && !service.is_finished() && !look.is_over(&*site.clock) {
                site.clock.sleep(STEP_PAUSE);
            }
            if self.is_stopped() || service.is_finished() {
                return Ok(None);
            }
            let Some(ends) = ends else { continue };
            let ends = HashMap::from([(site.tenant.name.clone(), ends)]);
            if !service.has_reached(&ends) {
                // Its own health is shown nowhere else.
                let waits = service.stuck_before(&ends).map(|lines| format!(", and waits for somebody: {}", lines.join("; ")));
                health.not_ready(format!("generation {next} is being rebuilt{}", waits.unwrap_or_default()));
                continue;
            }
            failpoint::at("rebuild.staged");
            let Some(workers) = told(workers(site)) else { continue };
            if !workers.is_empty() {
                health.not_ready(format!("generation {next} is built; stop all other instances of the tenant: {}", workers.join(", ")));
                if !has_told {
                    tracing::warn!(
                        tenant = site.tenant.name,
                        generation = next,
                        members = workers.join(", "),
                        "rebuilt; stop all other instances of the tenant now, it takes their place when they have left the group"
                    );
                }
                has_told = true;
                continue;
            }
            if let Some(standstill) = self.stand_still(site, service, staging)? {
                return Ok(Some(standstill));
            }
        }
    }

    /// Keeps the current generation where it is, and brings the next one there.
    fn stand_still(&self, site: &Site, service: &Service, staging: &Staging) -> anyhow::Result<Option<Standstill<Cluster>>> {
        let entered = Standstill::enter(site.cluster.clone(), site.clock.clone(), &site.tenant, &site.inputs, site.join_wait());
        let standstill = match entered {
            Ok(standstill) => standstill,
            Err(StandstillFault::Busy { .. }) => return Ok(None),
            Err(fault) => return Err(fault).exit(Exit::Unreachable),
        };
        let ends = HashMap::from([(site.tenant.name.clone(), follow_to(standstill.positions(), staging))]);
        let patience = Deadline::after(&*site.clock, site.join_wait());
        while !self.is_stopped() && !service.is_finished() && !patience.is_over(&*site.clock) {
            if service.has_reached(&ends) {
                return Ok(Some(standstill));
            }
            site.clock.sleep(STEP_PAUSE);
        }
        Ok(None)
    }

    /// Copies what stands aside into the output topics, and into collections aside.
    fn publish(&self, site: &Site, scribe: &mut Scribe<Cluster>, health: &HealthHandle) -> anyhow::Result<Ended> {
        let (tenant, number) = (&site.tenant, site.standing.current);
        health.not_ready(format!("the results of generation {number} are being published"));
        tracing::warn!(tenant = tenant.name, generation = number, "publishing the results of the rebuilt generation");
        if let Some(database) = self.database(tenant)? {
            for collection in window_collections(tenant) {
                self.around
                    .runtime
                    .block_on(exchange::prepare(&database, &tenant.collection_aside(collection)))
                    .context("failed to make a collection")?;
            }
        }
        let aside = Surroundings { metrics: Metrics::new(), health: Arc::new(Health::default()), runtime: self.around.runtime.clone() };
        let sinks = Sinks::start_aside(self.config, tenant, &aside)?;
        let published = self.copy_and_collect(site);
        sinks.stop(self.config.engine.shutdown_timeout());
        if published? == Ended::Stopped {
            return Ok(Ended::Stopped);
        }
        failpoint::at("rebuild.published");
        scribe.write(tenant, &Standing { step: Step::Exchanging, ..site.standing.clone() }, site.clock.wall_ms())?;
        Ok(Ended::Done)
    }

    fn copy_and_collect(&self, site: &Site) -> anyhow::Result<Ended> {
        let timeout = self.config.engine.transaction_timeout();
        let is_stopped = || self.is_stopped();
        let copier = Copier { broker: &site.cluster, clock: &site.clock, tenant: &site.tenant, timeout, is_stopped: &is_stopped };
        if !copier.run()? {
            return Ok(Ended::Stopped);
        }
        failpoint::at("rebuild.copied");
        if self.config.mongo.is_none() {
            return Ok(Ended::Done);
        }
        for collection in window_collections(&site.tenant) {
            let CollectionOf::Window(window) = collection.of else { continue };
            let ended = self.wait_for_sink(site, &site.tenant.sink_group(collection), &site.tenant.windows[window].topic)?;
            if ended == Ended::Stopped {
                return Ok(ended);
            }
        }
        Ok(Ended::Done)
    }

    /// Waits until a sink has committed all of its topic: from then on nothing is written aside again, whoever starts it.
    fn wait_for_sink(&self, site: &Site, group: &str, topic: &Arc<str>) -> anyhow::Result<Ended> {
        let topics = site.cluster.describe(std::slice::from_ref(topic), WAIT)?;
        let ends = ends_of(&site.cluster, std::slice::from_ref(topic))?;
        let (mut before, mut stall) = (Positions::new(), Deadline::after(&*site.clock, SINKS_STALL_MAX));
        loop {
            let positions = told(site.positions_of(group, &topics)).unwrap_or_else(|| before.clone());
            if ends.iter().all(|(partition, end)| positions.get(partition).copied().flatten() >= Some(*end)) {
                return Ok(Ended::Done);
            }
            if positions != before {
                (before, stall) = (positions, Deadline::after(&*site.clock, SINKS_STALL_MAX));
            }
            if stall.is_over(&*site.clock) {
                bail!(
                    "the sink of group {group} has not moved for {} s; see that MongoDB takes writes, and start again",
                    SINKS_STALL_MAX.as_secs()
                );
            }
            if self.is_stopped() {
                return Ok(Ended::Stopped);
            }
            site.clock.sleep(LOOK_EVERY / 4);
        }
    }

    /// Puts the collections in their places. From then on the generation works as any other.
    fn exchange(&self, site: &Site, scribe: &mut Scribe<Cluster>, health: &HealthHandle) -> anyhow::Result<Ended> {
        let (tenant, number) = (&site.tenant, site.standing.current);
        health.not_ready(format!("the collections of generation {number} are being put in their places"));
        if let Some(database) = self.database(tenant)? {
            // Whoever wrote this before may not go on.
            scribe.write(tenant, &site.standing, site.clock.wall_ms())?;
            for collection in window_collections(tenant) {
                let aside = tenant.collection_aside(collection);
                let exchanged = self.around.runtime.block_on(exchange::exchange(&database, &aside, &collection.name));
                exchanged.with_context(|| format!("failed to put collection {aside} in the place of {}", collection.name))?;
            }
        }
        failpoint::at("rebuild.exchanged");
        // Nobody asks for them any more.
        if let Err(error) = removal::aside(site, tenant, &self.around.runtime) {
            tracing::warn!(error = format!("{error:#}"), "topics aside are not deleted; delete those that end in .g{number} by hand");
        }
        scribe.write(tenant, &Standing { step: Step::Settled, ..site.standing.clone() }, site.clock.wall_ms())?;
        failpoint::at("rebuild.settled");
        tracing::warn!(
            tenant = tenant.name,
            generation = number,
            "rebuilt; `testudo reset --generation {}` removes what is left of the generation before",
            number - 1
        );
        Ok(Ended::Done)
    }

    fn database(&self, tenant: &Tenant) -> anyhow::Result<Option<mongodb::Database>> {
        let Some(settings) = &self.config.mongo else { return Ok(None) };
        let client = self.around.runtime.block_on(settings.client()).context("failed to set up the MongoDB client")?;
        Ok(Some(client.database(&tenant.database)))
    }
}

/// Writes down that the next generation is being built, from what.
fn begin(site: &Site, scribe: &mut Scribe<Cluster>) -> anyhow::Result<Ended> {
    for change in changes(site)? {
        tracing::warn!(tenant = site.tenant.name, "{change}");
    }
    let mut reader = site.cluster.reader()?;
    let mut gone = BTreeMap::new();
    for partition in partitions_of(&site.inputs) {
        let low = reader.bounds(&partition, WAIT).exit(Exit::Unreachable)?.low;
        if low.0 > 0 {
            gone.insert(partition.to_string(), low.0);
        }
    }
    if !gone.is_empty() {
        tracing::warn!(first = ?gone, "records are gone from inputs already: what came of them will not be in the rebuilt results");
    }
    site.record(&site.event("rebuild-begun", json!({ "generation": site.standing.current + 1, "first_records": gone })))?;
    scribe.write(
        &site.tenant,
        &Standing { step: Step::Building(declaration(&site.tenant)), ..site.standing.clone() },
        site.clock.wall_ms(),
    )?;
    Ok(Ended::Done)
}

/// Puts the next generation in the current one's place: one transaction, which the current group refuses when anybody has joined it.
fn switch(site: &Site, next: &Arc<Tenant>, standstill: Standstill<Cluster>) -> anyhow::Result<()> {
    // Only now: whoever has switched before was in the group, and the positions are of a time after that.
    let standing = generation::read(&*site.cluster, &*site.clock, &site.tenant)?;
    if standing != site.standing {
        bail!("somebody else has gone on with the rebuild of tenant {}; start again", site.tenant.name);
    }
    let begins = output_ends(site, next)?;
    let positions = standstill.positions().clone();
    let known: Vec<(TopicPartition, Position)> =
        positions.iter().filter_map(|(partition, position)| Some((partition.clone(), (*position)?))).collect();
    let switched = Standing { current: next.generation().number, step: Step::Publishing, begins };
    let detail = json!({ "generation": switched.current, "positions": listed(&positions), "begins": switched.begins });
    let records = [switched.record(&site.tenant, site.clock.wall_ms()), site.event("rebuild-switched", detail)];
    failpoint::at("rebuild.switching");
    standstill
        .relocate(&format!("{}-operator", site.tenant.name), site.config.engine.transaction_timeout(), &records, &known)
        .context("the generations were not switched; start again")
        .exit(Exit::Failure)?;
    failpoint::at("rebuild.switched");
    Ok(())
}

/// An answer of the broker's; while it is away a rebuild waits, as everything does.
fn told<T>(answer: anyhow::Result<T>) -> Option<T> {
    answer.inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "the broker is asked again")).ok()
}

/// Where the output topics end: the next generation's records stand from there on.
fn output_ends(site: &Site, next: &Tenant) -> anyhow::Result<BTreeMap<String, Vec<i64>>> {
    let mut topics = next.rebuilt_topics();
    topics.extend(next.alerts.iter().map(|alert| alert.topic.clone()));
    let mut reader = site.cluster.reader()?;
    let mut begins = BTreeMap::new();
    for topic in site.cluster.describe(&topics, WAIT)? {
        let mut of_topic = Vec::new();
        for partition in 0..topic.partitions {
            of_topic.push(reader.bounds(&TopicPartition::new(topic.name.clone(), partition), WAIT)?.high.0);
        }
        begins.insert(topic.name.to_string(), of_topic);
    }
    Ok(begins)
}

/// The tenant of the generation that is being built, or would be.
fn next_of(standing: &Standing, config: &Config) -> anyhow::Result<Arc<Tenant>> {
    let next = load(config)?.remove(0);
    next.generation.get_or_init(|| standing.next());
    Ok(next)
}

/// Lets the next generation go as far as the current one has.
fn follow_to(positions: &Positions, staging: &Staging) -> Vec<(TopicPartition, Position)> {
    let known = |(partition, position): (&TopicPartition, &Option<Position>)| Some((partition.clone(), (*position)?));
    let known: Vec<(TopicPartition, Position)> = positions.iter().filter_map(known).collect();
    staging.follow(known.iter().cloned());
    known
}

/// Who works on the current generation: in its group, or in those of its windows' sinks.
fn workers(site: &Site) -> anyhow::Result<Vec<String>> {
    let sinks = window_collections(&site.tenant).map(|collection| site.tenant.sink_group(collection));
    let mut members = Vec::new();
    for group in std::iter::once(site.tenant.group()).chain(sinks) {
        members.extend(site.members_of(&group)?);
    }
    members.sort();
    members.dedup();
    Ok(members)
}

fn window_collections(tenant: &Tenant) -> impl Iterator<Item = &Collection> {
    tenant.collections.iter().filter(|collection| matches!(collection.of, CollectionOf::Window(_)))
}

/// What a generation is built from, by window and input topic.
fn declaration(tenant: &Tenant) -> BTreeMap<String, String> {
    let of = |topic: &Arc<str>| {
        let named = |(window, _, identity): (&crate::tenant::Window, Arc<str>, crate::store::WindowIdentity)| {
            (format!("{}/{topic}", window.name), identity.recorded())
        };
        windows_over(tenant, topic).into_iter().map(named).collect::<Vec<_>>()
    };
    tenant.input_topics().flat_map(of).collect()
}

/// What was changed of the current generation's windows since their changelogs were written, in words.
fn changes(site: &Site) -> anyhow::Result<Vec<String>> {
    let mut reader = site.cluster.reader()?;
    let mut changes = Vec::new();
    for input in &site.inputs {
        for (window, changelog, identity) in windows_over(&site.tenant, &input.name) {
            let known: Vec<TopicDescription> = site.cluster.describe(std::slice::from_ref(&changelog), WAIT).exit(Exit::Unreachable)?;
            let partitions = known.first().map_or(0, |topic| topic.partitions.min(input.partitions));
            for partition in 0..partitions {
                let logged =
                    last_logged(&mut reader, &site.clock, &TopicPartition::new(changelog.clone(), partition)).exit(Exit::Unreachable)?;
                if let Some(change) = logged.and_then(|logged| identity::changed(&identity.recorded(), &logged.identity)) {
                    changes.push(format!("window `{}` was changed: {change}", window.name));
                    break;
                }
            }
        }
    }
    Ok(changes)
}
