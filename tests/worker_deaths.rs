//! A worker that dies takes nothing along: another comes by itself, and what killed it is found out.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::queue::{QUEUED, WORKERS, attach, becomes_right, until_empty};
use pgclip_tests::{both, copy, pictures, start, value};
use postgres::Client;

const PID: &str = "SELECT coalesce(min(pid), 0) FROM pg_stat_activity
    WHERE backend_type = 'pgclip ingest worker'";

fn errors(client: &mut Client) -> Result<Vec<(i64, String)>> {
    let query = "SELECT (key->>'id')::bigint, sqlstate FROM clip_errors ORDER BY 1";
    Ok(client.query(query, &[])?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A second table, of rows that are to be encoded whatever becomes of `photos`.
fn attach_second(client: &mut Client) -> Result<()> {
    Ok(client.batch_execute(
        "CREATE ROLE other; GRANT CREATE ON SCHEMA public TO other; SET ROLE other;
         CREATE TABLE second (id bigint PRIMARY KEY, camera text, image bytea, embedding embedding);
         SELECT clip_attach('second', mode => 'async'); RESET ROLE",
    )?)
}

/// A worker that was terminated came back with the next commit that queued rows, and not before.
#[test]
fn a_worker_that_was_terminated_comes_back_by_itself() -> Result<()> {
    both("terminated", |cluster, client| {
        client.batch_execute("SELECT encode_text('x')")?;
        attach(client)?;
        let files = pictures(40);
        copy(client, "photos", files.iter().cycle().take(800))?;
        for _ in 0..2 {
            cluster.wait_for("a worker", || Ok(value::<i32>(client, PID)? != 0))?;
            let pid: i32 = value(client, PID)?;
            client.execute("SELECT pg_terminate_backend($1)", &[&pid])?;
            cluster.wait_for("its end", || Ok(value::<i32>(client, PID)? != pid))?;
            ensure!(value::<i64>(client, QUEUED)? > 0, "nothing was left");
        }
        becomes_right(cluster, client)?;
        assert_eq!(errors(client)?, []);
        cluster.wait_for("the worker's end", || Ok(value::<i64>(client, WORKERS)? == 0))?;
        // Where nothing is left nobody is started again.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(value::<i64>(client, WORKERS)?, 0);
        Ok(())
    })
}

/// A killed server process means recovery for all, and the worker that did not count what it had begun
/// with would die over it again.
#[test]
fn a_killed_worker_comes_back_with_the_server() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("killed").preload(true))?;
    client.batch_execute("SELECT encode_text('x')")?;
    attach(&mut client)?;
    copy(&mut client, "photos", pictures(40).iter().cycle().take(800))?;
    cluster.wait_for("a first batch", || {
        Ok(value::<i64>(&mut client, "SELECT count(embedding) FROM photos")? > 0)
    })?;
    let pid: i32 = value(&mut client, PID)?;
    ensure!(pid != 0, "the worker had ended already");
    // SAFETY: a process of this test's own server.
    ensure!(unsafe { libc::kill(pid, libc::SIGKILL) } == 0, "cannot kill the worker");
    let mut again = None;
    cluster.wait_for("the server", || {
        // First that it has begun anew: a connection from before would be ended with the others.
        let ended = client.batch_execute("").is_err();
        again = if ended { cluster.connect().ok() } else { None };
        Ok(again.is_some())
    })?;
    let mut client = again.context("no connection")?;
    ensure!(value::<i64>(&mut client, QUEUED)? > 0, "nothing was left");
    becomes_right(&cluster, &mut client)?;
    assert_eq!(errors(&mut client)?, []);
    Ok(())
}

/// A row whose trigger ends the worker was first in the queue again for the next worker: nobody's rows
/// were encoded any more.
#[test]
fn rows_that_end_the_worker_are_given_up() -> Result<()> {
    both("deadly", |cluster, client| {
        client.batch_execute("SELECT encode_text('x')")?;
        attach(client)?;
        attach_second(client)?;
        client.batch_execute(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10);
             RETURN NEW; END $$;
             CREATE TRIGGER die BEFORE UPDATE ON photos FOR EACH ROW WHEN (OLD.id = 3)
                 EXECUTE FUNCTION die()",
        )?;
        let files = pictures(5);
        copy(client, "photos", &files)?;
        copy(client, "second", &files)?;
        let others = "SELECT count(embedding) FROM second";
        cluster.wait_for("the others", || Ok(value::<i64>(client, others)? == 5))?;
        until_empty(cluster, client)?;
        assert_eq!(value::<i64>(client, "SELECT count(embedding) FROM photos")?, 4);
        assert_eq!(errors(client)?, [(3, "58000".into())]);
        Ok(())
    })
}

