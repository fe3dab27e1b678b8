//! Plots and the report, from the figures and tables that are there.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context;

use crate::book::{Book, OURS};
use crate::peers::CEILING;
use crate::plot::{self, Labels, Line, Scale};
use crate::sizing;

const COSTS_BEGIN: &str = "<!-- costs:begin -->";
const COSTS_END: &str = "<!-- costs:end -->";
const STREAMS: &str = "kafka-streams";
/// What a growing input may cost more for each reading and still count as flat.
const FLAT: f64 = 2.0;
/// What a state a hundred times as large may add to a restart and still count as flat.
const FLAT_RESTART_MS: f64 = 500.0;

/// A row of the table.
struct Row {
    /// Its name in `held-back.toml`.
    id: &'static str,
    figure: &'static str,
    goal: &'static str,
    ours: String,
    others: String,
    /// Goals that could be judged, and whether each was reached.
    judged: Vec<(String, bool)>,
}

/// Writes plots and `report.md`.
pub fn write(book: &Book) -> anyhow::Result<()> {
    let plots = plots(book)?;
    let held_back = held_back(book)?;
    let mut text = String::from("# Performance report\n\n");
    match book.dates() {
        None => text += "Nothing has been measured yet.\n",
        Some((first, last)) => {
            let days = if first == last { first.to_owned() } else { format!("{first} to {last}") };
            writeln!(
                text,
                "Written by `make bench`; figures of {days}, each from its last measurement. How they are taken stands in [README.md](README.md)."
            )?;
            if let Some(made) = book.made("figures") {
                writeln!(text, "{made}.")?;
            }
        }
    }
    let failed = book.failed_parts();
    if !failed.is_empty() {
        writeln!(text, "\n**Failed in the last run**, so that no figure of it stands here: {}.", failed.join(", "))?;
    }
    text += "\n| figure | goal | Testudo | others, same broker and input | reached | what holds it back |\n|---|---|---|---|---|---|\n";
    for row in rows(book) {
        let missed = row.judged.iter().any(|(_, reached)| !reached);
        let needs_peers = row.goal.contains("Kafka Streams") && !row.others.contains(STREAMS);
        let verdict = match (row.ours.as_str(), missed) {
            ("–", _) => "not measured",
            (_, true) => "**no**",
            _ if needs_peers => "judged in part, peers were not run",
            _ => "yes",
        };
        let judged: Vec<String> = row.judged.iter().map(|(what, reached)| format!("{what} {}", if *reached { "✓" } else { "✗" })).collect();
        let note = held_back.get(row.id).and_then(toml::Value::as_str).unwrap_or(if missed { "not known yet" } else { "" });
        let reached = [verdict.to_owned(), judged.join(", ")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        writeln!(text, "| {} | {} | {} | {} | {reached} | {note} |", row.figure, row.goal, row.ours, row.others)?;
    }
    for (file, title) in plots {
        writeln!(text, "\n## {title}\n\n![{title}]({file})")?;
    }
    let costs = sizing::section(book)?;
    if !published(book, &costs)? {
        text += &costs;
    }
    let tables = ["throughput", "latency", "collection", "recovery", "growth", "requests", "stages", "instructions"];
    for (name, header) in tables.iter().filter_map(|name| Some((*name, HEADERS.iter().find(|(of, _)| of == name)?.1))) {
        table(book, name, header, &mut text)?;
    }
    let path = book.folder().join("report.md");
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
}

/// Puts the cost model between its marks in the folder's README; `false` where there is none.
fn published(book: &Book, costs: &str) -> anyhow::Result<bool> {
    let path = book.folder().join("README.md");
    if costs.is_empty() || !path.is_file() {
        return Ok(false);
    }
    let page = fs::read_to_string(&path)?;
    let parts = page.split_once(COSTS_BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(COSTS_END)?.1)));
    let (before, after) = parts.with_context(|| format!("{} has no place for the cost model: {COSTS_BEGIN}", path.display()))?;
    fs::write(&path, format!("{before}{COSTS_BEGIN}\n{costs}\n{COSTS_END}{after}"))?;
    Ok(true)
}

