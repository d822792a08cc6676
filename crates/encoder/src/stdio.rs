//! The standard output and error of a supervised encoder: notices and a log that never block, so
//! that a supervisor that is busy holds nothing up. Its own file because it is what the encoder
//! has in place of a terminal.

use pgclip_wire::notice::Notice;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody reads the notices.
static SUPERVISED: AtomicBool = AtomicBool::new(false);

/// From now on notices are written, and nothing waits for whoever reads them or the log.
pub fn supervised() {
    SUPERVISED.store(true, Ordering::Relaxed);
    for fd in [io::stdout().as_raw_fd(), io::stderr().as_raw_fd()] {
        // SAFETY: system calls on descriptors that are open for as long as the process lives.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
        }
    }
}

/// Writes a notice, whole or, where there is no room for it, not at all.
pub fn say(notice: &Notice) {
    if SUPERVISED.load(Ordering::Relaxed) {
        write(io::stdout().as_raw_fd(), notice.to_line().as_bytes());
    }
}

/// The standard error; what finds no room in it is lost.
#[derive(Debug)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(io::stderr().as_raw_fd(), bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(fd: RawFd, bytes: &[u8]) {
    // SAFETY: the pointer and length are those of one slice.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}
