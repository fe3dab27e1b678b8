//! A seeded fleet of devices: who measures next, when, and how disorderly its readings arrive.
//!
//! Everything is drawn from one generator in one order, so a seed fixes every byte.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::error::Error;
use super::maker::Facts;
use super::shape::Shape;
use super::stream::Reading;

/// How a fleet behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetSettings {
    /// Number of devices, above zero.
    pub devices: u32,
    /// Microseconds of event time between two readings of one device, above zero.
    pub interval_us: i64,
    /// Share of readings whose event time lies up to `out_of_order_us` back, 0 to 1.
    pub out_of_order: f64,
    /// How far back an out-of-order reading lies at most, in microseconds.
    pub out_of_order_us: i64,
    /// Share of readings that come late, 0 to 1.
    pub late: f64,
    /// How far back a late reading lies at least (and twice that at most), in microseconds.
    pub late_us: i64,
    /// Share of readings of a device with a low battery, 0 to 1.
    pub low_battery: f64,
}

impl Default for FleetSettings {
    /// Ten devices every five seconds, as the zoo's tags; 10 % up to 10 s out of order, 1 % low battery, none late.
    fn default() -> Self {
        Self {
            devices: 10,
            interval_us: 5_000_000,
            out_of_order: 0.1,
            out_of_order_us: 10_000_000,
            late: 0.0,
            late_us: 300_000_000,
            low_battery: 0.01,
        }
    }
}

impl FleetSettings {
    fn check(&self) -> Result<(), Error> {
        let refuse = |setting, why: &str| Err(Error::Setting { setting, why: why.into() });
        if self.devices == 0 {
            return refuse("devices", "must be above zero");
        }
        if self.interval_us <= 0 {
            return refuse("interval", "must be above zero");
        }
        if self.late > 0.0 && self.late_us <= 0 {
            return refuse("late by", "must be above zero");
        }
        for (setting, share) in [("out of order", self.out_of_order), ("late", self.late), ("low battery", self.low_battery)] {
            if !(0.0..=1.0).contains(&share) {
                return refuse(setting, "is a share and must lie between 0 and 1");
            }
        }
        if self.out_of_order + self.late > 1.0 {
            return refuse("late", "together with out of order must not exceed 1");
        }
        Ok(())
    }

    /// Event time that `records` readings cover, in microseconds.
    pub fn span_us(&self, records: u64) -> i64 {
        let span = i128::from(records) * i128::from(self.interval_us) / i128::from(self.devices.max(1));
        i64::try_from(span).unwrap_or(i64::MAX)
    }
}

/// The readings of a fleet, without end.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    names: DeviceNames,
    base_us: i64,
    next: u64,
    rng: Pcg64,
}

impl Fleet {
    /// A fleet whose first reading is at `base_us`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of its range.
    pub fn new(settings: FleetSettings, key: &str, seed: u64, base_us: i64) -> Result<Self, Error> {
        settings.check()?;
        Ok(Self { settings, names: DeviceNames::new(key, seed), base_us, next: 0, rng: Pcg64::seed_from_u64(seed) })
    }

    /// Overwrites `reading` with the next one.
    pub fn read(&mut self, shape: &Shape, reading: &mut Reading) {
        let time_us = self.base_us.saturating_add(self.settings.span_us(self.next));
        let index = (self.next % u64::from(self.settings.devices)) as u32;
        self.next += 1;

        reading.key = self.names.name(index);
        reading.time_us = time_us;
        let facts = Facts {
            device: &reading.key,
            phase: f64::from(scrambled(index)) / f64::from(u32::MAX) * std::f64::consts::TAU,
            event_us: time_us.saturating_sub(self.delay_us()),
            is_low: self.rng.random::<f64>() < self.settings.low_battery,
        };
        for (place, (field, (_, value))) in shape.fields.iter().zip(&mut reading.record).enumerate() {
            *value = field.maker.make(&facts, place, &mut self.rng);
        }
    }

    fn delay_us(&mut self) -> i64 {
        let settings = &self.settings;
        let draw: f64 = self.rng.random();
        if draw < settings.late {
            return self.rng.random_range(settings.late_us..=settings.late_us.saturating_mul(2));
        }
        if draw < settings.late + settings.out_of_order {
            return self.rng.random_range(0..=settings.out_of_order_us.max(0));
        }
        0
    }
}

/// Gives devices their ids: MAC addresses where the key column speaks of a device, else the column's stem and a number.
///
/// Fleets whose seeds differ by less than 256 never share an id: one key in two topics would be refused (KEY-1).
#[derive(Debug)]
struct DeviceNames {
    fleet: u8,
    stem: Option<String>,
}

impl DeviceNames {
    fn new(key: &str, seed: u64) -> Self {
        let is_device = key.starts_with("dev_") || key.starts_with("device") || key == "mac";
        let stem = key.trim_end_matches("_id").to_owned();
        Self { fleet: (seed & 0xff) as u8, stem: (!is_device).then_some(stem) }
    }

    fn name(&self, index: u32) -> String {
        match &self.stem {
            Some(stem) => format!("{stem}-{}-{index}", self.fleet),
            None => {
                let [a, b, c, d] = scrambled(index).to_be_bytes();
                format!("C2:{:02X}:{a:02X}:{b:02X}:{c:02X}:{d:02X}", self.fleet)
            }
        }
    }
}

/// A one-to-one scattering of 32-bit numbers (multiplication by an odd number), so that ids look like ids.
fn scrambled(index: u32) -> u32 {
    index.wrapping_add(1).wrapping_mul(0x9E37_79B1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn two_fleets_share_no_device() {
        let ids = |seed| (0..5_000).map(move |index| DeviceNames::new("dev_id", seed).name(index));

        let all: BTreeSet<String> = ids(7).chain(ids(8)).collect();

        assert_eq!(all.len(), 10_000);
        assert_eq!(all.first().map(String::len), Some("C2:9A:9F:E5:58:27".len()));
    }

    #[test]
    fn other_keys_get_their_columns_stem() {
        assert_eq!(DeviceNames::new("machine_id", 1).name(3), "machine-1-3");
    }

    #[test]
    fn a_share_above_one_is_refused_by_name() {
        let settings = FleetSettings { late: 0.95, ..FleetSettings::default() };

        let error = Fleet::new(settings, "dev_id", 1, 0).expect_err("late + out of order > 1").to_string();

        assert_eq!(error, "emulation setting late: together with out of order must not exceed 1");
    }
}
