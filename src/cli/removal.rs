//! `testudo reset --generation`: removes what belongs to one generation of a tenant alone, of one that a rebuild has replaced, or of one
//! whose rebuild is given up. Output topics, dead letters, documents and inputs are everybody's: they stay.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use serde_json::json;
use tokio::runtime::Handle;

use super::exit::{Exit, WithExit};
use super::operator::{Site, WAIT, confirm, must_be_free};
use super::run::load;
use crate::clock::Deadline;
use crate::engine::generation::{Scribe, Standing, Step};
use crate::engine::publish::copy_group;
use crate::kafka::Broker;
use crate::mongo::exchange;
use crate::store::set_aside;
use crate::tenant::{CollectionOf, Generation, Tenant};

/// How long a deleted topic may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);
const GONE_PAUSE: Duration = Duration::from_millis(100);

/// Shows what would be removed, asks, removes it. A rebuild that is given up counts for nothing from the first step on.
pub(super) fn run(site: &Site, number: u32, is_agreed: bool, runtime: &Handle) -> anyhow::Result<()> {
    let standing = &site.standing;
    let is_given_up = matches!(standing.step, Step::Building(_)) && number == standing.current + 1;
    if number == standing.current {
        return Err(anyhow!("generation {number} is the one that counts; `testudo reset` without --generation has it begin again"))
            .exit(Exit::Usage);
    }
    if number == 0 || (number > standing.current && !is_given_up) {
        return Err(anyhow!("tenant {} has no generation {number}; {} counts", site.tenant.name, standing.current)).exit(Exit::Usage);
    }
    let old = load(&site.config)?.remove(0);
    old.generation.get_or_init(|| Generation { number, ..Generation::first() });
    let topics = topics(site, &old)?;
    println!("tenant {}, generation {number}{}:", old.name, if is_given_up { ", being rebuilt: given up" } else { "" });
    topics.iter().for_each(|topic| println!("  topic {topic}: deleted"));
    groups(&old).iter().for_each(|group| println!("  group {group}: deleted"));
    println!("  state folder {}: moved aside; those on other machines have to be moved by hand", folder(site, &old).display());
    confirm(&site.tenant, is_agreed)?;
    must_be_free(&folder(site, &old))?;
    site.must_have_no_members(&old.group())?;
    site.record(&site.event("generation-removed", json!({ "generation": number, "given_up": is_given_up })))?;
    if is_given_up {
        let timeout = site.config.engine.transaction_timeout();
        let mut scribe = Scribe::start(site.cluster.clone(), site.clock.clone(), &site.tenant, timeout)?;
        scribe.write(&site.tenant, &Standing { step: Step::Settled, ..standing.clone() }, site.clock.wall_ms())?;
    }
    delete_topics(site, &topics, runtime)?;
    delete_groups(site, &groups(&old), runtime)?;
    forget_collections(site, &old, runtime)?;
    let aside = set_aside(&folder(site, &old), "removed", site.clock.wall_ms()).exit(Exit::Damaged)?;
    if let Some(aside) = aside {
        println!("its state lies in {}", aside.display());
    }
    println!("done");
    Ok(())
}

/// Removes the topics aside of a generation that is published, and the group that copied them.
pub(super) fn aside(site: &Site, tenant: &Tenant, runtime: &Handle) -> anyhow::Result<()> {
    let topics: Vec<Arc<str>> = tenant.rebuilt_topics().iter().map(|topic| tenant.staging_topic(topic)).collect();
    delete_topics(site, &topics, runtime)?;
    delete_groups(site, &[copy_group(tenant)], runtime)
}

fn folder(site: &Site, old: &Tenant) -> std::path::PathBuf {
    site.config.store.dir.join(old.own_name())
}

/// The topics of a generation alone. What its own tenant file declared and this one does not is not known here.
fn topics(site: &Site, old: &Tenant) -> anyhow::Result<Vec<Arc<str>>> {
    let changelogs = old.windows.iter().flat_map(|window| {
        let inputs = &old.sources[window.source].topics;
        inputs.iter().map(|topic| old.changelog_topic(window, topic))
    });
    let aside = old.rebuilt_topics().into_iter().map(|topic| old.staging_topic(&topic));
    let all: Vec<Arc<str>> = changelogs.chain([old.ledger_topic()]).chain(aside).collect();
    // Asked for, so that only what is there is shown.
    let known = site.cluster.describe(&all, WAIT).exit(Exit::Unreachable)?;
    Ok(all.into_iter().filter(|topic| known.iter().any(|known| known.name == *topic)).collect())
}

fn groups(old: &Tenant) -> Vec<String> {
    let sinks = old.collections.iter().filter(|collection| matches!(collection.of, CollectionOf::Window(_)));
    [old.group(), copy_group(old)].into_iter().chain(sinks.map(|collection| old.sink_group(collection))).collect()
}

fn forget_collections(site: &Site, old: &Tenant, runtime: &Handle) -> anyhow::Result<()> {
    let Some(settings) = &site.config.mongo else { return Ok(()) };
    let windows = old.collections.iter().filter(|collection| matches!(collection.of, CollectionOf::Window(_)));
    let names: Vec<String> = windows.map(|collection| old.collection_aside(collection)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let database = runtime.block_on(settings.client()).context("failed to set up the MongoDB client")?.database(&old.database);
    for name in names {
        runtime.block_on(exchange::forget(&database, &name)).with_context(|| format!("failed to drop collection {name}"))?;
    }
    Ok(())
}

/// Deletes topics and waits until they are gone.
pub(super) fn delete_topics(site: &Site, names: &[Arc<str>], runtime: &Handle) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let admin: AdminClient<DefaultClientContext> = site.config.kafka.client("testudo-operator").create()?;
    let texts: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    for answer in runtime.block_on(admin.delete_topics(&texts, &options())).context("failed to delete topics")? {
        match answer {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((topic, code)) => bail!("failed to delete topic {topic}: {code}"),
        }
    }
    let deadline = Deadline::after(&*site.clock, GONE_WITHIN);
    while !site.cluster.describe(names, WAIT)?.is_empty() {
        if deadline.is_over(&*site.clock) {
            bail!("topics are still there {} s after their deletion; give the command again", GONE_WITHIN.as_secs());
        }
        site.clock.sleep(GONE_PAUSE);
    }
    Ok(())
}

fn delete_groups(site: &Site, names: &[String], runtime: &Handle) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = site.config.kafka.client("testudo-operator").create()?;
    let texts: Vec<&str> = names.iter().map(String::as_str).collect();
    for answer in runtime.block_on(admin.delete_groups(&texts, &options())).context("failed to delete groups")? {
        match answer {
            Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
            Err((group, code)) => {
                bail!("failed to delete group {group}: {code}; it may have members whose sessions are not over, give the command again")
            }
        }
    }
    Ok(())
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT))
}
