//! The table of the ablation as Markdown, from the results that are there; a row that was not
//! measured is not there, and the text says so.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::arms::ARMS;
use super::result::{ArmResult, Measure};
use super::statistics::{Interval, interval, mean_rows};

const BEGIN: &str = "<!-- written by `pgclip-train ablation`: begin -->\n";
const END: &str = "<!-- end -->";

const MEASURES: [(&str, Measure); 4] = [
    ("mAP@10", Measure::AveragePrecision),
    ("R@1", Measure::Recall(1)),
    ("R@5", Measure::Recall(5)),
    ("R@10", Measure::Recall(10)),
];
const SUBJECTS: [(&str, &str); 2] = [("car", "Vehicles"), ("person", "Pedestrians")];
/// Fewer seeds tell nothing about what training's chances do.
const SEEDS: usize = 3;

/// The results of one arm, by seed.
struct Row {
    adds: &'static str,
    results: Vec<ArmResult>,
}

/// Puts the table between the markers of the document.
pub fn write(results: &Path, document: &Path) -> Result<()> {
    let text = fs::read_to_string(document)
        .with_context(|| format!("cannot read {}", document.display()))?;
    let marks = text.find(BEGIN).zip(text.find(END)).filter(|(begin, end)| begin < end);
    let (begin, end) =
        marks.with_context(|| format!("{} has no place for the table", document.display()))?;
    let (rows, missing) = read(results)?;
    let new =
        format!("{}{}{}", &text[..begin + BEGIN.len()], markdown(&rows, &missing)?, &text[end..]);
    if new != text {
        fs::write(document, new).with_context(|| format!("cannot write {}", document.display()))?;
    }
    Ok(())
}

/// The arms that have results, in order, and what the others add.
fn read(folder: &Path) -> Result<(Vec<Row>, Vec<&'static str>)> {
    let mut seeds: Vec<u64> = match folder.is_dir() {
        true => fs::read_dir(folder)?
            .filter_map(|entry| {
                entry.ok()?.file_name().to_str()?.strip_prefix("seed-")?.parse().ok()
            })
            .collect(),
        false => Vec::new(),
    };
    seeds.sort_unstable();
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for arm in ARMS {
        let paths = seeds.iter().map(|&seed| ArmResult::path(folder, seed, arm.name));
        let results: Vec<ArmResult> = paths
            .filter(|path| path.is_file())
            .map(|path| ArmResult::read(&path))
            .collect::<Result<_>>()?;
        match results.is_empty() {
            true => missing.push(arm.adds),
            false => rows.push(Row { adds: arm.adds, results }),
        }
    }
    Ok((rows, missing))
}

