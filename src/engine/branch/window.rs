//! A tumbling window: folds the rows of an epoch into groups, and at the seal says what becomes of them.
//!
//! Nothing it computes is visible before the epoch is committed: [`WindowBranch::seal`] returns states, tombstones and results
//! as data. After a commit the caller calls [`WindowBranch::settle`]; after anything else [`WindowBranch::discard`].

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion_common::DataFusionError;

use super::groups::Groups;
use super::kept::TooLarge;
use super::place::Place;
use super::results;
use super::time::{closes_at, last_closed_start, window_start};
use super::{BranchFault, OutputTopic, expression_failed, passing, refusal};
use crate::avro::encode::{Encoder, StateCodec};
use crate::engine::admit::Admitted;
use crate::engine::rejection::Rejection;
use crate::kafka::{Run, TopicPartition};
use crate::store::{StateStore, Swept, WindowStoreId, keys};
use crate::tenant::expression::evaluate_physical_rows;
use crate::tenant::{Tenant, Window};

mod seal;

/// So many groups are sealed at once: their columns are about as large as a core's own cache.
const SEALED_AT_ONCE: usize = 4_096;
/// Bytes of stored states that are decoded at once; the state that reaches it is the last one.
const LOADED_AT_ONCE: usize = 16 << 20;

/// One window of a tenant, for one worker.
pub struct WindowBranch {
    tenant: Arc<Tenant>,
    window: usize,
    topic: OutputTopic,
    encoder: Encoder,
    codec: StateCodec,
    row_schema: SchemaRef,
    stage: String,
    places: Vec<Place>,
    groups: Groups,
    sealed_at_once: usize,
}

/// The row that store and changelog keep: the latest Kafka timestamp, then the aggregates' states.
pub fn row_schema(window: &Window) -> SchemaRef {
    let latest = Arc::new(Field::new("latest_ms", DataType::Int64, false));
    Arc::new(Schema::new(std::iter::once(latest).chain(window.state.fields().iter().cloned()).collect::<Vec<_>>()))
}

impl WindowBranch {
    /// The branch of `tenant.windows[window]`; `encoder` is for the window's output schema.
    pub fn new(tenant: Arc<Tenant>, window: usize, topic: OutputTopic, encoder: Encoder) -> Result<Self, BranchFault> {
        let declared = &tenant.windows[window];
        let stage = format!("window.{}", declared.name);
        let row_schema = row_schema(declared);
        let codec = StateCodec::new(&row_schema).map_err(|error| BranchFault::State { branch: stage.clone(), cause: error.to_string() })?;
        let groups = Groups::new(declared).map_err(|error| BranchFault::Aggregate { branch: stage.clone(), cause: error.to_string() })?;
        let (places, sealed_at_once) = (Vec::new(), SEALED_AT_ONCE);
        Ok(Self { window, topic: topic.own(), encoder, codec, row_schema, stage, places, groups, sealed_at_once, tenant })
    }

    /// Seals so many groups at once, at least one, instead of some thousands; what comes of it is the same.
    pub fn sealing_at_once(self, groups: usize) -> Self {
        Self { sealed_at_once: groups.max(1), ..self }
    }

    /// Index of the source that feeds it.
    pub fn source(&self) -> usize {
        self.declared().source
    }

    /// The declaration.
    pub fn declared(&self) -> &Window {
        &self.tenant.windows[self.window]
    }

    /// About as many bytes as the groups of the epoch take, sealed.
    pub fn held_bytes(&self) -> usize {
        self.groups.bytes()
    }

    /// Starts to keep the windows of a restored partition; those in `swept` are closed and gone.
    pub fn open(&mut self, partition: &TopicPartition, store: WindowStoreId, changelog: Arc<str>, swept: Swept) {
        self.close(partition);
        let headers = results::headers(partition, &self.tenant.version);
        let partition = partition.clone();
        self.places.push(Place { partition, store, changelog, headers, swept, sweeping: None, is_open: true });
    }

    /// Gives a partition up. No epoch may be open.
    pub fn close(&mut self, partition: &TopicPartition) {
        for place in self.places.iter_mut().filter(|place| place.partition == *partition) {
            place.is_open = false;
        }
    }

    /// Folds a run's rows in. `stream_times_us` is stream time at each admitted row.
    pub fn absorb(
        &mut self,
        run: &Run,
        admitted: &Admitted,
        stream_times_us: &[i64],
        store: &dyn StateStore,
        refused: &mut Vec<Rejection>,
    ) -> Result<(), BranchFault> {
        let filter = self.tenant.windows[self.window].filter.as_ref();
        let passed = passing(filter, admitted, &self.stage, refused).map_err(|error| self.compute(error))?;
        if passed.true_count() == 0 {
            return Ok(());
        }
        let origins: Vec<usize> = (0..passed.len()).filter(|row| passed.value(*row)).collect();
        let rows = match origins.len() == passed.len() {
            true => admitted.rows.clone(),
            false => filter_record_batch(&admitted.rows, &passed).map_err(|error| self.compute(error))?,
        };
        let mut failed = vec![None; origins.len()];
        let mut too_large = TooLarge::new(self.declared().kept_value_bytes_max());
        let keys = self.evaluate_keys(&rows, &mut failed, &mut too_large)?;
        let arguments = self.evaluate_arguments(&rows, &mut failed, &mut too_large)?;
        let before = self.groups.len();
        let (kept, numbers) = self.assign_groups(run, admitted, stream_times_us, &origins, &keys, failed, too_large, refused)?;
        self.load_stored(before, store)?;
        let arguments = match kept.len() == origins.len() {
            true => arguments,
            false => only_rows(&arguments, &kept).map_err(|error| self.compute(error))?,
        };
        self.groups
            .fold(&self.tenant.windows[self.window], &arguments, &numbers)
            .map_err(|error| BranchFault::Aggregate { branch: self.stage.clone(), cause: error.to_string() })
    }

