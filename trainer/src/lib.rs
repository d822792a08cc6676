//! Training, evaluation and export of CLIP models on libtorch (`tch`).
//!
//! Modules in the order data flows through them: command line and library set-up, synthetic
//! sets, label lines and their words, label files, pictures and captions in memory, batches,
//! the model, the loss, the optimiser, checkpoints, the training loop, captions filled in,
//! evaluation, export.

pub mod args;
pub mod interrupt;
pub mod progress;
pub mod torch;

pub mod synth;

pub mod lexicon;
pub mod lines;
pub mod prepare;

pub mod data;
pub mod images;
pub mod place;
pub mod tokens;

pub mod batch;
pub mod crop;
pub mod loader;

pub mod architectures;
pub mod config;
pub mod model;
pub mod params;

pub mod encode;
pub mod layers;
pub mod loss;
pub mod optim;
pub mod parallel;
pub mod passes;
pub mod schedule;
pub mod shim;

pub mod checkpoint;
pub mod weights;

pub mod learn;
pub mod settings;
pub mod tensorboard;
pub mod train;

pub mod augment;
pub mod caption;

pub mod eval;
pub mod infer;
pub mod metrics;
pub mod ranks;
pub mod report;
pub mod search;
pub mod soup;

pub mod export;
pub mod verify;

pub mod ablation;
