//! Inspected datums of one writer schema become rows of the reader's columns.
//!
//! Right before fast: two roads lead from a datum to its row. The plain one ([`super::oracle`]) reads value by value and is right
//! for every construct; the fast one ([`super::through_arrow`]) is taken for pairs of schemas that need nothing else than what
//! property tests have shown it to do alike, and gives way whenever something is odd.

use std::sync::Arc;

use apache_avro::Schema;
use arrow::array::ArrayRef;
use arrow::datatypes::{Fields, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::cell::{self, Cell};
use super::oracle::{self, Unread};
use super::resolve::{Resolution, resolve};
use super::schema::{ReaderSchema, SchemaFault, record_of};
use super::through_arrow::ThroughArrow;

/// Decodes datums of one writer schema; keeps buffers, so each worker has its own.
#[derive(Debug)]
pub struct Decoder {
    resolution: Resolution,
    schema: SchemaRef,
    fast: Option<ThroughArrow>,
    path: Path,
}

/// Which road a decoder takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// arrow-avro, column by column.
    Arrow,
    /// Value by value, with the reason why arrow-avro is not trusted with the pair of schemas.
    Oracle(String),
}

/// What became of a run of datums.
#[derive(Debug)]
pub struct Decoded {
    /// The accepted datums, in order, in exactly the reader's columns.
    pub rows: RecordBatch,
    /// Datums with a value that has no counterpart in the reader schema: index in the run, in order, and what is wrong. The reason
    /// code is `unresolvable-value`.
    pub rejected: Vec<(usize, String)>,
}

/// A fault of the caller or of a bound, never of a value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeFault {
    /// A datum is not what its inspection should have made sure of.
    #[error("failed to decode datum {index}: {reason}; it was not inspected with its writer schema")]
    NotInspected {
        /// Index in the run.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The values do not fit into columns.
    #[error("failed to build columns of {datums} datums: decode fewer at a time")]
    Columns {
        /// Length of the run.
        datums: usize,
        /// Arrow's reason.
        source: ArrowError,
    },
}

impl Decoder {
    /// Prepares decoding of `writer`'s datums into `reader`'s columns.
    ///
    /// # Errors
    /// [`SchemaFault::Unreadable`] as [`super::check_readable`].
    pub fn new(writer: &Schema, reader: &ReaderSchema) -> Result<Self, SchemaFault> {
        let resolution = resolve(writer, reader)?;
        let (fast, path) = match ThroughArrow::new(record_of(writer)?, &resolution) {
            Ok(fast) => (Some(fast), Path::Arrow),
            Err(why) => (None, Path::Oracle(why)),
        };
        let schema = Arc::new(arrow::datatypes::Schema::new(reader.fields().clone()));
        Ok(Self { resolution, schema, fast, path })
    }

    /// The road that datums take.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Decodes datums that have passed their inspection.
    ///
    /// # Errors
    /// [`DecodeFault`]; content alone never causes one.
    pub fn decode<'a>(&mut self, datums: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<Decoded, DecodeFault> {
        let datums: Vec<&[u8]> = datums.collect();
        if datums.is_empty() {
            return Ok(Decoded { rows: RecordBatch::new_empty(self.schema.clone()), rejected: Vec::new() });
        }
        if let Some(fast) = &mut self.fast {
            match fast.decode(&datums, self.schema.fields(), &self.resolution) {
                Ok(rows) => {
                    return Ok(Decoded { rows, rejected: Vec::new() });
                }
                Err(error) => tracing::debug!(%error, datums = datums.len(), "arrow-avro refused a slice, decoding it value by value"),
            }
        }
        value_by_value(&datums, &self.resolution, &self.schema)
    }

    /// Decodes value by value, whatever the path: what the fast road is held to.
    #[cfg(test)]
    pub(super) fn decode_plainly(&self, datums: &[&[u8]]) -> Result<Decoded, DecodeFault> {
        value_by_value(datums, &self.resolution, &self.schema)
    }
}

fn value_by_value(datums: &[&[u8]], resolution: &Resolution, schema: &SchemaRef) -> Result<Decoded, DecodeFault> {
    let mut columns: Vec<Vec<Cell<'_>>> = schema.fields().iter().map(|_| Vec::with_capacity(datums.len())).collect();
    let mut rejected = Vec::new();
    for (index, datum) in datums.iter().enumerate() {
        match oracle::row(resolution, datum) {
            Ok(row) => columns.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell)),
            Err(Unread::Unresolvable { path, why }) => rejected.push((index, format!("field `{path}`: {why}"))),
            Err(Unread::Flawed(flaw)) => {
                return Err(DecodeFault::NotInspected { index, reason: flaw.code() });
            }
        }
    }
    let accepted = datums.len() - rejected.len();
    let rows = batch(schema, columns, accepted).map_err(|source| DecodeFault::Columns { datums: datums.len(), source })?;
    Ok(Decoded { rows, rejected })
}

fn batch(schema: &SchemaRef, columns: Vec<Vec<Cell<'_>>>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let fields: &Fields = schema.fields();
    let arrays: Vec<ArrayRef> =
        columns.into_iter().zip(fields).map(|(cells, field)| cell::column(field.data_type(), cells)).collect::<Result<_, _>>()?;
    RecordBatch::try_new_with_options(schema.clone(), arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))
}
