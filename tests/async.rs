//! Rows that are encoded after their transaction: every committed one gets the embedding of its
//! image, whoever dies meanwhile, and nobody waits for the worker.

use anyhow::{Context, Result, ensure};
use pgclip_cluster::{Cluster, Shutdown};
use pgclip_tests::queue::{MISSING, QUEUED, WORKERS, attach, becomes_right, until_empty};
use pgclip_tests::replica::Replica;
use pgclip_tests::{both, copy, pictures, sqlstate, start, value};

#[test]
fn rows_are_encoded_after_the_commit() -> Result<()> {
    both("after", |cluster, client| {
        attach(client)?;
        let mode: String = value(client, "SELECT mode FROM clip_columns")?;
        assert_eq!(mode, "async");
        assert_eq!(copy(client, "photos", pictures(40).iter().cycle().take(400))?, 400);
        becomes_right(cluster, client)?;
        // The worker ends, and comes again.
        cluster.wait_for("the worker's end", || Ok(value::<i64>(client, WORKERS)? == 0))?;
        let picture = &pictures(41)[40];
        client.execute("UPDATE photos SET image = $1 WHERE id <= 5", &[picture])?;
        becomes_right(cluster, client)?;
        let found = "SELECT count(*) FROM text_search(NULL::photos, 'a red bus', k => 400)";
        assert_eq!(value::<i64>(client, found)?, 400);
        Ok(())
    })
}

#[test]
fn what_is_rolled_back_is_not_queued_and_what_changes_is_followed() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("changes"))?;
    client.batch_execute(
        "CREATE TABLE photos (id bigint, part int, image bytea, embedding embedding,
             PRIMARY KEY (part, id)) PARTITION BY LIST (part);
         CREATE TABLE photos_1 PARTITION OF photos FOR VALUES IN (1);
         CREATE TABLE photos_2 PARTITION OF photos FOR VALUES IN (2);
         SELECT clip_attach('photos', mode => 'async')",
    )?;
    let files = pictures(3);
    let insert = "INSERT INTO photos (id, part, image) VALUES ($1, 1, $2)";
    let mut change = client.transaction()?;
    for id in 1..=20_i64 {
        change.execute(insert, &[&id, &files[0]])?;
    }
    change.batch_execute("SAVEPOINT gone")?;
    change.execute(insert, &[&100_i64, &files[0]])?;
    change.batch_execute("ROLLBACK TO gone")?;
    assert_eq!(value::<i64>(&mut change, QUEUED)?, 20);
    // Deleted, moved to another key, to another partition, given another image, none at all.
    change.batch_execute("DELETE FROM photos WHERE id = 1")?;
    change.batch_execute("UPDATE photos SET id = 1002 WHERE id = 2")?;
    change.batch_execute("UPDATE photos SET part = 2 WHERE id = 3")?;
    change.execute("UPDATE photos SET image = $1 WHERE id = 4", &[&files[1]])?;
    change.batch_execute("UPDATE photos SET image = NULL WHERE id = 5")?;
    change.commit()?;
    let mut undone = client.transaction()?;
    undone.execute(insert, &[&200_i64, &files[0]])?;
    undone.rollback()?;
    becomes_right(&cluster, &mut client)?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(embedding) FROM photos")?, 18);
    Ok(())
}

