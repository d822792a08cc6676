//! The little linear algebra of re-ranking: unit rows, cosines, the first component of a Gram
//! matrix. A file of its own, since every "finite for any input" is kept here.
//!
//! Sums are taken in a fixed order with no fused operations, so that all machines agree to the bit.

/// Partial sums of an inner product: as many as the widest registers hold twice.
const LANES: usize = 16;

/// Inner product of vectors of one length.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    let mut sums = [0.0_f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Scales a row to length 1. Elements that are no finite numbers count as 0, and a row without
/// direction becomes zeros.
pub fn normalise(row: &mut [f32]) {
    row.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 0.0);
    // Below and above what squares of f32 can hold.
    let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    for x in row {
        *x = if norm > 0.0 { (f64::from(*x) / norm) as f32 } else { 0.0 };
    }
}

/// Steps of the power iteration: far more than a gap between components that matters needs.
const STEPS: usize = 256;

/// The eigenvector of the largest eigenvalue of a symmetric positive semidefinite matrix [n, n], as
/// near as [`STEPS`] steps come; within an eigenspace, what is nearest to the row of ones. Its sign
/// is arbitrary. Zeros for a matrix of zeros.
pub fn first_component(gram: &[f64], n: usize) -> Vec<f64> {
    debug_assert_eq!(gram.len(), n * n);
    // Not quite ones: two opposite rows would make zeros of ones.
    let mut vector: Vec<f64> = (0..n).map(|at| 1.0 + at as f64 / 1024.0).collect();
    for _ in 0..STEPS {
        let next: Vec<f64> = gram
            .chunks_exact(n)
            .map(|row| row.iter().zip(&vector).map(|(a, b)| a * b).sum())
            .collect();
        let norm = next.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm <= f64::MIN_POSITIVE {
            return vec![0.0; n];
        }
        vector = next.into_iter().map(|x| x / norm).collect();
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_products_of_all_lengths() {
        for len in 0..70 {
            let a: Vec<f32> = (0..len).map(|at| at as f32).collect();
            let b: Vec<f32> = (0..len).map(|at| (at % 3) as f32 - 1.0).collect();
            let expected: f32 = (0..len).map(|at| a[at] * b[at]).sum();
            assert_eq!(dot(&a, &b), expected, "{len}");
        }
    }

    #[test]
    fn rows_have_length_one_or_none() {
        let mut row = [3.0e38, f32::NAN, -3.0e38, f32::INFINITY];
        normalise(&mut row);
        let half = 0.5_f32.sqrt();
        assert_eq!(row, [half, 0.0, -half, 0.0]);
        let mut row = [1.0e-45, 0.0];
        normalise(&mut row);
        assert_eq!(row, [1.0, 0.0]);
        let mut row = [0.0, f32::NEG_INFINITY];
        normalise(&mut row);
        assert_eq!(row, [0.0, 0.0]);
    }

    /// A matrix made of known components gives the largest back.
    #[test]
    fn the_first_component_is_that_of_the_largest_eigenvalue() {
        let third = 1.0 / 3.0_f64;
        let vectors = [
            [2.0 * third, -third, 2.0 * third],
            [2.0 * third, 2.0 * third, -third],
            [-third, 2.0 * third, 2.0 * third],
        ];
        for (values, largest) in [([5.0, 4.0, 0.1], 0), ([1.0, 3.0, 2.5], 1), ([0.0, 0.5, 2.0], 2)]
        {
            let mut gram = vec![0.0; 9];
            for (value, vector) in values.iter().zip(&vectors) {
                for row in 0..3 {
                    for column in 0..3 {
                        gram[3 * row + column] += value * vector[row] * vector[column];
                    }
                }
            }
            let found = first_component(&gram, 3);
            let cosine: f64 = found.iter().zip(&vectors[largest]).map(|(a, b)| a * b).sum();
            assert!((cosine.abs() - 1.0).abs() < 1e-9, "{values:?}: {found:?}");
        }
        assert_eq!(first_component(&[0.0; 4], 2), [0.0, 0.0]);
        let opposite = first_component(&[1.0, -1.0, -1.0, 1.0], 2);
        assert!((opposite[0] + opposite[1]).abs() < 1e-9 && opposite[0].abs() > 0.7);
    }
}
