//! Means with 95 % intervals, over queries and over seeds.

/// A mean and the half width of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub mean: f64,
    pub half: f64,
}

impl Interval {
    /// Whether 0 lies outside.
    pub fn is_sure(self) -> bool {
        self.mean.abs() > self.half
    }
}

/// Quantiles 0.975 of Student's t for 1, 2, … degrees of freedom.
const STUDENT: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
const NORMAL: f64 = 1.96;

/// Of independent values (by Student's t up to eleven of them); `None` for fewer than two.
pub fn interval(values: &[f64]) -> Option<Interval> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let mean = crate::metrics::mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    let error = (squares / (n - 1) as f64 / n as f64).sqrt();
    Some(Interval { mean, half: error * STUDENT.get(n - 2).copied().unwrap_or(NORMAL) })
}

/// Element by element, over rows of equal length.
pub fn mean_rows(rows: &[Vec<f64>]) -> Vec<f64> {
    let n = rows.len().max(1) as f64;
    let length = rows.first().map_or(0, Vec::len);
    (0..length).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_seeds_have_two_degrees_of_freedom() {
        let found = interval(&[1.0, 2.0, 3.0]).unwrap();
        // s = 1, so the error of the mean is 1/√3.
        assert_eq!(found.mean, 2.0);
        assert!((found.half - 4.303 / 3f64.sqrt()).abs() < 1e-12, "{found:?}");
        assert!(!found.is_sure());
        assert!(interval(&[1.0]).is_none());
    }

    #[test]
    fn many_values_are_taken_as_normal() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let found = interval(&values).unwrap();
        let error = (0.25 * 400.0 / 399.0 / 400.0f64).sqrt();
        assert!((found.half - 1.96 * error).abs() < 1e-9 && found.is_sure(), "{found:?}");
    }

    #[test]
    fn rows_are_averaged_by_element() {
        assert_eq!(mean_rows(&[vec![1.0, 0.0], vec![3.0, 1.0]]), [2.0, 0.5]);
    }
}
