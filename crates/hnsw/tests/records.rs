//! Records: the sizes that the layout promises, estimates against exact distances, and bytes that
//! are not what they should be.

mod common;

use common::*;
use half::f16;
use pgclip_hnsw::format::edges::{End, Origin, Scratch};
use pgclip_hnsw::format::id::ID_BYTES;
use pgclip_hnsw::format::layout::{ITEM_POINTER, MAX_RECORD, PAGE_ROOM, UPPER_HEADER};
use pgclip_hnsw::format::overflow::Overflow;
use pgclip_hnsw::format::record::{ElementMut, Kind, edges_tuple};
use pgclip_hnsw::format::upper::{Upper, new_upper, upper_mut};
use pgclip_hnsw::store::memory::MemoryStore;
use pgclip_hnsw::{
    Element, Entry, Error, Fault, Id, InsertOptions, Layout, LayoutError, Metric, NewRow, Order,
    Placement, Scan, ScanOptions, Space, Store, StoreMut, Values, check, insert, vacuum,
};

fn layout(dims: usize, m: usize, columns: usize) -> Layout {
    Layout::new(Metric::Cosine, dims, m, columns).unwrap()
}

#[test]
fn layouts_are_chosen_by_what_fits() {
    let per_page = |l: &Layout| PAGE_ROOM / (l.element_bytes() + ITEM_POINTER);
    let inline = |dims, m, columns, pages| {
        let layout = layout(dims, m, columns);
        assert_eq!(layout.placement, Placement::Inline, "{dims} {m} {columns}");
        assert_eq!(per_page(&layout), pages, "{dims} {m} {columns}: {}", layout.element_bytes());
    };
    inline(384, 16, 0, 4);
    inline(384, 16, 3, 4);
    inline(384, 16, 8, 4);
    inline(512, 16, 1, 3);
    inline(768, 16, 1, 2);
    inline(1024, 16, 1, 2);
    inline(1280, 16, 5, 1);
    // Few edges are not made fewer, and neither are those of a record that has a page to itself.
    assert_eq!([layout(384, 2, 0).edges(), layout(384, 4, 0).edges()], [4, 8]);
    assert_eq!([layout(384, 16, 0).edges(), layout(384, 16, 0).bits()], [24, 320]);
    assert_eq!([layout(1280, 16, 0).edges(), layout(1280, 16, 0).bits()], [32, 1280]);
    assert_eq!(layout(384, 64, 0).placement, Placement::Split);
    assert_eq!(layout(768, 32, 0).placement, Placement::Split);
    assert_eq!(layout(1408, 16, 0).placement, Placement::Split);
    assert_eq!(layout(2000, 16, 0).placement, Placement::Plain);
    for dims in [1, 2, 3, 100, 384, 768, 1280, 1900, 2000, 3900] {
        for m in [2, 3, 16, 40, 100] {
            for columns in [0, 1, 8] {
                if let Ok(layout) = Layout::new(Metric::L2, dims, m, columns) {
                    let upper = layout.upper_bytes();
                    let sizes = [layout.element_bytes(), layout.edges_tuple(), upper];
                    assert!(sizes.iter().all(|size| *size <= MAX_RECORD));
                    assert!(layout.overflow_bytes(layout.max_overflow()) <= MAX_RECORD);
                }
            }
        }
    }
}

#[test]
fn what_no_layout_serves_is_refused_with_the_numbers() {
    let refused = |dims, m, columns| Layout::new(Metric::Cosine, dims, m, columns).unwrap_err();
    assert_eq!(refused(384, 1, 0), LayoutError::M { m: 1 });
    assert_eq!(refused(384, 101, 0), LayoutError::M { m: 101 });
    assert_eq!(refused(384, 16, 9), LayoutError::Columns { columns: 9 });
    assert_eq!(refused(0, 16, 0), LayoutError::NoDimensions);
    let LayoutError::TooWide { most, .. } = refused(16_000, 16, 1) else { panic!() };
    assert!(Layout::new(Metric::Cosine, most, 16, 1).is_ok());
    assert!(Layout::new(Metric::Cosine, most + 8, 16, 1).is_err());
}

