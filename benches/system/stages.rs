//! What `cargo bench --bench stages --bench gate` measured last, from the files that Criterion leaves.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::book::{Book, OURS};

/// One benchmark of Criterion's.
struct Stage {
    group: String,
    name: String,
    ns: f64,
    low_ns: f64,
    high_ns: f64,
    records: f64,
}

/// Writes `stages.csv` and the figures of the cost model.
pub fn collect(book: &mut Book) -> anyhow::Result<()> {
    // Beside the folder for temporary files of tests and benchmarks.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion");
    let mut found = Vec::new();
    estimates(&folder, &mut found);
    ensure!(!found.is_empty(), "Criterion has left no estimates: run `cargo bench --bench stages --bench gate` first");
    let mut stages = found.iter().map(|folder| stage(folder)).collect::<anyhow::Result<Vec<_>>>()?;
    stages.sort_by(|one, other| (&one.group, &one.name).cmp(&(&other.group, &other.name)));
    book.forget(&["stage-", "interleaved-versions"]);
    let row = |stage: &Stage| {
        let per = |ns: f64| format!("{:.1}", ns / stage.records);
        vec![stage.group.clone(), stage.name.clone(), format!("{:.0}", stage.records), per(stage.ns), per(stage.low_ns), per(stage.high_ns)]
    };
    let rows: Vec<Vec<String>> = stages.iter().map(row).collect();
    for stage in &stages {
        book.figure(&format!("stage-{}: {}", stage.group, stage.name), OURS, stage.ns / stage.records, "ns per record");
    }
    let of = |name: &str| stages.iter().find(|stage| stage.group == "admit" && stage.name == name).map(|stage| stage.ns / stage.records);
    if let (Some(one), Some(other), Some(both)) = (of("one version"), of("the other version"), of("two versions in turn")) {
        book.figure("interleaved-versions", OURS, 2.0 * both / (one + other), "times one version");
    }
    book.table(
        "stages",
        "Time of a stage for each of its records, one thread, warm; median and its 95 % confidence interval",
        &["group", "stage", "records", "median_ns", "low_ns", "high_ns"],
        &rows,
    )
}

/// Folders `new` with estimates, anywhere below.
fn estimates(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        if path.ends_with("new") && path.join("estimates.json").is_file() {
            found.push(path);
        } else {
            estimates(&path, found);
        }
    }
}

fn stage(folder: &Path) -> anyhow::Result<Stage> {
    let read = |name: &str| -> anyhow::Result<Value> {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    };
    let (benchmark, estimates) = (read("benchmark.json")?, read("estimates.json")?);
    let text = |name: &str| benchmark[name].as_str().unwrap_or_default().to_owned();
    let median = &estimates["median"];
    let number = |value: &Value| value.as_f64().context("an estimate is no number");
    let interval = &median["confidence_interval"];
    Ok(Stage {
        group: text("group_id"),
        name: text("function_id"),
        ns: number(&median["point_estimate"])?,
        low_ns: number(&interval["lower_bound"])?,
        high_ns: number(&interval["upper_bound"])?,
        records: benchmark["throughput"]["Elements"].as_f64().unwrap_or(1.0),
    })
}
