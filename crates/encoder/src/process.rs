//! What the process does to itself before it serves: it dies with its parent, is the first
//! to go when memory is short, and gives up what it does not need. Its own file because
//! every line of it is a system call.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// How likely the kernel picks this process when memory is out: 1000 is the most.
const OOM_SCORE: &str = "800";

/// Ties the process to its parent and lowers its rights. What the system lacks is left.
pub fn restrict(connections: u32) {
    // SAFETY: prctl with these integer arguments touches no memory of ours.
    unsafe {
        // Not a signal that a hung process would leave unread.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
    if let Err(error) = fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        tracing::debug!("could not set oom_score_adj: {error}");
    }
    // No core dumps: they would hold images.
    set_limit(libc::RLIMIT_CORE, |limit| limit.rlim_cur = 0);
    // A descriptor for each connection, and some for everything else.
    set_limit(libc::RLIMIT_NOFILE, |limit| {
        limit.rlim_cur = limit.rlim_max.min(limit.rlim_cur.max(u64::from(connections) + 64));
    });
}

/// Has this thread give way to others where there are too few processors: at a third of their weight,
/// so that what it does comes to its end all the same.
pub fn give_way() {
    // SAFETY: a system call with plain numbers. Linux keeps this value by thread; 0 is this one.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) };
}

/// Gives memory that was freed back to the system, which the C library else keeps for what comes.
pub fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a call with a plain number, which any thread may make.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn set_limit(resource: libc::__rlimit_resource_t, change: impl FnOnce(&mut libc::rlimit)) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a whole rlimit.
    unsafe {
        if libc::getrlimit(resource, &mut limit) == 0 {
            change(&mut limit);
            libc::setrlimit(resource, &limit);
        }
    }
}

/// Ends the process at once, without the destructors of what its threads are using.
pub fn end(code: i32) -> ! {
    // SAFETY: _exit runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// CPU time that all threads have taken together, of their own and the kernel's.
pub fn cpu_time() -> Duration {
    // SAFETY: getrusage fills in the whole of the zeroed structure.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// A descriptor that becomes readable when the process is told to end. Call it before any
/// thread is started: the signals are blocked in this thread and those it starts.
pub fn end_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is read; a descriptor that
    // signalfd has just made belongs to nobody else.
    unsafe {
        let mut signals = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            libc::sigaddset(&mut signals, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut());
        owned(libc::signalfd(-1, &signals, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))
    }
}

/// A descriptor that other threads make readable.
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a descriptor that eventfd has just made belongs to nobody else.
        unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }.map(Self)
    }

    /// Makes it readable.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes from an array of eight. It fails only when the counter
        // is full, and then the descriptor is readable already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // SAFETY: reads eight bytes into an array of eight.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// # Safety
/// `fd` is negative, with errno set, or a descriptor that nobody else owns.
unsafe fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller says so.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
