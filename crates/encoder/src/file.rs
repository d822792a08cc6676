//! Images that lie in files: opened beneath a directory that an administrator registered, and
//! nowhere else. Its own file, since what a path may be is decided here, by the kernel, at the
//! moment of opening; a check of its text could be overtaken by a rename.

use crate::confine::Confinement;
use pgclip_wire::protocol::{ErrorKind, ItemError};
use std::ffi::CString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// A regular file beneath a root, opened.
#[derive(Debug)]
pub struct Opened<'a> {
    pub file: File,
    path: &'a str,
    before: Metadata,
}

/// Opens the regular file `path` beneath the directory `root`, of at most `most` bytes.
pub fn open<'a>(
    root: &str,
    path: &'a str,
    most: usize,
    confinement: &Confinement,
) -> Result<Opened<'a>, ItemError> {
    let error = |kind, what: String| error(path, kind, what);
    let failed = |cause: io::Error| failed(path, cause);
    // O_PATH: a confined process that may read what is in a root may not always list it.
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let directory =
        OpenOptions::new().read(true).custom_flags(flags).open(root).map_err(|cause| {
            let message = format!("the root of file \"{path}\" cannot be opened: {cause}");
            ItemError { kind: ErrorKind::FileNotFound, message }
        })?;
    let name = CString::new(path)
        .map_err(|_| error(ErrorKind::FileRefused, "has a zero byte in its name".into()))?;
    // A look without opening first, since opening a device may do something to it.
    let look =
        File::from(open_beneath(directory.as_raw_fd(), &name, libc::O_PATH).map_err(failed)?);
    let found = look.metadata().map_err(failed)?;
    check_regular(&found).map_err(|what| error(ErrorKind::FileRefused, what))?;
    // The file that was found beneath the root, so that no path makes the process end in vain.
    if let Ok(real) = fs::read_link(format!("/proc/self/fd/{}", look.as_raw_fd()))
        && !confinement.may_read(&real)
    {
        let what = "lies in a directory of the server's own".into();
        return Err(error(ErrorKind::FileRefused, what));
    }
    // O_NONBLOCK: a pipe that took its place meanwhile does not wait for a writer.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::from(open_beneath(directory.as_raw_fd(), &name, flags).map_err(failed)?);
    let before = file.metadata().map_err(failed)?;
    check_regular(&before).map_err(|what| error(ErrorKind::FileRefused, what))?;
    if before.len() > most as u64 {
        let what = format!("has {} bytes, the limit is {most} bytes", before.len());
        return Err(error(ErrorKind::ImageTooLarge, what));
    }
    Ok(Opened { file, path, before })
}

impl Opened<'_> {
    /// Its length in bytes when it was opened.
    pub fn length(&self) -> u64 {
        self.before.len()
    }

    /// What a look into it failed by.
    pub fn failed(&self, cause: io::Error) -> ItemError {
        failed(self.path, cause)
    }

    /// All its bytes, as they were from the moment of opening on.
    pub fn read(self) -> Result<Vec<u8>, ItemError> {
        self.read_with(|| ())
    }

    /// `between` is called between the first look at the file and its end.
    fn read_with(self, between: impl FnOnce()) -> Result<Vec<u8>, ItemError> {
        let Self { mut file, path, before } = self;
        let failed = |cause: io::Error| failed(path, cause);
        file.rewind().map_err(failed)?;
        let mut bytes = Vec::with_capacity(before.len() as usize + 1);
        between();
        (&mut file).take(before.len() + 1).read_to_end(&mut bytes).map_err(failed)?;
        let after = file.metadata().map_err(failed)?;
        let version = |data: &Metadata| {
            (data.len(), data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec())
        };
        if version(&before) != version(&after) || bytes.len() as u64 != before.len() {
            let what = "was changed while it was read".into();
            return Err(error(path, ErrorKind::FileChanged, what));
        }
        Ok(bytes)
    }
}

fn error(path: &str, kind: ErrorKind, what: String) -> ItemError {
    ItemError { kind, message: format!("file \"{path}\" {what}") }
}

fn failed(path: &str, cause: io::Error) -> ItemError {
    let (kind, what) = match cause.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => (ErrorKind::FileNotFound, "does not exist"),
        Some(libc::EXDEV) => (ErrorKind::FileRefused, "lies outside of its root"),
        Some(libc::ELOOP) => (ErrorKind::FileRefused, "is a link, or is reached through one"),
        Some(libc::ENOSYS) => {
            (ErrorKind::FileRefused, "cannot be opened safely: that needs Linux 5.6 or later")
        }
        _ => return error(path, ErrorKind::FileRefused, format!("cannot be read: {cause}")),
    };
    error(path, kind, what.into())
}

