//! `testudo health`: asks a running instance whether it is ready, for a container's health check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::config::Config;

/// A health check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3);
/// No more of an answer is shown.
const SHOWN_CHARS_MAX: usize = 2_000;

/// Flags of `testudo health`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 ready, 1 not ready or no answer.\n\nExample:\n  HEALTHCHECK CMD [\"testudo\", \"health\"]")]
pub struct Args {
    /// Address of the instance; by default the one that `http.bind` names.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Asks `/readyz`.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let base = args.url.clone().unwrap_or_else(|| url_of(config.http.bind));
    let url = format!("{}/readyz", base.trim_end_matches('/'));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start a runtime")?;
    let (status, text) = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let response = client.get(&url).send().await?;
        anyhow::Ok((response.status(), response.text().await?))
    })?;
    if !status.is_success() {
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        bail!("{url} answers {status}: {shown}");
    }
    println!("ready");
    Ok(())
}

/// Where an instance bound to `bind` is reached from its own machine.
fn url_of(bind: SocketAddr) -> String {
    let home: IpAddr = if bind.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let host = if bind.ip().is_unspecified() { home } else { bind.ip() };
    format!("http://{}", SocketAddr::new(host, bind.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_bound_to_every_address_is_reached_at_home() {
        let url = |bind: &str| url_of(bind.parse().expect("an address"));

        assert_eq!(url("0.0.0.0:8080"), "http://127.0.0.1:8080");
        assert_eq!(url("[::]:81"), "http://[::1]:81");
        assert_eq!(url("10.0.0.7:80"), "http://10.0.0.7:80");
    }
}
