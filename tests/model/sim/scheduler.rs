//! The scheduler: one thread, one clock. It moves whoever is next, and lets others move while somebody waits in the middle of a call.
//!
//! A worker that waits keeps its place on the stack; those that move meanwhile stand above it. So a worker can lose its session, its
//! partitions and its transaction between any two calls, and go on as a zombie.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use testudo::engine::worker::WorkerFault;
use testudo::kafka::TopicPartition;

use super::client::Process;
use super::faults::Fault;
use super::input::Feed;
use super::instance::{Instance, ModelWorker, Parts, Phase, Slot, judge, settings};
use super::link::{LOOK, Shared};
use super::plan::Plan;
use super::random::Random;
use super::registry::Registry;
use super::tail::Tail;

/// Input stays for so long after it was read.
const RETENTION: Duration = Duration::from_secs(60);
/// So many workers stand above each other at most.
const DEPTH_MAX: usize = 3;

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Lets time pass for whoever runs on this thread.
pub fn pass(duration: Duration) {
    if let Some(world) = WORLD.with_borrow(Clone::clone) {
        world.pass(duration, 4);
    }
}

/// Lets a machine stand still.
pub fn freeze(machine: usize, duration: Duration, attempted: &str) {
    if let Some(world) = WORLD.with_borrow(Clone::clone) {
        world.freeze(machine, duration, attempted);
    }
}

/// All that moves.
pub struct World {
    /// The cluster and the clock.
    pub shared: Arc<Shared>,
    /// The machines.
    pub instances: RefCell<Vec<Instance>>,
    /// The input.
    pub feed: RefCell<Feed>,
    /// Somebody who reads along.
    pub tail: RefCell<Tail>,
    registry: Arc<Registry>,
    plan: Plan,
    random: RefCell<Random>,
    depth: Cell<usize>,
    /// Since when, and up to where, input was read.
    retained: RefCell<(Duration, Vec<(TopicPartition, i64)>)>,
    violation: RefCell<Option<String>>,
}

/// A world on this thread; it ends when this is dropped.
pub struct Running(pub Rc<World>);

impl Running {
    /// Sets a world up.
    pub fn begin(plan: &Plan, shared: Arc<Shared>) -> Self {
        let world = Rc::new(World {
            registry: Registry::new(shared.clone()),
            instances: RefCell::new((0..plan.machines).map(|_| Instance::new()).collect()),
            feed: RefCell::new(Feed::new(plan.seed, plan.records)),
            tail: RefCell::default(),
            plan: plan.clone(),
            random: RefCell::new(Random::new(plan.seed, 3)),
            depth: Cell::new(0),
            retained: RefCell::default(),
            violation: RefCell::new(None),
            shared,
        });
        WORLD.set(Some(world.clone()));
        Self(world)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        WORLD.set(None);
        self.0.instances.borrow_mut().clear();
    }
}

impl World {
    /// What is wrong, once something is.
    pub fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    fn strikes(&self, fault: Fault, in_ten_thousand: u32) -> bool {
        self.shared.cluster().chances.strikes(fault, in_ten_thousand)
    }

    /// How long a fault lasts, or waits.
    fn of(&self, fault: Fault, most: Duration) -> Duration {
        self.shared.cluster().chances.of(fault).up_to(most)
    }

    fn pass(&self, duration: Duration, moves_most: usize) {
        let until = self.shared.now() + duration;
        if self.depth.get() < DEPTH_MAX {
            self.depth.set(self.depth.get() + 1);
            let moves = self.below(moves_most);
            for _ in 0..moves {
                if self.shared.now() >= until || self.violation.borrow().is_some() {
                    break;
                }
                self.step();
            }
            self.depth.set(self.depth.get() - 1);
        }
        self.shared.clock.advance_to(until);
        self.shared.work();
        self.registry.answer();
    }

    fn freeze(&self, machine: usize, duration: Duration, attempted: &str) {
        self.shared.note(|| format!("machine {machine} stands still for {:.3} s in: {attempted}", duration.as_secs_f64()));
        self.shared.cluster().machines[machine].is_frozen = true;
        self.shared.work();
        // In parts: sessions end before it is over, and the others take over.
        (0..4).for_each(|_| self.pass(duration / 4, 24));
        self.shared.cluster().machines[machine].is_frozen = false;
        self.shared.note(|| format!("machine {machine} goes on"));
    }

    /// One move of somebody.
    pub fn step(&self) {
        match self.below(100) {
            0..14 => {
                let records = 1 + self.below(6);
                self.feed.borrow_mut().write(&mut self.shared.cluster(), records);
            }
            14..18 => self.tail.borrow_mut().read(&mut self.shared.cluster()),
            18..24 => self.disturb(),
            _ => self.turn_somebody(),
        }
        self.settle_machines();
    }

