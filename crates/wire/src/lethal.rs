//! Models that end the encoder while they are loaded: whose fault a death was, and for how long a
//! model is refused after it. Its own file, without processes and clocks, since the supervisor
//! decides by it and tests have to.
//!
//! - A crash (a signal that a process raises itself, an exit that is no wish), and a load that hangs,
//!   are the model's. From the third in a row on it is refused for ten minutes; then it is tried
//!   once more, and with each further death refused twice as long, for four hours at most.
//! - Where the kernel ended the encoder for want of memory, the model may be too large, or others
//!   have taken the memory: from the second on it has to pause, at most ten minutes.
//! - A process that somebody killed says nothing about what it was doing.
//!
//! A load that comes to its end, well or with an error, makes all of it forgotten.

use std::time::{Duration, Instant};

use crate::notice::{Load, Named, Refusal, TOO_NEW, Why};

/// Crashes in a row after which a model is refused.
pub const CRASHES: u32 = 3;
/// The first refusal after crashes, and the longest.
const REFUSED: Duration = Duration::from_secs(600);
const LONGEST_REFUSED: Duration = Duration::from_secs(4 * 3600);
/// Deaths for want of memory after which a model has to pause.
pub const SHORTAGES: u32 = 2;
/// The first pause for want of memory, and the longest.
const PAUSED: Duration = Duration::from_secs(60);
const LONGEST_PAUSED: Duration = Duration::from_secs(600);

/// How an encoder came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Signal(i32),
    /// The supervisor killed it, since it hung.
    Hung,
    Unknown,
}

/// Whose doing an end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It ended as it meant to.
    Itself,
    /// What it was doing.
    Work,
    /// The kernel, since memory had run out.
    Memory,
    /// Somebody with a signal.
    Outside,
}

impl Cause {
    /// `memory_ran_out`: the kernel has killed something meanwhile.
    pub fn of(end: End, memory_ran_out: bool) -> Self {
        match end {
            End::Exited(0 | TOO_NEW) => Self::Itself,
            End::Exited(_) | End::Hung => Self::Work,
            // Whoever sends one of these by hand cannot be told apart.
            End::Signal(
                libc::SIGSEGV
                | libc::SIGABRT
                | libc::SIGILL
                | libc::SIGBUS
                | libc::SIGFPE
                | libc::SIGTRAP
                | libc::SIGSYS,
            ) => Self::Work,
            End::Signal(libc::SIGKILL) if memory_ran_out => Self::Memory,
            End::Signal(_) | End::Unknown => Self::Outside,
        }
    }
}

/// The number of processes that the kernel killed for want of memory, in the text of
/// `/proc/vmstat`, `memory.events` or `memory.oom_control`.
pub fn memory_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Where a process's control groups count those, given the text of `/proc/self/cgroup`.
pub fn memory_files(cgroups: &str) -> Vec<String> {
    let mut files = vec!["/proc/vmstat".to_owned(), "/sys/fs/cgroup/memory.events".to_owned()];
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = path.trim_end_matches('/');
        if controllers.is_empty() {
            files.push(format!("/sys/fs/cgroup{path}/memory.events"));
        } else if controllers.split(',').any(|name| name == "memory") {
            files.push(format!("/sys/fs/cgroup/memory{path}/memory.oom_control"));
        }
    }
    files.dedup();
    files
}

/// What the deaths during loads have come to.
#[derive(Debug, Default)]
pub struct Lethal {
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    load: Load,
    crashes: u32,
    shortages: u32,
    /// Refused until then, and why.
    until: Option<(Instant, Why)>,
}

/// A length of time that has doubled `times`, at most `longest`.
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(longest)
}

impl Lethal {
    /// An encoder died during this load. The time for which its model is refused from now on,
    /// where it is.
    pub fn died(&mut self, load: &Load, cause: Cause, now: Instant) -> Option<(Duration, Why)> {
        if matches!(cause, Cause::Itself | Cause::Outside) {
            return None;
        }
        let at = self.records.iter().position(|record| record.load == *load).unwrap_or_else(|| {
            let load = load.clone();
            self.records.push(Record { load, crashes: 0, shortages: 0, until: None });
            self.records.len() - 1
        });
        let record = &mut self.records[at];
        let (time, why) = if cause == Cause::Memory {
            record.shortages += 1;
            let times = record.shortages.checked_sub(SHORTAGES)?;
            (doubled(PAUSED, times, LONGEST_PAUSED), Why::Memory)
        } else {
            record.crashes += 1;
            let times = record.crashes.checked_sub(CRASHES)?;
            (doubled(REFUSED, times, LONGEST_REFUSED), Why::Crash)
        };
        record.until = Some((now + time, why));
        Some((time, why))
    }

    /// A load came to its end.
    pub fn loaded(&mut self, load: &Load) {
        self.records.retain(|record| record.load != *load);
    }

