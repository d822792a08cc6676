//! The worker threads: batches in, results out. Images go through two threads, so that
//! the next batch is decoded and resized while the present one is in inference; texts
//! have a thread of their own and never wait for images; a third lane loads models that
//! are to be described. Its own file because `serve` and `bench` drive the same threads.
//!
//! ```text
//!  images ─► look, prepare (rayon) ─┬─► infer ─┐
//!  large  ─► prepare (one a thread) ┘          ├─► events
//!  texts  ─► tokenise and infer ───────────────┤
//!  models ─► load and probe, unload ───────────┘
//! ```
//!
//! The look at a batch's headers finds its large images, which go back to the queue's owner; he
//! sends them here again, one by one, when there is memory for them. Their threads give way to
//! all others.
//!
//! Each lane holds at most one batch per thread, and says [`Event::Ready`] when it can
//! take another: everything that waits, waits in the queue, whose owner can still drop it.

use crate::confine::Confinement;
use crate::direction::texts_direction;
use crate::encode::{self, Prepared, Rules};
use crate::failure::Failure;
use crate::large::Budget;
use crate::models::Models;
use crate::process;
use crate::settings::EngineOptions;
use pgclip_clip::decode::Limits;
use pgclip_wire::protocol::{ByteBuf, Image, ItemError, ModelInfo, ModelRef};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Names a request among all that there ever were.
pub type Ticket = u64;

/// One image or text of a batch: whose it is, and which of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub ticket: Ticket,
    pub index: usize,
}

/// Items of one model, possibly of many requests, that go through inference together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<T> {
    pub model: ModelRef,
    pub slots: Vec<Slot>,
    pub items: Vec<T>,
}

/// An image that takes much memory while it is decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Large {
    pub model: ModelRef,
    pub slot: Slot,
    pub image: Image,
    /// Bytes that are set aside for it.
    pub need: u64,
}

/// The requests that somebody waits for, known to every thread: what is in a batch already cannot
/// be taken out of it, but need not be worked on.
#[derive(Debug, Default)]
pub struct Wanted(Mutex<HashSet<Ticket>>);

impl Wanted {
    pub fn open(&self, ticket: Ticket) {
        self.lock().insert(ticket);
    }

    pub fn close(&self, ticket: Ticket) {
        self.lock().remove(&ticket);
    }

