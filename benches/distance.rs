//! The distance kernels, each variant that this CPU runs, against what one would write with `half`
//! alone: widen both vectors with its slice conversions (which use F16C, too), then loop.
//!
//! `cargo bench -p pgclip-benches --bench distance`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use half::slice::HalfFloatSliceExt;
use pgclip_simd::{Kernels, Level};

/// ViT-S and ViT-B's text width, ViT-L-14's, ViT-bigG-14's.
const DIMENSIONS: [usize; 3] = [384, 768, 1280];

/// A smooth vector without special values.
fn vector(dims: usize, phase: f32) -> Vec<f16> {
    (0..dims).map(|i| f16::from_f32((i as f32 * 0.37 + phase).sin() * 0.05)).collect()
}

/// The dot product with `half` alone.
fn half_dot(a: &[f16], b: &[f16], wide: &mut [Vec<f32>; 2]) -> f32 {
    a.convert_to_f32_slice(&mut wide[0]);
    b.convert_to_f32_slice(&mut wide[1]);
    wide[0].iter().zip(&wide[1]).map(|(a, b)| a * b).sum()
}

fn dot(c: &mut Criterion) {
    let mut group = c.benchmark_group("dot");
    for dims in DIMENSIONS {
        let (a, b) = (vector(dims, 0.0), vector(dims, 1.0));
        group.throughput(Throughput::Elements(dims as u64));
        group.bench_function(BenchmarkId::new("half", dims), |bencher| {
            let mut wide = [vec![0.0; dims], vec![0.0; dims]];
            bencher.iter(|| half_dot(black_box(&a), black_box(&b), &mut wide));
        });
        for level in Level::all() {
            group.bench_function(BenchmarkId::new(level.name(), dims), |bencher| {
                bencher.iter(|| level.dot(black_box(&a), black_box(&b)));
            });
        }
        group.bench_function(BenchmarkId::new("dispatched", dims), |bencher| {
            bencher.iter(|| pgclip_simd::dot(black_box(&a), black_box(&b)));
        });
    }
}

fn others(c: &mut Criterion) {
    for dims in DIMENSIONS {
        let (a, b) = (vector(dims, 0.0), vector(dims, 1.0));
        let mut wide = vec![0.0; dims];
        let mut narrow = vec![f16::ZERO; dims];
        for level in Level::all() {
            let mut bench = |name: &str, run: &mut dyn FnMut()| {
                c.benchmark_group(name)
                    .throughput(Throughput::Elements(dims as u64))
                    .bench_function(BenchmarkId::new(level.name(), dims), |bencher| {
                        bencher.iter(&mut *run)
                    });
            };
            bench("squared_l2", &mut || {
                black_box(level.squared_l2(black_box(&a), black_box(&b)));
            });
            bench("cosine_parts", &mut || {
                black_box(level.cosine_parts(black_box(&a), black_box(&b)));
            });
            bench("widen", &mut || level.widen(black_box(&a), black_box(&mut wide)));
            bench("narrow", &mut || level.narrow(black_box(&wide), black_box(&mut narrow)));
        }
    }
}

criterion_group!(benches, dot, others);
criterion_main!(benches);
