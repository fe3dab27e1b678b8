//! `testudo run --accept-state-loss`: the operator lets windows go on without state that is lost. Recorded before anything starts.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::json;
use tokio::runtime::Handle;

use super::exit::{Exit, WithExit};
use super::operator::{Site, listed};
use crate::config::Config;
use crate::tenant::Tenant;

/// The windows that `given` names, for [`crate::engine::Settings::start_empty`].
pub(super) fn accepted(given: &[String], config: &Config, tenants: &[Arc<Tenant>], runtime: &Handle) -> anyhow::Result<Vec<String>> {
    let windows = named(given, tenants).exit(Exit::Usage)?;
    for tenant in tenants {
        let own: Vec<&str> = tenant.windows.iter().map(|window| &*window.name).filter(|name| windows.contains(*name)).collect();
        if own.is_empty() {
            continue;
        }
        let site = Site::new(config.clone(), tenant.clone(), runtime)?;
        let detail = json!({ "windows": own, "old_positions": listed(&site.positions()?) });
        site.record(&site.event("accept-state-loss", detail))?;
    }
    Ok(windows.into_iter().collect())
}

fn named(given: &[String], tenants: &[Arc<Tenant>]) -> anyhow::Result<BTreeSet<String>> {
    let all: BTreeSet<String> = tenants.iter().flat_map(|tenant| &tenant.windows).map(|window| window.name.clone()).collect();
    if given.iter().any(|name| name == "all") {
        return Ok(all);
    }
    match given.iter().find(|name| !all.contains(*name)) {
        Some(unknown) => {
            let known: Vec<&str> = all.iter().map(String::as_str).collect();
            Err(anyhow!("--accept-state-loss: there is no window `{unknown}`; there are {}, or `all`", known.join(", ")))
        }
        None => Ok(given.iter().cloned().collect()),
    }
}
