//! A private PostgreSQL cluster, for the demo, the tests and the benches.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let cluster = pgclip_cluster::Cluster::builder("example").preload(true).start()?;
//! let mut client = cluster.connect()?;
//! client.batch_execute("CREATE EXTENSION pgclip")?;
//! # Ok(())
//! # }
//! ```
//!
//! The cluster listens on a Unix socket only, writes nothing outside its folder and its socket's,
//! and stops when it is dropped. Any number may run at once. If we are root it runs under an
//! unprivileged [`Account`], from a copy of the server if that account cannot reach the checkout.

mod account;
mod builder;
mod process;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use postgres::{Client, NoTls};

pub use account::{ACCOUNT_VARIABLE, Account};
pub use builder::Builder;
pub use process::Process;
pub use server::{STAGE_VARIABLE, Server, workspace};

/// The superuser of every cluster.
pub const SUPERUSER: &str = "postgres";

/// How a server is asked to stop; `pg_ctl`'s modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Sessions are ended, a checkpoint is written.
    Fast,
    /// As in a crash: recovery follows at the next start.
    Immediate,
}

/// A running (or stopped) cluster.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    account: Account,
    /// Holds `data` and `log`.
    folder: PathBuf,
    sockets: PathBuf,
    environment: Vec<(String, String)>,
    /// Stays, and runs on, when this value is dropped.
    kept: bool,
}

impl Cluster {
    /// Describes a cluster; `name` is for people who look at the folders.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// The server's programs.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The account that the server runs under.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The folder of the Unix socket: the `host` of a connection.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(&self) -> Result<()> {
        let from = self.log().len();
        let started = self
            .control()
            .arg("--log")
            .arg(self.folder.join("log"))
            .args(["--wait", "--timeout=60", "--silent", "start"])
            .output()
            .context("cannot run pg_ctl")?;
        if !started.status.success() {
            let said = String::from_utf8_lossy(&started.stderr).into_owned();
            let log = self.log();
            bail!("the server does not start: {said}\n{}", log.get(from..).unwrap_or(&log));
        }
        Ok(())
    }

    /// Stops the server and waits until it is gone.
    pub fn stop(&self, how: Shutdown) -> Result<()> {
        let mode = match how {
            Shutdown::Fast => "--mode=fast",
            Shutdown::Immediate => "--mode=immediate",
        };
        let stopped =
            self.control().args([mode, "--wait", "--timeout=60", "--silent", "stop"]).output()?;
        ensure!(
            stopped.status.success(),
            "the server does not stop: {}\n{}",
            String::from_utf8_lossy(&stopped.stderr),
            self.log()
        );
        Ok(())
    }

    /// Stops (fast) and starts the server.
    pub fn restart(&self) -> Result<()> {
        self.stop(Shutdown::Fast)?;
        self.start()
    }

    /// Kills the postmaster as a power failure would, and waits until all its processes are gone.
    pub fn kill(&self) -> Result<()> {
        let pid = self.postmaster()?;
        Process { pid, name: "postgres".into() }.signal(libc::SIGKILL);
        let lives = Path::new("/proc").join(pid.to_string());
        self.wait_for("every process to end", || Ok(!lives.exists() && self.processes().is_empty()))
    }

    /// Is the postmaster there?
    pub fn is_running(&self) -> bool {
        self.control().arg("status").output().is_ok_and(|output| output.status.success())
    }

    /// The postmaster's process id.
    pub fn postmaster(&self) -> Result<u32> {
        let file = fs::read_to_string(self.data().join("postmaster.pid"))
            .context("the server does not run")?;
        file.lines().next().and_then(|pid| pid.parse().ok()).context("postmaster.pid has no number")
    }

    /// The cluster's processes (the encoder among them), by process id.
    pub fn processes(&self) -> Vec<Process> {
        process::living_in(&self.data())
    }

    /// The encoder's processes: one, or none while it does not run.
    pub fn encoders(&self) -> Vec<Process> {
        let mut processes = self.processes();
        processes.retain(|process| process.name == "pgclip-encoder");
        processes
    }

    /// Opens a session in the database `postgres` as superuser.
    pub fn connect(&self) -> Result<Client> {
        self.connect_as(SUPERUSER, "postgres")
    }

    /// Opens a session.
    pub fn connect_as(&self, user: &str, database: &str) -> Result<Client> {
        let client = postgres::Config::new()
            .host_path(&self.sockets)
            .user(user)
            .dbname(database)
            .application_name("pgclip-cluster")
            .connect(NoTls);
        client.with_context(|| format!("cannot connect to {database} as {user}"))
    }

    /// A client program of the server (`psql`, `pg_dump`, …), set up by environment variables to
    /// connect to `database` as superuser.
    pub fn client_program(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(self.server.program(program));
        command
            .env("PGHOST", &self.sockets)
            .env("PGPORT", "5432")
            .env("PGUSER", SUPERUSER)
            .env("PGDATABASE", database)
            .env("PGCLIENTENCODING", "UTF8")
            .env("LC_ALL", "C");
        command
    }

    /// The line a person types to open a session.
    pub fn psql_line(&self, database: &str) -> String {
        let (psql, host) = (self.server.program("psql"), self.sockets.display());
        format!("{} -h {host} -U {SUPERUSER} {database}", psql.display())
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks `done` again and again for up to a minute; an error with the server's log if `what`
    /// does not come about.
    pub fn wait_for(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while !done()? {
            if Instant::now() > until {
                bail!("waited in vain for {what}; the server's log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn control(&self) -> Command {
        let mut command = self.account.command(self.server.program("pg_ctl"));
        command.arg("--pgdata").arg(self.data());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if self.is_running() {
            // Nobody is left to tell of a failure.
            let _ = self.stop(Shutdown::Immediate);
        }
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_dir_all(&self.sockets);
    }
}
