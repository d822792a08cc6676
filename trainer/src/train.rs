//! The training loop: batches, loss, gradients, updates, log, checkpoints.
//!
//! Everything that a step depends on is in the checkpoint or follows from seed and step
//! number, so `--resume` goes on bit for bit on the CPU.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use tch::{Device, no_grad};

use crate::args::{ReportTo, TrainArgs};
use crate::batch::{Augment, Sampler, Source};
use crate::config::Config;
use crate::data::Labels;
use crate::images::Broken;
use crate::interrupt::Interrupt;
use crate::learn::{Learner, Stats};
use crate::lines::Captions;
use crate::loader::{Feed, Loader};
use crate::params::Params;
use crate::progress::progress_bar;
use crate::tensorboard::{Events, Numbers};
use crate::tokens::Noise;
use crate::{checkpoint, eval, images, schedule, settings, tokens, torch};

/// Steps on a GPU after which losses are read, which waits for the device.
const READ_EVERY: usize = 16;
/// Pictures of a failed batch that are named.
const MOST_NAMED: usize = 8;

/// Runs `pgclip-train train`; fails with 130 (143) where Ctrl-C (SIGTERM) ended the run early.
pub fn run(args: &TrainArgs) -> Result<ExitCode> {
    check(args)?;
    let device = torch::device(&args.device)?;
    let images = args.images.as_deref();
    let labels = Labels::read_as(&args.train_data, images, args.captions, &args.csv)?;
    let run = Run::open(args, &labels, device)?;
    ensure!(
        labels.samples.len() >= pairs(args),
        "{} pictures are fewer than a batch of {}",
        labels.samples.len(),
        pairs(args)
    );
    let most_bytes = images::most_in_memory(args.in_memory)?;
    let held_out = match &args.val_data {
        Some(path) => {
            let images = args.val_images.as_deref();
            let labels = Labels::read_as(path, images, Captions::Given, &args.csv)?;
            Some(eval::Set::open(labels, &run.learner.config, most_bytes)?)
        }
        None => None,
    };
    let held = held_out.as_ref().map_or(0, eval::Set::bytes);
    run.train(&labels, held_out, most_bytes.saturating_sub(held))
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
    events: Option<Events>,
    /// Pictures that turned out not to be readable under way.
    broken: usize,
}

/// How far a run goes, and what it keeps.
struct Plan {
    /// Steps in all, on which the learning rate depends.
    steps: u64,
    /// The last step of this call.
    last: u64,
    retention: checkpoint::Retention,
}

/// A step whose loss has not been read from the device.
struct Unread {
    stats: Stats,
    samples: Vec<u32>,
}