    /// The models that are refused now.
    pub fn refused(&self, now: Instant) -> Vec<Refusal> {
        let mut refusals: Vec<Refusal> = Vec::new();
        for Record { load, until, .. } in &self.records {
            let Some((until, why)) = *until else { continue };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                continue;
            }
            let model: &Named = &load.model;
            match refusals.iter_mut().find(|refusal| refusal.model == *model) {
                Some(other) if other.left >= left => {}
                Some(other) => (other.left, other.why) = (left, why),
                None => refusals.push(Refusal { model: model.clone(), why, left }),
            }
        }
        refusals
    }

    /// Everything is forgotten. Whether anything was refused.
    pub fn clear(&mut self, now: Instant) -> bool {
        let refused = !self.refused(now).is_empty();
        self.records.clear();
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, file: &str) -> Load {
        Load { model: Named { digest: [7; 32], name: name.into() }, file: file.into() }
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    /// An operator's or the kernel's kill once counted as the model's crash.
    #[test]
    fn a_kill_is_told_from_a_crash() {
        use libc::*;
        for signal in [SIGSEGV, SIGABRT, SIGILL, SIGBUS, SIGFPE] {
            assert_eq!(Cause::of(End::Signal(signal), true), Cause::Work, "{signal}");
        }
        for signal in [SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGPIPE, SIGXCPU] {
            assert_eq!(Cause::of(End::Signal(signal), false), Cause::Outside, "{signal}");
        }
        assert_eq!(Cause::of(End::Signal(SIGKILL), true), Cause::Memory);
        assert_eq!(Cause::of(End::Signal(SIGTERM), true), Cause::Outside);
        assert_eq!(Cause::of(End::Hung, true), Cause::Work);
        for (code, cause) in
            [(0, Cause::Itself), (TOO_NEW, Cause::Itself), (1, Cause::Work), (101, Cause::Work)]
        {
            assert_eq!(Cause::of(End::Exited(code), false), cause, "{code}");
        }
    }

    #[test]
    fn kills_from_outside_leave_no_trace() {
        let (mut lethal, now) = (Lethal::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(lethal.died(&load("m", "text.onnx"), Cause::Outside, now), None);
        }
        assert_eq!(lethal.died(&load("m", "text.onnx"), Cause::Work, now), None);
        assert!(lethal.refused(now).is_empty());
    }

    #[test]
    fn a_refusal_ends_and_the_next_is_longer() {
        let (mut lethal, mut now) = (Lethal::default(), Instant::now());
        let model = load("m", "text.onnx");
        let crash = |lethal: &mut Lethal, now| {
            lethal.died(&model, Cause::Work, now).map(|(time, why)| {
                assert_eq!(why, Why::Crash);
                time
            })
        };
        assert_eq!((crash(&mut lethal, now), crash(&mut lethal, now)), (None, None));
        for expected in [10, 20, 40, 80, 160, 240, 240, 240] {
            assert_eq!(crash(&mut lethal, now), Some(minutes(expected)));
            assert_eq!(lethal.refused(now)[0].left, minutes(expected));
            now += minutes(expected);
            assert!(lethal.refused(now).is_empty(), "one more try");
        }
        lethal.loaded(&model);
        assert_eq!(crash(&mut lethal, now), None);
    }

    #[test]
    fn want_of_memory_makes_a_model_pause() {
        let (mut lethal, now) = (Lethal::default(), Instant::now());
        let model = load("m", "image.onnx");
        let mut died = || lethal.died(&model, Cause::Memory, now);
        assert_eq!(died(), None);
        for expected in [1, 2, 4, 8, 10, 10] {
            assert_eq!(died(), Some((minutes(expected), Why::Memory)));
        }
    }

    #[test]
    fn towers_are_judged_apart_and_refused_together() {
        let (mut lethal, now) = (Lethal::default(), Instant::now());
        let (text, image) = (load("m", "text.onnx"), load("m", "image.onnx"));
        for _ in 0..3 {
            lethal.died(&text, Cause::Work, now);
            lethal.loaded(&image);
        }
        for _ in 0..4 {
            lethal.died(&image, Cause::Work, now);
        }
        let refused = lethal.refused(now + minutes(1));
        assert_eq!((refused.len(), refused[0].left), (1, minutes(19)));
        assert!(lethal.clear(now) && !lethal.clear(now));
        assert!(lethal.refused(now).is_empty());
    }

    #[test]
    fn the_kernels_counts_are_found() {
        assert_eq!(memory_kills("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n"), Some(2));
        assert_eq!(memory_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"), Some(5));
        assert_eq!(memory_kills("oom 3\noom_group_kill 1\n"), None);
        let files = memory_files("5:cpu,memory:/docker/a\n1:name=systemd:/x\n0::/system.slice/b\n");
        assert_eq!(files[2], "/sys/fs/cgroup/memory/docker/a/memory.oom_control");
        assert_eq!(files[3], "/sys/fs/cgroup/system.slice/b/memory.events");
        assert_eq!(memory_files("0::/\n").len(), 2);
    }
}
