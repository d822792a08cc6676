//! Where things lie: the encoder's files in the data directory (relative to it, since every server
//! process works there and socket paths end at 107 bytes), its program and the built-in models.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use pgrx::pg_sys;

use crate::settings;

/// Directory of the encoder's files, mode 0700.
pub const DIRECTORY: &str = "pgclip";
/// The Unix socket that the encoder listens on.
pub const SOCKET: &str = "pgclip/encoder.sock";
/// Locked by the one supervisor as long as it lives.
pub const LOCK: &str = "pgclip/supervisor.lock";
/// Why the encoder could not be started; absent while it runs.
pub const FAILURE: &str = "pgclip/failure";

/// What to do about files of ours that are not what they should be.
pub const REMEDY: &str = "Stop the server, remove \"pgclip\" from its data directory, and start it: \
    there is no data in it.";

/// What is wrong with the files of ours in the data directory, if anything is.
pub fn damage() -> Option<String> {
    type Is = fn(&std::fs::FileType) -> bool;
    let expected: [(&str, &str, Is); 4] = [
        (DIRECTORY, "no directory", |kind| kind.is_dir()),
        (LOCK, "no regular file", |kind| kind.is_file()),
        (FAILURE, "no regular file", |kind| kind.is_file()),
        (SOCKET, "no socket", |kind| kind.is_socket()),
    ];
    expected.into_iter().find_map(|(path, what, is)| {
        let found = std::fs::symlink_metadata(path).ok()?.file_type();
        (!is(&found)).then(|| format!("\"{path}\" in the data directory is {what}"))
    })
}

/// The encoder's program.
pub fn encoder() -> PathBuf {
    match settings::text(&settings::ENCODER_PATH) {
        Some(path) => path.into(),
        None => server_program().with_file_name("pgclip-encoder"),
    }
}

/// ONNX Runtime's library.
pub fn onnxruntime() -> PathBuf {
    match settings::text(&settings::ONNXRUNTIME_PATH) {
        Some(path) => path.into(),
        // SAFETY: the server fills this array at its start and never writes it again.
        None => unsafe { path_of(&raw const pg_sys::pkglib_path) }.join("pgclip/libonnxruntime.so"),
    }
}

/// Directory of a model that came with the extension.
pub fn builtin_model(name: &str) -> PathBuf {
    let mut share = [0; pg_sys::MAXPGPATH as usize];
    // SAFETY: the function writes at most MAXPGPATH bytes with a NUL; `my_exec_path` is set.
    let share = unsafe {
        pg_sys::get_share_path((&raw const pg_sys::my_exec_path).cast(), share.as_mut_ptr());
        path_of(&raw const share)
    };
    share.join("pgclip/models").join(name)
}

/// The server's own program, links resolved.
fn server_program() -> PathBuf {
    // SAFETY: the server fills this array at its start and never writes it again.
    unsafe { path_of(&raw const pg_sys::my_exec_path) }
}

/// Copies a path out of an array of characters.
///
/// # Safety
/// `chars` must point to a NUL-terminated string.
unsafe fn path_of<const N: usize>(chars: *const [std::ffi::c_char; N]) -> PathBuf {
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(chars.cast()) };
    Path::new(OsStr::from_bytes(text.to_bytes())).to_path_buf()
}