/// A step that is too long is cancelled, but a table's code may catch that and go on: then the worker
/// itself ends, and that counts as well.
#[test]
fn code_that_is_not_to_be_cancelled_is_ended() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("stubborn").preload(true))?;
    attach(&mut client)?;
    attach_second(&mut client)?;
    client.batch_execute(
        "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             LOOP
                 BEGIN
                     PERFORM pg_sleep(1000);
                 EXCEPTION WHEN query_canceled THEN NULL;
                 END;
             END LOOP;
         END $$;
         CREATE TRIGGER stay BEFORE UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION stay()",
    )?;
    let files = pictures(5);
    copy(&mut client, "photos", &files[..1])?;
    cluster.wait_for("a worker", || Ok(value::<i32>(&mut client, PID)? != 0))?;
    copy(&mut client, "second", &files)?;
    let others = "SELECT count(embedding) FROM second";
    cluster.wait_for("the others", || Ok(value::<i64>(&mut client, others)? == 5))?;
    let died = "SELECT count(*) FROM clip_progress
         WHERE state = 'paused: the worker died over it' AND relation = 'photos'::regclass";
    cluster.wait_for("what is told of it", || Ok(value::<i64>(&mut client, died)? == 1))?;
    until_empty(&cluster, &mut client)?;
    assert_eq!(errors(&mut client)?, [(1, "58000".into())]);
    Ok(())
}

/// The worker was started when the transaction had committed already, where an error is a PANIC and
/// ends the server; a full table of workers was one thing that was met there.
#[test]
fn commits_go_through_where_there_is_no_slot_for_the_worker() -> Result<()> {
    for preload in [false, true] {
        // The supervisor's, and the one for logical replication.
        let slots = if preload { 2 } else { 1 };
        let builder = Cluster::builder("slots").preload(preload);
        let (cluster, mut client) = start(&builder.setting("max_worker_processes", slots))?;
        attach(&mut client)?;
        let pid: i32 = value(&mut client, "SELECT pg_backend_pid()")?;
        for part in 0..3 {
            let row = &pictures(3)[part];
            let id = part as i64;
            client.execute("INSERT INTO photos (id, image) VALUES ($1, $2)", &[&id, row])?;
        }
        assert_eq!(value::<i32>(&mut client, "SELECT pg_backend_pid()")?, pid);
        assert_eq!(value::<i64>(&mut client, QUEUED)?, 3);
        let log = cluster.log();
        ensure!(!log.contains("PANIC"), "{log}");
        ensure!(log.contains("no free slot"), "{log}");
        let state = "SELECT state FROM clip_progress";
        assert_eq!(value::<String>(&mut client, state)?, "queued");
        // With room for it the worker comes by itself, or with what is used next.
        client.batch_execute("ALTER SYSTEM SET max_worker_processes = 8")?;
        cluster.restart()?;
        client = cluster.connect()?;
        if !preload {
            client.batch_execute("SELECT encode_text('begin')")?;
        }
        becomes_right(&cluster, &mut client)?;
    }
    Ok(())
}

/// A worker that was started before the commit finds nothing yet: it must still be there, or another,
/// when the commit comes, however long that takes.
#[test]
fn a_worker_stays_while_a_commit_is_under_way() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("commit").preload(true))?;
    attach(&mut client)?;
    let picture = &pictures(1)[0];
    let mut other = cluster.connect()?;
    let mut open = other.transaction()?;
    open.execute("INSERT INTO photos (id, image) VALUES (1, $1)", &[picture])?;
    client.execute("INSERT INTO photos (id, image) VALUES (2, $1)", &[picture])?;
    cluster.wait_for("the other row", || {
        Ok(value::<i64>(&mut client, "SELECT count(embedding) FROM photos")? == 1)
    })?;
    // Longer than a worker stays that expects nothing.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(value::<i64>(&mut client, WORKERS)?, 1);
    open.commit()?;
    becomes_right(&cluster, &mut client)?;
    cluster.wait_for("the worker's end", || Ok(value::<i64>(&mut client, WORKERS)? == 0))
}
