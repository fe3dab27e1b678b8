//! What a verdict was reached for: the policy and the expressions that it rests on. Another tenant file asks again.

use twox_hash::XxHash3_128;

use super::judge::places;
use crate::tenant::{Format, Tenant};

/// Identifies the policy of `tenant.sources[source]` for new schemas and all expressions over its columns, as 16 hex digits. The reader
/// schema has a fingerprint of its own. Panics when the tenant has no such source.
pub fn policy_fingerprint(tenant: &Tenant, source: usize) -> String {
    let declared = &tenant.sources[source];
    let mut text = format!("{}\n{:?}\n", declared.on_new_schema.word(), declared.non_finite);
    if declared.subject.is_shared() {
        text.push_str(&format!("{}\n", declared.records.join(" ")));
    }
    if declared.format != Format::Avro {
        text.push_str(&format!("{}\n", declared.format.word()));
    }
    for (key, sql, _) in places(tenant, source) {
        // Lengths keep the parts apart whatever they hold.
        text.push_str(&format!("{} {key} {} {sql}\n", key.len(), sql.len()));
    }
    let hash = XxHash3_128::oneshot(text.as_bytes());
    format!("{:016x}", (hash >> 64) as u64 ^ hash as u64)
}
