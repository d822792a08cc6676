//! The worker threads: batches in, results out. Images go through two threads, so that
//! the next batch is decoded and resized while the present one is in inference; texts
//! have a thread of their own and never wait for images; a third lane loads models that
//! are to be described. Its own file because `serve` and `bench` drive the same threads.
//!
//! ```text
//!  images ─► prepare (rayon) ─► infer ─┐
//!  texts  ─► tokenise and infer ───────┼─► events
//!  models ─► load and probe ───────────┘
//! ```
//!
//! Each lane holds at most one batch per thread, and says [`Event::Ready`] when it can
//! take another: everything that waits, waits in the queue, whose owner can still drop it.

use crate::confine::Confinement;
use crate::encode::{self, Prepared};
use crate::failure::Failure;
use crate::models::Models;
use crate::settings::EngineOptions;
use pgclip_clip::decode::Limits;
use pgclip_clip::protocol::{ByteBuf, Image, ItemError, ModelInfo, ModelRef};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

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

/// An embedding as little-endian halves, or why there is none.
pub type ItemResult = Result<ByteBuf, ItemError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Images,
    Texts,
}

/// What a worker has to say.
#[derive(Debug)]
pub enum Event {
    /// The lane can take another batch.
    Ready(Lane),
    Done(Done),
    Described {
        ticket: Ticket,
        result: Result<ModelInfo, Failure>,
    },
}

/// A batch that went through, or failed as a whole.
#[derive(Debug)]
pub struct Done {
    pub lane: Lane,
    pub model: ModelRef,
    pub slots: Vec<Slot>,
    /// The texts, given back for the cache; of images, nothing.
    pub texts: Vec<String>,
    /// The dimensions, and a result for each slot.
    pub result: Result<(usize, Vec<ItemResult>), Failure>,
}

/// The lanes' entrances. Dropping it ends the threads once they have nothing left.
#[derive(Debug)]
pub struct Pipeline {
    pub images: Sender<Batch<Image>>,
    pub texts: Sender<Batch<String>>,
    pub describe: Sender<(Ticket, String)>,
    pub models: Arc<Models>,
}

/// What the worker threads share.
struct Workers<F> {
    models: Arc<Models>,
    limits: Limits,
    pool: ThreadPool,
    emit: F,
}

impl Pipeline {
    /// Starts the threads. `emit` takes their events, and must not block.
    pub fn start<F>(
        options: &EngineOptions,
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
        let limits = encode::limits(options);
        let workers = Arc::new(Workers { models: models.clone(), limits, pool, emit });
        let (images, image_batches) = channel();
        let (texts, text_batches) = channel();
        let (describe, directories) = channel();
        // No room: prepared pixels wait in the hands of the thread that prepared them.
        let (prepared, to_infer) = sync_channel(0);
        spawn("prepare", &workers, move |w| w.prepare_images(image_batches, prepared))?;
        spawn("images", &workers, move |w| w.infer_images(to_infer))?;
        spawn("texts", &workers, move |w| w.infer_texts(text_batches))?;
        spawn("models", &workers, move |w| w.describe(directories))?;
        Ok(Self { images, texts, describe, models })
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

/// A batch whose images are pixels.
type PreparedBatch = (ModelRef, Vec<Slot>, Prepared);

impl<F: Fn(Event) + Sync> Workers<F> {
    fn prepare_images(&self, batches: Receiver<Batch<Image>>, next: SyncSender<PreparedBatch>) {
        (self.emit)(Event::Ready(Lane::Images));
        for Batch { model, slots, items } in batches {
            let prepared = encode::guarded(|| {
                let model = self.models.get(&model)?;
                model.image()?;
                let confinement = &self.models.confinement;
                Ok(self.pool.install(|| encode::prepare(&model, &items, &self.limits, confinement)))
            });
            match prepared {
                Ok(prepared) => {
                    if next.send((model, slots, prepared)).is_err() {
                        return;
                    }
                }
                Err(failure) => self.done_images(model, slots, Err(failure)),
            }
            (self.emit)(Event::Ready(Lane::Images));
        }
    }

    fn infer_images(&self, batches: Receiver<PreparedBatch>) {
        for (model, slots, prepared) in batches {
            let result = encode::guarded(|| {
                let model = prepared.model.clone();
                Ok((model.dimensions(), encode::infer(prepared)?))
            });
            self.done_images(model, slots, result);
        }
    }

    fn infer_texts(&self, batches: Receiver<Batch<String>>) {
        (self.emit)(Event::Ready(Lane::Texts));
        for Batch { model, slots, items } in batches {
            let result = encode::guarded(|| {
                let model = self.models.get(&model)?;
                Ok((model.dimensions(), encode::texts(&model, &items)?))
            });
            let done = Done { lane: Lane::Texts, model, slots, texts: items, result };
            (self.emit)(Event::Done(done));
            (self.emit)(Event::Ready(Lane::Texts));
        }
    }

    fn describe(&self, directories: Receiver<(Ticket, String)>) {
        for (ticket, directory) in directories {
            let result = encode::guarded(|| {
                let model = self.models.open(&directory)?;
                encode::probe(&model)?;
                Ok(model.info())
            });
            (self.emit)(Event::Described { ticket, result });
        }
    }

    fn done_images(
        &self,
        model: ModelRef,
        slots: Vec<Slot>,
        result: Result<(usize, Vec<ItemResult>), Failure>,
    ) {
        let done = Done { lane: Lane::Images, model, slots, texts: Vec::new(), result };
        (self.emit)(Event::Done(done));
    }
}