/// An element with edges to `to`, and its bytes.
fn element(space: &Space, from: &[f16], to: &[Vec<f16>]) -> Vec<u8> {
    let mut bytes = vec![0; space.layout().element_bytes()];
    let mut element = ElementMut::init(space.layout(), &mut bytes, 0);
    let own = space.plain_query(from);
    element.set_vector(from, pgclip_simd::squared_norm(from), 0.0);
    let mut edges = element.edges().unwrap();
    for (slot, to) in to.iter().enumerate() {
        let to = space.plain_query(to);
        let id = Id { block: slot as u32, item: 1 };
        edges.set(slot, id, End::of(space, &own), End::of(space, &to));
    }
    bytes
}

fn estimates(space: &Space, bytes: &[u8], query: &pgclip_hnsw::Query) -> Vec<f32> {
    let element = Element::new(space.layout(), bytes).unwrap();
    let vector: Vec<f16> =
        element.vector().as_chunks::<2>().0.iter().map(|x| f16::from_le_bytes(*x)).collect();
    let q2 = pgclip_simd::squared_norm(query.vector());
    let inner = space.distance(query.vector(), q2, &vector, element.norm2()).inner;
    let origin = Origin { inner, norm2: element.norm2(), text: element.text() };
    let mut out = Vec::new();
    element.edges().unwrap().estimate(query, origin, &mut Scratch::default(), &mut out);
    out
}

/// The error of an estimate is that of one bit a component: about 0.76/√d of what is estimated.
#[test]
fn estimates_are_near_and_without_bias() {
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        for (dims, size) in [(128, 1.0), (384, 1.0), (384, 100.0), (768, 0.01)] {
            let mut dice = Dice(dims as u64);
            let space = Space::new(layout_of(metric, dims), 3, None);
            let mut sized = |dims| -> Vec<f16> {
                dice.vector(dims).iter().map(|x| f16::from_f32(x.to_f32() * size)).collect()
            };
            let (mut bias, mut square, mut count) = (0.0, 0.0, 0.0);
            for _ in 0..20 {
                let (from, query) = (sized(dims), sized(dims));
                let to: Vec<Vec<f16>> = (0..16).map(|_| sized(dims)).collect();
                let bytes = element(&space, &from, &to);
                let q2 = pgclip_simd::squared_norm(&query);
                let got = estimates(&space, &bytes, &space.query(&query));
                for (estimate, to) in got.iter().zip(&to) {
                    let to2 = pgclip_simd::squared_norm(to);
                    let exact = space.distance(&query, q2, to, to2).inner;
                    // What an error is measured by: 2|q||r|, or 2|r| on the unit sphere.
                    let unit = if metric == Metric::Cosine { 1.0 } else { q2 };
                    let error = f64::from((estimate - exact) / (2.0 * 2f32.sqrt() * unit));
                    bias += error;
                    square += error * error;
                    count += 1.0;
                }
            }
            let theory = (0.5708 / dims as f64).sqrt();
            let (bias, deviation) = (bias / count, f64::sqrt(square / count));
            assert!(bias.abs() < 0.3 * theory, "{metric:?} {dims} {size}: bias {bias}");
            assert!(deviation < 1.25 * theory, "{metric:?} {dims}: {deviation}, theory {theory}");
        }
    }
}

fn layout_of(metric: Metric, dims: usize) -> Layout {
    Layout::new(metric, dims, 8, 0).unwrap().with_shape(16, dims).unwrap()
}

/// Taken as a query, an element knows its distances to its neighbours: nothing is left to estimate.
#[test]
fn an_elements_own_distances_are_exact() {
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let space = Space::new(layout_of(metric, 384), 3, None);
        let mut dice = Dice(5);
        let from = dice.vector(384);
        let mut to: Vec<Vec<f16>> = (0..16).map(|_| dice.vector(384)).collect();
        to[3] = from.clone();
        to[4].iter_mut().for_each(|x| *x = f16::from_f32(x.to_f32() * 50.0));
        let bytes = element(&space, &from, &to);
        let got = estimates(&space, &bytes, &space.plain_query(&from));
        let norm = pgclip_simd::squared_norm;
        let largest = if metric == Metric::Cosine { 2.0 } else { norm(&to[4]) };
        for (estimate, to) in got.iter().zip(&to) {
            let exact = space.distance(&from, norm(&from), to, norm(to)).inner;
            assert!((estimate - exact).abs() < 0.005 * largest, "{metric:?}: {estimate} {exact}");
        }
    }
}

