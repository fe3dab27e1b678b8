//! What sensors plausibly measure, by field name: the zoo's tags and common machine sensors; anything else gets a default.

/// Between which values a measurement lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Smallest usual value.
    pub low: f64,
    /// Largest usual value.
    pub high: f64,
    /// The band of a device whose battery is low, for the fields that tell it.
    pub low_battery: Option<(f64, f64)>,
}

impl Range {
    const fn new(low: f64, high: f64) -> Self {
        Self { low, high, low_battery: None }
    }
}

/// For names that the table does not know.
pub const DEFAULT: Range = Range::new(0.0, 100.0);

/// Names (or their beginnings up to an underscore) and ranges; the first match counts.
///
/// # Source
/// RuuviTag readings of the Korkeasaari tortoises: mG, mV, %RH, hPa, °C.
const TABLE: [(&str, Range); 19] = [
    ("acceleration_x", Range::new(200.0, 240.0)),
    ("acceleration_y", Range::new(-430.0, -400.0)),
    ("acceleration_z", Range::new(930.0, 960.0)),
    ("acceleration", Range::new(1_040.0, 1_070.0)),
    ("battery", Range { low: 2_900.0, high: 3_000.0, low_battery: Some((1_000.0, 1_999.0)) }),
    ("humidity", Range::new(20.0, 45.0)),
    ("pressure", Range::new(990.0, 1_035.0)),
    ("temperature", Range::new(15.0, 35.0)),
    ("vibration", Range::new(0.2, 12.0)),
    ("velocity", Range::new(0.2, 12.0)),
    ("frequency", Range::new(10.0, 200.0)),
    ("rotation", Range::new(900.0, 1_800.0)),
    ("bearing_temperature", Range::new(40.0, 95.0)),
    ("rpm", Range::new(900.0, 1_800.0)),
    ("speed", Range::new(900.0, 1_800.0)),
    ("current", Range::new(2.0, 40.0)),
    ("voltage", Range::new(380.0, 420.0)),
    ("power", Range::new(1.0, 75.0)),
    ("load", Range::new(0.0, 100.0)),
];

/// The range of a field.
pub fn range_of(field: &str) -> Range {
    let matches = |name: &str| field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    TABLE.iter().find(|(name, _)| matches(name)).map_or(DEFAULT, |(_, range)| *range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_stands_first_and_units_may_follow() {
        assert_eq!(range_of("acceleration_y").high, -400.0);
        assert_eq!(range_of("acceleration").low, 1_040.0);
        assert_eq!(range_of("vibration_mm_s").high, 12.0);
        assert_eq!(range_of("powerful"), DEFAULT);
    }
}
