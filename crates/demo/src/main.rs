//! The program behind `make demo`: pictures into a private PostgreSQL with COPY, sentences out
//! of it with `text_search()`.
//!
//! The steps are in the order of the modules: pictures are drawn, a server is started and filled,
//! searches are run, and what came out is printed and written as a page.

mod bench;
mod findings;
mod fine_tune;
mod html;
mod pictures;
mod searches;
mod server;
mod step;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pgclip_cluster::{Shutdown, workspace};

use crate::findings::Findings;
use crate::pictures::Picture;
use crate::step::step;

/// Fills a private PostgreSQL with generated pictures and searches them by sentences.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Draw, load and search; leaves the server running.
    Run {
        /// How many pictures to load.
        #[arg(long, default_value_t = 2400)]
        pictures: usize,
        /// A model directory to use instead of the built-in model (the server must be able to read it).
        #[arg(long)]
        model: Option<PathBuf>,
    },
    /// Compare the speed of COPY, INSERT and backfill with that of the encoder alone.
    Bench {
        /// How many pictures to load.
        #[arg(long, default_value_t = 2400)]
        pictures: usize,
        /// How often to measure each of them.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// A model directory to use instead of the built-in model (the server must be able to read it).
        #[arg(long)]
        model: Option<PathBuf>,
    },
    /// Fine-tune the built-in model, put it in the place of the one in use, and measure both.
    FineTune {
        /// The program `pgclip-train`.
        #[arg(long)]
        trainer: PathBuf,
    },
    /// Stop the server.
    Stop,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Action::Run { pictures, model } => run(pictures, model),
        Action::Bench { pictures, rounds, model } => bench(pictures, rounds, model),
        Action::FineTune { trainer } => fine_tune::run(&trainer),
        Action::Stop => stop(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pgclip-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn draw(folder: &Path, count: usize) -> Result<Vec<Picture>> {
    let images = folder.join("images");
    step(&format!("Draw {count} pictures in {}", images.display()), || {
        pictures::draw(&images, count)
    })
}

fn run(count: usize, model: Option<PathBuf>) -> Result<()> {
    let folder = workspace().join("target/demo");
    let pictures = draw(&folder, count)?;
    let (cluster, mut client) = server::open(&folder.join("pg"), model.as_deref())?;
    let copied = server::copy(&mut client, &pictures)?;
    server::index(&mut client)?;
    let searches = searches::run(&mut client, &pictures)?;
    let findings = Findings {
        server: format!("PostgreSQL {}", cluster.server().version()),
        model: server::model(&mut client)?,
        pictures: pictures.len(),
        copied,
        searches,
    };
    let page = folder.join("index.html");
    step(&format!("Write {}", page.display()), || html::write(&findings, &page))?;
    println!("\nThe server goes on running until `make demo-stop`. To go on playing:\n");
    println!("  {}\n", cluster.psql_line(server::DATABASE));
    println!(
        "  SELECT (hit).id, score, (hit).label FROM text_search(NULL::photos, 'a yellow bus');"
    );
    Ok(())
}

fn bench(count: usize, rounds: usize, model: Option<PathBuf>) -> Result<()> {
    let folder = workspace().join("target/demo");
    let pictures = draw(&folder, count)?;
    let model = model.map(|directory| directory.canonicalize()).transpose()?;
    let (cluster, mut client) = server::open(&folder.join("bench"), model.as_deref())?;
    step("Ingest with encoding against pgclip-encoder bench", || {
        bench::run(&cluster, &mut client, &pictures, model.as_deref(), rounds)
    })?;
    cluster.stop(Shutdown::Fast)
}

fn stop() -> Result<()> {
    match server::builder(&workspace().join("target/demo/pg")).find()? {
        Some(cluster) if cluster.is_running() => {
            step("Stop the demo's server", || cluster.stop(Shutdown::Fast))
        }
        _ => {
            println!("The demo's server does not run.");
            Ok(())
        }
    }
}
