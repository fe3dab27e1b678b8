//! How a value of one type comes about: made up from a device's state, or read from a CSV cell.

use apache_avro::types::Value;
use apache_avro::{Decimal, Uuid};
use rand::RngExt;
use rand_pcg::Pcg64;

use super::event_time::EventForm;
use super::ranges::{Range, range_of};

/// Measurements swing once around their range in this time.
const SWING_US: f64 = 3_600_000_000.0;

/// How to make up a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Maker {
    /// The device's id, which is also the Kafka key.
    Key,
    /// The event time.
    Event(EventForm),
    /// A measurement.
    Measure(Number, Range),
    /// True or false.
    Flag,
    /// A short text that begins with the field's name.
    Text(String),
    /// One of these symbols.
    Symbol(Vec<String>),
    /// Eight bytes.
    Blob,
    /// As many bytes.
    Fixed(usize),
    /// A random UUID.
    Uuid,
    /// An unscaled value of at most four digits.
    Decimal {
        /// Digits the type can hold.
        precision: usize,
        /// Bytes of the underlying fixed type, if it is one.
        fixed: Option<usize>,
    },
    /// Null.
    Null,
    /// One branch of a union, always the same one.
    Union {
        /// The branch that is written.
        branch: u32,
        /// The null branch, if there is one.
        null: Option<u32>,
        /// How to make up the branch's value.
        maker: Box<Maker>,
    },
    /// Up to three items.
    Array(Box<Maker>),
    /// Up to two entries.
    Map(Box<Maker>),
    /// A nested record.
    Record(Vec<(String, Maker)>),
}

/// The four number types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// `int`.
    Int,
    /// `long`.
    Long,
    /// `float`.
    Float,
    /// `double`.
    Double,
}

/// What a reading is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The device's id.
    pub device: &'a str,
    /// Where the device stands in its swing at time zero, in radians.
    pub phase: f64,
    /// Event time in microseconds since 1970.
    pub event_us: i64,
    /// Whether the device's battery is low.
    pub is_low: bool,
}

impl Maker {
    /// An `int` measurement of that name.
    pub fn int(name: &str) -> Self {
        Self::Measure(Number::Int, range_of(name))
    }

    /// A `long` measurement of that name.
    pub fn long(name: &str) -> Self {
        Self::Measure(Number::Long, range_of(name))
    }

    /// A `float` measurement of that name.
    pub fn float(name: &str) -> Self {
        Self::Measure(Number::Float, range_of(name))
    }

    /// A `double` measurement of that name.
    pub fn double(name: &str) -> Self {
        Self::Measure(Number::Double, range_of(name))
    }

    /// Whether the field is the key, nullable or not.
    pub fn is_key(&self) -> bool {
        matches!(self.inner(), Self::Key)
    }

    /// How the field holds the event time, if it does.
    pub fn event_form(&self) -> Option<EventForm> {
        if let Self::Event(form) = self.inner() { Some(*form) } else { None }
    }

    /// The field's value for that event time, if it holds it.
    pub fn event_value(&self, us: i64) -> Option<Value> {
        self.event_form().map(|form| self.wrapped(form.value(us)))
    }

    /// The field's value for NaN, if it can hold it.
    pub fn not_a_number(&self) -> Option<Value> {
        match self.inner() {
            Self::Measure(Number::Float, _) => Some(self.wrapped(Value::Float(f32::NAN))),
            Self::Measure(Number::Double, _) => Some(self.wrapped(Value::Double(f64::NAN))),
            _ => None,
        }
    }

    fn inner(&self) -> &Self {
        if let Self::Union { maker, .. } = self { maker } else { self }
    }

    fn wrapped(&self, value: Value) -> Value {
        if let Self::Union { branch, .. } = self { Value::Union(*branch, Box::new(value)) } else { value }
    }

