//! Seeded vectors in tables, and what an index makes of them: recall against a sequential scan,
//! whether every row can be reached, whether the graph is sound. Shared by the tests of the index;
//! a file of its own, since nothing else draws vectors.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
pub use pgclip_testkit::dice::Dice;
pub use pgclip_testkit::wire::Vector;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;
use postgres::{Client, NoTls};

use crate::{start, value};

/// Starts a cluster where nothing happens by itself: no vacuum, no checkpoint for want of time.
pub fn start_quiet(name: &str) -> Result<(Cluster, Client)> {
    start(&Cluster::builder(name).setting("autovacuum", "off").setting("checkpoint_timeout", "1h"))
}

/// Statements one by one.
pub trait Each {
    /// Runs statements that semicolons part, each in a transaction of its own, as VACUUM wants it.
    fn each(&mut self, statements: &str) -> Result<()>;
}

impl Each for Client {
    fn each(&mut self, statements: &str) -> Result<()> {
        for statement in statements.split(';').map(str::trim).filter(|text| !text.is_empty()) {
            self.batch_execute(statement).with_context(|| statement.to_owned())?;
        }
        Ok(())
    }
}

/// Vectors in clusters that overlap, of few degrees of freedom and of norms near 1 that vary a
/// little: what embeddings are like.
#[derive(Debug, Clone)]
pub struct Clusters {
    centres: Vec<Vec<f32>>,
    /// A direction in the space of vectors for each degree of freedom.
    axes: Vec<Vec<f32>>,
    dice: Dice,
}

impl Clusters {
    /// Degrees of freedom of vectors of more dimensions.
    const FREE: usize = 8;

    /// Clusters in `dims` dimensions, the same for the same seed.
    pub fn new(seed: u64, dims: usize, count: usize) -> Self {
        let mut dice = Dice::new(seed);
        let free = dims.min(Self::FREE);
        let mut draw = |many: usize, of: usize| -> Vec<Vec<f32>> {
            (0..many).map(|_| (0..of).map(|_| dice.normal()).collect()).collect()
        };
        let (centres, axes) = (draw(count, free), draw(free, dims));
        Self { centres, axes, dice }
    }

    /// The dimensions of the vectors.
    pub fn dims(&self) -> usize {
        self.axes[0].len()
    }

    /// The same clusters, with other vectors of them to come.
    pub fn clone_with_seed(&self, seed: u64) -> Self {
        Self { dice: Dice::new(seed), ..self.clone() }
    }

    /// The next vector.
    pub fn draw(&mut self) -> Vector {
        let dims = self.dims();
        let scale = 1.0 / ((self.axes.len() * dims) as f32).sqrt();
        let centre = &self.centres[self.dice.below(self.centres.len())];
        let mut vector = vec![0.0; dims];
        for (axis, middle) in self.axes.iter().zip(centre) {
            let along = scale * (middle + 0.5 * self.dice.normal());
            vector.iter_mut().zip(axis).for_each(|(x, step)| *x += along * step);
        }
        let noise = 0.02 / (dims as f32).sqrt();
        vector.iter_mut().for_each(|x| *x += noise * self.dice.normal());
        Vector::of(vector)
    }

    /// The next vectors.
    pub fn take(&mut self, count: usize) -> Vec<Vector> {
        (0..count).map(|_| self.draw()).collect()
    }
}

/// Copies rows `(id, v, f)` into a table, numbered from `first` on; `f` is the number modulo 100.
pub fn fill(client: &mut Client, table: &str, first: i64, vectors: &[Vector]) -> Result<()> {
    let embedding = client.prepare("SELECT NULL::embedding")?.columns()[0].type_().clone();
    let types = [Type::INT8, embedding, Type::INT4];
    let copy = format!("COPY {table} (id, v, f) FROM STDIN (FORMAT binary)");
    let mut writer = BinaryCopyInWriter::new(client.copy_in(&copy)?, &types);
    for (id, vector) in (first..).zip(vectors) {
        writer.write(&[&id, vector, &((id % 100) as i32)])?;
    }
    writer.finish()?;
    Ok(())
}

