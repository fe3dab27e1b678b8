//! A running stack: how it comes up, where it is reached, and its end. Taking single servers away is in [`super::outages`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::download::Parts;
use super::ports::{BROKERS_MAX, FaultPorts, Layout, Ports};
use super::record::Settings;
use super::secured::Certificates;
use super::servers::{self, Servers};
use super::threads::{block_on, in_parallel};
use super::{kafka, mongod, registry, secured};
use crate::clock::{SharedClock, SystemClock};

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for data, logs and pids; made where it is absent.
    pub dir: PathBuf,
    /// How ports are chosen; a folder that has been used before keeps its ports.
    pub ports: Ports,
    /// Each broker's heap in MiB.
    pub kafka_heap_mib: u32,
    /// Short timeouts of brokers, so that tests of failures are short.
    pub fast_failure_settings: bool,
    /// One broker; or three, each with a copy of everything, two of which must have a record before it counts.
    pub brokers: usize,
    /// A second listener of the one broker, for a proxy: [`Stack::fault_listener`].
    pub fault_listener: bool,
    /// Listeners with TLS and passwords beside the plain ones: [`Stack::secured`].
    pub secured: bool,
}

impl Default for Options {
    /// For people: one broker on the usual ports, a small heap, the usual timeouts, in the folder that `testudo stack` uses.
    fn default() -> Self {
        Self {
            dir: PathBuf::from(".testudo/stack"),
            ports: Ports::Usual,
            kafka_heap_mib: 512,
            fast_failure_settings: false,
            brokers: 1,
            fault_listener: false,
            secured: false,
        }
    }
}

/// Addresses of the listeners with TLS.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The broker's, for SASL_SSL with SCRAM-SHA-512.
    pub bootstrap: String,
    /// The registry's.
    pub registry_url: String,
    /// The database's, with user and password.
    pub mongo_uri: String,
    /// File with the authority's certificate.
    pub authority: PathBuf,
}

/// A running stack. One that was made by [`Stack::up`] ends when it is dropped, unless [`Stack::keep`] is called.
pub struct Stack {
    dir: PathBuf,
    pub(super) settings: Settings,
    pub(super) parts: Parts,
    pub(super) servers: Servers,
    pub(super) certificates: Option<Certificates>,
    pub(super) clock: SharedClock,
    ends_on_drop: bool,
}

impl Stack {
    /// Starts what does not run yet and waits until everything answers.
    ///
    /// # Errors
    /// When a part cannot be downloaded, a port of an earlier start is taken, the folder holds another kind of stack, or a server does
    /// not answer; then nothing is left running.
    pub fn up(options: Options) -> anyhow::Result<Self> {
        let clock = SystemClock::shared();
        fs::create_dir_all(&options.dir).with_context(|| format!("failed to make the folder {}", options.dir.display()))?;
        let dir = options.dir.canonicalize().with_context(|| format!("failed to resolve {}", options.dir.display()))?;
        let _lock = servers::lock(&dir, &clock)?;
        let settings = settings(&dir, &options)?;
        let parts = Parts::ready(&clock)?;
        settings.save(&dir)?;
        let certificates = certificates(&dir, &settings)?;
        let servers = Servers::of(&dir, options.brokers);
        let stack = Self { servers, certificates, dir, settings, parts, clock, ends_on_drop: true };
        stack.start_all()?;
        Ok(stack)
    }

