//! The worker's life: turns of a few rows each, patience with what is locked, slow or away, and the
//! end when nothing is left or the database is wanted by somebody else.
//!
//! A turn is three transactions: one looks whose turn it is, one notes the entries that are begun
//! with, one does the work. Where that fails, another notes what is to be done about it; where the
//! worker dies, the next one finds what it had begun.
//!
//! DROP DATABASE waits five seconds for others to leave. Each transaction here holds the lock that
//! every session takes on its database when it begins; where it cannot have it, the database is
//! about to be dropped, renamed or copied, and the worker leaves. Its successor waits for that lock
//! before it is connected, so it is in nobody's way.

use std::fs::File;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{FromDatum, pg_guard, pg_sys};

use super::entries::{Entry, Queue};
use super::limit;
use super::step::{self, Done, Phase};
use super::transaction::{self, Fault, Stop, rest};
use super::tuning::{ENCODE_LIMIT, ENCODER_PAUSE, LATER, LINGER, LOOK, QUEUE_LIMIT};
use super::turns::{Lane, Turns};
use crate::encoder::requests;
use crate::error::Failure;
use crate::ingest::launch::{self, State};

/// The worker's entry point.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pgclip_ingest_main(argument: pg_sys::Datum) {
    handle_terminate();
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
    // SAFETY: the argument is the OID that `start` gave.
    let database = unsafe { pg_sys::Oid::from_datum(argument, false) };
    let Some(database) = database else { return };
    let mut lock = lock_patiently(database);
    if lock.is_none() && launch::is_marked(database) {
        return;
    }
    // SAFETY: a worker's own connection, before anything else. Databases that take none may be
    // among those of which nothing is known.
    unsafe {
        let flags = pg_sys::BGWORKER_BYPASS_ALLOWCONN;
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, flags);
    }
    transaction::prepare();
    if lock.is_none() {
        lock = discover(database);
    }
    if lock.is_some() {
        Worker {
            database,
            lock,
            turns: Turns::default(),
            may_be_left: true,
            encoder_answers: false,
            pause: LOOK,
        }
        .run();
    }
}

/// The lock, which a backend or the supervisor may hold for a moment to see whether it is free.
fn lock_patiently(database: pg_sys::Oid) -> Option<File> {
    (0..5).find_map(|attempt| {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        launch::lock(database)
    })
}

/// The lock of a database of which it was not known that it has a queue, if it has one.
fn discover(database: pg_sys::Oid) -> Option<File> {
    let found = transaction::run(QUEUE_LIMIT, |extension| {
        let queue = Queue { extension };
        Ok(queue.look()?.any || queue.is_being_filled()?)
    });
    match found {
        Ok(true) => {}
        Ok(false) | Err(Stop::Gone) => return None,
        Err(Stop::Leave) => {
            launch::start(database);
            return None;
        }
        Err(Stop::Failed { failure, .. }) => {
            pgrx::warning!("pgclip cannot see whether images are queued: {}", failure.message);
            return None;
        }
    }
    if let Err(error) = launch::mark() {
        pgrx::warning!("pgclip cannot note that images are queued: {error}");
    }
    launch::lock(database)
}

/// What a turn came to.
enum Turn {
    Worked,
    /// Entries are there, none is due.
    Waiting,
    Empty,
    /// Somebody wants the database for himself.
    Leave,
    /// There is nothing to do here any more.
    Gone,
}

struct Worker {
    database: pg_sys::Oid,
    lock: Option<File>,
    turns: Turns,
    /// Whether entries may be noted as begun with that nobody works on.
    may_be_left: bool,
    /// Whether the encoder answered since something last failed.
    encoder_answers: bool,
    /// The next pause while the encoder, or the queue, is not to be had.
    pause: Duration,
}

impl Worker {
    fn run(mut self) {
        let mut busy = Instant::now();
        loop {
            if BackgroundWorker::sighup_received() {
                // SAFETY: between transactions, where no setting is in use.
                unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            }
            let turn = self.turn();
            if let (Turn::Worked | Turn::Waiting, Some(lock)) = (&turn, &self.lock) {
                launch::note(lock, State::Wanted);
            }
            match turn {
                Turn::Worked => busy = Instant::now(),
                Turn::Waiting => rest(if busy.elapsed() < LINGER { LOOK } else { LATER }),
                Turn::Empty if busy.elapsed() < LINGER => rest(LOOK),
                Turn::Empty if self.is_expected() => rest(LATER),
                Turn::Empty => {
                    if let Some(lock) = self.lock.take() {
                        launch::note(&lock, State::Done);
                    }
                    if !self.is_needed() || !self.relock() {
                        return;
                    }
                }
                Turn::Leave => {
                    self.lock = None;
                    launch::start(self.database);
                    return;
                }
                Turn::Gone => {
                    if let Some(lock) = self.lock.take() {
                        launch::note(&lock, State::Done);
                    }
                    return;
                }
            }
        }
    }