/// Headers of the tables, for people.
const HEADERS: [(&str, &str); 8] = [
    ("throughput", "input | system | MongoDB | run | readings | s | readings/s | CPU s | broker's CPU s | peak MiB | process, s"),
    ("latency", "system | until | readings | min ms | p50 | p90 | p99 | p99.9 | max"),
    ("collection", "system | run | readings | readings/s"),
    (
        "recovery",
        "keys | restarts | first commit, median ms | worst ms | entries restored | entries/s | disk bytes/key | changelog bytes/key",
    ),
    ("growth", "along | of | readings | readings/s | CPU ns/reading | peak MiB | broker's CPU ns/reading | CPU s of a start"),
    ("requests", "readings/s | request | count | per s | per commit"),
    ("instructions", "stage | per record"),
    ("stages", "group | stage | records | median ns | low | high"),
];

fn table(book: &Book, name: &str, header: &str, text: &mut String) -> anyhow::Result<()> {
    let rows = book.rows(name)?;
    if rows.is_empty() {
        return Ok(());
    }
    let made = book.made(name).unwrap_or_default();
    let columns = header.split('|').count();
    writeln!(text, "\n## Data: {name}\n\n[data/{name}.csv](data/{name}.csv); {made}.\n\n| {header} |\n|{}", "---|".repeat(columns))?;
    for row in rows {
        writeln!(text, "| {} |", row.join(" | "))?;
    }
    Ok(())
}

/// Why a goal is missed, by people, in `held-back.toml`.
fn held_back(book: &Book) -> anyhow::Result<toml::Table> {
    let path = book.folder().join("held-back.toml");
    match path.is_file() {
        true => toml::from_str(&fs::read_to_string(&path)?).with_context(|| format!("failed to read {}", path.display())),
        false => Ok(toml::Table::new()),
    }
}

fn rows(book: &Book) -> Vec<Row> {
    vec![
        throughput(
            book,
            "throughput-narrow",
            "throughput, 1,000 devices",
            "≥ 12 × Kafka Streams, ≥ 6 × the best peer, ≥ 0.45 of the bare consumer",
            12.0,
        ),
        throughput(book, "throughput-wide", "throughput, 200,000 devices", "≥ 10 × Kafka Streams, ≥ 6 × the best peer", 10.0),
        latency(book),
        documents(book),
        memory(book),
        cpu(book),
        recovery(book),
        at_least(book, "restore", "recovery on an empty disk", "≥ 500,000 entries/s", 500_000.0),
        collection(book),
        growth(book),
        interleaved(book),
    ]
}

fn throughput(book: &Book, id: &'static str, figure: &'static str, goal: &'static str, over_streams: f64) -> Row {
    let mut judged = Vec::new();
    let ours = book.value(id, OURS);
    if let Some(ours) = ours {
        let mut ratio = |what: &str, other: Option<f64>, least: f64| {
            if let Some(other) = other {
                let ratio = ours / other;
                judged.push((format!("{ratio:.2} × {what}"), ratio >= least));
            }
        };
        ratio("Kafka Streams", book.value(id, STREAMS), over_streams);
        ratio("the best peer", best_peer(book, id), 6.0);
        if id == "throughput-narrow" {
            ratio("the bare consumer", book.value(id, CEILING), 0.45);
        }
    }
    let with_mongo = book
        .value(&format!("{id}-mongodb"), OURS)
        .map(|rate| format!("; {}/s until MongoDB holds all windows, start included", number(rate)));
    let ours = ours.map(|rate| format!("{}/s{}", number(rate), with_mongo.unwrap_or_default()));
    Row { id, figure, goal, ours: shown(ours), others: others(book, id, "/s"), judged }
}

