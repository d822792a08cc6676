//! `clip_backfill` beside writers, locks, cancels and deaths: at the end each row has the embedding
//! of the image that it has then.

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::{PHOTOS, copy, pictures, sqlstate, start, value};
use postgres::Client;

const ROWS: i64 = 600;
const MISSING: &str = "SELECT count(*) FROM photos WHERE embedding IS NULL";
const WRONG: &str =
    "SELECT count(*) FROM photos WHERE NOT embedding <=> encode_image(image) < 1e-3";

/// A cluster with a table of pictures that were there before it was attached.
fn prepared(name: &str) -> Result<(Cluster, Client)> {
    let (cluster, mut client) = start(&Cluster::builder(name))?;
    client.batch_execute(PHOTOS)?;
    let files = pictures(40);
    copy(&mut client, "photos", files.iter().cycle().take(ROWS as usize))?;
    client.batch_execute("SELECT clip_attach('photos')")?;
    assert_eq!(value::<i64>(&mut client, MISSING)?, ROWS);
    Ok((cluster, client))
}

fn is_right(client: &mut Client) -> Result<()> {
    assert_eq!(value::<i64>(client, MISSING)?, 0);
    assert_eq!(value::<i64>(client, WRONG)?, 0);
    Ok(())
}

/// Waits until a backfill has committed some rows and not all.
fn until_midway(cluster: &Cluster, observer: &mut Client) -> Result<()> {
    cluster.wait_for("a first batch", || {
        let done = "SELECT coalesce(max(done), 0) FROM clip_progress";
        Ok(value::<i64>(observer, done)? > 20)
    })
}

#[test]
fn images_that_change_meanwhile_get_their_own_embeddings() -> Result<()> {
    let (cluster, mut client) = prepared("changing")?;
    let other = &pictures(41)[40];
    let mut writer = cluster.connect()?;
    std::thread::scope(|scope| {
        let filling = scope.spawn(|| client.batch_execute("CALL clip_backfill('photos', 16)"));
        // Every row, in an order of its own: the image, another column, the row itself.
        let mut step = 0;
        while !filling.is_finished() || step < ROWS {
            let id = (step * 7) % ROWS + 1;
            match step % 3 {
                0 => writer.execute("UPDATE photos SET image = $2 WHERE id = $1", &[&id, other])?,
                1 => writer.execute("UPDATE photos SET camera = 'moved' WHERE id = $1", &[&id])?,
                _ => writer.execute(
                    "WITH gone AS (DELETE FROM photos WHERE id = $1 RETURNING camera, image)
                     INSERT INTO photos (id, camera, image) SELECT $1 + 10000, camera, image FROM gone",
                    &[&id],
                )?,
            };
            step += 1;
        }
        filling.join().expect("no panic")?;
        anyhow::Ok(())
    })?;
    is_right(&mut client)?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM photos")?, ROWS);
    let state = "SELECT state FROM clip_progress";
    assert_eq!(value::<String>(&mut client, state)?, "finished");
    Ok(())
}

#[test]
fn a_locked_row_is_left_for_later_and_then_waited_for() -> Result<()> {
    let (cluster, mut client) = prepared("locked")?;
    let mut holder = cluster.connect()?;
    let mut observer = cluster.connect()?;
    let mut lock = holder.transaction()?;
    lock.batch_execute("SELECT FROM photos WHERE id IN (3, 300) FOR UPDATE")?;
    std::thread::scope(|scope| {
        let filling = scope.spawn(|| client.batch_execute("CALL clip_backfill('photos')"));
        cluster.wait_for("all others", || Ok(value::<i64>(&mut observer, MISSING)? == 2))?;
        lock.execute("UPDATE photos SET camera = 'held' WHERE id = 3", &[])?;
        lock.commit()?;
        filling.join().expect("no panic")?;
        anyhow::Ok(())
    })?;
    is_right(&mut client)
}

#[test]
fn cancelled_and_killed_it_keeps_what_it_has_and_goes_on() -> Result<()> {
    let (cluster, mut client) = prepared("resumed")?;
    let mut observer = cluster.connect()?;
    let cancel = client.cancel_token();
    let state = std::thread::scope(|scope| {
        let filling =
            scope.spawn(|| sqlstate(client.batch_execute("CALL clip_backfill('photos', 8)")));
        until_midway(&cluster, &mut observer)?;
        cancel.cancel_query(postgres::NoTls)?;
        anyhow::Ok(filling.join().expect("no panic"))
    })?;
    assert_eq!(state, "57014");
    let progress = observer.query_one("SELECT state, done FROM clip_progress", &[])?;
    assert_eq!(progress.get::<_, String>(0), "interrupted");
    let kept: i64 = value(&mut observer, "SELECT count(embedding) FROM photos")?;
    assert_eq!(progress.get::<_, i64>(1), kept);
    ensure!(kept < ROWS, "nothing was left to be cancelled");

    // The encoder dies over and over; a statement survives one death.
    std::thread::scope(|scope| {
        let filling = scope.spawn(|| client.batch_execute("CALL clip_backfill('photos', 8)"));
        let kept = kept + 40;
        cluster.wait_for("some more", || {
            Ok(value::<i64>(&mut observer, "SELECT count(embedding) FROM photos")? > kept)
        })?;
        cluster.encoders().iter().for_each(|encoder| encoder.signal(libc::SIGKILL));
        filling.join().expect("no panic").context("after the encoder's death")
    })?;
    is_right(&mut client)
}

#[test]
fn what_the_server_had_committed_when_it_was_killed_is_not_done_again() -> Result<()> {
    let (cluster, mut client) = prepared("killed")?;
    let mut observer = cluster.connect()?;
    std::thread::scope(|scope| {
        scope.spawn(|| client.batch_execute("CALL clip_backfill('photos', 8)"));
        until_midway(&cluster, &mut observer)?;
        cluster.kill()
    })?;
    cluster.start()?;
    let mut client = cluster.connect()?;
    let kept: i64 = value(&mut client, "SELECT count(embedding) FROM photos")?;
    assert!(kept > 20);
    client.batch_execute("CALL clip_backfill('photos')")?;
    assert_eq!(value::<i64>(&mut client, "SELECT total FROM clip_progress")?, ROWS - kept);
    is_right(&mut client)
}

#[test]
fn a_column_has_one_backfill_at_a_time() -> Result<()> {
    let (cluster, mut client) = prepared("twice")?;
    let (mut observer, cancel) = (cluster.connect()?, client.cancel_token());
    std::thread::scope(|scope| {
        let filling = scope.spawn(|| client.batch_execute("CALL clip_backfill('photos', 1)"));
        until_midway(&cluster, &mut observer)?;
        let state: String = value(&mut observer, "SELECT state FROM clip_progress")?;
        assert_eq!(state, "running");
        assert_eq!(sqlstate(observer.batch_execute("CALL clip_backfill('photos')")), "55P03");
        cancel.cancel_query(postgres::NoTls)?;
        assert_eq!(sqlstate(filling.join().expect("no panic")), "57014");
        anyhow::Ok(())
    })?;
    // The lock went with the statement, not with the session.
    observer.batch_execute("CALL clip_backfill('photos')")?;
    is_right(&mut client)
}
