//! Tests of topics on one core and on several, without connections: random runs beside a model, and
//! single cases.

mod cases;

use crate::io::sim::SeedOnPanic;

use super::model;

#[test]
fn ps07_topics_do_what_the_model_says_whatever_happens_between_two_slices() {
    let (seeds, len_max) = if cfg!(miri) { (4, 300) } else { (2000, 1500) };
    let mut totals = model::Totals::default();
    for seed in 0..seeds {
        let _seed = SeedOnPanic(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let len = rng.usize(0..len_max);
        let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
        totals.add(&model::play(&bytes));
    }
    println!("{seeds} runs: {totals:#?}");
    let model::Totals { published, busy, delivered, lost, later, refused, from_history } = totals;
    for count in [published, busy, delivered, lost, later, refused, from_history] {
        assert!(cfg!(miri) || count as u64 > seeds / 10, "everything happens often: {totals:?}");
    }
}
