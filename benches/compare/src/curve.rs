//! Interpolation: how many queries a second at a given recall, between the points of a sweep. The
//! ratios stand on this alone.

/// Recall and rate of one setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub recall: f64,
    pub per_second: f64,
}

/// The samples that no other beats in both, from low recall (fast) to high (slow).
pub fn front(samples: &[Sample]) -> Vec<Sample> {
    let mut sorted = samples.to_vec();
    sorted
        .sort_by(|a, b| b.recall.total_cmp(&a.recall).then(b.per_second.total_cmp(&a.per_second)));
    let mut front: Vec<Sample> = Vec::new();
    for sample in sorted {
        if front.last().is_none_or(|last| sample.per_second > last.per_second) {
            front.push(sample);
        }
    }
    front.reverse();
    front
}

/// Queries a second at `recall`, linear in recall and in the logarithm of the rate between the two
/// neighbours on the front. Where even the fastest setting is more accurate, its rate; `None` where
/// no setting reaches `recall`.
pub fn rate_at(samples: &[Sample], recall: f64) -> Option<f64> {
    let front = front(samples);
    let above = front.iter().position(|sample| sample.recall >= recall)?;
    let high = front[above];
    let Some(low) = above.checked_sub(1).map(|at| front[at]) else {
        return Some(high.per_second);
    };
    let share = (recall - low.recall) / (high.recall - low.recall);
    let (from, to) = (low.per_second.ln(), high.per_second.ln());
    Some((from + share * (to - from)).exp())
}

/// Which samples the interpolation at `targets` reads: those next to each from either side.
pub fn needed(recalls: &[f64], targets: &[f64]) -> Vec<bool> {
    let mut needed = vec![false; recalls.len()];
    for &target in targets {
        let below = (0..recalls.len()).filter(|&i| recalls[i] < target);
        let above = (0..recalls.len()).filter(|&i| recalls[i] >= target);
        let nearest = |a: &usize, b: &usize| recalls[*a].total_cmp(&recalls[*b]);
        for at in [below.max_by(nearest), above.min_by(nearest)].into_iter().flatten() {
            needed[at] = true;
        }
    }
    needed
}

/// The median; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Highest minus lowest, as a share of the median; `None` of fewer than two.
pub fn spread(values: &[f64]) -> Option<f64> {
    let low = values.iter().copied().min_by(f64::total_cmp)?;
    let high = values.iter().copied().max_by(f64::total_cmp)?;
    (values.len() > 1).then(|| (high - low) / median(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(points: &[(f64, f64)]) -> Vec<Sample> {
        points.iter().map(|&(recall, per_second)| Sample { recall, per_second }).collect()
    }

    #[test]
    fn between_two_points_the_rate_is_geometric() {
        let curve = samples(&[(0.9, 1000.0), (1.0, 10.0)]);
        let rate = rate_at(&curve, 0.95).unwrap();
        assert!((rate - 100.0).abs() < 1e-9, "{rate}");
        assert_eq!(rate_at(&curve, 1.0), Some(10.0_f64.ln().exp()));
    }

    #[test]
    fn what_is_not_reached_has_no_rate() {
        assert_eq!(rate_at(&samples(&[(0.5, 10.0), (0.94, 5.0)]), 0.95), None);
        assert_eq!(rate_at(&[], 0.95), None);
    }

    #[test]
    fn a_curve_that_starts_above_gives_its_fastest_point() {
        assert_eq!(rate_at(&samples(&[(0.99, 10.0), (0.97, 50.0)]), 0.95), Some(50.0));
    }

    #[test]
    fn beaten_settings_are_left_out() {
        let curve = samples(&[(0.8, 100.0), (0.9, 40.0), (0.9, 50.0), (0.85, 45.0), (0.99, 10.0)]);
        assert_eq!(front(&curve), samples(&[(0.8, 100.0), (0.9, 50.0), (0.99, 10.0)]));
    }

    #[test]
    fn neighbours_of_the_targets_are_needed() {
        let recalls = [0.5, 0.8, 0.92, 0.96, 0.97, 0.98];
        assert_eq!(needed(&recalls, &[0.95]), [false, false, true, true, false, false]);
        assert_eq!(needed(&recalls, &[0.9, 0.99]), [false, true, true, false, false, true]);
    }

    #[test]
    fn medians_and_spreads() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(spread(&[90.0, 100.0, 110.0]), Some(0.2));
        assert_eq!(spread(&[90.0]), None);
    }
}
