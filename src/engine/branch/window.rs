//! A tumbling window: folds the rows of an epoch into groups, and at the seal says what becomes of them.
//!
//! Nothing it computes is visible before the epoch is committed: [`WindowBranch::seal`] returns states, tombstones and results
//! as data. After a commit the caller calls [`WindowBranch::settle`]; after anything else [`WindowBranch::discard`].

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{filter, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion_common::DataFusionError;

use super::groups::Groups;
use super::kept::TooLarge;
use super::place::Place;
use super::results::{self, Finished};
use super::sealed::{KeyBuffer, SealedPartition, SealedWindows};
use super::time::{closes_at, last_closed_start, window_start};
use super::{BranchFault, OutputTopic, expression_failed, passing, refusal};
use crate::avro::encode::{Encoder, StateCodec};
use crate::engine::admit::Admitted;
use crate::engine::rejection::Rejection;
use crate::kafka::{Run, TopicPartition};
use crate::store::{Entry, ScanMax, StateStore, Swept, WindowStoreId, keys};
use crate::tenant::expression::evaluate_physical_rows;
use crate::tenant::{Emit, Tenant, Window};

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
        Ok(Self { window, topic: topic.own(), encoder, codec, row_schema, stage, places: Vec::new(), groups, tenant })
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

    /// Says what the epoch makes of this window. `stream_times` gives the stream time of the partitions whose marks the epoch moves; nothing
    /// changes in the others: that a store is level with the group is told by the mark alone (EOS-9). `sweep` is what may be closed
    /// beside what was touched, and becomes less by what was.
    pub fn seal(
        &mut self,
        stream_times: &dyn Fn(&TopicPartition) -> Option<i64>,
        store: &dyn StateStore,
        sweep: &mut ScanMax,
    ) -> Result<SealedWindows, BranchFault> {
        let partitions = self.places.iter().map(|place| SealedPartition::new(place.partition.clone())).collect();
        let mut sealed = SealedWindows { partitions, states: Vec::with_capacity(self.groups.len()) };
        let bounds: Vec<Option<i64>> = self
            .places
            .iter()
            .map(|place| {
                let stream_time = stream_times(&place.partition).filter(|_| place.is_open)?;
                last_closed_start(stream_time, self.declared().size_us, self.declared().grace_us)
            })
            .collect();
        let due = self.places.iter().zip(bounds).enumerate().filter_map(|(at, (place, bound))| Some((at, place.unswept(bound?)?)));
        let due: Vec<(usize, RangeInclusive<i64>)> = due.collect();
        let mut closed: Vec<(usize, Vec<Entry>)> = Vec::with_capacity(due.len());
        for (done, (place, starts)) in due.iter().enumerate() {
            let share = sweep.share(due.len() - done);
            if !share.is_used_up() {
                let found = self.find_closed(*place, starts, share, store)?;
                *sweep = sweep.without(ScanMax::used_by(&found));
                closed.push((*place, found));
            }
        }
        self.seal_touched(&mut sealed)?;
        for (place, found) in closed {
            self.sweep(place, found, &mut sealed)?;
        }
        self.groups = Groups::new(self.declared()).map_err(|error| self.aggregate(error))?;
        Ok(sealed)
    }

    /// Windows of a partition that stream time has closed and that are still in the store, from the first on; they are swept by this epoch.
    fn find_closed(
        &mut self,
        place: usize,
        starts: &RangeInclusive<i64>,
        most: ScanMax,
        store: &dyn StateStore,
    ) -> Result<Vec<Entry>, BranchFault> {
        let place = &mut self.places[place];
        let found = store.started_within(place.store, place.partition.partition, *starts.start(), *starts.end(), most)?;
        place.sweeping = Some(match found.last() {
            // More may come behind the last one: the next epoch goes on from there.
            Some(last) if most.without(ScanMax::used_by(&found)).is_used_up() => Swept::to(last.start_us, last.key.clone()),
            _ => Swept::until(*starts.end()),
        });
        Ok(found)
    }

    /// New states of the groups that the epoch touched, and their results. What is closed and beyond what is swept stays for a later epoch:
    /// windows go in their order, so that a replay knows which are gone.
    fn seal_touched(&mut self, sealed: &mut SealedWindows) -> Result<(), BranchFault> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let columns = self.groups.take_states().map_err(|error| self.aggregate(error))?;
        let is_closed: Vec<bool> =
            self.groups.iter().map(|(group, key)| self.places[group.partition].swept().covers(group.start_us, key)).collect();
        match self.declared().emit {
            Emit::Updates => self.report_touched(&columns, &vec![true; is_closed.len()], sealed)?,
            Emit::Final => self.report_touched(&columns, &is_closed, sealed)?,
        }
        let latest: ArrayRef = Arc::new(Int64Array::from_iter_values(self.groups.iter().map(|(group, _)| group.latest_ms)));
        let row = RecordBatch::try_new(self.row_schema.clone(), std::iter::once(latest).chain(columns).collect());
        let states = self.codec.encode(&row.map_err(|error| self.compute(error))?);
        let states = states.map_err(|error| BranchFault::State { branch: self.stage.clone(), cause: error.to_string() })?;
        let mut keys = KeyBuffer::default();
        for (group, key) in self.groups.iter() {
            let place = &self.places[group.partition];
            keys.push(place.store.0, place.partition.partition, group.start_us, key);
        }
        for ((((group, _), keys), state), is_closed) in self.groups.iter().zip(keys.finish()).zip(states).zip(is_closed) {
            // What is closed and was never stored is nowhere to be taken away.
            if !is_closed || group.was_stored {
                let changelog = &self.places[group.partition].changelog;
                sealed.put(group.partition, changelog, keys, group.latest_ms, (!is_closed).then_some(state));
            }
        }
        Ok(())
    }

    fn report_touched(&mut self, columns: &[ArrayRef], is_due: &[bool], sealed: &mut SealedWindows) -> Result<(), BranchFault> {
        let window = &self.tenant.windows[self.window];
        let due: Vec<usize> = (0..is_due.len()).filter(|number| is_due[*number]).collect();
        let windows: Vec<Finished<'_>> = due
            .iter()
            .map(|number| {
                let (group, key) = self.groups.get(*number);
                Finished { headers: &self.places[group.partition].headers, start_us: group.start_us, key, latest_ms: group.latest_ms }
            })
            .collect();
        if windows.is_empty() {
            return Ok(());
        }
        let mask = BooleanArray::from(is_due.to_vec());
        let states: Result<Vec<ArrayRef>, ArrowError> = columns.iter().map(|column| filter(column, &mask)).collect();
        let states = states.map_err(|source| BranchFault::Compute { branch: self.stage.clone(), source })?;
        let rows = results::rows(window, &windows, &states)?;
        let records = results::records(window, &self.topic, &mut self.encoder, &windows, &rows)?;
        for (number, record) in due.iter().zip(records) {
            sealed.partitions[self.groups.get(*number).0.partition].results.extend(record);
        }
        Ok(())
    }

    /// Closed windows of a partition, without those that this epoch touched: reported if due, then forgotten.
    fn sweep(&mut self, place: usize, mut closed: Vec<Entry>, sealed: &mut SealedWindows) -> Result<(), BranchFault> {
        let partition = self.places[place].partition.partition;
        closed.retain(|entry| !self.groups.contains(place, entry.start_us, &entry.key));
        if closed.is_empty() {
            return Ok(());
        }
        let (latest, states) = self.decode(closed.iter().map(|entry| entry.state.as_slice()))?;
        let mut keys = KeyBuffer::default();
        for entry in &closed {
            keys.push(self.places[place].store.0, partition, entry.start_us, &entry.key);
        }
        for (keys, latest_ms) in keys.finish().zip(latest.values()) {
            sealed.put(place, &self.places[place].changelog, keys, *latest_ms, None);
        }
        if self.declared().emit == Emit::Updates {
            return Ok(());
        }
        let headers = &self.places[place].headers;
        let windows: Vec<Finished<'_>> = closed
            .iter()
            .zip(latest.values())
            .map(|(entry, latest_ms)| Finished { headers, start_us: entry.start_us, key: &entry.key, latest_ms: *latest_ms })
            .collect();
        let window = &self.tenant.windows[self.window];
        let rows = results::rows(window, &windows, &states)?;
        let records = results::records(window, &self.topic, &mut self.encoder, &windows, &rows)?;
        sealed.partitions[place].results.extend(records.flatten());
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
        for (group, key) in self.groups.iter_from(from) {
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
