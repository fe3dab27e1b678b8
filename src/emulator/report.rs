//! What an emulation did, as JSON and as CSV: one line per client.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::stream::Message;
use super::wrong::Wrong;

/// What all clients did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One entry per client.
    pub clients: Vec<ClientReport>,
}

/// What one client did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientReport {
    /// When it began, ISO 8601 in UTC.
    pub time: String,
    /// The client's name.
    pub client: String,
    /// Where it sent to.
    pub topic: String,
    /// Records per second that were asked for; `None` for as fast as it goes.
    pub rate_asked: Option<u32>,
    /// Records acknowledged.
    pub records: u64,
    /// From the first record to the last acknowledgement.
    pub seconds: f64,
    /// Records per second reached.
    pub records_per_second: f64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Wrong records among them, by kind.
    pub wrong: BTreeMap<Wrong, u64>,
}

impl ClientReport {
    /// An empty report of a client that begins at `wall_ms`.
    pub fn begin(client: &str, topic: &str, rate_asked: Option<u32>, wall_ms: i64) -> Self {
        let time = DateTime::<Utc>::from_timestamp_millis(wall_ms).unwrap_or_default();
        Self {
            time: time.to_rfc3339_opts(SecondsFormat::Millis, true),
            client: client.into(),
            topic: topic.into(),
            rate_asked,
            records: 0,
            seconds: 0.0,
            records_per_second: 0.0,
            bytes: 0,
            wrong: BTreeMap::new(),
        }
    }

    /// Counts a message that was sent.
    pub fn count(&mut self, message: &Message) {
        self.records += 1;
        self.bytes += (message.value.len() + message.key.as_ref().map_or(0, Vec::len)) as u64;
        if let Some(kind) = message.wrong {
            *self.wrong.entry(kind).or_default() += 1;
        }
    }

    /// Puts the time it took.
    pub fn end(&mut self, took: Duration) {
        self.seconds = took.as_secs_f64();
        self.records_per_second = if took.is_zero() { 0.0 } else { self.records as f64 / self.seconds };
    }
}

impl Report {
    /// Records of all clients.
    pub fn records(&self) -> u64 {
        self.clients.iter().map(|client| client.records).sum()
    }

    /// Wrong records of all clients, by kind.
    pub fn wrong(&self) -> BTreeMap<Wrong, u64> {
        let mut all = BTreeMap::new();
        for (kind, count) in self.clients.iter().flat_map(|client| &client.wrong) {
            *all.entry(*kind).or_default() += count;
        }
        all
    }

    /// The report as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("text, numbers and maps with text keys are JSON")
    }

    /// The report as CSV: a header line, a line per client, a column per kind of wrong record.
    pub fn csv(&self) -> String {
        let mut lines = vec![header()];
        lines.extend(self.clients.iter().map(line));
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        for line in lines {
            writer.write_record(&line).expect("lines of equal length go into memory");
        }
        let bytes = writer.into_inner().expect("memory takes every byte");
        String::from_utf8(bytes).expect("CSV of text is text")
    }
}

fn header() -> Vec<String> {
    let fixed = ["time", "client", "topic", "rate_asked", "records", "seconds", "records_per_second", "bytes", "wrong"];
    let kinds = Wrong::ALL.map(|kind| format!("wrong_{}", kind.name().replace('-', "_")));
    fixed.into_iter().map(str::to_owned).chain(kinds).collect()
}

fn line(client: &ClientReport) -> Vec<String> {
    let mut cells = vec![
        client.time.clone(),
        plain(&client.client),
        plain(&client.topic),
        client.rate_asked.map(|rate| rate.to_string()).unwrap_or_default(),
        client.records.to_string(),
        format!("{:.3}", client.seconds),
        format!("{:.1}", client.records_per_second),
        client.bytes.to_string(),
        client.wrong.values().sum::<u64>().to_string(),
    ];
    cells.extend(Wrong::ALL.iter().map(|kind| client.wrong.get(kind).copied().unwrap_or_default().to_string()));
    cells
}

/// Text that a spreadsheet would take for a formula is marked as text (C145).
fn plain(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(client: &str) -> Report {
        let mut one = ClientReport::begin(client, "stream-topic-1", Some(500), 1_540_080_018_884);
        let message = Message { key: Some(vec![1; 17]), value: vec![0; 83], timestamp_ms: 0, wrong: Some(Wrong::Json) };
        one.count(&message);
        one.count(&Message { wrong: None, ..message });
        one.end(Duration::from_millis(500));
        Report { clients: vec![one] }
    }

    #[test]
    fn csv_and_json_tell_the_same() {
        let report = report("client-1");

        assert_eq!(
            report.csv().lines().nth(1),
            Some("2018-10-21T00:00:18.884Z,client-1,stream-topic-1,500,2,0.500,4.0,200,1,0,0,1,0,0,0,0,0,0")
        );
        assert_eq!(serde_json::from_str::<Report>(&report.json()).expect("reads back"), report);
    }

    #[test]
    fn c145_a_formula_in_a_name_stays_text() {
        assert!(report("=1+1").csv().contains(",'=1+1,"));
    }
}
