//! Confines the process to what encoding needs, by Landlock, as far as the kernel has it: it reads
//! files, except the server's own, and has no network. Its own file because of one question that
//! it has to answer: which files.
//!
//! Models and directories of images may be anywhere, and more of them are registered while the
//! encoder runs; a process that is confined can only give up more. So the rule is the other way
//! round: everything may be read but the data directory, tablespaces, and shared memory in
//! `/dev/shm`. Landlock cannot take away a part of what a rule gives, so there is a rule for each
//! neighbour of those directories and of all directories above them. A neighbour that appears
//! later has no rule: when a model or an image lies there, the encoder ends and the supervisor starts another.

use crate::process;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use pgclip_wire::notice::TOO_NEW;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The newest version of Landlock whose rights were looked at here. On older kernels what they
/// lack is left out.
const KNOWN: ABI = ABI::V7;

/// Where shared memory is, the server's among it.
const SHARED_MEMORY: &str = "/dev/shm";

/// What the process may read, and how far the kernel sees to it.
#[derive(Debug)]
pub struct Confinement {
    /// Directories that are not read, whatever appears in them.
    closed: BTreeSet<PathBuf>,
    /// The roots of what is open; empty when nothing is enforced.
    open: BTreeSet<PathBuf>,
    enforced: bool,
    pub description: String,
}

/// Whether a file or directory can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Open,
    /// It appeared after the process was confined.
    TooNew,
    Closed,
}

impl Confinement {
    /// Confines this thread and those that it starts. `own` is the directory of the socket, of
    /// which the process keeps what it needs to remove it.
    pub fn begin(data: &Path, own: &Path) -> Self {
        let mut closed = closed(data);
        let mut open = BTreeSet::new();
        survey(Path::new("/"), &mut closed, &mut open);
        let (enforced, description) = match restrict(&open, own) {
            Ok(told) => told,
            Err(error) => (false, format!("landlock failed: {error}")),
        };
        Self { closed, open, enforced, description: format!("no new privileges, {description}") }
    }

    /// No confinement: for a process that people start by hand.
    pub fn none() -> Self {
        let description = String::new();
        Self { closed: BTreeSet::new(), open: BTreeSet::new(), enforced: false, description }
    }

    /// Whether the process may read what lies at `path`. It ends where the next one can.
    pub fn may_read(&self, path: &Path) -> bool {
        match self.reach(path) {
            Reach::Open => true,
            Reach::Closed => false,
            Reach::TooNew => {
                let path = path.display();
                tracing::info!("\"{path}\" is new: ending, so that the next can read it");
                process::end(TOO_NEW)
            }
        }
    }

    /// Whether what lies at `path` can be read.
    fn reach(&self, path: &Path) -> Reach {
        // Looking up paths is not restricted, reading is.
        let Ok(path) = path.canonicalize() else { return Reach::Open };
        if !self.enforced || path.ancestors().any(|above| self.open.contains(above)) {
            Reach::Open
        } else if path.ancestors().any(|above| self.closed.contains(above)) {
            Reach::Closed
        } else {
            Reach::TooNew
        }
    }
}

/// Directories that are not read: as they are called without links.
fn closed(data: &Path) -> BTreeSet<PathBuf> {
    let tablespaces = fs::read_dir(data.join("pg_tblspc")).into_iter().flatten().flatten();
    let tablespaces = tablespaces.map(|entry| entry.path());
    let all = [data.to_owned(), data.join("pg_wal"), SHARED_MEMORY.into()];
    all.into_iter().chain(tablespaces).filter_map(|path| path.canonicalize().ok()).collect()
}

/// Collects the highest paths below `path` that have nothing closed in them. A directory that
/// would have to be looked through and can't be is closed as a whole.
fn survey(path: &Path, closed: &mut BTreeSet<PathBuf>, open: &mut BTreeSet<PathBuf>) {
    if closed.contains(path) {
        return;
    }
    if !closed.iter().any(|other| other.starts_with(path)) {
        open.insert(path.to_owned());
        return;
    }
    let Ok(entries) = fs::read_dir(path) else {
        closed.insert(path.to_owned());
        return;
    };
    for entry in entries.flatten() {
        // A link leads somewhere that has its own rule.
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            survey(&entry.path(), closed, open);
        }
    }
}

/// Makes the rules and takes them upon this thread. Whether they hold, and in words.
fn restrict(open: &BTreeSet<PathBuf>, own: &Path) -> anyhow::Result<(bool, String)> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    let read: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    // GPUs are files that are written to and spoken to.
    let device = read | make_bitflags!(AccessFs::{WriteFile | IoctlDev});
    for path in open {
        let access = if path.starts_with("/dev") { device } else { read };
        ruleset = allow(ruleset, path, access)?;
    }
    // CUDA names its threads, and sees what memory there is.
    ruleset = allow(ruleset, Path::new("/proc/self"), read | AccessFs::WriteFile)?;
    ruleset = allow(ruleset, own, make_bitflags!(AccessFs::{RemoveFile}))?;
    let status = ruleset.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => (false, "no landlock in this kernel".into()),
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => {
            let version = kernel_abi.unwrap_or(effective_abi as i32);
            let network = if version >= 4 { ", no TCP" } else { "" };
            let scope = if version >= 6 { ", no signals" } else { "" };
            (
                true,
                format!("landlock {version}: files outside the server read-only{network}{scope}"),
            )
        }
        (_, other) => (true, format!("landlock {other:?}")),
    })
}

