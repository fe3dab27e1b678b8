//! Faults that instance `one` lives through: what surrounds it stands still, dies, fills up or is out of reach for a while.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use mongodb::bson::{Document, doc};

use super::fault::{Fault, PAUSE};
use super::kill::{NEW_RECORDS, new_schema};
use super::rig::Rig;
use super::roles;
use super::trial::{Play, SETTLED};
use crate::damage::SmallDisk;
use crate::job::{Instance, wait_for};
use crate::wire::Wire;
use crate::zoo::send_under;

/// Room for the state's tables, logs and their rewriting.
const DISK: &str = "48m";
/// The database is out of reach for longer than one attempt to write may take.
const WRITE_TIMEOUT: &str = "1s";

/// What stands between the program and its surroundings during a case.
pub enum Between {
    /// Nothing.
    Nothing,
    /// A wire to a server.
    Wire(Wire),
    /// A file system of its own.
    Disk(SmallDisk),
}

/// Whether this machine lets the fault happen; if not, why.
pub fn hindrance(fault: Fault) -> Option<&'static str> {
    let folder = tempfile::tempdir().ok()?;
    match fault {
        Fault::Disk if !SmallDisk::mount(folder.path(), "1m").is_ok_and(|disk| disk.is_some()) => {
            Some("this user may not mount a file system, so none can be filled")
        }
        Fault::Memory if std::process::Command::new("prlimit").arg("--version").output().is_err() => {
            Some("there is no prlimit on this machine")
        }
        _ => None,
    }
}

/// Puts in place what the fault needs.
pub fn prepare(rig: &mut Rig<'_>, fault: Fault) -> Result<Between, Failed> {
    let stack = rig.job.stack;
    match fault {
        Fault::BrokerSilent => {
            let wire = Wire::to_broker(stack.fault_listener())?;
            rig.environment.push(("TESTUDO__KAFKA__BOOTSTRAP", wire.address()));
            Ok(Between::Wire(wire))
        }
        Fault::DatabaseSilent => {
            let wire = Wire::to(port_in(&stack.mongo_uri())?)?;
            rig.environment.push(("TESTUDO__MONGO__URI", wire.instead_of(&stack.mongo_uri())));
            rig.environment.push(("TESTUDO__MONGO__WRITE_TIMEOUT", WRITE_TIMEOUT.into()));
            Ok(Between::Wire(wire))
        }
        Fault::RegistrySilent => {
            let wire = Wire::to(port_in(&stack.registry_url())?)?;
            rig.environment.push(("TESTUDO__REGISTRY__URL", wire.instead_of(&stack.registry_url())));
            Ok(Between::Wire(wire))
        }
        Fault::Disk => match SmallDisk::mount(&rig.job.path("state"), DISK)? {
            Some(disk) => Ok(Between::Disk(disk)),
            None => Err("this user may not mount a file system".into()),
        },
        _ => Ok(Between::Nothing),
    }
}

/// The port in `scheme://127.0.0.1:port/...`.
fn port_in(url: &str) -> Result<u16, Failed> {
    let after = url.split("127.0.0.1:").nth(1).ok_or_else(|| format!("no local port in {url}"))?;
    Ok(after.chars().take_while(char::is_ascii_digit).collect::<String>().parse()?)
}

impl Play<'_, '_> {
    /// The fault comes and goes while `one` works.
    pub fn disturb(&mut self, fault: Fault, between: &Between, hits: u64) -> Result<Instance, Failed> {
        let mut one = self.rig.start("one", "", self.workers())?;
        for _ in 0..hits {
            self.rig.wait_for_more(SETTLED)?;
            let (before, since) = self.hit(fault, between, &mut one)?;
            self.hits += 1;
            let recovery = self.rig.progress.first_commit(before, since)?;
            // Of the database and the registry the engine is independent: there is nothing to recover from. Of three brokers the way back
            // began with the kill.
            let is_measured = matches!(fault, Fault::Pause | Fault::Disk | Fault::Broker | Fault::BrokerSilent);
            self.note(Some(recovery).filter(|_| is_measured));
        }
        Ok(one)
    }

