//! Sums and variances of floats, each written from its published algorithm, and sums of whole numbers that never wrap around.
//!
//! Sums of floats are Neumaier's, so that they have the same bits however the engine cut its epochs (C77); variances are Welford's.
//!
//! # Source
//! A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen" (1974); B. P. Welford, "Note on a
//! method for calculating corrected sums of squares and products" (1962).

/// A sum and what rounding took from it.
#[derive(Clone, Copy, Debug)]
pub struct Neumaier {
    sum: f64,
    correction: f64,
    is_empty: bool,
}

impl Default for Neumaier {
    fn default() -> Self {
        Self { sum: 0.0, correction: 0.0, is_empty: true }
    }
}

impl Neumaier {
    /// Takes a number in.
    pub fn add(&mut self, number: f64) {
        let total = self.sum + number;
        self.correction += if self.sum.abs() >= number.abs() { (self.sum - total) + number } else { (number - total) + self.sum };
        self.sum = total;
        self.is_empty = false;
    }

    /// Whether no number was taken in.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The sum. An infinite or undefined sum stays what it is: the correction would turn it into NaN.
    pub fn total(&self) -> f64 {
        if self.sum.is_finite() { self.sum + self.correction } else { self.sum }
    }
}

/// A running mean and the squares of the distances from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Welford {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Welford {
    /// Takes a number in.
    pub fn add(&mut self, number: f64) {
        self.count += 1;
        let before = number - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (number - self.mean);
    }

    /// The variance or its root, none of too few numbers.
    pub fn value(&self, is_sample: bool, is_root: bool) -> Option<f64> {
        let divisor = if is_sample { self.count.saturating_sub(1) } else { self.count };
        if divisor == 0 {
            return None;
        }
        let variance = self.squares / divisor as f64;
        Some(if is_root { variance.sqrt() } else { variance })
    }
}

/// A sum of 128-bit numbers: their upper and their lower halves, each added up by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whole {
    upper: i128,
    lower: i128,
    count: u64,
}

impl Whole {
    /// Takes a number in.
    pub fn add(&mut self, number: i128) {
        self.upper += number >> 64;
        self.lower += number & i128::from(u64::MAX);
        self.count += 1;
    }

    /// How many numbers were taken in.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum times `factor` by `divisor`, cut towards zero; none of no numbers, or where 128 bits do not hold it.
    pub fn over(&self, factor: u64, divisor: u64) -> Option<i128> {
        if self.count == 0 || divisor == 0 {
            return None;
        }
        let (mut upper, mut lower) = (self.upper + (self.lower >> 64), (self.lower & i128::from(u64::MAX)) as u64);
        let is_negative = upper < 0;
        if is_negative {
            (upper, lower) = (if lower == 0 { -upper } else { !upper }, lower.wrapping_neg());
        }
        let upper = upper.unsigned_abs();
        // From the lowest on, as on paper.
        let mut digits = [lower, upper as u64, (upper >> 64) as u64, 0];
        let mut carry = 0_u128;
        for digit in &mut digits {
            carry += u128::from(*digit) * u128::from(factor);
            (*digit, carry) = (carry as u64, carry >> 64);
        }
        let mut rest = 0_u128;
        for digit in digits.iter_mut().rev() {
            rest = rest << 64 | u128::from(*digit);
            (*digit, rest) = ((rest / u128::from(divisor)) as u64, rest % u128::from(divisor));
        }
        let [low, high, 0, 0] = digits else { return None };
        let magnitude = i128::try_from(u128::from(high) << 64 | u128::from(low)).ok()?;
        Some(if is_negative { -magnitude } else { magnitude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[i128]) -> Whole {
        let mut sum = Whole::default();
        numbers.iter().for_each(|number| sum.add(*number));
        sum
    }

    #[test]
    fn whole_sums_are_exact_on_both_sides_of_zero() {
        for number in [0, 1, -1, 7, -7, i128::from(i64::MIN), 1 << 64, -(1 << 64), -(1 << 64) - 1, i128::MAX, i128::MIN + 1] {
            assert_eq!(of(&[number]).over(1, 1), Some(number));
            assert_eq!(of(&[number, number, number]).over(1, 3), Some(number), "{number}");
        }
        assert_eq!(of(&[i128::MAX, i128::MIN + 1]).over(1, 1), Some(0));
        assert_eq!((of(&[-7]).over(10, 4), of(&[7]).over(10, 4)), (Some(-17), Some(17)));
        assert_eq!((of(&[i128::MAX, 1]).over(1, 1), of(&[]).over(1, 1)), (None, None));
    }
}
