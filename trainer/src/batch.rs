//! The batch of each step: which pictures, which of their captions, how altered.
//!
//! Everything random here follows from the run's seed and the number of the step alone, so
//! that a resumed run draws what an uninterrupted one would have drawn.

use std::collections::{HashMap, HashSet, VecDeque};

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::crop::{Part, Scale};
use crate::data::Labels;
use crate::tokens::Noise;

/// How pictures are altered while training.
#[derive(Clone, Copy, Debug)]
pub struct Augment {
    /// Enlarge a random part.
    pub scale: Option<Scale>,
    /// Mirror half of the pictures.
    pub flip: bool,
    /// Largest shift in either direction, pixels; what comes in is black, as in padding.
    pub shift: usize,
    /// Largest relative change of brightness.
    pub brightness: f32,
}

/// What a batch is drawn from, but for the pictures.
#[derive(Debug)]
pub struct Source<'a> {
    pub labels: &'a Labels,
    /// Rows of the token table for each caption.
    pub rows: &'a [Vec<i64>],
    pub noise: Noise,
    pub augment: Augment,
    pub context_length: usize,
    pub seed: u64,
    /// Let every caption that fits a picture count as a match.
    pub multi_positive: bool,
}

/// One step's data, on the host.
#[derive(Debug)]
pub struct Batch {
    /// [N, S, S, 3]
    pub pictures: Vec<u8>,
    /// M captions as rows of the token table, shortest first.
    pub captions: Vec<Vec<i64>>,
    /// For each picture the index of its own caption.
    pub own: Vec<i64>,
    /// [N, M], 1 where a caption fits a picture; captions are then distinct. `None`: M is N, and
    /// none but its own caption counts as fitting.
    pub matches: Option<Vec<f32>>,
}

/// Walks through the samples in a new order each epoch.
#[derive(Debug)]
pub struct Sampler {
    seed: u64,
    batch: usize,
    epoch: Option<u64>,
    order: Vec<u32>,
    /// The captions of each sample, if no batch is to hold two samples that share one.
    captions: Option<Vec<Vec<u32>>>,
}

/// A generator for one purpose (`stream`) and one number (epoch or step) of a run.
pub(crate) fn generator(seed: u64, stream: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream << 48 | number);
    rng
}

impl Sampler {
    /// A sampler over `samples` pictures; `batch` must not exceed them.
    pub fn new(samples: usize, batch: usize, seed: u64) -> Self {
        Sampler { seed, batch, epoch: None, order: (0..samples as u32).collect(), captions: None }
    }

    /// The same, but samples that share a caption are kept out of one batch where that is possible.
    pub fn with_unique_captions(mut self, labels: &Labels) -> Self {
        self.captions = Some(labels.samples.iter().map(|sample| sample.captions.clone()).collect());
        self
    }

    /// Steps in one epoch; the last samples that fill no batch wait for another epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.order.len() / self.batch) as u64
    }

    /// The samples of step `step` (from 0).
    pub fn samples(&mut self, step: u64) -> &[u32] {
        self.with_followers(step).0
    }

    /// The samples of step `step`, and all others of its epoch in the order in which they come
    /// after these, the first after the last.
    pub fn with_followers(&mut self, step: u64) -> (&[u32], impl Iterator<Item = u32>) {
        let epoch = step / self.steps_per_epoch();
        if self.epoch != Some(epoch) {
            self.order.sort_unstable();
            self.order.shuffle(&mut generator(self.seed, 1, epoch));
            if let Some(captions) = &self.captions {
                self.order = spread(&self.order, self.batch, captions);
            }
            self.epoch = Some(epoch);
        }
        let start = (step % self.steps_per_epoch()) as usize * self.batch;
        let (before, rest) = self.order.split_at(start);
        let (samples, after) = rest.split_at(self.batch);
        (samples, after.iter().chain(before).copied())
    }
}

/// Batches a sample is held back for at most, counted in samples: a set of few captions is gone
/// through in linear time all the same.
const MOST_WAITING: usize = 4096;

/// `order` with each sample moved to the first batch that has none of its captions. Where too many
/// samples wait, or none is left, a batch takes those that wait the longest after all.
fn spread(order: &[u32], batch: usize, captions: &[Vec<u32>]) -> Vec<u32> {
    let mut rest = order.iter().copied();
    let mut waiting: VecDeque<u32> = VecDeque::new();
    let mut spread = Vec::with_capacity(order.len());
    while spread.len() < order.len() {
        let mut seen: HashSet<u32> = HashSet::new();
        let mut fresh = |sample: u32| {
            let own = &captions[sample as usize];
            let free = own.iter().all(|caption| !seen.contains(caption));
            if free {
                seen.extend(own);
            }
            free
        };
        let start = spread.len();
        let mut held = VecDeque::new();
        while spread.len() - start < batch {
            let Some(sample) = waiting
                .pop_front()
                .or_else(|| if held.len() < MOST_WAITING { rest.next() } else { None })
            else {
                break;
            };
            if fresh(sample) {
                spread.push(sample);
            } else {
                held.push_back(sample);
            }
        }
        held.append(&mut waiting);
        while spread.len() - start < batch
            && let Some(sample) = held.pop_front()
        {
            spread.push(sample);
        }
        waiting = held;
    }
    spread
}

