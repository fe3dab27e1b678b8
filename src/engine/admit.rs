//! From a run of records to rows: what is admitted, what is refused and why, in the order that docs/semantics.md gives.
//!
//! Verdicts depend on the record, its schemas and its place alone, never on how records fell into runs (DET-1). The one
//! verdict that looks at others, lateness, is a window's and is taken later.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::{cast, filter, filter_record_batch, interleave_record_batch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, TimeUnit};

use super::rejection::Rejection;
use crate::avro::frame::SchemaId;
use crate::avro::{Accepted, DatumLimits, Decoder, Gate};
use crate::kafka::{Offset, Position, Run};
use crate::tenant::{NonFinite, Source, Tenant};

mod screen;

use screen::Candidates;

/// Admits the records of one source. Each worker has its own: decoders keep buffers.
pub struct Admission {
    tenant: Arc<Tenant>,
    source: usize,
    gate: Arc<Gate>,
    /// In the gate's place for records that no registered schema describes.
    plain: Option<Arc<Accepted>>,
    decoders: HashMap<SchemaId, (Arc<Accepted>, Decoder)>,
}

/// The admitted rows of a run, and everything else that became of its records.
#[derive(Debug)]
pub struct Admitted {
    /// The source's columns, tenant's and system, in offset order.
    pub rows: RecordBatch,
    /// The source's key of each row.
    pub keys: StringArray,
    /// Event time of each row, microseconds since 1970.
    pub times_us: Int64Array,
    /// Each row's record, by its row in the run.
    pub records: Vec<u32>,
    /// Writer schema id of each row; [`SchemaId::NONE`] where there is none.
    pub schema_ids: UInt32Array,
    /// Refused records, by row in the run.
    pub rejections: Vec<Rejection>,
    /// Records without value.
    pub tombstones: u64,
    /// Records of other types than the source reads, in a topic that several types share.
    pub other_records: u64,
    /// The record that has to wait for a verdict on its schema: nothing at or after it was looked at.
    pub waiting_at: Option<(Offset, SchemaId)>,
    /// The position after the last record that was dealt with.
    pub position: Option<Position>,
}

/// A fault of Testudo itself, never of a record.
#[derive(Debug, thiserror::Error)]
#[error("failed to admit records of {partition}: {cause}")]
pub struct AdmitFault {
    partition: String,
    cause: String,
}

/// Decoded rows before the verdicts on values.
struct Decoded {
    rows: RecordBatch,
    records: Vec<u32>,
    schema_ids: Vec<u32>,
}

impl Admission {
    /// Admission to `tenant.sources[source]`.
    pub fn new(tenant: Arc<Tenant>, source: usize, gate: Arc<Gate>) -> Self {
        let declared = &tenant.sources[source];
        let plain = declared.format.schemas().is_none().then(|| Arc::new(Accepted::plain_json(&declared.reader, DatumLimits::default())));
        Self { plain, tenant, source, gate, decoders: HashMap::new() }
    }

    /// Admits a run of a topic that has `partitions` partitions.
    pub fn admit(&mut self, run: &Run, partitions: i32) -> Result<Admitted, AdmitFault> {
        let fault = |cause: String| AdmitFault { partition: run.partition.to_string(), cause };
        let mut outcome = Outcome::default();
        let screened = self.screen(run, &mut outcome);
        let decoded = self.decode(run, &screened, &mut outcome).map_err(fault)?;
        let source = &self.tenant.sources[self.source];
        let mut verdicts = Verdicts::new(run, &decoded, &mut outcome);
        verdicts.refuse_non_finite(source);
        let keys = verdicts.check_keys(source, partitions).map_err(|error| fault(error.to_string()))?;
        let times = verdicts.check_times(source).map_err(|error| fault(error.to_string()))?;
        let keep = BooleanArray::from(verdicts.keep);
        finish(run, decoded, keys, times, &keep, outcome).map_err(|error| fault(error.to_string()))
    }

    /// Drops what it keeps from one run to the next, which a panic may have left half done.
    pub fn forget(&mut self) {
        self.decoders.clear();
    }