fn check_regular(found: &Metadata) -> Result<(), String> {
    let kind = match found.mode() & libc::S_IFMT {
        libc::S_IFREG => return Ok(()),
        libc::S_IFDIR => "a directory",
        libc::S_IFIFO => "a pipe",
        libc::S_IFSOCK => "a socket",
        libc::S_IFLNK => "a link",
        _ => "a device",
    };
    Err(format!("is {kind}"))
}

/// Opens a path that the kernel does not let leave the directory, nor pass a link.
fn open_beneath(directory: RawFd, path: &CString, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: all bytes zero is a valid value of this plain structure.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    loop {
        // SAFETY: the path is a C string, the structure has the length that is given.
        let opened = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                directory,
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if opened >= 0 {
            // SAFETY: the call has just made the descriptor, and nobody else has it.
            return Ok(unsafe { OwnedFd::from_raw_fd(opened as RawFd) });
        }
        let error = io::Error::last_os_error();
        // EAGAIN: something was renamed on the way.
        if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn read(
        root: &str,
        path: &str,
        most: usize,
        confinement: &Confinement,
    ) -> Result<Vec<u8>, ItemError> {
        open(root, path, most, confinement)?.read()
    }

    #[test]
    fn only_regular_files_beneath_the_root_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/in.jpg"), "inside").unwrap();
        fs::write(folder.path().join("out.jpg"), "outside").unwrap();
        fs::write(root.join("large"), [0; 101]).unwrap();
        symlink("a/b/in.jpg", root.join("link.jpg")).unwrap();
        symlink("a", root.join("folder")).unwrap();
        symlink("/proc/self", root.join("magic")).unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        let pipe = CString::new(root.join("pipe").to_str().unwrap()).unwrap();
        // SAFETY: a C string.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let root = root.to_str().unwrap();
        for good in ["a/b/in.jpg", "./a//b/in.jpg", "a/../a/b/in.jpg"] {
            assert_eq!(
                read(root, good, 100, &Confinement::none()),
                Ok(b"inside".to_vec()),
                "{good}"
            );
        }
        let absolute = format!("{root}/a/b/in.jpg");
        for (path, kind, told) in [
            ("../out.jpg", ErrorKind::FileRefused, "lies outside of its root"),
            ("a/../../out.jpg", ErrorKind::FileRefused, "lies outside of its root"),
            (&absolute, ErrorKind::FileRefused, "lies outside of its root"),
            ("/dev/zero", ErrorKind::FileRefused, "lies outside of its root"),
            ("link.jpg", ErrorKind::FileRefused, "is a link, or is reached through one"),
            ("folder/b/in.jpg", ErrorKind::FileRefused, "is a link, or is reached through one"),
            ("magic/root/etc/passwd", ErrorKind::FileRefused, "is a link"),
            ("pipe", ErrorKind::FileRefused, "is a pipe"),
            ("socket", ErrorKind::FileRefused, "is a socket"),
            ("a", ErrorKind::FileRefused, "is a directory"),
            (".", ErrorKind::FileRefused, "is a directory"),
            ("a\0b", ErrorKind::FileRefused, "zero byte"),
            ("", ErrorKind::FileNotFound, "does not exist"),
            ("a/none.jpg", ErrorKind::FileNotFound, "does not exist"),
            ("a/b/in.jpg/x", ErrorKind::FileNotFound, "does not exist"),
            ("large", ErrorKind::ImageTooLarge, "has 101 bytes, the limit is 100 bytes"),
        ] {
            let error = read(root, path, 100, &Confinement::none()).unwrap_err();
            assert!(error.kind == kind && error.message.contains(told), "{path}: {error:?}");
        }
        let error = read("/nowhere/at/all", "x", 100, &Confinement::none()).unwrap_err();
        assert!(error.message.contains("root of file \"x\" cannot be opened"), "{error:?}");
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (root, path) = (folder.path().to_str().unwrap(), folder.path().join("x"));
        fs::write(&path, "content").unwrap();
        let append =
            || fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        let truncate = || File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
        for change in [&append as &dyn Fn(), &truncate] {
            let opened = open(root, "x", 100, &Confinement::none()).unwrap();
            let error = opened.read_with(change).unwrap_err();
            assert_eq!(error.kind, ErrorKind::FileChanged, "{error:?}");
        }
    }
}