#[test]
fn deaths_of_encoder_and_server_lose_nothing() -> Result<()> {
    for preload in [false, true] {
        let (cluster, mut client) = start(&Cluster::builder("deaths").preload(preload))?;
        attach(&mut client)?;
        let files = pictures(40);
        copy(&mut client, "photos", files.iter().cycle().take(1500))?;
        cluster.wait_for("a first batch", || {
            Ok(value::<i64>(&mut client, "SELECT count(embedding) FROM photos")? > 0)
        })?;
        cluster.encoders().iter().for_each(|encoder| encoder.signal(libc::SIGKILL));
        let left: i64 = value(&mut client, QUEUED)?;
        ensure!(left > 0, "nothing was left to be lost");
        cluster.kill()?;
        cluster.start()?;
        let mut client = cluster.connect()?;
        assert!(value::<i64>(&mut client, QUEUED)? > 0);
        if !preload {
            // Nothing of ours runs until something of ours is used.
            client.batch_execute("SELECT encode_text('begin')")?;
        }
        until_empty(&cluster, &mut client).context("after the server's death")?;
        // Stopped in order, and at once, over a queue.
        for how in [Shutdown::Fast, Shutdown::Immediate] {
            client.execute("UPDATE photos SET image = $1 WHERE id <= 300", &[&files[3]])?;
            cluster.stop(how)?;
            cluster.start()?;
            client = cluster.connect()?;
            client.batch_execute("SELECT encode_text('begin')")?;
        }
        becomes_right(&cluster, &mut client)?;
    }
    Ok(())
}

#[test]
fn poison_ends_in_the_errors_and_holds_nobody_up() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("poison"))?;
    attach(&mut client)?;
    // The table itself refuses two embeddings.
    client.batch_execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE 'not this one' USING ERRCODE = '23514'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON photos FOR EACH ROW
             WHEN (OLD.id IN (7, 30)) EXECUTE FUNCTION refuse()",
    )?;
    let mut files = pictures(60);
    files[19] = b"no image".to_vec();
    copy(&mut client, "photos", &files)?;
    until_empty(&cluster, &mut client)?;
    let rows =
        client.query("SELECT (key->>'id')::bigint, sqlstate FROM clip_errors ORDER BY 1", &[])?;
    let errors: Vec<(i64, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let [check, image] = ["23514", "22P03"].map(String::from);
    assert_eq!(errors, [(7, check.clone()), (20, image), (30, check)]);
    assert_eq!(value::<i64>(&mut client, "SELECT count(embedding) FROM photos")?, 57);
    // Mended, they are forgotten.
    client.batch_execute("DROP TRIGGER refuse ON photos")?;
    client.execute("UPDATE photos SET image = $1 WHERE id = 20", &[&files[0]])?;
    client.batch_execute("UPDATE photos SET image = image WHERE id IN (7, 30)")?;
    becomes_right(&cluster, &mut client)?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_errors")?, 0);
    Ok(())
}

#[test]
fn a_row_that_somebody_holds_is_encoded_later() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("held"))?;
    attach(&mut client)?;
    let files = pictures(30);
    let mut holder = cluster.connect()?;
    // The worker is held off until the row is locked.
    client.batch_execute("BEGIN; LOCK TABLE clip_queue IN SHARE ROW EXCLUSIVE MODE")?;
    copy(&mut client, "photos", &files)?;
    client.batch_execute("COMMIT")?;
    let mut held = holder.transaction()?;
    held.execute("UPDATE photos SET camera = 'held' WHERE id = 30", &[])?;
    cluster.wait_for("all others", || Ok(value::<i64>(&mut client, MISSING)? <= 1))?;
    held.commit()?;
    becomes_right(&cluster, &mut client)
}

