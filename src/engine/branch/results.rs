//! From states to results: what a window's select expressions say about finished groups, encoded for the output topic.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use bytes::Bytes;

use super::groups::evaluate_states;
use super::{BranchFault, OutputTopic, key_text};
use crate::avro::encode::Encoder;
use crate::engine::rejection::header;
use crate::kafka::{Header, Headers, Outgoing, TopicPartition};
use crate::store::keys;
use crate::tenant::Window;

/// A window to be reported: what it is called, when its latest record was written.
pub struct Finished<'a> {
    /// What all results of its input partition say of themselves: see [`headers`].
    pub headers: &'a Headers,
    /// Window start in microseconds since 1970.
    pub start_us: i64,
    /// The window's key, as the store has it.
    pub key: &'a [u8],
    /// Largest Kafka timestamp of the records in it.
    pub latest_ms: i64,
}

/// Result rows of `windows` with the given state columns, in the same order. A select expression that fails on a row is null there.
pub fn rows(window: &Window, windows: &[Finished<'_>], states: &[ArrayRef]) -> Result<RecordBatch, BranchFault> {
    let compute = |source| BranchFault::Compute { branch: window.name.clone(), source };
    let aggregates = evaluate_states(window, states, windows.len())
        .map_err(|error| BranchFault::Aggregate { branch: window.name.clone(), cause: error.to_string() })?;
    let types: Vec<DataType> = window.by.iter().map(|column| column.expression.data_type().clone()).collect();
    let mut columns = keys::columns(windows.iter().map(|finished| finished.key), &types).map_err(compute)?;
    columns.push(instants(windows.iter().map(|finished| finished.start_us)));
    columns.push(instants(windows.iter().map(|finished| finished.start_us.saturating_add(window.size_us))));
    let mut output = columns.clone();
    columns.extend(aggregates);
    let finished = RecordBatch::try_new(window.finished.clone(), columns).map_err(compute)?;
    for column in &window.select {
        let evaluated = column.expression.evaluate_rows(&finished);
        if let Some((_, why)) = evaluated.failed.first() {
            tracing::warn!(
                window = window.name,
                column = column.name,
                rows = evaluated.failed.len(),
                why,
                "select expression failed, null written"
            );
        }
        output.push(evaluated.values);
    }
    RecordBatch::try_new(window.output.clone(), output).map_err(compute)
}

fn instants(times_us: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(times_us).with_timezone("+00:00"))
}

/// The headers of all results of an input partition.
pub fn headers(origin: &TopicPartition, tenant_version: &str) -> Headers {
    let header = |name: &str, value: String| Header { name: name.into(), value: Some(value.into_bytes()) };
    vec![header(header::ORIGIN, origin.to_string()), header(header::TENANT_VERSION, tenant_version.to_owned())].into()
}

/// Result rows as records for the output topic; none where a record would be too large.
pub fn records<'r>(
    window: &'r Window,
    topic: &'r OutputTopic,
    encoder: &mut Encoder,
    windows: &'r [Finished<'_>],
    rows: &RecordBatch,
) -> Result<impl Iterator<Item = Option<Outgoing>> + use<'r>, BranchFault> {
    let record_keys = record_keys(window, rows).map_err(|source| BranchFault::Compute { branch: window.name.clone(), source })?;
    let values = encoder.encode(rows).map_err(|source| BranchFault::Encode { branch: window.name.clone(), source })?;
    let record = move |((finished, key), value): ((&Finished<'_>, Bytes), Bytes)| {
        if key.len() + value.len() > topic.record_bytes_max {
            tracing::error!(
                window = window.name,
                start_us = finished.start_us,
                bytes = value.len(),
                "result is larger than output_bytes_max, not produced"
            );
            return None;
        }
        Some(Outgoing {
            topic: topic.name.clone(),
            partition: topic.place(&key),
            key: Some(key),
            value: Some(value),
            timestamp_ms: Outgoing::stamp(finished.latest_ms),
            headers: finished.headers.clone(),
        })
    };
    Ok(windows.iter().zip(record_keys).zip(values).map(record))
}

/// The Kafka key of each result: the one key column as text, or a JSON array of several.
fn record_keys(window: &Window, rows: &RecordBatch) -> Result<Vec<Bytes>, ArrowError> {
    let texts: Vec<StringArray> = rows.columns()[..window.by.len()].iter().map(key_text::texts).collect::<Result<_, ArrowError>>()?;
    if let [only] = texts.as_slice() {
        let all = Bytes::copy_from_slice(only.value_data());
        let ends = only.value_offsets().windows(2);
        return Ok(ends.map(|of| all.slice(of[0] as usize..of[1] as usize)).collect());
    }
    let key_of = |row: usize| {
        let parts: Vec<&str> = texts.iter().map(|column| column.value(row)).collect();
        Bytes::from(serde_json::Value::from(parts).to_string())
    };
    Ok((0..rows.num_rows()).map(key_of).collect())
}
