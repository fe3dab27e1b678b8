//! The first part of admission, record by record: frame, gate, transcoding where the format is not Avro, and inspection, up to a record that has to wait.
//!
//! Candidates are kept by writer schema, as they are decoded later. A known schema costs an array look-up for each record, however
//! producers of several versions take turns. Behind a record that has to wait, the ids of the rest of the run are only asked for, all at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Admission, Outcome};
use crate::avro::foreign::OTHER_MESSAGE;
use crate::avro::frame::{self, Framed, SchemaGuid, SchemaId, SchemaName};
use crate::avro::{Accepted, Gate, GuidAnswer, Inspector, Transcode, Verdict};
use crate::kafka::{RecordRef, Run};
use crate::tenant::Source;

/// So many unknown ids of one run are asked for while its first one is waited for.
const AHEAD_MAX: usize = 512;

/// So many ids of one run are found by looking through them; more are found by their hash.
const FEW: usize = 8;

/// A record that passed the gate and inspection.
pub(super) struct Candidate<'a> {
    pub(super) row: u32,
    pub(super) datum: &'a [u8],
}

/// The records of one writer schema that are to be decoded, in their order.
pub(super) struct Candidates<'a> {
    pub(super) accepted: Arc<Accepted>,
    pub(super) records: Vec<Candidate<'a>>,
    /// Datums of records in another format, in the same order; their candidates' own are empty.
    pub(super) transcoded: Transcoded,
}

/// Datums one behind the other.
#[derive(Default)]
pub(super) struct Transcoded {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Transcoded {
    /// The datums in their order.
    pub(super) fn datums(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ends.iter().enumerate().map(|(at, end)| {
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..*end]
        })
    }
}

/// Stage, reason and detail of a record that is no candidate.
type Refused = (&'static str, &'static str, String);

impl<'a> Candidates<'a> {
    fn new(accepted: Arc<Accepted>, room: usize) -> Self {
        Self { accepted, records: Vec::with_capacity(room), transcoded: Transcoded::default() }
    }

    /// Takes what stands behind a record's frame.
    #[inline]
    fn take(&mut self, row: u32, head: Option<&[u8]>, value: &'a [u8]) -> Result<(), Refused> {
        if let Some(transcoder) = &self.accepted.transcoder {
            transcode(&**transcoder, &self.accepted.inspector, head, value, &mut self.transcoded)?;
            self.records.push(Candidate { row, datum: &[] });
            return Ok(());
        }
        self.accepted.inspector.inspect(value).map_err(|found| ("inspect", found.reason(), found.to_string()))?;
        self.records.push(Candidate { row, datum: value });
        Ok(())
    }
}

/// Transcodes a value and inspects what became of it as any other datum.
fn transcode(
    transcoder: &dyn Transcode,
    inspector: &Inspector,
    head: Option<&[u8]>,
    value: &[u8],
    transcoded: &mut Transcoded,
) -> Result<(), Refused> {
    let begin = transcoded.bytes.len();
    let made = match head {
        None => transcoder.transcode(value, &mut transcoded.bytes),
        Some(head) => transcoder.transcode_headed(head, value, &mut transcoded.bytes),
    };
    let made = made.map_err(|fault| ("transcode", fault.reason, fault.to_string()));
    let whole =
        made.and_then(|()| inspector.inspect(&transcoded.bytes[begin..]).map_err(|found| ("transcode", found.reason(), found.to_string())));
    match whole {
        Ok(()) => transcoded.ends.push(transcoded.bytes.len()),
        Err(_) => transcoded.bytes.truncate(begin),
    }
    whole
}

