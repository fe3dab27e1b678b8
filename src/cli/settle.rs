//! Before a tenant starts: which generation of it counts, and whether that may work. A tenant that may not, or of which it cannot be
//! found out, is shown as one that ended at work, and keeps no other from starting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::runtime::Handle;

use super::exit::{Exit, WithExit, code_of};
use super::operator::find_generation;
use crate::clock::{Clock, Deadline};
use crate::config::Config;
use crate::engine::generation;
use crate::telemetry::health::{Health, HealthHandle};
use crate::tenant::Tenant;

/// Pause before the broker is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Step in which a stop is noticed while pausing.
const STOP_STEP: Duration = Duration::from_millis(20);
/// A drain waits so long for an answer; tenants that are ready wait so long for the others: as long as a broker is away that comes back.
const WITHIN: Duration = Duration::from_secs(60);

/// What tenants are asked with.
pub(super) struct Settling<'s> {
    /// Where it is shown.
    pub(super) health: &'s Health,
    pub(super) clock: &'s dyn Clock,
    pub(super) is_drain: bool,
    pub(super) is_stopped: &'s dyn Fn() -> bool,
    /// Finds out which generation of a tenant counts; an error where that may not work.
    pub(super) find: &'s dyn Fn(&Tenant) -> anyhow::Result<()>,
}

/// What became of the tenants, in their order.
#[derive(Default)]
pub(super) struct Settled {
    /// Those that may start.
    pub(super) ready: Vec<Arc<Tenant>>,
    /// Why the others ended, and where that is shown as long as this is there.
    ended: Vec<(anyhow::Error, HealthHandle)>,
}

impl Settled {
    /// The first fault, if there was one.
    pub(super) fn end(self) -> anyhow::Result<()> {
        self.ended.into_iter().next().map_or(Ok(()), |(error, _)| Err(error))
    }
}

impl Settling<'_> {
    /// Asks for all tenants in turn, however long the broker is away; nothing when told to stop before.
    pub(super) fn run(&self, tenants: &[Arc<Tenant>]) -> Option<Settled> {
        let enter = |tenant: &Arc<Tenant>| (tenant.clone(), self.health.component(format!("generation {}", tenant.name)));
        let mut waiting: BTreeMap<usize, _> = tenants.iter().map(enter).enumerate().collect();
        let mut known = BTreeMap::new();
        let mut until = self.is_drain.then(|| Deadline::after(self.clock, WITHIN));
        loop {
            for (number, (tenant, health)) in std::mem::take(&mut waiting) {
                match (self.find)(&tenant) {
                    Ok(()) => {
                        health.retire();
                        until.get_or_insert_with(|| Deadline::after(self.clock, WITHIN));
                        known.insert(number, Ok(tenant));
                    }
                    Err(error) if code_of(&error) == Exit::Unreachable && until.is_none_or(|until| !until.is_over(self.clock)) => {
                        tracing::warn!(tenant = tenant.name, error = format!("{error:#}"), "which generation counts is not known yet");
                        health.not_ready(format!("{error:#}"));
                        waiting.insert(number, (tenant, health));
                    }
                    Err(error) => {
                        health.retire();
                        known.insert(number, Err(self.ended(&tenant, error)));
                    }
                }
            }
            if waiting.is_empty() {
                break;
            }
            let pause = Deadline::after(self.clock, RETRY_PAUSE);
            while !pause.is_over(self.clock) {
                if (self.is_stopped)() {
                    return None;
                }
                self.clock.sleep(STOP_STEP);
            }
        }
        let mut settled = Settled::default();
        for outcome in known.into_values() {
            match outcome {
                Ok(tenant) => settled.ready.push(tenant),
                Err(ended) => settled.ended.push(ended),
            }
        }
        Some(settled)
    }

    /// Shows a tenant as its supervisor would.
    fn ended(&self, tenant: &Tenant, error: anyhow::Error) -> (anyhow::Error, HealthHandle) {
        tracing::error!(tenant = tenant.name, fault = format!("{error:#}"), "tenant ended");
        let shown = self.health.component(format!("tenant {}", tenant.name));
        shown.not_ready(format!("ended: {error:#}"));
        (error.context(format!("tenant {} ended", tenant.name)), shown)
    }
}

