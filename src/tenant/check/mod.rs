//! From files to jobs: every mistake of every file is found in one run, and a job exists only where there is none.
//!
//! A file is checked by itself first ([`source`], [`branch`], [`collection`]), expressions being compiled on the way; then what several
//! branches or tenants must not share is compared ([`claims`]).

mod branch;
mod claims;
mod collection;
mod group;
mod source;
mod sql;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::expression::Compiler;
use super::expression::compiler::on_a_large_stack;
use super::fault::{Fault, Faults, Position};
use super::file::{self, TenantFile};
use super::located::Findings;
use super::model::Tenant;
use super::names;
use super::tree::{self, Table, Value};
use claims::Claims;
use source::SourceDraft;

/// Longest tenant file, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Most dots in one line: dotted keys nest tables, and nested tables are walked recursively.
const LINE_DOTS_MAX: usize = 200;

/// Tenants that were found right.
#[derive(Debug)]
pub struct Checked {
    /// In the order of their files.
    pub tenants: Vec<Tenant>,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<Fault>,
}

/// Reads tenant files with the schemas that they name, lays `overrides` (tables by tenant name, shaped as the files) over them, and
/// checks them together.
///
/// # Errors
/// [`Faults`]: everything that is wrong, in all files.
pub fn tenants(files: &[PathBuf], overrides: &toml::Table) -> Result<Checked, Faults> {
    on_a_large_stack(|| all(files, overrides))
}

