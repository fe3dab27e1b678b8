//! Rows whose texts or bytes are too long for a window to keep: its state must stay small enough for a changelog record.
//!
//! Short values cost nothing: a column is looked at row by row only where all its rows together are too long.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;

/// The rows with a value that is too long, and what it is.
pub(super) struct TooLarge {
    bytes_max: usize,
    rows: BTreeMap<usize, String>,
}

impl TooLarge {
    /// None yet; the window keeps at most `bytes_max` bytes of a value.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, rows: BTreeMap::new() }
    }

    /// Looks through the values of a column, of all rows or of those that `only` takes. `what` names it for people.
    pub(super) fn look_through(&mut self, what: &str, values: &ArrayRef, only: Option<&BooleanArray>) {
        let bytes_max = self.bytes_max;
        for (row, bytes) in longer(values, bytes_max) {
            if values.is_valid(row) && only.is_none_or(|only| only.is_valid(row) && only.value(row)) {
                let detail = || format!("{bytes} bytes in `{what}`, of which this window keeps at most {bytes_max}");
                self.rows.entry(row).or_insert_with(detail);
            }
        }
    }

    /// Why `row` is refused, if it is.
    pub(super) fn take(&mut self, row: usize) -> Option<String> {
        self.rows.remove(&row)
    }
}

/// Bytes of all values of a text or bytes column.
pub(super) fn values_bytes(values: &ArrayRef) -> usize {
    match (values.data_type(), ends(values)) {
        (_, Some([first, .., last])) => (last - first) as usize,
        (DataType::FixedSizeBinary(bytes), _) => *bytes as usize * values.len(),
        _ => 0,
    }
}

/// The rows of a text or bytes column that are longer than `bytes_max`, with their bytes.
fn longer(values: &ArrayRef, bytes_max: usize) -> Vec<(usize, usize)> {
    match (values.data_type(), ends(values)) {
        (_, Some(ends)) if values_bytes(values) > bytes_max => {
            let lengths = ends.windows(2).map(|ends| (ends[1] - ends[0]) as usize);
            lengths.enumerate().filter(|(_, bytes)| *bytes > bytes_max).collect()
        }
        (DataType::FixedSizeBinary(bytes), _) if *bytes as usize > bytes_max => {
            (0..values.len()).map(|row| (row, *bytes as usize)).collect()
        }
        _ => Vec::new(),
    }
}

/// Where the values of a column of texts or bytes begin, and the last one ends.
fn ends(values: &ArrayRef) -> Option<&[i32]> {
    match values.data_type() {
        DataType::Utf8 => Some(values.as_string::<i32>().value_offsets()),
        DataType::Binary => Some(values.as_binary::<i32>().value_offsets()),
        _ => None,
    }
}
