//! `sum` and `avg` of floats, with the rounding error carried along.
//!
//! A plain running sum loses every value that is small beside the sum: 1e16 + 1 + 1 − 1e16 gives 0. Neumaier's variant of Kahan's
//! summation keeps what each addition rounds off in a second double and adds it at the end: 2. Both doubles and the count are the state,
//! so that resuming from it goes on with the same bits (DET-1).
//!
//! # Source
//!
//! A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", ZAMM 54 (1974), algorithm IV.

use super::running::Fold;

/// A compensated running sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct FloatSum {
    count: i64,
    sum: f64,
    compensation: f64,
}

impl FloatSum {
    /// The sum, none of no values.
    pub fn sum(&self) -> Option<f64> {
        (self.count > 0).then(|| self.total())
    }

    /// The mean, none of no values.
    pub fn average(&self) -> Option<f64> {
        (self.count > 0).then(|| self.total() / self.count as f64)
    }

    fn total(&self) -> f64 {
        // An infinity or NaN says all; its compensation would be NaN.
        if self.sum.is_finite() { self.sum + self.compensation } else { self.sum }
    }

    fn accumulate(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_finite() {
            self.compensation += match self.sum.abs() >= value.abs() {
                true => (self.sum - total) + value,
                false => (value - total) + self.sum,
            };
        }
        self.sum = total;
    }
}

impl Fold for FloatSum {
    const PARTS: [&'static str; 2] = ["sum", "compensation"];

    fn add(&mut self, value: f64) {
        self.count += 1;
        self.accumulate(value);
    }

    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.accumulate(other.sum);
        self.compensation += other.compensation;
    }

    fn state(&self) -> (i64, [f64; 2]) {
        (self.count, [self.sum, self.compensation])
    }

    fn from_state(count: i64, [sum, compensation]: [f64; 2]) -> Self {
        Self { count, sum, compensation }
    }
}
