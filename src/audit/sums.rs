//! Sums and variances of floats, each written from its published algorithm.
//!
//! Sums are Neumaier's, so that they have the same bits however the engine cut its epochs (C77); variances are Welford's.
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
