//! Two hundred sessions at work while the encoder is killed time and again: each statement is right
//! or fails clearly, and no backend notices more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::{make_photos, pictures, sqlstate, start, value};
use postgres::Client;

const SESSIONS: usize = 200;
/// The pauses between starts double with each: six deaths stay within a few seconds.
const KILLS: usize = 6;

/// What a session has seen.
#[derive(Default)]
struct Seen {
    done: u64,
    failed: u64,
}

/// One session: texts in three of four, pictures in the others.
fn work(client: &mut Client, session: usize, ending: &AtomicBool) -> Result<Seen> {
    let mut seen = Seen::default();
    let backend: i32 = value(client, "SELECT pg_backend_pid()")?;
    let pictures = pictures(8);
    let mut round = 0_usize;
    // Each gets somewhere once the encoder is left in peace.
    while !ending.load(Ordering::Relaxed) || seen.done == 0 {
        round += 1;
        let result = if !session.is_multiple_of(4) {
            let text = format!("a red bus, seen {} times by camera {session}", round % 50);
            client.execute(
                "INSERT INTO texts SELECT $1, embedding FROM clip_query($1) AS embedding",
                &[&text],
            )
        } else {
            let id = (session * 1_000_000 + round) as i64;
            client.execute(
                "INSERT INTO photos (id, image) VALUES ($1, $2)",
                &[&id, &pictures[round % pictures.len()]],
            )
        };
        match result {
            Ok(_) => seen.done += 1,
            error => {
                let state = sqlstate(error);
                ensure!(state == "58000", "session {session} got {state}");
                seen.failed += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    ensure!(value::<i32>(client, "SELECT pg_backend_pid()")? == backend, "it reconnected");
    Ok(seen)
}

/// Kills the encoder as soon as it serves, again and again.
fn kill(cluster: &Cluster, observer: &mut Client) -> Result<()> {
    for _ in 0..KILLS {
        cluster.wait_for("an encoder at work", || {
            let texts = "SELECT coalesce(texts > 100 AND images > 20, false) FROM clip_status";
            Ok(observer.query_one(texts, &[]).is_ok_and(|row| row.get(0)))
        })?;
        cluster.encoders().iter().for_each(|encoder| encoder.signal(libc::SIGKILL));
    }
    Ok(())
}

#[test]
fn sessions_get_right_answers_or_clear_errors_while_the_encoder_dies() -> Result<()> {
    let builder = Cluster::builder("load").preload(true);
    let (cluster, mut client) = start(&builder.setting("max_connections", SESSIONS + 20))?;
    let mut run = || -> Result<()> {
        make_photos(&mut client)?;
        client.batch_execute("CREATE TABLE texts (text text, embedding embedding)")?;
        let postmaster = cluster.postmaster()?;
        let sessions: Vec<Client> =
            (0..SESSIONS).map(|_| cluster.connect()).collect::<Result<_>>()?;
        let ending = AtomicBool::new(false);
        let (killed, seen) = std::thread::scope(|scope| {
            let workers: Vec<_> = sessions
                .into_iter()
                .enumerate()
                .map(|(session, mut client)| {
                    let ending = &ending;
                    scope.spawn(move || work(&mut client, session, ending))
                })
                .collect();
            let killed = kill(&cluster, &mut client);
            ending.store(true, Ordering::Relaxed);
            let seen: Vec<Result<Seen>> = workers
                .into_iter()
                .map(|worker| worker.join().map_err(|_| anyhow::anyhow!("a session panicked"))?)
                .collect();
            (killed, seen)
        });
        killed?;
        let seen = seen.into_iter().collect::<Result<Vec<_>>>()?;
        let total = seen.iter().fold(Seen::default(), |sum, one| Seen {
            done: sum.done + one.done,
            failed: sum.failed + one.failed,
        });
        println!("{} statements done, {} failed clearly", total.done, total.failed);

        // Compared with what one encoder makes of it in peace, with nothing in its cache.
        cluster.encoders().iter().for_each(|encoder| encoder.signal(libc::SIGKILL));
        cluster.wait_for("a fresh encoder", || {
            Ok(sqlstate(client.query("SELECT encode_text('x')", &[])) == "no error")
        })?;
        let rows: i64 = value(
            &mut client,
            "SELECT (SELECT count(*) FROM texts) + (SELECT count(*) FROM photos)",
        )?;
        ensure!(rows as u64 == total.done, "{rows} rows of {} statements", total.done);
        let wrong: i64 = value(
            &mut client,
            "SELECT (SELECT count(*) FROM (SELECT DISTINCT ON (text) * FROM texts) AS t
                      WHERE (embedding <=> clip_query(text) < 1e-4) IS NOT TRUE)
                  + (SELECT count(*) FROM photos
                      WHERE (embedding <=> encode_image(image) < 1e-4) IS NOT TRUE)
                  + (SELECT count(*) FROM texts JOIN texts AS other USING (text)
                      WHERE (texts.embedding <=> other.embedding < 1e-4) IS NOT TRUE)",
        )?;
        ensure!(wrong == 0, "{wrong} embeddings are wrong");
        ensure!(cluster.postmaster()? == postmaster, "the server was started anew");
        let log = cluster.log();
        ensure!(!log.contains("terminated by signal") && !log.contains("PANIC"));
        Ok(())
    };
    run().with_context(|| format!("the server's log:\n{}", cluster.log()))
}
