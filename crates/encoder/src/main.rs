//! `pgclip-encoder`: the process that keeps CLIP models in memory and encodes images and
//! texts for a PostgreSQL server, so that no PostgreSQL process has to load ONNX Runtime.
//!
//! Three layers, one thread between them that owns all state: [`connection`] speaks the
//! protocol, [`service`] with [`queue`], [`answers`] and [`cache`] decides what is encoded
//! when, and [`pipeline`] with [`encode`], [`models`] and [`backend`] encodes it.

mod adopt;
mod answers;
mod backend;
mod bench;
mod cache;
mod check;
mod confine;
mod connection;
mod convert;
mod direction;
mod encode;
mod failure;
mod file;
mod large;
mod models;
mod pipeline;
mod process;
mod queue;
mod serve;
mod service;
mod settings;
mod socket;
mod stats;
mod stdio;
mod tokens;

use clap::{Parser, Subcommand};
use settings::ServeOptions;
use tracing::level_filters::LevelFilter;

#[derive(Debug, Parser)]
#[command(name = "pgclip-encoder", version, about = "Encodes images and texts with CLIP")]
struct Cli {
    /// What is logged to the standard error: error, warn, info, debug
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a PostgreSQL server over a Unix socket
    Serve(ServeOptions),
    /// Load a model directory, encode a probe, and describe it
    Check(check::CheckOptions),
    /// Measure images and texts a second
    Bench(bench::BenchOptions),
    /// Turn published CLIP weights or ONNX graphs into a model directory
    Convert(convert::ConvertOptions),
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let log = tracing_subscriber::fmt()
        .with_max_level(cli.log_level)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(|| stdio::LogWriter);
    if matches!(&cli.command, Command::Serve(options) if options.supervised) {
        stdio::supervised();
        // The server's log has a time of its own for each line.
        log.without_time().init();
    } else {
        log.init();
    }
    // A panic in a decoder is an error of one image: one line in the log, no more.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    let result = match cli.command {
        Command::Serve(options) => serve::run(options),
        Command::Check(options) => check::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Convert(options) => convert::run(&options),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
