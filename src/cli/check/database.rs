//! MongoDB's side, for tenants with collections.

use super::findings::{Findings, exit_for};
use crate::config::Config;
use crate::tenant::Tenant;

/// Looks at the database of each tenant that feeds one.
pub(super) async fn look(tenants: &[Tenant], config: &Config, findings: &mut Findings) {
    for tenant in tenants.iter().filter(|tenant| !tenant.collections.is_empty()) {
        let Some(settings) = &config.mongo else {
            findings.skipped(format!(
                "{}: {} collections are declared, but no database is configured (mongo.uri): nothing will be written there",
                tenant.name,
                tenant.collections.len()
            ));
            continue;
        };
        for finding in crate::mongo::check::check(settings, &tenant.database).await {
            let text = format!("{}: {}", tenant.name, finding.text);
            if finding.ok {
                findings.fine(text);
            } else {
                findings.wrong(exit_for(&finding.text), text, "check mongo.uri and the rights of its user");
            }
        }
    }
}