    fn relock(&mut self) -> bool {
        if self.lock.is_none() {
            self.lock = launch::lock(self.database);
            if let Some(lock) = &self.lock {
                launch::note(lock, State::Wanted);
            }
        }
        self.lock.is_some()
    }

    /// Whether a transaction that has not ended has queued rows. Before its commit it saw that a
    /// worker is there; nobody tells when it is committed.
    fn is_expected(&self) -> bool {
        transaction::run(QUEUE_LIMIT, |extension| Queue { extension }.is_being_filled())
            .unwrap_or_default()
    }

    /// Whether the worker that has just given its lock back must stay. Whoever saw it taken was in his
    /// transaction then: he still is, or what he queued is seen by a look that begins afterwards.
    fn is_needed(&self) -> bool {
        let look = || transaction::run(QUEUE_LIMIT, |extension| Queue { extension }.look());
        self.is_expected() || look().map_or(true, |look| look.any)
    }

    fn turn(&mut self) -> Turn {
        if self.turns.must_look() {
            let begun = Instant::now();
            let look = transaction::run(QUEUE_LIMIT, |extension| {
                let queue = Queue { extension };
                let look = queue.look()?;
                if !look.any {
                    queue.forget_lanes()?;
                }
                Ok(look)
            });
            match look {
                Ok(look) if !look.any => {
                    self.turns.forget();
                    return Turn::Empty;
                }
                Ok(look) => self.turns.set(look.ready, begun.elapsed()),
                Err(stop) => return self.stopped(stop),
            }
        }
        if self.may_be_left {
            match transaction::run(QUEUE_LIMIT, |extension| Queue { extension }.recover()) {
                Ok(0) => {}
                Ok(died) => {
                    pgrx::log!("pgclip: a worker died over {died} relation(s), which are put off");
                    self.turns.set(Vec::new(), Duration::ZERO);
                }
                Err(stop) => return self.stopped(stop),
            }
            self.may_be_left = false;
        }
        let Some(lane) = self.turns.next() else { return Turn::Waiting };
        if !self.encoder_answers
            && let Some(turn) = self.ask_encoder()
        {
            return turn;
        }
        self.work(lane)
    }

    /// A step of a relation.
    fn work(&mut self, lane: Lane) -> Turn {
        let (rows, alone) = self.turns.manner(lane);
        let begun = Instant::now();
        let relation = lane.relation;
        let taken = transaction::run(QUEUE_LIMIT, |extension| {
            Queue { extension }.take(relation, rows, alone)
        });
        let entries = match taken {
            Ok(entries) => entries,
            Err(stop) => return self.stopped(stop),
        };
        if entries.is_empty() {
            self.turns.drop(lane);
            return Turn::Waiting;
        }
        let suspect = entries.iter().any(|entry| entry.suspect);
        let mut phase = Phase::Code;
        let done = transaction::run(phase.limit(), |extension| {
            step::work(extension, relation, &entries, &mut phase)
        });
        let took = begun.elapsed();
        self.turns.charge(lane, took, suspect);
        match done {
            Ok(Done::Worked) => {
                self.pause = LOOK;
                if !suspect {
                    self.turns.adapt(lane, took);
                }
                Turn::Worked
            }
            Ok(Done::Locked) => self.put_off(lane, &[], "table is locked", None),
            Err(Stop::Leave) => {
                let end = |extension: &_| Queue { extension }.end(relation);
                let _ = transaction::last(QUEUE_LIMIT, end);
                Turn::Leave
            }
            Err(Stop::Gone) => Turn::Gone,
            Err(Stop::Failed { failure, over }) => {
                self.failed(lane, &entries, failure, over, phase)
            }
        }
    }

