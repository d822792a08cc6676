//! Times exact search against building and asking a graph, for `search::graph_pays`.
//!
//! `cargo run --release -p pgclip-train --target-dir target --example gallery -- N D Q`
//! (with LIBTORCH and LIBTORCH_LIB as trainer.mk sets them): N pictures of D dimensions, Q
//! queries, the first 10 each. Vectors are random around 1,000 centres, from a fixed seed.

use std::time::Instant;

use pgclip_train::search::{Hits, Method, search};
use pgclip_train::torch;
use tch::{Device, Kind, Tensor};

fn main() -> anyhow::Result<()> {
    let sizes: Vec<i64> =
        std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let [n, d, q] = sizes[..] else { anyhow::bail!("expected N D Q") };
    torch::prepare(0)?;
    tch::manual_seed(1);
    let cpu = (Kind::Float, Device::Cpu);
    let centres = Tensor::randn([1000, d], cpu);
    let draw = |rows: i64| {
        let chosen = Tensor::randint(1000, [rows], (Kind::Int64, Device::Cpu));
        let rows = centres.index_select(0, &chosen) + Tensor::randn([rows, d], cpu) * 0.5;
        &rows / rows.norm_scalaropt_dim(2, [-1i64], true)
    };
    let (pictures, queries) = (draw(n), draw(q));
    let timed = |method| {
        let start = Instant::now();
        let hits = search(&pictures, &queries, 10, method);
        (hits, start.elapsed().as_secs_f64())
    };
    let (exact, exact_time) = timed(Method::Exact);
    let (graph, graph_time) = timed(Method::Hnsw);
    let found: usize = exact.iter().zip(&graph).map(|(a, b)| common(a, b)).sum();
    let all: usize = exact.iter().map(Vec::len).sum();
    println!(
        "{n} pictures, {d} dimensions, {q} queries: exact {exact_time:.2} s, graph {graph_time:.2} s \
         (recall {:.3})",
        found as f64 / all as f64
    );
    Ok(())
}

fn common(a: &Hits, b: &Hits) -> usize {
    a.iter().filter(|hit| b.iter().any(|other| other.0 == hit.0)).count()
}
