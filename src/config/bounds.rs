//! Numbers that would be understood and could not work: none at all where one is needed, or so many that memory or time would not do.

use std::ops::RangeInclusive;

use super::Config;

/// An hour, in milliseconds.
const HOUR_MS: u64 = 3_600_000;

/// A tebibyte, in mebibytes.
const TIB_IN_MIB: u64 = 1 << 20;

/// The settings that are out of their bounds: section and key, and what they may be.
pub fn crossed(config: &Config) -> Vec<([&'static str; 2], String)> {
    let (engine, store) = (&config.engine, &config.store);
    let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    let timeout_ms = u64::try_from(config.registry.request_timeout.as_millis()).unwrap_or(u64::MAX);
    let bounds: [([&'static str; 2], u64, RangeInclusive<u64>); 16] = [
        (["engine", "workers"], size(engine.workers), 0..=1_024),
        (["engine", "commit_interval_ms"], engine.commit_interval_ms, 0..=HOUR_MS),
        (["engine", "catch_up_interval_ms"], engine.catch_up_interval_ms, 0..=HOUR_MS),
        (["engine", "commit_pause_ms"], engine.commit_pause_ms, 0..=60_000),
        (["engine", "epoch_records_max"], size(engine.epoch_records_max), 1..=100_000_000),
        (["engine", "epoch_bytes_max"], size(engine.epoch_bytes_max), 1_024..=1 << 34),
        (["engine", "slice_records_max"], size(engine.slice_records_max), 1..=1_000_000),
        // librdkafka's own bounds.
        (["engine", "transaction_timeout_ms"], engine.transaction_timeout_ms, 1_000..=2_147_483_647),
        (["engine", "shutdown_timeout_ms"], engine.shutdown_timeout_ms, 0..=HOUR_MS),
        (["engine", "fencings_max"], size(engine.fencings_max), 1..=1_000),
        (["engine", "output_bytes_max"], size(engine.output_bytes_max), 1_024..=1_000_000_000),
        (["store", "block_cache_mib"], size(store.block_cache_mib), 0..=TIB_IN_MIB),
        (["store", "write_buffer_mib"], size(store.write_buffer_mib), 1..=TIB_IN_MIB),
        (["store", "recent_mib"], size(store.recent_mib), 0..=TIB_IN_MIB),
        (["registry", "request_timeout"], timeout_ms, 1..=HOUR_MS),
        (["registry", "watch_ms"], config.registry.watch_ms, 100..=24 * HOUR_MS),
    ];
    let is_out = |(_, value, range): &([&'static str; 2], u64, RangeInclusive<u64>)| !range.contains(value);
    let told = bounds.into_iter().filter(is_out).map(|(path, value, range)| {
        let unit = if path[1] == "request_timeout" { " ms" } else { "" };
        (path, format!("must lie between {}{unit} and {}{unit}, this is {value}{unit}", range.start(), range.end()))
    });
    told.collect()
}
