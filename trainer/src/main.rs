//! The `pgclip-train` binary: parses the command line and runs one command.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use pgclip_train::args::{Cli, Command};
use pgclip_train::{ablation, augment, eval, export, infer, prepare, soup, synth, torch, train};

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Synth(args) => synth::run(&args),
        Command::Prepare(args) => prepare::run(&args),
        Command::Augment(args) => {
            torch::prepare(args.threads)?;
            augment::run(&args)
        }
        Command::Train(args) => {
            torch::prepare(args.threads)?;
            return train::run(&args);
        }
        Command::Eval(args) => {
            torch::prepare(args.threads)?;
            eval::run(&args)
        }
        Command::Infer(args) => {
            torch::prepare(args.threads)?;
            infer::run(&args)
        }
        Command::Soup(args) => {
            torch::prepare(0)?;
            soup::run(&args)
        }
        Command::Export(args) => {
            torch::prepare(args.threads)?;
            export::run(&args)
        }
        Command::Ablation(args) => {
            torch::prepare(args.threads)?;
            ablation::run(&args)
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}
