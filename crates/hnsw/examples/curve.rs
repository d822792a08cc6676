//! Recall against time: builds a graph over clustered vectors in memory and prints, for each slack,
//! recall, microseconds, records expanded and records read a query.
//!
//! `cargo run --release -p pgclip-hnsw --example curve -- [ROWS [DIMS [THREADS [M [EF [QUERIES [LIMIT [frames]]]]]]]]`
//!
//! Two sets of queries: of the data's own kind, and text-like ones, which share a direction of their
//! own and are half noise. With `frames` the data are bursts of near-duplicate frames, and a query is
//! one taken out of its burst.

mod world;

use std::time::Instant;

use pgclip_hnsw::memory::MemoryStore;
use pgclip_hnsw::record::Kind;
use pgclip_hnsw::{
    BuildOptions, Builder, Control, Layout, Metric, Query, Quiet, Scan, ScanOptions, Space, Store,
    Tid, Values, check,
};
use pgclip_vectors::{World, draw, take_out};
use world::{all_threads, seconds, truth};

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let frames = args.last().is_some_and(|last| last == "frames");
    args.truncate(args.len() - usize::from(frames));
    let arg = |at: usize, or| args.get(at).map_or(or, |x| x.parse().expect("a number"));
    let (rows, dims, threads, m, ef) =
        (arg(0, 100_000), arg(1, 384), arg(2, 2), arg(3, 16), arg(4, 64));
    let (count, limit) = (arg(5, 500), arg(6, 10));
    let epoch = Instant::now();
    let world = World::new(dims, rows);
    let (vectors, own) = match frames {
        false => {
            (draw(rows, 2, |dice| world.image(dice)), draw(count, 4, |dice| world.image(dice)))
        }
        true => {
            let (own, vectors) = take_out(world.frames(rows + count), count);
            (vectors, own)
        }
    };
    let layout = Layout::new(Metric::Cosine, dims, m, 0).expect("fits");
    println!("{:?}, element {} B", layout.placement, layout.element_bytes());
    let space = Space::new(layout, 42, Some(world.texts()));
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
    let ids = store.ids().into_iter();
    let elements = ids.filter(|id| store.read(*id, Kind::of) == Ok(Some(Ok(Kind::Element))));
    println!("{} faults", check(&store, &space, elements).expect("sound").faults.len());
    for (kind, queries) in [("image", own), ("text", draw(count, 5, |dice| world.text(dice)))] {
        let right: Vec<Vec<u32>> =
            queries.iter().map(|q| truth(&space, &vectors, q, limit)).collect();
        for slack in [0.05, 0.1, 0.125, 0.15, 0.175, 0.2, 0.3, 0.5] {
            let mut scan = Scan::new();
            let (mut hits, mut records, mut late) = (0, 0, 0);
            let (started, reads) = (seconds(epoch), store.reads());
            for (query, right) in queries.iter().zip(&right) {
                let query: Query = space.query(query);
                let mean = pages.moments().mean_distance(&space, &query);
                scan.start(ScanOptions { slack, ..ScanOptions::default() }, mean);
                for _ in 0..limit {
                    let row = scan.next(&store, &space, &query, |_| true).expect("no damage");
                    hits += row.map_or(0, |row| usize::from(right.contains(&row.tid.block)));
                }
                records += scan.stats().records;
                late += scan.stats().late;
            }
            let each = 1.0 / queries.len() as f64;
            println!(
                "{kind:5} slack {slack:<5} recall {:.4}  {:7.1} µs  {:6.0} records  {:6.0} reads  {late} late",
                hits as f64 * each / limit as f64,
                (seconds(epoch) - started) * 1e6 * each,
                records as f64 * each,
                (store.reads() - reads) as f64 * each,
            );
        }
    }
}
