//! `var`, `var_pop`, `stddev`, `stddev_pop`: a running mean and sum of squared distances from it.
//!
//! The state is count, mean and that sum (`m2`). DataFusion keeps the same three, but merges a state into an empty group as mean · n / n,
//! which rounds: resumed there, a variance depends on where it was interrupted (DET-1).
//!
//! # Source
//!
//! B. P. Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4 (1962); for
//! [`Fold::absorb`], T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).

use super::running::Fold;

/// A running variance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variance {
    count: i64,
    mean: f64,
    m2: f64,
}

impl Variance {
    /// The sample variance, none of fewer than two values.
    pub fn sample(&self) -> Option<f64> {
        (self.count > 1).then(|| self.m2 / (self.count - 1) as f64)
    }

    /// The population variance, none of no values.
    pub fn population(&self) -> Option<f64> {
        (self.count > 0).then(|| self.m2 / self.count as f64)
    }

    /// The root of [`Self::sample`].
    pub fn sample_deviation(&self) -> Option<f64> {
        self.sample().map(f64::sqrt)
    }

    /// The root of [`Self::population`].
    pub fn population_deviation(&self) -> Option<f64> {
        self.population().map(f64::sqrt)
    }
}

impl Fold for Variance {
    const PARTS: [&'static str; 2] = ["mean", "m2"];

    fn add(&mut self, value: f64) {
        self.count += 1;
        let distance = value - self.mean;
        self.mean += distance / self.count as f64;
        self.m2 += distance * (value - self.mean);
    }

    fn absorb(&mut self, other: Self) {
        let count = self.count + other.count;
        let distance = other.mean - self.mean;
        let share = other.count as f64 / count as f64;
        self.mean += distance * share;
        self.m2 += other.m2 + distance * distance * self.count as f64 * share;
        self.count = count;
    }

    fn state(&self) -> (i64, [f64; 2]) {
        (self.count, [self.mean, self.m2])
    }

    fn from_state(count: i64, [mean, m2]: [f64; 2]) -> Self {
        Self { count, mean, m2 }
    }
}
