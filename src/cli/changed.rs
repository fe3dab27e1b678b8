//! A window that was changed under its old name, told as a compiler would: what stands at which place now, and what the stored state was made by.

use crate::engine::job::JobFault;
use crate::engine::supervisor::TenantFault;
use crate::engine::worker::WorkerFault;
use crate::store::StoreFault;
use crate::store::identity;
use crate::tenant::{Places, Tenant};

/// The places of a changed declaration, several lines; none when the fault is another one.
pub(super) fn places_of(fault: &TenantFault, tenant: &Tenant, overrides: &toml::Table) -> Option<String> {
    let (TenantFault::Store(store)
    | TenantFault::Job(JobFault::Store(store))
    | TenantFault::Worker(WorkerFault::Job(JobFault::Store(store)) | WorkerFault::Store(store))) = fault
    else {
        return None;
    };
    let StoreFault::Changed { window, difference } = store else { return None };
    let mut places = Places::of(tenant, overrides);
    let point = |(key, what): (&str, &str)| places.point(&format!("window.{window}.{key}"), "", "", what).to_string();
    let lines: Vec<String> = identity::parts(difference).into_iter().map(point).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::check;

    #[test]
    fn a_changed_window_is_pointed_at_where_it_is_declared() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("zoo.toml");
        std::fs::write(
            folder.path().join("r.avsc"),
            r#"{"type":"record","name":"R","fields":[{"name":"d","type":"string"},{"name":"x","type":"double"}]}"#,
        )
        .expect("a writable folder");
        let file = r#"tenant = "zoo"
[source.s]
topics = ["in"]
schema = "r.avsc"
key = "d"
[window.w]
from = "s"
by = ["d"]
over = { tumbling = "5 minutes" }
grace = "1 minute"
topic = "w"
[window.w.select]
mean = "avg(x)"
"#;
        std::fs::write(&path, file).expect("a writable folder");
        let tenant = check::tenants(&[path], &toml::Table::new()).unwrap_or_else(|faults| panic!("{faults}")).tenants.remove(0);
        let difference = "its size was 60 s and is 300 s; its aggregates were [max(x)] and are [avg(x)]".to_owned();
        let fault = TenantFault::Store(StoreFault::Changed { window: "w".into(), difference });

        let told =
            places_of(&fault, &tenant, &toml::Table::new()).expect("two places").replace(&format!("{}/", folder.path().display()), "");

        insta::assert_snapshot!(told, @r#"
        zoo.toml:9:21: window.w.over.tumbling: its size was 60 s and is 300 s
          over = { tumbling = "5 minutes" }
                              ^^^^^^^^^^^
        zoo.toml:13:8: window.w.select.mean: its aggregates were [max(x)] and are [avg(x)]
          mean = "avg(x)"
                 ^^^^^^^^
        "#);
    }
}
