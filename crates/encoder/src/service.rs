//! What the server does with requests: takes them into the queue or refuses them, sends
//! batches off when they are due, and turns what the workers say into answers. Its own
//! file, without sockets: it is a state machine that one thread owns, and needs no lock.

use crate::answers::{Answers, ConnectionId, Pending};
use crate::cache::TextCache;
use crate::failure::Failure;
use crate::large::LargeLane;
use crate::pipeline::{Done, Event, Lane as Kind, Pipeline, Task, Ticket};
use crate::queue::Lane;
use crate::settings::ServeOptions;
use crate::stats::Stats;
use pgclip_wire::protocol::{ErrorKind, Image, ModelRef, Request, Response, Status};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Requests that one connection may have on their way.
const MAX_REQUESTS: usize = 256;
/// Models that may wait to be described.
const MAX_DESCRIBE: usize = 64;
/// Bytes of texts and embeddings in the cache.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// What workers of one kind have in their hands.
#[derive(Clone, Copy, Debug)]
struct AtWork {
    under_way: usize,
    /// When one was last done, or the first taken.
    moved: Instant,
}

/// After the three [`Kind`]s.
const DESCRIBE: usize = 3;

impl AtWork {
    fn begin(&mut self, now: Instant) {
        if self.under_way == 0 {
            self.moved = now;
        }
        self.under_way += 1;
    }

    fn end(&mut self, count: usize, now: Instant) {
        if count > 0 {
            self.under_way -= count;
            self.moved = now;
        }
    }
}

#[derive(Debug)]
pub struct Service {
    images: Lane<Image>,
    texts: Lane<String>,
    large: LargeLane,
    /// Whether the lane's workers can take a batch.
    images_ready: bool,
    texts_ready: bool,
    /// What the workers have, of images, texts, large images and models to be described.
    at_work: [AtWork; 4],
    answers: Answers,
    cache: TextCache,
    pub stats: Stats,
    pipeline: Pipeline,
    /// After how long models that nobody uses are given up, and when that is looked at next.
    idle: Option<(Duration, Instant)>,
    device: String,
    restarts: u32,
    /// Bytes of requests that are in memory, and their bound.
    held: usize,
    max_held: usize,
    outbox: Vec<(ConnectionId, Response)>,
}

impl Service {
    pub fn new(options: &ServeOptions, pipeline: Pipeline, now: Instant) -> Self {
        let max_batch = options.engine.max_batch();
        let limit = options.max_queue as usize;
        Self {
            images: Lane::new(limit, max_batch, options.max_wait()),
            texts: Lane::new(limit, max_batch, options.max_text_wait()),
            large: LargeLane::new(&options.budget()),
            images_ready: false,
            texts_ready: false,
            at_work: [AtWork { under_way: 0, moved: now }; 4],
            answers: Answers::default(),
            cache: TextCache::new(CACHE_BYTES),
            stats: Stats::new(max_batch, now),
            pipeline,
            idle: options.model_idle_timeout().map(|timeout| (timeout, now)),
            device: options.engine.device.to_string(),
            restarts: options.restarts,
            held: 0,
            max_held: options.max_memory(),
            outbox: Vec::new(),
        }
    }