fn markdown(rows: &[Row], missing: &[&str]) -> Result<String> {
    let mut out = String::new();
    for (subject, title) in SUBJECTS {
        let queries =
            rows.first().map_or(0, |row| values(&row.results[0], subject, MEASURES[0].1).len());
        out += &format!("\n### {title}, {queries} queries\n\n");
        out += "| arm | seeds | mAP@10 | R@1 | R@5 | R@10 | first right place |\n";
        out += "| --- | --- | --- | --- | --- | --- | --- |\n";
        for (at, row) in rows.iter().enumerate() {
            let seeds: Vec<String> = row.results.iter().map(|r| r.seed.to_string()).collect();
            let found = |measure| {
                let of_seeds: Vec<Vec<f64>> =
                    row.results.iter().map(|r| values(r, subject, measure)).collect();
                interval(&mean_rows(&of_seeds))
            };
            let mut cells: Vec<String> =
                MEASURES.iter().map(|&(_, measure)| level(found(measure))).collect();
            cells.push(found(Measure::Place).map_or("–".to_owned(), |i| powers(i, 0)));
            out += &format!(
                "| {} | {} | {} |\n",
                title_of(at, row),
                seeds.join(", "),
                cells.join(" | ")
            );
        }
        out += "\n| what it adds | mAP@10: over queries | over seeds | | place: over queries | over seeds | |\n";
        out += "| --- | --- | --- | --- | --- | --- | --- |\n";
        for (at, pair) in rows.windows(2).enumerate() {
            let precision = Step::between(&pair[0], &pair[1], subject, Measure::AveragePrecision)?;
            let place = Step::between(&pair[0], &pair[1], subject, Measure::Place)?;
            let times = |found: Option<Interval>| {
                found.map_or("–".to_owned(), |i| format!("× {}", powers(i, 2)))
            };
            out += &format!(
                "| {} | {} | {} | {} | {} | {} | {} |\n",
                title_of(at + 1, &pair[1]),
                difference(precision.queries),
                difference(precision.seeds),
                precision.verdict(true),
                times(place.queries),
                times(place.seeds),
                place.verdict(false)
            );
        }
    }
    if !missing.is_empty() {
        out += &format!("\nNot run yet, and therefore absent: {}.\n", missing.join("; "));
    }
    let few = rows.iter().filter(|row| row.results.len() < SEEDS).count();
    if few > 0 {
        out += &format!(
            "\n{few} of {} arms have fewer than {SEEDS} seeds: what they say holds for these trainings \
             alone.\n",
            rows.len()
        );
    }
    out.push('\n');
    Ok(out)
}

fn values(result: &ArmResult, subject: &str, measure: Measure) -> Vec<f64> {
    result.found.get(subject).map(|found| found.values(measure)).unwrap_or_default()
}

fn title_of(at: usize, row: &Row) -> String {
    format!("{}{}", if at < 2 { "" } else { "+ " }, row.adds)
}

/// What an arm adds to a measure of the one before it, seeds and queries paired.
#[derive(Default)]
struct Step {
    queries: Option<Interval>,
    seeds: Option<Interval>,
}

impl Step {
    fn between(before: &Row, after: &Row, subject: &str, measure: Measure) -> Result<Step> {
        let mut differences = Vec::new();
        for result in &after.results {
            let Some(base) = before.results.iter().find(|r| r.seed == result.seed) else {
                continue;
            };
            let old = values(base, subject, measure);
            let new = values(result, subject, measure);
            ensure!(old.len() == new.len(), "arms of seed {} have other queries", result.seed);
            differences.push(new.iter().zip(&old).map(|(n, o)| n - o).collect::<Vec<f64>>());
        }
        if differences.is_empty() {
            return Ok(Step::default());
        }
        let means: Vec<f64> = differences.iter().map(|d| crate::metrics::mean(d)).collect();
        let seeds = if means.len() < SEEDS { None } else { interval(&means) };
        Ok(Step { queries: interval(&mean_rows(&differences)), seeds })
    }

    /// Both intervals must exclude 0. `more` says whether more is better.
    fn verdict(&self, more: bool) -> &'static str {
        match (self.queries, self.seeds) {
            (Some(queries), Some(seeds)) if queries.is_sure() && seeds.is_sure() => {
                if (queries.mean > 0.0) == more { "helps" } else { "harms" }
            }
            (Some(_), Some(_)) => "no effect shown",
            (Some(_), None) => "too few seeds",
            _ => "",
        }
    }
}

fn level(found: Option<Interval>) -> String {
    found.map_or("–".to_owned(), |i| format!("{:.3} ± {:.3}", i.mean, i.half))
}

fn difference(found: Option<Interval>) -> String {
    found.map_or("–".to_owned(), |i| format!("{:+.3} ± {:.3}", i.mean, i.half))
}

/// Two to the power of a mean and of its interval's ends.
fn powers(found: Interval, decimals: usize) -> String {
    let Interval { mean, half } = found;
    let [mean, least, most] = [mean, mean - half, mean + half].map(f64::exp2);
    format!("{mean:.decimals$} ({least:.decimals$} to {most:.decimals$})")
}
