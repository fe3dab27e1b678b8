//! The servers of a stack's folder, whoever started them: how they are doing, and their end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::lock::Lock;
use super::ports::BROKERS_MAX;
use super::process::Service;
use super::record::{self, Settings, address};
use super::threads::{block_on, in_parallel};
use super::{kafka, mongod, registry};
use crate::clock::{SharedClock, SystemClock};

/// Somebody else may be bringing the same stack up or down.
const LOCK_WITHIN: Duration = Duration::from_secs(300);

/// One line of [`status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Name for people.
    pub name: &'static str,
    /// Nothing when it does not run.
    pub pid: Option<u32>,
    /// Where clients reach it.
    pub endpoint: String,
    /// Whether it does its work.
    pub answers: bool,
}

/// The servers; each may run or not.
#[derive(Debug)]
pub struct Servers {
    /// Keeps the brokers' metadata.
    pub controller: Service,
    /// The brokers, the first of which is number 1.
    pub brokers: Vec<Service>,
    /// The schema registry.
    pub registry: Service,
    /// The database.
    pub mongod: Service,
}

const BROKER_NAMES: [&str; BROKERS_MAX] = ["kafka", "kafka-2", "kafka-3"];

impl Servers {
    /// The servers of an absolute folder.
    pub fn of(dir: &Path, brokers: usize) -> Self {
        let service = |name| Service { name, folder: dir.join(name) };
        Self {
            controller: service("controller"),
            brokers: BROKER_NAMES.into_iter().take(brokers).map(service).collect(),
            registry: service("registry"),
            mongod: service("mongod"),
        }
    }

    /// Each of them.
    pub fn all(&self) -> impl Iterator<Item = &Service> {
        [&self.controller].into_iter().chain(&self.brokers).chain([&self.registry, &self.mongod])
    }

    /// Ends those that run, side by side; the controller last, since a broker hands its partitions over before it goes.
    ///
    /// # Errors
    /// When one of them cannot be ended.
    pub fn stop(&self, clock: &SharedClock) -> anyhow::Result<()> {
        let others = self.brokers.iter().chain([&self.registry, &self.mongod]);
        let ended = in_parallel(others.map(|service| || service.stop(clock)).collect());
        self.controller.stop(clock).and(ended)
    }
}

/// Takes the right to start or end the servers of a folder.
///
/// # Errors
/// When somebody else holds it for too long.
pub(super) fn lock(dir: &Path, clock: &SharedClock) -> anyhow::Result<Lock> {
    Lock::take(&dir.join("lock"), LOCK_WITHIN, clock)
}

/// Whether each server of the stack in `dir` runs and answers.
///
/// # Errors
/// When no stack was ever started there.
pub fn status(dir: &Path) -> anyhow::Result<Vec<ServiceStatus>> {
    let (dir, settings) = known(dir)?;
    let ports = &settings.ports;
    let servers = Servers::of(&dir, ports.brokers.len());
    let line = |service: &Service, endpoint, answers| {
        let pid = service.pid();
        ServiceStatus { name: service.name, pid, endpoint, answers: answers && pid.is_some() }
    };
    block_on(async || {
        let controller = line(&servers.controller, address(ports.controller), kafka::controller_listens(ports.controller));
        let mut lines = vec![controller];
        for (number, (service, port)) in (1..).zip(servers.brokers.iter().zip(&ports.brokers)) {
            lines.push(line(service, address(*port), kafka::answers(&address(*port), number)));
        }
        lines.push(line(&servers.registry, registry::url(ports.registry), registry::is_answering(ports.registry).await));
        lines.push(line(&servers.mongod, mongod::uri(ports.mongod), mongod::is_answering(ports.mongod).await));
        Ok(lines)
    })
}

/// Ends what runs of the stack in `dir`, whichever version started it; with `wipe` its data, logs and ports are forgotten too.
///
/// # Errors
/// When no stack was ever started there, or a server cannot be ended.
pub fn down(dir: &Path, wipe: bool) -> anyhow::Result<()> {
    let dir = dir.canonicalize().ok().filter(|folder| record::is_known(folder)).ok_or_else(|| unknown(dir))?;
    let clock = SystemClock::shared();
    let servers = Servers::of(&dir, BROKERS_MAX);
    let _lock = lock(&dir, &clock)?;
    servers.stop(&clock)?;
    if wipe {
        for service in servers.all().filter(|service| service.folder.exists()) {
            fs::remove_dir_all(&service.folder).with_context(|| format!("failed to remove {}", service.folder.display()))?;
        }
        record::forget(&dir)?;
    }
    Ok(())
}

/// The absolute folder and the settings of a stack that was started before.
///
/// # Errors
/// When there is none.
pub(super) fn known(dir: &Path) -> anyhow::Result<(PathBuf, Settings)> {
    let folder = dir.canonicalize().map_err(|_| unknown(dir))?;
    let settings = Settings::load(&folder)?.ok_or_else(|| unknown(dir))?;
    Ok((folder, settings))
}

fn unknown(dir: &Path) -> anyhow::Error {
    anyhow!("no stack was started in {}; start one with `testudo stack up`", dir.display())
}