    /// Something happens to a machine or the cluster.
    fn disturb(&self) {
        let machine = self.below(self.plan.machines);
        let now = self.shared.now();
        if self.strikes(Fault::Crash, 500) {
            self.shared.cluster().crash(machine, now);
        }
        if self.strikes(Fault::Leave, 800) && self.instances.borrow()[machine].phase == Phase::Up {
            self.shared.note(|| format!("machine {machine} is told to stop"));
            self.instances.borrow_mut()[machine].end();
        }
        if self.strikes(Fault::Outage, 250) {
            let until = now + self.of(Fault::Outage, Duration::from_secs(35));
            self.shared.note(|| format!("no broker answers until {:.3} s", until.as_secs_f64()));
            self.shared.cluster().outage_until = until;
        }
        if self.strikes(Fault::Partition, 400) {
            let until = now + self.of(Fault::Partition, Duration::from_secs(25));
            self.shared.note(|| format!("machine {machine} is cut off until {:.3} s", until.as_secs_f64()));
            self.shared.cluster().machines[machine].cut_off_until = until;
        }
        if self.strikes(Fault::Rival, 500) {
            self.rival();
        }
        if self.strikes(Fault::Compaction, 2_500) {
            self.compact();
        }
        if self.depth.get() == 0 && self.strikes(Fault::Truncation, 1_500) {
            self.truncate();
        }
        if self.below(4) == 0 {
            self.instances.borrow()[machine].disk.sync();
        }
    }

    fn rival(&self) {
        let mut cluster = self.shared.cluster();
        let ids = cluster.coordinator.ids();
        let Some(id) = (!ids.is_empty()).then(|| &ids[self.below(ids.len())]) else { return };
        let answer = cluster.coordinator.init(id, None, Duration::from_secs(10));
        cluster.note(self.shared.now(), || format!("a rival initialises {id}: {answer:?}"));
    }

    fn compact(&self) {
        let mut cluster = self.shared.cluster();
        cluster.note(self.shared.now(), || "changelogs are compacted".into());
        cluster.topics.values_mut().filter(|topic| topic.is_compacted).flat_map(|topic| &mut topic.logs).for_each(super::log::Log::compact);
    }

    /// Deletes input that the group had read a while ago, and every consumer has: retention outlasts zombies.
    fn truncate(&self) {
        let now = self.shared.now();
        let (mut cluster, mut retained) = (self.shared.cluster(), self.retained.borrow_mut());
        if now.saturating_sub(retained.0) < RETENTION {
            return;
        }
        for (partition, low) in std::mem::take(&mut retained.1) {
            let fetched = cluster.clients.values().filter_map(|client| client.fetching.get(&partition)).map(|fetching| fetching.position);
            let fetched = fetched.min().unwrap_or(low);
            cluster.log(&partition).truncate(low.min(fetched));
        }
        for partition in cluster.shared_out.clone() {
            let committed = cluster.group.positions(std::slice::from_ref(&partition), false).ok().and_then(|positions| positions[0]);
            retained.1.extend(committed.map(|mark| (partition, mark.position.0)));
        }
        retained.0 = now;
    }

    /// A turn of a worker that is not in one.
    fn turn_somebody(&self) {
        let idle: Vec<(usize, usize)> = {
            let (cluster, instances) = (self.shared.cluster(), self.instances.borrow());
            let machines = instances
                .iter()
                .enumerate()
                .filter(|(number, instance)| matches!(instance.phase, Phase::Up | Phase::Starting) && !cluster.machines[*number].is_frozen);
            machines
                .flat_map(|(machine, instance)| {
                    let is_idle = |(_, slot): &(usize, &Slot)| matches!(slot, Slot::Idle(_));
                    instance.workers.iter().enumerate().filter(is_idle).map(move |(worker, _)| (machine, worker))
                })
                .collect()
        };
        match idle.len() {
            0 => self.idle(),
            count => {
                let (machine, worker) = idle[self.below(count)];
                self.turn(machine, worker);
            }
        }
    }

    /// Nobody can move: time does.
    fn idle(&self) {
        let until = self.shared.now() + LOOK;
        self.shared.clock.advance_to(until);
        self.shared.work();
    }

