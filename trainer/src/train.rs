//! The training loop: batches, loss, gradients, updates, log, checkpoints.
//!
//! Everything that a step depends on is in the checkpoint or follows from seed and step
//! number, so `--resume` goes on bit for bit on the CPU.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, no_grad};

use crate::args::TrainArgs;
use crate::batch::{Augment, Sampler, Source};
use crate::config::Config;
use crate::data::Labels;
use crate::images::Pictures;
use crate::interrupt::Interrupt;
use crate::learn::{Learner, Stats};
use crate::params::Params;
use crate::progress::progress_bar;
use crate::tokens::Noise;
use crate::{checkpoint, data, eval, images, schedule, tokens, torch};

/// Steps on a GPU after which losses are read, which waits for the device.
const READ_EVERY: usize = 16;
/// Pictures of a failed batch that are named.
const MOST_NAMED: usize = 8;

/// Runs `pgclip-train train`.
pub fn run(args: &TrainArgs) -> Result<()> {
    check(args)?;
    let device = torch::device(&args.device)?;
    let images = args.images.as_deref();
    let mut labels = Labels::read_as(&args.train_data, images, args.captions, &args.csv)?;
    let mut run = Run::open(args, &labels, device)?;
    let pictures = images::load(&mut labels, &run.learner.config)?;
    ensure!(
        labels.samples.len() >= pairs(args),
        "{} pictures are fewer than a batch of {}",
        labels.samples.len(),
        pairs(args)
    );
    let held_out = match &args.val_data {
        Some(path) => {
            let mut labels = Labels::read(path, None)?;
            let pictures = images::load(&mut labels, &run.learner.config)?;
            Some((labels, pictures))
        }
        None => None,
    };
    run.train(&labels, &pictures, held_out.as_ref())
}

/// Refuses settings that cannot work.
fn check(args: &TrainArgs) -> Result<()> {
    ensure!(args.batch_size >= 2, "--batch-size must be at least 2");
    ensure!(args.epochs >= 1 && args.steps != Some(0), "--epochs and --steps start at 1");
    ensure!(args.save_every >= 1 && args.log_every >= 1, "--save-every and --log-every start at 1");
    ensure!(args.lr.is_finite() && args.lr > 0.0, "--lr must be a positive number");
    args.learn.check()?;
    ensure!((0.0..=1.0).contains(&args.token_noise), "--token-noise must be in [0, 1]");
    ensure!((0.0..1.0).contains(&args.brightness), "--brightness must be in [0, 1)");
    Ok(())
}

/// Pictures of one update.
fn pairs(args: &TrainArgs) -> usize {
    args.batch_size * args.learn.accum_freq
}

/// A run: its folder, its model, how far it is.
struct Run<'a> {
    args: &'a TrainArgs,
    learner: Learner,
    step: u64,
    settings: BTreeMap<String, String>,
    log: File,
}

impl<'a> Run<'a> {
    /// Starts a new run in `--out`, or opens its last checkpoint.
    fn open(args: &'a TrainArgs, labels: &Labels, device: Device) -> Result<Self> {
        let settings = settings(args)?;
        let old = checkpoint::list(&args.out)?.pop();
        let (learner, step) = match (old, args.resume) {
            (Some(path), true) => {
                let state = checkpoint::read_state(&path)?;
                same_settings(&state.settings, &settings)
                    .with_context(|| format!("cannot resume from {}", path.display()))?;
                let (config, params, optimizer) = checkpoint::load_all(
                    &path,
                    args.learn.locks(),
                    args.learn.hyper(),
                    state.step,
                    device,
                )?;
                let learner = Learner::resume(config, params, optimizer, &args.learn, args.seed);
                (learner, state.step)
            }
            (Some(path), false) => bail!(
                "{} exists; --resume goes on from it, another --out starts anew",
                path.display()
            ),
            (None, _) => {
                let mut config = Config::named_or_file(&args.model)?;
                if let Some(mode) = &args.image_resize_mode {
                    config.preprocess_cfg.resize_mode.clone_from(mode);
                }
                let params = first_params(args, &config, labels, device)?;
                (Learner::new(config, params, &args.learn, args.seed), 0)
            }
        };
        fs::create_dir_all(&args.out)
            .with_context(|| format!("cannot make {}", args.out.display()))?;
        let mut text = String::new();
        for (name, value) in &settings {
            text += &format!("{name}: {value}\n");
        }
        text += &format!("parameters: {}\ndevice: {device:?}\n", learner.params.count());
        fs::write(args.out.join("params.txt"), text)?;
        let log = OpenOptions::new().create(true).append(true).open(args.out.join("out.log"))?;
        Ok(Run { args, learner, step, settings, log })
    }

