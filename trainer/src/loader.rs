//! Batches made ahead of the step that takes them, on threads of their own.
//!
//! One thread goes through the steps and hands each batch over by a bounded channel; a pool of
//! `--workers` threads, apart from the one that trains, decodes and alters its pictures. A set
//! that fits into memory is decoded once, before the first step; of a larger one each batch is
//! read when its turn comes. Both give the same batches.
//!
//! A picture that cannot be read keeps its number, so that nothing behind it moves: in a batch
//! its place is taken by the readable picture that comes next after the batch in the epoch's
//! order. Which that is depends on the files, the seed and the step alone, not on what has been
//! read before, so a run may be resumed with the other kind of store.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Scope;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::batch::{Batch, Sampler, Source};
use crate::config::Config;
use crate::images::{self, Broken, Loaded, Pictures, Reader};
use crate::interrupt::Interrupt;
use crate::place::Place;

/// Batches that wait for their step.
const AHEAD: usize = 3;
/// How long a step waits for its batch before it looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where the pixels of a set come from.
#[derive(Debug)]
enum Store {
    /// All decoded: the pictures, and the row of each sample's.
    Memory(Pictures, Vec<Option<usize>>),
    /// Read batch by batch.
    Files(Reader),
}

/// Makes a run's batches.
#[derive(Debug)]
pub struct Loader<'a> {
    source: Source<'a>,
    sampler: Sampler,
    store: Store,
    /// Whether each sample's picture is known not to be readable.
    broken: Vec<bool>,
    pool: ThreadPool,
}

/// A batch for its step.
#[derive(Debug)]
pub struct Fed {
    pub batch: Batch,
    /// Its samples, stand-ins in their places.
    pub samples: Vec<u32>,
    /// Pictures that were found not to be readable while it was made.
    pub broken: Vec<Broken>,
}

impl<'a> Loader<'a> {
    /// A loader of all `source.labels`; pictures are decoded now if they take at most `most_bytes`.
    pub fn new(
        source: Source<'a>,
        sampler: Sampler,
        config: &Config,
        most_bytes: u64,
        workers: usize,
    ) -> Result<Self> {
        images::missing(source.labels)?;
        let count = source.labels.samples.len();
        let mut broken = vec![false; count];
        let store = if images::decoded_bytes(count, config) <= most_bytes {
            let places: Vec<&Place> = places(&source).collect();
            let Loaded { pictures, kept, broken: found } = images::load_readable(&places, config);
            images::some_readable(count, &found)?;
            images::report(&found);
            let mut rows = vec![None; count];
            for (row, &sample) in kept.iter().enumerate() {
                rows[sample] = Some(row);
            }
            for (broken, row) in broken.iter_mut().zip(&rows) {
                *broken = row.is_none();
            }
            Store::Memory(pictures, rows)
        } else {
            Store::Files(Reader::new(config))
        };
        let pool = ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|number| format!("loader {number}"))
            .build()?;
        Ok(Loader { source, sampler, store, broken, pool })
    }

    /// Whether all pictures are in memory.
    pub fn in_memory(&self) -> bool {
        matches!(self.store, Store::Memory(..))
    }

    /// Starts to make the batches of `steps`, in their order.
    pub fn feed<'scope>(
        mut self,
        scope: &'scope Scope<'scope, '_>,
        steps: Range<u64>,
    ) -> Result<Feed>
    where
        'a: 'scope,
    {
        let (sender, receiver) = sync_channel(AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("loader".into())
            .spawn_scoped(scope, move || self.run(steps, &sender, &stopped))
            .context("cannot start the loader's thread")?;
        Ok(Feed { receiver, stop })
    }

    /// Makes batches until nobody takes them any more.
    fn run(&mut self, steps: Range<u64>, sender: &SyncSender<Result<Fed>>, stop: &AtomicBool) {
        for step in steps {
            let fed = match self.make(step, stop) {
                Ok(Some(fed)) => Ok(fed),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let failed = fed.is_err();
            if sender.send(fed).is_err() || failed {
                return;
            }
        }
    }

    /// The batch of one step; none if it is to stop.
    fn make(&mut self, step: u64, stop: &AtomicBool) -> Result<Option<Fed>> {
        let mut read: HashMap<u32, Vec<u8>> = HashMap::new();
        let mut found = Vec::new();
        // With every picture that turns out not to be readable the stand-ins are chosen anew, so
        // that they are those that would have been chosen had all of them been known.
        let samples = loop {
            let samples = self.choose(step, &found)?;
            let Store::Files(reader) = &self.store else { break samples };
            let wanted: Vec<u32> =
                samples.iter().copied().filter(|sample| !read.contains_key(sample)).collect();
            let place = |sample: u32| &self.source.labels.samples[sample as usize].place;
            let results: Vec<Option<_>> = self.pool.install(|| {
                let read = |&sample| (sample, reader.read(place(sample)));
                let wanted = wanted.par_iter().with_max_len(1);
                wanted.map(|sample| (!stop.load(Ordering::Relaxed)).then(|| read(sample))).collect()
            });
            let before = found.len();
            for result in results {
                match result {
                    Some((sample, Ok(pixels))) => drop(read.insert(sample, pixels)),
                    Some((sample, Err(broken))) => {
                        self.broken[sample as usize] = true;
                        found.push(broken);
                    }
                    None => return Ok(None),
                }
            }
            if found.len() == before {
                break samples;
            }
        };
        let pictures: Vec<&[u8]> = samples
            .iter()
            .map(|sample| match &self.store {
                Store::Memory(pictures, rows) => pictures
                    .get(rows[*sample as usize].expect("a picture that was chosen is there")),
                Store::Files(_) => &read[sample][..],
            })
            .collect();
        let batch = self.pool.install(|| self.source.batch(step, &samples, &pictures));
        Ok(Some(Fed { batch, samples, broken: found }))
    }

    /// The samples of a step, stand-ins in the places of those that are known to be broken.
    fn choose(&mut self, step: u64, found: &[Broken]) -> Result<Vec<u32>> {
        let broken = &self.broken;
        let readable = |sample: &u32| !broken[*sample as usize];
        let (samples, followers) = self.sampler.with_followers(step);
        let mut followers = followers.filter(readable);
        let chosen: Vec<u32> = samples
            .iter()
            .filter_map(|sample| Some(*sample).filter(readable).or_else(|| followers.next()))
            .collect();
        if chosen.len() < samples.len() {
            let example = found.first().map(|broken| format!(", {broken}")).unwrap_or_default();
            bail!(
                "{} of {} pictures cannot be read{example}; the others are fewer than a batch of {}",
                broken.iter().filter(|broken| **broken).count(),
                broken.len(),
                samples.len()
            );
        }
        Ok(chosen)
    }
}

fn places<'s>(source: &'s Source<'_>) -> impl Iterator<Item = &'s Place> {
    source.labels.samples.iter().map(|sample| &sample.place)
}

/// Where a run takes its batches from. The loader ends with it.
#[derive(Debug)]
pub struct Feed {
    receiver: Receiver<Result<Fed>>,
    stop: Arc<AtomicBool>,
}

impl Feed {
    /// The next batch; none if `interrupt` asks to stop while it is waited for.
    pub fn next(&self, interrupt: &Interrupt) -> Result<Option<Fed>> {
        loop {
            match self.receiver.recv_timeout(PATIENCE) {
                Ok(fed) => return fed.map(Some),
                Err(RecvTimeoutError::Timeout) if interrupt.asked() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the loader's thread has ended"),
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
