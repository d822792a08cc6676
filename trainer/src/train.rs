//! The training loop: batches, loss, gradients, updates, log, checkpoints.
//!
//! Everything that a step depends on is in the checkpoint or follows from seed and step
//! number, so `--resume` goes on bit for bit on the CPU.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, no_grad};

use crate::args::TrainArgs;
use crate::batch::{Augment, Batch, Sampler, Source};
use crate::config::Config;
use crate::data::Labels;
use crate::images::Pictures;
use crate::model::Clip;
use crate::optim::{AdamW, Hyper, clip_gradients};
use crate::parallel::{self, Gradients};
use crate::params::Params;
use crate::progress::progress_bar;
use crate::tokens::Noise;
use crate::{checkpoint, eval, images, schedule, tokens, torch};

/// Upper bound of the logarithm of the logit scale, as in CLIP.
const MAX_LOGIT_SCALE: f64 = 4.605_170_185_988_092; // ln 100

/// Runs `pgclip-train train`.
pub fn run(args: &TrainArgs) -> Result<()> {
    check(args)?;
    let device = torch::device(&args.device)?;
    let labels = Labels::read(&args.train_data, args.images.as_deref())?;
    ensure!(
        labels.samples.len() >= args.batch_size,
        "{} pictures are fewer than a batch of {}",
        labels.samples.len(),
        args.batch_size
    );
    let mut run = Run::open(args, &labels, device)?;
    let pictures = load_pictures(&labels, &run.config)?;
    let held_out = match &args.val_data {
        Some(path) => {
            let labels = Labels::read(path, None)?;
            let pictures = load_pictures(&labels, &run.config)?;
            Some((labels, pictures))
        }
        None => None,
    };
    run.train(&labels, &pictures, held_out.as_ref())
}

fn load_pictures(labels: &Labels, config: &Config) -> Result<Pictures> {
    let paths: Vec<&Path> = labels.samples.iter().map(|sample| sample.path.as_path()).collect();
    images::load(&paths, config)
}

/// Refuses settings that cannot work.
fn check(args: &TrainArgs) -> Result<()> {
    ensure!(args.batch_size >= 2, "--batch-size must be at least 2");
    ensure!(args.steps >= 1, "--steps must be at least 1");
    ensure!(args.save_every >= 1 && args.log_every >= 1, "--save-every and --log-every start at 1");
    ensure!(args.lr.is_finite() && args.lr > 0.0, "--lr must be a positive number");
    for (name, beta) in [("--beta1", args.beta1), ("--beta2", args.beta2)] {
        ensure!((0.0..1.0).contains(&beta), "{name} must be in [0, 1)");
    }
    ensure!((0.0..=1.0).contains(&args.token_noise), "--token-noise must be in [0, 1]");
    ensure!((0.0..1.0).contains(&args.brightness), "--brightness must be in [0, 1)");
    Ok(())
}

/// A run: its folder, its model, how far it is.
struct Run<'a> {
    args: &'a TrainArgs,
    device: Device,
    config: Config,
    params: Params,
    optimizer: AdamW,
    step: u64,
    settings: BTreeMap<String, String>,
    log: File,
}

impl<'a> Run<'a> {
    /// Starts a new run in `--out`, or opens its last checkpoint.
    fn open(args: &'a TrainArgs, labels: &Labels, device: Device) -> Result<Self> {
        let settings = settings(args)?;
        let old = checkpoint::list(&args.out)?.pop();
        let (config, params, optimizer, step) = match (old, args.resume) {
            (Some(path), true) => {
                let (state, config, params, optimizer) =
                    checkpoint::load_all(&path, hyper(args), device)?;
                same_settings(&state.settings, &settings)
                    .with_context(|| format!("cannot resume from {}", path.display()))?;
                (config, params, optimizer, state.step)
            }
            (Some(path), false) => bail!(
                "{} exists; --resume goes on from it, another --out starts anew",
                path.display()
            ),
            (None, _) => {
                let config = Config::named_or_file(&args.model)?;
                let params = first_params(args, &config, labels, device)?;
                let optimizer = AdamW::new(&params, hyper(args));
                (config, params, optimizer, 0)
            }
        };
        fs::create_dir_all(&args.out)
            .with_context(|| format!("cannot make {}", args.out.display()))?;
        let mut text = String::new();
        for (name, value) in &settings {
            text += &format!("{name}: {value}\n");
        }
        text += &format!("parameters: {}\ndevice: {device:?}\n", params.count());
        fs::write(args.out.join("params.txt"), text)?;
        let log = OpenOptions::new().create(true).append(true).open(args.out.join("out.log"))?;
        Ok(Run { args, device, config, params, optimizer, step, settings, log })
    }

