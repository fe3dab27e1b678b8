//! Where the service answers over HTTP.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// `[http]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port, such as `0.0.0.0:8080`. By default only this machine is answered; port 0 takes a free one.
    pub bind: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)) }
    }
}
