//! `pgclip-train ablation`: what each of A3R's steps adds on the benchmark of `pgclip-scenes`.
//!
//! One web-like pre-training a seed, short fine-tunings from it, and measurements of what comes
//! out. Each training is a process of its own, with the command line that its result tells, so
//! that everybody can repeat it. Whatever is there is not made again: the result of an arm is a
//! JSON file in `--out`, everything else lies in `--work` and is remade from seeds when it is
//! missing. A training that was stopped goes on from its last checkpoint.

mod arms;
mod measure;
mod result;
mod statistics;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pgclip_scenes::{benchmark, set};

use crate::checkpoint;
use arms::{ARMS, Arm, Plan, Run};
pub use result::ArmResult;

/// The benchmark's seed; the seeds of the arms are of the training.
const BENCHMARK_SEED: u64 = 1;
/// The benchmark's manifest among the results, to know that it is the same elsewhere.
const BENCHMARK_FILE: &str = "benchmark.json";

#[derive(Clone, Debug, Args)]
pub struct AblationArgs {
    /// Folder of the results: benchmark.json, seed-N/ARM.json
    #[arg(long, value_name = "DIR", default_value = "docs/ablation")]
    pub out: PathBuf,
    /// Document that has the table between its markers
    #[arg(long, value_name = "FILE", default_value = "docs/ablation.md")]
    pub document: PathBuf,
    /// Folder of the benchmark and the checkpoints, remade where they are missing
    #[arg(long, value_name = "DIR", default_value = "target/ablation")]
    pub work: PathBuf,
    /// Seeds of the training
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    pub seeds: Vec<u64>,
    /// Run these arms alone
    #[arg(long, value_delimiter = ',')]
    pub arms: Vec<String>,
    /// Share of the pictures and steps, to try the command
    #[arg(long, default_value_t = 1.0)]
    pub share: f64,
    /// Write the table from the results that are there, run nothing
    #[arg(long)]
    pub table: bool,
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// Runs `pgclip-train ablation`.
pub fn run(args: &AblationArgs) -> Result<()> {
    ensure!(args.share > 0.0 && args.share <= 1.0, "--share must be in (0, 1]");
    for name in &args.arms {
        let known: Vec<&str> = ARMS.iter().map(|arm| arm.name).collect();
        ensure!(known.contains(&name.as_str()), "no arm {name:?}; there are {}", known.join(", "));
    }
    // A document without a place for the table is found out before the hours, not after.
    table::write(&args.out, &args.document)?;
    if !args.table {
        let plan = Plan::new(args)?;
        let digest = draw_benchmark(args, &plan)?;
        plan.write_inputs()?;
        for &seed in &args.seeds {
            for arm in ARMS {
                if args.arms.is_empty() || args.arms.iter().any(|name| name == arm.name) {
                    run_arm(args, &plan, arm, seed, &digest)?;
                    table::write(&args.out, &args.document)?;
                }
            }
        }
    }
    println!("{} tells what was found", args.document.display());
    Ok(())
}

/// Draws the benchmark where it is missing; returns the digest of its manifest.
fn draw_benchmark(args: &AblationArgs, plan: &Plan) -> Result<String> {
    let manifest = plan.data().join(set::MANIFEST);
    if !manifest.is_file() {
        println!("drawing the benchmark into {}", plan.data().display());
        benchmark::write(&plan.data(), BENCHMARK_SEED, args.share)?;
    }
    let pinned = args.out.join(BENCHMARK_FILE);
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    if pinned.is_file() {
        ensure!(
            fs::read(&pinned)? == fs::read(&manifest)?,
            "{} is not the benchmark that {} describes; remove {} to draw it anew",
            manifest.display(),
            pinned.display(),
            plan.data().display()
        );
    } else {
        fs::copy(&manifest, &pinned)?;
    }
    checkpoint::digest(&manifest)
}

/// Makes the result of one arm, unless it is there.
fn run_arm(args: &AblationArgs, plan: &Plan, arm: &Arm, seed: u64, benchmark: &str) -> Result<()> {
    let runs = plan.runs(arm, seed);
    let recipe: Vec<String> = runs.iter().map(Run::command_line).collect();
    let path = ArmResult::path(&args.out, seed, arm.name);
    if path.is_file() {
        let there = ArmResult::read(&path)?;
        ensure!(
            there.recipe == recipe && there.benchmark == benchmark,
            "{} was made by another recipe or on another benchmark; remove it to make it anew",
            path.display()
        );
        println!("seed {seed}, {}: there", arm.name);
        return Ok(());
    }
    // The pre-training is every arm's, and counts for the first alone.
    let (mut seconds, own) = (0.0, usize::from(runs.len() > 1));
    for (at, run) in runs.iter().enumerate() {
        println!("seed {seed}, {}: {}", arm.name, run.command_line());
        let took = complete(run).with_context(|| format!("{} failed", run.command_line()))?;
        seconds += if at >= own { took } else { 0.0 };
    }
    let product = runs.last().context("every arm has a run")?;
    let found = measure::measure(&product.product, &plan.data().join("test"), arm.how)?;
    ArmResult::new(arm.name, seed, recipe, benchmark, seconds, found).write(&path)?;
    println!("seed {seed}, {}: {}", arm.name, path.display());
    Ok(())
}

/// Does a run unless its product is there; returns how long it took in all, with earlier tries.
fn complete(run: &Run) -> Result<f64> {
    let clock = clock_file(&run.product);
    let before: f64 =
        fs::read_to_string(&clock).ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0.0);
    if run.product.exists() {
        return Ok(before);
    }
    let start = Instant::now();
    let status = Command::new(std::env::current_exe()?).args(&run.arguments).status()?;
    let seconds = before + start.elapsed().as_secs_f64();
    if let Some(folder) = clock.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&clock, format!("{seconds:.1}\n"))?;
    ensure!(status.success(), "{status}");
    ensure!(run.product.exists(), "{} was not made", run.product.display());
    Ok(seconds)
}

/// Beside a checkpoint's run, or a file: what it took.
fn clock_file(product: &Path) -> PathBuf {
    let product = match product.parent() {
        Some(folder) if folder.ends_with("checkpoints") => folder.parent().unwrap_or(folder),
        _ => product,
    };
    product.with_extension("seconds")
}
