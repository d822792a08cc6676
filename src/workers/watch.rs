//! What a running encoder tells: its log, which goes into the server's, and the notices by which
//! the supervisor knows that it hangs, or what it was doing when it died. Apart from the
//! supervisor, which decides what follows.

use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, ChildStderr, ChildStdout};
use std::time::{Duration, Instant};

use pgclip_wire::lethal;
use pgclip_wire::notice::{Level, Lines, Load, Log, Notice};

use crate::settings;

/// The longest that an event loop may be silent, whatever the setting for batches.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// The shortest time after which anything counts as hung: notices come once a second.
const SHORTEST: Duration = Duration::from_secs(3);
/// How many times longer than a batch the load of a model may take.
const LOADING: u32 = 4;
/// How often the kernel's kills are counted.
const COUNT: Duration = Duration::from_secs(5);
/// Bytes read at once, and of one stream before the supervisor looks at other things.
const CHUNK: usize = 64 * 1024;

/// An encoder process and what is known of it.
pub struct Watched {
    pub child: Child,
    pub since: Instant,
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    notices: Lines,
    log: Log,
    /// When the last notice came.
    heard: Instant,
    /// How long its work has not moved on, as it said then.
    busy: Duration,
    /// What is being loaded.
    pub loading: Vec<Load>,
    /// What was loaded since this was last asked.
    pub loaded: Vec<Load>,
    /// Why it was killed.
    pub hung: Option<&'static str>,
    /// Processes that the kernel had killed for want of memory, at two moments of late, and the
    /// second of these.
    memory_kills: [u64; 2],
    counted: Instant,
}

impl Watched {
    pub fn new(mut child: Child) -> Self {
        let now = Instant::now();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        out.iter().map(AsRawFd::as_raw_fd).chain(err.iter().map(AsRawFd::as_raw_fd)).for_each(
            |fd| {
                // SAFETY: system calls on a descriptor that is open.
                unsafe {
                    let flags = libc::fcntl(fd, libc::F_GETFL);
                    libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
                }
            },
        );
        Self {
            child,
            since: now,
            out,
            err,
            notices: Lines::default(),
            log: Log::new(now),
            heard: now,
            busy: Duration::ZERO,
            loading: Vec::new(),
            loaded: Vec::new(),
            hung: None,
            memory_kills: [memory_kills(); 2],
            counted: now,
        }
    }

    /// What to wait for, beside the time: nothing, as long as a flood is dammed up.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.err.as_ref().filter(|_| !self.log.is_flooded()).map(AsRawFd::as_raw_fd)
    }

    /// Whether its log has to be read again soon, though nothing is waited for.
    pub fn is_flooded(&self) -> bool {
        self.log.is_flooded()
    }

    /// Takes in what it has said since the last time.
    pub fn listen(&mut self) {
        let now = Instant::now();
        // Also of nothing: the end of a flood is told.
        let bytes = read(&mut self.err).unwrap_or_default();
        self.log.push(&bytes, now).into_iter().for_each(say);
        if let Some(bytes) = read(&mut self.out) {
            for notice in self.notices.push(&bytes).iter().filter_map(|line| Notice::parse(line)) {
                self.heard = now;
                match notice {
                    Notice::Busy(time) => self.busy = time,
                    Notice::Loading(load) => self.loading.push(load),
                    Notice::Loaded(load) => {
                        if let Some(at) = self.loading.iter().position(|other| *other == load) {
                            self.loading.swap_remove(at);
                        }
                        self.loaded.push(load);
                    }
                }
            }
        }
    }

    /// Takes in the last of what it said. It has ended.
    pub fn listen_out(&mut self) {
        while self.out.is_some() || self.err.is_some() {
            let before = (self.out.is_some(), self.err.is_some());
            let flooded = self.log.is_flooded();
            self.listen();
            // Another process that holds the pipes open is not waited for, nor a flood read out.
            if flooded || before == (self.out.is_some(), self.err.is_some()) {
                break;
            }
        }
        self.log.finish(Instant::now()).into_iter().for_each(say);
    }

    /// It lives: what the kernel has killed so far was something else.
    pub fn count_memory_kills(&mut self) {
        if self.counted.elapsed() >= COUNT {
            self.memory_kills = [self.memory_kills[1], memory_kills()];
            self.counted = Instant::now();
        }
    }

    /// Whether the kernel has killed anything for want of memory of late: this encoder, it seems, if
    /// something has. Not just since the last count, since a large process takes its time to end.
    pub fn memory_ran_out(&self) -> bool {
        memory_kills() > self.memory_kills[0]
    }

    /// Kills an encoder that hangs, once; that it has ended is seen as for any other.
    pub fn kill_if_hung(&mut self) {
        let limit = Duration::from_secs(settings::ENCODER_TIMEOUT.get() as u64);
        if limit.is_zero() || self.hung.is_some() {
            return;
        }
        let limit = limit.max(SHORTEST);
        let factor = if self.loading.is_empty() { 1 } else { LOADING };
        let why = if self.heard.elapsed() > limit.min(LONGEST_SILENCE) {
            "no longer answers"
        } else if self.busy > limit * factor {
            "does not come to the end of its work"
        } else {
            return;
        };
        self.hung = Some(why);
        let id = self.child.id();
        pgrx::warning!("pgclip: the encoder with process id {id} {why}; killing it");
        let _ = self.child.kill();
    }
}

/// How many processes the kernel has killed for want of memory, here and in the server's control
/// groups; what cannot be read counts for nothing.
fn memory_kills() -> u64 {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let counts = lethal::memory_files(&groups)
        .into_iter()
        .filter_map(|file| lethal::memory_kills(&std::fs::read_to_string(file).ok()?));
    counts.sum()
}

/// Reads what is there, at most a chunk; the stream is closed at its end.
fn read(stream: &mut Option<impl Read>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; CHUNK];
    match stream.as_mut()?.read(&mut bytes) {
        Ok(0) => *stream = None,
        Ok(count) => {
            bytes.truncate(count);
            return Some(bytes);
        }
        Err(error)
            if [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::Interrupted]
                .contains(&error.kind()) => {}
        Err(_) => *stream = None,
    }
    None
}

fn say((level, line): (Level, String)) {
    match level {
        Level::Debug => pgrx::debug1!("pgclip encoder: {line}"),
        Level::Info => pgrx::log!("pgclip encoder: {line}"),
        Level::Warning => pgrx::warning!("pgclip encoder: {line}"),
    }
}