    fn train(
        &mut self,
        labels: &Labels,
        pictures: &Pictures,
        held_out: Option<&(Labels, Pictures)>,
    ) -> Result<()> {
        let args = self.args;
        let context_length = self.learner.config.model_cfg.text_cfg.context_length as usize;
        let table = self.learner.params.token_rows.as_deref();
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
            multi_positive: args.learn.multi_positive,
        };
        self.write(&format!(
            "{} pictures, {} captions, {} parameters, {} rows of tokens, from step {}",
            pictures.len(),
            rows.len(),
            self.learner.params.count(),
            self.learner.params.get("token_embedding.weight").size()[0],
            self.step
        ))?;
        let mut sampler = Sampler::new(pictures.len(), pairs(args), args.seed);
        if args.learn.unique_captions {
            sampler = sampler.with_unique_captions(labels);
        }
        let per_epoch = sampler.steps_per_epoch();
        let steps = args.steps.unwrap_or(args.epochs.saturating_mul(per_epoch));
        let retention = checkpoint::Retention {
            last: args.keep,
            every: args.save_frequency.saturating_mul(per_epoch),
        };
        let last = args.stop_after.map_or(steps, |stop| stop.min(steps));
        let bar = progress_bar(steps, "train").with_position(self.step);
        let (mut since, mut seen) = (Instant::now(), 0u64);
        let mut unread: Vec<Stats> = Vec::new();
        let interrupt = Interrupt::watch()?;
        while self.step < last {
            let batch = source.batch(self.step, sampler.samples(self.step));
            let rate = schedule::cosine(self.step, args.lr, args.warmup, steps);
            let stats = self.learner.step(&batch, self.step, rate).with_context(|| {
                format!("step {} failed; the last checkpoint is kept", self.step + 1)
            })?;
            self.step += 1;
            unread.push(stats);
            bar.inc(1);
            seen += pairs(args) as u64;
            let logs = self.step.is_multiple_of(args.log_every);
            let asked = interrupt.asked();
            let saves = asked
                || self.step.is_multiple_of(args.save_every)
                || (retention.every > 0 && self.step.is_multiple_of(retention.every))
                || self.step == last;
            let patience = if self.learner.device() == Device::Cpu { 1 } else { READ_EVERY };
            if !logs && !saves && unread.len() < patience {
                continue;
            }
            let (loss, norm) = self.read(&mut unread, &mut sampler, labels)?;
            let speed = seen as f64 / since.elapsed().as_secs_f64();
            bar.set_message(format!("loss {loss:.3} lr {rate:.2e} {speed:.0} samples/s"));
            if logs {
                let scale = no_grad(|| self.learner.model.logit_scale.exp()).double_value(&[]);
                self.write(&format!(
                    "step {} loss {loss:.4} norm {norm:.3} scale {scale:.2} lr {rate:.3e} samples/s {speed:.1}",
                    self.step
                ))?;
                (since, seen) = (Instant::now(), 0);
            }
            if saves {
                self.save(retention)?;
                if asked && self.step < last {
                    bar.finish_and_clear();
                    return self.write(&format!(
                        "stopped after step {} of {steps}, which is saved; the same command with \
                         --resume goes on",
                        self.step
                    ));
                }
                if let Some((labels, pictures)) = held_out {
                    let report = eval::measure(
                        &self.learner.model,
                        &self.learner.params,
                        &self.learner.config,
                        labels,
                        pictures,
                        self.learner.device(),
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

    /// Reads the losses and norms of the last steps; gives those of the very last. The first that
    /// is no finite number ends the run: nothing is saved after it.
    fn read(
        &self,
        unread: &mut Vec<Stats>,
        sampler: &mut Sampler,
        labels: &Labels,
    ) -> Result<(f64, f64)> {
        let first = self.step - unread.len() as u64; // steps done before the first of them
        let mut last = (0.0, 0.0);
        for (at, stats) in unread.drain(..).enumerate() {
            let (loss, norm) = (stats.loss.double_value(&[]), stats.norm.double_value(&[]));
            if !loss.is_finite() || !norm.is_finite() {
                let step = first + at as u64;
                let batch = sampler.samples(step);
                let path = |&sample: &u32| &labels.samples[sample as usize].place;
                let named: Vec<String> =
                    batch.iter().take(MOST_NAMED).map(|sample| path(sample).to_string()).collect();
                bail!(
                    "step {}: the loss is {loss}, the norm of its gradients {norm}; a smaller --lr, \
                     a longer --warmup or --grad-clip-norm may help, and the last checkpoint is \
                     kept. Its batch of {}: {}{}",
                    step + 1,
                    batch.len(),
                    named.join(", "),
                    if batch.len() > MOST_NAMED { ", …" } else { "" }
                );
            }
            last = (loss, norm);
        }
        Ok(last)
    }

    fn save(&self, retention: checkpoint::Retention) -> Result<()> {
        let snapshot = checkpoint::Snapshot {
            config: &self.learner.config,
            params: &self.learner.params,
            optimizer: &self.learner.optimizer,
            step: self.step,
            settings: &self.settings,
        };
        checkpoint::save(&self.args.out, snapshot, retention)?;
        Ok(())
    }

    /// A line for out.log, and for people where no bar is drawn.
    fn write(&mut self, line: &str) -> Result<()> {
        writeln!(self.log, "{line}").context("cannot write out.log")?;
        println!("{line}");
        Ok(())
    }
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
    let data = data::digest(&args.train_data)?;
    let pairs = [
        ("train_data_sha256", data),
        ("captions", format!("{:?}", args.captions)),
        ("model", args.model.clone()),
        ("compact_vocabulary", args.compact_vocabulary.to_string()),
        ("token_noise", args.token_noise.to_string()),
        ("epochs", args.epochs.to_string()),
        ("steps", args.steps.map_or("by epochs".into(), |steps| steps.to_string())),
        ("batch_size", args.batch_size.to_string()),
        ("lr", args.lr.to_string()),
        ("warmup", args.warmup.to_string()),
        ("seed", args.seed.to_string()),
        ("flip", args.flip.to_string()),
        ("shift", args.shift.to_string()),
        ("brightness", args.brightness.to_string()),
    ];
    let pairs = pairs.into_iter().chain(args.learn.settings());
    Ok(pairs.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn same_settings(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in new {
        let was = old.get(name).map_or("absent", String::as_str);
        ensure!(was == value, "{name} was {was}, and is {value} now");
    }
    Ok(())
}
