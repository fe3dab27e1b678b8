//! Servers taken away one by one, as failures and maintenance would, and brought back on the same port and data.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::process::Service;
use super::record::address;
use super::running::Stack;
use super::threads::block_on;
use super::{kafka, mongod, ports, properties, registry};

/// Brokers are numbered from 1; the methods without a number mean the first, which is the only one of a small stack.
impl Stack {
    /// Starts the controller unless it runs.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub(super) fn start_controller(&self) -> anyhow::Result<()> {
        let (service, port) = (&self.servers.controller, self.settings.ports.controller);
        if service.pid().is_none() {
            self.require_free(service, &[port])?;
            kafka::launch_controller(service, &self.settings, &self.parts)?;
        }
        block_on(async || service.until_ready(async || kafka::controller_listens(port)).await)
    }

    /// Starts the first broker, as [`Self::start_broker_of`] does.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn start_broker(&self) -> anyhow::Result<()> {
        self.start_broker_of(1)
    }

    /// Starts a broker, on its old port and data, unless it runs. After an end without warning it waits until the controller has fenced
    /// the broker's former self, 5 s with short timeouts and 12 s without: a broker that comes back sooner may lose the markers of a
    /// transaction (KAFKA-20734, ADR 0013).
    ///
    /// # Errors
    /// When there is no such broker or it does not answer in time.
    pub fn start_broker_of(&self, number: usize) -> anyhow::Result<()> {
        let service = self.broker(number)?;
        let port = self.settings.ports.broker(number).with_context(|| format!("the stack has no broker {number}"))?;
        if service.pid().is_none() {
            self.require_free(service, &[port])?;
            self.wait_until_fenced(service);
            kafka::launch_broker(service, number, &self.settings, &self.parts, self.certificates.as_ref())?;
        }
        let address = address(port);
        block_on(async || service.until_ready(async || kafka::answers(&address, number)).await)
    }

    /// Ends the first broker without warning.
    ///
    /// # Errors
    /// When it does not go away.
    pub fn kill_broker(&self) -> anyhow::Result<()> {
        self.kill_broker_of(1)
    }

    /// Ends a broker without warning.
    ///
    /// # Errors
    /// When there is no such broker or it does not go away.
    pub fn kill_broker_of(&self, number: usize) -> anyhow::Result<()> {
        self.broker(number)?.kill(&self.clock)
    }

    /// Ends the first broker in good order.
    ///
    /// # Errors
    /// When it does not go away.
    pub fn stop_broker(&self) -> anyhow::Result<()> {
        self.stop_broker_of(1)
    }

    /// Ends a broker in good order: it hands its partitions to others first.
    ///
    /// # Errors
    /// When there is no such broker or it does not go away.
    pub fn stop_broker_of(&self, number: usize) -> anyhow::Result<()> {
        self.broker(number)?.stop(&self.clock)
    }

    /// Stops the first broker where it stands; nothing answers and no connection ends. When that lasts longer than its session (4 s with
    /// short timeouts, else 9 s), the controller fences it, and a single broker may then lose the markers of an open commit
    /// (KAFKA-20734, ADR 0013): pause a stack of three for so long.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause_broker(&self) -> anyhow::Result<()> {
        self.pause_broker_of(1)
    }

    /// Stops a broker where it stands, as [`Self::pause_broker`] does.
    ///
    /// # Errors
    /// When there is no such broker or it does not run.
    pub fn pause_broker_of(&self, number: usize) -> anyhow::Result<()> {
        self.broker(number)?.pause()
    }

    /// Lets the paused first broker go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn continue_broker(&self) -> anyhow::Result<()> {
        self.continue_broker_of(1)
    }

    /// Lets a paused broker go on.
    ///
    /// # Errors
    /// When there is no such broker or it does not run.
    pub fn continue_broker_of(&self, number: usize) -> anyhow::Result<()> {
        self.broker(number)?.resume()
    }

    /// Starts the registry, on its old port and data, unless it runs.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn start_registry(&self) -> anyhow::Result<()> {
        let (service, port) = (&self.servers.registry, self.settings.ports.registry);
        if service.pid().is_none() {
            self.require_free(service, &[port])?;
            registry::launch(service, &self.settings, &self.parts, self.certificates.as_ref())?;
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
            mongod::launch(service, &self.settings, &self.parts, self.certificates.as_ref())?;
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

    /// Stops the database where it stands; nothing answers and no connection ends.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause_mongod(&self) -> anyhow::Result<()> {
        self.servers.mongod.pause()
    }

    /// Lets the paused database go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn continue_mongod(&self) -> anyhow::Result<()> {
        self.servers.mongod.resume()
    }

    /// Has the database refuse writes for so long, in whole seconds, as a change of primary would; then it elects itself again.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub fn step_down_mongod(&self, away: Duration) -> anyhow::Result<()> {
        let port = self.settings.ports.mongod;
        let service = &self.servers.mongod;
        block_on(async || {
            // It may not have been elected again since the last time.
            service.until_ready(async || mongod::is_answering(port).await).await?;
            mongod::step_down(port, away).await
        })
    }

    fn broker(&self, number: usize) -> anyhow::Result<&Service> {
        let index = number.checked_sub(1);
        index.and_then(|index| self.servers.brokers.get(index)).with_context(|| format!("the stack has no broker {number}"))
    }

    /// Waits out the session of a broker that ended without warning. It counts from the end, or from now where the controller was away
    /// at that time.
    fn wait_until_fenced(&self, broker: &Service) {
        let Some(ended_ms) = broker.ended_badly_ms(&self.clock) else { return };
        let was_seen = self.servers.controller.changed_ms().is_some_and(|started_ms| started_ms < ended_ms);
        let now_ms = self.clock.wall_ms();
        let since_ms = if was_seen { now_ms - ended_ms } else { 0 };
        let passed = Duration::from_millis(u64::try_from(since_ms).unwrap_or_default());
        self.clock.sleep(properties::fenced_after(&self.settings).saturating_sub(passed));
    }

    fn require_free(&self, service: &Service, ports: &[u16]) -> anyhow::Result<()> {
        for port in ports {
            ensure!(
                ports::is_free(*port),
                "{} cannot start: somebody else listens on its port {port}; end that, or use another folder than {}",
                service.name,
                self.dir().display()
            );
        }
        Ok(())
    }
}