#[test]
fn a_database_is_dropped_copied_and_renamed_under_its_worker() -> Result<()> {
    both("dropped", |cluster, client| {
        let files = pictures(40);
        for name in ["busy", "idle"] {
            client.batch_execute(&format!("CREATE DATABASE {name}"))?;
            let mut other = cluster.connect_as("postgres", name)?;
            other.batch_execute("CREATE EXTENSION pgclip")?;
            attach(&mut other)?;
            copy(&mut other, "photos", files.iter().cycle().take(1000))?;
            if name == "idle" {
                until_empty(cluster, &mut other)?;
            }
            cluster.wait_for("a worker", || Ok(value::<i64>(client, WORKERS)? > 0))?;
            drop(other);
            let renamed = format!("{name}_renamed");
            client.batch_execute(&format!("ALTER DATABASE {name} RENAME TO {renamed}"))?;
            client.batch_execute(&format!("CREATE DATABASE {name}_copy TEMPLATE {renamed}"))?;
            // The rows go on being encoded in the one that stays for now.
            let mut other = cluster.connect_as("postgres", &renamed)?;
            becomes_right(cluster, &mut other)?;
            copy(&mut other, "photos", []).map(|_| ())?;
            other.batch_execute("UPDATE photos SET image = image || '\\x00' WHERE id <= 200")?;
            drop(other);
            client.batch_execute(&format!("DROP DATABASE {renamed}"))?;
            client.batch_execute(&format!("DROP DATABASE {name}_copy WITH (FORCE)"))?;
        }
        cluster.wait_for("the workers' end", || Ok(value::<i64>(client, WORKERS)? == 0))?;
        // Nothing is left over that would start a worker for them.
        cluster.restart()?;
        *client = cluster.connect()?;
        client.batch_execute("SELECT encode_text('begin')")?;
        cluster.wait_for("files of dropped databases to go", || {
            Ok(std::fs::read_dir(cluster.data().join("pgclip"))?
                .flatten()
                .all(|entry| !entry.file_name().to_string_lossy().starts_with("queue-")))
        })
    })
}

#[test]
fn the_worker_has_the_owners_rights_and_no_more() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("rights"))?;
    client.batch_execute(
        "CREATE ROLE owner LOGIN; CREATE ROLE writer LOGIN;
         GRANT CREATE ON SCHEMA public TO owner",
    )?;
    let mut owner = cluster.connect_as("owner", "postgres")?;
    attach(&mut owner)?;
    // What the owner's code could do as the server's superuser, were it not kept from it.
    owner.batch_execute(
        "CREATE TABLE notes (id serial, who text, deferred bool);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO public.notes (who, deferred) VALUES (current_user, TG_ARGV[0]::bool);
             BEGIN
                 EXECUTE 'RESET ROLE';
                 EXECUTE 'SET SESSION AUTHORIZATION postgres';
                 EXECUTE 'ALTER ROLE owner SUPERUSER';
             EXCEPTION WHEN insufficient_privilege THEN NULL;
             END;
             INSERT INTO public.notes (who, deferred) VALUES (current_user, TG_ARGV[0]::bool);
             RETURN NULL;
         END $$;
         CREATE TRIGGER note AFTER UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION note(false);
         CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON photos DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION note(true);
         GRANT INSERT (id, image) ON photos TO writer",
    )?;
    let mut writer = cluster.connect_as("writer", "postgres")?;
    let picture = &pictures(1)[0];
    writer.execute("INSERT INTO photos (id, image) VALUES (1, $1)", &[picture])?;
    assert_eq!(sqlstate(writer.query(QUEUED, &[])), "42501");
    becomes_right(&cluster, &mut client)?;
    let notes = "SELECT count(*) FROM notes WHERE who = 'owner'";
    assert_eq!(value::<i64>(&mut client, notes)?, 4);
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM notes")?, 4);
    let raised = "SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'";
    assert!(!value::<bool>(&mut client, raised)?);
    Ok(())
}

