//! Times whole training steps on random pictures and captions: `bench/compare.py` sets this
//! beside the same steps of open_clip on Python's PyTorch.

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use pgclip_train::batch::Batch;
use pgclip_train::config::Config;
use pgclip_train::learn::{LearnArgs, Learner};
use pgclip_train::params::Params;
use pgclip_train::{shim, torch};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Device;

#[derive(Parser)]
struct Line {
    #[arg(long)]
    model: String,
    #[arg(long)]
    batch_size: usize,
    /// Tokens of a caption
    #[arg(long, default_value_t = 77)]
    tokens: usize,
    #[arg(long, default_value_t = 10)]
    steps: u64,
    #[arg(long, default_value = "auto")]
    device: String,
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    learn: LearnArgs,
}

fn main() -> Result<()> {
    let line = Line::parse();
    torch::prepare(line.threads)?;
    let device = torch::device(&line.device)?;
    let config = Config::named_or_file(&line.model)?;
    let params = Params::init(&config.model_cfg, None, 0, device)?;
    let mut learner = Learner::new(config, params, &line.learn, 0);
    let batch = random(&learner.config, line.batch_size * line.learn.accum_freq, line.tokens);
    let mut loss = f64::NAN;
    for step in 0..3 {
        loss = learner.step(&batch, step, 1e-4)?.loss.double_value(&[]);
    }
    let start = Instant::now();
    let mut last = None;
    for step in 3..3 + line.steps {
        last = Some(learner.step(&batch, step, 1e-4)?.loss);
    }
    if let Some(last) = last {
        loss = last.double_value(&[]); // waits for the device
    }
    let seconds = start.elapsed().as_secs_f64() / line.steps as f64;
    let peak = match device {
        Device::Cuda(index) => shim::cuda_memory(index)?.1,
        _ => peak_of_process(),
    };
    println!(
        "{{\"samples_per_second\": {:.3}, \"seconds\": {seconds:.5}, \"peak_bytes\": {peak}, \"loss\": {loss:.5}}}",
        batch.own.len() as f64 / seconds
    );
    Ok(())
}

fn random(config: &Config, pairs: usize, tokens: usize) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (vision, text) = (&config.model_cfg.vision_cfg, &config.model_cfg.text_cfg);
    let size = (vision.image_size * vision.image_size * 3) as usize;
    let last = text.vocab_size - 1;
    Batch {
        pictures: (0..pairs * size).map(|_| rng.random()).collect(),
        captions: (0..pairs)
            .map(|_| {
                let mut ids: Vec<i64> =
                    (0..tokens).map(|_| rng.random_range(1..last - 1)).collect();
                ids[0] = last - 1;
                ids[tokens - 1] = last;
                ids
            })
            .collect(),
        own: (0..pairs as i64).collect(),
        matches: None,
    }
}

/// The most memory this process has had, from the system.
fn peak_of_process() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
