//! The background worker that keeps one encoder process running for the cluster. It does nothing
//! but wait, and takes its child along when it ends. It is connected, so that `pg_stat_activity`
//! shows it and `pg_terminate_backend` ends it, but to no database, so that it keeps none from
//! being dropped.
//!
//! Preloaded, the server starts it; else the first backend that finds no encoder does. A lock on
//! [`place::LOCK`] makes it the only one. A start that fails leaves its reason in
//! [`place::FAILURE`], for backends to tell their users.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::{pg_guard, pg_sys};

use super::{place, process, socket};

/// Lifetime from which on an encoder counts as having worked.
const SETTLED: Duration = Duration::from_secs(10);
/// Pause after the first failed start; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two starts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a start is looked at until the socket answers.
const START_CHECK: Duration = Duration::from_millis(20);
/// Deaths by signal in a row that make a failure of it.
const CRASH_LOOP: u32 = 4;

fn builder() -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new("pgclip supervisor")
        .set_type("pgclip supervisor")
        .set_library("pgclip")
        .set_function("pgclip_supervisor_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::ConsistentState)
}

/// Registers the worker with the server's start. Called while libraries are preloaded.
pub fn register() {
    builder().set_restart_time(Some(Duration::from_secs(1))).load();
}

/// Starts the worker now. False: there is no free slot for it.
pub fn start() -> bool {
    builder().load_dynamic().is_ok()
}

/// Whether a supervisor lives.
pub fn is_running() -> bool {
    OpenOptions::new()
        .read(true)
        .open(place::LOCK)
        .is_ok_and(|file| !try_lock(&file, libc::LOCK_SH))
}

fn try_lock(file: &File, kind: libc::c_int) -> bool {
    // SAFETY: the descriptor is open for the length of the call.
    unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) == 0 }
}

/// The worker's entry point.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pgclip_supervisor_main(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(
        SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM | SignalWakeFlags::SIGCHLD,
    );
    BackgroundWorker::connect_worker_to_spi(None, None);
    match take_lock() {
        Ok(Some(lock)) => {
            crate::ingest::background::revive();
            Supervisor::default().run();
            drop(lock);
        }
        Ok(None) => return,
        Err(error) => {
            pgrx::warning!("pgclip cannot use directory \"{}\": {error}", place::DIRECTORY);
            return;
        }
    }
    // SAFETY: nothing is left to be dropped. The code has the server start a preloaded worker
    // again, unless it is shutting down.
    unsafe { pg_sys::proc_exit(1) }
}

/// Makes the directory and takes the lock; `None`: another supervisor has it.
fn take_lock() -> io::Result<Option<File>> {
    match fs::DirBuilder::new().mode(0o700).create(place::DIRECTORY) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(place::LOCK)?;
    // One that is ending gives the lock back within its grace.
    for _ in 0..30 {
        if try_lock(&file, libc::LOCK_EX) {
            clear_failure();
            return Ok(Some(file));
        }
        if !BackgroundWorker::wait_latch(Some(Duration::from_millis(100))) {
            break;
        }
    }
    Ok(None)
}

fn clear_failure() {
    let _ = fs::remove_file(place::FAILURE);
}

/// The encoder at one moment.
enum State {
    /// To be started at this time.
    Due(Instant),
    /// Started, its socket does not answer yet.
    Starting(Child, Instant),
    Running(Child, Instant),
}

struct Supervisor {
    state: State,
    line: Vec<OsString>,
    /// Deaths since an encoder lived long enough.
    deaths: u32,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self { state: State::Due(Instant::now()), line: Vec::new(), deaths: 0 }
    }
}

impl Supervisor {
    fn run(mut self) {
        loop {
            if BackgroundWorker::sighup_received() {
                self.reload();
            }
            self.step();
            if !BackgroundWorker::wait_latch(self.pause()) {
                break;
            }
        }
        if let State::Starting(child, _) | State::Running(child, _) = self.state {
            process::stop(child);
        }
        let _ = fs::remove_file(place::SOCKET);
    }

