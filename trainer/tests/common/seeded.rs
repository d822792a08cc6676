//! Weights, pictures and texts made from a hash, as `golden/make.py` makes them.

use pgclip_train::batch::Batch;
use pgclip_train::params::Params;
use tch::{Kind, Tensor, no_grad};

/// `count` values in [-1, 1), multiples of 2^-23, by splitmix64 from the FNV-1a hash of `name`.
pub fn uniform(name: &str, count: usize) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (1..=count as u64)
        .map(|at| {
            let z = seed.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let z = z ^ (z >> 31);
            (z >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

fn whole(name: &str, count: usize, below: i64) -> Vec<i64> {
    let scaled = |v: f32| ((f64::from(v) + 1.0) / 2.0 * below as f64) as i64;
    uniform(name, count).into_iter().map(scaled).collect()
}

/// Gives each parameter its values.
pub fn fill(params: &mut Params) {
    for (name, tensor) in &mut params.tensors {
        let numel = tensor.numel();
        let mut values = uniform(name, numel);
        let shape = tensor.size();
        if name == "logit_scale" {
            values[0] = 2.5;
        } else if shape.len() < 2 {
            let gain = format!(".{name}").contains(".ln_") && name.ends_with("weight");
            let base = if gain { 1.0 } else { 0.0 };
            values.iter_mut().for_each(|v| *v = *v * 0.3 + base);
        } else {
            let mut spread = (3.0 / (numel as i64 / shape[0]) as f64).sqrt() as f32;
            if name.contains("in_proj") {
                spread *= 2.0;
            }
            values.iter_mut().for_each(|v| *v *= spread);
        }
        no_grad(|| tensor.copy_(&Tensor::from_slice(&values).view(&shape[..])));
    }
}

/// Pictures of 4 by 4 coarse squares, [N, S, S, 3].
pub fn pictures(name: &str, count: usize, size: usize) -> Vec<u8> {
    let coarse = whole(&format!("{name} pictures"), count * 3 * 16, 256);
    let mut bytes = Vec::with_capacity(count * size * size * 3);
    for n in 0..count {
        for y in 0..size {
            for x in 0..size {
                for c in 0..3 {
                    let at = ((n * 3 + c) * 4 + y * 4 / size) * 4 + x * 4 / size;
                    bytes.push(coarse[at] as u8);
                }
            }
        }
    }
    bytes
}

/// Texts up to and with their end.
pub fn texts(name: &str, count: usize, length: usize, start: i64, end: i64) -> Vec<Vec<i64>> {
    let lengths = whole(&format!("{name} lengths"), count, length as i64 - 2);
    let ids = whole(&format!("{name} tokens"), count * length, start - 1);
    lengths
        .iter()
        .enumerate()
        .map(|(n, &l)| {
            let last = l as usize + 2;
            (0..=last)
                .map(|at| match at {
                    0 => start,
                    at if at == last => end,
                    at => ids[n * length + at] + 1,
                })
                .collect()
        })
        .collect()
}

/// The batch of a step of the golden training.
pub fn batch(step: usize, pairs: usize, size: usize) -> Batch {
    let name = format!("step {step}");
    Batch {
        pictures: pictures(&name, pairs, size),
        captions: texts(&name, pairs, 20, 298, 299),
        own: (0..pairs as i64).collect(),
        matches: None,
    }
}

/// The smallest cosine of corresponding rows.
pub fn least_cosine(found: &Tensor, expected: &Tensor) -> f64 {
    let dot = |a: &Tensor, b: &Tensor| (a * b).sum_dim_intlist(&[1i64][..], false, Kind::Double);
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let lengths = (dot(&found, &found) * dot(&expected, &expected)).sqrt();
    (dot(&found, &expected) / lengths).min().double_value(&[])
}
