//! A small zoo for tests of this module and of the commands.

use std::sync::Arc;

use crate::tenant::{Tenant, check};

/// The reader schema of `in`.
pub(super) const READING: &str = r#"{"type":"record","name":"Reading","fields":[
    {"name":"dev_id","type":"string"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"battery","type":["null","int"],"default":null},
    {"name":"site","type":"string","default":"here"}]}"#;

/// The tenant file; `POLICY` is its word for new schemas.
pub(crate) const FILE: &str = r#"tenant = "zoo"
[source.readings]
topics = ["in", "in2"]
schema = "in-value.avsc"
columns = { "dev-id" = "dev_id" }
key = '"dev-id"'
event_time = "at"
on_new_schema = "POLICY"
[alert.battery_low]
from = "readings"
where = "battery < 2000"
topic = "low"
[window.stats]
from = "readings"
by = ['"dev-id"']
over = { tumbling = "1 minute" }
grace = "0s"
topic = "stats"
[window.stats.select]
battery = "avg(battery)"
"#;

/// The tenant with this policy.
pub(super) fn zoo(policy: &str) -> Arc<Tenant> {
    tenant(&FILE.replace("POLICY", policy))
}

/// The tenant of a file.
pub(crate) fn tenant(file: &str) -> Arc<Tenant> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("zoo.toml");
    std::fs::write(folder.path().join("in-value.avsc"), READING).expect("a writable folder");
    std::fs::write(&path, file).expect("a writable folder");
    let mut checked = check::tenants(&[path], &toml::Table::new()).unwrap_or_else(|faults| panic!("{faults}"));
    Arc::new(checked.tenants.remove(0))
}
