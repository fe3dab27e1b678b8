//! `testudo run --accept-state-loss`: the operator lets windows go on without state that is lost. What is lost is found out, and
//! recorded, where a partition is taken up (`engine/losses.rs`).

use std::sync::Arc;

use anyhow::anyhow;

use super::exit::{Exit, WithExit};
use crate::tenant::Tenant;

/// The windows that `given` names, as `tenant/window`, for [`crate::engine::Settings::start_empty`].
pub(super) fn accepted(given: &[String], tenants: &[Arc<Tenant>]) -> anyhow::Result<Vec<String>> {
    named(given, tenants).exit(Exit::Usage)
}

fn named(given: &[String], tenants: &[Arc<Tenant>]) -> anyhow::Result<Vec<String>> {
    let windows = tenants.iter().flat_map(|tenant| tenant.windows.iter().map(move |window| format!("{}/{}", tenant.name, window.name)));
    let all: Vec<String> = windows.collect();
    if given.iter().any(|name| name == "all") {
        return Ok(all);
    }
    let mut accepted = Vec::with_capacity(given.len());
    for name in given {
        let is_it = |window: &str| window == name || window.split_once('/').is_some_and(|(_, window)| window == name);
        let found: Vec<&str> = all.iter().map(String::as_str).filter(|window| is_it(window)).collect();
        match found.as_slice() {
            [one] => accepted.push((*one).to_owned()),
            [] => return Err(anyhow!("no loss was accepted: there is no window `{name}`; there are {}, or `all`", all.join(", "))),
            several => return Err(anyhow!("no loss was accepted: `{name}` is a window of several tenants; name {}", several.join(" or "))),
        }
    }
    Ok(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Settings;
    use crate::schemas::testing::{FILE, tenant};

    #[test]
    fn a_loss_is_accepted_for_the_window_of_one_tenant() {
        let zoo = FILE.replace("POLICY", "compatible");
        let farm = zoo.replace("tenant = \"zoo\"", "tenant = \"farm\"");
        let both = [tenant(&zoo), tenant(&farm)];
        let of = |names: &[&str], tenants: &[Arc<Tenant>]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            accepted(&names, tenants).map_err(|error| error.to_string())
        };

        assert_eq!(of(&["stats"], &both[..1]).expect("there is one"), ["zoo/stats"]);
        assert_eq!(of(&["farm/stats"], &both).expect("there is one"), ["farm/stats"]);
        assert_eq!(of(&["all"], &both).expect("both"), ["zoo/stats", "farm/stats"]);
        assert!(of(&["stats"], &both).expect_err("which?").contains("name zoo/stats or farm/stats"));
        assert!(of(&["zoo/none"], &both).expect_err("none").contains("there is no window `zoo/none`"));
        let settings = Settings { start_empty: vec!["farm/stats".into()], ..Settings::default() };
        assert_eq!(["farm", "zoo"].map(|tenant| settings.may_start_empty(tenant, "stats")), [true, false]);
    }
}
