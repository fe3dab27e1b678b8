//! Reads a datum value by value, as a resolution says: slower than arrow-avro, and right for every construct.

use std::borrow::Cow;

use super::cell::Cell;
use super::inspect::Inspector;
use super::resolve::{Number, Plan, RecordPlan, Resolution, Step, Symbol};
use super::wire::{Flaw, Wire};

/// Why a datum gave no row.
#[derive(Debug, PartialEq)]
pub(super) enum Unread {
    /// A value has no counterpart in the reader schema: the field and the reason.
    Unresolvable { path: String, why: String },
    /// The datum was not inspected, or not with this schema.
    Flawed(Flaw),
}

impl From<Flaw> for Unread {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(flaw)
    }
}

impl Unread {
    fn unresolvable(why: impl Into<String>) -> Self {
        Self::Unresolvable { path: String::new(), why: why.into() }
    }

    fn within(self, place: &str) -> Self {
        match self {
            Self::Unresolvable { path, why } if path.is_empty() || path.starts_with('[') => {
                Self::Unresolvable { path: format!("{place}{path}"), why }
            }
            Self::Unresolvable { path, why } => Self::Unresolvable { path: format!("{place}.{path}"), why },
            flawed => flawed,
        }
    }
}

/// One row: a cell for each of the reader's fields.
pub(super) fn row<'a>(resolution: &'a Resolution, datum: &'a [u8]) -> Result<Vec<Cell<'a>>, Unread> {
    let mut reading = Reading { skips: &resolution.skips, wire: Wire::new(datum) };
    let cells = reading.record(&resolution.record)?;
    match reading.wire.left() {
        0 => Ok(cells),
        _ => Err(Unread::Flawed(Flaw::TrailingBytes)),
    }
}

struct Reading<'a> {
    skips: &'a Inspector,
    wire: Wire<'a>,
}

impl<'a> Reading<'a> {
    fn record(&mut self, plan: &'a RecordPlan) -> Result<Vec<Cell<'a>>, Unread> {
        let mut cells = vec![Cell::Null; plan.width];
        for step in &plan.steps {
            match step {
                Step::Skip(node) => self.skips.skip(*node, &mut self.wire)?,
                Step::Read { column, name, plan } => cells[*column] = self.value(plan).map_err(|unread| unread.within(name))?,
            }
        }
        for (column, default) in &plan.defaults {
            cells[*column] = default.clone();
        }
        Ok(cells)
    }

    fn value(&mut self, plan: &'a Plan) -> Result<Cell<'a>, Unread> {
        Ok(match plan {
            Plan::Null => Cell::Null,
            Plan::Boolean => Cell::Boolean(self.wire.boolean()?),
            Plan::Int(number) => int(self.wire.int()?, *number),
            Plan::Long(number) => long(self.wire.long()?, *number),
            Plan::Float(number) => float(f32::from_le_bytes(self.wire.array()?), *number),
            Plan::Double => Cell::Double(f64::from_le_bytes(self.wire.array()?)),
            Plan::Text(blob) => blob.of_text(Cow::Borrowed(self.text()?)).map_err(Unread::unresolvable)?,
            Plan::Bytes(blob) => blob.of_bytes(Cow::Borrowed(self.bytes()?)).map_err(Unread::unresolvable)?,
            Plan::Fixed(size, blob) => blob.of_bytes(Cow::Borrowed(self.wire.take(*size)?)).map_err(Unread::unresolvable)?,
            Plan::Enum(symbols) => self.symbol(symbols)?,
            Plan::List(item) => Cell::List(self.blocks(|reading| reading.value(item))?),
            Plan::Map(of) => Cell::Map(self.blocks(|reading| Ok((Cow::Borrowed(reading.text()?), reading.value(of)?)))?),
            Plan::Struct(plan) => Cell::Struct(self.record(plan)?),
            Plan::Union(branches) => {
                match usize::try_from(self.wire.long()?).ok().and_then(|at| branches.get(at)).ok_or(Flaw::BadUnionBranch)? {
                    Ok(plan) => self.value(plan)?,
                    Err(why) => return Err(Unread::unresolvable(why)),
                }
            }
        })
    }

    fn symbol(&mut self, symbols: &'a [Symbol]) -> Result<Cell<'a>, Unread> {
        let symbol = usize::try_from(self.wire.int()?).ok().and_then(|at| symbols.get(at)).ok_or(Flaw::BadEnumSymbol)?;
        match &symbol.reader {
            Some(symbol) => Ok(Cell::Text(Cow::Borrowed(symbol))),
            None => Err(Unread::unresolvable(format!("the reader's enum has no symbol `{}` and no default", symbol.writer))),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Flaw> {
        let length = self.wire.length()?;
        self.wire.take(length)
    }

    fn text(&mut self) -> Result<&'a str, Flaw> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Flaw::InvalidUtf8)
    }

    /// The items of an array or map. Inspection has bounded the counts; memory grows with the items read, not with the counts.
    fn blocks<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, Unread>) -> Result<Vec<T>, Unread> {
        let mut items = Vec::new();
        loop {
            let count = self.wire.long()?;
            if count == 0 {
                return Ok(items);
            }
            if count < 0 {
                // The block's size in bytes; inspection has compared it.
                self.wire.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                let index = items.len();
                items.push(item(self).map_err(|unread| unread.within(&format!("[{index}]")))?);
            }
        }
    }
}

fn int(value: i32, number: Number) -> Cell<'static> {
    match number {
        Number::Int => Cell::Int(value),
        Number::Long => Cell::Long(value.into()),
        Number::Float => Cell::Float(value as f32),
        Number::Double => Cell::Double(value.into()),
    }
}

fn long(value: i64, number: Number) -> Cell<'static> {
    match number {
        Number::Float => Cell::Float(value as f32),
        Number::Double => Cell::Double(value as f64),
        Number::Int | Number::Long => Cell::Long(value),
    }
}

fn float(value: f32, number: Number) -> Cell<'static> {
    match number {
        Number::Double => Cell::Double(value.into()),
        Number::Int | Number::Long | Number::Float => Cell::Float(value),
    }
}
