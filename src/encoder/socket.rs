//! The encoder's socket as a backend sees it: never blocking, waited for with the process latch, so
//! that cancel requests, timeouts and a dying server get through at once.

use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pgrx::pg_sys;

use crate::place;

/// Connects without waiting, which `UnixStream::connect` does while the listener's queue is full.
pub fn connect() -> io::Result<UnixStream> {
    // SAFETY: the address is zeroed, then filled up to its last byte, which stays 0; a socket that
    // was just made belongs to nobody else.
    unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let fd = libc::socket(libc::AF_UNIX, kind, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let stream = UnixStream::from_raw_fd(fd);
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in address.sun_path.iter_mut().zip(place::SOCKET.bytes()) {
            *to = from as libc::c_char;
        }
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        if libc::connect(fd, (&raw const address).cast(), length) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stream)
    }
}

/// Reads what is there. `Ok(0)`: nothing yet; the end of the stream is an error.
pub fn read(stream: &UnixStream, into: &mut [u8]) -> io::Result<usize> {
    match (&mut &*stream).read(into) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if is_transient(&error) => Ok(0),
        other => other,
    }
}

/// Writes what the socket takes now.
pub fn write(stream: &UnixStream, from: &[u8]) -> io::Result<usize> {
    match (&mut &*stream).write(from) {
        Err(error) if is_transient(&error) => Ok(0),
        other => other,
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Waits until the socket can be read (or written), then serves interrupts, which may raise.
pub fn wait(socket: RawFd, writable: bool) {
    wait_at_most(socket, writable, None);
}

/// The same, for a time.
pub fn wait_at_most(socket: RawFd, writable: bool, time: Option<Duration>) {
    let mut events =
        pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | pg_sys::WL_SOCKET_READABLE;
    if writable {
        events |= pg_sys::WL_SOCKET_WRITEABLE;
    }
    if time.is_some() {
        events |= pg_sys::WL_TIMEOUT;
    }
    wait_for(events, socket, time.map_or(-1, |time| time.as_millis() as i64));
}

/// Waits for a while, serving interrupts.
pub fn pause(time: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | pg_sys::WL_TIMEOUT;
    wait_for(events, pg_sys::PGINVALID_SOCKET, time.as_millis() as i64);
}

fn wait_for(events: u32, socket: pg_sys::pgsocket, timeout: i64) {
    // SAFETY: a server process's own latch, on its only thread.
    unsafe {
        let latch = pg_sys::MyLatch;
        let class = pg_sys::PG_WAIT_EXTENSION;
        let woken = pg_sys::WaitLatchOrSocket(latch, events as i32, socket, timeout, class);
        if woken & pg_sys::WL_LATCH_SET as i32 != 0 {
            pg_sys::ResetLatch(latch);
        }
    }
    pgrx::check_for_interrupts!();
}
