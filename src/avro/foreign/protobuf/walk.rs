//! A message's bytes into a datum: one pass collects what stands for each field, a second writes the fields in the schema's order.
//!
//! Of a scalar the last occurrence counts, occurrences of a message are merged, a oneof has the member that came last, a list takes packed
//! and single values together, a map has the last entry of a key, in the order of its keys. What nobody knows is skipped. Occurrences that
//! do not count must still be well-formed, as for every Protobuf reader.
//!
//! # Source
//! Protobuf documentation, "Encoding", "Last One Wins" and "Oneofs"; prost, whose verdict on bytes is the same (held by property tests).

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::write::Datum;
use super::body::{Body, Flaw};
use super::plan::{Absent, Field, Form, Kind, Message, Plan, Wire};
use super::values::{elements, micros, number, whole};
use super::{Fault, Walked, boxed};
use crate::avro::limits::DatumLimits;

/// Messages and groups within each other on the wire.
const LEVELS_MAX: u32 = 100;

/// Appends the datum of `body`, a message of the plan's first type.
pub(super) fn transcode(plan: &Plan, limits: &DatumLimits, body: &[u8], bytes: &mut Vec<u8>) -> Walked<()> {
    let begin = bytes.len();
    let datum = Datum::new(bytes, limits.datum_bytes_of(body.len()), limits.string_bytes_max);
    let mut walk = Walk { plan, datum, found: Vec::new(), members: Vec::new(), items: 0 };
    walk.record(0, Bodies::One(body), limits.depth_max, LEVELS_MAX)?;
    let length = walk.datum.mark() - begin;
    // The outermost record's fields are the schema's, which is bounded.
    match walk.items.saturating_sub(plan.messages[0].fields.len()) <= limits.items_of(length) {
        true => Ok(()),
        false => Err(boxed("too-many-items", "the value holds more items than its size warrants")),
    }
}

impl From<Flaw> for Box<Fault> {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Truncated => boxed("truncated", "the message ends too early"),
            Flaw::Overflow => boxed("varint-overflow", "a number has more than 64 bits"),
            Flaw::TooDeep => boxed("too-deep", "messages are nested too deep"),
            Flaw::NoMessage(why) => boxed("not-protobuf", why),
        }
    }
}

/// What stands for a field once.
#[derive(Clone, Copy)]
struct Found<'v> {
    /// The field's place in its message.
    field: u32,
    /// How many stood before it.
    at: usize,
    raw: Raw<'v>,
}

#[derive(Clone, Copy)]
enum Raw<'v> {
    Number(u64),
    Bytes(&'v [u8]),
}

/// The bytes of one message, which may come in parts.
enum Bodies<'v> {
    One(&'v [u8]),
    /// What stands there among [`Walk::found`].
    Many(Range<usize>),
}

/// The member that a oneof has, and since when.
#[derive(Clone, Copy)]
struct Member {
    field: Option<u32>,
    since: usize,
}

/// Lengths of the stacks before a message was opened.
#[derive(Clone, Copy)]
struct Mark {
    found: usize,
    members: usize,
}

/// What orders the entries of a map, and tells them apart.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'v> {
    Number(i64),
    Text(&'v [u8]),
}

struct Walk<'p, 'v, 'd> {
    plan: &'p Plan,
    datum: Datum<'d>,
    /// A stack: what stands in the messages that are open, those of one message side by side, ordered by field.
    found: Vec<Found<'v>>,
    /// A stack as well: the oneofs of the messages that are open.
    members: Vec<Member>,
    /// Entries of lists and maps and fields of records so far.
    items: usize,
}

