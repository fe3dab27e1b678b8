//! JSON values as datums of an Avro schema: the reader schema where there is no other, or one that was derived from a JSON Schema.
//!
//! JSON says less than Avro, so the schema says what a value means (docs/semantics.md, "Formats"): numbers must fit exactly (floats to the
//! nearest), instants are RFC 3339 texts or counts in the type's unit, decimals are numbers or texts of one, bytes are spelt as in Avro's own
//! JSON, one code point for each. Members that the schema does not have are passed over; those that are not there take their default.

use super::write::Datum;
use super::{Transcode, TranscodeFault};
use crate::avro::limits::DatumLimits;
use crate::avro::names::Names;
use crate::avro::schema::SchemaFault;
use apache_avro::Schema;

mod number;
mod plan;
mod scan;
mod time;

pub(super) use plan::PROPERTY;
use plan::{Decimal, Field, Missing, Plan, Planner, RecordPlan, Uuid};
use scan::{Kind, Scan, fault, inside, shown};

type Outcome<T> = Result<T, TranscodeFault>;

/// Makes datums of one schema from JSON values.
#[derive(Debug)]
pub struct Transcoder {
    plan: Plan,
    limits: DatumLimits,
}

impl Transcoder {
    /// For datums of `schema`. A field may say in the attribute `property` which member feeds it, when that is not named as it is.
    ///
    /// # Errors
    /// [`SchemaFault::Invalid`] when the schema uses a type that it does not define.
    pub fn of(schema: &Schema, limits: DatumLimits) -> Result<Self, SchemaFault> {
        let names = Names::of(schema)?;
        Ok(Self { plan: Planner::new(&names, limits).plan(schema)?, limits })
    }
}

impl Transcode for Transcoder {
    fn transcode(&self, value: &[u8], datum: &mut Vec<u8>) -> Outcome<()> {
        let mut scan = Scan::new(value, self.limits.depth_max)?;
        let mut datum = Datum::new(datum, self.limits.datum_bytes_of(value.len()), self.limits.string_bytes_max);
        scan.peek()?;
        write(&self.plan, &mut scan, &mut datum)?;
        scan.end()
    }
}

/// Writes the value that comes next.
fn write(plan: &Plan, scan: &mut Scan<'_>, datum: &mut Datum<'_>) -> Outcome<()> {
    let kind = scan.peek()?;
    match (plan, kind) {
        (Plan::Null, Kind::Null) => scan.null(),
        (Plan::Boolean, Kind::Boolean) => datum.boolean(scan.boolean()?),
        (Plan::Text, Kind::Text) => datum.blob(scan.text()?.as_bytes()),
        (Plan::Int | Plan::Long | Plan::Float | Plan::Double, Kind::Number) => write_number(plan, scan.number()?, datum),
        (Plan::Bytes(size), Kind::Text) => write_bytes(*size, &scan.text()?, datum),
        (Plan::Uuid(form), Kind::Text) => write_uuid(*form, &scan.text()?, datum),
        (Plan::Decimal(decimal), Kind::Number) => write_decimal(decimal, scan.number()?, datum),
        (Plan::Decimal(decimal), Kind::Text) => {
            let text = scan.text()?;
            match scan::number_length(&text) {
                0 => Err(fault("wrong-type", format!("`{}` is no number", shown(&text)))),
                length if length < text.len() => Err(fault("wrong-type", format!("`{}` is no number", shown(&text)))),
                _ => write_decimal(decimal, &text, datum),
            }
        }
        (Plan::Date, Kind::Number) => write_number(&Plan::Int, scan.number()?, datum),
        (Plan::Date, Kind::Text) => write_moment(&scan.text()?, "a date such as 2018-10-21", |text| time::date(text).map(i64::from), datum),
        (Plan::Time(time::Unit::Millis), Kind::Number) => write_number(&Plan::Int, scan.number()?, datum),
        (Plan::Time(_) | Plan::Instant(_) | Plan::Local(_), Kind::Number) => write_number(&Plan::Long, scan.number()?, datum),
        (Plan::Time(unit), Kind::Text) => write_moment(&scan.text()?, "a time such as 00:00:18.25", |text| time::time(text, *unit), datum),
        (Plan::Instant(unit), Kind::Text) => {
            write_moment(&scan.text()?, "an instant such as 2018-10-21T00:00:18Z", |text| time::instant(text, *unit), datum)
        }
        (Plan::Local(unit), Kind::Text) => {
            write_moment(&scan.text()?, "a time without zone such as 2018-10-21T00:00:18", |text| time::local(text, *unit), datum)
        }
        (Plan::Enum { symbols, default }, Kind::Text) => {
            let text = scan.text()?;
            match symbols.get(&*text).or(default.as_ref()) {
                Some(symbol) => datum.long(*symbol),
                None => Err(fault("bad-enum-symbol", format!("the enum has no symbol `{}`", shown(&text)))),
            }
        }
        (Plan::Array(item), Kind::Array) => write_array(item, scan, datum),
        (Plan::Map(value), Kind::Object) => write_map(value, scan, datum),
        (Plan::Record(record), Kind::Object) => write_record(record, scan, datum),
        (Plan::Union(branches), _) => {
            let Some((at, branch)) = (0..).zip(branches).find(|(_, branch)| branch.takes(kind)) else {
                return Err(wrong_type(kind, branches.iter().map(|branch| branch.word()).collect::<Vec<_>>().join(" or ")));
            };
            datum.long(at)?;
            write(branch, scan, datum)
        }
        (Plan::Never(why), _) => Err(fault("wrong-type", why.clone())),
        _ => Err(wrong_type(kind, plan.word().to_owned())),
    }
}

