//! A streaming replica of a test's cluster.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::{Cluster, SUPERUSER};
use postgres::{Client, NoTls};

use crate::value;

const PORT: u16 = 5433;

/// A replica of a cluster, in its folder; stopped when this is dropped.
pub struct Replica<'a> {
    primary: &'a Cluster,
    folder: PathBuf,
}

impl<'a> Replica<'a> {
    pub fn of(primary: &'a Cluster) -> Result<Self> {
        let folder =
            primary.data().parent().context("the data directory has a parent")?.join("replica");
        let backup = primary
            .account()
            .command(primary.server().program("pg_basebackup"))
            .arg("--pgdata")
            .arg(&folder)
            .args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
                "--username",
                SUPERUSER,
            ])
            .arg("--host")
            .arg(primary.sockets())
            .output()?;
        ensure!(backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));
        let replica = Self { primary, folder };
        let started = replica
            .control()
            .arg("--log")
            .arg(replica.log())
            .arg("--options")
            .arg(format!("-c port={PORT}"))
            .args(["--wait", "--timeout=60", "--silent", "start"])
            .output()?;
        ensure!(started.status.success(), "{}", replica.said());
        Ok(replica)
    }

    pub fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn control(&self) -> Command {
        let mut command = self.primary.account().command(self.primary.server().program("pg_ctl"));
        command.arg("--pgdata").arg(&self.folder);
        command
    }

    pub fn connect(&self) -> Result<Client> {
        let client = postgres::Config::new()
            .host_path(self.primary.sockets())
            .port(PORT)
            .user(SUPERUSER)
            .dbname("postgres")
            .connect(NoTls);
        client.with_context(|| self.said())
    }

    /// Waits until the replica has done all that the primary has logged.
    pub fn catch_up(&self, primary: &mut Client, replica: &mut Client) -> Result<()> {
        // What a vacuum logs last is flushed with the next commit of anybody.
        primary.batch_execute("SELECT pg_logical_emit_message(true, '', '')")?;
        let end: String = value(primary, "SELECT pg_current_wal_flush_lsn()::text")?;
        let behind = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        let waited = self.primary.wait_for("the replica", || {
            Ok(replica.query_one(behind, &[&end])?.get::<_, Option<bool>>(0) == Some(true))
        });
        waited.with_context(|| self.said())
    }
}

impl Drop for Replica<'_> {
    fn drop(&mut self) {
        let _ = self.control().args(["--mode=immediate", "--wait", "--silent", "stop"]).output();
    }
}