/// Adds a rule. A path that is gone or closed to us needs none.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> anyhow::Result<RulesetCreated> {
    let Ok(found) = PathFd::new(path) else { return Ok(ruleset) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    Ok(ruleset.add_rule(PathBeneath::new(found, access))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    #[test]
    fn everything_is_open_but_what_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        for directory in ["a/data/base", "a/models", "b", "tablespace", "a/data/pg_tblspc"] {
            fs::create_dir_all(top.join(directory)).unwrap();
        }
        let link = |to: &str, at: &str| {
            std::os::unix::fs::symlink(top.join(to), top.join(at)).unwrap();
        };
        link("tablespace", "a/data/pg_tblspc/16400");
        link("a/data", "b/sly");
        let mut closed = closed(&top.join("a/data"));
        let mut open = BTreeSet::new();
        survey(&top, &mut closed, &mut open);
        assert_eq!(open, ["a/models", "b"].map(|path| top.join(path)).into());
        let confinement = Confinement { closed, open, enforced: true, description: String::new() };
        fs::create_dir(top.join("a/later")).unwrap();
        for (path, expected) in [
            ("a/models", Reach::Open),
            ("b", Reach::Open),
            ("a/later", Reach::TooNew),
            ("a/data", Reach::Closed),
            ("a/data/base", Reach::Closed),
            ("b/sly/base", Reach::Closed),
            ("tablespace", Reach::Closed),
            // What is not there is not found, as ever.
            ("nowhere", Reach::Open),
        ] {
            assert_eq!(confinement.reach(&top.join(path)), expected, "{path}");
        }
    }

    /// Which version of Landlock this kernel has, asked for without the crate; 0: none.
    fn version() -> i64 {
        // SAFETY: with no attributes and this flag the call reads and writes nothing.
        let version = unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, 1_u32)
        };
        version.max(0)
    }

    /// What is claimed is what the kernel offers, and what the kernel then does.
    #[test]
    fn the_kernel_keeps_the_process_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        for directory in ["data/own", "models"] {
            fs::create_dir_all(top.join(directory)).unwrap();
        }
        for file in ["data/secret", "data/own/socket", "models/clip.json"] {
            fs::write(top.join(file), "text").unwrap();
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = child.id() as libc::pid_t;
        let at = |path: &str| top.join(path);
        // It holds for the thread that begins it.
        std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let confinement = Confinement::begin(&at("data"), &at("data/own"));
                let version = version();
                let enforced = version > 0;
                assert_eq!(confinement.enforced, enforced, "{}", confinement.description);
                let claim =
                    if enforced { format!("landlock {version}") } else { "no landlock".into() };
                assert!(confinement.description.contains(&claim), "{}", confinement.description);
                let denied = |result: std::io::Result<()>| match result {
                    Ok(()) => false,
                    Err(error) => {
                        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{error}");
                        true
                    }
                };
                assert!(!denied(fs::read(at("models/clip.json")).map(drop)));
                assert!(!denied(fs::read_dir(at("models")).map(drop)));
                assert_eq!(denied(fs::read(at("data/secret")).map(drop)), enforced);
                // Nor by way of a root that has a directory of the server's in it.
                let root = top.to_str().unwrap();
                let image = |path: &str| file::open(root, path, 100, &confinement)?.read();
                assert_eq!(image("models/clip.json"), Ok(b"text".to_vec()));
                assert_eq!(image("data/secret").is_err(), enforced);
                assert_eq!(denied(fs::read_dir(at("data")).map(drop)), enforced);
                assert_eq!(denied(fs::read_dir(SHARED_MEMORY).map(drop)), enforced);
                assert_eq!(denied(fs::write(at("models/new"), "")), enforced);
                assert_eq!(denied(fs::remove_file(at("models/clip.json"))), enforced);
                assert!(!denied(fs::remove_file(at("data/own/socket"))));
                let run = std::process::Command::new("/bin/true").status().map(drop);
                assert_eq!(denied(run), enforced);
                let connected = std::net::TcpStream::connect(address).map(drop);
                assert_eq!(denied(connected), version >= 4);
                // SAFETY: kill takes any numbers.
                let signalled = match unsafe { libc::kill(id, 0) } {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                };
                assert_eq!(denied(signalled), version >= 6);
            });
            let done = confined.join();
            child.kill().unwrap();
            child.wait().unwrap();
            done.unwrap();
        });
    }
}