fn all(files: &[PathBuf], overrides: &toml::Table) -> Result<Checked, Faults> {
    let compiler = Compiler::new();
    let mut claims = Claims::default();
    let (mut tenants, mut faults, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let mut known = Vec::new();
    for path in files {
        let mut findings = match open(path) {
            Ok(findings) => findings,
            Err(fault) => {
                faults.push(*fault);
                continue;
            }
        };
        let tenant = checked(path, overrides, &compiler, &mut claims, &mut known, &mut findings);
        findings.faults.sort_by_key(|fault| fault.position);
        warnings.append(&mut findings.warnings);
        match tenant {
            Some(tenant) if findings.faults.is_empty() => tenants.push(tenant),
            _ => faults.append(&mut findings.faults),
        }
    }
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    warnings.extend(overrides.keys().filter(|name| !known.contains(*name)).map(|name| idle_override(name, &known)));
    Ok(Checked { tenants, warnings })
}

/// The file's text, without a byte order mark.
fn open(path: &Path) -> Result<Findings, Box<Fault>> {
    let fail = |what: String| Box::new(Fault::of_file(path, what));
    let length = fs::metadata(path).map_err(|error| fail(format!("cannot be read: {error}")))?.len();
    if length > FILE_BYTES_MAX {
        return Err(fail(format!("has {length} bytes, a tenant file has {FILE_BYTES_MAX} at most")));
    }
    let bytes = fs::read(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| fail(format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if let Some(line) = text.lines().position(|line| line.matches('.').count() > LINE_DOTS_MAX) {
        let mut fault = fail(format!("a line with more than {LINE_DOTS_MAX} dots"));
        fault.position = Position::At { line: line + 1, column: 1 };
        return Err(fault);
    }
    Ok(Findings::new(path, text))
}

/// One file's job, if nothing in it is wrong; its names go to `known`.
fn checked(
    path: &Path,
    overrides: &toml::Table,
    compiler: &Compiler,
    claims: &mut Claims,
    known: &mut Vec<String>,
    findings: &mut Findings,
) -> Option<Tenant> {
    let mut tree = tree::parse(findings)?;
    if let Some(name) = name_of(&tree) {
        match overrides.get(&name) {
            Some(toml::Value::Table(over)) => tree::lay_over(&mut tree, over, &name, findings),
            Some(_) => findings.faults.push(Fault::of_file(path, format!("the overrides of tenant `{name}` must be a table"))),
            None => {}
        }
        known.push(name);
    }
    let raw = file::read(&tree, findings);
    claims.add(path, &raw, findings);
    tenant(path, &tree, &raw, compiler, findings)
}

fn name_of(tree: &Table) -> Option<String> {
    tree.iter().find(|entry| entry.key == "tenant").and_then(|entry| match &entry.node.value {
        Value::Text(name) => Some(name.clone()),
        _ => None,
    })
}

fn tenant(path: &Path, tree: &Table, raw: &TenantFile, compiler: &Compiler, findings: &mut Findings) -> Option<Tenant> {
    check_names(raw, findings);
    let sources: Vec<SourceDraft> = raw.sources.iter().map(|source| source::check(path, source, compiler, findings)).collect();
    let alerts: Vec<_> = raw.alerts.iter().map(|alert| branch::alert(alert, &raw.sources, &sources, compiler, findings)).collect();
    let windows: Vec<_> = raw.windows.iter().map(|window| branch::window(window, &raw.sources, &sources, compiler, findings)).collect();
    let database = database(raw);
    let collections: Vec<_> = raw.collections.iter().map(|one| collection::check(one, raw, &sources, &database, findings)).collect();
    warn_unused(raw, findings);
    if !findings.faults.is_empty() {
        return None;
    }
    let sources = sources.into_iter().map(SourceDraft::finish).collect::<Option<Vec<_>>>()?;
    let declaration = tree::canonical(tree);
    let schemas = sources.iter().map(|source| source.reader.json());
    Some(Tenant {
        name: raw.tenant.as_ref()?.value.clone(),
        version: version([declaration.as_str()].into_iter().chain(schemas)),
        file: path.to_owned(),
        database,
        alerts: alerts.into_iter().collect::<Option<_>>()?,
        windows: windows.into_iter().collect::<Option<_>>()?,
        collections: collections.into_iter().collect::<Option<_>>()?,
        sources,
        generation: OnceLock::new(),
    })
}

fn check_names(raw: &TenantFile, findings: &mut Findings) {
    let sources = raw.sources.iter().map(|source| &source.name);
    let branches = raw.alerts.iter().map(|alert| &alert.name).chain(raw.windows.iter().map(|window| &window.name));
    let named: Vec<_> = sources.chain(branches).collect();
    for name in raw.tenant.iter().chain(named.iter().copied()) {
        if let Err(why) = names::check_own(&name.value) {
            findings.fault(name, why);
        }
    }
    for (index, name) in named.iter().enumerate() {
        if let Some(first) = named[..index].iter().find(|first| first.value == name.value) {
            findings.fault(name, format!("`{}` is already the name of {}: `from` would not know which is meant", name.value, first.key));
        }
    }
    if let Some(tenant) = &raw.tenant
        && (raw.database.is_some() || names::check_own(&tenant.value).is_ok())
        && let Err(why) = names::check_database(&database(raw))
    {
        let at = raw.database.as_ref().unwrap_or(tenant);
        let fault = findings.fault(at, why);
        if raw.database.is_none() {
            fault.help("the database is `stream_<tenant>` unless the file says `database = \"…\"`");
        }
    }
}

fn database(raw: &TenantFile) -> String {
    let by_default = || format!("stream_{}", raw.tenant.as_ref().map_or("", |tenant| &tenant.value));
    raw.database.as_ref().map_or_else(by_default, |database| database.value.clone())
}

fn warn_unused(raw: &TenantFile, findings: &mut Findings) {
    let branches = raw.alerts.iter().map(|alert| &alert.from).chain(raw.windows.iter().map(|window| &window.from));
    let used: Vec<&str> = branches.chain(raw.collections.iter().map(|one| &one.from)).flatten().map(|from| from.value.as_str()).collect();
    for source in raw.sources.iter().filter(|source| !used.contains(&source.name.value.as_str())) {
        findings.warn(&source.name, format!("source `{}` feeds nothing: no alert, window or collection is from it", source.name.value));
    }
}

fn idle_override(name: &str, known: &[String]) -> Fault {
    let mut warning =
        Fault::of_file("overrides", format!("there is no tenant `{name}` among the files, so what is given for it does nothing"));
    warning.suggest(name, known.iter().map(String::as_str));
    warning
}

/// FNV-1a of 64 bits over the parts, as 16 hex digits: stable over releases and machines, which the standard hasher is not.
///
/// # Source
/// Fowler, Noll, Vo: <http://www.isthe.com/chongo/tech/comp/fnv/>
fn version<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    // A byte that no UTF-8 text holds keeps the parts apart.
    let bytes = parts.flat_map(|part| part.bytes().chain([0xff]));
    format!("{:016x}", bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