    pub fn contains(&self, ticket: Ticket) -> bool {
        self.lock().contains(&ticket)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Ticket>> {
        // The set is whole after a panic: each change of it is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An embedding as little-endian halves, or why there is none.
pub type ItemResult = Result<ByteBuf, ItemError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Images,
    Texts,
    Large,
}

/// What a worker has to say.
#[derive(Debug)]
pub enum Event {
    /// The lane can take another batch.
    Ready(Lane),
    Done(Done),
    /// Images of a batch that wait until there is memory for them.
    Large(Vec<Large>),
    /// The memory of a large image is free again.
    Freed(Slot),
    Described {
        ticket: Ticket,
        result: Result<ModelInfo, Failure>,
    },
}

/// A batch that went through, or failed as a whole.
#[derive(Debug)]
pub struct Done {
    pub lane: Lane,
    /// Batches of images, batches of texts and large images that came to their end with it.
    pub ended: [usize; 3],
    pub model: ModelRef,
    pub slots: Vec<Slot>,
    /// The texts, given back for the cache; of images, nothing.
    pub texts: Vec<String>,
    /// The dimensions, and a result for each slot.
    pub result: Result<(usize, Vec<ItemResult>), Failure>,
}

/// What is done with models themselves.
#[derive(Debug)]
pub enum Task {
    /// Load the one in this directory and describe it.
    Describe(Ticket, String),
    /// Give up those that nobody has used for so long.
    UnloadIdle(Duration),
}

/// The lanes' entrances. Dropping it ends the threads once they have nothing left.
#[derive(Debug)]
pub struct Pipeline {
    pub images: Sender<Batch<Image>>,
    pub texts: Sender<Batch<String>>,
    pub large: Sender<Large>,
    pub tasks: Sender<Task>,
    pub models: Arc<Models>,
    pub wanted: Arc<Wanted>,
}

/// What the worker threads share.
struct Workers<F> {
    models: Arc<Models>,
    wanted: Arc<Wanted>,
    limits: Limits,
    budget: Budget,
    max_batch: usize,
    pool: ThreadPool,
    emit: F,
}

impl Pipeline {
    /// Starts the threads. `emit` takes their events, and must not block.
    pub fn start<F>(
        options: &EngineOptions,
        budget: Budget,
        confinement: Confinement,
        emit: F,
    ) -> anyhow::Result<Self>
    where
        F: Fn(Event) + Send + Sync + 'static,
    {
        let pool = ThreadPoolBuilder::new()
            .num_threads(options.threads())
            .thread_name(|n| format!("decode-{n}"))
            .build()?;
        let models = Arc::new(Models::new(options, confinement));
        let wanted = Arc::new(Wanted::default());
        let workers = Arc::new(Workers {
            models: models.clone(),
            wanted: wanted.clone(),
            limits: encode::limits(options, &budget),
            budget,
            max_batch: options.max_batch(),
            pool,
            emit,
        });
        let (images, image_batches) = channel();
        let (large, large_images) = channel();
        let large_images = Arc::new(Mutex::new(large_images));
        let (texts, text_batches) = channel();
        let (tasks, all_tasks) = channel();
        // No room: prepared pixels wait in the hands of the thread that prepared them.
        let (prepared, to_infer) = sync_channel(0);
        for number in 0..options.threads() {
            let (images, prepared) = (large_images.clone(), prepared.clone());
            let work = move |w: &Workers<F>| w.prepare_large(&images, &prepared);
            spawn(&format!("large-{number}"), &workers, work)?;
        }
        spawn("prepare", &workers, move |w| w.prepare_images(image_batches, prepared))?;
        spawn("images", &workers, move |w| w.infer_images(to_infer))?;
        spawn("texts", &workers, move |w| w.infer_texts(text_batches))?;
        spawn("models", &workers, move |w| w.work_on_models(all_tasks))?;
        Ok(Self { images, texts, large, tasks, models, wanted })
    }
}

fn spawn<F: Send + Sync + 'static>(
    name: &str,
    workers: &Arc<Workers<F>>,
    body: impl FnOnce(&Workers<F>) + Send + 'static,
) -> std::io::Result<()> {
    let workers = workers.clone();
    thread::Builder::new().name(name.into()).spawn(move || body(&workers)).map(drop)
}

/// Images of one model that are pixels.
struct PreparedBatch {
    model: ModelRef,
    slots: Vec<Slot>,
    images: Prepared,
    ended: [usize; 3],
}

const ONE_BATCH: [usize; 3] = [1, 0, 0];
const ONE_TEXT_BATCH: [usize; 3] = [0, 1, 0];
const ONE_LARGE: [usize; 3] = [0, 0, 1];

impl<F: Fn(Event) + Sync> Workers<F> {
    fn rules(&self) -> Rules<'_> {
        Rules {
            limits: &self.limits,
            budget: &self.budget,
            confinement: &self.models.confinement,
            wanted: &self.wanted,
        }
    }

    fn prepare_images(&self, batches: Receiver<Batch<Image>>, next: SyncSender<PreparedBatch>) {
        (self.emit)(Event::Ready(Lane::Images));
        for batch in batches {
            let (model, slots) = (batch.model.clone(), batch.slots.clone());
            let prepared = encode::guarded(|| {
                let model = self.models.get(&batch.model)?;
                model.image()?;
                Ok(self.pool.install(|| encode::prepare(&model, batch, &self.rules())))
            });
            match prepared {
                Ok((slots, images, large)) => {
                    if !large.is_empty() {
                        (self.emit)(Event::Large(large));
                    }
                    let batch = PreparedBatch { model, slots, images, ended: ONE_BATCH };
                    if next.send(batch).is_err() {
                        return;
                    }
                }
                Err(failure) => self.done_images(model, slots, ONE_BATCH, Err(failure)),
            }
            (self.emit)(Event::Ready(Lane::Images));
        }
    }