    fn take(&self, machine: usize, worker: usize) -> Option<Box<ModelWorker>> {
        let slot = &mut self.instances.borrow_mut()[machine].workers[worker];
        match std::mem::replace(slot, Slot::Busy) {
            Slot::Idle(taken) => Some(taken),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// One turn of a worker.
    pub fn turn(&self, machine: usize, worker: usize) {
        let Some(mut taken) = self.take(machine, worker) else { return };
        let outcome = taken.turn();
        let is_dead = self.is_dead(machine);
        let slot = match outcome {
            Ok(()) if !is_dead => Slot::Idle(taken),
            Ok(()) => Slot::Gone,
            Err(fault) => {
                self.ended(machine, worker, &fault);
                Slot::Gone
            }
        };
        self.instances.borrow_mut()[machine].workers[worker] = slot;
    }

    /// A worker has ended by a fault: the others of its instance end, too, and a supervisor starts them all again.
    fn ended(&self, machine: usize, worker: usize, fault: &WorkerFault) {
        if self.is_dead(machine) {
            return;
        }
        self.shared.note(|| format!("worker {machine}/{worker} ends: {fault}"));
        if let Err(violation) = judge(fault) {
            self.violation.borrow_mut().get_or_insert(violation);
        }
        self.instances.borrow_mut()[machine].end();
    }

    fn is_dead(&self, machine: usize) -> bool {
        self.shared.cluster().machines[machine].is_crashed
    }

    /// Starts and ends what is due.
    pub fn settle_machines(&self) {
        for machine in 0..self.plan.machines {
            let phase = self.instances.borrow()[machine].phase;
            let (is_dead, is_frozen) = (self.is_dead(machine), self.shared.cluster().machines[machine].is_frozen);
            match phase {
                Phase::Down(until) if self.shared.now() >= until && self.depth.get() < DEPTH_MAX => self.start(machine),
                Phase::Up | Phase::Ending if is_dead => self.bury(machine),
                Phase::Ending if !is_frozen => self.finish(machine),
                _ => {}
            }
        }
    }

    /// Drops what a dead process has left in memory.
    fn bury(&self, machine: usize) {
        let workers: Vec<Slot> = {
            let mut instances = self.instances.borrow_mut();
            let is_idle = |slot: &&mut Slot| matches!(slot, Slot::Idle(_));
            instances[machine].workers.iter_mut().filter(is_idle).map(|slot| std::mem::replace(slot, Slot::Gone)).collect()
        };
        drop(workers);
        self.go_down_if_empty(machine);
    }

    fn go_down_if_empty(&self, machine: usize) {
        if !self.instances.borrow()[machine].is_empty() {
            return;
        }
        let is_dead = self.is_dead(machine);
        let (power, disk) = (is_dead && self.strikes(Fault::PowerLoss, 4_000), is_dead && self.strikes(Fault::DiskLoss, 2_500));
        let pause = [50, 1_000, 15_000][self.below(3)];
        let pause = self.random.borrow_mut().up_to(Duration::from_millis(pause));
        let mut instances = self.instances.borrow_mut();
        if power {
            self.shared.note(|| format!("machine {machine} loses power"));
            instances[machine].disk.lose_power();
        }
        if disk {
            self.shared.note(|| format!("machine {machine} loses its disk"));
            instances[machine].disk.replace();
        }
        instances[machine].phase = Phase::Down(self.shared.now() + pause);
    }

    /// Workers that are told to stop commit what is open and leave.
    fn finish(&self, machine: usize) {
        let workers = self.instances.borrow()[machine].workers.len();
        for worker in 0..workers {
            let Some(taken) = self.take(machine, worker) else { continue };
            let outcome = taken.finish();
            if let Err(fault) = outcome {
                self.ended(machine, worker, &fault);
            }
            self.instances.borrow_mut()[machine].workers[worker] = Slot::Gone;
        }
        self.go_down_if_empty(machine);
    }

    fn start(&self, machine: usize) {
        let (disk, stop, process) = {
            let mut instances = self.instances.borrow_mut();
            let instance = &mut instances[machine];
            (instance.phase, instance.stop) = (Phase::Starting, Arc::default());
            instance.workers.clear();
            let mut cluster = self.shared.cluster();
            let known = &mut cluster.machines[machine];
            known.incarnation += 1;
            (known.is_crashed, known.stop) = (false, Some(instance.stop.clone()));
            let process = Process { machine, incarnation: known.incarnation };
            cluster.note(self.shared.now(), || format!("{process} starts"));
            (instance.disk.clone(), instance.stop.clone(), process)
        };
        let prepared =
            Parts::prepare(&self.shared, &self.registry, process, &disk, &stop, settings(self.plan.is_static, self.plan.has_ledger));
        let parts = match prepared {
            Ok(parts) => parts,
            Err(fault) => {
                self.ended(machine, 0, &fault.into());
                self.instances.borrow_mut()[machine].end();
                return;
            }
        };
        for number in 0..self.plan.workers {
            self.instances.borrow_mut()[machine].workers.push(Slot::Busy);
            let slot = match parts.start(number) {
                Ok(worker) => Slot::Idle(Box::new(worker)),
                Err(fault) => {
                    self.ended(machine, number, &fault);
                    Slot::Gone
                }
            };
            self.instances.borrow_mut()[machine].workers[number] = slot;
            let is_ending = self.instances.borrow()[machine].phase == Phase::Ending || self.is_dead(machine);
            if is_ending {
                break;
            }
        }
        let instance = &mut self.instances.borrow_mut()[machine];
        if instance.phase == Phase::Starting {
            instance.phase = if self.shared.cluster().machines[machine].is_crashed { Phase::Ending } else { Phase::Up };
        }
    }
}
