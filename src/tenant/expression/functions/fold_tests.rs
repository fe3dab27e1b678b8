use super::float_sum::FloatSum;
use super::running::Fold;
use super::variance::Variance;

fn folded<F: Fold>(values: &[f64]) -> F {
    let mut fold = F::default();
    for value in values {
        fold.add(*value);
    }
    fold
}

#[test]
fn c77_what_a_large_sum_rounds_off_is_not_lost() {
    assert_eq!(folded::<FloatSum>(&[1e16, 1.0, 1.0, -1e16]).sum(), Some(2.0));
    assert_eq!(folded::<FloatSum>(&[1e16, 1.0, 1.0, -1e16]).average(), Some(0.5));
    assert_eq!(folded::<FloatSum>(&[0.1; 10]).sum(), Some(1.0));
}

#[test]
fn infinities_and_nan_stay_what_they_are() {
    assert_eq!(folded::<FloatSum>(&[1.0, f64::INFINITY, 1.0]).sum(), Some(f64::INFINITY));
    assert_eq!(folded::<FloatSum>(&[f64::MAX, f64::MAX]).sum(), Some(f64::INFINITY));
    assert!(folded::<FloatSum>(&[f64::INFINITY, f64::NEG_INFINITY]).sum().is_some_and(f64::is_nan));
}

#[test]
fn sums_of_nothing_are_null() {
    assert_eq!(folded::<FloatSum>(&[]).sum(), None);
    assert_eq!(folded::<FloatSum>(&[]).average(), None);
    assert_eq!(folded::<Variance>(&[]).population(), None);
    assert_eq!(folded::<Variance>(&[3.0]).sample(), None);
    assert_eq!(folded::<Variance>(&[3.0]).population(), Some(0.0));
}

#[test]
fn variances_are_those_of_the_textbook() {
    let values = folded::<Variance>(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
    assert_eq!((values.population(), values.population_deviation()), (Some(4.0), Some(2.0)));
    assert_eq!(values.sample(), Some(32.0 / 7.0));
}

#[test]
fn two_halves_have_nearly_the_variance_of_the_whole() {
    let mut halves = folded::<Variance>(&[2.0, 4.0, 4.0]);
    halves.absorb(folded(&[4.0, 5.0, 5.0, 7.0, 9.0]));
    let population = halves.population().expect("there are values");
    assert!((population - 4.0).abs() < 1e-12, "{population}");
}
