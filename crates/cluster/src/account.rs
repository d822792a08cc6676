//! The operating-system account a server runs under.
//!
//! PostgreSQL refuses to run as root. When we are root, as in a container, its programs are
//! started under an unprivileged account; otherwise under our own. A file of its own because it
//! alone knows about user ids.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Names another account than `postgres` or `nobody` to run servers under when we are root.
pub const ACCOUNT_VARIABLE: &str = "PGCLIP_ACCOUNT";

/// Who the server's programs run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    /// User and group id to switch to; `None` when we run them as ourselves.
    ids: Option<(u32, u32)>,
}

impl Account {
    /// Our own account, or an unprivileged one if we are root: `PGCLIP_ACCOUNT`, else
    /// `postgres`, else `nobody`.
    pub fn for_server() -> Result<Self> {
        // SAFETY: geteuid has no preconditions and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return Ok(Self { name: "you".into(), ids: None });
        }
        let chosen = std::env::var(ACCOUNT_VARIABLE).ok();
        let names = match &chosen {
            Some(name) => vec![name.as_str()],
            None => vec!["postgres", "nobody"],
        };
        for name in &names {
            if let (Some(user), Some(group)) = (id("-u", name), id("-g", name)) {
                if user == 0 {
                    bail!("{ACCOUNT_VARIABLE}={name} is root, which PostgreSQL does not run as");
                }
                return Ok(Self { name: name.to_string(), ids: Some((user, group)) });
            }
        }
        bail!("no account to run PostgreSQL under: tried {}", names.join(", "))
    }

    /// The account's name, `you` for our own.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Is it another account than ours?
    pub fn is_other(&self) -> bool {
        self.ids.is_some()
    }

    /// A command that runs under this account, in a folder that every account can read.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        // Errors are the same whether or not the developer asks for backtraces.
        command.current_dir("/").stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        if let Some((user, group)) = self.ids {
            command.uid(user).gid(group).env("HOME", "/");
        }
        command
    }

    /// Can this account enter `folder`?
    pub fn reaches(&self, folder: &Path) -> bool {
        let entered = self
            .command("/bin/sh")
            .args(["-c", r#"cd "$1""#, "sh"])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        entered.is_ok_and(|status| status.success())
    }

    /// Makes `folder` (its parents too, which stay ours), owned by and closed to all but this account.
    pub fn make_private(&self, folder: &Path) -> Result<()> {
        let make = || {
            fs::create_dir_all(folder)?;
            if let Some((user, group)) = self.ids {
                chown(folder, Some(user), Some(group))?;
            }
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        };
        make().with_context(|| format!("cannot make the folder {}", folder.display()))
    }

    /// Writes a file that this account can read.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<()> {
        let write = || {
            fs::write(path, text)?;
            match self.ids {
                Some((user, group)) => chown(path, Some(user), Some(group)),
                None => Ok(()),
            }
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The user (`-u`) or primary group (`-g`) id of a named account, if there is such an account.
fn id(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([option, name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
