//! What a datum would take as bytes: the bounds of docs/semantics.md on values that are no Avro, counted on the values.

use crate::audit::datum::Datum;

const LEVELS_MAX: usize = 64;
const BLOB_BYTES_MAX: usize = 1 << 20;
const ITEMS_FREE: usize = 64;
const ITEMS_PER_BYTE: usize = 4;
const ITEMS_MAX: usize = 1 << 20;
const BYTES_FREE: usize = 64 << 10;
const BYTES_PER_BYTE: usize = 16;
const BYTES_MAX: usize = 64 << 20;

#[derive(Default)]
struct Size {
    bytes: usize,
    /// Entries of lists and maps, and fields of records in others.
    items: usize,
    longest_blob: usize,
    levels: usize,
}

/// Whether the datum of a value that has `value_bytes` is within all bounds.
pub fn is_within(datum: &Datum, value_bytes: usize) -> bool {
    let mut size = Size::default();
    size.add(datum, 0);
    let outer = if let Datum::Record(fields) = datum { fields.len() } else { 0 };
    let bytes_max = (value_bytes * BYTES_PER_BYTE + BYTES_FREE).min(BYTES_MAX);
    let items_max = (size.bytes * ITEMS_PER_BYTE + ITEMS_FREE).min(ITEMS_MAX);
    size.bytes <= bytes_max && size.items - outer <= items_max && size.longest_blob <= BLOB_BYTES_MAX && size.levels <= LEVELS_MAX
}

impl Size {
    fn add(&mut self, datum: &Datum, level: usize) {
        match datum {
            Datum::Null => {}
            Datum::Bool(_) => self.bytes += 1,
            Datum::Int(value) => self.number((*value).into()),
            Datum::Long(value) => self.number(*value),
            Datum::Float(_) => self.bytes += 4,
            Datum::Double(_) => self.bytes += 8,
            Datum::Bytes(value) => self.blob(value.len()),
            Datum::Text(value) => self.blob(value.len()),
            Datum::Enum(symbol) => self.length(*symbol),
            Datum::Union(branch, value) => {
                self.length(*branch);
                self.add(value, level);
            }
            Datum::Array(items) => {
                self.open(items.len(), level + 1);
                self.entries(items.len());
                items.iter().for_each(|item| self.add(item, level + 1));
            }
            Datum::Map(entries) => {
                self.open(entries.len(), level + 1);
                self.entries(entries.len());
                for (key, value) in entries {
                    self.blob(key.len());
                    self.add(value, level + 1);
                }
            }
            Datum::Record(fields) => {
                self.open(fields.len(), level + 1);
                fields.iter().for_each(|field| self.add(field, level + 1));
            }
        }
    }

    fn open(&mut self, items: usize, level: usize) {
        self.items += items;
        self.levels = self.levels.max(level);
    }

    /// One block with its count, and the empty one that ends them.
    fn entries(&mut self, entries: usize) {
        self.bytes += 1;
        if entries > 0 {
            self.length(entries);
        }
    }

    fn blob(&mut self, bytes: usize) {
        self.longest_blob = self.longest_blob.max(bytes);
        self.length(bytes);
        self.bytes += bytes;
    }

    fn length(&mut self, length: usize) {
        self.number(i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// A zigzag number: a byte for every seven bits.
    fn number(&mut self, value: i64) {
        let bits = 64 - ((value << 1) ^ (value >> 63)).leading_zeros();
        self.bytes += bits.div_ceil(7).max(1) as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_specification() {
        let mut size = Size::default();
        let datum = Datum::Record(vec![
            Datum::Union(1, Box::new(Datum::Text("abc".into()))),
            Datum::Array(vec![Datum::Long(-1), Datum::Long(64), Datum::Long(i64::MIN)]),
            Datum::Map(Vec::new()),
        ]);

        size.add(&datum, 0);

        assert_eq!((size.bytes, size.items, size.levels), (1 + 4 + 1 + 1 + 2 + 10 + 1 + 1, 6, 2));
    }

    #[test]
    fn a_small_value_unfolds_to_no_large_datum() {
        let nothing = Datum::Record(vec![Datum::Array(vec![Datum::Null; 1_000])]);
        let text = |bytes: usize| Datum::Record(vec![Datum::Text("x".repeat(bytes))]);

        assert!(!is_within(&nothing, 1_000));
        assert!(is_within(&text(BLOB_BYTES_MAX), BLOB_BYTES_MAX) && !is_within(&text(BLOB_BYTES_MAX + 1), BLOB_BYTES_MAX));
        assert!(is_within(&text(BYTES_FREE - 3), 0) && !is_within(&text(BYTES_FREE), 0));
    }
}
