//! `testudo run --accept-state-loss`: the operator lets windows go on without state that is lost. What is lost is found out, and
//! recorded, where a partition is taken up (`engine/losses.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::anyhow;

use super::exit::{Exit, WithExit};
use crate::tenant::Tenant;

/// The windows that `given` names, for [`crate::engine::Settings::start_empty`].
pub(super) fn accepted(given: &[String], tenants: &[Arc<Tenant>]) -> anyhow::Result<BTreeSet<String>> {
    named(given, tenants).exit(Exit::Usage)
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
