//! Recall against time: builds a graph over clustered vectors in memory and prints, for each slack,
//! recall@10, microseconds, records expanded and records read a query.
//!
//! `cargo run --release -p pgclip-hnsw --example curve -- [ROWS [DIMS [THREADS [M [EF [QUERIES [BURST]]]]]]]`
//!
//! Two sets of queries: of the data's own kind, and text-like ones, which share a direction of their
//! own and are half noise. With BURST the data are scenes in about so many frames each, nearly alike.

use std::time::Instant;

use half::f16;
use pgclip_hnsw::memory::MemoryStore;
use pgclip_hnsw::{
    BuildOptions, Builder, Control, Layout, Metric, Query, Quiet, Scan, ScanOptions, Space, Tid,
    Values,
};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// About normal, variance one.
    fn normal(&mut self) -> f32 {
        let sum: u32 = (0..2)
            .map(|_| self.next())
            .flat_map(|x| [x as u16, (x >> 16) as u16, (x >> 32) as u16, (x >> 48) as u16])
            .map(u32::from)
            .sum();
        (sum as f32 / 65536.0 - 4.0) * (12.0f32 / 8.0).sqrt()
    }

    fn direction(&mut self, dims: usize) -> Vec<f32> {
        let raw: Vec<f32> = (0..dims).map(|_| self.normal()).collect();
        let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
        raw.iter().map(|x| x / norm).collect()
    }
}

/// Vectors of low intrinsic dimension in clusters, with a common direction: something like what
/// encoders give.
struct World {
    dims: usize,
    centres: Vec<Vec<f32>>,
    basis: Vec<Vec<f32>>,
    common: Vec<f32>,
    text: Vec<f32>,
}

impl World {
    fn new(dims: usize, dice: &mut Dice) -> Self {
        Self {
            dims,
            centres: (0..1000).map(|_| dice.direction(dims)).collect(),
            basis: (0..40).map(|_| dice.direction(dims)).collect(),
            common: dice.direction(dims),
            text: dice.direction(dims),
        }
    }

    fn signal(&self, dice: &mut Dice) -> Vec<f32> {
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

    fn image(&self, dice: &mut Dice) -> Vec<f16> {
        let signal = self.signal(dice);
        unit(signal.iter().zip(&self.common).map(|(s, c)| s + 0.5 * c))
    }

    /// A frame of the same scene: the image and a twentieth of its length in noise.
    fn frame(&self, image: &[f16], dice: &mut Dice) -> Vec<f16> {
        let noise = dice.direction(self.dims);
        unit(image.iter().zip(noise).map(|(x, n)| x.to_f32() + 0.05 * n))
    }

    fn caption(&self, dice: &mut Dice) -> Vec<f16> {
        let (signal, noise) = (self.signal(dice), dice.direction(self.dims));
        let parts = signal.iter().zip(noise).zip(&self.text);
        unit(parts.map(|((s, n), t)| 0.5 * s + 0.5 * n + 0.8 * t))
    }
}

fn unit(vector: impl Iterator<Item = f32>) -> Vec<f16> {
    let vector: Vec<f32> = vector.collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| f16::from_f32(x / norm)).collect()
}

const K: usize = 10;