/// What the texts' direction is for: queries far along it, and estimates as good as without it.
#[test]
fn the_texts_direction_is_exact_but_for_a_byte() {
    let dims = 384;
    let mut dice = Dice(6);
    let direction: Vec<f32> = (0..dims).map(|_| dice.normal()).collect();
    let layout = layout_of(Metric::Cosine, dims);
    let with = Space::new(layout.clone(), 3, Some(&direction));
    let without = Space::new(layout, 3, None);
    let mut errors = [0.0; 2];
    for _ in 0..30 {
        let from = dice.vector(dims);
        let to: Vec<Vec<f16>> = (0..16).map(|_| dice.vector(dims)).collect();
        let query: Vec<f16> =
            direction.iter().map(|g| f16::from_f32(2.0 * g + 0.5 * dice.normal())).collect();
        for (space, error) in [&with, &without].into_iter().zip(&mut errors) {
            let mut bytes = element(space, &from, &to);
            let own = space.plain_query(&from);
            let norm = pgclip_simd::squared_norm;
            // The record holds the element's share of the direction.
            let unit = norm(&direction.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>());
            let along: f32 = from.iter().zip(&direction).map(|(x, g)| x.to_f32() * g).sum();
            let along = along * own.scale() / unit.sqrt();
            ElementMut::new(space.layout(), &mut bytes).unwrap().set_vector(
                &from,
                norm(&from),
                along,
            );
            let got = estimates(space, &bytes, &space.query(&query));
            for (estimate, to) in got.iter().zip(&to) {
                let exact = space.distance(&query, norm(&query), to, norm(to)).inner;
                *error += f64::from((estimate - exact).powi(2));
            }
        }
    }
    assert!(errors[0] < 0.3 * errors[1], "{errors:?}");
}

/// Every byte of every record in turn is overwritten: views refuse or answer, searches, inserts and
/// vacuums end, nothing panics.
#[test]
fn damaged_records_never_panic() {
    for placement in [Placement::Inline, Placement::Split, Placement::Plain] {
        let space = placed(Metric::L2, 8, 1, placement);
        let mut vectors = Dice(7).clusters(8, 120);
        for i in 60..80 {
            vectors[i] = vectors[0].clone();
        }
        let mut dice = Dice(8);
        for round in 0..150 {
            let store = build(&space, &vectors, 1);
            let ids = store.ids();
            for _ in 0..1 + round % 8 {
                let id = ids[dice.below(ids.len())];
                store.damage(id, |bytes| match dice.below(8) {
                    0 => bytes.truncate(dice.below(bytes.len())),
                    1 => bytes.fill(dice.next() as u8),
                    _ => {
                        for _ in 0..4 {
                            let at = dice.below(bytes.len().min(64));
                            bytes[at] = dice.next() as u8;
                        }
                    }
                });
            }
            let query = space.query(&vectors[round % 120]);
            let mut scan = Scan::new();
            scan.start(ScanOptions { max_records: 1000, ..ScanOptions::default() }, None);
            while let Ok(Some(_)) = scan.next(&store, &space, &query, |v| v.get(0).is_some()) {}
            let values = values(1, 1);
            let vector = dice.vector(8);
            let row = NewRow { vector: &vector, tid: tid(1), values: Values::new(0, &values) };
            let options = InsertOptions { ef_construction: 20, level: (round % 3) as u8 };
            let _ = insert(&store, &space, row, options);
            let _ = vacuum(&store, &space, || ids.iter().copied(), |tid| tid.block % 3 == 0);
        }
    }
}