    /// Once. What was committed, and when the way back began.
    fn hit(&mut self, fault: Fault, between: &Between, one: &mut Instance) -> Result<(i64, Instant), Failed> {
        let (rig, stack) = (self.rig, self.rig.job.stack);
        match (fault, between) {
            (Fault::Pause, _) => {
                one.signal("-STOP")?;
                std::thread::sleep(PAUSE);
                one.signal("-CONT")?;
            }
            (Fault::Broker, _) => {
                stack.kill_broker()?;
                std::thread::sleep(self.some_ms(0..4_000));
                stack.start_broker()?;
            }
            (Fault::BrokerSilent, Between::Wire(wire)) => self.silence(wire, 1_000..12_000),
            (Fault::DatabaseSilent, Between::Wire(wire)) => self.silence(wire, 500..8_000),
            (Fault::RegistrySilent, Between::Wire(wire)) => {
                wire.hold();
                send_new(rig)?;
                self.silence(wire, 500..8_000);
            }
            (Fault::Registry, _) => {
                let (id, text) = new_schema(rig)?;
                stack.stop_registry()?;
                send_under(&rig.job, id, &text, NEW_RECORDS)?;
                std::thread::sleep(self.some_ms(500..3_000));
                stack.start_registry()?;
            }
            (Fault::Database, _) => {
                stack.kill_mongod()?;
                std::thread::sleep(self.some_ms(0..3_000));
                stack.start_mongod()?;
            }
            (Fault::StepDown, _) => stack.step_down_mongod(Duration::from_secs(2))?,
            (Fault::StepDownInBulk, _) => self.step_down_in_bulk()?,
            (Fault::Disk, Between::Disk(disk)) => {
                let filler = disk.fill()?;
                std::thread::sleep(self.some_ms(500..4_000));
                std::fs::remove_file(filler)?;
            }
            (Fault::Leader | Fault::TransactionCoordinator | Fault::GroupCoordinator, _) => return self.kill_one_of_three(fault),
            (fault, _) => return Err(format!("{fault:?} is no disturbance").into()),
        }
        Ok((rig.progress.committed()?, Instant::now()))
    }

    /// Holds a wire for a random time, and cuts it at the end in half of the cases.
    fn silence(&mut self, wire: &Wire, range: std::ops::Range<u64>) {
        wire.hold();
        std::thread::sleep(self.some_ms(range));
        if rand::RngExt::random_bool(&mut self.rng, 0.5) {
            wire.cut();
        }
        wire.carry_on();
    }

    /// Has the server stop in the middle of a bulk of updates, and step down there.
    fn step_down_in_bulk(&mut self) -> Result<(), Failed> {
        const POINT: &str = "hangDuringBatchUpdate";
        let job = &self.rig.job;
        let skipped = rand::RngExt::random_range(&mut self.rng, 1..40_i64);
        let data = doc! { "nss": format!("{}.zoo_analytics", job.database()), "shouldCheckForInterrupt": true };
        let admin = job.block_on(mongodb::Client::with_uri_str(job.stack.mongo_uri()))?.database("admin");
        let command = |command: Document| job.block_on(async { admin.run_command(command).await });
        command(doc! { "configureFailPoint": POINT, "mode": { "skip": skipped }, "data": data })?;
        let hanging = wait_for("a bulk to be half written", || {
            let operations = command(doc! { "currentOp": 1, "failpointMsg": POINT })?;
            Ok(!operations.get_array("inprog")?.is_empty())
        });
        let stepped_down = hanging.and_then(|()| Ok(job.stack.step_down_mongod(Duration::from_secs(2))?));
        command(doc! { "configureFailPoint": POINT, "mode": "off" })?;
        stepped_down
    }

    /// Kills the broker that has the role. The others take its roles over: that is the way back; then it is started again.
    fn kill_one_of_three(&mut self, fault: Fault) -> Result<(i64, Instant), Failed> {
        let (rig, stack) = (self.rig, self.rig.job.stack);
        let broker = match fault {
            Fault::Leader => roles::leader(&rig.job, &rig.job.topic("in"), 0)?,
            Fault::TransactionCoordinator => roles::coordinator(&rig.job, "__transaction_state", &format!("{}-one-0", rig.job.name))?,
            _ => roles::coordinator(&rig.job, "__consumer_offsets", &rig.job.name)?,
        };
        stack.kill_broker_of(broker)?;
        let (before, since) = (rig.progress.committed()?, Instant::now());
        let recovery = rig.progress.first_commit(before, since)?;
        self.note(Some(recovery));
        std::thread::sleep(self.some_ms(0..2_000));
        stack.start_broker_of(broker)?;
        Ok((rig.progress.committed()?, Instant::now()))
    }
}

fn send_new(rig: &Rig<'_>) -> Result<(), Failed> {
    let (id, text) = new_schema(rig)?;
    send_under(&rig.job, id, &text, NEW_RECORDS)
}