    /// Reserves memory for a request that is about to arrive, if there is room. What was
    /// reserved is handed to [`request`](Self::request), or given back by
    /// [`release`](Self::release).
    pub fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.held + bytes <= self.max_held;
        if fits {
            self.held += bytes;
        } else {
            self.stats.counters.overloaded += 1;
        }
        fits
    }

    pub fn release(&mut self, bytes: usize) {
        self.held -= bytes;
    }

    /// Takes a request in, for which `charge` bytes were reserved. Hello is the
    /// connection's own affair.
    pub fn request(
        &mut self,
        connection: ConnectionId,
        request: Request,
        charge: usize,
        now: Instant,
    ) {
        let id = request.id();
        match request {
            Request::Hello { .. } => self.release(charge),
            Request::Images { model, images, .. } => {
                let room = self.images.has_room(images.len(), self.large.len());
                let pending = Pending::new(connection, id, now, charge, images.len());
                if let Some(ticket) = self.open(pending, room) {
                    let images = images.into_iter().enumerate();
                    self.images.push(connection, ticket, model, images, now);
                    self.answer_if_complete(ticket);
                }
            }
            Request::Texts { model, texts, .. } => {
                let room = self.texts.has_room(texts.len(), 0);
                let pending = Pending::new(connection, id, now, charge, texts.len());
                if let Some(ticket) = self.open(pending, room) {
                    self.look_up(ticket, model, texts, now);
                }
            }
            Request::Describe { directory, .. } => {
                let room = self.at_work[DESCRIBE].under_way < MAX_DESCRIBE;
                let pending = Pending::new(connection, id, now, charge, 0);
                if let Some(ticket) = self.open(pending, room) {
                    self.at_work[DESCRIBE].begin(now);
                    // The worker lives as long as the pipeline does.
                    let _ = self.pipeline.tasks.send(Task::Describe(ticket, directory));
                }
            }
            Request::Status { .. } => {
                let status = Box::new(self.status(now));
                self.outbox.push((connection, Response::Status { id, status }));
                self.release(charge);
            }
            Request::Cancel { .. } => {
                self.release(charge);
                if let Some(ticket) = self.answers.find(connection, id) {
                    self.cancel(ticket);
                }
            }
        }
    }

    /// Opens a request, or answers why not.
    fn open(&mut self, pending: Pending, room: bool) -> Option<Ticket> {
        let (connection, id, charge) = (pending.connection, pending.id, pending.charge);
        let refusal = if !room || self.answers.of_connection(connection).len() >= MAX_REQUESTS {
            self.stats.counters.overloaded += 1;
            overloaded()
        } else if let Some(ticket) = self.answers.open(pending) {
            self.pipeline.wanted.open(ticket);
            return Some(ticket);
        } else {
            Failure::new(ErrorKind::BadRequest, format!("the request {id} is on its way already"))
        };
        self.release(charge);
        self.outbox.push((connection, refusal.into_response(id)));
        None
    }

    /// Answers texts out of the cache, and queues the others.
    fn look_up(&mut self, ticket: Ticket, model: ModelRef, texts: Vec<String>, now: Instant) {
        let Some(pending) = self.answers.get_mut(ticket) else { return };
        let mut missing = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            match self.cache.get(&model.digest, &key(&model, &text)) {
                Some(embedding) => {
                    self.stats.counters.cache_hits += 1;
                    let dimensions = embedding.len() / 2;
                    pending.set(index, Ok(embedding), dimensions);
                }
                None => missing.push((index, text)),
            }
        }
        self.stats.counters.cache_misses += missing.len() as u64;
        let connection = pending.connection;
        self.texts.push(connection, ticket, model, missing, now);
        self.answer_if_complete(ticket);
    }

    /// Answers a request that waits for nothing.
    fn answer_if_complete(&mut self, ticket: Ticket) {
        if self.answers.get_mut(ticket).is_some_and(|pending| pending.is_complete()) {
            let pending = self.close(ticket);
            pending.into_iter().for_each(|pending| self.answer(pending));
        }
    }

    fn answer(&mut self, pending: Pending) {
        self.release(pending.charge);
        self.stats.answered(pending.arrived.elapsed());
        self.outbox.push((pending.connection, pending.into_response()));
    }

    /// Takes a request out, and whatever waits of it; what is at work of it is in vain.
    fn close(&mut self, ticket: Ticket) -> Option<Pending> {
        self.images.cancel(ticket);
        self.texts.cancel(ticket);
        self.large.cancel(ticket);
        self.pipeline.wanted.close(ticket);
        self.answers.close(ticket)
    }

    fn fail(&mut self, ticket: Ticket, failure: &Failure) {
        if let Some(pending) = self.close(ticket) {
            self.release(pending.charge);
            self.outbox.push((pending.connection, failure.clone().into_response(pending.id)));
        }
    }

    fn cancel(&mut self, ticket: Ticket) {
        if let Some(pending) = self.close(ticket) {
            self.release(pending.charge);
            self.stats.counters.cancelled += 1;
        }
    }

    /// A connection is closed: nobody waits for its requests any more.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        for ticket in self.answers.of_connection(connection) {
            self.cancel(ticket);
        }
    }

    /// Takes in what a worker says.
    pub fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Ready(Kind::Images) => self.images_ready = true,
            Event::Ready(Kind::Texts) => self.texts_ready = true,
            Event::Ready(Kind::Large) => self.large.ready(),
            Event::Freed(slot) => self.large.freed(slot),
            Event::Large(images) => {
                for image in images {
                    // None: it was cancelled meanwhile.
                    if let Some(pending) = self.answers.get_mut(image.slot.ticket) {
                        let connection = pending.connection;
                        self.large.push(connection, image);
                    }
                }
            }
            Event::Done(done) => self.done(done, now),
            Event::Described { ticket, result } => {
                self.at_work[DESCRIBE].end(1, now);
                match result {
                    Ok(model) => {
                        if let Some(Pending { connection, id, charge, .. }) = self.close(ticket) {
                            self.release(charge);
                            self.outbox.push((connection, Response::Model { id, model }));
                        }
                    }
                    Err(failure) => self.fail(ticket, &failure),
                }
            }
        }
    }

    fn done(&mut self, done: Done, now: Instant) {
        for (lane, count) in self.at_work.iter_mut().zip(done.ended) {
            lane.end(count, now);
        }
        match done.result {
            Ok((dimensions, results)) => {
                if !results.is_empty() {
                    self.stats.batch(done.lane, &results, now);
                }
                for (text, result) in done.texts.into_iter().zip(&results) {
                    if let Ok(embedding) = result {
                        let key = key(&done.model, &text).into_owned();
                        self.cache.insert(&done.model.digest, key, embedding.clone());
                    }
                }
                for (ticket, pending) in self.answers.complete(&done.slots, results, dimensions) {
                    self.pipeline.wanted.close(ticket);
                    self.answer(pending);
                }
            }
            Err(failure) => {
                tracing::warn!("{}: {failure}", done.model.directory);
                let tickets: BTreeSet<Ticket> = done.slots.iter().map(|slot| slot.ticket).collect();
                tickets.iter().for_each(|&ticket| self.fail(ticket, &failure));
            }
        }
    }

    /// Sends the batches off that are due. Returns when the next one will be.
    pub fn dispatch(&mut self, now: Instant) -> Option<Instant> {
        let texts = if self.texts_ready { self.texts.due(now) } else { None };
        let images = if self.images_ready { self.images.due(now) } else { None };
        // The workers live as long as the pipeline does.
        if texts.is_some_and(|due| due <= now) {
            self.texts_ready = false;
            self.at_work[Kind::Texts as usize].begin(now);
            if let Some(batch) = self.texts.pop() {
                let _ = self.pipeline.texts.send(batch);
            }
        }
        if images.is_some_and(|due| due <= now) {
            self.images_ready = false;
            self.at_work[Kind::Images as usize].begin(now);
            if let Some(batch) = self.images.pop() {
                let _ = self.pipeline.images.send(batch);
            }
        }
        while let Some(image) = self.large.next() {
            self.at_work[Kind::Large as usize].begin(now);
            let _ = self.pipeline.large.send(image);
        }
        [texts, images, self.unload_idle(now)].into_iter().flatten().filter(|due| *due > now).min()
    }

    /// Has models given up that nobody uses, and returns when that is looked at again.
    fn unload_idle(&mut self, now: Instant) -> Option<Instant> {
        let (timeout, due) = self.idle.as_mut()?;
        if *due <= now {
            // Often enough for a model to stay a tenth longer at most.
            *due = now + (*timeout / 10).clamp(Duration::from_millis(100), Duration::from_secs(60));
            let _ = self.pipeline.tasks.send(Task::UnloadIdle(*timeout));
        }
        Some(*due)
    }

    /// For how long work has been under way without moving on.
    pub fn busy(&self, now: Instant) -> Duration {
        let busy = self.at_work.iter().filter(|lane| lane.under_way > 0);
        busy.map(|lane| now.duration_since(lane.moved)).max().unwrap_or_default()
    }

    /// Takes the answers out that are ready to be sent.
    pub fn take_answers(&mut self) -> Vec<(ConnectionId, Response)> {
        std::mem::take(&mut self.outbox)
    }

    fn status(&mut self, now: Instant) -> Status {
        let (runtime_version, runtime_error) = match self.pipeline.models.runtime.version() {
            Ok(version) => (version, String::new()),
            Err(failure) => (String::new(), failure.message),
        };
        Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            device: self.device.clone(),
            runtime_version,
            runtime_error,
            models: self.pipeline.models.list(),
            restarts: self.restarts,
            refused: self.pipeline.models.refused(),
            confinement: self.pipeline.models.confinement.description.clone(),
            queued_images: (self.images.len() + self.large.len()) as u64,
            queued_texts: self.texts.len() as u64,
            ..self.stats.status(now)
        }
    }
}

/// What a text's embedding is kept by: the text, in its language where one was named.
fn key<'a>(model: &ModelRef, text: &'a str) -> Cow<'a, str> {
    match &model.language {
        None => text.into(),
        Some(language) => format!("{language}\0{text}").into(),
    }
}

/// The answer to what there is no room for.
pub fn overloaded() -> Failure {
    Failure::new(ErrorKind::Overloaded, "the encoder is overloaded: its queue is full")
}
