//! All key bytes of store and changelog are made and read here.
//!
//! A window's entry: `'w' ‖ store (u32) ‖ partition (u32) ‖ window start (i64) ‖ key`, numbers big endian, the start's sign
//! bit flipped, so that bytes sort as values do and closing windows is a range scan. The changelog's key is the part from
//! the start on, behind a tag.
//!
//! A window's key is a tuple of parts. Text: tag 1, its bytes with 00 written as 00 FF, then 00: no separator in the data can
//! merge two keys (ksql#6101), and no key is a prefix of another (quix-streams#1123). Integers: tag 2, eight bytes.
//!
//! # Source
//! The FoundationDB tuple layer, for the escape that keeps order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, Int64Builder, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;

const TAG_TEXT: u8 = 1;
const TAG_INTEGER: u8 = 2;
const WINDOW: u8 = b'w';
const CHANGELOG_PROGRESS: u8 = 0;
const CHANGELOG_WINDOW: u8 = 1;

/// The key columns of a batch, in the two physical forms that keys have.
pub struct KeyColumns {
    parts: Vec<KeyColumn>,
}

enum KeyColumn {
    Text(ArrayRef),
    Integer(Int64Array),
}

impl KeyColumns {
    /// Prepares the columns of a batch.
    ///
    /// # Errors
    /// When a column has a type that keys cannot have; `check` refuses such tenants.
    pub fn new(columns: &[ArrayRef]) -> Result<Self, ArrowError> {
        let parts = columns.iter().map(|column| match is_text(column.data_type()) {
            true => Ok(KeyColumn::Text(cast(column, &DataType::Utf8)?)),
            false => Ok(KeyColumn::Integer(cast_to_integer(column)?)),
        });
        Ok(Self { parts: parts.collect::<Result<_, ArrowError>>()? })
    }

    /// Appends the key of `row` to `bytes`; `false`, with `bytes` as before, when a part is null.
    pub fn append(&self, row: usize, bytes: &mut Vec<u8>) -> bool {
        let before = bytes.len();
        for part in &self.parts {
            let is_null = match part {
                KeyColumn::Text(column) => column.is_null(row),
                KeyColumn::Integer(column) => column.is_null(row),
            };
            if is_null {
                bytes.truncate(before);
                return false;
            }
            match part {
                KeyColumn::Text(column) => append_text(column.as_string::<i32>().value(row), bytes),
                KeyColumn::Integer(column) => append_integer(column.value(row), bytes),
            }
        }
        true
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn cast_to_integer(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let through = match column.data_type() {
        // There is no direct cast from dates and booleans of every width.
        DataType::Date32 | DataType::Boolean => cast(column, &DataType::Int32)?,
        _ => column.clone(),
    };
    Ok(cast(&through, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn append_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(TAG_TEXT);
    let mut rest = text.as_bytes();
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        bytes.extend_from_slice(&rest[..=zero]);
        bytes.push(0xff);
        rest = &rest[zero + 1..];
    }
    bytes.extend_from_slice(rest);
    bytes.push(0);
}

fn append_integer(number: i64, bytes: &mut Vec<u8>) {
    bytes.push(TAG_INTEGER);
    bytes.extend_from_slice(&ordered(number));
}

fn ordered(number: i64) -> [u8; 8] {
    ((number as u64) ^ (1 << 63)).to_be_bytes()
}

fn number(ordered: [u8; 8]) -> i64 {
    (u64::from_be_bytes(ordered) ^ (1 << 63)) as i64
}

/// A part of a decoded key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// A text.
    Text(String),
    /// An integer, boolean, date or timestamp.
    Integer(i64),
}

/// The parts of a key; `None` when the bytes are not a key.
pub fn parts(mut key: &[u8]) -> Option<Vec<KeyPart>> {
    let mut parts = Vec::new();
    while let Some((tag, rest)) = key.split_first() {
        key = match *tag {
            TAG_TEXT => {
                let (text, rest) = read_text(rest)?;
                parts.push(KeyPart::Text(text));
                rest
            }
            TAG_INTEGER => {
                let (bytes, rest) = rest.split_first_chunk::<8>()?;
                parts.push(KeyPart::Integer(number(*bytes)));
                rest
            }
            _ => return None,
        };
    }
    Some(parts)
}

fn read_text(mut rest: &[u8]) -> Option<(String, &[u8])> {
    let mut text = Vec::new();
    loop {
        let zero = rest.iter().position(|byte| *byte == 0)?;
        text.extend_from_slice(&rest[..zero]);
        match rest.get(zero + 1) {
            Some(0xff) => {
                text.push(0);
                rest = &rest[zero + 2..];
            }
            _ => return Some((String::from_utf8(text).ok()?, &rest[zero + 1..])),
        }
    }
}

/// Keys back into columns of `types`.
///
/// # Errors
/// When the bytes are not keys of these types: the store holds something else than its identity says.
pub fn columns<'a>(keys: impl Iterator<Item = &'a [u8]>, types: &[DataType]) -> Result<Vec<ArrayRef>, ArrowError> {
    let mut texts: Vec<Option<StringBuilder>> = types.iter().map(|data_type| is_text(data_type).then(StringBuilder::new)).collect();
    let mut integers: Vec<Int64Builder> = types.iter().map(|_| Int64Builder::new()).collect();
    let damaged = || ArrowError::InvalidArgumentError("key bytes do not fit the window's key columns".into());
    for key in keys {
        let parts = parts(key).filter(|parts| parts.len() == types.len()).ok_or_else(damaged)?;
        for (column, part) in parts.into_iter().enumerate() {
            match (part, &mut texts[column]) {
                (KeyPart::Text(text), Some(builder)) => builder.append_value(text),
                (KeyPart::Integer(number), None) => integers[column].append_value(number),
                _ => return Err(damaged()),
            }
        }
    }
    let arrays = types.iter().enumerate().map(|(column, data_type)| match texts[column].take() {
        Some(mut builder) => cast(&(Arc::new(builder.finish()) as ArrayRef), data_type),
        None => cast_from_integer(&(Arc::new(integers[column].finish()) as ArrayRef), data_type),
    });
    arrays.collect()
}

fn cast_from_integer(integers: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match data_type {
        DataType::Date32 => cast(&cast(integers, &DataType::Int32)?, data_type),
        _ => cast(integers, data_type),
    }
}

/// The store's key of one window.
pub fn window_key(store: u32, partition: i32, start_us: i64, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(WINDOW_KEY_AT + key.len());
    append_window_key(&mut bytes, store, partition, start_us, key);
    bytes
}

/// Appends the store's key of one window.
pub fn append_window_key(bytes: &mut Vec<u8>, store: u32, partition: i32, start_us: i64, key: &[u8]) {
    bytes.push(WINDOW);
    bytes.extend_from_slice(&store.to_be_bytes());
    bytes.extend_from_slice(&(partition as u32).to_be_bytes());
    bytes.extend_from_slice(&ordered(start_us));
    bytes.extend_from_slice(key);
}

/// Where a window's key begins in the store's key.
const WINDOW_KEY_AT: usize = 1 + 4 + 4 + 8;

/// The parts of a store's key of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowKey<'a> {
    /// Number of the store.
    pub store: u32,
    /// Input partition.
    pub partition: i32,
    /// Window start in microseconds since 1970.
    pub start_us: i64,
    /// The window's key.
    pub key: &'a [u8],
}