impl<'p, 'v> Walk<'p, 'v, '_> {
    fn record(&mut self, at: u32, bodies: Bodies<'v>, depth: usize, levels: u32) -> Walked<()> {
        let depth = enter(depth)?;
        let message = &self.plan.messages[at as usize];
        self.items += message.fields.len();
        let mark = self.open(message, bodies, levels)?;
        let (mut next, end) = (mark.found, self.found.len());
        let passed_over: &[bool] = if levels == LEVELS_MAX { &self.plan.passed_over } else { &[] };
        for (index, field) in (0..).zip(&message.fields) {
            let start = next;
            while next < end && self.found[next].field == index {
                next += 1;
            }
            let written = match passed_over.get(index as usize) {
                Some(true) => self.pass_over(field, start..next, depth, levels),
                _ => self.field(field, start..next, mark, depth, levels),
            };
            written.map_err(|fault| in_field(fault, &field.name))?;
        }
        self.close(mark);
        Ok(())
    }

    /// Collects what stands in a message, ordered by field.
    fn open(&mut self, message: &'p Message, bodies: Bodies<'v>, levels: u32) -> Walked<Mark> {
        let mark = Mark { found: self.found.len(), members: self.members.len() };
        self.members.extend(std::iter::repeat_n(Member { field: None, since: 0 }, message.oneofs));
        match bodies {
            Bodies::One(body) => self.collect(message, mark, body, levels)?,
            Bodies::Many(parts) => {
                for part in parts {
                    if let Raw::Bytes(body) = self.found[part].raw {
                        self.collect(message, mark, body, levels)?;
                    }
                }
            }
        }
        let here = &mut self.found[mark.found..];
        // Most writers keep to the order of the numbers.
        if !here.is_sorted_by_key(|found| found.field) {
            here.sort_by_key(|found| found.field);
        }
        Ok(mark)
    }

    fn close(&mut self, mark: Mark) {
        self.found.truncate(mark.found);
        self.members.truncate(mark.members);
    }

    fn collect(&mut self, message: &'p Message, mark: Mark, body: &'v [u8], levels: u32) -> Walked<()> {
        let mut body = Body::new(body);
        while !body.is_empty() {
            let (number, wire) = body.key()?;
            let Some(field) = message.field(number) else {
                body.skip(number, wire, levels)?;
                continue;
            };
            let known = &message.fields[field as usize];
            let raw = raw(known, number, wire, &mut body, levels).map_err(|fault| in_field(fault, &known.name))?;
            let at = self.found.len() - mark.found;
            if let Some(oneof) = known.oneof {
                let member = &mut self.members[mark.members + oneof as usize];
                if member.field != Some(field) {
                    *member = Member { field: Some(field), since: at };
                }
            }
            self.found.push(Found { field, at, raw });
        }
        Ok(())
    }

    fn field(&mut self, field: &'p Field, run: Range<usize>, mark: Mark, depth: usize, levels: u32) -> Walked<()> {
        match field.form {
            Form::Plain | Form::Nullable => {
                let run = self.counting(field, run, mark, levels)?;
                if run.is_empty() {
                    return self.absent(field, run, depth, levels);
                }
                if field.form == Form::Nullable {
                    self.long(1)?;
                }
                self.value(field.kind, run, depth, levels)
            }
            Form::List => self.list(field.kind, run, depth, levels),
            Form::Map | Form::Pairs => self.map(field, run, depth, levels),
        }
    }

    /// Writes a field that nobody reads as if it were not there; what is must be well-formed.
    fn pass_over(&mut self, field: &'p Field, run: Range<usize>, depth: usize, levels: u32) -> Walked<()> {
        for at in run.clone() {
            self.check_field(field, self.found[at].raw, levels)?;
        }
        self.absent(field, run, depth, levels)
    }

    /// The occurrences that count: of a oneof's member those since it was the last one; the others must be well-formed.
    fn counting(&mut self, field: &'p Field, run: Range<usize>, mark: Mark, levels: u32) -> Walked<Range<usize>> {
        let Some(oneof) = field.oneof else { return Ok(run) };
        let Some(first) = self.found.get(run.start).filter(|_| !run.is_empty()) else { return Ok(run) };
        let member = self.members[mark.members + oneof as usize];
        let since = if member.field == Some(first.field) { member.since } else { usize::MAX };
        let start = run.start + self.found[run.clone()].partition_point(|found| found.at < since);
        for passed in run.start..start {
            self.check(field.kind, self.found[passed].raw, levels)?;
        }
        Ok(start..run.end)
    }

    fn absent(&mut self, field: &'p Field, nothing: Range<usize>, depth: usize, levels: u32) -> Walked<()> {
        match &field.absent {
            Absent::Bytes(bytes) => self.datum.raw(bytes).map_err(Box::new),
            Absent::Empty => self.value(field.kind, nothing, depth, levels),
            Absent::Fault => Err(boxed("missing-field", "the field is required and not there")),
        }
    }

    fn list(&mut self, kind: Kind, run: Range<usize>, depth: usize, levels: u32) -> Walked<()> {
        let depth = enter(depth)?;
        let mut count = 0;
        for found in &self.found[run.clone()] {
            count += match found.raw {
                Raw::Bytes(packed) if kind.is_packable() => elements(kind, packed),
                _ => 1,
            };
        }
        if count > 0 {
            self.items += count;
            self.long(i64::try_from(count).unwrap_or(i64::MAX))?;
        }
        let mut item = 0;
        for at in run {
            let Raw::Bytes(packed) = self.found[at].raw else {
                self.value(kind, at..at + 1, depth, levels).map_err(|fault| in_item(fault, item))?;
                item += 1;
                continue;
            };
            if !kind.is_packable() {
                self.value(kind, at..at + 1, depth, levels).map_err(|fault| in_item(fault, item))?;
                item += 1;
                continue;
            }
            let mut packed = Body::new(packed);
            while !packed.is_empty() {
                let number = number(kind.wire(), &mut packed).map_err(|flaw| in_item(flaw.into(), item))?;
                self.scalar(kind, Raw::Number(number)).map_err(|fault| in_item(fault, item))?;
                item += 1;
            }
        }
        self.long(0)
    }

    /// A Protobuf map is a list of entries; the last one with a key counts.
    fn map(&mut self, field: &'p Field, run: Range<usize>, depth: usize, levels: u32) -> Walked<()> {
        let depth = enter(depth)?;
        let Some(at) = field.kind.message() else { return self.long(0) };
        let entry = &self.plan.messages[at as usize];
        let below = lower(levels)?;
        let mut last: BTreeMap<Key<'v>, usize> = BTreeMap::new();
        for at in run {
            let mark = self.open(entry, Bodies::Many(at..at + 1), below)?;
            let raw = self.last_of(mark, 0).unwrap_or(zero(entry.fields[0].kind));
            self.close(mark);
            let key = key(entry.fields[0].kind, raw).map_err(|fault| in_field(fault, "key"))?;
            if let Some(passed) = last.insert(key, at) {
                self.check(field.kind, self.found[passed].raw, levels)?;
            }
        }
        if !last.is_empty() {
            self.items += last.len();
            self.long(i64::try_from(last.len()).unwrap_or(i64::MAX))?;
        }
        for (item, (key, at)) in last.into_iter().enumerate() {
            let written = match (field.form, key) {
                (Form::Map, Key::Text(key)) => self.blob(key).and_then(|()| self.entry(entry, at, depth, below)),
                _ => self.value(field.kind, at..at + 1, depth, levels),
            };
            written.map_err(|fault| in_item(fault, item))?;
        }
        self.long(0)
    }

    /// The value of a map's entry.
    fn entry(&mut self, entry: &'p Message, at: usize, depth: usize, levels: u32) -> Walked<()> {
        let mark = self.open(entry, Bodies::Many(at..at + 1), levels)?;
        let start = mark.found + self.found[mark.found..].partition_point(|found| found.field < 1);
        self.field(&entry.fields[1], start..self.found.len(), mark, depth, levels)?;
        self.close(mark);
        Ok(())
    }

    /// One value, of which `run` is what stands for it: of a scalar the last counts, a message is merged.
    fn value(&mut self, kind: Kind, run: Range<usize>, depth: usize, levels: u32) -> Walked<()> {
        match kind {
            Kind::Message(at) | Kind::Group(at) => self.record(at, Bodies::Many(run), depth, lower(levels)?),
            Kind::Timestamp(at) => {
                let mark = self.open(&self.plan.messages[at as usize], Bodies::Many(run), lower(levels)?)?;
                let number = |raw| if let Some(Raw::Number(number)) = raw { number } else { 0 };
                let (seconds, nanos) = (number(self.last_of(mark, 0)).cast_signed(), number(self.last_of(mark, 1)) as u32 as i32);
                self.close(mark);
                self.long(micros(seconds, nanos)?)
            }
            Kind::Wrapper(at) => {
                let message = &self.plan.messages[at as usize];
                let mark = self.open(message, Bodies::Many(run), lower(levels)?)?;
                let kind = message.fields[0].kind;
                let raw = self.last_of(mark, 0).unwrap_or(zero(kind));
                self.close(mark);
                self.scalar(kind, raw)
            }
            scalar => match self.found.get(run.end.wrapping_sub(1)).map(|found| found.raw) {
                Some(raw) => self.scalar(scalar, raw),
                None => Err(boxed("missing-field", "the field is required and not there")),
            },
        }
    }

    /// What stands last for a field of the message that was opened last.
    fn last_of(&self, mark: Mark, field: u32) -> Option<Raw<'v>> {
        let here = &self.found[mark.found..];
        let end = here.partition_point(|found| found.field <= field);
        here[..end].last().filter(|found| found.field == field).map(|found| found.raw)
    }

    fn scalar(&mut self, kind: Kind, raw: Raw<'v>) -> Walked<()> {
        match (kind, raw) {
            (Kind::Bool, Raw::Number(number)) => self.datum.boolean(number != 0).map_err(Box::new),
            (Kind::Float, Raw::Number(number)) => self.datum.float(f32::from_bits(number as u32)).map_err(Box::new),
            (Kind::Double, Raw::Number(number)) => self.datum.double(f64::from_bits(number)).map_err(Box::new),
            (Kind::Enum(at), Raw::Number(number)) => {
                let number = number as u32 as i32;
                match self.plan.enums[at as usize].symbol(number) {
                    Some(symbol) => self.long(symbol.into()),
                    None => Err(boxed("bad-enum-symbol", format!("the enum has no value with number {number}"))),
                }
            }
            (_, Raw::Number(number)) => self.long(whole(kind, number)?),
            (_, Raw::Bytes(bytes)) => self.blob(bytes),
        }
    }

    /// Whether an occurrence that does not count is well-formed.
    fn check(&mut self, kind: Kind, raw: Raw<'v>, levels: u32) -> Walked<()> {
        let (Some(at), Raw::Bytes(body)) = (kind.message(), raw) else { return Ok(()) };
        let (message, below) = (&self.plan.messages[at as usize], lower(levels)?);
        let mark = self.open(message, Bodies::One(body), below)?;
        for at in mark.found..self.found.len() {
            let found = self.found[at];
            self.check_field(&message.fields[found.field as usize], found.raw, below)?;
        }
        self.close(mark);
        Ok(())
    }

    fn check_field(&mut self, field: &'p Field, raw: Raw<'v>, levels: u32) -> Walked<()> {
        match raw {
            Raw::Bytes(packed) if field.kind.is_packable() => {
                let mut packed = Body::new(packed);
                while !packed.is_empty() {
                    number(field.kind.wire(), &mut packed)?;
                }
                Ok(())
            }
            raw => self.check(field.kind, raw, levels),
        }
    }

    fn long(&mut self, value: i64) -> Walked<()> {
        self.datum.long(value).map_err(Box::new)
    }

    fn blob(&mut self, value: &[u8]) -> Walked<()> {
        self.datum.blob(value).map_err(Box::new)
    }
}

