//! Every variant that this CPU runs, against exact sums in double precision and against each
//! other, held to the error bound that the crate documents.

use half::f16;
use pgclip_simd::{CosineParts, Kernels, Level};
use pgclip_testkit::dice::Dice;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// fp32's unit roundoff.
const U: f64 = 1.0 / (1 << 24) as f64;

/// `γ(chain + 3)`, for the longest chain of additions in a sum of `length` terms.
fn gamma(level: Level, length: usize) -> f64 {
    let lanes = match level.name() {
        "scalar" => 1,
        "neon" => 4,
        "avx2" => 8,
        "avx512" => 16,
        name => panic!("what is the width of {name}?"),
    };
    let chain = if lanes == 1 { length } else { length / (4 * lanes) + 10 };
    let n = (chain + 3) as f64;
    n * U / (1.0 - n * U)
}

/// The exact value of a sum of terms, and the sum of their magnitudes. Terms of fp16 numbers and
/// their sums fit double precision with room to spare: its own rounding is 2^-29 of the bound.
fn exact(terms: impl Iterator<Item = f64>) -> (f64, f64) {
    terms.fold((0.0, 0.0), |(sum, magnitude), t| (sum + t, magnitude + t.abs()))
}

#[track_caller]
fn assert_near(what: &str, level: Level, length: usize, got: f32, (sum, magnitude): (f64, f64)) {
    let error = (f64::from(got) - sum).abs();
    let bound = gamma(level, length) * magnitude;
    assert!(
        error <= bound,
        "{what} of {length} by {}: {got} is {error} from {sum}, the bound is {bound}",
        level.name()
    );
}

fn check(a: &[f16], b: &[f16]) {
    let pairs = || a.iter().zip(b).map(|(a, b)| (a.to_f64(), b.to_f64()));
    let dot = exact(pairs().map(|(a, b)| a * b));
    let l2 = exact(pairs().map(|(a, b)| (a - b) * (a - b)));
    let a2 = exact(pairs().map(|(a, _)| a * a));
    let b2 = exact(pairs().map(|(_, b)| b * b));
    for level in Level::all() {
        let near = |what, got, exact| assert_near(what, level, a.len(), got, exact);
        near("dot", level.dot(a, b), dot);
        near("squared_l2", level.squared_l2(a, b), l2);
        near("squared_norm", level.squared_norm(a), a2);
        let parts = level.cosine_parts(a, b);
        near("cosine_parts.dot", parts.dot, dot);
        near("cosine_parts.a2", parts.a2, a2);
        near("cosine_parts.b2", parts.b2, b2);
    }
}

trait Draw {
    /// A finite number of any magnitude, or one between -1 and 1, a denormal, or an extreme.
    fn element(&mut self) -> f16;
    fn vector(&mut self, length: usize) -> Vec<f16>;
}

impl Draw for Dice {
    fn element(&mut self) -> f16 {
        let bits = self.bits();
        match bits % 8 {
            0..4 => f16::from_f32((bits >> 40) as f32 / (1 << 23) as f32 - 1.0),
            4 => f16::from_bits((bits >> 32) as u16 & 0x83ff),
            5 => [f16::MAX, f16::MIN][(bits >> 32) as usize % 2],
            6 => [f16::ZERO, f16::NEG_ZERO][(bits >> 32) as usize % 2],
            _ => finite((bits >> 32) as u16),
        }
    }

    fn vector(&mut self, length: usize) -> Vec<f16> {
        (0..length).map(|_| self.element()).collect()
    }
}

/// The number of these bits, with NaN and infinity brought back among the finite ones.
fn finite(bits: u16) -> f16 {
    let x = f16::from_bits(bits);
    if x.is_finite() { x } else { f16::from_bits(bits & !0x0400) }
}

#[test]
fn all_lengths_stay_within_the_bound() {
    let mut dice = Dice::new(1);
    for length in 0..=2100 {
        check(&dice.vector(length), &dice.vector(length));
    }
}

#[test]
fn the_longest_embedding_of_extremes_does_not_overflow() {
    let (a, b) = (vec![f16::MAX; 16_000], vec![f16::MIN; 16_000]);
    check(&a, &b);
    for level in Level::all() {
        assert!(level.squared_l2(&a, &b).is_finite(), "{}", level.name());
    }
}

#[test]
fn denormals_are_not_flushed_to_zero() {
    let smallest = f16::from_bits(1);
    for level in Level::all() {
        for length in [1, 3, 8, 33, 100] {
            let a = vec![smallest; length];
            let square = (2f64.powi(-48) * length as f64) as f32;
            assert_eq!(level.squared_norm(&a), square, "{} of {length}", level.name());
        }
    }
}

#[test]
fn alignment_does_not_matter() {
    let mut dice = Dice::new(2);
    let (a, b) = (dice.vector(400), dice.vector(400));
    for (i, j) in (0..33).flat_map(|i| [(i, 0), (i, i), (i, 32 - i)]) {
        let length = 353;
        check(&a[i..i + length], &b[j..j + length]);
        for level in Level::all() {
            let moved = (a[i..i + length].to_vec(), b[j..j + length].to_vec());
            assert_eq!(
                level.dot(&a[i..i + length], &b[j..j + length]),
                level.dot(&moved.0, &moved.1)
            );
        }
    }
}

