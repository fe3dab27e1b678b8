//! Which ports the three servers listen on: the usual ones, or free ones so that stacks can run beside each other.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// How ports are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// 29092, 29093, 28081 and 27117; a free one in place of each that is taken.
    Usual,
    /// Any free ones.
    Free,
}

/// The ports of one stack, all on 127.0.0.1. They never change during its life: the broker's quorum and the database's replica set
/// have them in their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PortSet {
    /// The broker's clients.
    pub kafka: u16,
    /// The broker's own quorum.
    pub kafka_controller: u16,
    /// The registry's HTTP.
    pub registry: u16,
    /// The database.
    pub mongod: u16,
}

const USUAL: PortSet = PortSet { kafka: 29092, kafka_controller: 29093, registry: 28081, mongod: 27117 };

/// Below the range from which the system takes ports of outgoing connections: such a port could be taken while its server restarts.
const FREE_FIRST: u32 = 20_000;
const FREE_COUNT: u32 = 7_000;

impl Ports {
    /// Chooses four ports on which nobody listens now.
    ///
    /// # Errors
    /// When there are no free ones left.
    pub fn choose(self) -> anyhow::Result<PortSet> {
        let pick = |usual: u16| match self {
            Self::Usual if is_free(usual) => Ok(usual),
            Self::Usual | Self::Free => next_free(),
        };
        Ok(PortSet {
            kafka: pick(USUAL.kafka)?,
            kafka_controller: pick(USUAL.kafka_controller)?,
            registry: pick(USUAL.registry)?,
            mongod: pick(USUAL.mongod)?,
        })
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

    #[test]
    fn free_ports_are_distinct_and_not_the_usual_ones() {
        let first = Ports::Free.choose().expect("ports are free");
        let second = Ports::Free.choose().expect("ports are free");

        let mut all = Vec::new();
        for set in [first, second, USUAL] {
            all.extend([set.kafka, set.kafka_controller, set.registry, set.mongod]);
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 12);
    }

    #[test]
    fn usual_port_that_is_taken_is_replaced() {
        // Somebody else may hold it already, which serves as well.
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL.registry));

        let chosen = Ports::Usual.choose().expect("ports are free");

        assert_ne!(chosen.registry, USUAL.registry);
        drop(taken);
    }
}
