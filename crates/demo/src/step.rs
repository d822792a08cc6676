//! Steps on the console: what is being done, and how long it took. The Makefile prints the same.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;

/// Runs `work` under a heading, and prints the seconds it took.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {what}");
    std::io::stdout().flush()?;
    let start = Instant::now();
    let result = work()?;
    println!("    {:.1} s", start.elapsed().as_secs_f64());
    Ok(result)
}