/// Takes a value of a known field from the wire, where it must be of the field's type.
fn raw<'v>(field: &Field, field_number: u32, wire: Option<Wire>, body: &mut Body<'v>, levels: u32) -> Walked<Raw<'v>> {
    let wanted = field.kind.wire();
    match wire {
        Some(wire) if wire == wanted => {}
        Some(Wire::Delimited) if field.form == Form::List && field.kind.is_packable() => return Ok(Raw::Bytes(body.delimited()?)),
        None => return Err(Flaw::NoMessage("a group ends that did not begin").into()),
        Some(found) => {
            return Err(boxed("wrong-type", format!("field {field_number} is written as {}, its type is {}", word(found), word(wanted))));
        }
    }
    match wanted {
        Wire::Delimited => {
            let bytes = body.delimited()?;
            if field.kind == Kind::Text && std::str::from_utf8(bytes).is_err() {
                return Err(boxed("invalid-utf8", "the text is not UTF-8"));
            }
            Ok(Raw::Bytes(bytes))
        }
        Wire::Group => Ok(Raw::Bytes(body.group(field_number, levels)?)),
        other => Ok(Raw::Number(number(other, body)?)),
    }
}

/// What a scalar has that is not there.
fn zero<'v>(kind: Kind) -> Raw<'v> {
    match kind.wire() {
        Wire::Delimited => Raw::Bytes(&[]),
        _ => Raw::Number(0),
    }
}