#[test]
fn damage_is_reported_with_its_place() {
    let space = space(Metric::L2, 8, 0);
    let store = build(&space, &Dice(9).clusters(8, 50), 1);
    let ids = store.ids();
    ids.iter().for_each(|id| store.damage(*id, |bytes| bytes[1] = 9));
    let mut scan = Scan::new();
    scan.start(ScanOptions::default(), None);
    let query = space.query(&[f16::ONE; 8]);
    match scan.next(&store, &space, &query, |_| true) {
        Err(Error::Corrupt { id, what }) => {
            assert!(ids.contains(&id));
            assert_eq!(what, "of another format version");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn views_of_any_bytes_refuse_or_answer() {
    let mut dice = Dice(10);
    for placement in [Placement::Inline, Placement::Split, Placement::Plain] {
        let space = placed(Metric::L2, 8, 2, placement);
        let layout = space.layout();
        let records = [layout.element_bytes(), layout.edges_tuple(), layout.upper_bytes()];
        let mut lengths = vec![0, 1, 2, 7, 8, 9, 40, 116];
        lengths.extend(records);
        for _ in 0..20_000 {
            let length = lengths[dice.below(lengths.len())];
            let mut bytes: Vec<u8> = (0..length).map(|_| dice.next() as u8).collect();
            if let Some([kind, version]) = bytes.first_chunk_mut() {
                (*kind, *version) = (1 + dice.below(4) as u8, 1);
            }
            if let Ok(element) = Element::new(layout, &bytes) {
                let _ = (element.tid(), element.values().get(1), element.upper());
                if let Some(edges) = element.edges() {
                    edges.ids().for_each(drop);
                }
            }
            if let Ok(edges) = edges_tuple(layout, &bytes) {
                edges.ids().for_each(drop);
            }
            if let Ok(upper) = Upper::new(layout, &bytes) {
                let _ = (upper.layer(), upper.below());
                upper.edges().ids().for_each(drop);
            }
            if let Ok(overflow) = Overflow::new(layout, &bytes) {
                overflow.rows().for_each(drop);
            }
        }
    }
}

/// A scan may come by a place that a vacuum has freed and an insert has used again, for a record of
/// any kind and layer. It finds what it finds, but never damage.
#[test]
fn places_that_were_used_again_are_no_damage() {
    for placement in [Placement::Inline, Placement::Split, Placement::Plain] {
        let space = placed(Metric::L2, 8, 1, placement);
        let vectors = Dice(12).clusters(8, 120);
        let mut dice = Dice(13);
        for round in 0..100 {
            let store = build(&space, &vectors, 1);
            let entry = store.entry().unwrap().expect("not empty").id;
            let ids = store.ids();
            let records: Vec<Vec<u8>> = ids
                .iter()
                .map(|id| store.read(*id, |bytes| bytes.to_vec()).unwrap().expect("it is there"))
                .collect();
            for _ in 0..60 {
                let (id, other) = (ids[dice.below(ids.len())], dice.below(ids.len()));
                if id != entry {
                    store.damage(id, |bytes| bytes.clone_from(&records[other]));
                }
            }
            let query = space.query(&vectors[round]);
            let mut scan = Scan::new();
            scan.start(ScanOptions::default(), None);
            while scan.next(&store, &space, &query, |_| true).unwrap().is_some() {}
        }
    }
}

/// A scan that read the pointer to further rows before a vacuum freed them would return another
/// element's rows with its own distance, had an insert taken the place for those.
#[test]
fn further_rows_of_another_element_are_not_returned() {
    let space = placed(Metric::L2, 8, 0, Placement::Inline);
    let mut vectors = Dice(15).clusters(8, 40);
    let (a, b) = (vectors[0].clone(), vectors[1].clone());
    vectors.extend([a.clone(), b]);
    let store = build(&space, &vectors, 1);
    let chains: Vec<Id> = store
        .ids()
        .into_iter()
        .filter(|id| store.read(*id, Kind::of).unwrap() == Some(Ok(Kind::Overflow)))
        .collect();
    assert_eq!(chains.len(), 2);
    let others = |id: Id| store.read(id, <[u8]>::to_vec).unwrap().expect("it is there");
    let (first, second) = (others(chains[0]), others(chains[1]));
    let rows = |expected: usize| {
        let query = space.query(&a);
        let mut scan = Scan::new();
        scan.start(ScanOptions { order: Order::Relaxed, ..ScanOptions::default() }, None);
        let mut found = 0;
        while scan.next(&store, &space, &query, |_| true).unwrap().is_some() {
            found += 1;
        }
        assert_eq!(found, expected);
    };
    rows(42);
    store.damage(chains[0], |bytes| bytes.clone_from(&second));
    store.damage(chains[1], |bytes| bytes.clone_from(&first));
    rows(40);
}

/// An element's tuples are a chain of which each knows its edges' distances, as on the base layer.
#[test]
fn upper_layers_are_chains_with_codes() {
    let space = placed(Metric::L2, 384, 0, Placement::Inline);
    let layout = space.layout();
    let mut dice = Dice(14);
    let from = dice.vector(384);
    let own = space.plain_query(&from);
    let to: Vec<Vec<f16>> = (0..layout.m).map(|_| dice.vector(384)).collect();
    let below = Some(Id { block: 9, item: 3 });
    let mut bytes = new_upper(layout, 2, below);
    let mut edges = upper_mut(layout, &mut bytes).unwrap();
    for (slot, to) in to.iter().enumerate() {
        let id = Id { block: slot as u32, item: 1 };
        edges.set(slot, id, End::of(&space, &own), End::of(&space, &space.plain_query(to)));
    }
    edges.remove(0);
    edges.touch();
    assert_eq!(Kind::of(&bytes), Ok(Kind::Upper));
    let upper = Upper::new(layout, &bytes).unwrap();
    assert_eq!((upper.layer(), upper.below(), upper.edges().count()), (2, below, layout.m - 1));
    let norm2 = pgclip_simd::squared_norm(&from);
    let (origin, mut told) = (Origin { inner: 0.0, norm2, text: 0.0 }, Vec::new());
    upper.edges().estimate(&own, origin, &mut Scratch::default(), &mut told);
    for (told, id) in told.iter().zip(upper.edges().ids()) {
        let exact = pgclip_simd::squared_l2(&from, &to[id.block as usize]);
        assert!((told - exact).abs() < 0.005 * exact, "{told} {exact}");
    }
}

/// Each fault is made by hand, and named.
#[test]
fn checks_name_what_is_wrong() {
    let space = space(Metric::Cosine, 384, 0);
    let vectors = Dice(11).clusters(384, 150);
    let faults_after = |harm: &dyn Fn(&MemoryStore, Id)| {
        let store = build(&space, &vectors, 1);
        let all = elements(&store);
        assert_eq!(check(&store, &space, all.iter().copied()).unwrap().faults, []);
        harm(&store, all[7]);
        let faults = check(&store, &space, all.iter().copied()).unwrap().faults;
        assert!(!faults.is_empty());
        (all[7], faults)
    };
    // The codes are last: the first one's bytes.
    let codes = space.layout().element_bytes() - space.layout().edges() * space.layout().code();
    let code = codes..codes + space.layout().code();
    let (id, faults) = faults_after(&|store, id| {
        store.damage(id, |bytes| bytes[code.clone()].fill(7));
    });
    assert!(faults.iter().all(|(at, fault)| *at == id && matches!(fault, Fault::WrongCode(_))));
    let (id, faults) = faults_after(&|store, id| store.free(id).unwrap());
    assert!(faults.iter().any(|(_, fault)| *fault == Fault::Dangling(id)), "{faults:?}");
    let (id, faults) = faults_after(&|store, id| store.damage(id, |bytes| bytes.truncate(9)));
    assert!(faults.contains(&(id, Fault::Damaged("an element of another length"))));
    // The same on an upper layer, of which all ends are in the layer.
    let uppers = |store: &MemoryStore, layer: u8| -> Vec<Id> {
        let is = |bytes: &[u8]| Upper::new(space.layout(), bytes).is_ok_and(|u| u.layer() == layer);
        store.ids().into_iter().filter(|id| store.read(*id, is).unwrap() == Some(true)).collect()
    };
    let (_, faults) = faults_after(&|store, _| {
        let codes = UPPER_HEADER + space.layout().m * (ID_BYTES + 5);
        let lowest = uppers(store, 1)[0];
        store.damage(lowest, |bytes| bytes[codes..codes + 48].fill(7));
    });
    assert!(matches!(faults[..], [(_, Fault::WrongCode(_))]), "{faults:?}");
    // A tuple goes, and the slot is another record's: of no layer, then of a wrong one.
    let (_, faults) = faults_after(&|store, _| store.free(uppers(store, 1)[0]).unwrap());
    let missing = Fault::Damaged("an upper layer is missing");
    assert!(matches!(faults[..], [(_, fault)] if fault == missing), "{faults:?}");
    let (_, faults) = faults_after(&|store, _| {
        let lowest = uppers(store, 1)[0];
        store.damage(lowest, |bytes| *bytes = new_upper(space.layout(), 3, None));
    });
    let wrong = Fault::Damaged("a tuple of another layer");
    assert!(matches!(faults[..], [(_, fault)] if fault == wrong), "{faults:?}");
    let (_, faults) = faults_after(&|store, _| {
        let higher = uppers(store, 2)[0];
        store.damage(higher, |bytes| bytes[12..18].copy_from_slice(&Id::encode(None)));
    });
    let broken = Fault::Damaged("the chain of its upper layers is broken");
    assert!(matches!(faults[..], [(_, fault)] if fault == broken), "{faults:?}");
    let (_, faults) = faults_after(&|store, _| {
        let entry = store.entry().unwrap();
        store.set_entry(entry, entry.map(|entry| Entry { level: 9, ..entry })).unwrap();
    });
    assert!(matches!(faults[..], [(_, Fault::Entry)]), "{faults:?}");
}
