//! Scalars as they are meant.

use super::body::{Body, Flaw};
use super::plan::{Kind, Wire};
use super::{Walked, boxed};

/// Takes a number that stands in a way of its own on the wire.
#[inline]
pub(super) fn number(wire: Wire, body: &mut Body<'_>) -> Result<u64, Flaw> {
    match wire {
        Wire::Fixed32 => body.fixed32().map(u64::from),
        Wire::Fixed64 => body.fixed64(),
        _ => body.varint(),
    }
}

/// How many values a packed run holds, if it is whole.
pub(super) fn elements(kind: Kind, packed: &[u8]) -> usize {
    match kind.wire() {
        Wire::Fixed32 => packed.len() / 4,
        Wire::Fixed64 => packed.len() / 8,
        _ => packed.iter().filter(|byte| **byte < 0x80).count(),
    }
}

/// A whole number as it is meant. Numbers of 32 bits may be written with more, which are cut off, as Protobuf has it.
pub(super) fn whole(kind: Kind, number: u64) -> Walked<i64> {
    let low = number as u32;
    match kind {
        Kind::Int32 | Kind::Sfixed32 => Ok(i64::from(low as i32)),
        Kind::Sint32 => Ok(i64::from((low >> 1) as i32 ^ -((low & 1) as i32))),
        Kind::Uint32 | Kind::Fixed32 => Ok(i64::from(low)),
        Kind::Sint64 => Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed()),
        Kind::Uint64 | Kind::Fixed64 => {
            i64::try_from(number).map_err(|_| boxed("out-of-range", format!("{number} is beyond {}, the largest long", i64::MAX)))
        }
        Kind::Bool => Ok(i64::from(number != 0)),
        _ => Ok(number.cast_signed()),
    }
}

/// Microseconds since 1970, nanoseconds cut off.
///
/// # Source
/// `google/protobuf/timestamp.proto`: years 1 to 9999, nanoseconds 0 to 999,999,999 counting forward.
pub(super) fn micros(seconds: i64, nanos: i32) -> Walked<i64> {
    const YEAR_1_S: i64 = -62_135_596_800;
    const YEAR_9999_END_S: i64 = 253_402_300_799;
    match (YEAR_1_S..=YEAR_9999_END_S).contains(&seconds) && (0..1_000_000_000).contains(&nanos) {
        true => Ok(seconds * 1_000_000 + i64::from(nanos / 1_000)),
        false => Err(boxed("out-of-range", format!("{seconds} seconds and {nanos} nanoseconds are no timestamp of the years 1 to 9999"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_32_bits_are_cut_and_those_of_64_are_not() {
        assert_eq!(whole(Kind::Int32, u64::MAX), Ok(-1));
        assert_eq!(whole(Kind::Int32, 0xff_0000_0007), Ok(7));
        assert_eq!(whole(Kind::Sint32, 3), Ok(-2));
        assert_eq!(whole(Kind::Uint32, u64::from(u32::MAX)), Ok(4_294_967_295));
        assert_eq!(whole(Kind::Sint64, u64::MAX), Ok(i64::MIN));
        assert_eq!(whole(Kind::Int64, u64::MAX), Ok(-1));
        assert_eq!(whole(Kind::Uint64, u64::MAX).map_err(|fault| fault.reason), Err("out-of-range"));
    }

    #[test]
    fn a_timestamp_keeps_its_microseconds_and_loses_the_rest() {
        assert_eq!(micros(1, 999_999_999), Ok(1_999_999));
        assert_eq!(micros(-1, 1_000), Ok(-999_999), "nanoseconds count forward");
        assert_eq!(micros(253_402_300_799, 999_999_999), Ok(253_402_300_799_999_999));
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (253_402_300_800, 0), (-62_135_596_801, 0), (i64::MAX, 0)] {
            assert_eq!(micros(seconds, nanos).map_err(|fault| fault.reason), Err("out-of-range"), "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_packed_run_is_counted_as_it_is_read() {
        assert_eq!(elements(Kind::Int64, &[1, 0x96, 0x01, 0x05]), 3);
        assert_eq!(elements(Kind::Float, &[0; 12]), 3);
        assert_eq!(elements(Kind::Double, &[0; 16]), 2);
    }
}
