//! What the phases share: the cluster, the set of vectors that is loaded, and where results go.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use pgclip_cluster::Cluster;
use postgres::Client;

use crate::arguments::{Arguments, Phase};
use crate::curve::{Sample, rate_at};
use crate::data::model::Model;
use crate::data::{Data, Vectors};
use crate::exact::{Judge, Truth};
use crate::report::{Better, Entry, Report, entry, short};
use crate::server::session;
use crate::side::{Setting, Side};
use crate::sweep::{Lane, Point, Sweep};
use crate::work::Single;

/// Neighbours that a query asks for, where a phase does not say otherwise.
pub const K: usize = 10;

/// One run of the program.
pub struct Bench {
    pub arguments: Arguments,
    pub cluster: Arc<Cluster>,
    pub sides: Vec<Side>,
    pub report: Report,
}

/// One set of vectors, loaded and indexed.
pub struct Run<'a> {
    pub bench: &'a mut Bench,
    pub data: &'a Data,
    /// `frames` or `growth` where it is such a set; goes before the names of its phases.
    pub prefix: &'static str,
    /// What is added to the names of ratios: nothing for the first set of a run.
    pub suffix: String,
    /// The two filter columns' values.
    pub filters: [Vec<i32>; 2],
    /// The fastest setting that reached recall 0.95 in `search`, where that ran.
    pub chosen: BTreeMap<Side, Setting>,
}

impl Run<'_> {
    pub fn wants(&self, phase: Phase) -> bool {
        self.bench.arguments.wants(phase)
    }

    /// A phase by its full name.
    pub fn name(&self, phase: &str) -> String {
        match (self.prefix, phase) {
            ("", phase) => phase.to_owned(),
            (prefix, "search") => prefix.to_owned(),
            (prefix, phase) => format!("{prefix}_{phase}"),
        }
    }

    /// The model of the vectors' column, where there is one and its texts' direction may be used.
    pub fn model(&self) -> Option<&Model> {
        self.data.model.as_ref().filter(|_| !self.bench.arguments.no_text_direction)
    }

    pub fn session(&self) -> Result<Client> {
        session(&self.bench.cluster)
    }

    pub fn sides(&self) -> Vec<Side> {
        self.bench.sides.clone()
    }

    /// `SELECT id … ORDER BY … LIMIT k` with the query's vector as `$1`.
    pub fn select(&self, table: &str, condition: &str, k: usize) -> String {
        let operator = self.data.metric.operator();
        format!("SELECT id FROM {table} {condition} ORDER BY v {operator} $1 LIMIT {k}")
    }

    /// The index scan of a side's own table, a statement a query.
    pub fn single(&self, side: Side, queries: &Vectors, count: usize, k: usize) -> Result<Single> {
        let sql = self.select(&side.table(), "", k);
        let parameters = crate::work::parameters(queries, count);
        Single::new(self.session()?, sql, parameters)?.checked()
    }

    /// The exact answers among the loaded rows.
    pub fn judge<'d>(&self, data: &'d Data, queries: &'d Vectors, k: usize) -> Result<Judge<'d>> {
        Ok(Judge { data, queries, truth: Truth::cached(data, queries, k)?, k })
    }

    /// Queries to ask: all of a set, or half of them where vectors are wide.
    pub fn queries(&self, set: &Vectors) -> usize {
        if self.data.dims() > 700 { set.len().div_ceil(2) } else { set.len() }
    }

    /// The setting that later phases use.
    pub fn setting(&self, side: Side) -> Setting {
        self.chosen.get(&side).cloned().unwrap_or_else(|| side.default_setting())
    }

    /// An entry of this set.
    pub fn entry(&self, extension: &str, phase: &str) -> Entry {
        entry(extension, self.data.metric, self.data.dims(), self.data.rows(), phase)
    }

    /// Measures lanes as the phase `phase`, prints and records every point.
    pub fn sweep(
        &mut self,
        phase: &str,
        sweep: &Sweep,
        lanes: &mut [Lane],
    ) -> Result<Vec<Vec<Point>>> {
        println!("--> {phase}: {}", sweep.title);
        let measured = sweep.run(lanes)?;
        for (lane, points) in lanes.iter().zip(&measured) {
            for point in points {
                print(lane.extension, point);
                let entry = Entry {
                    setting: point.setting.name.clone(),
                    recall: Some(point.recall),
                    per_second: Some(point.per_second()),
                    pages: point.pages,
                    returned: Some(point.returned),
                    spread: point.spread(),
                    ..self.entry(lane.extension, phase)
                };
                self.bench.report.results.push(entry);
            }
        }
        Ok(measured)
    }

    /// Adds the ratio of queries a second at a recall; `points` are ours and theirs.
    pub fn compare_at(&mut self, phase: &str, recall: f64, points: [&[Point]; 2]) {
        let rates = points.map(|points| {
            let samples: Vec<Sample> = points.iter().map(Point::sample).collect();
            rate_at(&samples, recall)
        });
        let name = format!("{phase}_at_{recall:.2}{}", self.suffix);
        let what = format!("queries/s at recall {recall:.2}, d = {}", self.data.dims());
        self.bench.report.compare(&name, &what, "/s", Better::More, rates);
    }

    /// The same for the buffers that a query touches.
    pub fn compare_pages_at(&mut self, phase: &str, recall: f64, points: [&[Point]; 2]) {
        let pages = points.map(|points| {
            let sample = |point: &Point| {
                Some(Sample { recall: point.recall, per_second: 1.0 / point.pages? })
            };
            let samples: Vec<Sample> = points.iter().filter_map(sample).collect();
            rate_at(&samples, recall).map(|rate| 1.0 / rate)
        });
        let name = format!("{phase}_pages_at_{recall:.2}{}", self.suffix);
        let what = format!("buffers a query at recall {recall:.2}, d = {}", self.data.dims());
        self.bench.report.compare(&name, &what, "", Better::Less, pages);
    }

    /// The points of a side, where it was measured.
    pub fn of<'p>(&self, side: Side, lanes: &[Lane], points: &'p [Vec<Point>]) -> &'p [Point] {
        let at = lanes.iter().position(|lane| lane.extension == side.name());
        at.map_or(&[], |at| &points[at])
    }
}

fn print(extension: &str, point: &Point) {
    let spread = point.spread().map_or(String::new(), |spread| format!("±{:.0} %", spread * 50.0));
    let pages = point.pages.map_or(String::new(), |pages| format!("{} buffers", short(pages)));
    let disorder = match point.disordered {
        0.0 => String::new(),
        share => format!(", {:.0} % of the answers out of order", share * 100.0),
    };
    println!(
        "    {extension:<9} {:<44} recall {:.4}  {:>8}/s {spread:<6} {:>6.1} rows  {pages}{disorder}",
        point.setting.name,
        point.recall,
        short(point.per_second()),
        point.returned,
    );
}