    /// A step failed: entries of many are tried one by one, one that was alone is put off, and counted
    /// where that is its own doing.
    fn failed(
        &mut self,
        lane: Lane,
        entries: &[Entry],
        failure: Failure,
        over: bool,
        phase: Phase,
    ) -> Turn {
        let fault = Fault::of(&failure, over);
        self.turns.one_by_one(lane);
        // An encoder that answers leaves the row to blame, or what its table does.
        if phase == Phase::Encode && fault != Fault::Others {
            self.encoder_answers = false;
            let end = |extension: &_| Queue { extension }.end(lane.relation);
            self.may_be_left |= transaction::last(QUEUE_LIMIT, end).is_err();
            if let Some(turn) = self.ask_encoder() {
                return turn;
            }
        }
        let limit = phase.limit().as_secs();
        // What an entry that failed before does again says nothing new of the others.
        let is_known = matches!(entries, [entry] if entry.suspect);
        match fault {
            Fault::Others => {
                let reason = match failure.code {
                    Code::ERRCODE_QUERY_CANCELED => "it was cancelled",
                    _ => "a lock is held by others",
                };
                let why = Failure::new(failure.code, reason);
                if is_known {
                    self.blame(lane, entries, &why, false)
                } else {
                    self.put_off(lane, entries, reason, Some((&why, false)))
                }
            }
            Fault::Server => self.put_off(lane, entries, &failure.message, Some((&failure, false))),
            Fault::Time if phase == Phase::Encode => {
                let message = format!("encoding took longer than {limit} s");
                let why = Failure::new(Code::ERRCODE_QUERY_CANCELED, message);
                self.put_off(lane, entries, "encoding took too long", Some((&why, false)))
            }
            Fault::Time => {
                let message = format!("what the table does took longer than {limit} s");
                let why = Failure::new(Code::ERRCODE_QUERY_CANCELED, message);
                if is_known {
                    self.blame(lane, entries, &why, true)
                } else {
                    self.put_off(lane, entries, "step took too long", Some((&why, true)))
                }
            }
            Fault::Row => {
                if let [_] = entries {
                    pgrx::log!("pgclip: a queued image cannot be encoded: {}", failure.message);
                }
                self.blame(lane, entries, &failure, true)
            }
        }
    }

    /// Ends a step that failed, and blames an entry that was tried alone.
    fn blame(&mut self, lane: Lane, entries: &[Entry], why: &Failure, counted: bool) -> Turn {
        let noted = transaction::run(QUEUE_LIMIT, |extension| {
            let queue = Queue { extension };
            queue.end(lane.relation)?;
            match entries {
                [entry] => queue.blame(entry, why, counted),
                _ => Ok(()),
            }
        });
        self.noted(noted)
    }

    /// Puts a relation off, and an entry of it that was tried alone.
    fn put_off(
        &mut self,
        lane: Lane,
        entries: &[Entry],
        reason: &str,
        why: Option<(&Failure, bool)>,
    ) -> Turn {
        self.turns.drop(lane);
        let noted = transaction::run(QUEUE_LIMIT, |extension| {
            let queue = Queue { extension };
            queue.pause(lane.relation, reason)?;
            match (entries, why) {
                ([entry], Some((why, counted))) => queue.blame(entry, why, counted),
                _ => Ok(()),
            }
        });
        self.noted(noted)
    }

    fn noted(&mut self, noted: Result<(), Stop>) -> Turn {
        match noted {
            Ok(()) => Turn::Worked,
            Err(stop) => {
                self.may_be_left = true;
                self.stopped(stop)
            }
        }
    }

    /// Sees whether the encoder answers; what the turn came to where it does not.
    fn ask_encoder(&mut self) -> Option<Turn> {
        let asked = transaction::run(ENCODE_LIMIT, |extension| {
            requests::ready()?;
            Queue { extension }.forget_lane(pg_sys::InvalidOid)
        });
        match asked {
            Ok(()) => {
                self.encoder_answers = true;
                None
            }
            Err(Stop::Failed { failure, .. }) => {
                pgrx::log!("pgclip: queued images wait: {}", failure.message);
                let reason = format!("waits for the encoder: {}", failure.message);
                let noted = transaction::run(QUEUE_LIMIT, |extension| {
                    Queue { extension }.pause(pg_sys::InvalidOid, &reason)
                });
                match noted {
                    Err(Stop::Leave) => Some(Turn::Leave),
                    Err(Stop::Gone) => Some(Turn::Gone),
                    _ => Some(self.stay_away()),
                }
            }
            Err(stop) => Some(self.stopped(stop)),
        }
    }

    /// A transaction that keeps the queue was not committed.
    fn stopped(&mut self, stop: Stop) -> Turn {
        match stop {
            Stop::Leave => Turn::Leave,
            Stop::Gone => Turn::Gone,
            Stop::Failed { failure, .. } => {
                pgrx::log!("pgclip: the queue cannot be worked on: {}", failure.message);
                self.stay_away()
            }
        }
    }

    /// Waits, each time for longer, but not longer than the database may be had.
    fn stay_away(&mut self) -> Turn {
        self.pause = (self.pause * 2).min(ENCODER_PAUSE);
        let until = Instant::now() + self.pause;
        while Instant::now() < until {
            rest(LATER.min(self.pause));
            if let Err(Stop::Leave) = transaction::look_up() {
                return Turn::Leave;
            }
        }
        Turn::Waiting
    }
}

/// SIGTERM ends the worker at the next check for interrupts, as it ends a backend.
fn handle_terminate() {
    unsafe extern "C-unwind" fn terminate(_signal: i32) {
        limit::terminate();
    }
    // SAFETY: installs a handler while signals are still blocked.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(libc::SIGTERM, Some(terminate));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(libc::SIGTERM, Some(terminate));
    }
}
