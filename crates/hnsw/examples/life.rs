//! The life of a graph in memory: what an insert costs, what a vacuum costs that finds a tenth of the
//! rows gone, and the recall after each beside that of a graph built anew.
//!
//! `cargo run --release -p pgclip-hnsw --example life -- [ROWS [DIMS [INSERTS [frames]]]]`

mod world;

use std::collections::HashSet;
use std::time::Instant;

use half::f16;
use pgclip_hnsw::format::record::Kind;
use pgclip_hnsw::store::memory::MemoryStore;
use pgclip_hnsw::{
    BuildOptions, Builder, Control, Id, InsertOptions, Layout, Metric, Moments, NewRow, Quiet,
    Scan, ScanOptions, Space, Store, Tid, Values, check, insert, vacuum,
};
use pgclip_testkit::vectors::{World, draw, take_out};
use world::{K, seconds, truth};

const EF: usize = 64;

fn row(number: usize) -> Tid {
    Tid { block: number as u32, item: 1 }
}

/// A graph of the vectors of these numbers, and their moments.
fn build(space: &Space, vectors: &[Vec<f16>], numbers: &[usize]) -> (MemoryStore, Moments) {
    let mut builder = Builder::new(space);
    builder.reserve(numbers.len()).expect("memory");
    for number in numbers {
        builder.push(&vectors[*number], row(*number), Values::new(0, &[]));
    }
    let options = BuildOptions { ef_construction: EF, threads: 2, seed: 7 };
    let pages = builder.build(options, 0, &Control::default(), &mut Quiet).expect("memory");
    (MemoryStore::of(&pages), pages.moments().clone())
}

/// The places of all elements.
fn elements(store: &MemoryStore) -> Vec<Id> {
    let is_element = |id: &Id| store.read(*id, Kind::of).unwrap() == Some(Ok(Kind::Element));
    store.ids().into_iter().filter(is_element).collect()
}

/// Prints recall and records a query at the default slack, and how many elements are unreachable.
fn report(
    what: &str,
    (store, moments): (&MemoryStore, &Moments),
    space: &Space,
    queries: &[(Vec<f16>, Vec<usize>)],
) {
    let (mut hits, mut records) = (0, 0);
    let mut scan = Scan::new();
    for (query, right) in queries {
        let query = space.query(query);
        scan.start(ScanOptions::default(), moments.mean_distance(space, &query));
        for _ in 0..K {
            let row = scan.next(store, space, &query, |_| true).expect("no damage");
            hits += row.map_or(0, |row| usize::from(right.contains(&(row.tid.block as usize))));
        }
        records += scan.stats().records;
    }
    let faults = check(store, space, elements(store).into_iter()).expect("no damage").faults;
    println!(
        "{what}: recall {:.4}, {:.0} records a query, {} faults",
        hits as f64 / (queries.len() * K) as f64,
        records as f64 / queries.len() as f64,
        faults.len()
    );
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize, or| args.get(at).map_or(or, |x| x.parse().expect("a number"));
    let (rows, dims, inserts) = (arg(0, 50_000), arg(1, 384), arg(2, 5_000));
    let epoch = Instant::now();
    let world = World::new(dims, rows);
    let images = |count, stream| draw(count, stream, |dice| world.image(dice));
    let (vectors, queries) = match args.get(3).map(String::as_str) {
        None => (images(rows + inserts, 2), images(300, 4)),
        Some("frames") => {
            let (queries, vectors) = take_out(world.frames(rows + inserts + 300), 300);
            (vectors, queries)
        }
        Some(other) => panic!("{other}: frames, or nothing"),
    };
    let layout = Layout::new(Metric::Cosine, dims, 16, 0).expect("fits");
    let space = Space::new(layout, 42, Some(world.texts()));
    let answers = |among: &[usize]| -> Vec<(Vec<f16>, Vec<usize>)> {
        let here: Vec<Vec<f16>> = among.iter().map(|i| vectors[*i].clone()).collect();
        let exact = |query: &Vec<f16>| truth(&space, &here, query, K);
        let numbers = |right: Vec<u32>| right.iter().map(|at| among[*at as usize]).collect();
        queries.iter().map(|query| (query.clone(), numbers(exact(query)))).collect()
    };
    let first: Vec<usize> = (0..rows).collect();
    let (store, moments) = build(&space, &vectors, &first);
    report("built", (&store, &moments), &space, &answers(&first));

    let (started, reads) = (seconds(epoch), store.reads());
    for (number, vector) in vectors.iter().enumerate().skip(rows) {
        let new = NewRow { vector, tid: row(number), values: Values::new(0, &[]) };
        let level = pgclip_hnsw::level(&space, 9, number as u64);
        insert(&store, &space, new, InsertOptions { ef_construction: EF, level }).expect("sound");
    }
    let each = 1.0 / inserts.max(1) as f64;
    println!(
        "inserted {inserts}: {:.0} µs and {:.0} reads each",
        (seconds(epoch) - started) * 1e6 * each,
        (store.reads() - reads) as f64 * each
    );
    let all: Vec<usize> = (0..rows + inserts).collect();
    report("after inserts", (&store, &moments), &space, &answers(&all));

    let places = elements(&store);
    let gone: HashSet<Tid> = all.iter().copied().filter(|i| i % 10 == 3).map(row).collect();
    let (started, reads) = (seconds(epoch), store.reads());
    let done = vacuum(&store, &space, || places.iter().copied(), |tid| gone.contains(&tid));
    let done = done.expect("sound");
    println!(
        "vacuumed in {:.2} s: {} rows gone, {} elements repaired, {} reads",
        seconds(epoch) - started,
        done.rows,
        done.repaired,
        store.reads() - reads
    );
    let left: Vec<usize> = all.into_iter().filter(|i| i % 10 != 3).collect();
    let right = answers(&left);
    report("after vacuum", (&store, &moments), &space, &right);
    let (fresh, moments) = build(&space, &vectors, &left);
    report("built anew", (&fresh, &moments), &space, &right);
}
