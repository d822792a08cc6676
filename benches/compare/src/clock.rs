//! What time is told by: the clock on the wall, or, on a machine that is busy with other work, the
//! time that the server's processes themselves have run. The second leaves out the client and the
//! way to it and back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use pgclip_cluster::Cluster;
use postgres::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Clock {
    Wall,
    /// Processor time of the server's processes that do the work
    Cpu,
}

/// A session's process on the server.
#[derive(Clone, Copy, Debug)]
pub struct Backend(i32);

impl Backend {
    pub fn of(client: &mut Client) -> Result<Self> {
        Ok(Self(client.query_one("SELECT pg_backend_pid()", &[])?.get(0)))
    }

    /// Seconds that all its threads have run, those that ended included.
    fn all_threads(self) -> Result<f64> {
        Ok(ticks(self.0 as u32)?[..2].iter().sum::<f64>())
    }

    /// Seconds that it has run. Exact while it waits for the next statement.
    fn seconds(self) -> Result<f64> {
        let path = format!("/proc/{}/schedstat", self.0);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let first = text.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
        Ok(first.with_context(|| format!("{path} holds no number"))? * 1e-9)
    }
}

/// Seconds of user and system time of a process, and of those of its children that have ended.
fn ticks(pid: u32) -> Result<[f64; 4]> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // Linux counts in hundredths for everybody. The name, in brackets, may hold spaces; the fourteenth field is user time.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let numbers = fields.skip(11).take(4).map(|field| Ok(field.parse::<f64>()? / 100.0));
    let numbers: Vec<f64> = numbers.collect::<Result<_>>()?;
    numbers.try_into().ok().with_context(|| format!("{path} has too few fields"))
}

impl Clock {
    /// Seconds that maintenance work of a session takes: by the wall, or of all processors together,
    /// threads and parallel workers included.
    pub fn time_maintenance(
        self,
        cluster: &Cluster,
        client: &mut Client,
        statement: &str,
    ) -> Result<f64> {
        let backend = Backend::of(client)?;
        let postmaster = cluster.postmaster()?;
        let spent = || {
            // Parallel workers are the postmaster's children, and end with the statement.
            let ended: f64 = ticks(postmaster)?[2..].iter().sum();
            Ok::<_, anyhow::Error>(backend.all_threads()? + ended)
        };
        let (before, started) = (spent()?, Instant::now());
        client.batch_execute(statement).with_context(|| statement.to_owned())?;
        match self {
            Self::Wall => Ok(started.elapsed().as_secs_f64()),
            Self::Cpu => {
                // The postmaster takes note of ended children a moment later.
                std::thread::sleep(Duration::from_millis(200));
                Ok(spent()? - before)
            }
        }
    }

    /// Seconds that `work` takes with these processes.
    pub fn time(self, backends: &[Backend], work: impl FnOnce() -> Result<()>) -> Result<f64> {
        let spent = || backends.iter().map(|backend| backend.seconds()).sum::<Result<f64>>();
        match self {
            Self::Wall => {
                let started = Instant::now();
                work()?;
                Ok(started.elapsed().as_secs_f64())
            }
            Self::Cpu => {
                let before = spent()?;
                work()?;
                Ok(spent()? - before)
            }
        }
    }
}
