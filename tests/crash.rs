//! Processes that die: the encoder, its supervisor, the server. The database must not notice more
//! than one clearly failed statement, and no encoder may outlive its server.

use std::time::Duration;

use anyhow::{Result, ensure};
use pgclip_cluster::{Cluster, Process, Shutdown};
use pgclip_tests::{both, copy, make_photos, pictures, sqlstate, value};
use postgres::Client;

const ENCODE: &str = "SELECT dims(encode_text('a red bus')) > 0";

/// The encoder, which must run.
fn encoder(cluster: &Cluster) -> Result<Process> {
    let encoders = cluster.encoders();
    ensure!(encoders.len() == 1, "{} encoders run: {:?}", encoders.len(), cluster.processes());
    Ok(encoders[0].clone())
}

/// Do the server, and this session in it, go on as before?
fn goes_on(cluster: &Cluster, client: &mut Client, postmaster: u32, backend: i32) -> Result<()> {
    assert!(value::<bool>(client, ENCODE)?);
    assert_eq!(value::<i32>(client, "SELECT pg_backend_pid()")?, backend);
    assert_eq!(cluster.postmaster()?, postmaster);
    assert!(!cluster.log().contains("all server processes terminated"));
    Ok(())
}

#[test]
fn an_idle_encoder_that_dies_is_started_again() -> Result<()> {
    both("idle", |cluster, client| {
        assert!(value::<bool>(client, ENCODE)?);
        let (postmaster, backend) =
            (cluster.postmaster()?, value::<i32>(client, "SELECT pg_backend_pid()")?);
        for _ in 0..3 {
            let killed = encoder(cluster)?;
            killed.signal(libc::SIGKILL);
            cluster.wait_for("the encoder's end", || Ok(!cluster.encoders().contains(&killed)))?;
            goes_on(cluster, client, postmaster, backend)?;
            assert_ne!(encoder(cluster)?, killed);
        }
        Ok(())
    })
}

#[test]
fn an_encoder_that_dies_in_a_copy_costs_one_statement_at_most() -> Result<()> {
    both("mid_copy", |cluster, client| {
        make_photos(client)?;
        assert!(value::<bool>(client, ENCODE)?);
        let (postmaster, backend) =
            (cluster.postmaster()?, value::<i32>(client, "SELECT pg_backend_pid()")?);
        let files = pictures(64);
        let many = || files.iter().cycle().take(3000);

        let killed = encoder(cluster)?;
        let mut observer = cluster.connect()?;
        let copied = std::thread::scope(|scope| {
            let copying = scope.spawn(|| copy(&mut *client, "photos", many()));
            // Some of the pictures are encoded, most are not.
            let at_work = cluster.wait_for("a first batch", || {
                let images = "SELECT coalesce(max(images), 0) FROM clip_status";
                Ok(copying.is_finished() || value::<i64>(&mut observer, images)? > 100)
            });
            killed.signal(libc::SIGKILL);
            at_work.and(copying.join().map_err(|_| anyhow::anyhow!("the thread panicked")))
        })?;
        let there: i64 = value(client, "SELECT count(*) FROM photos WHERE embedding IS NOT NULL")?;
        match copied {
            // Encoded again by the next encoder, unnoticed.
            Ok(rows) => assert_eq!((rows, there), (3000, 3000)),
            Err(error) => {
                let state = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
                assert_eq!(state, "58000", "{error:?}");
                assert_eq!(there, 0);
            }
        }
        goes_on(cluster, client, postmaster, backend)?;
        client.batch_execute("TRUNCATE photos")?;
        assert_eq!(copy(client, "photos", many().take(100))?, 100);
        Ok(())
    })
}

#[test]
fn a_terminated_supervisor_takes_its_encoder_along_and_comes_back() -> Result<()> {
    both("supervisor", |cluster, client| {
        assert!(value::<bool>(client, ENCODE)?);
        let first = encoder(cluster)?;
        let terminated: i64 = value(
            client,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE backend_type LIKE 'pgclip%'",
        )?;
        assert_eq!(terminated, 1);
        cluster.wait_for("the encoder's end", || Ok(!cluster.encoders().contains(&first)))?;
        cluster.wait_for("another encoder", || {
            Ok(sqlstate(client.query(ENCODE, &[])) == "no error")
        })?;
        encoder(cluster)?;
        Ok(())
    })
}

#[test]
fn no_encoder_outlives_its_server() -> Result<()> {
    both("orphans", |cluster, client| {
        for how in [Shutdown::Fast, Shutdown::Immediate] {
            assert!(value::<bool>(client, ENCODE)?);
            encoder(cluster)?;
            cluster.stop(how)?;
            cluster.wait_for("the encoder's end", || Ok(cluster.encoders().is_empty()))?;
            cluster.start()?;
            *client = cluster.connect()?;
        }
        assert!(value::<bool>(client, ENCODE)?);
        // One that hangs ends as well. `kill` waits until every process of the cluster is gone.
        encoder(cluster)?.signal(libc::SIGSTOP);
        cluster.kill()?;
        cluster.start()?;
        assert!(value::<bool>(&mut cluster.connect()?, ENCODE)?);
        Ok(())
    })
}

#[test]
fn a_backend_that_dies_does_not_take_the_encoder_along() -> Result<()> {
    both("backend", |cluster, client| {
        assert!(value::<bool>(client, ENCODE)?);
        let before = encoder(cluster)?;
        let backend: i32 = value(client, "SELECT pg_backend_pid()")?;
        let mut other = cluster.connect()?;
        other.execute("SELECT pg_terminate_backend($1)", &[&backend])?;
        cluster.wait_for("the session's end", || {
            Ok(client.is_valid(Duration::from_secs(1)).is_err())
        })?;
        assert!(value::<bool>(&mut other, ENCODE)?);
        assert_eq!(encoder(cluster)?, before);
        Ok(())
    })
}