/// Copies rows into `t`, numbered on from what is there; returns the first number.
pub fn append(client: &mut Client, vectors: &[Vector]) -> Result<i64> {
    let first = value(client, "SELECT coalesce(max(id), 0) + 1 FROM t")?;
    fill(client, "t", first, vectors)?;
    Ok(first)
}

/// Makes the tables `t (id, v, f)` of `rows` and `queries (id, v, f)` of 200 from the same clusters.
pub fn make_tables(client: &mut Client, clusters: &mut Clusters, rows: usize) -> Result<()> {
    let dims = clusters.dims();
    client.batch_execute(&format!(
        "CREATE TABLE t (id bigint, v embedding({dims}), f int);
         CREATE TABLE queries (id bigint, v embedding({dims}), f int)"
    ))?;
    fill(client, "t", 1, &clusters.take(rows))?;
    fill(client, "queries", 1, &clusters.take(200))?;
    client.batch_execute("ANALYZE t; ANALYZE queries")?;
    Ok(())
}

/// How distances are measured: the operator, and its operator class.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The operator.
    pub operator: &'static str,
    /// The operator class.
    pub class: &'static str,
    /// The share of rows that a graph may leave without a way to them.
    pub lost: f64,
}

/// By cosine.
pub const COSINE: Metric = Metric { operator: "<=>", class: "embedding_cosine_ops", lost: 0.0 };
/// By Euclidean distance.
pub const EUCLIDEAN: Metric = Metric { operator: "<->", class: "embedding_l2_ops", lost: 0.0 };
/// By inner product. It is no distance: a vector that is shorter than all around it is nobody's
/// neighbour.
pub const INNER_PRODUCT: Metric = Metric { operator: "<#>", class: "embedding_ip_ops", lost: 0.1 };

/// The rows found for a query: their numbers and distances, in the order that they came in.
pub type Found = Vec<(i64, f64)>;

/// The `k` rows of `t` nearest to each of the `queries` that pass `condition`, found by the index
/// or by a sequential scan; an error where the plan is another one.
pub fn neighbours(
    client: &mut Client,
    metric: Metric,
    k: usize,
    condition: &str,
    by_index: bool,
) -> Result<Vec<Found>> {
    let operator = metric.operator;
    let query = format!(
        "SELECT q.id, n.id, n.d FROM queries q CROSS JOIN LATERAL (
             SELECT t.id, t.v {operator} q.v AS d FROM t WHERE {condition}
              ORDER BY t.v {operator} q.v LIMIT {k}) n"
    );
    let off = if by_index { "enable_seqscan" } else { "enable_indexscan" };
    let mut transaction = client.transaction()?;
    transaction.batch_execute(&format!(
        "SET LOCAL {off} = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_memoize = off;
         SET LOCAL max_parallel_workers_per_gather = 0"
    ))?;
    let plan = explain(&mut transaction, &query)?;
    ensure!(plan.contains("Order By: (v ") == by_index, "another plan than wanted:\n{plan}");
    let mut found: Vec<Found> = Vec::new();
    let mut last = None;
    for row in transaction.query(&query, &[])? {
        let (query, id, distance): (i64, i64, f64) = (row.get(0), row.get(1), row.get(2));
        if last.replace(query) != Some(query) {
            found.push(Found::new());
        }
        found.last_mut().context("no query")?.push((id, distance));
    }
    transaction.commit()?;
    Ok(found)
}

/// The lines of a plan.
pub fn explain(client: &mut impl postgres::GenericClient, query: &str) -> Result<String> {
    let rows = client.query(&format!("EXPLAIN (COSTS OFF) {query}"), &[])?;
    Ok(rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect())
}

/// The share of the exact answers that were found; a row as near as the last of them counts.
pub fn recall(found: &[Found], exact: &[Found]) -> f64 {
    assert_eq!(found.len(), exact.len(), "answers to some queries are empty");
    let (mut hits, mut all) = (0, 0);
    for (found, exact) in found.iter().zip(exact) {
        let farthest = exact.last().map_or(f64::INFINITY, |(_, distance)| *distance);
        all += exact.len();
        hits += found.iter().filter(|(_, distance)| *distance <= farthest).count();
    }
    hits as f64 / all as f64
}