impl Admission {
    /// Takes each record through frame, gate and inspection.
    pub(super) fn screen<'a>(&self, run: &'a Run, outcome: &mut Outcome) -> Vec<Candidates<'a>> {
        let source = &self.tenant.sources[self.source];
        if let Some(plain) = &self.plain {
            return vec![screen_plain(run, plain, source.record_bytes_max, outcome)];
        }
        let mut verdicts = RunVerdicts::new(&self.gate, run.len());
        let mut resolved: Option<(SchemaGuid, SchemaId)> = None;
        for row in 0..run.len() {
            let record = run.record(row);
            let Some(value) = record.value else {
                outcome.tombstones += 1;
                continue;
            };
            let Framed { name, head, datum } = match unframe(&record, value, source) {
                Ok(framed) => framed,
                Err((reason, detail)) => {
                    outcome.reject(row, "frame", reason, detail, None);
                    continue;
                }
            };
            let schema = match self.id_of(name, &mut resolved) {
                GuidAnswer::Id(id) => id,
                GuidAnswer::Refused(reason, detail) => {
                    let stage = if reason == frame::HEADER_FRAMED { "frame" } else { "gate" };
                    outcome.reject(row, stage, reason, detail, None);
                    continue;
                }
                GuidAnswer::Pending(stand_in) => {
                    outcome.waiting_at = Some((record.offset, stand_in));
                    self.ask_ahead(run, row + 1);
                    break;
                }
            };
            match verdicts.of(schema) {
                Known::Accepted(candidates) => match candidates.take(row as u32, head, datum) {
                    Ok(()) => {}
                    Err((_, OTHER_MESSAGE, _)) if !source.reader.reads_all_types() => outcome.other_records += 1,
                    Err((stage, reason, detail)) => outcome.reject(row, stage, reason, detail, Some(schema)),
                },
                Known::Other(Verdict::OtherRecord { .. }) => outcome.other_records += 1,
                Known::Other(Verdict::Missing { detail }) => {
                    outcome.reject(row, "gate", "unknown-schema-id", detail.clone(), Some(schema));
                }
                Known::Other(Verdict::Refused { detail }) => {
                    outcome.refuse_schema(row, detail.clone(), schema, source.reader.fingerprint());
                }
                Known::Other(Verdict::Pending | Verdict::Held { .. } | Verdict::Accepted(_)) => {
                    outcome.waiting_at = Some((record.offset, schema));
                    self.ask_ahead(run, row + 1);
                    break;
                }
            }
        }
        verdicts.finish()
    }

    /// The id that a record's name of its schema stands for; `resolved` is the GUID met last.
    #[inline]
    fn id_of(&self, name: SchemaName, resolved: &mut Option<(SchemaGuid, SchemaId)>) -> GuidAnswer {
        match (name, &resolved) {
            (SchemaName::Id(id), _) => GuidAnswer::Id(id),
            (SchemaName::Guid(guid), Some((known, id))) if *known == guid => GuidAnswer::Id(*id),
            (SchemaName::Guid(guid), _) => {
                let answer = self.gate.id_of(guid);
                if let GuidAnswer::Id(id) = &answer {
                    *resolved = Some((guid, *id));
                }
                answer
            }
        }
    }

    /// Asks for the ids of the records from `row` on, so that those made up by a stranger cost hardly more time than one.
    fn ask_ahead(&self, run: &Run, row: usize) {
        let source = &self.tenant.sources[self.source];
        let (mut ids, mut guids) = (HashSet::new(), HashSet::new());
        for record in (row..run.len()).map(|row| run.record(row)) {
            let Some(value) = record.value else { continue };
            match unframe(&record, value, source).map(|framed| framed.name) {
                Ok(SchemaName::Id(id)) => drop(ids.insert(id)),
                // Told when its records are reached; so many are looked up at once.
                Ok(SchemaName::Guid(guid)) if guids.insert(guid) => drop(self.gate.id_of(guid)),
                _ => {}
            }
            if ids.len() + guids.len() >= AHEAD_MAX {
                break;
            }
        }
        self.gate.ask_ahead(ids.into_iter());
    }
}

/// Takes records that no schema in a registry describes: there is no frame, and nothing to wait for.
fn screen_plain<'a>(run: &'a Run, accepted: &Arc<Accepted>, value_bytes_max: usize, outcome: &mut Outcome) -> Candidates<'a> {
    let mut candidates = Candidates::new(accepted.clone(), run.len());
    for row in 0..run.len() {
        let Some(value) = run.record(row).value else {
            outcome.tombstones += 1;
            continue;
        };
        let taken = match check_size(value, value_bytes_max) {
            Ok(()) => candidates.take(row as u32, None, value),
            Err((reason, detail)) => Err(("frame", reason, detail)),
        };
        if let Err((stage, reason, detail)) = taken {
            outcome.reject(row, stage, reason, detail, None);
        }
    }
    candidates
}

fn check_size(value: &[u8], bytes_max: usize) -> Result<(), (&'static str, String)> {
    match value.len() > bytes_max {
        true => Err(("too-large", format!("the value has {} bytes, record_bytes_max is {bytes_max}", value.len()))),
        false => Ok(()),
    }
}

fn unframe<'a>(record: &RecordRef<'a>, value: &'a [u8], source: &Source) -> Result<Framed<'a>, (&'static str, String)> {
    check_size(value, source.record_bytes_max)?;
    let kind = source.format.schemas().unwrap_or_default();
    frame::of_record(record.headers, value, kind).map_err(|fault| (fault.reason(), fault.to_string()))
}

/// What the gate said about an id, as long as a run lasts.
enum Known<'a> {
    Accepted(Candidates<'a>),
    Other(Verdict),
}

/// The verdicts that one run needs; each is asked for once.
struct RunVerdicts<'g, 'a> {
    gate: &'g Gate,
    records: usize,
    known: Vec<(SchemaId, Known<'a>)>,
    /// Where each id stands, once there are more than a few.
    places: HashMap<SchemaId, usize>,
    last: usize,
}

impl<'g, 'a> RunVerdicts<'g, 'a> {
    fn new(gate: &'g Gate, records: usize) -> Self {
        Self { gate, records, known: Vec::new(), places: HashMap::new(), last: 0 }
    }

    #[inline]
    fn of(&mut self, id: SchemaId) -> &mut Known<'a> {
        if self.known.get(self.last).is_none_or(|(known, _)| *known != id) {
            self.last = self.place(id);
        }
        &mut self.known[self.last].1
    }

    fn place(&mut self, id: SchemaId) -> usize {
        let found = match self.known.len() <= FEW {
            true => self.known.iter().position(|(known, _)| *known == id),
            false => self.places.get(&id).copied(),
        };
        found.unwrap_or_else(|| {
            let place = self.known.len();
            let known = match self.gate.verdict(id) {
                Verdict::Accepted(accepted) => {
                    // Room for a run of one schema, half of it for each of two.
                    let room = self.records / (place + 1);
                    Known::Accepted(Candidates::new(accepted, room))
                }
                other => Known::Other(other),
            };
            self.known.push((id, known));
            match place {
                FEW => self.places = self.known.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect(),
                _ if place > FEW => drop(self.places.insert(id, place)),
                _ => {}
            }
            place
        })
    }

    fn finish(self) -> Vec<Candidates<'a>> {
        let accepted = |(_, known)| if let Known::Accepted(candidates) = known { Some(candidates) } else { None };
        self.known.into_iter().filter_map(accepted).collect()
    }
}