    fn prepare_large(&self, images: &Mutex<Receiver<Large>>, next: &SyncSender<PreparedBatch>) {
        process::give_way();
        loop {
            (self.emit)(Event::Ready(Lane::Large));
            // Held by the one thread that waits for the next.
            let received = images.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(large) = received else { return };
            let prepared = encode::guarded(|| {
                let model = self.models.get(&large.model)?;
                Ok(encode::prepare_large(&model, &large, &self.rules()))
            });
            let Large { model, slot, image, .. } = large;
            drop(image);
            (self.emit)(Event::Freed(slot));
            match prepared {
                Ok(Some(images)) => {
                    let slots = vec![slot];
                    let batch = PreparedBatch { model, slots, images, ended: ONE_LARGE };
                    if next.send(batch).is_err() {
                        return;
                    }
                }
                Ok(None) => self.done_images(model, vec![], ONE_LARGE, Ok((0, vec![]))),
                Err(failure) => self.done_images(model, vec![slot], ONE_LARGE, Err(failure)),
            }
        }
    }

    /// What waits of the same model goes through inference together.
    fn infer_images(&self, batches: Receiver<PreparedBatch>) {
        let mut waiting = None;
        loop {
            let Some(mut batch) = waiting.take().or_else(|| batches.recv().ok()) else { return };
            while let Ok(more) = batches.try_recv() {
                if more.model != batch.model
                    || batch.images.len() + more.images.len() > self.max_batch
                {
                    waiting = Some(more);
                    break;
                }
                batch.slots.extend(more.slots);
                batch.images.append(more.images);
                batch.ended.iter_mut().zip(more.ended).for_each(|(all, more)| *all += more);
            }
            let PreparedBatch { model, slots, images, ended } = batch;
            let result = encode::guarded(|| {
                let model = images.model.clone();
                Ok((model.dimensions(), encode::infer(images)?))
            });
            self.done_images(model, slots, ended, result);
        }
    }

    fn infer_texts(&self, batches: Receiver<Batch<String>>) {
        (self.emit)(Event::Ready(Lane::Texts));
        for Batch { model, slots, items } in batches {
            let result = encode::guarded(|| {
                let loaded = self.models.get(&model)?;
                let embeddings = encode::texts(&loaded, model.language.as_deref(), &items)?;
                Ok((loaded.dimensions(), embeddings))
            });
            let (lane, ended) = (Lane::Texts, ONE_TEXT_BATCH);
            let done = Done { lane, ended, model, slots, texts: items, result };
            (self.emit)(Event::Done(done));
            (self.emit)(Event::Ready(Lane::Texts));
        }
    }

    fn work_on_models(&self, tasks: Receiver<Task>) {
        for task in tasks {
            let (ticket, directory) = match task {
                Task::Describe(ticket, directory) => (ticket, directory),
                Task::UnloadIdle(timeout) => {
                    self.models.unload_idle(timeout);
                    continue;
                }
            };
            let result = encode::guarded(|| {
                let model = self.models.open(&directory)?;
                encode::probe(&model)?;
                let mut info = model.info();
                if info.mean_text_embedding.is_none() {
                    info.mean_text_embedding = Some(texts_direction(&model)?);
                }
                Ok(info)
            });
            (self.emit)(Event::Described { ticket, result });
        }
    }

    fn done_images(
        &self,
        model: ModelRef,
        slots: Vec<Slot>,
        ended: [usize; 3],
        result: Result<(usize, Vec<ItemResult>), Failure>,
    ) {
        let done = Done { lane: Lane::Images, ended, model, slots, texts: Vec::new(), result };
        (self.emit)(Event::Done(done));
    }
}
