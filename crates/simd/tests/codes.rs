//! Codes and rotation: every variant that this CPU runs against the plain loops, and the estimate
//! that they exist for against exact inner products.

use half::f16;
use pgclip_simd::codes::{CodeKernels, code_bytes, rotated_dims, round_to_bytes};
use pgclip_simd::{ByteKernels, ByteRows, Kernels, Level, Rotation};
use pgclip_testkit::dice::Dice;

trait Draw {
    /// So many normal numbers.
    fn singles(&mut self, length: usize) -> Vec<f32>;
    /// A vector of length one.
    fn unit(&mut self, dims: usize) -> Vec<f16>;
}

impl Draw for Dice {
    fn singles(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.normal()).collect()
    }

    fn unit(&mut self, dims: usize) -> Vec<f16> {
        self.direction(dims).into_iter().map(f16::from_f32).collect()
    }
}

fn near(a: f32, b: f32, magnitude: f32) -> bool {
    (a - b).abs() <= 1e-5 * magnitude.max(1.0)
}

#[test]
fn sums_of_all_variants_agree_with_the_loop() {
    let mut dice = Dice::new(1);
    for blocks in 0..24 {
        let values: Vec<i8> = (0..blocks * 64).map(|_| dice.bits() as i8).collect();
        for count in 0..9 {
            let codes: Vec<u8> = (0..count * blocks * 8).map(|_| dice.bits() as u8).collect();
            let set = |code: &[u8], at: usize| code[at / 8] >> (at % 8) & 1 == 1;
            let right: Vec<i32> = (0..count)
                .map(|i| {
                    let code = &codes[i * blocks * 8..(i + 1) * blocks * 8];
                    let named = (0..values.len()).filter(|at| set(code, *at));
                    named.map(|at| i32::from(values[at])).sum()
                })
                .collect();
            // All, and any of them, in any order.
            let all: Vec<u8> = (0..count as u8).collect();
            let any: Vec<u8> = (0..6).map(|_| dice.bits() as u8 % 9).collect();
            let any: Vec<u8> = any.into_iter().filter(|slot| *slot < count as u8).collect();
            for level in Level::all() {
                for slots in [&all, &any] {
                    let mut sums = vec![7; slots.len()];
                    level.masked_sums(&values, &codes, slots, &mut sums);
                    let right: Vec<i32> = slots.iter().map(|slot| right[*slot as usize]).collect();
                    assert_eq!(sums, right, "{} {blocks} {slots:?}", level.name());
                }
            }
        }
    }
    // Long ones, of the largest values: nothing overflows.
    for value in [-128i8, 127] {
        let (values, codes) = (vec![value; 16_384], vec![0xff; 2048]);
        for level in Level::all() {
            let mut sums = [0];
            level.masked_sums(&values, &codes, &[0], &mut sums);
            assert_eq!(sums, [i32::from(value) * 16_384], "{}", level.name());
        }
    }
}