/// Seconds that this thread has run: on a busy machine the clock says more about the others. Where
/// the system does not tell, the clock.
fn seconds(since: Instant) -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    spent.map_or_else(|| since.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

/// Seconds that all threads of this process have run, to a hundredth; 0 where the system does not
/// tell.
fn all_threads() -> f64 {
    let spent = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = spent.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The exact answers, by number.
fn truth(space: &Space, vectors: &[Vec<f16>], query: &[f16]) -> Vec<u32> {
    let q2 = pgclip_simd::squared_norm(query);
    let mut all: Vec<(f64, u32)> = (0..)
        .zip(vectors)
        .map(|(i, v)| (space.distance(query, q2, v, pgclip_simd::squared_norm(v)).operator, i))
        .collect();
    all.select_nth_unstable_by(K, |a, b| a.0.total_cmp(&b.0));
    all[..K].iter().map(|(_, i)| *i).collect()
}

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).map(|x| x.parse().expect("a number")).collect();
    let arg = |at: usize, or: usize| args.get(at).copied().unwrap_or(or);
    let (rows, dims, threads, m, ef) =
        (arg(0, 100_000), arg(1, 384), arg(2, 2), arg(3, 16), arg(4, 64));
    let (count, burst) = (arg(5, 500), arg(6, 1));
    let epoch = Instant::now();
    let mut dice = Dice(1);
    let world = World::new(dims, &mut dice);
    let scenes: Vec<Vec<f16>> = (0..rows / burst).map(|_| world.image(&mut dice)).collect();
    let image = |dice: &mut Dice| match burst {
        1 => world.image(dice),
        _ => world.frame(&scenes[dice.next() as usize % scenes.len()], dice),
    };
    let vectors: Vec<Vec<f16>> = (0..rows).map(|_| image(&mut dice)).collect();
    let layout = Layout::new(Metric::Cosine, dims, m, 0).expect("fits");
    println!("{:?}, element {} B", layout.placement, layout.element_bytes());
    let space = Space::new(layout, 42, Some(&world.text));
    let started = Instant::now();
    let mut builder = Builder::new(&space);
    builder.reserve(rows).expect("memory");
    for (i, vector) in (0..).zip(&vectors) {
        builder.push(vector, Tid { block: i, item: 1 }, Values::new(0, &[]));
    }
    println!("gathered in {:.2} s", started.elapsed().as_secs_f64());
    let options = BuildOptions { ef_construction: ef, threads, seed: 7 };
    let (started, busy) = (Instant::now(), all_threads());
    let pages = builder.build(options, 0, &Control::default(), &mut Quiet).expect("not stopped");
    println!(
        "built in {:.2} s by {threads} threads, which ran for {:.2} s",
        started.elapsed().as_secs_f64(),
        all_threads() - busy
    );
    let (started, busy) = (Instant::now(), all_threads());
    let store = MemoryStore::of(&pages);
    println!(
        "written in {:.2} s, {:.2} s of two threads, {} pages",
        started.elapsed().as_secs_f64(),
        all_threads() - busy,
        store.blocks()
    );
    for (kind, queries) in [
        ("image", (0..count).map(|_| image(&mut dice)).collect::<Vec<_>>()),
        ("text", (0..count).map(|_| world.caption(&mut dice)).collect()),
    ] {
        let right: Vec<Vec<u32>> = queries.iter().map(|q| truth(&space, &vectors, q)).collect();
        for slack in [0.05, 0.1, 0.125, 0.15, 0.175, 0.2, 0.3] {
            let mut scan = Scan::new();
            let (mut hits, mut records, mut late) = (0, 0, 0);
            let (started, reads) = (seconds(epoch), store.reads());
            for (query, right) in queries.iter().zip(&right) {
                let query: Query = space.query(query);
                let mean = pages.moments().mean_distance(&space, &query);
                scan.start(ScanOptions { slack, ..ScanOptions::default() }, mean);
                for _ in 0..K {
                    let row = scan.next(&store, &space, &query, |_| true).expect("no damage");
                    hits += row.map_or(0, |row| usize::from(right.contains(&row.tid.block)));
                }
                records += scan.stats().records;
                late += scan.stats().late;
            }
            let each = 1.0 / queries.len() as f64;
            println!(
                "{kind:5} slack {slack:<5} recall {:.4}  {:7.1} µs  {:6.0} records  {:6.0} reads  {late} late",
                hits as f64 * each / K as f64,
                (seconds(epoch) - started) * 1e6 * each,
                records as f64 * each,
                (store.reads() - reads) as f64 * each,
            );
        }
    }
}
