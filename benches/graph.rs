//! The index's graph in memory: the codes' kernels, a scan for ten rows, an insert, a small build;
//! and hnsw_rs on the same vectors, with our distance kernel.
//!
//! `cargo bench -p pgclip-benches --bench graph`. For recall against time over a range of settings
//! see `cargo run --release -p pgclip-hnsw --example curve`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use hnsw_rs::prelude::{Distance, Hnsw};
use pgclip_hnsw::store::memory::MemoryStore;
use pgclip_hnsw::{
    BuildOptions, Builder, Control, InsertOptions, Layout, Metric, NewRow, Quiet, Scan,
    ScanOptions, Space, Tid, Values, insert,
};
use pgclip_simd::codes::{CodeKernels, code_bytes, rotated_dims};
use pgclip_simd::{ByteKernels, Level, Rotation};
use pgclip_testkit::dice::{Dice, unit};

const M: usize = 16;
const EF: usize = 64;
const DIMS: usize = 384;

/// Uniform in -1 to 1.
fn signed(dice: &mut Dice) -> f32 {
    (2.0 * dice.uniform() - 1.0) as f32
}

/// Unit vectors in clusters of about a hundred.
fn clusters(dice: &mut Dice, count: usize) -> Vec<Vec<f16>> {
    let centres: Vec<Vec<f32>> =
        (0..count.div_ceil(100)).map(|_| (0..DIMS).map(|_| signed(dice)).collect()).collect();
    let mut one = |number: usize| {
        let centre = &centres[number % centres.len()];
        let near = centre.iter().map(|x| x + 0.6 * signed(dice)).collect();
        unit(near).into_iter().map(f16::from_f32).collect()
    };
    (0..count).map(&mut one).collect()
}

fn kernels(c: &mut Criterion) {
    let mut dice = Dice::new(1);
    for dims in [384, 768, 1280] {
        let width = rotated_dims(dims);
        let values: Vec<f32> = (0..width).map(|_| signed(&mut dice)).collect();
        let other: Vec<f32> = (0..width).map(|_| signed(&mut dice)).collect();
        let codes = vec![0b0110_1001u8; code_bytes(dims) * 2 * M];
        let bytes: Vec<i8> = values.iter().map(|x| (x * 127.0) as i8).collect();
        let slots: Vec<u8> = (0..2 * M as u8).collect();
        let mut sums = vec![0; 2 * M];
        let mut code = vec![0; code_bytes(dims)];
        for level in Level::all() {
            let mut group = c.benchmark_group("masked_sums of a record");
            group.throughput(Throughput::Elements((width * 2 * M) as u64));
            group.bench_function(BenchmarkId::new(level.name(), dims), |bencher| {
                bencher.iter(|| level.masked_sums(black_box(&bytes), &codes, &slots, &mut sums));
            });
            group.finish();
            c.benchmark_group("encode_residual").bench_function(
                BenchmarkId::new(level.name(), dims),
                |bencher| {
                    bencher.iter(|| level.encode_residual(black_box(&values), &other, &mut code));
                },
            );
        }
        let rotation = Rotation::new(dims, 1);
        let vector: Vec<f16> = values[..dims].iter().map(|x| f16::from_f32(*x)).collect();
        let mut rotated = vec![0.0; width];
        c.benchmark_group("rotate").bench_function(BenchmarkId::from_parameter(dims), |bencher| {
            bencher.iter(|| rotation.rotate(black_box(&vector), 1.0, &mut rotated));
        });
    }
}

fn build(space: &Space, vectors: &[Vec<f16>]) -> MemoryStore {
    let mut builder = Builder::new(space);
    builder.reserve(vectors.len()).expect("memory");
    for (block, vector) in (0..).zip(vectors) {
        builder.push(vector, Tid { block, item: 1 }, Values::new(0, &[]));
    }
    let options = BuildOptions { ef_construction: EF, threads: 1, seed: 1 };
    let pages = builder.build(options, 0, &Control::default(), &mut Quiet).expect("not stopped");
    MemoryStore::of(&pages)
}

/// Cosine distance of unit vectors, as hnsw_rs wants it: never negative.
#[derive(Default, Clone)]
struct Cosine;

impl Distance<f16> for Cosine {
    fn eval(&self, a: &[f16], b: &[f16]) -> f32 {
        (1.0 - pgclip_simd::dot(a, b)).max(0.0)
    }
}

fn peer(vectors: &[Vec<f16>]) -> Hnsw<'_, f16, Cosine> {
    let peer = Hnsw::new(M, vectors.len(), 16, EF, Cosine);
    for (number, vector) in vectors.iter().enumerate() {
        peer.insert((vector, number));
    }
    peer
}

fn graph(c: &mut Criterion) {
    let mut vectors = clusters(&mut Dice::new(2), 20_100);
    let queries = vectors.split_off(20_000);
    let space = Space::new(Layout::new(Metric::Cosine, DIMS, M, 0).expect("fits"), 1, None);
    let store = build(&space, &vectors);
    let other = peer(&vectors);
    let mut group = c.benchmark_group("search for 10 among 20,000");
    let mut turn = queries.iter().cycle();
    let mut scan = Scan::new();
    group.bench_function("ours, slack 0.15", |bencher| {
        bencher.iter(|| {
            let query = space.query(turn.next().expect("a circle"));
            scan.start(ScanOptions::default(), None);
            for _ in 0..10 {
                black_box(scan.next(&store, &space, &query, |_| true).expect("no damage"));
            }
        });
    });
    group.bench_function("hnsw_rs, ef 64", |bencher| {
        bencher.iter(|| black_box(other.search(turn.next().expect("a circle"), 10, EF)));
    });
    group.finish();
    let mut number = 0;
    c.bench_function("insert among 20,000", |bencher| {
        bencher.iter(|| {
            let vector: Vec<f16> = queries[number as usize % 100]
                .iter()
                .map(|x| f16::from_f32(x.to_f32() + 1e-3 * number as f32))
                .collect();
            number += 1;
            let tid = Tid { block: number, item: 2 };
            let row = NewRow { vector: &vector, tid, values: Values::new(0, &[]) };
            let level = pgclip_hnsw::level(&space, 3, u64::from(number));
            insert(&store, &space, row, InsertOptions { ef_construction: EF, level })
        });
    });
    let mut group = c.benchmark_group("build of 2,000");
    group.sample_size(10);
    group.bench_function("ours, one thread", |bencher| {
        bencher.iter(|| build(&space, black_box(&vectors[..2000])));
    });
    group.bench_function("hnsw_rs, one thread", |bencher| {
        bencher.iter(|| peer(black_box(&vectors[..2000])));
    });
}

criterion_group!(benches, kernels, graph);
criterion_main!(benches);