fn latency(book: &Book) -> Row {
    let id = "latency-alert";
    let of = |name: &str, system: &str| book.value(&format!("{id}-{name}"), system);
    let mut judged = Vec::new();
    for (name, most) in [("p50", 15.0), ("p99", 40.0)] {
        let Some(ours) = of(name, OURS) else { continue };
        judged.push((format!("{name} ≤ {most}"), ours <= most));
        if let Some(streams) = of(name, STREAMS) {
            judged.push((format!("{name} {:.2} of Kafka Streams", ours / streams), ours <= streams / 5.0));
        }
    }
    let pair = |system: &str| Some(format!("{:.1} / {:.1} ms", of("p50", system)?, of("p99", system)?));
    let peers = book.all("latency-alert-p50").filter(|figure| figure.system != OURS);
    let others: Vec<String> = peers.filter_map(|figure| Some(format!("{} {}", figure.system, pair(&figure.system)?))).collect();
    let (figure, goal) = ("latency, append to alert, 2,000 readings/s, p50 / p99", "≤ 15 / ≤ 40 ms, ≤ ⅕ of Kafka Streams");
    Row { id, figure, goal, ours: shown(pair(OURS)), others: others.join("; "), judged }
}

fn documents(book: &Book) -> Row {
    let of = |name: &str| book.value(&format!("latency-document-{name}"), OURS);
    let judge = |(name, most): (&str, f64)| Some((format!("{name} ≤ {most}"), of(name)? <= most));
    let judged = [("p50", 40.0), ("p99", 120.0)].into_iter().filter_map(judge).collect();
    let ours = of("p50").zip(of("p99")).map(|(p50, p99)| format!("{p50:.1} / {p99:.1} ms"));
    let (figure, goal) = ("latency, append to the window's document, p50 / p99", "≤ 40 / ≤ 120 ms");
    Row { id: "latency-document", figure, goal, ours: shown(ours), others: String::new(), judged }
}

fn memory(book: &Book) -> Row {
    let (narrow, wide) = (book.value("memory-narrow", OURS), book.value("memory-wide", OURS));
    let mut judged: Vec<(String, bool)> = narrow.map(|peak| ("narrow ≤ 120".to_owned(), peak <= 120.0)).into_iter().collect();
    for (name, ours) in [("narrow", narrow), ("wide", wide)] {
        if let (Some(ours), Some(streams)) = (ours, book.value(&format!("memory-{name}"), STREAMS)) {
            judged.push((format!("{name} {:.2} of Kafka Streams", ours / streams), ours <= streams / 5.0));
        }
    }
    let ours = narrow.zip(wide).map(|(narrow, wide)| format!("{narrow:.0} / {wide:.0} MiB"));
    let others = [others(book, "memory-narrow", " MiB"), others(book, "memory-wide", " MiB")].join(" / ");
    let (figure, goal) = ("peak resident memory, narrow / wide", "≤ 120 MiB narrow, ≤ ⅕ of Kafka Streams at both");
    Row { id: "memory", figure, goal, ours: shown(ours), others: others.trim_matches([' ', '/']).to_owned(), judged }
}

fn cpu(book: &Book) -> Row {
    let (narrow, wide) = (book.value("cpu-narrow", OURS), book.value("cpu-wide", OURS));
    let judged = narrow.map(|cpu| ("narrow ≤ 1.6".to_owned(), cpu <= 1.6)).into_iter().collect();
    let ours = narrow.map(|narrow| format!("{narrow:.2} s narrow, {} s wide", wide.map_or("–".to_owned(), |wide| format!("{wide:.2}"))));
    let (figure, goal) = ("CPU seconds per million readings", "≤ 1.6");
    Row { id: "cpu", figure, goal, ours: shown(ours), others: others(book, "cpu-narrow", " s"), judged }
}