/// Finds out which generation of a tenant counts.
///
/// # Errors
/// When that may not work, or the broker does not tell.
pub(super) fn find(config: &Config, tenant: &Tenant, runtime: &Handle) -> anyhow::Result<()> {
    let standing = find_generation(config, tenant, runtime)?;
    match generation::permits(&standing, standing.current, false) {
        None => Ok(()),
        Some(why) => Err(anyhow!(why)).exit(Exit::Incompatible),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::schemas::testing::{FILE, tenant};

    /// Time that passes where it is waited.
    #[derive(Default)]
    struct HandClock(AtomicU64);

    impl Clock for HandClock {
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }

        fn wall_ms(&self) -> i64 {
            0
        }

        fn sleep(&self, pause: Duration) {
            self.0.fetch_add(pause.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// What becomes of tenants `farm` and `zoo`, how it is shown, and after how many seconds.
    fn settled(is_stopped: &dyn Fn() -> bool, find: &dyn Fn(&Tenant) -> anyhow::Result<()>) -> (Option<Settled>, Vec<String>, u64) {
        let named = |name: &str| tenant(&FILE.replace("POLICY", "compatible").replace("tenant = \"zoo\"", &format!("tenant = \"{name}\"")));
        let (health, clock) = (Health::default(), HandClock::default());
        let settling = Settling { health: &health, clock: &clock, is_drain: false, is_stopped, find };
        let settled = settling.run(&[named("farm"), named("zoo")]);
        let shown = health.snapshot().into_iter().map(|part| format!("{}: {}", part.name, part.why.unwrap_or_default()));
        (settled, shown.collect(), clock.monotonic().as_secs())
    }

    fn away() -> anyhow::Result<()> {
        Err(anyhow!("away")).exit(Exit::Unreachable)
    }

    fn names(settled: &Settled) -> Vec<&str> {
        settled.ready.iter().map(|tenant| tenant.name.as_str()).collect()
    }

    #[test]
    fn a_tenant_that_may_not_work_keeps_no_other_from_starting() {
        let asked = Cell::new(0);
        let find = |tenant: &Tenant| match tenant.name.as_str() {
            "farm" => Err(anyhow!("not published whole")).exit(Exit::Incompatible),
            _ if asked.replace(asked.get() + 1) < 200 => away(),
            _ => Ok(()),
        };

        let (settled, shown, seconds) = settled(&|| false, &find);

        let settled = settled.expect("nobody stopped it");
        assert_eq!((names(&settled), seconds), (vec!["zoo"], 100), "while nobody is ready it waits for as long as it takes");
        assert_eq!(shown, ["tenant farm: ended: not published whole"]);
        let error = settled.end().expect_err("the other's");
        assert_eq!((code_of(&error), format!("{error:#}")), (Exit::Incompatible, "tenant farm ended: not published whole".to_owned()));
    }

    #[test]
    fn those_that_are_ready_wait_for_the_others_for_a_while() {
        let find = |tenant: &Tenant| if tenant.name == "farm" { away() } else { Ok(()) };

        let (settled, shown, seconds) = settled(&|| false, &find);

        let settled = settled.expect("nobody stopped it");
        assert_eq!((names(&settled), seconds), (vec!["zoo"], WITHIN.as_secs()));
        assert_eq!(shown, ["tenant farm: ended: away"]);
        assert_eq!(settled.end().map_err(|error| code_of(&error)), Err(Exit::Unreachable));
    }

    #[test]
    fn a_stop_is_noticed_while_nobody_answers() {
        let asked = Cell::new(0);
        let find = |_: &Tenant| {
            asked.set(asked.get() + 1);
            away()
        };

        let (settled, _, _) = settled(&|| asked.get() >= 10, &find);

        assert!(settled.is_none() && asked.get() == 10);
    }
}
