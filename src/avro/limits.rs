//! Bounds on what strangers' schemas and datums may ask of us. Each is checked before the work it bounds.

/// Bounds on a schema's JSON text, together with the texts it refers to, checked before anything is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaLimits {
    /// Length of the text in bytes.
    pub bytes_max: usize,
    /// Nesting of JSON objects and arrays, summed over the texts. Parsers recurse on it, so it bounds the stack.
    pub depth_max: usize,
    /// JSON objects: every field and every named type is one.
    pub objects_max: usize,
    /// JSON texts: every name, alias and symbol is one.
    pub texts_max: usize,
    /// Longest name or namespace, in bytes: a parser repeats the namespace in every name below it.
    pub name_bytes_max: usize,
}

impl Default for SchemaLimits {
    /// Well above the largest schemas seen in registries (hundreds of fields, twenty levels), well below what hurts.
    fn default() -> Self {
        Self { bytes_max: 1 << 20, depth_max: 96, objects_max: 10_000, texts_max: 100_000, name_bytes_max: 512 }
    }
}

/// Bounds on one datum, checked while it is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatumLimits {
    /// Longest text or bytes value, in bytes.
    pub string_bytes_max: usize,
    /// Array and map entries and fields of nested records, all together.
    pub items_max: usize,
    /// The same in proportion to the datum: items that take no bytes (nulls, empty records) cannot unfold a small datum into
    /// a large one. Honest data needs one item per byte and nesting level.
    pub items_per_byte: usize,
    /// Nesting of records, arrays and maps. Inspection recurses on it.
    pub depth_max: usize,
    /// Longest datum that a value of another format may become, in bytes.
    pub transcoded_bytes_max: usize,
}

impl Default for DatumLimits {
    fn default() -> Self {
        Self { string_bytes_max: 1 << 20, items_max: 1 << 20, items_per_byte: 4, depth_max: 64, transcoded_bytes_max: 64 << 20 }
    }
}

impl DatumLimits {
    /// Items that every datum may have, however short it is.
    const ITEMS_FREE: usize = 64;

    /// Bytes that every transcoded datum may have: absent fields take bytes in Avro.
    const TRANSCODED_FREE: usize = 64 << 10;

    /// Bytes of a transcoded datum for each of its value's. The digit and the comma of `1,` are eight bytes as a double.
    const TRANSCODED_PER_BYTE: usize = 16;

    /// For parts of a datum that was inspected as a whole.
    pub(super) const NONE: Self = Self {
        string_bytes_max: usize::MAX,
        items_max: usize::MAX,
        items_per_byte: usize::MAX,
        depth_max: usize::MAX,
        transcoded_bytes_max: usize::MAX,
    };

    /// The bytes that a value of another format, which has `bytes`, may have as a datum.
    pub(super) fn datum_bytes_of(&self, bytes: usize) -> usize {
        bytes.saturating_mul(Self::TRANSCODED_PER_BYTE).saturating_add(Self::TRANSCODED_FREE).min(self.transcoded_bytes_max)
    }

    /// The items that a datum of `bytes` may hold.
    pub(super) fn items_of(&self, bytes: usize) -> usize {
        bytes.saturating_mul(self.items_per_byte).saturating_add(Self::ITEMS_FREE).min(self.items_max)
    }
}