#[cold]
fn wrong_type(found: Kind, wanted: String) -> TranscodeFault {
    fault("wrong-type", format!("this is {}, where {wanted} is read", found.word()))
}

fn write_number(plan: &Plan, text: &str, datum: &mut Datum<'_>) -> Outcome<()> {
    let beyond = |what: &str| fault("out-of-range", format!("{} is no {what}", shown(text)));
    match plan {
        Plan::Int => match number::long(text).and_then(|number| i32::try_from(number).ok()) {
            Some(number) => datum.long(i64::from(number)),
            None => Err(beyond("whole number of 32 bits")),
        },
        Plan::Float => datum.float(number::float(text).ok_or_else(|| beyond("float"))?),
        Plan::Double => datum.double(number::double(text).ok_or_else(|| beyond("double"))?),
        _ => datum.long(number::long(text).ok_or_else(|| beyond("whole number of 64 bits"))?),
    }
}

fn write_bytes(size: Option<usize>, text: &str, datum: &mut Datum<'_>) -> Outcome<()> {
    let bytes: Result<Vec<u8>, _> = text.chars().map(|letter| u8::try_from(u32::from(letter))).collect();
    let bytes = bytes.map_err(|_| fault("wrong-type", "bytes are spelt in code points up to U+00FF, one for each"))?;
    match size {
        None => datum.blob(&bytes),
        Some(size) if size == bytes.len() => datum.raw(&bytes),
        Some(size) => Err(fault("bad-length", format!("{} bytes, where {size} are read", bytes.len()))),
    }
}

fn write_uuid(form: Uuid, text: &str, datum: &mut Datum<'_>) -> Outcome<()> {
    let parsed = uuid::Uuid::parse_str(text).map_err(|_| fault("wrong-type", format!("`{}` is no UUID", shown(text))))?;
    match form {
        Uuid::Text => datum.blob(text.as_bytes()),
        Uuid::Bytes => datum.blob(parsed.as_bytes()),
        Uuid::Fixed => datum.raw(parsed.as_bytes()),
    }
}

fn write_decimal(decimal: &Decimal, text: &str, datum: &mut Datum<'_>) -> Outcome<()> {
    let Decimal { precision, scale, size } = *decimal;
    let beyond = || fault("out-of-range", format!("{} is no decimal of {precision} digits, {scale} of them behind the point", shown(text)));
    let unscaled = number::unscaled(text, precision, scale).ok_or_else(beyond)?;
    match size {
        None => datum.blob(&number::shortest(unscaled)),
        Some(size) => datum.raw(&number::widened(unscaled, size).ok_or_else(beyond)?),
    }
}

fn write_moment(text: &str, wanted: &str, read: impl Fn(&str) -> Option<i64>, datum: &mut Datum<'_>) -> Outcome<()> {
    match read(text) {
        Some(number) => datum.long(number),
        None => Err(fault("out-of-range", format!("`{}` is not {wanted}, with no more digits than the type has", shown(text)))),
    }
}

/// One block: its length is known when it has been written.
fn write_array(item: &Plan, scan: &mut Scan<'_>, datum: &mut Datum<'_>) -> Outcome<()> {
    let mark = datum.mark();
    let count = scan.array(|scan, _| write(item, scan, datum))?;
    close_block(count, mark, datum)
}

fn write_map(value: &Plan, scan: &mut Scan<'_>, datum: &mut Datum<'_>) -> Outcome<()> {
    let (mark, mut count) = (datum.mark(), 0);
    scan.object(|scan, key| {
        count += 1;
        datum.blob(key.as_bytes())?;
        write(value, scan, datum).map_err(|fault| inside(fault, &shown(&key)))
    })?;
    close_block(count, mark, datum)
}

fn close_block(count: i64, mark: usize, datum: &mut Datum<'_>) -> Outcome<()> {
    if count > 0 {
        datum.insert_long(mark, count)?;
    }
    datum.long(0)
}

/// What a member has been written as: how good a name it had, and where.
type Written = Option<(usize, std::ops::Range<usize>)>;

fn write_record(record: &RecordPlan, scan: &mut Scan<'_>, datum: &mut Datum<'_>) -> Outcome<()> {
    let begin = datum.mark();
    let mut written: Vec<Written> = vec![None; record.fields.len()];
    scan.object(|scan, key| {
        let Some((at, rank)) = record.members.get(&*key).copied() else {
            return scan.skip().map_err(|fault| inside(fault, &shown(&key)));
        };
        let mark = datum.mark();
        write(&record.fields[at].plan, scan, datum).map_err(|fault| inside(fault, &shown(&key)))?;
        // The field's own name goes before its aliases, whichever comes first; all of them must be right.
        match &written[at] {
            Some((best, _)) if *best < rank => drop(datum.put_back(mark)),
            _ => written[at] = Some((rank, mark..datum.mark())),
        }
        Ok(())
    })?;
    let mut end = begin;
    let is_in_order = written.iter().all(|place| match place {
        Some((_, bytes)) if bytes.start == end => {
            end = bytes.end;
            true
        }
        _ => false,
    });
    if is_in_order && end == datum.mark() {
        return Ok(());
    }
    let parts = datum.put_back(begin);
    for (field, place) in record.fields.iter().zip(written) {
        match place {
            Some((_, bytes)) => datum.raw(&parts[bytes.start - begin..bytes.end - begin])?,
            None => write_missing(field, datum)?,
        }
    }
    Ok(())
}

fn write_missing(field: &Field, datum: &mut Datum<'_>) -> Outcome<()> {
    match &field.missing {
        Missing::Default(bytes) => datum.raw(bytes),
        Missing::Fault(why) => Err(inside(fault("missing-field", why.clone()), &shown(&field.name))),
    }
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
