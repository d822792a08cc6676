//! What the examples share: vectors something like what encoders give, exact answers, and clocks.
#![allow(dead_code, reason = "no example uses all of it")]

use std::time::Instant;

use half::f16;
use pgclip_hnsw::Space;

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// About normal, variance one.
    pub fn normal(&mut self) -> f32 {
        let sum: u32 = (0..2)
            .map(|_| self.next())
            .flat_map(|x| [x as u16, (x >> 16) as u16, (x >> 32) as u16, (x >> 48) as u16])
            .map(u32::from)
            .sum();
        (sum as f32 / 65536.0 - 4.0) * (12.0f32 / 8.0).sqrt()
    }

    pub fn direction(&mut self, dims: usize) -> Vec<f32> {
        let raw: Vec<f32> = (0..dims).map(|_| self.normal()).collect();
        let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
        raw.iter().map(|x| x / norm).collect()
    }
}

/// Vectors of low intrinsic dimension in clusters, with a common direction: something like what
/// encoders give.
pub struct World {
    dims: usize,
    centres: Vec<Vec<f32>>,
    basis: Vec<Vec<f32>>,
    common: Vec<f32>,
    /// The texts' direction.
    pub text: Vec<f32>,
}

impl World {
    pub fn new(dims: usize, dice: &mut Dice) -> Self {
        Self {
            dims,
            centres: (0..1000).map(|_| dice.direction(dims)).collect(),
            basis: (0..40).map(|_| dice.direction(dims)).collect(),
            common: dice.direction(dims),
            text: dice.direction(dims),
        }
    }

    pub fn signal(&self, dice: &mut Dice) -> Vec<f32> {
        let centre = &self.centres[dice.next() as usize % self.centres.len()];
        let mut signal: Vec<f32> = centre.iter().map(|x| 0.6 * x).collect();
        for axis in &self.basis {
            let weight = dice.normal() * 0.12;
            signal.iter_mut().zip(axis).for_each(|(x, a)| *x += weight * a);
        }
        let noise = dice.direction(self.dims);
        signal.iter_mut().zip(noise).for_each(|(x, n)| *x += 0.35 * n);
        signal
    }

    pub fn image(&self, dice: &mut Dice) -> Vec<f16> {
        let signal = self.signal(dice);
        unit(signal.iter().zip(&self.common).map(|(s, c)| s + 0.5 * c))
    }

    /// A frame of the same scene: the image and a twentieth of its length in noise.
    pub fn frame(&self, image: &[f16], dice: &mut Dice) -> Vec<f16> {
        let noise = dice.direction(self.dims);
        unit(image.iter().zip(noise).map(|(x, n)| x.to_f32() + 0.05 * n))
    }

    pub fn caption(&self, dice: &mut Dice) -> Vec<f16> {
        let (signal, noise) = (self.signal(dice), dice.direction(self.dims));
        let parts = signal.iter().zip(noise).zip(&self.text);
        unit(parts.map(|((s, n), t)| 0.5 * s + 0.5 * n + 0.8 * t))
    }
}

pub fn unit(vector: impl Iterator<Item = f32>) -> Vec<f16> {
    let vector: Vec<f32> = vector.collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| f16::from_f32(x / norm)).collect()
}

/// How many rows a query asks for.
pub const K: usize = 10;

/// Seconds that this thread has run: on a busy machine the clock says more about the others. Where
/// the system does not tell, the clock.
pub fn seconds(since: Instant) -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    spent.map_or_else(|| since.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

/// Seconds that all threads of this process have run, to a hundredth; 0 where the system does not
/// tell.
pub fn all_threads() -> f64 {
    let spent = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = spent.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The exact answers, by number.
pub fn truth(space: &Space, vectors: &[Vec<f16>], query: &[f16]) -> Vec<u32> {
    let q2 = pgclip_simd::squared_norm(query);
    let mut all: Vec<(f64, u32)> = (0..)
        .zip(vectors)
        .map(|(i, v)| (space.distance(query, q2, v, pgclip_simd::squared_norm(v)).operator, i))
        .collect();
    all.select_nth_unstable_by(K, |a, b| a.0.total_cmp(&b.0));
    all[..K].iter().map(|(_, i)| *i).collect()
}