    /// Decodes with one decoder per schema id and puts the rows back into offset order.
    fn decode(&mut self, run: &Run, screened: &[Candidates<'_>], outcome: &mut Outcome) -> Result<Decoded, String> {
        let parts = screened.iter().filter(|candidates| !candidates.records.is_empty());
        let mut parts = parts.map(|candidates| self.decode_one(candidates, outcome)).collect::<Result<Vec<Part>, _>>()?;
        let source = &self.tenant.sources[self.source];
        match parts.len() {
            0 => Ok(Decoded { rows: with_system_columns(source, run, None, &[])?, records: Vec::new(), schema_ids: Vec::new() }),
            1 => {
                let Part { id, rows, records } = parts.swap_remove(0);
                let rows = with_system_columns(source, run, Some(&rows), &records)?;
                Ok(Decoded { schema_ids: vec![id.0; records.len()], rows, records })
            }
            _ => merge(source, run, &parts),
        }
    }

    fn decode_one(&mut self, candidates: &Candidates<'_>, outcome: &mut Outcome) -> Result<Part, String> {
        let (id, of_id) = (candidates.accepted.id, &candidates.records);
        let decoder = self.decoder(&candidates.accepted)?;
        let decoded = match candidates.accepted.transcoder {
            None => decoder.decode(of_id.iter().map(|candidate| candidate.datum)),
            Some(_) => decoder.decode(candidates.transcoded.datums()),
        };
        let decoded = decoded.map_err(|error| error.to_string())?;
        let mut rejected = decoded.rejected.into_iter().peekable();
        let mut records = Vec::with_capacity(of_id.len());
        for (index, candidate) in of_id.iter().enumerate() {
            match rejected.next_if(|(at, _)| *at == index) {
                Some((_, detail)) => outcome.reject(candidate.row as usize, "decode", "unresolvable-value", detail, Some(id)),
                None => records.push(candidate.row),
            }
        }
        if records.len() != decoded.rows.num_rows() {
            return Err(format!("{} rows were decoded where {} are due", decoded.rows.num_rows(), records.len()));
        }
        Ok(Part { id, rows: decoded.rows, records })
    }

    /// The decoder of a schema; made anew when the gate has judged the id anew.
    fn decoder(&mut self, accepted: &Arc<Accepted>) -> Result<&mut Decoder, String> {
        let is_current = self.decoders.get(&accepted.id).is_some_and(|(known, _)| Arc::ptr_eq(known, accepted));
        if !is_current {
            let reader = &self.tenant.sources[self.source].reader;
            let decoder = Decoder::new(&accepted.schema, reader).map_err(|error| error.to_string())?;
            self.decoders.insert(accepted.id, (accepted.clone(), decoder));
        }
        self.decoders.get_mut(&accepted.id).map(|(_, decoder)| decoder).ok_or_else(|| "no decoder".to_owned())
    }
}

/// What becomes of a run besides rows.
#[derive(Default)]
struct Outcome {
    rejections: Vec<Rejection>,
    tombstones: u64,
    other_records: u64,
    waiting_at: Option<(Offset, SchemaId)>,
}

impl Outcome {
    fn reject(&mut self, row: usize, stage: &'static str, reason: &'static str, detail: String, schema: Option<SchemaId>) {
        let schema_id = schema.filter(|id| *id != SchemaId::NONE).map(|id| id.0);
        self.rejections.push(Rejection { row, stage: stage.into(), reason, detail, schema_id, reader_schema: None });
    }

    fn refuse_schema(&mut self, row: usize, detail: String, schema: SchemaId, reader: &str) {
        let (stage, reader_schema) = ("gate".into(), Some(reader.into()));
        self.rejections.push(Rejection { row, stage, reason: "schema-refused", detail, schema_id: Some(schema.0), reader_schema });
    }
}

/// Decoded rows of one schema, and each row's record.
struct Part {
    id: SchemaId,
    rows: RecordBatch,
    records: Vec<u32>,
}

/// Rows of several schemas back into the order of their records.
fn merge(source: &Source, run: &Run, parts: &[Part]) -> Result<Decoded, String> {
    // Each record's part and row; no sorting, since every part is in order.
    const NONE: (usize, usize) = (usize::MAX, 0);
    let mut by_record = vec![NONE; run.len()];
    for (part, decoded) in parts.iter().enumerate() {
        for (row, record) in decoded.records.iter().enumerate() {
            by_record[*record as usize] = (part, row);
        }
    }
    let records: Vec<u32> = (0..).zip(&by_record).filter(|(_, place)| **place != NONE).map(|(record, _)| record).collect();
    by_record.retain(|place| *place != NONE);
    let batches: Vec<&RecordBatch> = parts.iter().map(|part| &part.rows).collect();
    let rows = interleave_record_batch(&batches, &by_record).map_err(|error| error.to_string())?;
    let schema_ids = by_record.iter().map(|(part, _)| parts[*part].id.0).collect();
    Ok(Decoded { rows: with_system_columns(source, run, Some(&rows), &records)?, records, schema_ids })
}

/// The source's columns: the decoded ones under the tenant's names, then `_topic _partition _offset _timestamp _time`.
fn with_system_columns(source: &Source, run: &Run, rows: Option<&RecordBatch>, records: &[u32]) -> Result<RecordBatch, String> {
    let utc: Arc<str> = "+00:00".into();
    let mut columns: Vec<ArrayRef> = match rows {
        Some(rows) => rows.columns().to_vec(),
        None => {
            source.columns.fields()[..source.tenant_columns].iter().map(|field| arrow::array::new_empty_array(field.data_type())).collect()
        }
    };
    let timestamps: Vec<i64> = records.iter().map(|record| run.timestamps_ms()[*record as usize]).collect();
    let times: Vec<i64> = timestamps.iter().map(|ms| ms.saturating_mul(1_000)).collect();
    columns.push(Arc::new(StringArray::new_repeated(&run.partition.topic, records.len())));
    columns.push(Arc::new(Int32Array::from_value(run.partition.partition, records.len())));
    columns.push(Arc::new(Int64Array::from_iter_values(records.iter().map(|record| run.offsets()[*record as usize]))));
    columns.push(Arc::new(TimestampMillisecondArray::from(timestamps).with_timezone(utc.clone())));
    columns.push(Arc::new(TimestampMicrosecondArray::from(times).with_timezone(utc)));
    RecordBatch::try_new(source.columns.clone(), columns).map_err(|error| error.to_string())
}

/// The verdicts on decoded values; a row that one of them refuses is not looked at by the next.
struct Verdicts<'a> {
    run: &'a Run,
    decoded: &'a Decoded,
    outcome: &'a mut Outcome,
    keep: Vec<bool>,
}

