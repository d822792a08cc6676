//! Times adaption re-ranking of 50 candidates at the dimensions of ViT-bigG-14.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pgclip_query::rerank::{Adaption, Options, rerank};

const CANDIDATES: usize = 50;
const DIMS: usize = 1280;

fn bench(criterion: &mut Criterion) {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as f32 / u32::MAX as f32 - 0.5
    };
    let centre: Vec<f32> = (0..DIMS).map(|_| noise()).collect();
    let embeddings: Vec<f32> =
        (0..CANDIDATES).flat_map(|_| centre.clone()).map(|x| x + noise()).collect();
    let scores: Vec<f32> = (0..CANDIDATES).map(|at| 0.4 - at as f32 * 1e-3).collect();
    for (name, adaption) in Adaption::NAMES {
        let options = Options { adaption, ..Options::default() };
        criterion.bench_function(&format!("{name} of {CANDIDATES} at {DIMS} dimensions"), |b| {
            b.iter(|| rerank(black_box(&embeddings), DIMS, black_box(&scores), &options));
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