/// Reads a store's key of a window; `None` when it is something else.
pub fn read_window_key(bytes: &[u8]) -> Option<WindowKey<'_>> {
    let rest = bytes.strip_prefix(&[WINDOW])?;
    let (store, rest) = rest.split_first_chunk::<4>()?;
    let (partition, rest) = rest.split_first_chunk::<4>()?;
    let (start, key) = rest.split_first_chunk::<8>()?;
    Some(WindowKey { store: u32::from_be_bytes(*store), partition: u32::from_be_bytes(*partition) as i32, start_us: number(*start), key })
}

/// The changelog's key of one window.
pub fn changelog_key(start_us: i64, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 8 + key.len());
    append_changelog_key(&mut bytes, start_us, key);
    bytes
}

/// Appends the changelog's key of one window.
pub fn append_changelog_key(bytes: &mut Vec<u8>, start_us: i64, key: &[u8]) {
    bytes.push(CHANGELOG_WINDOW);
    bytes.extend_from_slice(&ordered(start_us));
    bytes.extend_from_slice(key);
}

/// The changelog's key of its progress record.
pub fn changelog_progress_key() -> Vec<u8> {
    vec![CHANGELOG_PROGRESS]
}

/// What a changelog record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangelogKey<'a> {
    /// Stream time and input position of the partition.
    Progress,
    /// The state of one window.
    Window {
        /// Window start in microseconds since 1970.
        start_us: i64,
        /// The window's key.
        key: &'a [u8],
    },
}

/// Reads a changelog's key; `None` when it is not one of ours.
pub fn read_changelog_key(bytes: &[u8]) -> Option<ChangelogKey<'_>> {
    match bytes.split_first()? {
        (&CHANGELOG_PROGRESS, []) => Some(ChangelogKey::Progress),
        (&CHANGELOG_WINDOW, rest) => {
            let (start, key) = rest.split_first_chunk::<8>()?;
            Some(ChangelogKey::Window { start_us: number(*start), key })
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
