//! This machine: what it is, and what processes use of it, read from `/proc`.

use std::fs;
use std::sync::LazyLock;
use std::time::Instant;

use testudo::stack::versions;

/// Processor time is counted in hundredths of a second (`sysconf(_SC_CLK_TCK)` on Linux).
const TICKS_PER_SECOND: f64 = 100.0;

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Tells how far the measurement is.
pub fn say(text: &str) {
    eprintln!("[{:>5.0} s] {text}", BEGUN.elapsed().as_secs_f64());
}

/// Cores, processor, memory, and what ran.
pub fn machine_and_versions() -> String {
    let memory_kib: u64 = field("/proc/meminfo", "MemTotal").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    format!(
        "{} cores ({}), {} GiB, Linux {}; Testudo {}, librdkafka {}, {} (one broker, heap 1 GiB, replication 1), {}, {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        field("/proc/cpuinfo", "model name"),
        memory_kib.div_ceil(1 << 20),
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        env!("CARGO_PKG_VERSION"),
        rdkafka::util::get_rdkafka_version().1,
        versions::KAFKA.title,
        versions::REGISTRY.title,
        versions::MONGOD.title,
    )
}

/// Today, as ISO 8601.
pub fn today() -> String {
    chrono::Utc::now().format("%Y-%m-%d").to_string()
}

/// Microseconds since 1970.
pub fn wall_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start_matches([' ', '\t', ':']).to_owned())).unwrap_or_default()
}

/// State letter and processor seconds, user and system, of a process; also of one that has ended and was not waited for.
pub fn state_and_cpu_s(pid: u32) -> Option<(char, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; state is the third field of stat(5), user and system time are the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((fields.first()?.chars().next()?, ticks / TICKS_PER_SECOND))
}

/// Processor seconds of a process so far.
pub fn cpu_s(pid: u32) -> f64 {
    state_and_cpu_s(pid).map_or(0.0, |(_, cpu_s)| cpu_s)
}

/// Median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which a share of them lies; 0 of nothing.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get(((sorted.len() as f64 * share) as usize).min(last)).copied().unwrap_or_default()
}
