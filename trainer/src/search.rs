//! The pictures nearest to texts, in memory: exact, or by hnsw_rs where that is quicker.
//!
//! For `infer`, where there is no database. Building a graph costs far more than asking all
//! pictures once, so it pays only where the gallery is large *and* the queries are many:
//! docs/trainer.md has the measurement behind [`graph_pays`].

use hnsw_rs::prelude::{Distance, Hnsw};
use pgclip_query::dot;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Similarities that a thread holds at a time (64 MB).
const PIECE: i64 = 16 << 20;
/// Edges of an element, as in the database's index.
const M: usize = 16;
const EF_CONSTRUCTION: usize = 64;

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// Whichever is quicker for this many pictures and queries
    Auto,
    Exact,
    /// By a graph of hnsw_rs: approximate
    Hnsw,
}

/// The first pictures for one query, best first.
pub type Hits = Vec<(usize, f32)>;

/// Whether building and asking a graph takes less time than asking every picture.
pub fn graph_pays(pictures: usize, queries: usize) -> bool {
    pictures >= LEAST_PICTURES && queries >= LEAST_QUERIES
}

/// Galleries below this are always searched exactly.
const LEAST_PICTURES: usize = 100_000;
/// Below this many queries the graph's building is not paid back.
const LEAST_QUERIES: usize = 200_000;

/// The `k` pictures [N, D] of largest cosine for each query [Q, D]; both of unit length, on
/// the CPU. Equal similarities come in the order of the pictures where the search is exact.
pub fn search(pictures: &Tensor, queries: &Tensor, k: usize, method: Method) -> Vec<Hits> {
    let (n, q) = (pictures.size()[0] as usize, queries.size()[0] as usize);
    let k = k.min(n);
    if k == 0 || q == 0 {
        return vec![Hits::new(); q];
    }
    let by_graph = match method {
        Method::Auto => graph_pays(n, q),
        Method::Exact => false,
        Method::Hnsw => true,
    };
    if by_graph { Graph::build(pictures).search(queries, k) } else { exact(pictures, queries, k) }
}

/// Asks every picture.
fn exact(pictures: &Tensor, queries: &Tensor, k: usize) -> Vec<Hits> {
    pieces(queries, pictures)
        .into_par_iter()
        .flat_map_iter(|piece| {
            let (scores, indices) = piece.scores().topk(k as i64, 1, true, true);
            let scores = rows_f32(&scores);
            scores.into_iter().enumerate().map(move |(line, scores)| {
                let mut found = vec![0i64; k];
                indices.get(line as i64).copy_data(&mut found, k);
                let mut found: Hits = found.into_iter().map(|at| at as usize).zip(scores).collect();
                found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                found
            })
        })
        .collect()
}

/// Some of the queries with all items, for one thread: libtorch itself uses one in each.
pub(crate) struct Piece {
    /// The first query.
    pub start: usize,
    queries: Tensor,
    transposed: Tensor,
}

impl Piece {
    /// Cosines [queries of the piece, N].
    pub fn scores(&self) -> Tensor {
        self.queries.matmul(&self.transposed)
    }
}

/// Splits the queries [Q, D] so that each thread has work and a piece's similarities with all
/// items [N, D] fit into memory.
pub(crate) fn pieces(queries: &Tensor, items: &Tensor) -> Vec<Piece> {
    let (q, n) = (queries.size()[0], items.size()[0]);
    let share = (q as usize).div_ceil(rayon::current_num_threads()) as i64;
    let lines = (PIECE / n.max(1)).min(share).max(1);
    let piece = |start: i64| Piece {
        start: start as usize,
        queries: queries.narrow(0, start, lines.min(q - start)),
        transposed: items.transpose(0, 1),
    };
    (0..q).step_by(lines as usize).map(piece).collect()
}

/// 1 − cosine of unit vectors, never negative, as hnsw_rs wants it.
#[derive(Clone, Copy, Debug, Default)]
struct UnitCosine;

impl Distance<f32> for UnitCosine {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

struct Graph<'a> {
    hnsw: Hnsw<'a, f32, UnitCosine>,
}

impl Graph<'_> {
    fn build(pictures: &Tensor) -> Self {
        let rows = rows_f32(pictures);
        let hnsw = Hnsw::new(M, rows.len(), 16, EF_CONSTRUCTION, UnitCosine);
        let numbered: Vec<(&Vec<f32>, usize)> = rows.iter().zip(0..).collect();
        hnsw.parallel_insert(&numbered);
        Graph { hnsw }
    }

    fn search(&mut self, queries: &Tensor, k: usize) -> Vec<Hits> {
        self.hnsw.set_searching_mode(true);
        let ef = (4 * k).max(64);
        rows_f32(queries)
            .par_iter()
            .map(|query| {
                let found = self.hnsw.search(query, k, ef);
                found.into_iter().map(|hit| (hit.d_id, 1.0 - hit.distance)).collect()
            })
            .collect()
    }
}

/// The rows of a matrix on the host.
pub fn rows_f32(matrix: &Tensor) -> Vec<Vec<f32>> {
    let matrix = matrix.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let (n, width) = (matrix.size()[0], matrix.size()[1] as usize);
    (0..n)
        .map(|at| {
            let mut row = vec![0f32; width];
            matrix.get(at).copy_data(&mut row, width);
            row
        })
        .collect()
}
