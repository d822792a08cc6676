//! Recall against work: builds a graph in memory and prints, for each slack and limit, recall,
//! microseconds, records expanded and records read a query.
//!
//! `cargo run --release -p pgclip-hnsw --example curve -- [NAME=VALUE …]`, of
//!
//! - `rows=100000 dims=384`: generated vectors in clusters, asked by vectors of their own kind and by
//!   text-like ones, which share a direction of their own and are half noise; `frames=1`: bursts of
//!   near-duplicate frames, asked by one taken out of its burst
//! - `vectors=FILE.npy texts=FILE.npy`: others instead, fp16 (`make vectors`). The last `queries` rows
//!   ask; with `half=tuning` the ones before them. Of the texts the direction is learnt from the first
//!   thousand, unless `direction=0`
//! - `metric=cosine|l2|ip m=16 ef=64 threads=2 queries=500 limits=1,10,100 slacks=0.1,0.15`
//! - `edges=32 bits=384`: the shape of a record
//! - `targets=0.9,0.95`: recalls to find the slack for; `samples=100`: of the elements that an index asks
//!   for that, the share in hundredths

mod world;

use std::collections::HashMap;
use std::fs::File;
use std::time::Instant;

use half::f16;
use npyz::NpyFile;
use pgclip_hnsw::format::record::Kind;
use pgclip_hnsw::store::memory::MemoryStore;
use pgclip_hnsw::{
    BuildOptions, Builder, Calibration, Control, Element, Id, Layout, Metric, Moments, Query,
    Quiet, Scan, ScanOptions, Space, Store, Tid, Truth, Values, check,
};
use pgclip_testkit::vectors::{World, draw, take_out};
use world::{all_threads, seconds, truth};

struct Arguments(HashMap<String, String>);

impl Arguments {
    fn new() -> Self {
        let pairs = std::env::args().skip(1).map(|arg| {
            let (name, value) = arg.split_once('=').expect("NAME=VALUE");
            (name.to_owned(), value.to_owned())
        });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str, or: usize) -> usize {
        self.get(name).map_or(or, |x| x.parse().expect("a number"))
    }

    fn list<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, name: &str, or: &str) -> Vec<T> {
        let list = self.get(name).unwrap_or(or).split(',');
        list.map(|x| x.parse().expect("a number")).collect()
    }
}

fn read(path: &str) -> Vec<Vec<f16>> {
    let file = NpyFile::new(File::open(path).expect("the file")).expect("an .npy file");
    let dims = file.shape()[1] as usize;
    let values: Vec<f16> = file.into_vec().expect("fp16");
    values.chunks_exact(dims).map(<[f16]>::to_vec).collect()
}

