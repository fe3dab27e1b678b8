//! A JSON value as a datum of an Avro schema, by the rules of docs/semantics.md, "Formats", read anew.

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, RecordField, RecordSchema, UuidSchema};

use super::size::is_within;
use super::text::{Json, in_units, parse};
use crate::audit::datum::{Datum, Malformed, Shape};
use crate::audit::time::{parse_date, parse_timestamp};

/// Longest text or bytes value.
const BLOB_BYTES_MAX: usize = 1 << 20;

/// The attribute of a field whose member has another name.
const PROPERTY: &str = "property";

/// The datum of a value in the shape of `shape`.
///
/// # Errors
/// [`Malformed`] when it has no place in it.
pub fn read(value: &[u8], shape: &Shape) -> Result<Datum, Malformed> {
    let datum = of(&parse(value)?, &shape.root, shape)?;
    if is_within(&datum, value.len()) { Ok(datum) } else { Err(Malformed("more than its size warrants")) }
}

fn of(json: &Json, schema: &Schema, shape: &Shape) -> Result<Datum, Malformed> {
    let schema = shape.resolve(schema);
    match (schema, json) {
        (Schema::Union(union), _) => {
            let mut branches = union.variants().iter().enumerate();
            let found = branches.find(|(_, branch)| is_for(shape.resolve(branch), json)).ok_or(Malformed("no branch for the value"))?;
            Ok(Datum::Union(found.0, Box::new(of(json, found.1, shape)?)))
        }
        (Schema::Null, Json::Null) => Ok(Datum::Null),
        (Schema::Boolean, Json::Bool(value)) => Ok(Datum::Bool(*value)),
        (Schema::String, Json::Text(text)) => bounded(text).map(Datum::Text),
        (Schema::Uuid(form), Json::Text(text)) => uuid(form, text),
        (Schema::Enum(symbols), Json::Text(text)) => {
            let known = |wanted: &String| symbols.symbols.iter().position(|symbol| symbol == wanted);
            known(text).or_else(|| symbols.default.as_ref().and_then(known)).map(Datum::Enum).ok_or(Malformed("no such symbol"))
        }
        (Schema::Decimal(decimal), Json::Number(number)) => decimal_of(decimal, number),
        (Schema::Decimal(decimal), Json::Text(text)) => match parse(text.as_bytes())? {
            Json::Number(number) if number.len() == text.len() => decimal_of(decimal, &number),
            _ => Err(Malformed("no decimal")),
        },
        (Schema::Bytes, Json::Text(text)) => latin(text, None),
        (Schema::Fixed(fixed) | Schema::Duration(fixed), Json::Text(text)) => latin(text, Some(fixed.size)),
        (Schema::Float, Json::Number(number)) => match number.parse::<f32>() {
            Ok(number) if number.is_finite() => Ok(Datum::Float(number)),
            _ => Err(Malformed("no float")),
        },
        (Schema::Double, Json::Number(number)) => match number.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Datum::Double(number)),
            _ => Err(Malformed("no double")),
        },
        (_, Json::Number(number)) => count(in_units(number, 0), schema),
        (_, Json::Text(text)) => count(moment(text, schema), schema),
        (Schema::Array(array), Json::Array(items)) => {
            items.iter().map(|item| of(item, &array.items, shape)).collect::<Result<_, _>>().map(Datum::Array)
        }
        (Schema::Map(map), Json::Object(members)) => {
            let entries = members.iter().map(|(key, value)| Ok((bounded(key)?, of(value, &map.types, shape)?)));
            entries.collect::<Result<_, _>>().map(Datum::Map)
        }
        (Schema::Record(record), Json::Object(members)) => record_of(record, members, shape),
        _ => Err(Malformed("of another type")),
    }
}

/// Whether a branch is meant for what a value looks like.
fn is_for(schema: &Schema, json: &Json) -> bool {
    match (schema, json) {
        (Schema::Null, Json::Null) | (Schema::Boolean, Json::Bool(_)) | (Schema::Array(_), Json::Array(_)) => true,
        (Schema::Map(_) | Schema::Record(_), Json::Object(_)) => true,
        (Schema::String | Schema::Bytes | Schema::Uuid(_) | Schema::Enum(_), Json::Text(_)) => true,
        (Schema::Fixed(_) | Schema::Duration(_), Json::Text(_)) => true,
        (Schema::Int | Schema::Long | Schema::Float | Schema::Double, Json::Number(_)) => true,
        (Schema::Decimal(_), Json::Number(_) | Json::Text(_)) => true,
        (other, Json::Number(_) | Json::Text(_)) => unit_nanos(other).is_some(),
        _ => false,
    }
}

