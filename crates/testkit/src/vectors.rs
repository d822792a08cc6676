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
//! Everything is a function of the seed: a generator of its own for each row ([`Dice`]), IEEE 754's
//! exact operations alone. So the numbers do not depend on
//! the machine or the number of threads.

use half::f16;
use rayon::prelude::*;

use crate::dice::{Dice, unit};

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

fn add(to: &mut [f32], weight: f32, other: &[f32]) {
    to.iter_mut().zip(other).for_each(|(x, y)| *x += weight * y);
}

fn narrow(vector: Vec<f32>) -> Vec<f16> {
    unit(vector).into_iter().map(f16::from_f32).collect()
}

/// What all draws of a set share.
#[derive(Clone, Debug)]
pub struct World {
    dims: usize,
    basis: Vec<Vec<f32>>,
    centres: Vec<[f32; LATENT]>,
    images: Vec<f32>,
    texts: Vec<f32>,
}

const WORLD: u64 = 1;
const FRAMES: u64 = 6;

impl World {
    /// The world of a set of `rows` vectors of `dims` dimensions.
    pub fn new(dims: usize, rows: usize) -> Self {
        let mut dice = Dice::of_stream(dims as u64, WORLD);
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

    /// The direction that all texts share, of length one.
    pub fn texts(&self) -> &[f32] {
        &self.texts
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

    /// An image, of length one.
    pub fn image(&self, dice: &mut Dice) -> Vec<f16> {
        let mut image = self.signal(dice);
        add(&mut image, COMMON, &self.images);
        narrow(image)
    }

    /// A text, of length one.
    pub fn text(&self, dice: &mut Dice) -> Vec<f16> {
        let mut text = self.signal(dice);
        text.iter_mut().for_each(|x| *x *= 0.5);
        add(&mut text, 0.5, &dice.direction(self.dims));
        add(&mut text, 0.8, &self.texts);
        narrow(text)
    }

    /// `frames` of one burst, each of length one.
    fn burst(&self, dice: &mut Dice, frames: usize) -> Vec<Vec<f16>> {
        let mut place = unit(self.signal(dice));
        let mut one = || {
            let axis = &self.basis[dice.below(LATENT)];
            let step = 0.06 * dice.normal();
            add(&mut place, step, axis);
            let mut frame = place.clone();
            add(&mut frame, 0.05, &dice.direction(self.dims));
            add(&mut frame, COMMON, &self.images);
            narrow(frame)
        };
        (0..frames).map(|_| one()).collect()
    }

    /// `count` frames, in bursts of 20 to 119, burst after burst.
    pub fn frames(&self, count: usize) -> Vec<Vec<f16>> {
        let mut lengths = Vec::new();
        let mut total = 0;
        while total < count {
            let length = 20 + Dice::of_stream(lengths.len() as u64, FRAMES).below(100);
            total += length;
            lengths.push(length);
        }
        let burst = |(i, &length): (usize, &usize)| {
            let mut dice = Dice::of_stream(i as u64, FRAMES);
            dice.bits();
            self.burst(&mut dice, length)
        };
        let bursts: Vec<Vec<Vec<f16>>> = lengths.par_iter().enumerate().map(burst).collect();
        let mut all = bursts.concat();
        all.truncate(count);
        all
    }
}

/// `count` vectors of a stream, each from a generator of its own.
pub fn draw(
    count: usize,
    stream: u64,
    one: impl Fn(&mut Dice) -> Vec<f16> + Sync,
) -> Vec<Vec<f16>> {
    (0..count as u64).into_par_iter().map(|i| one(&mut Dice::of_stream(i, stream))).collect()
}

/// Takes `count` vectors out, evenly spaced; those and the rest.
pub fn take_out(all: Vec<Vec<f16>>, count: usize) -> (Vec<Vec<f16>>, Vec<Vec<f16>>) {
    let (mut taken, mut rest) = (Vec::new(), Vec::new());
    let (mut due, every) = (0, all.len());
    for vector in all {
        due += count;
        if due >= every {
            due -= every;
            taken.push(vector);
        } else {
            rest.push(vector);
        }
    }
    (taken, rest)
}
