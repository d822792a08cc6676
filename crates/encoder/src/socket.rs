//! The listening socket, and the lock that makes the encoder the only one on it. Its own
//! file because the order of its steps is what keeps two encoders from taking a socket
//! from each other: the lock first, then the old socket away, then the new one.

use anyhow::{Context, bail};
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long to wait for the lock: a predecessor that was told to end may still hold it.
const PATIENCE: Duration = Duration::from_secs(3);

/// A socket that is listened on by nobody else. The lock goes with the process.
#[derive(Debug)]
pub struct Socket {
    pub listener: UnixListener,
    path: PathBuf,
    _lock: File,
}

impl Socket {
    /// Takes the lock beside `path` and listens, mode 0600, in place of any socket that a
    /// dead process left. Call it before any thread is started: it changes the umask.
    pub fn listen(path: &Path) -> anyhow::Result<Self> {
        let lock = lock(&path.with_added_extension("lock"))?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                bail!("\"{}\" is there and is no socket", path.display())
            }
            Ok(_) => fs::remove_file(path)
                .with_context(|| format!("could not remove the old \"{}\"", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
        // SAFETY: umask can't fail, and no other thread creates files meanwhile.
        let umask = unsafe { libc::umask(0o177) };
        let listener = UnixListener::bind(path);
        // SAFETY: as above.
        unsafe { libc::umask(umask) };
        let listener =
            listener.with_context(|| format!("could not listen on \"{}\"", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }
}

impl Drop for Socket {
    /// Removes the socket, while the lock is still held.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("could not open the lock file \"{}\"", path.display()))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(path).unwrap_or_default();
                bail!("another encoder (process {}) holds \"{}\"", pid.trim(), path.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("could not lock {}", path.display()));
            }
        }
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}
