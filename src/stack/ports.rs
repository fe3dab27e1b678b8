//! Which ports the servers listen on: the usual ones, or free ones so that stacks can run beside each other.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// How ports are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// 29092 (and 29094, 29095), 29093, 28081 and 27117; a free one in place of each that is taken.
    Usual,
    /// Any free ones.
    Free,
}

/// What needs ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many brokers, 1 to 3.
    pub brokers: usize,
    /// Whether the broker has a second listener behind a proxy.
    pub fault_listener: bool,
    /// Whether the servers also listen for clients that use TLS and passwords.
    pub secured: bool,
}

/// The ports of one stack, all on 127.0.0.1. They never change during its life: the brokers' quorum and the database's replica set
/// have them in their data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PortSet {
    /// The clients of each broker.
    pub brokers: Vec<u16>,
    /// The controller, for brokers.
    pub controller: u16,
    /// The registry's HTTP.
    pub registry: u16,
    /// The database.
    pub mongod: u16,
    /// The broker's second listener.
    pub faults: Option<FaultPorts>,
    /// Listeners with TLS; the database takes both kinds of connections on its one port.
    pub secured: Option<SecuredPorts>,
}

/// Listeners with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecuredPorts {
    /// The first broker's.
    pub broker: u16,
    /// The registry's.
    pub registry: u16,
}

/// A listener that names another port than its own, so that clients which come through a proxy stay with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FaultPorts {
    /// Where the broker listens.
    pub real: u16,
    /// Where clients are told to go, by the broker's metadata: the proxy.
    pub advertised: u16,
}

/// Most brokers of one stack.
pub const BROKERS_MAX: usize = 3;

const USUAL_BROKERS: [u16; BROKERS_MAX] = [29092, 29094, 29095];
const USUAL_CONTROLLER: u16 = 29093;
const USUAL_REGISTRY: u16 = 28081;
const USUAL_MONGOD: u16 = 27117;

/// Below the range from which the system takes ports of outgoing connections: such a port could be taken while its server restarts.
const FREE_FIRST: u32 = 20_000;
const FREE_COUNT: u32 = 7_000;

impl Ports {
    /// Chooses ports on which nobody listens now.
    ///
    /// # Errors
    /// When there are no free ones left.
    pub fn choose(self, layout: Layout) -> anyhow::Result<PortSet> {
        let pick = |usual: u16| match self {
            Self::Usual if is_free(usual) => Ok(usual),
            Self::Usual | Self::Free => next_free(),
        };
        Ok(PortSet {
            brokers: USUAL_BROKERS.into_iter().take(layout.brokers).map(pick).collect::<anyhow::Result<_>>()?,
            controller: pick(USUAL_CONTROLLER)?,
            registry: pick(USUAL_REGISTRY)?,
            mongod: pick(USUAL_MONGOD)?,
            faults: if layout.fault_listener { Some(FaultPorts::choose()?) } else { None },
            secured: if layout.secured { Some(SecuredPorts::choose()?) } else { None },
        })
    }
}

impl FaultPorts {
    /// Chooses two free ports.
    ///
    /// # Errors
    /// When there are none left.
    pub fn choose() -> anyhow::Result<Self> {
        Ok(Self { real: next_free()?, advertised: next_free()? })
    }
}

impl SecuredPorts {
    /// Chooses two free ports.
    ///
    /// # Errors
    /// When there are none left.
    pub fn choose() -> anyhow::Result<Self> {
        Ok(Self { broker: next_free()?, registry: next_free()? })
    }
}

impl PortSet {
    /// The port of a broker, counted from 1.
    pub fn broker(&self, number: usize) -> Option<u16> {
        self.brokers.get(number.checked_sub(1)?).copied()
    }
}

/// Whether a server could listen on the port now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The next free port. Each process starts its search elsewhere and goes through the range once, so that neither threads nor
/// test binaries that choose at the same moment choose the same.
fn next_free() -> anyhow::Result<u16> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(101) % FREE_COUNT;
    for _ in 0..FREE_COUNT {
        let step = TRIED.fetch_add(1, Ordering::Relaxed) % FREE_COUNT;
        let port = u16::try_from(FREE_FIRST + (first + step) % FREE_COUNT).context("the range of free ports ends below 65536")?;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("found no free port between {FREE_FIRST} and {}", FREE_FIRST + FREE_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Layout = Layout { brokers: 3, fault_listener: true, secured: true };

    #[test]
    fn free_ports_are_distinct_and_not_the_usual_ones() {
        let first = Ports::Free.choose(THREE).expect("ports are free");
        let second = Ports::Free.choose(THREE).expect("ports are free");

        let mut all: Vec<u16> = [USUAL_CONTROLLER, USUAL_REGISTRY, USUAL_MONGOD].into_iter().chain(USUAL_BROKERS).collect();
        for set in [first, second] {
            let faults = set.faults.expect("they were asked for");
            let secured = set.secured.expect("they were asked for");
            all.extend([set.controller, set.registry, set.mongod, faults.real, faults.advertised, secured.broker, secured.registry]);
            all.extend(set.brokers);
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6 + 2 * 10);
    }

    #[test]
    fn usual_port_that_is_taken_is_replaced() {
        // Somebody else may hold it already, which serves as well.
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL_REGISTRY));

        let chosen = Ports::Usual.choose(THREE).expect("ports are free");

        assert_ne!(chosen.registry, USUAL_REGISTRY);
        drop(taken);
    }
}