impl<'a> Verdicts<'a> {
    fn new(run: &'a Run, decoded: &'a Decoded, outcome: &'a mut Outcome) -> Self {
        Self { run, decoded, outcome, keep: vec![true; decoded.records.len()] }
    }

    fn refuse(&mut self, row: usize, stage: &'static str, reason: &'static str, detail: String) {
        self.keep[row] = false;
        let schema = SchemaId(self.decoded.schema_ids[row]);
        self.outcome.reject(self.decoded.records[row] as usize, stage, reason, detail, Some(schema));
    }

    fn refuse_non_finite(&mut self, source: &Source) {
        if source.non_finite == NonFinite::Accept {
            return;
        }
        let decoded = self.decoded;
        for (column, field) in decoded.rows.columns()[..source.tenant_columns].iter().zip(source.columns.fields()) {
            for row in non_finite_rows(column) {
                if self.keep[row] {
                    self.refuse(row, "non-finite", "non-finite", format!("column `{}` is not a finite number", field.name()));
                }
            }
        }
    }

    fn check_keys(&mut self, source: &Source, partitions: i32) -> Result<StringArray, arrow::error::ArrowError> {
        let evaluated = source.key.evaluate_rows(&self.decoded.rows);
        for (row, why) in evaluated.failed {
            if self.keep[row] {
                self.refuse(row, "key", "key-failed", why);
            }
        }
        let keys = cast(&evaluated.values, &DataType::Utf8)?.as_string::<i32>().clone();
        for row in 0..keys.len() {
            if self.keep[row]
                && let Err((reason, detail)) = self.check_key(source, partitions, row, &keys)
            {
                self.refuse(row, "key", reason, detail);
            }
        }
        Ok(keys)
    }

    fn check_key(&self, source: &Source, partitions: i32, row: usize, keys: &StringArray) -> Result<(), (&'static str, String)> {
        if keys.is_null(row) {
            return Err(("key-is-null", format!("key is null: `{}` has no value", source.key.sql())));
        }
        let key = keys.value(row).as_bytes();
        let Some(place) = source.partitioner.place(key, partitions) else { return Ok(()) };
        let record = self.decoded.records[row] as usize;
        let kafka_keys = self.run.keys();
        if kafka_keys.is_null(record) {
            return Err(("key-is-null", format!("the record's Kafka key is null; produce it with the key `{}`", keys.value(row))));
        }
        if kafka_keys.value(record) != key {
            let found = String::from_utf8_lossy(kafka_keys.value(record));
            let detail =
                format!("the Kafka key is `{found}`, the window's key is `{}`; re-key the topic by {}", keys.value(row), source.key.sql());
            return Err(("key-mismatch", detail));
        }
        if place != self.run.partition.partition {
            let detail = format!(
                "key `{}` belongs to partition {place} of {partitions} ({:?}), the record is in partition {}; re-key the topic or name the producers' partitioner",
                keys.value(row),
                source.partitioner,
                self.run.partition.partition
            );
            return Err(("wrong-partition", detail));
        }
        Ok(())
    }