    fn start_all(&self) -> anyhow::Result<()> {
        type Start<'s> = Box<dyn FnOnce() -> anyhow::Result<()> + Send + 's>;
        if self.servers.brokers.iter().any(|broker| broker.ended_badly_ms(&self.clock).is_some()) {
            // Its controller must be there to fence it before it comes back.
            self.start_controller()?;
        }
        let others: [Start<'_>; 3] =
            [Box::new(|| self.start_controller()), Box::new(|| self.start_registry()), Box::new(|| self.start_mongod())];
        let brokers = (1..=self.servers.brokers.len()).map(|number| -> Start<'_> { Box::new(move || self.start_broker_of(number)) });
        in_parallel(others.into_iter().chain(brokers).collect())?;
        match self.certificates {
            Some(_) => block_on(async || mongod::add_user(self.settings.ports.mongod).await),
            None => Ok(()),
        }
    }

    /// The stack that an earlier `up` left running in `dir`.
    ///
    /// # Errors
    /// When there is none.
    pub fn attach(dir: &Path) -> anyhow::Result<Self> {
        let (dir, settings) = servers::known(dir)?;
        let clock = SystemClock::shared();
        let servers = Servers::of(&dir, settings.ports.brokers.len());
        for service in servers.all() {
            ensure!(
                service.pid().is_some(),
                "{} of the stack in {} does not run; start it with `testudo stack up`",
                service.name,
                dir.display()
            );
        }
        let certificates = certificates(&dir, &settings)?;
        Ok(Self { dir, settings, parts: Parts::ready(&clock)?, servers, certificates, clock, ends_on_drop: false })
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

    /// The brokers' addresses, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.settings.bootstrap()
    }

    /// The broker's second listener. A proxy that listens on `advertised` and connects to `real` has all connections of the clients that
    /// begin at it.
    ///
    /// # Panics
    /// When the stack was started without [`Options::fault_listener`].
    pub fn fault_listener(&self) -> FaultPorts {
        self.settings.ports.faults.expect("only a test that asked for the listener uses it")
    }

    /// Where clients with TLS reach the servers.
    ///
    /// # Panics
    /// When the stack was started without [`Options::secured`].
    pub fn secured(&self) -> Endpoints {
        let ports = self.settings.ports.secured.expect("only a test that asked for TLS uses it");
        let authority = self.certificates.as_ref().expect("they were made with the ports").authority();
        let mongo = format!(
            "mongodb://{}:{}@localhost:{}/?directConnection=true&tls=true&tlsCAFile={}",
            secured::USER,
            secured::PASSWORD,
            self.settings.ports.mongod,
            authority.display()
        );
        Endpoints {
            bootstrap: format!("localhost:{}", ports.broker),
            registry_url: format!("https://localhost:{}/apis/ccompat/v7", ports.registry),
            mongo_uri: mongo,
            authority,
        }
    }

    /// Runs one of Kafka's own tools against the plain listener, as somebody who may do everything.
    ///
    /// # Errors
    /// When it cannot be started or ends with an error, with what it wrote.
    pub fn kafka_tool(&self, class: &str, arguments: &[&str]) -> anyhow::Result<()> {
        kafka::tool(&self.parts, class, &self.bootstrap(), arguments)
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
}

/// Those of a stack with listeners that need them.
fn certificates(dir: &Path, settings: &Settings) -> anyhow::Result<Option<Certificates>> {
    settings.ports.secured.map(|_| Certificates::ready(&dir.join("certificates"))).transpose()
}

/// What the folder remembers, or what the options ask for where it is new.
fn settings(dir: &Path, options: &Options) -> anyhow::Result<Settings> {
    let Options { brokers, fault_listener, secured, .. } = *options;
    ensure!(brokers == 1 || brokers == BROKERS_MAX, "a stack has 1 or {BROKERS_MAX} brokers, not {brokers}");
    ensure!(brokers == 1 || !fault_listener, "a proxy stands before one broker, not {brokers}");
    let mut ports = match Settings::load(dir)? {
        Some(earlier) => earlier.ports,
        None => options.ports.choose(Layout { brokers, fault_listener, secured })?,
    };
    ensure!(
        ports.brokers.len() == brokers,
        "the stack in {} has {} brokers, not {brokers}; use another folder, or remove it with `testudo stack down --wipe --dir {0}`",
        dir.display(),
        ports.brokers.len()
    );
    if fault_listener && ports.faults.is_none() {
        ports.faults = Some(FaultPorts::choose()?);
    }
    Ok(Settings { ports, kafka_heap_mib: options.kafka_heap_mib, fast_failure_settings: options.fast_failure_settings })
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