    fn evaluate_keys(
        &self,
        rows: &RecordBatch,
        failed: &mut [Option<String>],
        too_large: &mut TooLarge,
    ) -> Result<keys::KeyColumns, BranchFault> {
        let columns: Vec<ArrayRef> = self
            .declared()
            .by
            .iter()
            .map(|column| {
                let evaluated = column.expression.evaluate_rows(rows);
                note_failures(evaluated.failed, failed);
                too_large.look_through(&column.name, &evaluated.values, None);
                evaluated.values
            })
            .collect();
        keys::KeyColumns::new(&columns).map_err(|error| self.compute(error))
    }

    fn evaluate_arguments(
        &self,
        rows: &RecordBatch,
        failed: &mut [Option<String>],
        too_large: &mut TooLarge,
    ) -> Result<Vec<Arguments>, BranchFault> {
        let mut all = Vec::with_capacity(self.declared().aggregates.len());
        for aggregate in &self.declared().aggregates {
            let mut values = Vec::with_capacity(aggregate.arguments.len());
            for argument in &aggregate.arguments {
                let evaluated = evaluate_physical_rows(argument, rows);
                note_failures(evaluated.failed, failed);
                values.push(evaluated.values);
            }
            let only = match &aggregate.filter {
                None => None,
                Some(condition) => {
                    let evaluated = condition.evaluate_rows(rows);
                    note_failures(evaluated.failed, failed);
                    let wrong = || self.compute(ArrowError::SchemaError("a FILTER condition is not boolean".into()));
                    Some(evaluated.values.as_boolean_opt().ok_or_else(wrong)?.clone())
                }
            };
            for at in &aggregate.kept {
                too_large.look_through(&aggregate.sql, &values[*at], only.as_ref());
            }
            all.push((values, only));
        }
        Ok(all)
    }

    /// The group of each row that is neither failed, key-less, late nor too large; the rows kept, and their groups' numbers.
    #[expect(clippy::too_many_arguments, reason = "the facts about one run, all needed at once")]
    fn assign_groups(
        &mut self,
        run: &Run,
        admitted: &Admitted,
        stream_times_us: &[i64],
        origins: &[usize],
        keys: &keys::KeyColumns,
        failed: Vec<Option<String>>,
        mut too_large: TooLarge,
        refused: &mut Vec<Rejection>,
    ) -> Result<(Vec<usize>, Vec<usize>), BranchFault> {
        let place = self.place(&run.partition)?;
        let (size_us, grace_us) = (self.declared().size_us, self.declared().grace_us);
        let (mut kept, mut numbers) = (Vec::with_capacity(origins.len()), Vec::with_capacity(origins.len()));
        let mut key = Vec::new();
        for (row, (origin, failure)) in origins.iter().zip(failed).enumerate() {
            if let Some(why) = failure {
                refused.push(expression_failed(admitted, *origin, &self.stage, why));
                continue;
            }
            key.clear();
            if !keys.append(row, &mut key) {
                refused.push(refusal(admitted, *origin, &self.stage, "key-is-null", "a key column of the window is null".into()));
                continue;
            }
            let start_us = window_start(admitted.times_us.value(*origin), size_us);
            let closes_at_us = closes_at(start_us, size_us, grace_us);
            if closes_at_us <= stream_times_us[*origin] {
                let behind_s = (i128::from(stream_times_us[*origin]) - i128::from(closes_at_us)) / 1_000_000;
                let detail =
                    format!("the window [{start_us}, {}) µs closed {behind_s} s of stream time ago", start_us.saturating_add(size_us));
                refused.push(refusal(admitted, *origin, &self.stage, "late", detail));
                continue;
            }
            if let Some(detail) = too_large.take(row) {
                refused.push(refusal(admitted, *origin, &self.stage, "value-too-large", detail));
                continue;
            }
            let timestamp_ms = run.timestamps_ms()[admitted.records[*origin] as usize];
            numbers.push(self.groups.find_or_add(place, start_us, &key, timestamp_ms));
            kept.push(row);
        }
        Ok((kept, numbers))
    }

