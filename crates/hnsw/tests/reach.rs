//! Every element can be reached, whatever the vectors: lists of neighbours are full, and the rules
//! that fill them go by distance, which shuts out whoever is like all the others.
//!
//! 1,000 vectors that differed by one step of fp16 in three of 128 coordinates, among 5,000 others, left
//! 908 elements that no way led to, and a filtered search found 322 of the 1,000 and said nothing.

mod common;

use std::collections::HashSet;

use common::*;
use half::f16;
use pgclip_hnsw::store::memory::MemoryStore;
use pgclip_hnsw::{
    BuildOptions, Builder, Control, Layout, Metric, Order, Placement, Pushed, Quiet, ScanOptions,
    Space, Tid, Values, check, vacuum,
};
use proptest::prelude::*;

/// Sound, and every living row is found by a scan that goes on until there are no more.
fn assert_whole(store: &MemoryStore, space: &Space, alive: &HashSet<Tid>, query: &[f16]) {
    let report = check(store, space, elements(store).into_iter()).unwrap();
    assert_eq!(report.faults, [], "{:?}, {} elements", space.layout(), report.elements);
    let options =
        ScanOptions { order: Order::Relaxed, max_records: u64::MAX, ..ScanOptions::default() };
    let found = search(store, space, query, usize::MAX, options, |_| true);
    let rows: HashSet<Tid> = found.iter().map(|row| row.tid).collect();
    assert_eq!(rows.len(), found.len(), "a row twice");
    assert_eq!(&rows, alive, "{:?}", space.layout());
}

