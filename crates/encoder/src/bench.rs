//! `bench`: how many images and texts a second the pipeline of `serve` takes when it never
//! has to wait, and what decoding and inference take apart. Its own file because it is a
//! command of its own; the images a second are the limit that a COPY is measured against.

use crate::confine::Confinement;
use crate::encode::{self, Rules};
use crate::large::Budget;
use crate::models::Model;
use crate::pipeline::{Batch, Done, Event, Lane, Pipeline, Slot, Ticket};
use crate::process::cpu_time;
use crate::settings::EngineOptions;
use anyhow::{Context, ensure};
use clap::Args;
use pgclip_wire::protocol::{Image, ModelRef};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Images and bytes that are read of the folder at most: all are held in memory.
const MAX_IMAGES: usize = 4096;
const MAX_BYTES: usize = 1 << 30;

const TICKET: Ticket = 0;

#[derive(Args, Debug)]
pub struct BenchOptions {
    /// The model directory
    directory: PathBuf,

    /// Encode the files of this folder [default: generated JPEG of 640 x 480]
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,

    /// Measure each of these batch sizes instead, for example 1,4,16
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    batches: Vec<u32>,

    /// How long each measurement takes
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    seconds: f64,

    #[command(flatten)]
    engine: EngineOptions,
}

pub fn run(options: &BenchOptions) -> anyhow::Result<()> {
    let images = match &options.images {
        Some(folder) => read_folder(folder)?,
        None => generate()?,
    };
    ensure!(!images.is_empty(), "the folder holds no files");
    let bytes: usize = images.iter().map(Image::sent_bytes).sum();
    let engine = &options.engine;
    let (emit, events) = channel();
    let pipeline =
        Pipeline::start(engine, Budget::unlimited(), Confinement::none(), move |event| {
            drop(emit.send(event));
        })?;
    // Of all batches below.
    pipeline.wanted.open(TICKET);
    let model = pipeline.models.open(&options.directory.display().to_string())?;
    encode::probe(&model)?;
    let bench = Bench { options, pipeline, events, model };

    println!("model           {}", bench.model.config().name);
    let (threads, batch) = (engine.threads(), engine.max_batch());
    println!(
        "device          {}, {threads} threads, batches of {batch}",
        bench.model.info().device
    );
    println!("images          {} of {} kB on average", images.len(), bytes / images.len() / 1000);
    if !options.batches.is_empty() {
        return bench.by_size(&images);
    }
    println!("                    a second   ms of CPU each");
    print("images, in batches", &bench.images(&images, batch)?);
    let (prepare, infer) = bench.apart(&images, batch)?;
    print("  decode and resize", &prepare);
    print("  inference", &infer);
    print("texts, in batches", &bench.texts(batch)?);
    Ok(())
}

/// How fast one kind of item went through.
#[derive(Default)]
struct Rate {
    items: u64,
    failed: u64,
    elapsed: Duration,
    /// CPU time of all threads: other load on the machine does not change it.
    cpu: Duration,
}

fn print(what: &str, rate: &Rate) {
    let cpu = rate.cpu.as_secs_f64() * 1e3 / rate.items.max(1) as f64;
    let second = rate.per_second();
    println!("{what:<19} {second:8.1} {cpu:16.3}");
    if rate.failed > 0 {
        println!("  failed            {:8}", rate.failed);
    }
}

struct Bench<'a> {
    options: &'a BenchOptions,
    pipeline: Pipeline,
    events: Receiver<Event>,
    model: Arc<Model>,
}