/// Rows; queries of their own kind and text-like ones; the texts' mean.
type Sets = (Vec<Vec<f16>>, Vec<(&'static str, Vec<Vec<f16>>)>, Option<Vec<f32>>);

fn sets(arguments: &Arguments) -> Sets {
    let (rows, count) = (arguments.number("rows", 100_000), arguments.number("queries", 500));
    let ask = |mut all: Vec<Vec<f16>>| {
        let mut queries = all.split_off(all.len() - count);
        let others = all.split_off(all.len() - count);
        if arguments.get("half") == Some("tuning") {
            queries = others;
        }
        (all, queries)
    };
    if let Some(path) = arguments.get("vectors") {
        let (mut vectors, own) = ask(read(path));
        vectors.truncate(rows);
        let mut queries = vec![("own", own)];
        let mut mean = None;
        if let Some(path) = arguments.get("texts") {
            let (texts, asked) = ask(read(path));
            let mut sum = vec![0.0; texts[0].len()];
            for text in &texts[..1000] {
                sum.iter_mut().zip(text).for_each(|(sum, x)| *sum += x.to_f32());
            }
            mean = Some(sum).filter(|_| arguments.get("direction") != Some("0"));
            queries.push(("text", asked));
        }
        return (vectors, queries, mean);
    }
    let world = World::new(arguments.number("dims", 384), rows);
    let (vectors, own) = if arguments.number("frames", 0) == 1 {
        let (own, vectors) = take_out(world.frames(rows + count), count);
        (vectors, own)
    } else {
        (draw(rows, 2, |dice| world.image(dice)), draw(count, 4, |dice| world.image(dice)))
    };
    let texts = draw(count, 5, |dice| world.text(dice));
    let mean = world.texts().to_vec();
    (vectors, vec![("own", own), ("text", texts)], Some(mean))
}

/// The slacks that recalls take, as an index finds them.
fn calibrate(
    arguments: &Arguments,
    store: &MemoryStore,
    space: &Space,
    moments: &Moments,
    elements: &[Id],
) -> Calibration {
    let busy = all_threads();
    let share = arguments.number("samples", 100);
    let look = |id: Id, look: &mut dyn FnMut(&Element<'_>)| {
        let Ok(read) =
            store.read(id, |bytes| look(&Element::new(space.layout(), bytes).expect("sound")));
        read.expect("it is there");
    };
    let truths = Calibration::ASKED.map(|(k, samples)| {
        let mut truth = Truth::new(k);
        for id in elements.iter().step_by(elements.len() / (samples * share / 100).max(1)) {
            look(*id, &mut |element| {
                truth.ask(space, *id, element);
            });
        }
        for id in elements {
            look(*id, &mut |element| truth.see(space, *id, element));
        }
        truth
    });
    let seen = all_threads() - busy;
    let calibration = Calibration::measure(&truths, store, space, moments).expect("sound");
    println!(
        "calibrated with {} and {} elements in {seen:.2} s for the truth and {:.2} s for searches",
        truths[0].len(),
        truths[1].len(),
        all_threads() - busy - seen
    );
    for (slack, recall) in pgclip_hnsw::recall::SLACKS.iter().zip(calibration.0) {
        println!("     slack {slack:<5} recall {:.4}", f64::from(recall) / 65535.0);
    }
    for target in arguments.list("targets", "0.9,0.95,0.98,0.99") {
        println!("     recall {target:<5} slack {:.3}", calibration.slack(target));
    }
    calibration
}

fn main() {
    let arguments = Arguments::new();
    let threads = arguments.number("threads", 2);
    let metric = match arguments.get("metric") {
        Some("l2") => Metric::L2,
        Some("ip") => Metric::InnerProduct,
        _ => Metric::Cosine,
    };
    let epoch = Instant::now();
    let (vectors, queries, mean) = sets(&arguments);
    let layout = Layout::new(metric, vectors[0].len(), arguments.number("m", 16), 0).expect("fits");
    let (edges, bits) = (layout.edges(), layout.bits());
    let layout = layout
        .with_shape(arguments.number("edges", edges), arguments.number("bits", bits))
        .expect("fits");
    println!(
        "{:?}, element {} B of {} edges with {} bits",
        layout.placement,
        layout.element_bytes(),
        layout.edges(),
        layout.bits()
    );
    let space = Space::new(layout, 42, mean.as_deref());
    let mut builder = Builder::new(&space);
    builder.reserve(vectors.len()).expect("memory");
    for (i, vector) in (0..).zip(&vectors) {
        builder.push(vector, Tid { block: i, item: 1 }, Values::new(0, &[]));
    }
    let options = BuildOptions { ef_construction: arguments.number("ef", 64), threads, seed: 7 };
    let (started, busy) = (Instant::now(), all_threads());
    let pages = builder.build(options, 0, &Control::default(), &mut Quiet).expect("not stopped");
    println!(
        "built in {:.2} s by {threads} threads, which ran for {:.2} s",
        started.elapsed().as_secs_f64(),
        all_threads() - busy
    );
    let busy = all_threads();
    let store = MemoryStore::of(&pages);
    println!(
        "written in {:.2} s of processor time, {} pages, {:.0} B a row",
        all_threads() - busy,
        store.blocks(),
        store.blocks() as f64 * 8192.0 / vectors.len() as f64
    );
    let ids = store.ids().into_iter();
    let elements = ids.filter(|id| store.read(*id, Kind::of) == Ok(Some(Ok(Kind::Element))));
    let elements: Vec<Id> = elements.collect();
    let faults = check(&store, &space, elements.iter().copied()).expect("sound").faults;
    println!("{} faults", faults.len());
    let calibration = calibrate(&arguments, &store, &space, pages.moments(), &elements);
    let limits: Vec<usize> = arguments.list("limits", "10");
    let mut slacks: Vec<f32> = arguments.list("slacks", "0.05,0.1,0.125,0.15,0.175,0.2,0.3,0.5");
    let targets: Vec<f64> = arguments.list("targets", "0.9,0.95,0.98,0.99");
    slacks.extend(targets.iter().map(|target| calibration.slack(*target)));
    let most = limits.iter().copied().max().expect("a limit");
    for (kind, queries) in queries {
        let right: Vec<Vec<u32>> =
            queries.iter().map(|q| truth(&space, &vectors, q, most)).collect();
        for (slack, limit) in slacks.iter().flat_map(|s| limits.iter().map(move |l| (*s, *l))) {
            let mut scan = Scan::new();
            let (mut hits, mut records, mut late) = (0, 0, 0);
            let (started, reads) = (seconds(epoch), store.reads());
            for (query, right) in queries.iter().zip(&right) {
                let query: Query = space.query(query);
                let mean = pages.moments().mean_distance(&space, &query);
                scan.start(ScanOptions { slack, ..ScanOptions::default() }, mean);
                for _ in 0..limit {
                    let row = scan.next(&store, &space, &query, |_| true).expect("no damage");
                    let right = &right[..limit];
                    hits += row.map_or(0, |row| usize::from(right.contains(&row.tid.block)));
                }
                records += scan.stats().records;
                late += scan.stats().late;
            }
            let each = 1.0 / queries.len() as f64;
            println!(
                "{kind:4} slack {slack:<5} limit {limit:<4} recall {:.4}  {:7.1} µs  {:6.0} records  {:6.0} reads  {late} late",
                hits as f64 * each / limit as f64,
                (seconds(epoch) - started) * 1e6 * each,
                records as f64 * each,
                (store.reads() - reads) as f64 * each,
            );
        }
    }
}
