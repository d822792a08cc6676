//! The command line. Options that open_clip has too have open_clip's names.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::ablation::AblationArgs;
use crate::augment::AugmentArgs;
use crate::crop::Scale;
use crate::infer::InferArgs;
use crate::learn::LearnArgs;
use crate::lines::{Captions, CsvForm};
use crate::prepare::PrepareArgs;
use crate::soup::SoupArgs;
use crate::weights::WeightsArgs;

/// Trains, evaluates and exports CLIP models for pgclip.
#[derive(Debug, Parser)]
#[command(name = "pgclip-train", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw labelled synthetic traffic scenes
    Synth(SynthArgs),
    /// Split label files into vehicles and persons, gather the lexicon, write open_clip's CSV
    Prepare(PrepareArgs),
    /// Fill in colours and types that captions leave open, by what a model sees
    Augment(AugmentArgs),
    /// Train a model contrastively
    Train(Box<TrainArgs>),
    /// Measure retrieval on a label file, both ways
    Eval(EvalArgs),
    /// Find the pictures of a folder that sentences ask for
    Infer(InferArgs),
    /// Average the weights of checkpoints
    Soup(SoupArgs),
    /// Write a checkpoint or published weights as a model directory for the database
    Export(ExportArgs),
    /// Measure on the benchmark what each of A3R's steps adds; goes on where it was stopped
    Ablation(AblationArgs),
}

#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Folder to write: images/, labels.txt, scenes.jsonl, manifest.json, captions.txt
    pub out: PathBuf,
    /// Number of pictures
    #[arg(long, default_value_t = 1000)]
    pub count: u64,
    /// Seed of the set
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Captions per picture in captions.txt, the first in the challenge's words, the others free
    #[arg(long, default_value_t = 0)]
    pub captions: usize,
    /// Share of vehicles; the others are pedestrians
    #[arg(long, default_value_t = 0.6)]
    pub vehicles: f32,
    /// Write the benchmark: pretrain/ and train/ (web-like), val/ and test/ (surveillance-like,
    /// with queries_car.txt, relevance_car.tsv and the same for person), manifest.json
    #[arg(long, conflicts_with_all = ["count", "captions", "vehicles"])]
    pub benchmark: bool,
    /// Share of the benchmark's pictures to draw
    #[arg(long, default_value_t = 1.0)]
    pub share: f64,
}