fn key(kind: Kind, raw: Raw<'_>) -> Walked<Key<'_>> {
    match raw {
        Raw::Number(number) => whole(kind, number).map(Key::Number),
        Raw::Bytes(text) => Ok(Key::Text(text)),
    }
}

/// One Avro level deeper, as the inspector counts them.
fn enter(depth: usize) -> Walked<usize> {
    depth.checked_sub(1).ok_or_else(|| Flaw::TooDeep.into())
}

/// One message deeper on the wire.
fn lower(levels: u32) -> Walked<u32> {
    levels.checked_sub(1).ok_or_else(|| Flaw::TooDeep.into())
}

fn word(wire: Wire) -> &'static str {
    match wire {
        Wire::Varint => "a varint",
        Wire::Fixed64 => "eight bytes",
        Wire::Delimited => "a length and bytes",
        Wire::Group => "a group",
        Wire::Fixed32 => "four bytes",
    }
}

#[cold]
fn in_field(mut fault: Box<Fault>, name: &str) -> Box<Fault> {
    fault.path = match fault.path.as_str() {
        "" => name.to_owned(),
        item if item.starts_with('[') => format!("{name}{item}"),
        inner => format!("{name}.{inner}"),
    };
    fault
}

#[cold]
fn in_item(mut fault: Box<Fault>, item: usize) -> Box<Fault> {
    fault.path = match fault.path.as_str() {
        "" => format!("[{item}]"),
        inner => format!("[{item}].{inner}"),
    };
    fault
}