#[test]
fn nan_and_infinity_are_carried_through() {
    for level in Level::all() {
        for length in [1, 7, 16, 65, 130] {
            for at in [0, length / 2, length - 1] {
                let ones = vec![f16::ONE; length];
                let mut odd = ones.clone();
                odd[at] = f16::NAN;
                assert!(level.dot(&odd, &ones).is_nan());
                assert!(level.squared_l2(&odd, &ones).is_nan());
                odd[at] = f16::INFINITY;
                assert_eq!(level.dot(&odd, &ones), f32::INFINITY);
                assert_eq!(level.squared_l2(&ones, &odd), f32::INFINITY);
            }
        }
    }
}

#[test]
fn every_fp16_number_widens_exactly() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    for level in Level::all() {
        let mut wide = vec![0.0; all.len()];
        level.widen(&all, &mut wide);
        for (narrow, wide) in all.iter().zip(&wide) {
            let same = narrow.to_f32().to_bits() == wide.to_bits();
            assert!(same || narrow.is_nan() && wide.is_nan(), "{}: {narrow}", level.name());
        }
    }
}

/// Each fp16 number, the midpoint to the next, and fp32's neighbours of both: all the places where
/// rounding decides.
#[test]
fn rounding_is_to_nearest_even_everywhere() {
    let mut singles = vec![f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)];
    for bits in 0..0x7c00 {
        let (this, next) = (f16::from_bits(bits).to_f32(), f16::from_bits(bits + 1).to_f32());
        let next = if next.is_finite() { next } else { 65536.0 };
        for x in [this, (this + next) / 2.0] {
            singles.extend([x, x.next_up(), x.next_down()]);
        }
    }
    singles.extend(singles.clone().iter().map(|x| -x));
    singles.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    for level in Level::all() {
        let mut narrow = vec![f16::ZERO; singles.len()];
        level.narrow(&singles, &mut narrow);
        for (single, narrow) in singles.iter().zip(&narrow) {
            let right = f16::from_f32(*single);
            let same = right.to_bits() == narrow.to_bits();
            assert!(same || right.is_nan() && narrow.is_nan(), "{}: {single:e}", level.name());
        }
    }
}

#[test]
fn conversions_of_all_lengths_fill_exactly_their_slice() {
    let mut dice = Dice::new(3);
    for length in 0..=200 {
        let narrow = dice.vector(length);
        for level in Level::all() {
            let mut wide = vec![7.0; length + 1];
            level.widen(&narrow, &mut wide[..length]);
            assert!(narrow.iter().zip(&wide).all(|(n, w)| n.to_f32() == *w));
            assert_eq!(wide[length], 7.0);
            let mut back = vec![f16::ONE; length + 1];
            level.narrow(&wide[..length], &mut back[..length]);
            assert_eq!(back[..length], narrow);
            assert_eq!(back[length], f16::ONE);
        }
    }
}

#[test]
fn the_first_non_finite_element_is_found_wherever_it_is() {
    for length in 0..200 {
        let mut values = Dice::new(4).vector(length);
        assert_eq!(pgclip_simd::first_non_finite(&values), None);
        for at in (0..length).rev() {
            values[at] = [f16::NAN, f16::INFINITY, f16::NEG_INFINITY][at % 3];
            assert_eq!(pgclip_simd::first_non_finite(&values), Some(at));
        }
    }
}

#[test]
fn similarity_is_clamped_and_zero_vectors_have_none() {
    let parts = |dot, a2, b2| CosineParts { dot, a2, b2 }.similarity();
    assert_eq!(parts(1.000_001, 1.0, 1.0), 1.0);
    assert_eq!(parts(-1.000_001, 1.0, 1.0), -1.0);
    assert!(parts(0.0, 0.0, 1.0).is_nan());
    // Squared norms whose product would overflow fp32.
    assert_eq!(parts(1e30, 1e30, 1e30), 1.0);
}

#[test]
#[should_panic(expected = "different length")]
fn different_lengths_are_refused() {
    pgclip_simd::dot(&[f16::ONE], &[f16::ONE, f16::ONE]);
}

fn vectors() -> impl Strategy<Value = (Vec<f16>, Vec<f16>)> {
    let pair = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| (finite(a), finite(b)));
    prop::collection::vec(pair, 0..600).prop_map(|pairs| pairs.into_iter().unzip())
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(20261124),
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn any_bits_stay_within_the_bound((a, b) in vectors()) {
        check(&a, &b);
    }

    #[test]
    fn distances_are_symmetric((a, b) in vectors()) {
        for level in Level::all() {
            prop_assert_eq!(level.dot(&a, &b), level.dot(&b, &a));
            prop_assert_eq!(level.squared_l2(&a, &b), level.squared_l2(&b, &a));
            prop_assert_eq!(level.squared_l2(&a, &a), 0.0);
        }
    }

    #[test]
    fn any_single_rounds_as_the_scalar_code(bits in prop::collection::vec(any::<u32>(), 0..100)) {
        let singles: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        for level in Level::all() {
            let mut narrow = vec![f16::ZERO; singles.len()];
            level.narrow(&singles, &mut narrow);
            for (single, narrow) in singles.iter().zip(narrow) {
                let right = f16::from_f32(*single);
                prop_assert!(right.to_bits() == narrow.to_bits() || right.is_nan() && narrow.is_nan());
            }
        }
    }
}
