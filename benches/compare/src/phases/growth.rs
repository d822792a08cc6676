//! How the cost grows with the rows: build and search at 10,000, 100,000 and 1,000,000 vectors of
//! 64 dimensions. Search should grow with the logarithm, build with n log n.

use crate::curve::{Sample, rate_at};
use crate::report::{Report, short};
use crate::side::Side;

pub const DIMS: usize = 64;
pub const ROWS: [usize; 3] = [10_000, 100_000, 1_000_000];

/// The entries of the growing sets as a table.
pub fn print(report: &Report, sides: &[Side]) {
    if !report.results.iter().any(|entry| entry.phase == "growth_build") {
        return;
    }
    println!("\n{:<9} {:>9} {:>9} {:>12} {:>22}", "", "rows", "build", "a row", "a query at 0.95");
    for side in sides {
        for rows in ROWS {
            let of = |phase: &str| {
                let mut entries = report.results.clone();
                entries.retain(|entry| {
                    entry.extension == side.name() && entry.rows == rows && entry.phase == phase
                });
                entries
            };
            let build = of("growth_build").first().and_then(|entry| entry.seconds);
            let Some(build) = build else { continue };
            let samples: Vec<Sample> = of("growth")
                .iter()
                .filter_map(|entry| {
                    Some(Sample { recall: entry.recall?, per_second: entry.per_second? })
                })
                .collect();
            let search = rate_at(&samples, 0.95)
                .map_or("not reached".to_owned(), |rate| format!("{} µs", short(1e6 / rate)));
            let row = short(build * 1e6 / rows as f64);
            println!("{:<9} {rows:>9} {build:>7.1} s {row:>9} µs {search:>22}", side.name());
        }
    }
}