/// Builds some of the vectors, then inserts, deletes and vacuums, and looks after each step.
fn live(
    space: &Space,
    vectors: &[Vec<f16>],
    built: usize,
    threads: usize,
    rounds: &[(usize, u64)],
) {
    let indexable = |i: &usize| space.is_indexable(&vectors[*i]);
    let mut builder = Builder::new(space);
    for number in (0..built).filter(indexable) {
        let values = values(number, space.layout().columns);
        let pushed = builder.push(&vectors[number], tid(number), Values::new(0, &values));
        assert_ne!(pushed, Pushed::Skipped);
    }
    let options = BuildOptions { ef_construction: 16, threads, seed: 7 };
    let pages = builder.build(options, 0, &Control::default(), &mut Quiet).unwrap();
    let store = MemoryStore::of(&pages);
    let mut alive: HashSet<Tid> = (0..built).filter(indexable).map(tid).collect();
    let query = &vectors[vectors.len() / 2];
    assert_whole(&store, space, &alive, query);
    let mut next = built;
    for &(count, dead) in rounds {
        let end = (next + count).min(vectors.len());
        insert_all(&store, space, vectors, (next..end).filter(indexable));
        alive.extend((next..end).filter(indexable).map(tid));
        next = end;
        assert_whole(&store, space, &alive, query);
        let gone = |tid: Tid| {
            (u64::from(tid.block) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0xff < dead
        };
        let all = elements(&store);
        vacuum(&store, space, || all.iter().copied(), gone).unwrap();
        alive.retain(|tid| !gone(*tid));
        assert_whole(&store, space, &alive, query);
    }
}

/// Vectors of one kind that shuts elements out.
fn vectors(kind: u8, dims: usize, count: usize, seed: u64) -> Vec<Vec<f16>> {
    let mut dice = Dice(seed);
    let base = dice.vector(dims);
    let step = |x: f16, by: i16| f16::from_bits((x.to_bits() as i16).wrapping_add(by) as u16);
    let mut one = |number: usize| -> Vec<f16> {
        match kind {
            // One of few values in each coordinate: ties of all kinds, and equal vectors.
            0 => (0..dims).map(|_| f16::from_f32(dice.below(3) as f32 - 1.0)).collect(),
            // All equally far from each other, as long as there are coordinates.
            1 => {
                (0..dims).map(|i| f16::from_f32(f32::from(u8::from(i == number % dims)))).collect()
            }
            // One step of fp16 from each other, in a few coordinates.
            2 => {
                let mut vector = base.clone();
                for _ in 0..3 {
                    let at = dice.below(dims);
                    vector[at] = step(vector[at], dice.below(3) as i16 - 1);
                }
                vector
            }
            // The same among others.
            3 if number.is_multiple_of(2) => {
                let mut vector = base.clone();
                let at = dice.below(dims);
                vector[at] = step(vector[at], dice.below(9) as i16 - 4);
                vector
            }
            // On one line, ever farther: each one's nearest is the one before.
            4 => base.iter().map(|x| f16::from_f32(x.to_f32() * (1.0 + number as f32))).collect(),
            _ => dice.vector(dims),
        }
    };
    (0..count).map(&mut one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_element_is_reached_after_any_changes(
        kind in 0u8..6,
        dims in prop_oneof![1usize..4, 8usize..40],
        m in prop_oneof![Just(2usize), Just(3), Just(8)],
        metric in prop_oneof![Just(Metric::L2), Just(Metric::InnerProduct), Just(Metric::Cosine)],
        placement in prop_oneof![
            Just(Placement::Inline), Just(Placement::Split), Just(Placement::Plain)
        ],
        built in 0usize..400,
        threads in 1usize..4,
        rounds in prop::collection::vec((0usize..150, prop_oneof![0u64..40, 0u64..257]), 1..4),
        seed in any::<u64>(),
    ) {
        let layout = Layout::new(metric, dims, m, 0).unwrap();
        let space = Space::new(layout.with_placement(placement).expect("fits"), 42, None);
        let count = built + rounds.iter().map(|(count, _)| count).sum::<usize>();
        live(&space, &vectors(kind, dims, count.max(1), seed), built, threads, &rounds);
    }
}

/// The case that was reported, at its size; and what is near each other must be told from the rest.
#[test]
fn a_thousand_steps_of_fp16_apart() {
    const DIMS: usize = 128;
    for m in [2, 16] {
        let layout = Layout::new(Metric::L2, DIMS, m, 0).unwrap();
        let space = Space::new(layout, 42, None);
        let mut all: Vec<Vec<f16>> = vectors(5, DIMS, 5000, 3);
        for vector in &mut all {
            let norm = pgclip_simd::squared_norm(vector).sqrt();
            vector.iter_mut().for_each(|x| *x = f16::from_f32(x.to_f32() / norm));
        }
        let base = all[17].clone();
        let mut dice = Dice(4);
        let mut known = HashSet::new();
        while known.len() < 1000 {
            let mut vector = base.clone();
            for _ in 0..3 {
                let at = dice.below(DIMS);
                vector[at] = f16::from_bits(vector[at].to_bits() + 1);
            }
            let bits: Vec<u16> = vector.iter().map(|x| x.to_bits()).collect();
            if known.insert(bits) {
                all.push(vector);
            }
        }
        // With four edges an element it depends on the order of inserts how much is found: 0.70 to 0.99 by
        // two threads, 0.81 by one.
        let threads = if m == 2 { 1 } else { 2 };
        for store in [build(&space, &all, threads), {
            let store = build(&space, &all[..5000], 1);
            insert_all(&store, &space, &all, 5000..6000);
            store
        }] {
            let report = check(&store, &space, elements(&store).into_iter()).unwrap();
            assert_eq!(report.faults, []);
            let options = ScanOptions { max_records: 100_000, ..ScanOptions::default() };
            let relaxed = ScanOptions { order: Order::Relaxed, ..options };
            let near = search(&store, &space, &base, 1001, relaxed, |_| true);
            let right = near.iter().filter(|row| row.tid.block >= 5000 || row.tid.block == 17);
            assert!(right.count() >= 950);
            assert_whole(&store, &space, &(0..all.len()).map(tid).collect(), &base);
            let queries: Vec<Vec<f16>> = all[5000..].iter().step_by(50).cloned().collect();
            let among: Vec<usize> = (0..all.len()).collect();
            let recall = recall(&store, &space, &queries, &all, &among, options);
            println!("m = {m}: recall {recall}");
            let least = if m == 2 { 0.7 } else { 0.9 };
            assert!(recall >= least, "{recall}");
        }
    }
}
