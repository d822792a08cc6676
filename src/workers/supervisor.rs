//! The background worker that keeps one encoder process running for the cluster. It does nothing
//! but wait and pass its child's log on, and takes the child along when it ends. It is connected, so that `pg_stat_activity`
//! shows it and `pg_terminate_backend` ends it, but to no database, so that it keeps none from
//! being dropped.
//!
//! Preloaded, the server starts it; else the first backend that finds no encoder does. A lock on
//! [`place::LOCK`] makes it the only one. A start that fails leaves its reason in
//! [`place::FAILURE`], for backends to tell their users. An encoder that hangs is killed. A model
//! that ended encoders while it was loaded, time and again, is refused by the next for some time
//! (`pgclip_wire::lethal`), at most until the configuration is reloaded or the server started anew.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use pgclip_wire::lethal::{Cause, End, Lethal};
use pgclip_wire::notice::{Load, Why};
use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::{pg_guard, pg_sys};

use super::process;
use super::revival::Revival;
use super::watch::Watched;
use crate::encoder::launch::try_lock;
use crate::encoder::socket;
use crate::place;

/// Lifetime from which on an encoder counts as having worked.
const SETTLED: Duration = Duration::from_secs(10);
/// Pause after the first failed start; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two starts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a start is looked at until the socket answers.
const START_CHECK: Duration = Duration::from_millis(20);
/// How often a running encoder is looked at: it gives a notice once a second.
const WATCH: Duration = Duration::from_secs(1);
/// How often the log of one that floods it is read.
const FLOOD: Duration = Duration::from_millis(100);
/// Deaths by signal in a row that make a failure of it.
const CRASH_LOOP: u32 = 4;

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
    Starting(Watched),
    Running(Watched),
}

struct Supervisor {
    state: State,
    line: Vec<OsString>,
    /// Deaths since an encoder lived long enough.
    deaths: u32,
    /// Encoders started.
    starts: u32,
    /// What was being loaded when encoders died.
    lethal: Lethal,
    revival: Revival,
}

impl Default for Supervisor {
    fn default() -> Self {
        let state = State::Due(Instant::now());
        let (line, lethal, revival) = Default::default();
        Self { state, line, deaths: 0, starts: 0, lethal, revival }
    }
}

impl Supervisor {
    fn run(mut self) {
        loop {
            if BackgroundWorker::sighup_received() {
                self.reload();
            }
            self.revival.step();
            self.step();
            if !self.wait() {
                break;
            }
        }
        if let State::Starting(watched) | State::Running(watched) = self.state {
            process::stop(watched.child);
        }
        let _ = fs::remove_file(place::SOCKET);
    }

    /// Waits until there is something to do. False: to end.
    fn wait(&self) -> bool {
        let (pause, descriptor) = match &self.state {
            State::Due(at) => (at.saturating_duration_since(Instant::now()), None),
            State::Starting(watched) => (START_CHECK, watched.descriptor()),
            State::Running(watched) if watched.is_flooded() => (FLOOD, None),
            State::Running(watched) => (WATCH, watched.descriptor()),
        };
        // The revival looks as often.
        let pause = pause.min(WATCH);
        let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_POSTMASTER_DEATH;
        if descriptor.is_some() {
            events |= pg_sys::WL_SOCKET_READABLE;
        }
        // SAFETY: a server process's own latch, on its only thread.
        let woken = unsafe {
            let woken = pg_sys::WaitLatchOrSocket(
                pg_sys::MyLatch,
                events as i32,
                descriptor.unwrap_or(pg_sys::PGINVALID_SOCKET),
                pause.as_millis().max(1) as i64,
                pg_sys::PG_WAIT_EXTENSION,
            );
            pg_sys::ResetLatch(pg_sys::MyLatch);
            woken
        };
        pgrx::check_for_interrupts!();
        !BackgroundWorker::sigterm_received() && woken & pg_sys::WL_POSTMASTER_DEATH as i32 == 0
    }

    /// Moves on: start, see whether it runs, hear what it says, see whether it died.
    fn step(&mut self) {
        let now = Instant::now();
        let state = std::mem::replace(&mut self.state, State::Due(now));
        self.state = match state {
            State::Due(at) if at <= now => self.start(),
            State::Due(at) => State::Due(at),
            State::Starting(watched) => self.look(watched, true),
            State::Running(watched) => self.look(watched, false),
        };
    }

