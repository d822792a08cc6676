//! Generated vectors that resemble embeddings: clustered, of low intrinsic dimension, in a cone.
//!
//! A *signal* is drawn in a latent space of [`LATENT`] dimensions whose axes weigh 1/√i: a cluster's
//! centre plus a draw of its own, mapped into d dimensions by a random basis, plus a little of a
//! random direction (noise). An **image** is the unit signal and half of a direction that all images
//! share. A **text** is half signal, half noise and 0.8 of a direction that all texts share: its
//! cosine to the nearest image is about 0.25, to an average one near zero (the modality gap of
//! CLIP's embeddings). A **burst** is a walk from an image in small steps, with a little noise a
//! frame: rows as one camera sends them.
//!
//! Everything is a function of the seed: a generator of its own for each row (SplitMix64), normal
//! draws as sums of uniform ones, IEEE 754's exact operations alone. So the numbers do not depend on
//! the machine or the number of threads.

use half::f16;
use rayon::prelude::*;

use super::{Data, Vectors};
use crate::side::Metric;

const LATENT: usize = 64;
/// Share of a cluster's centre in the latent draw, and of the draw's own.
const CENTRE: f32 = 0.65;
const OWN: f32 = 1.0;
/// Length of the noise beside a unit signal.
const NOISE: f32 = 0.3;
/// Length of the images' common direction beside a unit signal.
const COMMON: f32 = 0.5;
/// Rows of a cluster, on average.
const CLUSTER: usize = 100;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The generator of item `number` of a `stream`.
    pub fn new(number: u64, stream: u64) -> Self {
        let mut dice = Self(stream.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ number);
        Self(dice.next())
    }

    #[allow(clippy::should_implement_trait)] // It does not end.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// About normal, variance one: the sum of eight uniform draws.
    fn normal(&mut self) -> f32 {
        let sum: u64 = (0..2)
            .map(|_| self.next())
            .map(|x| (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48))
            .sum();
        (sum as f32 / 65536.0 - 4.0) * (12.0f32 / 8.0).sqrt()
    }

    /// A random direction of length one.
    fn direction(&mut self, dims: usize) -> Vec<f32> {
        unit((0..dims).map(|_| self.normal()).collect())
    }
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

fn add(to: &mut [f32], weight: f32, other: &[f32]) {
    to.iter_mut().zip(other).for_each(|(x, y)| *x += weight * y);
}

fn narrow(vector: Vec<f32>) -> Vec<f16> {
    unit(vector).into_iter().map(f16::from_f32).collect()
}

/// What all draws of a set share.
struct World {
    dims: usize,
    basis: Vec<Vec<f32>>,
    centres: Vec<[f32; LATENT]>,
    images: Vec<f32>,
    texts: Vec<f32>,
}

/// The streams of a set.
const WORLD: u64 = 1;
const BASE: u64 = 2;
const LATER: u64 = 3;
const OWN_QUERIES: u64 = 4;
const TEXT_QUERIES: u64 = 5;
const FRAMES: u64 = 6;

impl World {
    fn new(dims: usize, rows: usize) -> Self {
        let mut dice = Dice::new(dims as u64, WORLD);
        let basis = (0..LATENT)
            .map(|axis| {
                let weight = 1.0 / (axis as f32 + 1.0).sqrt();
                dice.direction(dims).into_iter().map(|x| x * weight).collect()
            })
            .collect();
        let centres = (0..rows.div_ceil(CLUSTER).max(1))
            .map(|_| std::array::from_fn(|_| dice.normal()))
            .collect();
        let (images, texts) = (dice.direction(dims), dice.direction(dims));
        Self { dims, basis, centres, images, texts }
    }

    /// A draw, of length one before the noise.
    fn signal(&self, dice: &mut Dice) -> Vec<f32> {
        let centre = &self.centres[dice.below(self.centres.len())];
        let mut signal = vec![0.0; self.dims];
        for (axis, place) in self.basis.iter().zip(centre) {
            add(&mut signal, CENTRE * place + OWN * dice.normal(), axis);
        }
        let mut signal = unit(signal);
        add(&mut signal, NOISE, &dice.direction(self.dims));
        signal
    }

    fn image(&self, dice: &mut Dice) -> Vec<f16> {
        let mut image = self.signal(dice);
        add(&mut image, COMMON, &self.images);
        narrow(image)
    }

    fn text(&self, dice: &mut Dice) -> Vec<f16> {
        let mut text = self.signal(dice);
        text.iter_mut().for_each(|x| *x *= 0.5);
        add(&mut text, 0.5, &dice.direction(self.dims));
        add(&mut text, 0.8, &self.texts);
        narrow(text)
    }

    /// `frames` of one burst.
    fn burst(&self, dice: &mut Dice, frames: usize) -> Vec<f16> {
        let mut place = unit(self.signal(dice));
        let mut burst = Vec::with_capacity(frames * self.dims);
        for _ in 0..frames {
            let axis = &self.basis[dice.below(LATENT)];
            let step = 0.06 * dice.normal();
            add(&mut place, step, axis);
            let mut frame = place.clone();
            add(&mut frame, 0.05, &dice.direction(self.dims));
            add(&mut frame, COMMON, &self.images);
            burst.extend(narrow(frame));
        }
        burst
    }
}