#[test]
fn rounding_to_bytes_is_to_the_nearest() {
    let mut dice = Dice::new(7);
    for length in [1, 64, 100] {
        let values = dice.singles(length);
        let mut bytes = vec![0; length];
        let step = round_to_bytes(&values, &mut bytes);
        assert!(bytes.iter().any(|byte| byte.abs() == 127));
        let near = |(x, byte): (&f32, &i8)| (x - step * f32::from(*byte)).abs() < 0.501 * step;
        assert!(values.iter().zip(&bytes).all(near), "{length}");
        assert_eq!(round_to_bytes(&vec![0.0; length], &mut bytes), 0.0);
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn codes_of_all_variants_are_equal() {
    let mut dice = Dice::new(2);
    for blocks in 1..24 {
        let (mut to, from) = (dice.singles(blocks * 64), dice.singles(blocks * 64));
        to[..4].copy_from_slice(&from[..4]);
        let mut right = vec![0; blocks * 8];
        let sums = Level::all()[0].encode_residual(&to, &from, &mut right);
        for level in Level::all() {
            let mut code = vec![0xaa; blocks * 8];
            let got = level.encode_residual(&to, &from, &mut code);
            assert_eq!(code, right, "{}", level.name());
            for (a, b) in [(got.l1, sums.l1), (got.square, sums.square), (got.origin, sums.origin)]
            {
                assert!(near(a, b, blocks as f32 * 64.0), "{}: {got:?} {sums:?}", level.name());
            }
            let signs = (0..from.len()).map(|at| code[at / 8] >> (at % 8) & 1 == 1);
            let halves = signs.zip(&from).map(|(set, x)| if set { 0.5 * x } else { -0.5 * x });
            let origin: f32 = halves.sum();
            assert!(near(origin, sums.origin, blocks as f32 * 64.0));
        }
    }
}

#[test]
fn butterflies_have_the_same_bits_everywhere() {
    let mut dice = Dice::new(3);
    for stride in [1, 2, 3, 4, 8, 16, 24, 32, 96, 256] {
        let data = dice.singles(stride * 6);
        let mut right = data.clone();
        Level::all()[0].butterflies(&mut right, stride);
        for level in Level::all() {
            let mut got = data.clone();
            level.butterflies(&mut got, stride);
            assert_eq!(got, right, "{} {stride}", level.name());
        }
    }
}

#[test]
fn byte_products_are_exact() {
    let mut dice = Dice::new(4);
    for length in [0, 1, 15, 16, 63, 384, 1281] {
        let [a, b] = [0, 1].map(|_| (0..length).map(|_| dice.bits() as i8).collect::<Vec<_>>());
        let right: i64 = a.iter().zip(&b).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
        for level in Level::all() {
            assert_eq!(i64::from(level.dot_i8(&a, &b)), right, "{} {length}", level.name());
        }
    }
}

#[test]
fn rows_of_bytes_keep_what_is_written() {
    let mut dice = Dice::new(6);
    for dims in [1, 55, 56, 57, 64, 100, 384] {
        let mut rows = ByteRows::new(dims, 10).unwrap();
        let right: Vec<Vec<i8>> =
            (0..10).map(|_| (0..dims).map(|_| dice.bits() as i8).collect()).collect();
        for (piece, mut chunk) in rows.chunks_mut(4).enumerate() {
            assert_eq!(chunk.count(), [4, 4, 2][piece]);
            for at in 0..chunk.count() {
                let row = piece * 4 + at;
                chunk.write(at, |to| {
                    to.copy_from_slice(&right[row]);
                    [row as f32, -0.5]
                });
            }
        }
        let ids: Vec<u32> = (0..10).rev().collect();
        let mut dots = vec![0; 10];
        rows.dots(3, &ids, &mut dots);
        for (id, dot) in ids.into_iter().zip(dots) {
            assert_eq!(rows.row(id), right[id as usize]);
            assert_eq!(rows.factors(id), [id as f32, -0.5]);
            let pairs = right[3].iter().zip(&right[id as usize]);
            let exact: i32 = pairs.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            assert_eq!((dot, rows.dot(id, 3)), (exact, exact), "{dims}");
        }
    }
}

#[test]
#[should_panic(expected = "a row that is not there")]
fn rows_past_the_end_are_refused() {
    ByteRows::new(8, 2).unwrap().dots(0, &[1, 2], &mut [0; 2]);
}

#[test]
fn rotations_keep_inner_products() {
    let mut dice = Dice::new(5);
    for dims in [1, 2, 3, 63, 64, 65, 100, 128, 200, 256, 300, 384, 512, 768, 1000, 1280, 2000] {
        let rotation = Rotation::new(dims, 7);
        let (a, b) = (dice.unit(dims), dice.unit(dims));
        let [ra, rb] = [&a, &b].map(|v| {
            let mut rotated = vec![0.0; rotated_dims(dims)];
            rotation.rotate(v, 1.0, &mut rotated);
            rotated
        });
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        let level = Level::all()[0];
        assert!(near(dot(&ra, &rb), level.dot(&a, &b), 1.0), "{dims}");
        assert!(near(dot(&ra, &ra), level.squared_norm(&a), 1.0), "{dims}");
    }
}

/// One component alone is the worst input there is: after the rotation it is spread over all.
#[test]
fn rotations_spread_single_components() {
    for dims in [64, 192, 384, 640, 768, 1024, 1280] {
        let rotation = Rotation::new(dims, 7);
        for at in [0, 1, dims / 2, dims - 1] {
            let mut vector = vec![f16::ZERO; dims];
            vector[at] = f16::ONE;
            let mut rotated = vec![0.0; dims];
            rotation.rotate(&vector, 1.0, &mut rotated);
            let largest = rotated.iter().fold(0f32, |max, x| max.max(x.abs()));
            assert!(largest < 6.0 / (dims as f32).sqrt(), "{dims} {at}: {largest}");
        }
    }
}

/// RaBitQ's estimate `rr · ⟨c, x⟩ / ⟨c, r⟩` of `⟨r, x⟩`: without bias, and as near as theory says,
/// `sqrt((π/2 - 1) / d)` times the part of `x` that is orthogonal to `r`.
#[test]
fn inner_products_with_codes_are_unbiased() {
    let mut dice = Dice::new(6);
    for dims in [128, 384, 1280] {
        let rotation = Rotation::new(dims, 11);
        let width = rotated_dims(dims);
        let (mut bias, mut square, trials) = (0.0, 0.0, 2000);
        for _ in 0..trials {
            let [r, x] = [0, 1].map(|_| {
                let mut rotated = vec![0.0; width];
                rotation.rotate(&dice.unit(dims), 1.0, &mut rotated);
                rotated
            });
            let mut code = vec![0; code_bytes(dims)];
            let zero = vec![0.0; width];
            let sums = pgclip_simd::codes::encode_residual(&r, &zero, &mut code);
            let (mut bytes, mut masked) = (vec![0; width], [0]);
            let step = round_to_bytes(&x, &mut bytes);
            pgclip_simd::codes::masked_sums(&bytes, &code, &[0], &mut masked);
            let all: i32 = bytes.iter().map(|x| i32::from(*x)).sum();
            let signed = step * (masked[0] as f32 - 0.5 * all as f32);
            let estimate = sums.square * signed / (0.5 * sums.l1);
            let exact: f32 = r.iter().zip(&x).map(|(r, x)| r * x).sum();
            bias += f64::from(estimate - exact) / f64::from(trials);
            square += f64::from(estimate - exact).powi(2) / f64::from(trials);
        }
        let theory = ((std::f64::consts::FRAC_PI_2 - 1.0) / dims as f64).sqrt();
        assert!(bias.abs() < 4.0 * theory / f64::from(trials).sqrt(), "{dims}: bias {bias}");
        assert!(square.sqrt() < 1.1 * theory, "{dims}: {} against {theory}", square.sqrt());
    }
}

#[test]
fn numbers_are_read_at_any_alignment() {
    let numbers: Vec<f16> = (0..50).map(|i| f16::from_f32(i as f32)).collect();
    let mut bytes = vec![0u8];
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    bytes.push(0);
    let mut scratch = Vec::new();
    assert_eq!(pgclip_simd::halves(&bytes[1..101], &mut scratch), numbers);
    let moved = bytes[1..101].to_vec();
    assert_eq!(pgclip_simd::halves(&moved, &mut scratch), numbers);
}
