//! The three servers of a stack's folder, whoever started them: how they are doing, and their end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::lock::Lock;
use super::process::Service;
use super::record::Settings;
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
    /// The broker.
    pub kafka: Service,
    /// The schema registry.
    pub registry: Service,
    /// The database.
    pub mongod: Service,
}

impl Servers {
    /// The servers of an absolute folder.
    pub fn of(dir: &Path) -> Self {
        let service = |name| Service { name, folder: dir.join(name) };
        Self { kafka: service("kafka"), registry: service("registry"), mongod: service("mongod") }
    }

    /// Each of them.
    pub fn all(&self) -> [&Service; 3] {
        [&self.kafka, &self.registry, &self.mongod]
    }

    /// Ends those that run, side by side.
    ///
    /// # Errors
    /// When one of them cannot be ended.
    pub fn stop(&self, clock: &SharedClock) -> anyhow::Result<()> {
        in_parallel(self.all().map(|service| move || service.stop(clock)))
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
    let servers = Servers::of(&dir);
    let ports = settings.ports;
    let line = |service: &Service, endpoint, answers| {
        let pid = service.pid();
        ServiceStatus { name: service.name, pid, endpoint, answers: answers && pid.is_some() }
    };
    block_on(async || {
        Ok(vec![
            line(&servers.kafka, settings.bootstrap(), kafka::answers(&settings.bootstrap())),
            line(&servers.registry, registry::url(ports.registry), registry::is_answering(ports.registry).await),
            line(&servers.mongod, mongod::uri(ports.mongod), mongod::is_answering(ports.mongod).await),
        ])
    })
}

/// Ends what runs of the stack in `dir`; with `wipe` its data, logs and ports are forgotten too.
///
/// # Errors
/// When no stack was ever started there, or a server cannot be ended.
pub fn down(dir: &Path, wipe: bool) -> anyhow::Result<()> {
    let (dir, _) = known(dir)?;
    let clock = SystemClock::shared();
    let servers = Servers::of(&dir);
    let _lock = lock(&dir, &clock)?;
    servers.stop(&clock)?;
    if wipe {
        for service in servers.all().into_iter().filter(|service| service.folder.exists()) {
            fs::remove_dir_all(&service.folder).with_context(|| format!("failed to remove {}", service.folder.display()))?;
        }
        fs::remove_file(dir.join("stack.json")).with_context(|| format!("failed to remove stack.json in {}", dir.display()))?;
    }
    Ok(())
}

/// The absolute folder and the settings of a stack that was started before.
///
/// # Errors
/// When there is none.
pub(super) fn known(dir: &Path) -> anyhow::Result<(PathBuf, Settings)> {
    let missing = || anyhow!("no stack was started in {}; start one with `testudo stack up`", dir.display());
    let folder = dir.canonicalize().map_err(|_| missing())?;
    let settings = Settings::load(&folder)?.ok_or_else(missing)?;
    Ok((folder, settings))
}