impl Bench<'_> {
    /// Keeps a lane busy and counts what comes out.
    fn drive(
        &self,
        lane: Lane,
        mut send: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Rate> {
        let time = Duration::from_secs_f64(self.options.seconds);
        // The first batches fill the pipeline and are not counted; the last are waited for, since
        // they would be in the way of what is measured next.
        let (mut started, mut rate) = (None, Rate::default());
        let (mut under_way, mut over) = (1, false);
        send()?;
        loop {
            match self.events.recv()? {
                Event::Ready(ready) if ready == lane && !over => {
                    under_way += 1;
                    send()?;
                }
                Event::Done(Done { lane: of, result, .. }) if of == lane => {
                    under_way -= 1;
                    let (_, results) = result?;
                    match started {
                        None => started = Some((Instant::now(), cpu_time())),
                        Some((start, cpu)) if !over => {
                            let failed = results.iter().filter(|result| result.is_err());
                            rate.failed += failed.count() as u64;
                            rate.items += results.len() as u64;
                            (rate.elapsed, rate.cpu) = (start.elapsed(), cpu_time() - cpu);
                            over = rate.elapsed >= time;
                        }
                        Some(_) => {}
                    }
                    if over && under_way == 0 {
                        return Ok(rate);
                    }
                }
                _ => {}
            }
        }
    }

    fn batch<T>(&self, items: Vec<T>) -> Batch<T> {
        let digest = self.model.digest();
        let directory = self.options.directory.display().to_string();
        let model = ModelRef { directory, digest, language: None };
        let slots = (0..items.len()).map(|index| Slot { ticket: TICKET, index }).collect();
        Batch { model, slots, items }
    }

    /// A line for each batch size.
    fn by_size(&self, images: &[Image]) -> anyhow::Result<()> {
        println!("a second, by batch size");
        println!("    batch    images   decode and resize   inference     texts");
        for size in &self.options.batches {
            let size = *size as usize;
            let all = self.images(images, size)?.per_second();
            let (prepare, infer) = self.apart(images, size)?;
            let (prepare, infer) = (prepare.per_second(), infer.per_second());
            let texts = self.texts(size)?.per_second();
            println!("{size:9} {all:9.1} {prepare:19.1} {infer:11.1} {texts:9.1}");
        }
        Ok(())
    }

    /// Images through the whole pipeline.
    fn images(&self, images: &[Image], size: usize) -> anyhow::Result<Rate> {
        let mut next = images.iter().cycle();
        self.drive(Lane::Images, || {
            let items = next.by_ref().take(size).cloned().collect();
            Ok(self.pipeline.images.send(self.batch(items))?)
        })
    }

    /// Texts, in full batches.
    fn texts(&self, size: usize) -> anyhow::Result<Rate> {
        let mut number = 0;
        self.drive(Lane::Texts, || {
            let text = |n| format!("a red sedan with number {n} on a wet road at night");
            let items = (number..number + size).map(text).collect();
            number += size;
            Ok(self.pipeline.texts.send(self.batch(items))?)
        })
    }

    /// Images through decoding and resizing alone, and through inference alone.
    fn apart(&self, images: &[Image], size: usize) -> anyhow::Result<(Rate, Rate)> {
        let budget = &Budget::unlimited();
        let rules = Rules {
            limits: &encode::limits(&self.options.engine, budget),
            budget,
            confinement: &Confinement::none(),
            wanted: &self.pipeline.wanted,
        };
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(self.options.engine.threads()).build()?;
        let (mut prepare, mut infer) = (Rate::default(), Rate::default());
        let model = &self.model;
        let mut next = images.iter().cycle();
        while (prepare.elapsed + infer.elapsed).as_secs_f64() < self.options.seconds {
            let batch = self.batch(next.by_ref().take(size).cloned().collect());
            let work = || encode::prepare(model, batch, &rules);
            let (_, prepared, _) = prepare.add(size, || Ok(pool.install(work)))?;
            infer.add(size, || Ok(encode::infer(prepared)?))?;
        }
        Ok((prepare, infer))
    }
}

impl Rate {
    fn per_second(&self) -> f64 {
        self.items as f64 / self.elapsed.as_secs_f64()
    }

    /// Measures some work on `items`.
    fn add<T>(
        &mut self,
        items: usize,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let (start, cpu) = (Instant::now(), cpu_time());
        let result = work()?;
        self.elapsed += start.elapsed();
        self.cpu += cpu_time() - cpu;
        self.items += items as u64;
        Ok(result)
    }
}

/// The files of a folder, by name.
fn read_folder(folder: &Path) -> anyhow::Result<Vec<Image>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    let (mut images, mut bytes) = (Vec::new(), 0);
    for path in paths.iter().take(MAX_IMAGES) {
        let image = std::fs::read(path).with_context(|| path.display().to_string())?;
        bytes += image.len();
        if bytes > MAX_BYTES {
            break;
        }
        images.push(Image::from(image));
    }
    Ok(images)
}

/// 64 JPEG of 640 × 480: gradients with blocks of noise, about what a camera's image costs.
fn generate() -> anyhow::Result<Vec<Image>> {
    let mut state = 1u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    };
    let mut one = |n: u32| {
        let image = image::RgbImage::from_fn(640, 480, |x, y| {
            let grain = noise();
            image::Rgb([(x + n) as u8 / 2 + grain, y as u8 / 2 + grain, ((x ^ y) / 8 + n) as u8])
        });
        let mut jpeg = std::io::Cursor::new(Vec::new());
        image.write_to(&mut jpeg, image::ImageFormat::Jpeg)?;
        Ok(Image::from(jpeg.into_inner()))
    };
    (0..64).map(&mut one).collect()
}
