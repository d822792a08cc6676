//! What the tests share: a world of clustered vectors, exact answers, and recall.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::collections::HashSet;

use half::f16;
use pgclip_hnsw::format::record::Kind;
use pgclip_hnsw::store::memory::MemoryStore;
use pgclip_hnsw::{
    BuildOptions, Builder, Control, Id, InsertOptions, Inserted, Layout, Metric, NewRow, Placement,
    Pushed, Quiet, Row, Scan, ScanOptions, Space, Store, Tid, Values, insert,
};

/// SplitMix64 with a fixed seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// About normal, variance one.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
    }

    pub fn vector(&mut self, dims: usize) -> Vec<f16> {
        (0..dims).map(|_| f16::from_f32(self.normal())).collect()
    }

    /// `count` vectors in clusters.
    pub fn clusters(&mut self, dims: usize, count: usize) -> Vec<Vec<f16>> {
        let centres: Vec<Vec<f32>> =
            (0..50).map(|_| (0..dims).map(|_| self.normal()).collect()).collect();
        let mut one = || {
            let centre = &centres[self.below(centres.len())];
            centre.iter().map(|x| f16::from_f32(x + 0.7 * self.normal())).collect()
        };
        (0..count).map(|_| one()).collect()
    }

    /// `count` vectors in clusters of which each is far smaller than its distance from the others;
    /// numbers go round the clusters.
    pub fn tight_clusters(&mut self, dims: usize, clusters: usize, count: usize) -> Vec<Vec<f16>> {
        let centres: Vec<Vec<f32>> =
            (0..clusters).map(|_| (0..dims).map(|_| self.normal()).collect()).collect();
        let mut one = |number: usize| {
            let centre = &centres[number % clusters];
            centre.iter().map(|x| f16::from_f32(x + 0.05 * self.normal())).collect()
        };
        (0..count).map(&mut one).collect()
    }
}

pub const M: usize = 8;
pub const EF: usize = 40;
pub const K: usize = 10;

pub fn space(metric: Metric, dims: usize, columns: usize) -> Space {
    Space::new(Layout::new(metric, dims, M, columns).unwrap(), 42, None)
}

pub fn placed(metric: Metric, dims: usize, columns: usize, placement: Placement) -> Space {
    let layout = Layout::new(metric, dims, M, columns).unwrap();
    Space::new(layout.with_placement(placement).expect("fits"), 42, None)
}

/// The row of a vector's number.
pub fn tid(number: usize) -> Tid {
    Tid { block: number as u32, item: 1 }
}

/// The filter values of a vector's number: itself, in each column.
pub fn values(number: usize, columns: usize) -> Vec<u8> {
    (number as u64).to_le_bytes().repeat(columns)
}

/// A store with these vectors, built at once.
pub fn build(space: &Space, vectors: &[Vec<f16>], threads: usize) -> MemoryStore {
    let columns = space.layout().columns;
    let mut builder = Builder::new(space);
    for (number, vector) in vectors.iter().enumerate() {
        let values = values(number, columns);
        assert_ne!(builder.push(vector, tid(number), Values::new(0, &values)), Pushed::Skipped);
    }
    let options = BuildOptions { ef_construction: EF, threads, seed: 7 };
    let pages = builder.build(options, 0, &Control::default(), &mut Quiet).unwrap();
    MemoryStore::of(&pages)
}

/// Inserts the vectors of these numbers.
pub fn insert_all(
    store: &MemoryStore,
    space: &Space,
    vectors: &[Vec<f16>],
    numbers: impl IntoIterator<Item = usize>,
) {
    for number in numbers {
        let values = values(number, space.layout().columns);
        let values = Values::new(0, &values);
        let row = NewRow { vector: &vectors[number], tid: tid(number), values };
        let level = pgclip_hnsw::level(space, 9, number as u64);
        let options = InsertOptions { ef_construction: EF, level };
        assert_ne!(insert(store, space, row, options).unwrap(), Inserted::Skipped);
    }
}

/// The places of all elements.
pub fn elements(store: &MemoryStore) -> Vec<Id> {
    let is_element = |id: &Id| store.read(*id, Kind::of).unwrap() == Some(Ok(Kind::Element));
    store.ids().into_iter().filter(is_element).collect()
}

/// The first `limit` rows that pass.
pub fn search(
    store: &MemoryStore,
    space: &Space,
    query: &[f16],
    limit: usize,
    options: ScanOptions,
    mut pass: impl FnMut(Values<'_>) -> bool,
) -> Vec<Row> {
    let query = space.query(query);
    let mut scan = Scan::new();
    scan.start(options, None);
    let mut rows = Vec::new();
    while rows.len() < limit {
        match scan.next(store, space, &query, &mut pass).unwrap() {
            Some(row) => rows.push(row),
            None => break,
        }
    }
    rows
}

/// The exact distances to all of these, least first.
pub fn exact(
    space: &Space,
    query: &[f16],
    vectors: &[Vec<f16>],
    among: impl IntoIterator<Item = usize>,
) -> Vec<(f64, usize)> {
    let norm = pgclip_simd::squared_norm;
    let mut all: Vec<(f64, usize)> = among
        .into_iter()
        .map(|i| {
            let v = &vectors[i];
            (space.distance(query, norm(query), v, norm(v)).operator, i)
        })
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

/// The share of the K nearest that are found, over all queries; ties count.
pub fn recall(
    store: &MemoryStore,
    space: &Space,
    queries: &[Vec<f16>],
    vectors: &[Vec<f16>],
    among: &[usize],
    options: ScanOptions,
) -> f64 {
    let mut hits = 0;
    for query in queries {
        let right = exact(space, query, vectors, among.iter().copied());
        let worst = right[K - 1].0;
        let rows = search(store, space, query, K, options, |_| true);
        hits += rows.iter().filter(|row| row.distance <= worst).count();
    }
    hits as f64 / (queries.len() * K) as f64
}

/// Checks the graph's shape, and returns how many elements cannot be reached on the base layer.
pub fn unreachable(store: &MemoryStore, space: &Space) -> usize {
    use pgclip_hnsw::Element;
    use pgclip_hnsw::format::record::edges_tuple;
    let layout = space.layout();
    let all: HashSet<Id> = elements(store).into_iter().collect();
    let neighbours = |id: Id| {
        let read = store.read(id, |bytes| {
            let element = Element::new(layout, bytes).unwrap();
            (element.edges().map(|edges| edges.ids().collect::<Vec<_>>()), element.edges_id())
        });
        let (here, apart) = read.unwrap().expect("the element is there");
        here.unwrap_or_else(|| {
            let read = store.read(apart.expect("has edges"), |bytes| {
                edges_tuple(layout, bytes).unwrap().ids().collect::<Vec<_>>()
            });
            read.unwrap().expect("the edges are there")
        })
    };
    let mut seen = HashSet::new();
    let mut open: Vec<Id> = store.entry().unwrap().map(|entry| entry.id).into_iter().collect();
    seen.extend(open.iter().copied());
    while let Some(id) = open.pop() {
        let ids = neighbours(id);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "an edge twice");
        for id in ids {
            assert!(all.contains(&id), "an edge to nothing");
            if seen.insert(id) {
                open.push(id);
            }
        }
    }
    all.len() - seen.len()
}