    /// Makes up a value; `place` tells fields of one device apart.
    pub fn make(&self, facts: &Facts<'_>, place: usize, rng: &mut Pcg64) -> Value {
        match self {
            Self::Key => Value::String(facts.device.into()),
            Self::Event(form) => form.value(facts.event_us),
            Self::Measure(number, range) => number.value(measure(range, facts, place, rng)),
            Self::Flag => Value::Boolean(rng.random()),
            Self::Text(stem) => Value::String(format!("{stem}-{}", rng.random_range(0..10_u8))),
            Self::Symbol(symbols) => symbol(symbols, rng.random_range(0..symbols.len())),
            Self::Blob => Value::Bytes(rng.random::<u64>().to_be_bytes().to_vec()),
            Self::Fixed(size) => Value::Fixed(*size, (0..*size).map(|_| rng.random()).collect()),
            Self::Uuid => Value::Uuid(Uuid::from_u128(rng.random())),
            Self::Decimal { precision, fixed } => decimal(rng.random_range(0..10_i32.pow((*precision).min(4) as u32)), *fixed),
            Self::Null => Value::Null,
            Self::Union { branch, maker, .. } => Value::Union(*branch, Box::new(maker.make(facts, place, rng))),
            Self::Array(item) => Value::Array((0..rng.random_range(0..=3)).map(|at| item.make(facts, place + at, rng)).collect()),
            Self::Map(entry) => {
                Value::Map((0..rng.random_range(0..=2)).map(|at| (format!("k{at}"), entry.make(facts, place + at, rng))).collect())
            }
            Self::Record(fields) => Value::Record(
                fields.iter().enumerate().map(|(at, (name, maker))| (name.clone(), maker.make(facts, place + at, rng))).collect(),
            ),
        }
    }

    /// Reads a CSV cell; event times are moved by `shift_us` microseconds. An empty cell is null where the type allows it.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn read(&self, cell: &str, shift_us: i64) -> Result<Value, String> {
        match self {
            Self::Key | Self::Text(_) => Ok(Value::String(cell.into())),
            Self::Event(form) => form.read(cell).map(|us| form.value(us.saturating_add(shift_us))),
            Self::Measure(number, _) => number.read(cell),
            Self::Flag => cell.parse().map(Value::Boolean).map_err(|_| format!("\"{cell}\" is neither true nor false")),
            Self::Symbol(symbols) => match symbols.iter().position(|symbol| symbol == cell) {
                Some(at) => Ok(symbol(symbols, at)),
                None => Err(format!("\"{cell}\" is none of {}", symbols.join(", "))),
            },
            Self::Uuid => Uuid::parse_str(cell).map(Value::Uuid).map_err(|error| format!("\"{cell}\": {error}")),
            Self::Null if cell.is_empty() => Ok(Value::Null),
            Self::Union { null: Some(null), .. } if cell.is_empty() => Ok(Value::Union(*null, Box::new(Value::Null))),
            Self::Union { branch, maker, .. } => Ok(Value::Union(*branch, Box::new(maker.read(cell, shift_us)?))),
            Self::Null | Self::Blob | Self::Fixed(_) | Self::Decimal { .. } | Self::Array(_) | Self::Map(_) | Self::Record(_) => {
                Err("values of this type cannot be given in a CSV file".into())
            }
        }
    }
}

impl Number {
    fn value(self, number: f64) -> Value {
        match self {
            Self::Int => Value::Int(number.round() as i32),
            Self::Long => Value::Long(number.round() as i64),
            Self::Float => Value::Float(number as f32),
            Self::Double => Value::Double(number),
        }
    }

    fn read(self, cell: &str) -> Result<Value, String> {
        let value = match self {
            Self::Int => cell.parse().ok().map(Value::Int),
            Self::Long => cell.parse().ok().map(Value::Long),
            Self::Float => cell.parse().ok().map(Value::Float),
            Self::Double => cell.parse().ok().map(Value::Double),
        };
        value.ok_or_else(|| format!("\"{cell}\" is not of type {}", format!("{self:?}").to_lowercase()))
    }
}

/// A point of the range: mostly where the device is in its swing, and some noise.
fn measure(range: &Range, facts: &Facts<'_>, place: usize, rng: &mut Pcg64) -> f64 {
    let noise: f64 = rng.random();
    if let (true, Some((low, high))) = (facts.is_low, range.low_battery) {
        return low + (high - low) * noise;
    }
    let swing = (facts.phase + place as f64 * 1.7 + std::f64::consts::TAU * (facts.event_us as f64 / SWING_US)).sin();
    let part = 0.5 + 0.4 * swing + 0.1 * (2.0 * noise - 1.0);
    // Two decimals, as the sensors send.
    ((range.low + (range.high - range.low) * part) * 100.0).round() / 100.0
}

fn symbol(symbols: &[String], at: usize) -> Value {
    Value::Enum(at as u32, symbols[at].clone())
}

/// A decimal's bytes: big endian, at least two, as many as a fixed type has.
fn decimal(unscaled: i32, fixed: Option<usize>) -> Value {
    let bytes = i128::from(unscaled).to_be_bytes();
    let size = fixed.unwrap_or(2).clamp(1, bytes.len());
    Value::Decimal(Decimal::from(&bytes[bytes.len() - size..]))
}
