//! Relevance feedback by Rocchio's formula: a query moves towards what was liked and away from what
//! was disliked.

use crate::matrix::{dot, normalise};

/// Weight of the mean of what was liked; the query's own is 1. This and the next are the values
/// that Manning, Raghavan and Schütze (*Introduction to Information Retrieval*, section 9.1) give.
pub const LIKED: f32 = 0.75;

/// Weight of the mean of what was disliked.
pub const DISLIKED: f32 = 0.15;

/// The moved query [dims], of length 1: query + 0.75 · mean(liked) − 0.15 · mean(disliked), all
/// scaled to length 1 first. `liked` and `disliked` are [n, dims], row by row; rows of zeros have no
/// direction and do not count. None where nothing is left but zeros.
///
/// # Panics
/// If `liked` or `disliked` is no whole number of rows.
pub fn moved(query: &[f32], liked: &[f32], disliked: &[f32]) -> Option<Vec<f32>> {
    let mut sum = query.to_vec();
    normalise(&mut sum);
    for (rows, weight) in [(liked, LIKED), (disliked, -DISLIKED)] {
        if let Some(mean) = mean(rows, query.len()) {
            sum.iter_mut().zip(mean).for_each(|(sum, x)| *sum += weight * x);
        }
    }
    normalise(&mut sum);
    (dot(&sum, &sum) > 0.0).then_some(sum)
}

/// The mean of the rows' directions.
fn mean(rows: &[f32], dims: usize) -> Option<Vec<f32>> {
    if rows.is_empty() {
        return None;
    }
    assert!(dims > 0 && rows.len().is_multiple_of(dims), "rows of {dims} dimensions");
    let mut sum = vec![0.0; dims];
    let mut count = 0.0;
    for row in rows.chunks_exact(dims) {
        let mut row = row.to_vec();
        normalise(&mut row);
        if row.iter().any(|&x| x != 0.0) {
            count += 1.0;
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
    }
    (count > 0.0).then(|| sum.into_iter().map(|x| x / count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: &[f32], expected: &[f32]) {
        let far = found.iter().zip(expected).any(|(a, b)| (a - b).abs() > 1e-6);
        assert!(!far && found.len() == expected.len(), "{found:?} is not {expected:?}");
    }

    #[test]
    fn no_feedback_leaves_the_direction() {
        assert_near(&moved(&[3.0, 4.0], &[], &[]).unwrap(), &[0.6, 0.8]);
        assert_near(&moved(&[3.0, 4.0], &[0.0, 0.0], &[0.0, 0.0]).unwrap(), &[0.6, 0.8]);
    }

    #[test]
    fn the_formula() {
        // (1, 0) + 0.75 · (0, 1) − 0.15 · (−1, 0), with lengths that must not matter.
        let found = moved(&[2.0, 0.0], &[0.0, 5.0, 0.0, 0.1, 0.0, 0.0], &[-9.0, 0.0]).unwrap();
        let norm = (1.15_f32 * 1.15 + 0.75 * 0.75).sqrt();
        assert_near(&found, &[1.15 / norm, 0.75 / norm]);
    }

    #[test]
    fn nothing_left_is_no_query() {
        assert_eq!(moved(&[0.0, 0.0], &[], &[]), None);
        assert_eq!(moved(&[0.0, 0.0], &[1.0, 0.0, -1.0, 0.0], &[]), None);
        assert_near(&moved(&[0.0, 0.0], &[], &[2.0, 0.0]).unwrap(), &[-1.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "rows of 2 dimensions")]
    fn part_of_a_row_is_refused() {
        moved(&[1.0, 0.0], &[1.0], &[]);
    }
}