    fn look(&mut self, mut watched: Watched, starting: bool) -> State {
        watched.listen();
        for load in watched.loaded.drain(..) {
            self.lethal.loaded(&load);
        }
        match watched.child.try_wait() {
            Ok(None) => {
                watched.count_memory_kills();
                watched.kill_if_hung();
            }
            ended => return self.died(watched, ended, starting),
        }
        if starting && socket::connect().is_err() {
            return State::Starting(watched);
        }
        if starting {
            clear_failure();
        }
        State::Running(watched)
    }

    fn start(&mut self) -> State {
        self.line = process::command_line();
        let mut line = self.line.clone();
        line.extend(["--restarts".into(), self.starts.to_string().into()]);
        for refusal in self.lethal.refused(Instant::now()) {
            line.extend(["--refuse".into(), refusal.to_text().into()]);
        }
        match process::start(&line) {
            Ok(child) => {
                self.starts += 1;
                pgrx::log!("pgclip encoder started with process id {}", child.id());
                State::Starting(Watched::new(child))
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
        mut watched: Watched,
        ended: io::Result<Option<ExitStatus>>,
        starting: bool,
    ) -> State {
        watched.listen_out();
        let end = match (&ended, watched.hung) {
            (Ok(_), Some(_)) => End::Hung,
            (Ok(Some(status)), None) => match (status.signal(), status.code()) {
                (Some(signal), _) => End::Signal(signal),
                (_, Some(code)) => End::Exited(code),
                _ => End::Unknown,
            },
            _ => End::Unknown,
        };
        let cause = Cause::of(end, watched.memory_ran_out());
        let by_signal = matches!(end, End::Signal(_) | End::Hung);
        let mut how = match (&ended, end) {
            (Err(error), _) => format!("cannot be waited for: {error}"),
            (_, End::Hung) => format!("{} and was killed", watched.hung.unwrap_or_default()),
            (_, End::Signal(signal)) => format!("was ended by signal {signal}"),
            (_, End::Exited(code)) => format!("exited with code {code}"),
            _ => "ended".to_owned(),
        };
        if cause == Cause::Memory {
            how += ", it seems by the kernel, since memory had run out,";
        }
        if cause != Cause::Itself {
            for load in &watched.loading {
                how += &format!(" while it loaded {} of model \"{}\"", load.file, load.model.name);
                self.blame(load, cause);
            }
        }
        self.deaths = if watched.since.elapsed() >= SETTLED { 1 } else { self.deaths + 1 };
        let what = format!("the encoder with process id {} {how}", watched.child.id());
        if (starting && !by_signal) || self.deaths >= CRASH_LOOP {
            return self.failed(&what);
        }
        pgrx::log!("pgclip: {what}; starting another");
        State::Due(Instant::now() + self.backoff())
    }

    /// Counts a death against what was being loaded, where that may be its cause.
    fn blame(&mut self, load: &Load, cause: Cause) {
        let name = &load.model.name;
        match self.lethal.died(load, cause, Instant::now()) {
            Some((time, Why::Crash)) => pgrx::warning!(
                "pgclip: model \"{name}\" has ended the encoder time and again while it was loaded \
                 and is refused for {} minutes",
                time.as_secs() / 60
            ),
            Some((time, Why::Memory)) => pgrx::warning!(
                "pgclip: memory ran out each time that model \"{name}\" was loaded: it may be too \
                 large for this machine or control group beside what else runs there; it is tried \
                 again in {} minutes",
                time.as_secs() / 60
            ),
            None => {}
        }
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
        let refused = self.lethal.clear(Instant::now());
        let state = std::mem::replace(&mut self.state, State::Due(Instant::now()));
        match state {
            State::Starting(watched) | State::Running(watched)
                if refused || self.line != process::command_line() =>
            {
                pgrx::log!("pgclip: settings have changed; restarting the encoder");
                process::stop(watched.child);
            }
            State::Due(_) => clear_failure(),
            unchanged => self.state = unchanged,
        }
    }
}
