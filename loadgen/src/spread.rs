//! Several values of one figure, told by the middle one and the two at the ends.

use serde::Serialize;

/// The median of several values and their range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Spread {
    /// None of no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, lowest, highest })
    }

    /// The ratio of the medians, between the furthest that any two runs are apart.
    pub(crate) fn over(self, base: Self) -> Option<Self> {
        (base.lowest > 0.0).then(|| Self {
            median: self.median / base.median,
            lowest: self.lowest / base.highest,
            highest: self.highest / base.lowest,
        })
    }

    /// Whether all values are the same.
    pub(crate) fn is_point(self) -> bool {
        self.lowest == self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_or_between_the_two_middle_ones() {
        let spread = Spread::of(vec![9.0, 1.0, 2.0]);
        assert_eq!(spread, Some(Spread { median: 2.0, lowest: 1.0, highest: 9.0 }));
        let even = Spread::of(vec![4.0, 1.0, 2.0, 9.0]);
        assert_eq!(even, Some(Spread { median: 3.0, lowest: 1.0, highest: 9.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn spread_is_a_point_if_all_values_are_the_same() {
        assert!(Spread::of(vec![2.0, 2.0]).is_some_and(Spread::is_point));
        assert!(!Spread::of(vec![2.0, 3.0]).is_some_and(Spread::is_point));
    }

    #[test]
    fn ratio_is_as_wide_as_two_runs_can_be_apart() {
        let spread = |values: &[f64]| Spread::of(values.to_vec()).unwrap();
        let ratio = spread(&[6.0, 8.0, 12.0]).over(spread(&[2.0, 4.0])).unwrap();
        assert_eq!((ratio.lowest, ratio.median, ratio.highest), (1.5, 8.0 / 3.0, 6.0));
        assert_eq!(spread(&[1.0]).over(spread(&[0.0, 4.0])), None);
    }
}