fn recovery(book: &Book) -> Row {
    let sizes = [("10 k", "recovery-10000"), ("100 k", "recovery-100000"), ("1 M", "recovery-1000000")];
    let known: Vec<(&str, f64)> = sizes.into_iter().filter_map(|(size, id)| Some((size, book.value(id, OURS)?))).collect();
    let mut judged: Vec<(String, bool)> = known.iter().map(|(size, took)| (format!("{size} keys"), *took <= 2_000.0)).collect();
    let took = || known.iter().map(|(_, took)| *took);
    if let (Some(least), Some(most), true) = (took().reduce(f64::min), took().reduce(f64::max), known.len() > 1) {
        judged.push(("flat".to_owned(), most - least <= FLAT_RESTART_MS));
    }
    let ours: Vec<String> = known.iter().map(|(size, took)| format!("{:.2} s ({size} keys)", took / 1e3)).collect();
    let others: Vec<String> =
        book.all("recovery-peer").map(|figure| format!("{} {:.1} s (200,000 devices)", figure.system, figure.value / 1e3)).collect();
    let (figure, goal) = ("recovery after kill -9, warm disk: restart to first commit", "≤ 2 s, flat in the size of the state");
    Row {
        id: "recovery",
        figure,
        goal,
        ours: shown(Some(ours.join(", ")).filter(|text| !text.is_empty())),
        others: others.join("; "),
        judged,
    }
}

fn collection(book: &Book) -> Row {
    let ours = book.value("collection", OURS);
    let best = best_peer(book, "collection");
    let judged = ours.zip(best).map(|(ours, best)| (format!("{:.2} of the faster loader", ours / best), ours >= 0.9 * best));
    let ours = ours.map(|rate| format!("{}/s", number(rate)));
    let (figure, goal) = ("raw collection into MongoDB", "≥ 0.9 of a bare bulk loader of the same documents");
    Row {
        id: "collection",
        figure,
        goal,
        ours: shown(ours),
        others: others(book, "collection", "/s"),
        judged: judged.into_iter().collect(),
    }
}

fn growth(book: &Book) -> Row {
    let along = ["partitions", "devices", "tenants"];
    let of = |along: &str| book.value(&format!("growth-{along}"), OURS);
    let judged = along.into_iter().filter_map(|along| Some((format!("{along} {:.1} ×", of(along)?), of(along)? <= FLAT))).collect();
    let ours = of("branches").map(|factor| format!("dearest reading over cheapest, by CPU; 20 branches cost {factor:.1} × one"));
    let (figure, goal) =
        ("growth: 1 … 64 partitions, 1 … 1,000,000 devices, 1 … 50 tenants", "no cliff; cost per reading near flat (≤ 2 ×)");
    Row { id: "growth", figure, goal, ours: shown(ours), others: String::new(), judged }
}

fn interleaved(book: &Book) -> Row {
    let id = "interleaved-versions";
    let ours = book.value(id, OURS);
    let judged = ours.map(|factor| (format!("{factor:.2} ×"), factor <= 1.3)).into_iter().collect();
    let (figure, goal) = ("two schema versions record by record, admission", "≤ 1.3 × the mean of the two alone");
    Row { id, figure, goal, ours: shown(ours.map(|factor| format!("{factor:.2} ×"))), others: String::new(), judged }
}

fn at_least(book: &Book, id: &'static str, figure: &'static str, goal: &'static str, least: f64) -> Row {
    let ours = book.value(id, OURS);
    let judged = ours.map(|rate| (number(rate), rate >= least)).into_iter().collect();
    Row { id, figure, goal, ours: shown(ours.map(|rate| format!("{}/s", number(rate)))), others: String::new(), judged }
}

/// The highest number of somebody else's; a ceiling is nobody's.
fn best_peer(book: &Book, id: &str) -> Option<f64> {
    book.all(id).filter(|figure| figure.system != OURS && figure.system != CEILING).map(|figure| figure.value).reduce(f64::max)
}

fn others(book: &Book, id: &str, unit: &str) -> String {
    let others = book.all(id).filter(|figure| figure.system != OURS);
    others.map(|figure| format!("{} {}{unit}", figure.system, number(figure.value))).collect::<Vec<_>>().join("; ")
}

