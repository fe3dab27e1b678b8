//! This machine's side: the state folder can be written and nobody else works in it. Nothing stays behind.

use std::fs;
use std::io;
use std::path::Path;

use super::findings::Findings;
use crate::cli::exit::Exit;
use crate::config::Config;
use crate::store::lock::holder;
use crate::tenant::Tenant;

/// A file that is written to see whether files can be.
const PROBE_FILE: &str = ".testudo-check";

/// Looks at the state folder of each tenant.
pub(super) fn look(tenants: &[Tenant], config: &Config, findings: &mut Findings) {
    let dir = &config.store.dir;
    match write_probe(dir) {
        Ok(()) => findings.fine(format!("state folder {} can be written", dir.display())),
        Err(error) => findings.wrong(
            Exit::Usage,
            format!("state folder {} cannot be written: {error}", dir.display()),
            "make it writable for this user, or set store.dir",
        ),
    }
    for tenant in tenants {
        let folder = dir.join(tenant.own_name());
        match holder(&folder) {
            Ok(None) => findings.fine(format!("{}: its state folder is free", tenant.name)),
            Ok(Some(process)) => findings.wrong(
                Exit::Usage,
                format!("{}: process {process} has {} open", tenant.name, folder.display()),
                "stop it, or give this instance another store.dir",
            ),
            Err(error) => findings.skipped(format!("{}: whether {} is in use cannot be seen: {error}", tenant.name, folder.display())),
        }
    }
}

/// Writes and removes a file in the nearest folder on the way to `dir` that exists: the rest would be made below it.
fn write_probe(dir: &Path) -> io::Result<()> {
    let there = dir.ancestors().find(|folder| folder.is_dir()).unwrap_or_else(|| Path::new("."));
    let probe = there.join(PROBE_FILE);
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_its_parent_and_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a temporary folder");

        write_probe(&folder.path().join("state/zoo")).expect("writable");

        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
    }
}
