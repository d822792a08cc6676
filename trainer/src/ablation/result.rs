//! The result of an arm as a JSON file: what made it, and what each query found, so that
//! intervals can be computed long after the model is gone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What each query found, in the order of the query file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Found {
    /// Average precision at 10.
    pub average_precision: Vec<f64>,
    /// The place of the first right picture, from 1; 0: none.
    pub first_hit: Vec<usize>,
}

/// As [`Found`] lies in the file: means to read, and the numbers of the queries in one line each.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Stored {
    queries: usize,
    map_at_10: f64,
    recall_at_1: f64,
    recall_at_5: f64,
    recall_at_10: f64,
    average_precision: String,
    first_hit: String,
}

/// A measure of one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    AveragePrecision,
    /// Whether a right picture is among the first so many.
    Recall(usize),
    /// The binary logarithm of the place of the first right picture: it tells something where no
    /// query has one among the first ten.
    Place,
}

impl Found {
    /// One number a query.
    pub fn values(&self, measure: Measure) -> Vec<f64> {
        match measure {
            Measure::AveragePrecision => self.average_precision.clone(),
            Measure::Recall(k) => self
                .first_hit
                .iter()
                .map(|&place| if (1..=k).contains(&place) { 1.0 } else { 0.0 })
                .collect(),
            Measure::Place => {
                self.first_hit.iter().map(|&place| (place.max(1) as f64).log2()).collect()
            }
        }
    }

    fn mean(&self, measure: Measure) -> f64 {
        let mean = crate::metrics::mean(&self.values(measure));
        (mean * 1e4).round() / 1e4
    }
}

impl From<Found> for Stored {
    fn from(found: Found) -> Stored {
        let precisions: Vec<String> =
            found.average_precision.iter().map(|v| ((v * 1e4).round() / 1e4).to_string()).collect();
        let places: Vec<String> = found.first_hit.iter().map(usize::to_string).collect();
        Stored {
            queries: found.first_hit.len(),
            map_at_10: found.mean(Measure::AveragePrecision),
            recall_at_1: found.mean(Measure::Recall(1)),
            recall_at_5: found.mean(Measure::Recall(5)),
            recall_at_10: found.mean(Measure::Recall(10)),
            average_precision: precisions.join(" "),
            first_hit: places.join(" "),
        }
    }
}

impl TryFrom<Stored> for Found {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Found, String> {
        fn parse<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, String> {
            let number = |word: &str| word.parse().map_err(|_| format!("{word:?} is no number"));
            text.split(' ').filter(|word| !word.is_empty()).map(number).collect()
        }
        let found = Found {
            average_precision: parse(&stored.average_precision)?,
            first_hit: parse(&stored.first_hit)?,
        };
        let counts = [found.average_precision.len(), found.first_hit.len()];
        match counts == [stored.queries; 2] {
            true => Ok(found),
            false => Err(format!("{counts:?} numbers for {} queries", stored.queries)),
        }
    }
}

/// One arm with one seed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ArmResult {
    pub arm: String,
    pub seed: u64,
    /// The command lines that made the model, in order.
    pub recipe: Vec<String>,
    /// SHA-256 of the benchmark's manifest.
    pub benchmark: String,
    /// What these commands took on the wall, without a pre-training that others share.
    pub seconds: f64,
    /// By subject.
    pub found: BTreeMap<String, Found>,
}

impl ArmResult {
    pub fn new(
        arm: &str,
        seed: u64,
        recipe: Vec<String>,
        benchmark: &str,
        seconds: f64,
        found: BTreeMap<String, Found>,
    ) -> ArmResult {
        let (arm, benchmark) = (arm.to_owned(), benchmark.to_owned());
        ArmResult { arm, seed, recipe, benchmark, seconds, found }
    }

    pub fn path(folder: &Path, seed: u64, arm: &str) -> PathBuf {
        folder.join(format!("seed-{seed}")).join(format!("{arm}.json"))
    }

    pub fn read(path: &Path) -> Result<ArmResult> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no result", path.display()))
    }

    /// Writes beside and renames, so that a result is whole or absent.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let part = path.with_extension("part");
        fs::write(&part, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {}", part.display()))?;
        fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
    }
}
