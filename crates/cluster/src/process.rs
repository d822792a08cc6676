//! The processes that live in a cluster, read from /proc (Linux): what the tests of crashes and
//! shutdowns look at.

use std::fs;
use std::path::Path;

/// A process whose working folder is a cluster's data directory: the postmaster, its children,
/// and the encoder that one of them started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// The kernel's name for it, at most 15 bytes.
    pub name: String,
}

impl Process {
    /// Sends a signal, for example `libc::SIGKILL`.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes any numbers; a process that is gone is an error that we ignore.
        unsafe { libc::kill(self.pid as i32, signal) };
    }
}

/// All processes whose working folder is `folder`.
pub(crate) fn living_in(folder: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<Process> = entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            if fs::read_link(entry.path().join("cwd")).ok()? != folder {
                return None;
            }
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            Some(Process { pid, name: name.trim_end().to_owned() })
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}