impl<'a> Run<'a> {
    /// Starts a new run in `--out`, or opens its last checkpoint.
    fn open(args: &'a TrainArgs, labels: &Labels, device: Device) -> Result<Self> {
        let settings = settings::of(args)?;
        let old = checkpoint::list(&args.out)?.pop();
        let (learner, step) = match (old, args.resume) {
            (Some(path), true) => {
                let state = checkpoint::read_state(&path)?;
                settings::same(&state.settings, &settings)
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
        let events = match args.report_to {
            Some(ReportTo::Tensorboard) => Some(Events::create(&args.out)?),
            None => None,
        };
        Ok(Run { args, learner, step, settings, log, events, broken: 0 })
    }

    fn train(
        mut self,
        labels: &Labels,
        mut held_out: Option<eval::Set>,
        most_bytes: u64,
    ) -> Result<ExitCode> {
        let args = self.args;
        let config = &self.learner.config;
        let context_length = config.model_cfg.text_cfg.context_length as usize;
        let table = self.learner.params.token_rows.as_deref();
        let rows: Vec<Vec<i64>> = tokens::tokenize_all(labels, context_length)
            .iter()
            .map(|ids| tokens::to_rows(ids, table))
            .collect();
        let source = Source {
            labels,
            rows: &rows,
            noise: Noise { probability: args.token_noise },
            augment: Augment {
                scale: args.aug_scale,
                flip: args.flip,
                shift: args.shift,
                brightness: args.brightness,
            },
            context_length,
            seed: args.seed,
            multi_positive: args.learn.multi_positive,
        };
        let mut sampler = Sampler::new(labels.samples.len(), pairs(args), args.seed);
        if args.learn.unique_captions {
            sampler = sampler.with_unique_captions(labels);
        }
        let per_epoch = sampler.steps_per_epoch();
        let steps = args.steps.unwrap_or(args.epochs.saturating_mul(per_epoch));
        let retention = checkpoint::Retention {
            last: args.keep,
            every: args.save_frequency.saturating_mul(per_epoch),
        };
        let plan =
            Plan { steps, last: args.stop_after.map_or(steps, |stop| stop.min(steps)), retention };
        let loader = Loader::new(source, sampler, config, most_bytes, args.workers)?;
        let interrupt = Interrupt::watch()?;
        self.write(&format!(
            "{} pictures{}, {} captions, {} parameters, {} rows of tokens, from step {}",
            labels.samples.len(),
            if loader.in_memory() { " in memory" } else { ", decoded batch by batch" },
            rows.len(),
            self.learner.params.count(),
            self.learner.params.get("token_embedding.weight").size()[0],
            self.step
        ))?;
        std::thread::scope(|scope| {
            let feed = loader.feed(scope, self.step..plan.last)?;
            self.steps(&plan, &feed, &interrupt, labels, held_out.as_mut())
        })
    }

    /// Takes steps until the last, or until somebody asks to stop.
    fn steps(
        &mut self,
        plan: &Plan,
        feed: &Feed,
        interrupt: &Interrupt,
        labels: &Labels,
        mut held_out: Option<&mut eval::Set>,
    ) -> Result<ExitCode> {
        let args = self.args;
        let &Plan { steps, last, retention } = plan;
        let bar = progress_bar(steps, "train").with_position(self.step);
        let (mut since, mut seen, mut waited) = (Instant::now(), 0, Duration::ZERO);
        let mut unread: Vec<Unread> = Vec::new();
        while self.step < last {
            let before = Instant::now();
            let fed = feed.next(interrupt)?;
            waited += before.elapsed();
            if let Some(fed) = fed {
                self.note(&fed.broken, &bar)?;
                let rate = self.rate(steps);
                let stats = self.learner.step(&fed.batch, self.step, rate).with_context(|| {
                    format!("step {} failed; the last checkpoint is kept", self.step + 1)
                })?;
                self.step += 1;
                unread.push(Unread { stats, samples: fed.samples });
                bar.inc(1);
                seen += 1;
            }
            let logs = seen > 0 && self.step.is_multiple_of(args.log_every);
            let asked = interrupt.asked();
            let saves = asked
                || self.step.is_multiple_of(args.save_every)
                || (retention.every > 0 && self.step.is_multiple_of(retention.every))
                || self.step == last;
            let patience = if self.learner.device() == Device::Cpu { 1 } else { READ_EVERY };
            if !logs && !saves && unread.len() < patience {
                continue;
            }
            if let Some((loss, norm)) = self.read(&mut unread, labels)? {
                let numbers = Numbers {
                    loss,
                    norm,
                    scale: no_grad(|| self.learner.model.logit_scale.exp()).double_value(&[]),
                    rate: schedule::cosine(self.step - 1, args.lr, args.warmup, steps),
                    samples_per_second: seen as f64 * pairs(args) as f64
                        / since.elapsed().as_secs_f64(),
                    data_time: waited.as_secs_f64() / f64::from(seen),
                };
                bar.set_message(numbers.short());
                if logs {
                    self.write(&format!("step {} {numbers}", self.step))?;
                    if let Some(events) = &mut self.events {
                        events.step(self.step, &numbers)?;
                    }
                    (since, seen, waited) = (Instant::now(), 0, Duration::ZERO);
                }
            }
            if saves {
                self.save(retention)?;
                if asked && self.step < last {
                    bar.finish_and_clear();
                    self.write(&format!(
                        "stopped after step {} of {steps}, which is saved; the same command with \
                         --resume goes on",
                        self.step
                    ))?;
                    return Ok(ExitCode::from(interrupt.status()));
                }
                if let Some(set) = held_out.as_deref_mut() {
                    self.measure(set)?;
                }
                (since, seen, waited) = (Instant::now(), 0, Duration::ZERO);
            }
        }
        bar.finish_and_clear();
        if self.broken > 0 {
            self.write(&format!("{} pictures could not be read", self.broken))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The learning rate of the next step.
    fn rate(&self, steps: u64) -> f64 {
        schedule::cosine(self.step, self.args.lr, self.args.warmup, steps)
    }

    /// Names pictures that turned out not to be readable, the first ten of the run.
    fn note(&mut self, broken: &[Broken], bar: &ProgressBar) -> Result<()> {
        for broken in broken {
            self.broken += 1;
            let line = match self.broken {
                ..=images::MOST_NAMED => format!("another picture stands in for {broken}"),
                number if number == images::MOST_NAMED + 1 => {
                    "more pictures cannot be read; they are counted at the end".into()
                }
                _ => continue,
            };
            bar.suspend(|| self.write(&line))?;
        }
        Ok(())
    }

    /// Measures the model on the held-out set.
    fn measure(&mut self, set: &mut eval::Set) -> Result<()> {
        let Learner { model, params, config, .. } = &self.learner;
        let report = eval::measure(model, params, config, set, self.learner.device())?;
        if let Some(events) = &mut self.events {
            events.held_out(self.step, &report)?;
        }
        self.write(&format!(
            "step {} held out: captions R@1 {:.3} mAP@10 {:.3}, colour+type R@1 {:.3} mAP@10 {:.3}",
            self.step,
            report.captions.recall_at_1,
            report.captions.map_at_10,
            report.colour_type.recall_at_1,
            report.colour_type.map_at_10
        ))
    }

    /// Reads the losses and norms of the last steps; gives those of the very last. The first that
    /// is no finite number ends the run: nothing is saved after it.
    fn read(&self, unread: &mut Vec<Unread>, labels: &Labels) -> Result<Option<(f64, f64)>> {
        let first = self.step - unread.len() as u64; // steps done before the first of them
        let mut last = None;
        for (at, Unread { stats, samples }) in unread.drain(..).enumerate() {
            let (loss, norm) = (stats.loss.double_value(&[]), stats.norm.double_value(&[]));
            if !loss.is_finite() || !norm.is_finite() {
                let path = |&sample: &u32| &labels.samples[sample as usize].place;
                let named: Vec<String> =
                    samples.iter().take(MOST_NAMED).map(|s| path(s).to_string()).collect();
                bail!(
                    "step {}: the loss is {loss}, the norm of its gradients {norm}; a smaller --lr, \
                     a longer --warmup or --grad-clip-norm may help, and the last checkpoint is \
                     kept. Its batch of {}: {}{}",
                    first + at as u64 + 1,
                    samples.len(),
                    named.join(", "),
                    if samples.len() > MOST_NAMED { ", …" } else { "" }
                );
            }
            last = Some((loss, norm));
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
        let path = match checkpoint::locate(path) {
            Ok(folder) => folder.join(checkpoint::MODEL_FILE),
            Err(_) => path.clone(),
        };
        return Params::load(&path, &config.model_cfg, device);
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