impl Source<'_> {
    /// Draws the batch of one step: these samples with their pictures, [S, S, 3] each. Pictures
    /// are altered on the threads of the pool that this is called in.
    pub fn batch(&self, step: u64, samples: &[u32], pictures: &[&[u8]]) -> Batch {
        let mut rng = generator(self.seed, 2, step);
        let stride = pictures.first().map_or(1, |picture| picture.len());
        let side = (stride / 3).isqrt() as u32;
        let mut alterations = Vec::with_capacity(samples.len());
        // (rows, index of the caption)
        let mut captions: Vec<(Vec<i64>, u32)> = Vec::with_capacity(samples.len());
        let mut owner: Vec<usize> = Vec::with_capacity(samples.len());
        let mut seen: HashMap<Vec<i64>, usize> = HashMap::new();
        for &sample in samples {
            alterations.push(Alteration::draw(self.augment, side, &mut rng));
            let choices = &self.labels.samples[sample as usize].captions;
            let caption = choices[rng.random_range(0..choices.len())];
            let mut rows = self.rows[caption as usize].clone();
            self.noise.apply(&mut rows, self.context_length, &mut rng);
            let next = captions.len();
            let place = match self.multi_positive {
                true => *seen.entry(rows.clone()).or_insert(next),
                false => next,
            };
            if place == next {
                captions.push((rows, caption));
            }
            owner.push(place);
        }

        let mut order: Vec<usize> = (0..captions.len()).collect();
        order.sort_by_key(|&index| captions[index].0.len());
        let mut place = vec![0i64; order.len()];
        for (at, &index) in order.iter().enumerate() {
            place[index] = at as i64;
        }
        let own = owner.iter().map(|&index| place[index]).collect();
        let matches = self.multi_positive.then(|| {
            let mut matches = vec![0.0; samples.len() * captions.len()];
            for (n, &sample) in samples.iter().enumerate() {
                let sample = &self.labels.samples[sample as usize];
                for (m, &index) in order.iter().enumerate() {
                    if owner[n] == index || self.labels.fits(sample, captions[index].1) {
                        matches[n * captions.len() + m] = 1.0;
                    }
                }
            }
            matches
        });
        let captions = order.iter().map(|&index| std::mem::take(&mut captions[index].0)).collect();
        let mut altered = vec![0; pictures.len() * stride];
        altered
            .par_chunks_mut(stride)
            .zip(pictures.par_iter().zip(alterations))
            .for_each(|(altered, (picture, alteration))| alteration.apply(picture, altered));
        Batch { pictures: altered, captions, own, matches }
    }
}

/// What was drawn for one picture.
#[derive(Clone, Copy, Debug)]
struct Alteration {
    part: Option<Part>,
    flip: bool,
    dx: i64,
    dy: i64,
    gain: f32,
}

impl Alteration {
    fn draw(how: Augment, side: u32, rng: &mut impl Rng) -> Self {
        let part = how.scale.map(|scale| Part::draw(scale, side, rng));
        let flip = how.flip && rng.random_bool(0.5);
        let reach = how.shift as i64;
        let (dx, dy) = (rng.random_range(-reach..=reach), rng.random_range(-reach..=reach));
        let gain = 1.0 + how.brightness * rng.random_range(-1.0f32..=1.0);
        Alteration { part, flip, dx, dy, gain }
    }

    /// Writes the picture [S, S, 3], enlarged, mirrored, shifted and brightened, to `altered`, which
    /// is black.
    fn apply(self, picture: &[u8], altered: &mut [u8]) {
        let Alteration { part, flip, dx, dy, gain } = self;
        let side = (picture.len() / 3).isqrt() as i64;
        let enlarged = part.map(|part| part.enlarge(picture, side as u32));
        let picture = enlarged.as_deref().unwrap_or(picture);
        if !flip && (dx, dy) == (0, 0) && gain == 1.0 {
            return altered.copy_from_slice(picture);
        }
        let bright: Vec<u8> = (0..=255u8).map(|v| (f32::from(v) * gain + 0.5) as u8).collect();
        for (at, pixel) in altered.chunks_exact_mut(3).enumerate() {
            let (x, y) = (at as i64 % side, at as i64 / side);
            let (from_x, from_y) = (if flip { side - 1 - x } else { x } + dx, y + dy);
            if (0..side).contains(&from_x) && (0..side).contains(&from_y) {
                let from = ((from_y * side + from_x) * 3) as usize;
                for (target, &v) in pixel.iter_mut().zip(&picture[from..from + 3]) {
                    *target = bright[usize::from(v)];
                }
            }
        }
    }
}
