//! Measures of a ranking: average precision, whether something right was found, reciprocal rank.
//! Apart from whoever asks the queries, so that they can be tested on rankings written by hand.

/// Average precision at `k`: the precisions at each right place among the first `k`, summed, over
/// the smaller of `k` and the number of `relevant` rows. 0 where nothing is relevant.
pub fn average_precision(right: &[bool], relevant: usize, k: usize) -> f64 {
    let (mut hits, mut sum) = (0, 0.0);
    for (place, _) in right.iter().take(k).enumerate().filter(|&(_, &right)| right) {
        hits += 1;
        sum += f64::from(hits) / (place + 1) as f64;
    }
    match relevant.min(k) {
        0 => 0.0,
        most => sum / most as f64,
    }
}

/// Whether one of the first `k` is right.
pub fn recalled(right: &[bool], k: usize) -> bool {
    right.iter().take(k).any(|&right| right)
}

/// 1 over the place of the first that is right among `k`; 0 where none is.
pub fn reciprocal_rank(right: &[bool], k: usize) -> f64 {
    let first = right.iter().take(k).position(|&right| right);
    first.map_or(0.0, |place| 1.0 / (place + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_by_hand() {
        let right = [true, false, true, false, true];
        assert_eq!(average_precision(&right, 3, 5), (1.0 + 2.0 / 3.0 + 3.0 / 5.0) / 3.0);
        assert_eq!(average_precision(&right, 3, 2), 0.5);
        assert_eq!(average_precision(&right, 9, 1), 1.0);
        assert_eq!(average_precision(&right, 0, 5), 0.0);
        assert_eq!(average_precision(&[], 3, 5), 0.0);
        assert_eq!(average_precision(&[false; 5], 3, 5), 0.0);
    }

    #[test]
    fn the_first_right_place() {
        let right = [false, false, true, true];
        assert_eq!(reciprocal_rank(&right, 4), 1.0 / 3.0);
        assert_eq!(reciprocal_rank(&right, 2), 0.0);
        assert!(recalled(&right, 3) && !recalled(&right, 2) && !recalled(&[], 9));
    }
}