/// Whoever commits a prepared transaction need not have loaded pgclip: nobody told the worker.
#[test]
fn prepared_transactions_are_waited_for() -> Result<()> {
    for preload in [false, true] {
        let builder = Cluster::builder("prepared").preload(preload);
        let (cluster, mut client) = start(&builder.setting("max_prepared_transactions", 4))?;
        attach(&mut client)?;
        let files = pictures(40);
        client.batch_execute("BEGIN")?;
        copy(&mut client, "photos", &files)?;
        client.batch_execute("PREPARE TRANSACTION 'filled'")?;
        // Longer than the worker stays where there is nothing to do.
        std::thread::sleep(std::time::Duration::from_secs(4));
        assert_eq!(value::<i64>(&mut client, WORKERS)?, 1, "{}", cluster.log());
        let mut other = cluster.connect()?;
        other.batch_execute("COMMIT PREPARED 'filled'")?;
        becomes_right(&cluster, &mut other).with_context(|| cluster.log())?;
        assert_eq!(value::<i64>(&mut other, "SELECT count(embedding) FROM photos")?, 40);
        // It survives the server's death, and is rolled back as well as committed.
        for (id, end) in [(100_i64, "COMMIT"), (200, "ROLLBACK")] {
            client.batch_execute("BEGIN")?;
            client.execute("INSERT INTO photos (id, image) VALUES ($1, $2)", &[&id, &files[0]])?;
            client.batch_execute("PREPARE TRANSACTION 'again'")?;
            cluster.kill()?;
            cluster.start()?;
            client = cluster.connect()?;
            if !preload {
                client.batch_execute("SELECT encode_text('begin')")?;
            }
            cluster.wait_for("a worker", || Ok(value::<i64>(&mut client, WORKERS)? == 1))?;
            client.batch_execute(&format!("{end} PREPARED 'again'"))?;
            becomes_right(&cluster, &mut client)?;
            cluster
                .wait_for("the worker's end", || Ok(value::<i64>(&mut client, WORKERS)? == 0))?;
        }
        assert_eq!(value::<i64>(&mut client, "SELECT count(embedding) FROM photos")?, 41);
    }
    Ok(())
}

/// A queue came to the standby by replication, and no file that says so.
#[test]
fn a_promoted_standby_goes_on_with_the_queue() -> Result<()> {
    both("promoted", |cluster, client| {
        let preload: String = value(client, "SHOW shared_preload_libraries")?;
        client.batch_execute("CREATE DATABASE other")?;
        attach(client)?;
        let replica = Replica::of(cluster)?;
        let mut standby = replica.connect()?;
        // A standby has an encoder of its own, and no worker.
        assert!(value::<bool>(&mut standby, "SELECT dims(encode_text('a red bus')) > 0")?);
        client.batch_execute("SELECT encode_text('a red bus')")?;
        let pid = "SELECT pid FROM clip_status";
        assert_ne!(value::<i32>(client, pid)?, value::<i32>(&mut standby, pid)?);
        // The primary dies over its queue.
        cluster.encoders().iter().for_each(|encoder| encoder.signal(libc::SIGSTOP));
        let files = pictures(40);
        copy(client, "photos", files.iter().cycle().take(200))?;
        replica.catch_up(client, &mut standby)?;
        assert_eq!(value::<i64>(&mut standby, QUEUED)?, 200);
        assert_eq!(value::<i64>(&mut standby, WORKERS)?, 0);
        cluster.stop(Shutdown::Immediate)?;
        assert!(value::<bool>(&mut standby, "SELECT pg_promote()")?);
        let right = becomes_right(cluster, &mut standby);
        right.with_context(|| format!("preloaded: \"{preload}\"\n{}", replica.said()))?;
        // And goes on as any server.
        standby.execute("UPDATE photos SET image = $1 WHERE id <= 20", &[&files[7]])?;
        becomes_right(cluster, &mut standby)?;
        cluster.wait_for("the workers' end", || Ok(value::<i64>(&mut standby, WORKERS)? == 0))?;
        let found = "SELECT count(*) FROM text_search(NULL::photos, 'a red bus', k => 200)";
        assert_eq!(value::<i64>(&mut standby, found)?, 200);
        Ok(())
    })
}

/// A row's key was written by the settings of the session that queued it: with fewer digits than the key
/// has, the row was not found, and neither encoded nor noted.
#[test]
fn a_key_reads_alike_whatever_the_sessions_settings() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("keys").preload(true))?;
    client.batch_execute(
        "CREATE TABLE timed (at timestamptz, x float8, b bytea, image bytea, embedding embedding, PRIMARY KEY (at, x, b));
         SELECT clip_attach('timed', mode => 'async');
         SET extra_float_digits = 0; SET TimeZone = 'Asia/Tokyo'; SET bytea_output = 'escape'; SET DateStyle = 'German'",
    )?;
    client.execute(
        "INSERT INTO timed VALUES ('2026-11-30 12:00', 0.1::float8 + 0.2::float8, '\\x0001', $1)",
        &[&pictures(1)[0]],
    )?;
    cluster.wait_for("the row's embedding", || {
        value(&mut client, "SELECT embedding IS NOT NULL FROM timed")
    })?;
    Ok(())
}

