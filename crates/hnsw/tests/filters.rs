//! Filters: rows that pass are found however few they are, and nothing else is returned.

mod common;

use common::*;
use pgclip_hnsw::store::memory::MemoryStore;
use pgclip_hnsw::{InsertOptions, Metric, NewRow, ScanOptions, Values, insert};

const ROWS: usize = 4000;
const DIMS: usize = 16;

#[test]
fn selective_filters_return_all_rows() {
    let space = space(Metric::Cosine, DIMS, 1);
    let mut vectors = Dice(1).clusters(DIMS, ROWS + 20);
    let queries = vectors.split_off(ROWS);
    let store = build(&space, &vectors, 2);
    for one_in in [2, 10, 100, 1000] {
        let passes = |number: u64| {
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0xffff < 65536 / one_in
        };
        let among: Vec<usize> = (0..ROWS).filter(|i| passes(*i as u64)).collect();
        let k = K.min(among.len());
        let (mut hits, mut all) = (0, 0);
        for query in &queries {
            let right = exact(&space, query, &vectors, among.iter().copied());
            let options = ScanOptions { slack: 0.3, ..ScanOptions::default() };
            let filter = |values: Values<'_>| values.get(0).is_some_and(passes);
            let rows = search(&store, &space, query, k, options, filter);
            assert_eq!(rows.len(), k, "one in {one_in}");
            assert!(rows.iter().all(|row| among.contains(&(row.tid.block as usize))));
            hits += rows.iter().filter(|row| row.distance <= right[k - 1].0).count();
            all += k;
        }
        assert!(hits as f64 >= 0.95 * all as f64, "one in {one_in}: {hits} of {all}");
    }
}

#[test]
fn filters_that_nothing_passes_end() {
    let space = space(Metric::L2, DIMS, 1);
    let vectors = Dice(2).clusters(DIMS, 500);
    let store = build(&space, &vectors, 1);
    assert_eq!(search(&store, &space, &vectors[0], 5, ScanOptions::default(), |_| false), []);
}

#[test]
fn values_and_nulls_are_kept_column_by_column() {
    let columns = 3;
    let space = space(Metric::L2, DIMS, columns);
    let vectors = Dice(3).clusters(DIMS, 50);
    let store = MemoryStore::new();
    for (i, vector) in vectors.iter().enumerate() {
        let bytes: Vec<u8> =
            [i as u64, u64::MAX - i as u64, 7].iter().flat_map(|x| x.to_le_bytes()).collect();
        let nulls = if i % 2 == 0 { 0b100 } else { 0 };
        let values = Values::new(nulls, &bytes);
        let row = NewRow { vector, tid: tid(i), values };
        insert(&store, &space, row, InsertOptions { ef_construction: EF, level: 0 }).unwrap();
    }
    let mut seen = 0;
    search(&store, &space, &vectors[0], 50, ScanOptions::default(), |values| {
        let i = values.get(0).expect("not null");
        assert_eq!(values.get(1), Some(u64::MAX - i));
        assert_eq!(values.get(2), (i % 2 == 1).then_some(7));
        assert_eq!(values.get(3), None);
        seen += 1;
        true
    });
    assert_eq!(seen, 50);
}
