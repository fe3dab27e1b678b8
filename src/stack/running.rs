//! A running stack as tests hold it: endpoints, and the means to take each server away and bring it back on the same port and data.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::download::Parts;
use super::ports::{self, Ports};
use super::process::Service;
use super::record::Settings;
use super::servers::{self, Servers};
use super::threads::{block_on, in_parallel};
use super::{kafka, mongod, registry};
use crate::clock::{SharedClock, SystemClock};

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for data, logs and pids; made where it is absent.
    pub dir: PathBuf,
    /// How ports are chosen; a folder that has been used before keeps its ports.
    pub ports: Ports,
    /// The broker's heap in MiB.
    pub kafka_heap_mib: u32,
    /// Short broker timeouts, so that tests of failures are short.
    pub fast_failure_settings: bool,
}

impl Default for Options {
    /// For people: the usual ports, a small heap, the broker's usual timeouts, in the folder that `testudo stack` uses.
    fn default() -> Self {
        Self { dir: PathBuf::from(".testudo/stack"), ports: Ports::Usual, kafka_heap_mib: 512, fast_failure_settings: false }
    }
}

/// A running stack. One that was made by [`Stack::up`] ends when it is dropped, unless [`Stack::keep`] is called.
pub struct Stack {
    dir: PathBuf,
    settings: Settings,
    parts: Parts,
    servers: Servers,
    clock: SharedClock,
    ends_on_drop: bool,
}

impl Stack {
    /// Starts what does not run yet and waits until everything answers.
    ///
    /// # Errors
    /// When a part cannot be downloaded, a port of an earlier start is taken, or a server does not answer; then nothing is left running.
    pub fn up(options: Options) -> anyhow::Result<Self> {
        let clock = SystemClock::shared();
        fs::create_dir_all(&options.dir).with_context(|| format!("failed to make the folder {}", options.dir.display()))?;
        let dir = options.dir.canonicalize().with_context(|| format!("failed to resolve {}", options.dir.display()))?;
        let _lock = servers::lock(&dir, &clock)?;
        let parts = Parts::ready(&clock)?;
        let ports = match Settings::load(&dir)? {
            Some(earlier) => earlier.ports,
            None => options.ports.choose()?,
        };
        let settings = Settings { ports, kafka_heap_mib: options.kafka_heap_mib, fast_failure_settings: options.fast_failure_settings };
        settings.save(&dir)?;
        let stack = Self { servers: Servers::of(&dir), dir, settings, parts, clock, ends_on_drop: true };
        let starts: [&(dyn Fn() -> anyhow::Result<()> + Sync); 3] =
            [&|| stack.start_broker(), &|| stack.start_registry(), &|| stack.start_mongod()];
        in_parallel(starts)?;
        Ok(stack)
    }

    /// The stack that an earlier `up` left running in `dir`.
    ///
    /// # Errors
    /// When there is none.
    pub fn attach(dir: &Path) -> anyhow::Result<Self> {
        let (dir, settings) = servers::known(dir)?;
        let clock = SystemClock::shared();
        let servers = Servers::of(&dir);
        for service in servers.all() {
            ensure!(
                service.pid().is_some(),
                "{} of the stack in {} does not run; start it with `testudo stack up`",
                service.name,
                dir.display()
            );
        }
        Ok(Self { dir, settings, parts: Parts::ready(&clock)?, servers, clock, ends_on_drop: false })
    }

    /// Leaves the servers running after this value is dropped.
    pub fn keep(&mut self) {
        self.ends_on_drop = false;
    }

    /// Ends the servers and keeps their data.
    ///
    /// # Errors
    /// When one of them cannot be ended.
    pub fn down(mut self) -> anyhow::Result<()> {
        self.ends_on_drop = false;
        let _lock = servers::lock(&self.dir, &self.clock)?;
        self.servers.stop(&self.clock)
    }

    /// The broker's address, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.settings.bootstrap()
    }

    /// The registry's address.
    pub fn registry_url(&self) -> String {
        registry::url(self.settings.ports.registry)
    }

    /// The database's connection string.
    pub fn mongo_uri(&self) -> String {
        mongod::uri(self.settings.ports.mongod)
    }

    /// The folder that this stack lives in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts the broker, on its old port and data, unless it runs.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn start_broker(&self) -> anyhow::Result<()> {
        let service = &self.servers.kafka;
        if service.pid().is_none() {
            self.require_free(service, &[self.settings.ports.kafka, self.settings.ports.kafka_controller])?;
            kafka::launch(service, &self.settings, &self.parts)?;
        }
        let bootstrap = self.bootstrap();
        block_on(async || service.until_ready(async || kafka::answers(&bootstrap)).await)
    }

    /// Ends the broker without warning.
    ///
    /// # Errors
    /// When it does not go away.
    pub fn kill_broker(&self) -> anyhow::Result<()> {
        self.servers.kafka.kill(&self.clock)
    }

    /// Starts the registry, on its old port and data, unless it runs.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn start_registry(&self) -> anyhow::Result<()> {
        let (service, port) = (&self.servers.registry, self.settings.ports.registry);
        if service.pid().is_none() {
            self.require_free(service, &[port])?;
            registry::launch(service, &self.settings, &self.parts)?;
        }
        block_on(async || registry::until_ready(service, port).await)
    }

    /// Ends the registry in good order.
    ///
    /// # Errors
    /// When it does not go away.
    pub fn stop_registry(&self) -> anyhow::Result<()> {
        self.servers.registry.stop(&self.clock)
    }

    /// Starts the database, on its old port and data, unless it runs.
    ///
    /// # Errors
    /// When it does not take writes in time.
    pub fn start_mongod(&self) -> anyhow::Result<()> {
        let (service, port) = (&self.servers.mongod, self.settings.ports.mongod);
        if service.pid().is_none() {
            self.require_free(service, &[port])?;
            mongod::launch(service, &self.settings, &self.parts)?;
        }
        block_on(async || mongod::until_ready(service, port).await)
    }

    /// Ends the database without warning.
    ///
    /// # Errors
    /// When it does not go away.
    pub fn kill_mongod(&self) -> anyhow::Result<()> {
        self.servers.mongod.kill(&self.clock)
    }

    fn require_free(&self, service: &Service, ports: &[u16]) -> anyhow::Result<()> {
        for port in ports {
            ensure!(
                ports::is_free(*port),
                "{} cannot start: somebody else listens on its port {port}; end that, or use another folder than {}",
                service.name,
                self.dir.display()
            );
        }
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.ends_on_drop
            && let Err(error) = self.servers.stop(&self.clock)
        {
            eprintln!("stack: {error:#}");
        }
    }
}
