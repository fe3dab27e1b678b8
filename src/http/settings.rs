//! Where the service answers over HTTP.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// `[http]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port, such as `0.0.0.0:8080`. By default only this machine is answered; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Whether owners may decide about schemas over HTTP. Unless set, only where `bind` is an address of this machine alone: there are
    /// no users and passwords, so whoever reaches the address may decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_decisions: Option<bool>,
}

impl Settings {
    /// Whether decisions are taken.
    pub fn may_decide(&self) -> bool {
        self.allow_decisions.unwrap_or_else(|| self.bind.ip().is_loopback())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), allow_decisions: None }
    }
}
