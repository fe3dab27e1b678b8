//! The end of an epoch: what becomes of the groups that it touched and of the windows that stream time has closed, as data.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter;

use super::WindowBranch;
use crate::engine::branch::BranchFault;
use crate::engine::branch::groups::{Group, Groups};
use crate::engine::branch::results::{self, Finished};
use crate::engine::branch::sealed::{KeyBuffer, SealedPartition, SealedWindows};
use crate::engine::branch::time::last_closed_start;
use crate::kafka::TopicPartition;
use crate::store::{Entry, ScanMax, StateStore, Swept};
use crate::tenant::Emit;

impl WindowBranch {
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
        let mut sealed = SealedWindows { partitions, states: Vec::new() };
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

    /// New states of the groups that the epoch touched, and their results, part by part: what a part needs on the way there is used for the
    /// next one. What is closed and beyond what is swept stays for a later epoch: windows go in their order, so that a replay knows which are
    /// gone.
    fn seal_touched(&mut self, sealed: &mut SealedWindows) -> Result<(), BranchFault> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let columns = self.groups.take_states().map_err(|error| self.aggregate(error))?;
        sealed.make_room(self.declared().emit, self.groups.of(0..self.groups.len()).map(|(group, _)| group.partition));
        for from in (0..self.groups.len()).step_by(self.sealed_at_once) {
            let numbers = from..self.groups.len().min(from + self.sealed_at_once);
            let columns = columns.iter().map(|column| column.slice(from, numbers.len())).collect();
            self.seal_part(numbers, columns, sealed)?;
        }
        Ok(())
    }

    /// The same for the groups of these numbers, whose states are `columns`.
    fn seal_part(&mut self, numbers: Range<usize>, columns: Vec<ArrayRef>, sealed: &mut SealedWindows) -> Result<(), BranchFault> {
        let is_swept = |(group, key): (&Group, &[u8])| self.places[group.partition].swept().covers(group.start_us, key);
        let is_closed: BooleanArray = self.groups.of(numbers.clone()).map(is_swept).map(Some).collect();
        match self.declared().emit {
            Emit::Updates => self.report(numbers.clone(), &columns, None, sealed)?,
            Emit::Final => self.report(numbers.clone(), &columns, Some(&is_closed), sealed)?,
        }
        let latest: ArrayRef = Arc::new(Int64Array::from_iter_values(self.groups.of(numbers.clone()).map(|(group, _)| group.latest_ms)));
        let row = RecordBatch::try_new(self.row_schema.clone(), std::iter::once(latest).chain(columns).collect());
        let states = self.codec.encode(&row.map_err(|error| self.compute(error))?);
        let states = states.map_err(|error| BranchFault::State { branch: self.stage.clone(), cause: error.to_string() })?;
        let mut keys = KeyBuffer::default();
        for (group, key) in self.groups.of(numbers.clone()) {
            let place = &self.places[group.partition];
            keys.push(place.store.0, place.partition.partition, group.start_us, key);
        }
        for ((((group, _), keys), state), is_closed) in self.groups.of(numbers).zip(keys.finish()).zip(states).zip(is_closed.values()) {
            // What is closed and was never stored is nowhere to be taken away.
            if !is_closed || group.was_stored {
                let changelog = &self.places[group.partition].changelog;
                sealed.put(group.partition, changelog, keys, group.latest_ms, (!is_closed).then_some(state));
            }
        }
        Ok(())
    }

    /// Results of the groups of these numbers, whose states are `columns`; where `due` is given, of those only that it names.
    fn report(
        &mut self,
        numbers: Range<usize>,
        columns: &[ArrayRef],
        due: Option<&BooleanArray>,
        sealed: &mut SealedWindows,
    ) -> Result<(), BranchFault> {
        let window = &self.tenant.windows[self.window];
        let is_due = |at: &usize| due.is_none_or(|due| due.value(*at));
        let groups = self.groups.of(numbers).enumerate().filter(|(at, _)| is_due(at)).map(|(_, group)| group);
        let windows: Vec<Finished<'_>> = groups
            .clone()
            .map(|(group, key)| Finished {
                headers: &self.places[group.partition].headers,
                start_us: group.start_us,
                key,
                latest_ms: group.latest_ms,
            })
            .collect();
        if windows.is_empty() {
            return Ok(());
        }
        let states = match due {
            None => columns.to_vec(),
            Some(due) => columns
                .iter()
                .map(|column| filter(column, due))
                .collect::<Result<_, _>>()
                .map_err(|source| BranchFault::Compute { branch: self.stage.clone(), source })?,
        };
        let rows = results::rows(window, &windows, &states)?;
        let records = results::records(window, &self.topic, &mut self.encoder, &windows, &rows)?;
        for ((group, _), record) in groups.zip(records) {
            sealed.partitions[group.partition].results.extend(record);
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
}