    /// How long to wait when nothing happens.
    fn pause(&self) -> Option<Duration> {
        match &self.state {
            State::Due(at) => Some(at.saturating_duration_since(Instant::now())),
            State::Starting(..) => Some(START_CHECK),
            State::Running(..) => None,
        }
        .map(|pause| pause.max(Duration::from_millis(1)))
    }

    /// Moves on: start, see whether it runs, see whether it died.
    fn step(&mut self) {
        let now = Instant::now();
        let state = std::mem::replace(&mut self.state, State::Due(now));
        self.state = match state {
            State::Due(at) if at <= now => self.start(),
            State::Starting(mut child, since) => match child.try_wait() {
                Ok(None) if socket::connect().is_ok() => {
                    clear_failure();
                    State::Running(child, since)
                }
                Ok(None) => State::Starting(child, since),
                ended => self.died(child.id(), ended, since, true),
            },
            State::Running(mut child, since) => match child.try_wait() {
                Ok(None) => State::Running(child, since),
                ended => self.died(child.id(), ended, since, false),
            },
            due => due,
        };
    }

    fn start(&mut self) -> State {
        self.line = process::command_line();
        match process::start(&self.line) {
            Ok(child) => {
                pgrx::log!("pgclip encoder started with process id {}", child.id());
                State::Starting(child, Instant::now())
            }
            Err(error) => {
                let program = self.line[0].to_string_lossy().into_owned();
                self.deaths += 1;
                self.failed(&format!("could not start \"{program}\": {error}"))
            }
        }
    }

    /// Decides when to start again after a death.
    fn died(
        &mut self,
        id: u32,
        ended: io::Result<Option<ExitStatus>>,
        since: Instant,
        starting: bool,
    ) -> State {
        let how = match &ended {
            Ok(Some(status)) => match (status.signal(), status.code()) {
                (Some(signal), _) => format!("was ended by signal {signal}"),
                (_, Some(code)) => format!("exited with code {code}"),
                _ => "ended".to_owned(),
            },
            Ok(None) => "ended".to_owned(),
            Err(error) => format!("cannot be waited for: {error}"),
        };
        self.deaths = if since.elapsed() >= SETTLED { 1 } else { self.deaths + 1 };
        let by_signal = matches!(&ended, Ok(Some(status)) if status.signal().is_some());
        let what = format!("the encoder with process id {id} {how}");
        if (starting && !by_signal) || self.deaths >= CRASH_LOOP {
            return self.failed(&what);
        }
        pgrx::log!("pgclip: {what}; starting another");
        State::Due(Instant::now() + self.backoff())
    }

    /// Leaves the reason for backends, and tries again later.
    fn failed(&mut self, what: &str) -> State {
        let pause = self.backoff().max(FIRST_PAUSE);
        pgrx::warning!("pgclip: {what}; trying again in {:.1} s", pause.as_secs_f64());
        let written = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(place::FAILURE)
            .and_then(|mut file| io::Write::write_all(&mut file, what.as_bytes()));
        if let Err(error) = written {
            pgrx::warning!("pgclip cannot write \"{}\": {error}", place::FAILURE);
        }
        State::Due(Instant::now() + pause)
    }

    /// Pause before the next start: none after a single death.
    fn backoff(&self) -> Duration {
        match self.deaths {
            0 | 1 => Duration::ZERO,
            deaths => (FIRST_PAUSE * 2_u32.pow((deaths - 2).min(10))).min(LONGEST_PAUSE),
        }
    }

    /// Takes in a changed configuration; other options mean another process.
    fn reload(&mut self) {
        // SAFETY: what every server process does on SIGHUP, at a point where no setting is in use.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        self.deaths = 0;
        let state = std::mem::replace(&mut self.state, State::Due(Instant::now()));
        match state {
            State::Starting(child, _) | State::Running(child, _)
                if self.line != process::command_line() =>
            {
                pgrx::log!("pgclip: settings have changed; restarting the encoder");
                process::stop(child);
            }
            State::Due(_) => clear_failure(),
            unchanged => self.state = unchanged,
        }
    }
}