    fn check_times(&mut self, source: &Source) -> Result<Int64Array, arrow::error::ArrowError> {
        let timestamps: Vec<i64> = self.decoded.records.iter().map(|record| self.run.timestamps_ms()[*record as usize]).collect();
        let times = match &source.event_time {
            None => Int64Array::from_iter_values(timestamps.iter().map(|ms| ms.saturating_mul(1_000))),
            Some(expression) => {
                let evaluated = expression.evaluate_rows(&self.decoded.rows);
                for (row, why) in evaluated.failed {
                    if self.keep[row] {
                        self.refuse(row, "event-time", "event-time-failed", why);
                    }
                }
                micros(&evaluated.values)?
            }
        };
        let max_future_us = i64::try_from(source.max_future.as_micros()).unwrap_or(i64::MAX);
        for (row, timestamp_ms) in timestamps.into_iter().enumerate() {
            if !self.keep[row] {
                continue;
            }
            if times.is_null(row) {
                self.refuse(
                    row,
                    "event-time",
                    "event-time-is-null",
                    "the event time is null, or does not fit microseconds since 1970".into(),
                );
                continue;
            }
            let bound = timestamp_ms.saturating_mul(1_000).saturating_add(max_future_us);
            if source.event_time.is_some() && timestamp_ms >= 0 && times.value(row) > bound {
                let ahead_s = (i128::from(times.value(row)) - i128::from(timestamp_ms) * 1_000) / 1_000_000;
                self.refuse(
                    row,
                    "event-time",
                    "event-time-in-future",
                    format!("the event is {ahead_s} s ahead of the record's Kafka timestamp"),
                );
            }
        }
        Ok(times)
    }
}

/// Instants as microseconds since 1970; finer times are floored, coarser ones that do not fit become null.
fn micros(times: &ArrayRef) -> Result<Int64Array, arrow::error::ArrowError> {
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = cast(times, &DataType::Int64)?;
            Ok(nanos.as_primitive::<Int64Type>().unary(|ns| ns.div_euclid(1_000)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(cast(times, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        DataType::Timestamp(unit, _) => {
            let factor = if *unit == TimeUnit::Second { 1_000_000 } else { 1_000 };
            let coarse = cast(times, &DataType::Int64)?;
            Ok(coarse.as_primitive::<Int64Type>().unary_opt(|value| value.checked_mul(factor)))
        }
        _ => Ok(cast(&cast(times, &DataType::Timestamp(TimeUnit::Microsecond, None))?, &DataType::Int64)?
            .as_primitive::<Int64Type>()
            .clone()),
    }
}

fn non_finite_rows(column: &ArrayRef) -> Vec<usize> {
    let is_bad = |row: usize, is_finite: bool| !is_finite && column.is_valid(row);
    match column.data_type() {
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().values();
            if values.iter().all(|value| value.is_finite()) {
                return Vec::new();
            }
            (0..values.len()).filter(|row| is_bad(*row, values[*row].is_finite())).collect()
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().values();
            (0..values.len()).filter(|row| is_bad(*row, values[*row].is_finite())).collect()
        }
        _ => Vec::new(),
    }
}

fn finish(
    run: &Run,
    decoded: Decoded,
    keys: StringArray,
    times: Int64Array,
    keep: &BooleanArray,
    mut outcome: Outcome,
) -> Result<Admitted, arrow::error::ArrowError> {
    let position = match outcome.waiting_at {
        Some((offset, _)) => run.offsets().iter().rev().find(|before| **before < offset.0).map(|before| Position::after(Offset(*before))),
        None => run.end(),
    };
    outcome.rejections.sort_by_key(|rejection| rejection.row);
    let mut rows = decoded.rows;
    let time_column = rows.num_columns() - 1;
    let mut columns = rows.columns().to_vec();
    // Rows whose time is null are refused; what stands there is never seen.
    columns[time_column] = Arc::new(TimestampMicrosecondArray::new(times.values().clone(), None).with_timezone("+00:00"));
    rows = RecordBatch::try_new(rows.schema(), columns)?;
    let schema_ids = UInt32Array::from(decoded.schema_ids);
    let admitted = |rows, keys, times_us, schema_ids, records| Admitted {
        rows,
        keys,
        times_us,
        records,
        schema_ids,
        rejections: outcome.rejections,
        tombstones: outcome.tombstones,
        other_records: outcome.other_records,
        waiting_at: outcome.waiting_at,
        position,
    };
    if keep.true_count() == keep.len() {
        return Ok(admitted(rows, keys, times, schema_ids, decoded.records));
    }
    let records = (0..keep.len()).filter(|row| keep.value(*row)).map(|row| decoded.records[row]).collect();
    Ok(admitted(
        filter_record_batch(&rows, keep)?,
        filter(&keys, keep)?.as_string::<i32>().clone(),
        filter(&times, keep)?.as_primitive::<Int64Type>().clone(),
        filter(&schema_ids, keep)?.as_primitive().clone(),
        records,
    ))
}