    fn train(
        &mut self,
        labels: &Labels,
        pictures: &Pictures,
        held_out: Option<&(Labels, Pictures)>,
    ) -> Result<()> {
        let args = self.args;
        let context_length = self.config.model_cfg.text_cfg.context_length as usize;
        let table = self.params.token_rows.as_deref();
        let rows: Vec<Vec<i64>> = tokens::tokenize_all(labels, context_length)
            .iter()
            .map(|ids| tokens::to_rows(ids, table))
            .collect();
        let source = Source {
            labels,
            pictures,
            rows: &rows,
            noise: Noise { probability: args.token_noise },
            augment: Augment { flip: args.flip, shift: args.shift, brightness: args.brightness },
            context_length,
            seed: args.seed,
        };
        self.write(&format!(
            "{} pictures, {} captions, {} parameters, {} rows of tokens, from step {}",
            pictures.len(),
            rows.len(),
            self.params.count(),
            self.params.get("token_embedding.weight").size()[0],
            self.step
        ))?;
        let model = Clip::new(&self.config, &self.params, args.precision);
        let mut sampler = Sampler::new(pictures.len(), args.batch_size, args.seed);
        let last = args.stop_after.map_or(args.steps, |stop| stop.min(args.steps));
        let bar = progress_bar(args.steps, "train").with_position(self.step);
        let (mut since, mut seen) = (Instant::now(), 0u64);
        while self.step < last {
            let batch = source.batch(self.step, sampler.samples(self.step));
            let (loss, norm) = self.one_step(&model, &batch, pictures.size)?;
            bar.inc(1);
            bar.set_message(format!("loss {loss:.3}"));
            seen += args.batch_size as u64;
            if self.step.is_multiple_of(args.log_every) {
                let rate = seen as f64 / since.elapsed().as_secs_f64();
                let scale = no_grad(|| model.logit_scale.exp()).double_value(&[]);
                self.write(&format!(
                    "step {} loss {loss:.4} norm {norm:.3} scale {scale:.2} samples/s {rate:.1}",
                    self.step
                ))?;
                (since, seen) = (Instant::now(), 0);
            }
            if self.step.is_multiple_of(args.save_every) || self.step == last {
                self.save()?;
                if let Some((labels, pictures)) = held_out {
                    let report = eval::measure(
                        &model,
                        &self.params,
                        &self.config,
                        labels,
                        pictures,
                        self.device,
                    )?;
                    self.write(&format!(
                        "step {} held out: captions R@1 {:.3} mAP@10 {:.3}, colour+type R@1 {:.3} mAP@10 {:.3}",
                        self.step,
                        report.captions.recall_at_1,
                        report.captions.map_at_10,
                        report.colour_type.recall_at_1,
                        report.colour_type.map_at_10
                    ))?;
                }
                (since, seen) = (Instant::now(), 0);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// One update; returns the loss and the norm of the gradients.
    fn one_step(&mut self, model: &Clip, batch: &Batch, size: usize) -> Result<(f64, f64)> {
        let args = self.args;
        let Gradients { loss, tensors: mut gradients } =
            parallel::gradients(model, &self.params, batch, size, self.device).with_context(
                || {
                    let step = self.step + 1;
                    format!(
                        "step {step} failed (a smaller --lr or a longer --warmup may help); \
                     the last checkpoint is kept"
                    )
                },
            )?;
        let norm = clip_gradients(&mut gradients, args.grad_clip_norm);
        ensure!(norm.is_finite(), "the gradients of step {} are not finite", self.step + 1);
        let rate = schedule::cosine(self.step, args.lr, args.warmup, args.steps);
        self.optimizer.step(&mut self.params, &gradients, rate);
        no_grad(|| {
            let mut scale = self.params.get("logit_scale");
            let _ = scale.clamp_(0.0, MAX_LOGIT_SCALE);
        });
        self.step += 1;
        Ok((loss, norm))
    }

    fn save(&self) -> Result<()> {
        let snapshot = checkpoint::Snapshot {
            config: &self.config,
            params: &self.params,
            optimizer: &self.optimizer,
            step: self.step,
            settings: &self.settings,
        };
        checkpoint::save(&self.args.out, snapshot, self.args.keep)?;
        Ok(())
    }

    /// A line for out.log, and for people where no bar is drawn.
    fn write(&mut self, line: &str) -> Result<()> {
        writeln!(self.log, "{line}").context("cannot write out.log")?;
        println!("{line}");
        Ok(())
    }
}

fn hyper(args: &TrainArgs) -> Hyper {
    Hyper { beta1: args.beta1, beta2: args.beta2, eps: args.eps, weight_decay: args.wd }
}

/// Random parameters, or those of `--pretrained`.
fn first_params(
    args: &TrainArgs,
    config: &Config,
    labels: &Labels,
    device: Device,
) -> Result<Params> {
    if let Some(path) = &args.pretrained {
        return Params::load(path, &config.model_cfg, device);
    }
    let text = &config.model_cfg.text_cfg;
    let rows = if args.compact_vocabulary {
        let captions = tokens::tokenize_all(labels, text.context_length as usize);
        Some(tokens::token_rows(&captions, text.vocab_size as usize))
    } else {
        None
    };
    Params::init(&config.model_cfg, rows, args.seed, device)
}

/// What a run's later steps depend on, by name.
fn settings(args: &TrainArgs) -> Result<BTreeMap<String, String>> {
    let data = checkpoint::digest(&args.train_data)
        .with_context(|| format!("cannot read the label file {}", args.train_data.display()))?;
    let pairs = [
        ("train_data_sha256", data),
        ("model", args.model.clone()),
        ("compact_vocabulary", args.compact_vocabulary.to_string()),
        ("token_noise", args.token_noise.to_string()),
        ("steps", args.steps.to_string()),
        ("batch_size", args.batch_size.to_string()),
        ("lr", args.lr.to_string()),
        ("beta1", args.beta1.to_string()),
        ("beta2", args.beta2.to_string()),
        ("eps", args.eps.to_string()),
        ("wd", args.wd.to_string()),
        ("warmup", args.warmup.to_string()),
        ("grad_clip_norm", args.grad_clip_norm.to_string()),
        ("seed", args.seed.to_string()),
        ("precision", format!("{:?}", args.precision)),
        ("flip", args.flip.to_string()),
        ("shift", args.shift.to_string()),
        ("brightness", args.brightness.to_string()),
    ];
    Ok(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn same_settings(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in new {
        let was = old.get(name).map_or("absent", String::as_str);
        ensure!(was == value, "{name} was {was}, and is {value} now");
    }
    Ok(())
}
