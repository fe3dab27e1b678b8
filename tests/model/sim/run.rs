//! A run: set up, moved step by step under faults, healed, brought to rest, judged.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::expected::expected;
use super::input::{Feed, PARTITIONS};
use super::instance::{Phase, Slot};
use super::judges::Case;
use super::link::Shared;
use super::plan::Plan;
use super::planted::Planted;
use super::scheduler::{Running, World};
use testudo::kafka::TopicPartition;
use testudo::planted::on_this_thread;

/// Turns of each worker until a healed world has to be at rest; an idle one takes 100 ms.
const REST_TURNS_MAX: usize = 4_000;
/// Everything has to stay at rest for so many turns.
const REST_TURNS: usize = 12;

/// A run that came out wrong.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// What is wrong.
    pub why: String,
    /// The last events, if they were kept.
    pub trace: String,
}

/// What a run that came out right went through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// Faults that struck.
    pub faults: u64,
    /// Virtual time.
    pub lasted: Duration,
    /// How often a member joined again for the sake of a partition without an owner.
    pub joined_again: u64,
}

/// Runs a plan.
pub fn run(plan: &Plan, is_traced: bool) -> Result<Passed, Wrong> {
    let mut cluster = Cluster::new(plan, is_traced);
    Feed::create(&mut cluster);
    let shared = Shared::new(cluster);
    let outcome = catch_unwind(AssertUnwindSafe(|| on_this_thread(plan.planted.and_then(Planted::bug), || run_in(plan, &shared))));
    let why = match outcome {
        Ok(Ok(passed)) => return Ok(passed),
        Ok(Err(why)) => why,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("panic: {}", text.unwrap_or_default())
        }
    };
    let trace = shared.cluster().trace();
    Err(Wrong { why, trace })
}

fn run_in(plan: &Plan, shared: &Arc<Shared>) -> Result<Passed, String> {
    let running = Running::begin(plan, shared.clone());
    let world = running.0.clone();
    for _ in 0..plan.steps {
        world.step();
        world.violation().map_or(Ok(()), Err)?;
    }
    heal(&world);
    rest(&world, plan)?;
    judge(&world)?;
    stop(&world, plan)?;
    let cluster = shared.cluster();
    let (faults, joined_again) = (cluster.chances.struck.iter().sum(), cluster.joined_again);
    Ok(Passed { faults, lasted: shared.now(), joined_again })
}

/// No fault any more, and the rest of the input.
fn heal(world: &World) {
    let now = world.shared.now();
    let mut cluster = world.shared.cluster();
    cluster.note(now, || "everything heals".into());
    cluster.chances.is_healed = true;
    cluster.outage_until = cluster.outage_until.min(now);
    for machine in &mut cluster.machines {
        machine.cut_off_until = machine.cut_off_until.min(now);
    }
    let mut feed = world.feed.borrow_mut();
    while !feed.is_over() {
        feed.write(&mut cluster, 1);
    }
    feed.close(&mut cluster);
}

/// Turns of all workers, until nothing is left to do.
fn rest(world: &Rc<World>, plan: &Plan) -> Result<(), String> {
    let (mut turns_at_rest, mut marks) = (0, BTreeMap::new());
    for _ in 0..REST_TURNS_MAX {
        for machine in 0..plan.machines {
            for worker in 0..plan.workers {
                let is_up = world.instances.borrow()[machine].phase == Phase::Up;
                if is_up {
                    world.turn(machine, worker);
                }
            }
        }
        world.settle_machines();
        testudo::clock::Clock::sleep(&*world.shared.clock, Duration::from_millis(20));
        world.tail.borrow_mut().read(&mut world.shared.cluster());
        world.violation().map_or(Ok(()), Err)?;
        // Closed windows are swept at positions that stay.
        let before = std::mem::replace(&mut marks, world.shared.cluster().group.marks().clone());
        turns_at_rest = if unrest(world).is_none() && marks == before { turns_at_rest + 1 } else { 0 };
        if turns_at_rest == REST_TURNS {
            return Ok(());
        }
    }
    Err(format!("it does not come to rest: {}", unrest(world).unwrap_or_default()))
}

/// Why the world is not at rest.
fn unrest(world: &World) -> Option<String> {
    let instances = world.instances.borrow();
    let works = |slot: &Slot| matches!(slot, Slot::Idle(_));
    if let Some(machine) = instances.iter().position(|instance| instance.phase != Phase::Up || !instance.workers.iter().all(works)) {
        return Some(format!("machine {machine} is {:?}", instances[machine].phase));
    }
    let cluster = world.shared.cluster();
    if !cluster.is_quiet() || !cluster.coordinator.unfinished().is_empty() {
        return Some("transactions are under way".into());
    }
    if !cluster.group.is_stable() || !cluster.group.is_settled() || cluster.group.size() != cluster.clients.len() {
        return Some("the group rebalances, or positions are pending".into());
    }
    for client in cluster.clients.values() {
        if !client.is_at_rest() || client.fetching.values().any(|fetching| fetching.is_paused) {
            return Some(format!("{} has {:?}, {:?}", client.membership.member, client.event, client.fetching));
        }
    }
    for partition in (0..PARTITIONS).map(|number| TopicPartition::new("in", number)) {
        if !cluster.clients.values().any(|client| client.fetching.contains_key(&partition)) {
            return Some(format!("nobody owns {partition}"));
        }
        let end = cluster.topics["in"].logs[partition.partition as usize].committed_end();
        let position = cluster.group.positions(std::slice::from_ref(&partition), true).ok().and_then(|marks| marks[0]);
        let position = position.map(|mark| mark.position.0);
        if end.is_some() && position != end {
            return Some(format!("{partition} is at {position:?} of {end:?}"));
        }
    }
    None
}

fn judge(world: &World) -> Result<(), String> {
    let cluster = world.shared.cluster();
    let disks: Vec<_> = world.instances.borrow().iter().map(|instance| instance.disk.contents()).collect();
    let expected = on_this_thread(None, || expected(&cluster));
    Case { cluster: &cluster, disks: &disks, expected: &expected, tail: &world.tail.borrow() }.judge()
}

/// All workers leave; nothing changes by that.
fn stop(world: &World, plan: &Plan) -> Result<(), String> {
    for machine in 0..plan.machines {
        world.instances.borrow_mut()[machine].end();
        world.settle_machines();
    }
    world.violation().map_or(Ok(()), Err)?;
    let cluster = world.shared.cluster();
    match cluster.coordinator.unfinished().as_slice() {
        [] => Ok(()),
        open => Err(format!("workers left with transactions of {open:?} open")),
    }
}