/// A key's array was queued as JSON has it, which the type does not read: the row was tried time and again,
/// and given up. So it was with rows, documents and domains over them; and a cast to JSON that somebody made
/// for his type was taken for its text.
#[test]
fn keys_of_any_type_find_their_rows() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("key_types").preload(true))?;
    client.batch_execute(
        "CREATE TYPE place AS (street text, number int);
         CREATE TYPE mood AS ENUM ('glad', 'sad');
         CREATE FUNCTION to_json(mood) RETURNS json LANGUAGE sql AS $$SELECT '{}'::json$$;
         CREATE CAST (mood AS json) WITH FUNCTION to_json(mood);
         CREATE FUNCTION of_text(text) RETURNS mood LANGUAGE sql AS $$SELECT 'sad'::mood$$;
         CREATE CAST (text AS mood) WITH FUNCTION of_text(text);
         CREATE DOMAIN numbers AS int[] CHECK (cardinality(VALUE) < 9);
         CREATE DOMAIN feeling AS mood;
         CREATE DOMAIN code AS char(4);
         CREATE DOMAIN small AS numeric(6, 2);
         SET client_min_messages = warning",
    )?;
    let kinds = [
        ("text[]", r#"'{"a \"quoted\" one",NULL,""}'"#),
        ("timestamptz[]", "ARRAY['2026-11-30 12:00+09'::timestamptz]"),
        ("place", "ROW('O''Hara \"2\"', NULL)"),
        ("place[]", "ARRAY[ROW('a, b', 2)::place]"),
        ("jsonb", r#"'{"a": [1, "x"], "b": null}'"#),
        ("jsonb", r#"'"a text"'"#),
        ("numbers", "'{{1,2},{3,4}}'"),
        ("feeling", "'glad'"),
        ("mood", "'glad'"),
        ("code", "'ab'"),
        ("small", "3.5"),
        ("char(6)", "'abc'"),
        ("bit(5)", "B'10110'"),
        ("money", "1234.5"),
        ("tstzrange", "'[2026-01-01,2026-02-01)'"),
        ("float4[]", "ARRAY[0.1::float4, 'NaN']"),
        ("float8", "'NaN'"),
        ("numeric", "'-Infinity'"),
        ("numeric", "1e400 + 0.5"),
        ("bool", "true"),
        ("\"char\"", "'x'"),
        ("name", "'a \\ b'"),
        ("interval", "'1 month -3 days'"),
        ("date", "'infinity'"),
        ("timestamp", "'0044-03-15 12:00 BC'"),
    ];
    let picture = &pictures(1)[0];
    for (n, (kind, value)) in kinds.iter().enumerate() {
        let table = format!("keyed_{n}");
        client.batch_execute(&format!(
            "CREATE TABLE {table} (k {kind} PRIMARY KEY, image bytea, embedding embedding);
             SELECT clip_attach('{table}', mode => 'async')"
        ))?;
        client.execute(&format!("INSERT INTO {table} VALUES ({value}, $1)"), &[picture])?;
    }
    until_empty(&cluster, &mut client)?;
    for (n, (kind, what)) in kinds.iter().enumerate() {
        let done = format!("SELECT embedding IS NOT NULL FROM keyed_{n}");
        let told =
            "SELECT coalesce(string_agg(key::text || ' ' || reason, ', '), '') FROM clip_error";
        let told: String = value(&mut client, told)?;
        assert!(value::<bool>(&mut client, &done)?, "{kind} {what}: {told}");
    }
    Ok(())
}