// Of an option given twice the later one counts: recipes can be varied by appending.
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
pub struct TrainArgs {
    /// Label file: image$attributes$caption, open_clip's CSV (.csv, .tsv), or webdataset shards
    /// (shards/{000..012}.tar)
    #[arg(long, value_name = "FILE")]
    pub train_data: PathBuf,
    /// Folder of the pictures [default: the label file's]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Captions to train on: the augmented ones where there are any, or those given
    #[arg(long, value_enum, default_value_t = Captions::Augmented)]
    pub captions: Captions,
    #[command(flatten)]
    pub csv: CsvForm,
    /// Label file, CSV or shards to evaluate on at each checkpoint
    #[arg(long, value_name = "FILE")]
    pub val_data: Option<PathBuf>,
    /// Folder of its pictures [default: the label file's]
    #[arg(long, value_name = "DIR")]
    pub val_images: Option<PathBuf>,
    /// Folder for checkpoints, params.txt and out.log
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// open_clip's name of an architecture (ViT-B-32 … ViT-bigG-14, with -quickgelu), or a file
    /// that describes one: open_clip_config.json, or Hugging Face's config.json
    #[arg(long, default_value = "pgclip-traffic-tiny")]
    pub model: String,
    /// How pictures become square, if not as the model says: shortest crops, longest pads
    #[arg(long, value_name = "MODE", value_parser = ["shortest", "longest"])]
    pub image_resize_mode: Option<String>,
    /// Weights to start from: .safetensors, .pt or .bin, or a folder of them, as open_clip or
    /// Hugging Face name them; a checkpoint, a run, or a model directory [default: random]
    #[arg(long, value_name = "FILE")]
    pub pretrained: Option<PathBuf>,
    /// Keep table rows only for the tokens of the training captions; all others share one
    #[arg(long)]
    pub compact_vocabulary: bool,
    /// Share of captions into which the shared row of unknown tokens is thrown
    #[arg(long, default_value_t = 0.0)]
    pub token_noise: f64,
    /// Times to go through the pictures
    #[arg(long, default_value_t = 32)]
    pub epochs: u64,
    /// Steps in all, instead of --epochs
    #[arg(long)]
    pub steps: Option<u64>,
    #[arg(long, default_value_t = 25)]
    pub batch_size: usize,
    #[arg(long, default_value_t = 4e-7)]
    pub lr: f64,
    /// Steps of linear warm-up
    #[arg(long, default_value_t = 10_000)]
    pub warmup: u64,
    #[command(flatten)]
    pub learn: LearnArgs,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Cut a random part out of each picture, of a share of its area between these two, and enlarge
    /// it (open_clip's --aug-cfg scale)
    #[arg(long, value_name = "MIN,MAX")]
    pub aug_scale: Option<Scale>,
    /// Mirror half of the pictures
    #[arg(long)]
    pub flip: bool,
    /// Shift pictures by at most this many pixels
    #[arg(long, default_value_t = 0)]
    pub shift: usize,
    /// Change brightness by at most this share
    #[arg(long, default_value_t = 0.0)]
    pub brightness: f32,
    /// Epochs between checkpoints that are kept; 0: the last ones alone
    #[arg(long, default_value_t = 1)]
    pub save_frequency: u64,
    /// Steps between checkpoints to go on from
    #[arg(long, default_value_t = 500)]
    pub save_every: u64,
    /// Of these, how many are kept
    #[arg(long, default_value_t = 2)]
    pub keep: usize,
    /// Steps between lines of out.log
    #[arg(long, default_value_t = 20)]
    pub log_every: u64,
    /// Write TensorBoard's event files into the folder tensorboard in --out
    #[arg(long, value_enum)]
    pub report_to: Option<ReportTo>,
    /// Threads that decode pictures ahead of the steps; 0: one per core
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub workers: usize,
    /// Largest decoded set that is held in memory; a larger one is decoded batch by batch
    /// [default: half of what is free]
    #[arg(long, value_name = "MIB")]
    pub in_memory: Option<u64>,
    /// Go on from the last checkpoint in --out
    #[arg(long)]
    pub resume: bool,
    /// Stop (with a checkpoint) after this step, as if interrupted
    #[arg(long)]
    pub stop_after: Option<u64>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Threads; 0: one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// Where a run's numbers go besides out.log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportTo {
    Tensorboard,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Label file, CSV or shards, as for training
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Folder of the pictures [default: the label file's]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    #[command(flatten)]
    pub csv: CsvForm,
    /// Write the numbers here as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with curves, ranks, hits and misses here
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Appended to every query, to measure what prompt enhancement does
    #[arg(long, default_value = "")]
    pub suffix: String,
    /// Fail if mAP@10 of the colour + type queries is below this
    #[arg(long, value_name = "SCORE")]
    pub at_least: Option<f64>,
    /// Print the best pictures for these texts as well
    #[arg(long, value_name = "TEXT")]
    pub query: Vec<String>,
    #[arg(long, default_value = "auto")]
    pub device: String,
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// Number format of an exported model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportPrecision {
    Fp32,
    /// Half the size, arithmetic in fp16 as well, for GPUs
    Fp16,
    /// Half the size, arithmetic in fp32, for CPUs
    Fp16Storage,
}

impl From<ExportPrecision> for pgclip_export::Precision {
    fn from(precision: ExportPrecision) -> Self {
        match precision {
            ExportPrecision::Fp32 => Self::Fp32,
            ExportPrecision::Fp16 => Self::Fp16,
            ExportPrecision::Fp16Storage => Self::Fp16Storage,
        }
    }
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Model directory to write
    pub out: PathBuf,
    /// Name of the model in the database
    #[arg(long)]
    pub name: String,
    #[arg(long, value_enum, default_value_t = ExportPrecision::Fp32)]
    pub precision: ExportPrecision,
    /// Replace a model directory that is there
    #[arg(long)]
    pub overwrite: bool,
    /// Label file whose captions give the mean text embedding
    #[arg(long, value_name = "FILE")]
    pub mean_text: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}
