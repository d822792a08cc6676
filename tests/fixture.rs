//! The cluster fixture itself: what the other tests rely on.

use anyhow::Result;
use pgclip_cluster::{Cluster, Shutdown};

fn count(cluster: &Cluster) -> Result<i64> {
    Ok(cluster.connect()?.query_one("SELECT count(*) FROM kept", &[])?.get(0))
}

#[test]
fn survives_stops_and_kills() -> Result<()> {
    let cluster = Cluster::builder("fixture").setting("work_mem", "5MB").start()?;
    let mut client = cluster.connect()?;
    client.batch_execute("CREATE TABLE kept AS SELECT generate_series(1, 10) AS id")?;
    let work_mem: String = client.query_one("SHOW work_mem", &[])?.get(0);
    assert_eq!(work_mem, "5MB");
    drop(client);

    cluster.restart()?;
    assert_eq!(count(&cluster)?, 10);
    cluster.stop(Shutdown::Immediate)?;
    assert!(!cluster.is_running());
    assert_eq!(cluster.processes(), []);
    cluster.start()?;
    assert_eq!(count(&cluster)?, 10);
    cluster.kill()?;
    cluster.start()?;
    assert_eq!(count(&cluster)?, 10);
    Ok(())
}

#[test]
fn runs_beside_others_and_leaves_nothing() -> Result<()> {
    let one = Cluster::builder("beside").start()?;
    let other = Cluster::builder("beside").start()?;
    assert_ne!(one.postmaster()?, other.postmaster()?);
    let (data, sockets) = (one.data(), one.sockets().to_owned());
    drop(one);
    assert!(!data.exists() && !sockets.exists());
    assert!(other.connect().is_ok());
    Ok(())
}

#[test]
fn failure_to_start_shows_the_servers_log() {
    let started = Cluster::builder("fails").setting("shared_buffers", "many").start();
    let message = started.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(message.contains("invalid value for parameter \"shared_buffers\""), "{message}");
}