fn record_of(record: &RecordSchema, members: &[(String, Json)], shape: &Shape) -> Result<Datum, Malformed> {
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let name_of = |field: &'_ RecordField| match field.custom_attributes.get(PROPERTY) {
        Some(serde_json::Value::String(name)) => name.clone(),
        _ => field.name.clone(),
    };
    let own: Vec<String> = record.fields.iter().map(name_of).collect();
    let fields = record.fields.iter().zip(&own).enumerate().map(|(at, (field, name))| {
        // An alias that is another field's name, or an earlier one's alias, is not this one's.
        let taken = |alias: &String| own.contains(alias) || record.fields[..at].iter().any(|other| other.aliases.contains(alias));
        let names = std::iter::once(name).chain(field.aliases.iter().filter(|alias| !taken(alias)));
        // All of them must be right; the first is the field's.
        let mut found =
            names.filter_map(|name| member(name)).map(|value| of(value, &field.schema, shape)).collect::<Result<Vec<Datum>, _>>()?;
        match &field.default {
            _ if !found.is_empty() => Ok(found.swap_remove(0)),
            Some(default) => default_of(default, &field.schema, shape),
            None => Err(Malformed("a field is not there")),
        }
    });
    fields.collect::<Result<_, _>>().map(Datum::Record)
}

/// A default as the schema spells it: in the type beneath a logical type.
fn default_of(default: &serde_json::Value, schema: &Schema, shape: &Shape) -> Result<Datum, Malformed> {
    use serde_json::Value;
    let unusable = || Malformed("the default cannot be used");
    let schema = shape.resolve(schema);
    Ok(match (schema, default) {
        (Schema::Union(union), _) => {
            let mut branches = union.variants().iter().enumerate();
            let found = branches.find_map(|(at, branch)| Some((at, default_of(default, branch, shape).ok()?)));
            let (at, datum) = found.ok_or_else(unusable)?;
            Datum::Union(at, Box::new(datum))
        }
        (Schema::Null, Value::Null) => Datum::Null,
        (Schema::Boolean, Value::Bool(value)) => Datum::Bool(*value),
        (Schema::Float, Value::Number(number)) => Datum::Float(number.to_string().parse().map_err(|_| unusable())?),
        (Schema::Double, Value::Number(number)) => Datum::Double(number.to_string().parse().map_err(|_| unusable())?),
        (_, Value::Number(number)) => count(in_units(&number.to_string(), 0), schema)?,
        (Schema::String | Schema::Uuid(UuidSchema::String), Value::String(text)) => Datum::Text(text.clone()),
        (Schema::Enum(symbols), Value::String(text)) => {
            Datum::Enum(symbols.symbols.iter().position(|symbol| symbol == text).ok_or_else(unusable)?)
        }
        (Schema::Fixed(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)), Value::String(text)) => latin(text, Some(fixed.size))?,
        (Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }), Value::String(text)) => {
            latin(text, Some(fixed.size))?
        }
        (Schema::Bytes | Schema::Uuid(_) | Schema::Decimal(_), Value::String(text)) => latin(text, None)?,
        (Schema::Array(array), Value::Array(items)) => {
            Datum::Array(items.iter().map(|item| default_of(item, &array.items, shape)).collect::<Result<_, _>>()?)
        }
        (Schema::Map(map), Value::Object(members)) => {
            let entries = members.iter().map(|(key, value)| Ok((key.clone(), default_of(value, &map.types, shape)?)));
            Datum::Map(entries.collect::<Result<_, _>>()?)
        }
        (Schema::Record(record), Value::Object(members)) => {
            let fields = record.fields.iter().map(|field| {
                let given = members.get(&field.name).or(field.default.as_ref()).ok_or_else(unusable)?;
                default_of(given, &field.schema, shape)
            });
            Datum::Record(fields.collect::<Result<_, _>>()?)
        }
        _ => return Err(unusable()),
    })
}

fn bounded(text: &str) -> Result<String, Malformed> {
    if text.len() <= BLOB_BYTES_MAX { Ok(text.to_owned()) } else { Err(Malformed("a text is too long")) }
}

/// Bytes spelt in code points, one for each.
fn latin(text: &str, size: Option<usize>) -> Result<Datum, Malformed> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        bytes.push(u8::try_from(letter).map_err(|_| Malformed("a code point beyond bytes"))?);
    }
    match size {
        Some(size) if size != bytes.len() => Err(Malformed("another number of bytes")),
        None if bytes.len() > BLOB_BYTES_MAX => Err(Malformed("too many bytes")),
        _ => Ok(Datum::Bytes(bytes)),
    }
}

fn uuid(form: &UuidSchema, text: &str) -> Result<Datum, Malformed> {
    let parsed = uuid::Uuid::parse_str(text).map_err(|_| Malformed("no UUID"))?;
    Ok(match form {
        UuidSchema::String => Datum::Text(text.to_owned()),
        _ => Datum::Bytes(parsed.as_bytes().to_vec()),
    })
}

