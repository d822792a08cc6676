//! What was measured, as data: `target/compare.json`, and the table at the end of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::side::{Metric, Side};

/// One measurement. What a phase does not measure is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Entry {
    /// `pgclip`, `pgvector`, or `btree`: a B-tree on the filter's column, and a sort.
    pub extension: String,
    pub metric: String,
    pub dims: usize,
    pub rows: usize,
    pub phase: String,
    pub setting: String,
    /// Share of the k nearest that was found, the mean of all queries.
    pub recall: Option<f64>,
    /// Queries or rows a second: the median of the rounds.
    pub per_second: Option<f64>,
    pub seconds: Option<f64>,
    pub bytes: Option<u64>,
    /// Buffers touched (in the phase `cold`: read) by a query, on average.
    pub pages: Option<f64>,
    /// Rows that came, on average.
    pub returned: Option<f64>,
    /// Highest round minus lowest, as a share of the median.
    pub spread: Option<f64>,
}

/// Two numbers side by side.
#[derive(Clone, Debug)]
struct Comparison {
    name: String,
    /// Whom ours is held against: pgvector, but for the ratios whose names end in `_btree`.
    peer: &'static str,
    what: String,
    unit: &'static str,
    ours: Option<f64>,
    theirs: Option<f64>,
    /// How many times better ours is.
    ratio: Option<f64>,
}

/// Is more better?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

/// All that a run measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What ran where: server, extensions, processor, processes of a build.
    pub about: BTreeMap<String, String>,
    pub results: Vec<Entry>,
    /// How many times better ours is; null where one of the two is missing.
    pub ratios: BTreeMap<String, Option<f64>>,
    #[serde(skip)]
    comparisons: Vec<Comparison>,
}

/// The ratios that are always there.
const NAMED: [&str; 9] = [
    "search_at_0.95",
    "search_at_0.99",
    "lateral_at_0.95",
    "text_at_0.90",
    "text_at_0.95",
    "build",
    "insert",
    "filter_10",
    "filter_1",
];

impl Report {
    pub fn new() -> Self {
        let ratios = NAMED.iter().map(|name| ((*name).to_owned(), None)).collect();
        Self { ratios, ..Self::default() }
    }

    /// Adds the ratio `name` and a line of the table.
    pub fn compare(
        &mut self,
        name: &str,
        what: &str,
        unit: &'static str,
        better: Better,
        numbers: [Option<f64>; 2],
    ) {
        let [ours, theirs] = numbers;
        let ratio = ours.zip(theirs).map(|(ours, theirs)| match better {
            Better::More => ours / theirs,
            Better::Less => theirs / ours,
        });
        let ratio = ratio.filter(|ratio| ratio.is_finite());
        self.ratios.insert(name.to_owned(), ratio);
        let peer = if name.contains("_btree") { "B-tree" } else { "pgvector" };
        let (name, what) = (name.to_owned(), what.to_owned());
        self.comparisons.push(Comparison { name, peer, what, unit, ours, theirs, ratio });
    }

    /// Writes everything as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// The comparisons as a table for a document, below what ran where: `docs/benchmarks.md` takes its
    /// figures from here.
    pub fn table(&self) -> String {
        let about: Vec<String> =
            self.about.iter().map(|(name, what)| format!("{name}: {what}")).collect();
        let mut text = format!("{}\n\n", about.join("; "));
        text += "| | pgclip | the other | better by |\n| --- | --- | --- | --- |\n";
        for line in &self.comparisons {
            let number = |value: Option<f64>| match value {
                Some(value) => format!("{} {}", short(value), line.unit).trim_end().to_owned(),
                None => "not reached".to_owned(),
            };
            let name = if line.what.is_empty() { &line.name } else { &line.what };
            let ratio = line.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}×"));
            let (ours, theirs) = (number(line.ours), number(line.theirs));
            text += &format!("| {name} | {ours} | {theirs} | {ratio} |\n");
        }
        text
    }

    /// Prints the comparisons.
    pub fn print(&self, sides: &[Side]) {
        if self.comparisons.is_empty() {
            return;
        }
        println!("\n{:<28} {:<44} {:>12} {:>12}  better", "ratio", "what", "pgclip", "the other");
        for line in &self.comparisons {
            let number = |value: Option<f64>, side: Side| match value {
                Some(value) => format!("{} {}", short(value), line.unit).trim_end().to_owned(),
                None if sides.contains(&side) => "not reached".to_owned(),
                None => "-".to_owned(),
            };
            let verdict = match line.ratio {
                Some(ratio) if ratio >= 1.0 => format!("pgclip {ratio:.2}×"),
                Some(ratio) => format!("{} {:.2}×", line.peer, 1.0 / ratio),
                None => String::new(),
            };
            println!(
                "{:<28} {:<44} {:>12} {:>12}  {verdict}",
                line.name,
                line.what,
                number(line.ours, Side::Pgclip),
                number(line.theirs, Side::Pgvector),
            );
        }
    }
}

/// A number with three digits that count, and separators.
pub fn short(value: f64) -> String {
    if value.abs() >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut text = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return text;
    }
    let decimals = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

/// An entry with what all phases know.
pub fn entry(extension: &str, metric: Metric, dims: usize, rows: usize, phase: &str) -> Entry {
    Entry {
        extension: extension.to_owned(),
        metric: metric.name().to_owned(),
        dims,
        rows,
        phase: phase.to_owned(),
        ..Entry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_promised_shape() {
        let mut report = Report::new();
        report.results.push(Entry {
            setting: "ef_search=40".to_owned(),
            recall: Some(0.93),
            ..entry("pgvector", Metric::Cosine, 384, 100_000, "search")
        });
        report.compare("build", "", "s", Better::Less, [Some(2.0), Some(6.0)]);
        report.compare("search_at_0.95", "", "/s", Better::More, [Some(8.0), None]);
        let value: serde_json::Value = serde_json::to_value(&report).unwrap();
        let first = &value["results"][0];
        for (field, expected) in [
            ("extension", serde_json::json!("pgvector")),
            ("metric", "cosine".into()),
            ("dims", 384.into()),
            ("rows", 100_000.into()),
            ("phase", "search".into()),
            ("setting", "ef_search=40".into()),
            ("recall", 0.93.into()),
            ("per_second", serde_json::Value::Null),
            ("seconds", serde_json::Value::Null),
            ("bytes", serde_json::Value::Null),
            ("pages", serde_json::Value::Null),
        ] {
            assert_eq!(first.get(field), Some(&expected), "{field}");
        }
        assert_eq!(value["ratios"]["build"], 3.0);
        for name in NAMED.iter().filter(|name| **name != "build") {
            assert_eq!(value["ratios"].get(*name), Some(&serde_json::Value::Null), "{name}");
        }
    }

    #[test]
    fn the_table_is_for_documents() {
        let mut report = Report::new();
        report.about.insert("processor".into(), "two cores".into());
        report.compare("build", "a build", "s", Better::Less, [Some(2.0), Some(6.0)]);
        report.compare("search_at_0.95", "", "/s", Better::More, [Some(8.0), None]);
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "processor: two cores");
        assert_eq!(lines[4], "| a build | 2.00 s | 6.00 s | 3.00× |");
        assert_eq!(lines[5], "| search_at_0.95 | 8.00 /s | not reached |  |");
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.256, 12.34, 999.4, 1234.5, 1234567.0].map(short);
        assert_eq!(shown, ["0.26", "12.3", "999", "1,234", "1,234,567"]);
    }
}