fn shown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

/// With commas from a thousand on.
pub fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// The plots that could be made: file and title.
fn plots(book: &Book) -> anyhow::Result<Vec<(String, String)>> {
    let mut made = Vec::new();
    for (input, devices) in [("narrow", "1,000"), ("wide", "200,000")] {
        let bars: Vec<(String, f64)> =
            book.all(&format!("throughput-{input}")).map(|figure| (figure.system.clone(), figure.value)).collect();
        if !bars.is_empty() {
            let title = format!("Readings per second, {devices} devices");
            let file = format!("throughput-{input}.svg");
            plot::bars(&book.folder().join(&file), &Labels { title: &title, x: "readings/s", y: "" }, &bars)?;
            made.push((file, title));
        }
    }
    let shares = shares(book)?;
    if !shares.is_empty() {
        let title = "Latency at 2,000 readings/s: share of readings within a time";
        let labels = Labels { title, x: "milliseconds from the send", y: "share of readings, %" };
        plot::lines(&book.folder().join("latency.svg"), &labels, Scale::Logarithmic, &shares)?;
        made.push(("latency.svg".to_owned(), title.to_owned()));
    }
    for along in ["partitions", "devices", "branches", "tenants"] {
        let cost = curve(book, along, 4)?;
        if cost.is_empty() {
            continue;
        }
        let scale = if matches!(along, "branches" | "tenants") { Scale::Linear } else { Scale::Logarithmic };
        for (what, column, unit) in [("cost", 4, "CPU ns per reading"), ("memory", 5, "peak resident memory, MiB")] {
            let title = format!("{} over {along}", if what == "cost" { "Cost of a reading" } else { "Memory" });
            let file = format!("growth-{along}-{what}.svg");
            let line = vec![("Testudo".to_owned(), curve(book, along, column)?)];
            plot::lines(&book.folder().join(&file), &Labels { title: &title, x: along, y: unit }, scale, &line)?;
            made.push((file, title));
        }
    }
    let restarts: Vec<(f64, f64)> = book.rows("recovery")?.iter().filter_map(|row| point(row, 0, 2)).collect();
    if restarts.len() > 1 {
        let title = "Restart after kill -9 to the first commit";
        let labels = Labels { title, x: "keys in the state", y: "milliseconds, median" };
        plot::lines(&book.folder().join("recovery.svg"), &labels, Scale::Logarithmic, &[("Testudo".to_owned(), restarts)])?;
        made.push(("recovery.svg".to_owned(), title.to_owned()));
    }
    Ok(made)
}

fn curve(book: &Book, along: &str, column: usize) -> anyhow::Result<Vec<(f64, f64)>> {
    let rows = book.rows("growth")?;
    Ok(rows.iter().filter(|row| row.first().is_some_and(|name| name == along)).filter_map(|row| point(row, 1, column)).collect())
}

/// Cumulated shares of the histogram.
fn shares(book: &Book) -> anyhow::Result<Vec<Line>> {
    let rows = book.rows("latency-histogram")?;
    let of = |name: &str, column: usize| -> Line {
        let counts: Vec<(f64, f64)> = rows.iter().filter_map(|row| point(row, 0, column)).collect();
        let all: f64 = counts.iter().map(|(_, count)| count).sum();
        let mut sum = 0.0;
        let cumulated = counts.into_iter().map(|(below_ms, count)| {
            sum += count;
            (below_ms, sum / all.max(1.0) * 100.0)
        });
        (name.to_owned(), cumulated.collect())
    };
    match rows.is_empty() {
        true => Ok(Vec::new()),
        false => Ok(vec![of("alert visible read-committed", 1), of("window's document in MongoDB", 2)]),
    }
}

fn point(row: &[String], x: usize, y: usize) -> Option<(f64, f64)> {
    Some((row.get(x)?.parse().ok()?, row.get(y)?.parse().ok()?))
}
