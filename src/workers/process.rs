//! The encoder as a child process: its command line, a start that takes nothing of PostgreSQL's
//! along, and its end. Apart from the supervisor, which decides when.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use crate::place;
use crate::settings::{self, DEVICE};

/// How long the encoder has to end by itself. It has nothing to save.
const GRACE: Duration = Duration::from_millis(1000);

/// Program and arguments, as the settings want them now.
pub fn command_line() -> Vec<OsString> {
    // SAFETY: read by the server's only thread, set at its start.
    let connections = unsafe { pg_sys::MaxBackends }.clamp(64, 65_536);
    // SAFETY: as above, but for a reload of the configuration.
    let debug = unsafe { pg_sys::log_min_messages } <= pg_sys::DEBUG1 as i32;
    let mut line: Vec<OsString> = vec![
        place::encoder().into(),
        "serve".into(),
        "--supervised".into(),
        "--log-level".into(),
        if debug { "debug" } else { "info" }.into(),
        // Every server process works there.
        "--data-directory".into(),
        ".".into(),
        "--socket".into(),
        place::SOCKET.into(),
        "--onnxruntime".into(),
        place::onnxruntime().into(),
        "--device".into(),
        DEVICE.get().as_str().into(),
    ];
    for (option, value) in [
        ("--threads", settings::ENCODER_THREADS.get()),
        ("--max-batch", settings::MAX_BATCH.get()),
        ("--max-wait-us", settings::MAX_WAIT_US.get()),
        ("--max-text-wait-us", settings::MAX_TEXT_WAIT_US.get()),
        ("--max-queue", settings::MAX_QUEUE.get()),
        ("--max-memory", settings::MAX_REQUEST_MEMORY.get()),
        ("--max-decode-memory", settings::MAX_DECODE_MEMORY.get()),
        ("--max-models", settings::MAX_MODELS.get()),
        ("--model-idle-timeout", settings::MODEL_IDLE_TIMEOUT.get()),
        ("--max-megapixels", settings::MAX_MEGAPIXELS.get()),
        ("--gpu-memory", settings::GPU_MEMORY_LIMIT.get()),
        ("--max-connections", connections),
    ] {
        line.push(option.into());
        line.push(value.to_string().into());
    }
    if settings::EXIF_ORIENTATION.get() {
        line.push("--exif-orientation".into());
    }
    if settings::SCALED_DECODE.get() {
        line.push("--scaled-decode".into());
    }
    line
}

/// Starts the encoder; what it prints is the supervisor's to read.
pub fn start(line: &[OsString]) -> io::Result<Child> {
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let parent = std::process::id();
    // SAFETY: `leave_postgres` makes system calls alone, which is all that is allowed between
    // fork and exec.
    unsafe { command.pre_exec(move || leave_postgres(parent)) };
    command.spawn()
}

/// Undoes what a child of PostgreSQL inherits: signal mask, handlers and open files. The child
/// dies with its parent.
fn leave_postgres(parent: u32) -> io::Result<()> {
    // SAFETY: system calls with plain arguments; the structures are zeroed, then set.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() as u32 != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) != 0 {
            for fd in 3..1024 {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=libc::SIGRTMAX() {
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        libc::sigprocmask(libc::SIG_SETMASK, &default.sa_mask, std::ptr::null_mut());
    }
    Ok(())
}

/// Ends the encoder: asked first, killed when it does not listen.
pub fn stop(mut child: Child) {
    // SAFETY: the child has not been waited for, so its id is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    if !ends(&mut child) {
        let _ = child.kill();
        // One that a driver holds in the kernel is not waited for: the server has to stop.
        ends(&mut child);
    }
}

/// Whether a process ends within its grace.
fn ends(child: &mut Child) -> bool {
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