    /// Loads what the store holds of the groups from number `from` on.
    fn load_stored(&mut self, from: usize, store: &dyn StateStore) -> Result<(), BranchFault> {
        if from == self.groups.len() {
            return Ok(());
        }
        let states = store.states(&self.store_keys(from))?;
        let mut found = states.into_iter().zip(from..).filter_map(|(state, number)| Some((number, state?))).peekable();
        while found.peek().is_some() {
            let mut bytes = 0;
            let part: Vec<(usize, Vec<u8>)> = std::iter::from_fn(|| {
                let next = found.next_if(|_| bytes < LOADED_AT_ONCE)?;
                bytes += next.1.len();
                Some(next)
            })
            .collect();
            let (latest, columns) = self.decode(part.iter().map(|(_, state)| state.as_slice()))?;
            let numbers: Vec<usize> = part.iter().map(|(number, _)| *number).collect();
            self.groups
                .load(&self.tenant.windows[self.window], &columns, &numbers, latest.values(), bytes)
                .map_err(|error| BranchFault::Aggregate { branch: self.stage.clone(), cause: error.to_string() })?;
        }
        Ok(())
    }

    /// Whether closed windows of a partition may be left to sweep at this stream time, microseconds since 1970.
    pub fn owes(&self, partition: &TopicPartition, stream_time_us: i64) -> bool {
        let Some(bound) = last_closed_start(stream_time_us, self.declared().size_us, self.declared().grace_us) else { return false };
        self.places.iter().any(|place| place.is_open && place.partition == *partition && place.unswept(bound).is_some())
    }

    /// Which of a partition's windows are swept once the sealed epoch is committed.
    pub fn swept(&self, partition: &TopicPartition) -> Option<&Swept> {
        let place = self.places.iter().find(|place| place.is_open && place.partition == *partition)?;
        Some(place.swept())
    }

    /// The epoch is committed: a new one begins.
    pub fn settle(&mut self) -> Result<(), BranchFault> {
        for place in &mut self.places {
            if let Some(sweeping) = place.sweeping.take() {
                place.swept = sweeping;
            }
        }
        self.begin_epoch()
    }

    /// The epoch came to nothing: a new one begins.
    pub fn discard(&mut self) -> Result<(), BranchFault> {
        for place in &mut self.places {
            place.sweeping = None;
        }
        self.begin_epoch()
    }

    fn begin_epoch(&mut self) -> Result<(), BranchFault> {
        self.places.retain(|place| place.is_open);
        self.groups = Groups::new(self.declared()).map_err(|error| self.aggregate(error))?;
        Ok(())
    }

    fn place(&self, partition: &TopicPartition) -> Result<usize, BranchFault> {
        let found = self.places.iter().position(|place| place.is_open && place.partition == *partition);
        found.ok_or_else(|| BranchFault::State { branch: self.stage.clone(), cause: format!("{partition} was not restored (EOS-4)") })
    }

    /// The store's keys of the groups from number `from` on, in one buffer.
    fn store_keys(&self, from: usize) -> Vec<Bytes> {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(self.groups.len() - from);
        for (group, key) in self.groups.of(from..self.groups.len()) {
            let place = &self.places[group.partition];
            keys::append_window_key(&mut bytes, place.store.0, place.partition.partition, group.start_us, key);
            ends.push(bytes.len());
        }
        let bytes = Bytes::from(bytes);
        let begins = std::iter::once(0).chain(ends.iter().copied());
        begins.zip(&ends).map(|(begin, end)| bytes.slice(begin..*end)).collect()
    }

    /// Stored states as columns: the latest timestamps, and the aggregates' states.
    fn decode<'a>(&mut self, states: impl Iterator<Item = &'a [u8]>) -> Result<(Int64Array, Vec<ArrayRef>), BranchFault> {
        let rows =
            self.codec.decode(states).map_err(|error| BranchFault::State { branch: self.stage.clone(), cause: error.to_string() })?;
        let mut columns = rows.columns().to_vec();
        let latest = columns.remove(0).as_primitive::<Int64Type>().clone();
        Ok((latest, columns))
    }

    fn compute(&self, source: ArrowError) -> BranchFault {
        BranchFault::Compute { branch: self.stage.clone(), source }
    }

    fn aggregate(&self, error: DataFusionError) -> BranchFault {
        BranchFault::Aggregate { branch: self.stage.clone(), cause: error.to_string() }
    }
}

/// An aggregate's argument columns, and which rows it takes.
type Arguments = (Vec<ArrayRef>, Option<BooleanArray>);

fn note_failures(found: Vec<(usize, String)>, failed: &mut [Option<String>]) {
    for (row, why) in found {
        failed[row].get_or_insert(why);
    }
}

fn only_rows(arguments: &[Arguments], kept: &[usize]) -> Result<Vec<Arguments>, ArrowError> {
    let rows = arrow::array::UInt32Array::from_iter_values(kept.iter().map(|row| *row as u32));
    let pick = |(values, only): &Arguments| {
        let values = values.iter().map(|column| take(column, &rows, None)).collect::<Result<_, ArrowError>>()?;
        let only = only.as_ref().map(|mask| Ok::<_, ArrowError>(take(mask, &rows, None)?.as_boolean().clone())).transpose()?;
        Ok((values, only))
    };
    arguments.iter().map(pick).collect()
}