/// Recall of the `k` nearest of `t` by its index. Rows must be as many as there are, sorted, and
/// none twice.
pub fn recall_at(client: &mut Client, metric: Metric, k: usize, condition: &str) -> Result<f64> {
    let exact = neighbours(client, metric, k, condition, false)?;
    let found = neighbours(client, metric, k, condition, true)?;
    ensure!(found.len() == exact.len(), "{} of {} queries had answers", found.len(), exact.len());
    for (query, (found, exact)) in found.iter().zip(&exact).enumerate() {
        let rows = found.len();
        ensure!(rows == exact.len(), "query {query}: {rows} rows instead of {}", exact.len());
        ensure!(found.is_sorted_by(|a, b| a.1 <= b.1), "query {query}: out of order: {found:?}");
        let distinct: HashSet<i64> = found.iter().map(|(id, _)| *id).collect();
        ensure!(distinct.len() == rows, "query {query}: the same row twice: {found:?}");
    }
    Ok(recall(&found, &exact))
}

/// How many different rows of `t` a relaxed scan returns that nothing ends, from a given query.
pub fn drained(client: &mut Client, metric: Metric, query: &str) -> Result<i64> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off;
         SET LOCAL pgclip.iterative_scan = relaxed; SET LOCAL pgclip.max_scan_tuples = 2147483647;
         SET LOCAL pgclip.scan_memory = '1GB'",
    )?;
    let all = format!("SELECT ctid::text FROM t ORDER BY v {} {query}", metric.operator);
    let plan = explain(&mut transaction, &all)?;
    ensure!(plan.contains("Order By: (v "), "another plan than wanted:\n{plan}");
    let rows = transaction.query(&all, &[])?;
    let distinct: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(distinct.len() == rows.len(), "some row came twice");
    transaction.commit()?;
    Ok(distinct.len() as i64)
}

/// The faults that `clip_index_check` finds.
pub fn faults(client: &mut Client, index: &str) -> Result<Vec<String>> {
    let rows = client.query(
        "SELECT format('block %s, item %s: %s', block, item, fault)
           FROM clip_index_check($1::text::regclass)",
        &[&index],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// An error where `clip_index_check` finds anything.
pub fn ensure_sound(client: &mut Client, index: &str) -> Result<()> {
    let faults = faults(client, index)?;
    let first = &faults[..faults.len().min(5)];
    ensure!(faults.is_empty(), "{} faults in {index}: {first:#?}", faults.len());
    Ok(())
}

/// Every row of `t` with an embedding comes out of the index, and the graph is sound.
pub fn ensure_whole(client: &mut Client, metric: Metric, index: &str) -> Result<()> {
    let rows: i64 = value(client, "SELECT count(v) FROM t")?;
    let lost = (metric.lost * rows as f64) as i64;
    if lost == 0 {
        ensure_sound(client, index)?;
    } else {
        let mut faults = faults(client, index)?;
        faults.retain(|fault| !fault.contains("unreachable"));
        ensure!(faults.is_empty(), "{} faults in {index}: {faults:#?}", faults.len());
    }
    let query: Option<String> =
        value(client, "SELECT (SELECT v::text FROM t WHERE v IS NOT NULL LIMIT 1)")?;
    if let Some(query) = query {
        let drained = drained(client, metric, &format!("'{query}'"))?;
        ensure!(drained + lost >= rows, "{drained} of {rows} rows come out of {index}");
        ensure!(drained <= rows, "{drained} rows come out of {index}, where there are {rows}");
    }
    Ok(())
}

/// The notices and warnings that a session was sent.
pub type Notices = Arc<Mutex<Vec<String>>>;

/// Opens a session whose notices and warnings are kept.
pub fn connect_listening(cluster: &Cluster) -> Result<(Client, Notices)> {
    let notices = Notices::default();
    let kept = Arc::clone(&notices);
    let client = postgres::Config::new()
        .host_path(cluster.sockets())
        .user(pgclip_cluster::SUPERUSER)
        .dbname("postgres")
        .notice_callback(move |notice| {
            let text = format!("{}: {}", notice.severity(), notice.message());
            kept.lock().expect("no test panics with it").push(text);
        })
        .connect(NoTls)?;
    Ok((client, notices))
}
