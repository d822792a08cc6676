//! Work shared out among threads that can be stopped at any time. Its own file because building and
//! writing do it alike, and because what a host may ask of its threads is all here: they touch
//! nothing of the host's, they are started where the host says (with all signals blocked, say), and
//! they are gone when the call returns, panics, or the host says stop.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::Duration;

/// The host's hold on running threads. Shared with whatever must stop them without unwinding.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    alive: AtomicUsize,
    done: AtomicUsize,
}

impl Control {
    /// Asks the threads to end soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Was it asked to stop?
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Stops the threads and waits until none is left: for hosts that end without unwinding.
    pub fn stop_and_wait(&self) {
        self.stop();
        while self.alive.load(Ordering::Acquire) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Items done in the present phase.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}

/// What the work is done for.
pub trait Host {
    /// Calls `spawn`, which starts the threads: the place to block signals, which they inherit.
    fn spawn(&mut self, spawn: &mut dyn FnMut()) {
        spawn();
    }

    /// Called on the calling thread every few milliseconds while others work. It may unwind; they
    /// are stopped then, too.
    fn tick(&mut self, _done: usize, _total: usize) {}
}

/// A host that wants nothing.
#[derive(Debug, Default)]
pub struct Quiet;

impl Host for Quiet {}

/// The work was stopped before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// Counts one thread more, and one less however it ends, or where it never begins.
struct Alive<'a>(&'a Control);

impl<'a> Alive<'a> {
    fn new(control: &'a Control) -> Self {
        control.alive.fetch_add(1, Ordering::Relaxed);
        Self(control)
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Release);
    }
}

/// Stops the threads when the calling thread unwinds.
struct StopOnUnwind<'a>(&'a Control);

impl Drop for StopOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// How often the host is asked.
const TICK: Duration = Duration::from_millis(10);

/// Calls `work` with the state of a thread, which `make` makes, and pieces of `range` of at most
/// `grain` items, until all are done. One thread means the calling one.
pub fn share<W>(
    control: &Control,
    host: &mut dyn Host,
    threads: usize,
    range: Range<usize>,
    grain: usize,
    make: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, Range<usize>) + Sync,
) -> Result<(), Stopped> {
    let next = AtomicUsize::new(range.start);
    take_turns(control, host, threads, range.len(), make, |state| {
        let start = next.fetch_add(grain, Ordering::Relaxed);
        if start >= range.end {
            return 0;
        }
        let piece = start..(start + grain).min(range.end);
        let items = piece.len();
        work(state, piece);
        items
    })
}

/// Calls `turn` with the state of a thread, which `make` makes, again and again until it says that
/// it did nothing; each time it says how many of the `total` items it has done. One thread means
/// the calling one, which does it too where no other can be started. A turn should be short: the host
/// is asked, and threads end, between two.
pub fn take_turns<W>(
    control: &Control,
    host: &mut dyn Host,
    threads: usize,
    total: usize,
    make: impl Fn() -> W + Sync,
    turn: impl Fn(&mut W) -> usize + Sync,
) -> Result<(), Stopped> {
    control.done.store(0, Ordering::Relaxed);
    let turn = |state: &mut W| {
        let items = if control.is_stopped() { 0 } else { turn(state) };
        control.done.fetch_add(items, Ordering::Relaxed);
        items > 0
    };
    if threads <= 1 {
        let mut state = make();
        while turn(&mut state) {
            host.tick(control.done(), total);
        }
    } else {
        std::thread::scope(|scope| {
            let _guard = StopOnUnwind(control);
            let mut handles = Vec::new();
            host.spawn(&mut || {
                while handles.len() < threads {
                    let alive = Alive::new(control);
                    let (make, turn) = (&make, &turn);
                    let started = Builder::new().spawn_scoped(scope, move || {
                        let _alive = alive;
                        let mut state = make();
                        while turn(&mut state) {}
                    });
                    // The system has no more: those that there are do it.
                    let Ok(handle) = started else { break };
                    handles.push(handle);
                }
            });
            if handles.is_empty() {
                let mut state = make();
                while turn(&mut state) {
                    host.tick(control.done(), total);
                }
            }
            while handles.iter().any(|handle| !handle.is_finished()) {
                std::thread::park_timeout(TICK);
                host.tick(control.done(), total);
            }
        });
    }
    if control.is_stopped() { Err(Stopped) } else { Ok(()) }
}