fn decimal_of(decimal: &DecimalSchema, number: &str) -> Result<Datum, Malformed> {
    let unscaled = in_units(number, decimal.scale as i64).ok_or(Malformed("no such decimal"))?;
    if unscaled.unsigned_abs().to_string().len() > decimal.precision && unscaled != 0 {
        return Err(Malformed("a decimal of too many digits"));
    }
    let wide = unscaled.to_be_bytes();
    Ok(Datum::Bytes(match &decimal.inner {
        InnerDecimalSchema::Bytes => wide.to_vec(),
        InnerDecimalSchema::Fixed(fixed) if fixed.size >= 16 => {
            let sign = if unscaled < 0 { 0xff } else { 0 };
            [vec![sign; fixed.size - 16], wide.to_vec()].concat()
        }
        InnerDecimalSchema::Fixed(fixed) => {
            let kept = &wide[16 - fixed.size..];
            let bits = 8 * fixed.size as u32;
            if bits == 0 || (unscaled << (128 - bits)) >> (128 - bits) != unscaled {
                return Err(Malformed("a decimal of too many bytes"));
            }
            kept.to_vec()
        }
    }))
}

/// A count in a whole number's type.
fn count(number: Option<i128>, schema: &Schema) -> Result<Datum, Malformed> {
    let number = number.ok_or(Malformed("not exactly a number of this type"))?;
    let beyond = Malformed("beyond the type");
    match schema {
        Schema::Int | Schema::Date | Schema::TimeMillis => i32::try_from(number).map(Datum::Int).map_err(|_| beyond),
        Schema::Long => i64::try_from(number).map(Datum::Long).map_err(|_| beyond),
        other if unit_nanos(other).is_some() => i64::try_from(number).map(Datum::Long).map_err(|_| beyond),
        _ => Err(Malformed("of another type")),
    }
}

/// Nanoseconds of one unit of a time's type.
fn unit_nanos(schema: &Schema) -> Option<i128> {
    Some(match schema {
        Schema::Date => 86_400_000_000_000,
        Schema::TimeMillis | Schema::TimestampMillis | Schema::LocalTimestampMillis => 1_000_000,
        Schema::TimeMicros | Schema::TimestampMicros | Schema::LocalTimestampMicros => 1_000,
        Schema::TimestampNanos | Schema::LocalTimestampNanos => 1,
        _ => return None,
    })
}

/// A moment's text in units of its type, when it is a whole number of them; what is below a microsecond is cut.
fn moment(text: &str, schema: &Schema) -> Option<i128> {
    let unit = unit_nanos(schema)?;
    let nanos = match schema {
        Schema::Date => return parse_date(text).map(i128::from),
        Schema::TimeMillis | Schema::TimeMicros => {
            let (clock, rest) = clock_of(text)?;
            // A day has no place for a sixtieth second.
            let is_of_day = rest.is_empty() && clock.as_bytes()[6] != b'6';
            if is_of_day { parse_timestamp(&format!("1970-01-01T{clock}"))? } else { return None }
        }
        Schema::LocalTimestampMillis | Schema::LocalTimestampMicros | Schema::LocalTimestampNanos => {
            let (day, time) = text.split_once('T')?;
            let (_, rest) = clock_of(time)?;
            if day.len() == 10 && rest.is_empty() { parse_timestamp(text)? } else { return None }
        }
        _ => {
            let (day, time) = text.split_once('T')?;
            let (_, zone) = clock_of(time)?;
            let is_offset = zone.len() == 6 && zone.starts_with(['+', '-']) && zone.as_bytes()[3] == b':' && is_in_a_day(zone);
            if day.len() == 10 && (zone == "Z" || is_offset) { parse_timestamp(text)? } else { return None }
        }
    };
    (unit == 1_000 || nanos % unit == 0).then_some(nanos.div_euclid(unit))
}

fn is_in_a_day(zone: &str) -> bool {
    let two = |at: usize| zone.get(at..at + 2).and_then(|digits| digits.parse::<u32>().ok());
    two(1).is_some_and(|hours| hours < 24) && two(4).is_some_and(|minutes| minutes < 60)
}

/// A time of day with at most nine digits of a fraction, and what stands behind it.
fn clock_of(time: &str) -> Option<(&str, &str)> {
    let (_, rest) = time.split_at_checked(8)?;
    let Some(fraction) = rest.strip_prefix('.') else { return Some((&time[..8], rest)) };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    (1..=9).contains(&digits).then(|| (&time[..9 + digits], &fraction[digits..]))
}

#[cfg(test)]
mod tests;
