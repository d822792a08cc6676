//! Making a cluster: its folders, `initdb` (once for each server, then a copy), its settings.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::server::reachable_folder;
use crate::{Account, Cluster, SUPERUSER, Server, Shutdown, workspace};

/// Sockets end at 107 bytes on Linux, 103 on macOS; `.s.PGSQL.5432` takes 14 of them.
const LONGEST_SOCKET_FOLDER: usize = 85;

/// Describes a [`Cluster`] to start.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    preload: bool,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    kept_in: Option<PathBuf>,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            preload: false,
            settings: Vec::new(),
            environment: Vec::new(),
            kept_in: None,
        }
    }

    /// Load the extension at server start (`shared_preload_libraries`)?
    pub fn preload(mut self, preload: bool) -> Self {
        self.preload = preload;
        self
    }

    /// A setting of the server's configuration.
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// A variable of the server's environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keep the cluster in `folder`, durable and running on when the [`Cluster`] is dropped.
    /// A cluster that is there already is used again.
    pub fn kept_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.kept_in = Some(folder.into());
        self
    }

    /// The cluster kept in the folder of [`Builder::kept_in`] as it is, if there is one.
    pub fn find(&self) -> Result<Option<Cluster>> {
        let cluster = self.describe()?;
        Ok(cluster.data().join("PG_VERSION").exists().then_some(cluster))
    }

    /// Makes the cluster and starts it.
    pub fn start(&self) -> Result<Cluster> {
        let cluster = self.describe()?;
        let version = cluster.data().join("PG_VERSION");
        if version.exists() && cluster.is_running() {
            cluster.stop(Shutdown::Fast)?;
        }
        let found = fs::read_to_string(&version).unwrap_or_default();
        if found.trim() != cluster.server.major().to_string() {
            // None yet, or one of another major version.
            let _ = fs::remove_dir_all(cluster.data());
            cluster.account.make_private(&cluster.folder)?;
            initialise(&cluster)?;
        }
        cluster.account.make_private(&cluster.sockets)?;
        self.write_settings(&cluster)?;
        cluster.start()?;
        Ok(cluster)
    }

    /// The cluster with its folders decided on, nothing made but the parents.
    fn describe(&self) -> Result<Cluster> {
        let account = Account::for_server()?;
        let server = Server::find()?.reachable_by(&account)?;
        let folder = match &self.kept_in {
            Some(folder) => reachable_folder(&account, folder)?,
            None => reachable_folder(&account, &clusters())?.join(self.unique_name()),
        };
        let sockets = socket_folder(&folder)?;
        let (environment, kept) = (self.environment.clone(), self.kept_in.is_some());
        Ok(Cluster { server, account, folder, sockets, environment, kept })
    }

    fn unique_name(&self) -> String {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        format!("{}-{}-{number}", self.name, std::process::id())
    }

    fn write_settings(&self, cluster: &Cluster) -> Result<()> {
        let sockets = cluster.sockets.display().to_string();
        let durable = if cluster.kept { "on" } else { "off" };
        let preload = if self.preload { "pgclip" } else { "" };
        let ours = [
            ("listen_addresses", ""),
            ("unix_socket_directories", &sockets),
            ("port", "5432"),
            ("fsync", durable),
            ("shared_preload_libraries", preload),
            ("log_line_prefix", "%m [%p] %q[%u@%d] "),
        ];
        let theirs = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = String::new();
        for (name, value) in ours.into_iter().chain(theirs) {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        cluster.account.write(&cluster.data().join("pgclip.conf"), &text)
    }
}

/// Where clusters live that are not kept.
fn clusters() -> PathBuf {
    workspace().join("target/clusters")
}

/// A short folder for the socket, the same each time for the same cluster.
fn socket_folder(folder: &Path) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    let name = format!("pgclip-{:016x}", hasher.finish());
    let temporary = std::env::temp_dir().join(&name);
    if temporary.as_os_str().len() <= LONGEST_SOCKET_FOLDER {
        return Ok(temporary);
    }
    let short = Path::new("/tmp").join(name);
    ensure!(
        short.as_os_str().len() <= LONGEST_SOCKET_FOLDER,
        "no folder is short enough for sockets"
    );
    Ok(short)
}

/// Copies a fresh data directory into place. `initdb` takes a second or two, a copy of what it
/// made a tenth, so each server version and account has its own template.
fn initialise(cluster: &Cluster) -> Result<()> {
    let place = reachable_folder(&cluster.account, &clusters())?;
    let owner = cluster.account.name();
    let template = place.join(format!("template-{}-{owner}", cluster.server.version()));
    let lock = File::create(template.with_added_extension("lock"))?;
    lock.lock()?;
    let data = template.join("data");
    if !data.join("pgclip.conf").exists() {
        let _ = fs::remove_dir_all(&template);
        cluster.account.make_private(&template)?;
        let initdb = cluster
            .account
            .command(cluster.server.program("initdb"))
            .arg("--pgdata")
            .arg(&data)
            .args(["--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--no-sync", "--no-instructions"])
            .output()
            .context("cannot run initdb")?;
        ensure!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        let configuration = data.join("postgresql.conf");
        let text = fs::read_to_string(&configuration)?;
        cluster.account.write(&configuration, &(text + "\ninclude 'pgclip.conf'\n"))?;
        // Written last: a template without it is made anew.
        cluster.account.write(&data.join("pgclip.conf"), "")?;
    }
    let copied = cluster.account.command("cp").arg("-R").arg(&data).arg(cluster.data()).output()?;
    ensure!(copied.status.success(), "cp: {}", String::from_utf8_lossy(&copied.stderr));
    Ok(())
}
