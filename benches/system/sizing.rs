//! The cost model in numbers: what stands in README.md as a formula, with the figures of the last measurement and an example worked out.

use std::fmt::Write as _;

use crate::book::{Book, OURS};
use crate::report::number;

/// Share of a core that is planned to be busy: the rest is for bursts, restarts and taking over from another instance.
const BUSY: f64 = 0.6;
const MIB: f64 = 1_048_576.0;

/// A deployment to be sized.
struct Wanted {
    readings_per_s: f64,
    devices: f64,
    tenants: f64,
    /// Windows of a device that are open at once: one that fills and one in its grace.
    open_windows: f64,
    commit_interval_ms: f64,
}

const EXAMPLE: Wanted =
    Wanted { readings_per_s: 100_000.0, devices: 200_000.0, tenants: 5.0, open_windows: 2.0, commit_interval_ms: 100.0 };

/// What the model rests on.
struct Costs {
    /// CPU seconds of a million readings, many devices.
    cpu_s: f64,
    /// Share of a core that a tenant takes with nothing to do, in percent.
    idle_percent: f64,
    /// Processor time of a commit under light load: what is not explained by readings and idling.
    commit_ms: f64,
    /// Peak memory with one tenant, and what each further one adds.
    one_tenant_mib: f64,
    more_tenant_mib: f64,
    /// What one partition lets through.
    partition_per_s: f64,
    disk_per_key: f64,
    changelog_per_key: f64,
    requests_per_commit: f64,
    cores: f64,
}

/// The section; nothing while something that it rests on has not been measured.
pub fn section(book: &Book) -> anyhow::Result<String> {
    let growth = book.rows("growth")?;
    let point = |along: &str, of: &str, column: usize| -> Option<f64> {
        growth.iter().find(|row| row[0] == along && row[1] == of)?.get(column)?.parse().ok()
    };
    let costs = || {
        let (cpu_s, idle_percent) = (book.value("cpu-wide", OURS)?, book.value("cpu-steady-0", OURS)?);
        let commits_cpu_s = (book.value("cpu-steady-2000", OURS)? - idle_percent) / 100.0 - 2_000.0 * cpu_s / 1e6;
        let (one, many) = (point("tenants", "1", 5)?, point("tenants", "20", 5)?);
        Some(Costs {
            cpu_s,
            idle_percent,
            commit_ms: (commits_cpu_s / book.value("commits-2000", OURS)?).max(0.0) * 1e3,
            one_tenant_mib: book.value("memory-wide", OURS)?,
            more_tenant_mib: ((many - one) / 19.0).max(0.0),
            partition_per_s: point("partitions", "1", 3)?,
            disk_per_key: book.value("disk-per-key", OURS)?,
            changelog_per_key: book.value("changelog-per-key", OURS)?,
            requests_per_commit: book.value("requests-per-commit-2000", OURS)?,
            cores: std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64),
        })
    };
    let Some(costs) = costs() else { return Ok(String::new()) };
    let mut text = written(&costs, &EXAMPLE)?;
    text += "\n| stage, one thread, warm | ns for each of its records |\n|---|---:|\n";
    for row in book.rows("stages")? {
        if let [group, stage, _, median_ns, ..] = row.as_slice() {
            writeln!(text, "| {group}: {stage} | {median_ns} |")?;
        }
    }
    Ok(text)
}

fn written(costs: &Costs, wanted: &Wanted) -> anyhow::Result<String> {
    let mut text = String::from(
        "\n### In numbers\n\nWritten by `make bench`; broker and database on the same machine ([report.md](report.md) names it).\n\n| cost | value |\n|---|---:|\n",
    );
    let rows = [
        ("CPU of a reading, many devices", format!("{:.2} µs", costs.cpu_s)),
        ("CPU of a tenant with nothing to do", format!("{:.1} % of a core", costs.idle_percent)),
        ("CPU of a commit", format!("{:.2} ms", costs.commit_ms)),
        ("peak memory, one tenant, 200,000 devices", format!("{:.0} MiB", costs.one_tenant_mib)),
        ("memory of each further tenant", format!("{:.1} MiB", costs.more_tenant_mib)),
        ("readings/s through one partition", number(costs.partition_per_s)),
        ("disk, for each open window of a key", format!("{:.0} bytes", costs.disk_per_key)),
        ("changelog, for each state written, before compaction", format!("{:.0} bytes", costs.changelog_per_key)),
        ("requests to brokers for each commit", format!("{:.1}", costs.requests_per_commit)),
    ];
    for (cost, value) in rows {
        writeln!(text, "| {cost} | {value} |")?;
    }
    let Wanted { readings_per_s, devices, tenants, open_windows, commit_interval_ms } = *wanted;
    let busy = readings_per_s * costs.cpu_s / 1e6 + tenants * costs.idle_percent / 100.0;
    // A worker for each core commits for each tenant, so cores and commits depend on each other: the readings alone say how many.
    let workers = (busy / BUSY).ceil().max(1.0);
    let partitions = (readings_per_s / tenants / (costs.partition_per_s * BUSY)).ceil().max(workers);
    let commits = tenants * workers * 1_000.0 / commit_interval_ms;
    let cpu = busy + commits * costs.commit_ms / 1e3;
    let cores = (cpu / BUSY).ceil().max(1.0);
    let memory = costs.one_tenant_mib + (tenants - 1.0) * costs.more_tenant_mib;
    let disk = devices * open_windows * costs.disk_per_key / MIB;
    let requests = commits * costs.requests_per_commit;
    writeln!(
        text,
        "\n**Example.** {} readings/s of {} devices, {tenants:.0} tenants with an equal share, one-minute windows with a minute of grace, \
         a commit every {commit_interval_ms:.0} ms:\n\n\
         - CPU: {} × {:.2} µs + {tenants:.0} × {:.1} % + {commits:.0} commits/s × {:.2} ms = {cpu:.2} cores at work; planned {:.0} % busy: **{cores:.0}** cores (measured on {:.0}).\n\
         - Memory: {:.0} + {:.0} × {:.1} = **{memory:.0} MiB** at the peak.\n\
         - Disk: {} × {open_windows:.0} × {:.0} bytes = **{disk:.0} MiB**.\n\
         - Partitions for each tenant: **{partitions:.0}**, so that every worker has one and none carries more than {:.0} % of what one lets through.\n\
         - Brokers: at most {commits:.0} commits/s, **{} requests/s**; each doubling of the commit interval halves both.",
        number(readings_per_s),
        number(devices),
        number(readings_per_s),
        costs.cpu_s,
        costs.idle_percent,
        costs.commit_ms,
        BUSY * 100.0,
        costs.cores,
        costs.one_tenant_mib,
        tenants - 1.0,
        costs.more_tenant_mib,
        number(devices),
        costs.disk_per_key,
        BUSY * 100.0,
        number(requests),
    )?;
    Ok(text)
}