fn draw(
    dims: usize,
    count: usize,
    stream: u64,
    one: impl Fn(&mut Dice) -> Vec<f16> + Sync,
) -> Vectors {
    let rows: Vec<Vec<f16>> =
        (0..count as u64).into_par_iter().map(|i| one(&mut Dice::new(i, stream))).collect();
    Vectors::new(dims, rows.concat())
}

/// Clustered images, with queries of their own kind and text-like ones.
pub fn clustered(metric: Metric, dims: usize, rows: usize, queries: usize) -> Data {
    let world = World::new(dims, rows);
    let image = |dice: &mut Dice| world.image(dice);
    Data {
        title: format!("{rows} generated vectors of {dims} dimensions, clustered"),
        metric,
        base: draw(dims, rows, BASE, image),
        later: draw(dims, later(rows), LATER, image),
        own: draw(dims, queries, OWN_QUERIES, image),
        text: Some(draw(dims, queries, TEXT_QUERIES, |dice| world.text(dice))),
        frames: false,
        builtin: false,
    }
}

/// Bursts of 20 to 119 near-duplicate frames, burst after burst. A query is a frame taken out of
/// one of them.
pub fn frames(metric: Metric, dims: usize, rows: usize, queries: usize) -> Data {
    let world = World::new(dims, rows);
    let wanted = rows + later(rows) + queries;
    let mut lengths = Vec::new();
    let mut total = 0;
    while total < wanted {
        let length = 20 + Dice::new(lengths.len() as u64, FRAMES).below(100);
        total += length;
        lengths.push(length);
    }
    let bursts: Vec<Vec<f16>> = lengths
        .par_iter()
        .enumerate()
        .map(|(i, &length)| {
            let mut dice = Dice::new(i as u64, FRAMES);
            dice.next();
            world.burst(&mut dice, length)
        })
        .collect();
    let mut all = Vectors::new(dims, bursts.concat());
    all.truncate(wanted);
    // Every n-th frame is taken out of its burst: first the queries, of what is left the later rows.
    let (own, all) = take_out(&all, queries);
    let (later, base) = take_out(&all, later(rows));
    let title = format!("{rows} generated frames of {dims} dimensions, in bursts");
    Data { title, metric, base, later, own, text: None, frames: true, builtin: false }
}

/// How many rows are kept for inserts.
pub fn later(rows: usize) -> usize {
    (rows / 50).min(2000)
}

/// Takes `count` vectors out, evenly spaced; those and the rest.
fn take_out(all: &Vectors, count: usize) -> (Vectors, Vectors) {
    let (mut taken, mut rest) = (Vec::new(), Vec::new());
    let mut due = 0;
    for row in all.iter() {
        due += count;
        if due >= all.len() {
            due -= all.len();
            taken.extend_from_slice(row);
        } else {
            rest.extend_from_slice(row);
        }
    }
    (Vectors::new(all.dims, taken), Vectors::new(all.dims, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosines(queries: &Vectors, base: &Vectors) -> (f32, f32) {
        let (mut nearest, mut all) = (0.0, 0.0);
        for query in queries.iter() {
            let cosines: Vec<f32> = base.iter().map(|x| pgclip_simd::dot(x, query)).collect();
            nearest += cosines.iter().copied().fold(f32::MIN, f32::max);
            all += cosines.iter().sum::<f32>() / base.len() as f32;
        }
        (nearest / queries.len() as f32, all / queries.len() as f32)
    }

    #[test]
    fn the_same_on_every_machine() {
        let data = clustered(Metric::Cosine, 32, 500, 10);
        let again = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let again = again.install(|| clustered(Metric::Cosine, 32, 500, 10));
        assert_eq!(data.base, again.base);
        assert_eq!(data.text, again.text);
        assert_eq!((data.rows(), data.later.len(), data.own.len()), (500, 10, 10));
        let frames = frames(Metric::Cosine, 32, 500, 10);
        assert_eq!((frames.rows(), frames.later.len(), frames.own.len()), (500, 10, 10));
    }

    #[test]
    fn vectors_have_length_one() {
        let data = clustered(Metric::Cosine, 100, 50, 10);
        let texts = data.text.as_ref().unwrap();
        for vector in data.base.iter().chain(texts.iter()) {
            let norm = pgclip_simd::squared_norm(vector);
            assert!((norm - 1.0).abs() < 2e-3, "{norm}");
        }
    }

    #[test]
    fn texts_are_far_from_all_images() {
        let data = clustered(Metric::Cosine, 384, 4000, 20);
        let (nearest, average) = cosines(data.text.as_ref().unwrap(), &data.base);
        assert!((0.18..0.35).contains(&nearest), "{nearest}");
        assert!((-0.08..0.12).contains(&average), "{average}");
        let (nearest, average) = cosines(&data.own, &data.base);
        assert!((0.5..0.9).contains(&nearest), "{nearest}");
        assert!((0.1..0.4).contains(&average), "{average}");
    }

    #[test]
    fn frames_have_near_duplicates() {
        let data = frames(Metric::Cosine, 384, 4000, 20);
        let (nearest, average) = cosines(&data.own, &data.base);
        assert!(nearest > 0.98, "{nearest}");
        assert!(average < 0.5, "{average}");
    }
}
