//! What `clip_reencode` leaves as it was: all of the column that could be lost with it, indexes of any
//! name and kind, triggers as they were switched; what it refuses; and what happens to the table meanwhile.

use std::thread;

use anyhow::{Context, Result};
use pgclip_cluster::Cluster;
use pgclip_tests::{PHOTOS, copy, pictures, register_second, sqlstate, start, value};
use postgres::Client;

const CALL: &str = "CALL clip_reencode('photos', 'second')";
const RIGHT: &str =
    "SELECT count(*) FROM photos WHERE embedding <=> encode_image(image, 'second') < 1e-3";

/// A cluster with a table of six pictures and a second model.
fn prepared(name: &str) -> Result<(Cluster, Client)> {
    let (cluster, mut client) = start(&Cluster::builder(name))?;
    register_second(&cluster, &mut client)?;
    client.batch_execute(PHOTOS)?;
    client.batch_execute("SELECT clip_attach('photos')")?;
    copy(&mut client, "photos", &pictures(6))?;
    Ok((cluster, client))
}

/// All that the catalog says of the columns, the indexes and the triggers, but for numbers and the model.
fn catalog(client: &mut Client) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for query in [
        "SELECT concat_ws(' | ', attname, format_type(atttypid, atttypmod), attstorage, attcompression, attstattarget,
             attoptions, col_description(attrelid, attnum), (SELECT string_agg(concat_ws(' ', grantee::regrole,
             privilege_type, is_grantable), ', ' ORDER BY grantee::regrole::text, privilege_type) FROM aclexplode(attacl)))
         FROM pg_attribute WHERE attrelid = 'photos'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname",
        "SELECT concat_ws(' | ', pg_get_indexdef(indexrelid), obj_description(indexrelid), indisclustered, spcname)
         FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid LEFT JOIN pg_tablespace AS s ON s.oid = reltablespace
         WHERE indrelid = 'photos'::regclass ORDER BY relname",
        "SELECT concat_ws(' | ', regexp_replace(pg_get_triggerdef(oid), $$'[^']*', '[0-9a-f]{64}'$$, ''), tgenabled,
             obj_description(oid)) FROM pg_trigger WHERE tgrelid = 'photos'::regclass ORDER BY tgname",
    ] {
        found.extend(client.query(query, &[])?.iter().map(|row| row.get::<_, String>(0)));
    }
    Ok(found)
}

/// Comments, statistics targets, compression, whether and when triggers fire, and grants that were given
/// while the second column was being filled were lost.
#[test]
fn what_there_is_about_a_column_is_kept() -> Result<()> {
    let (_cluster, mut client) = prepared("kept")?;
    client.batch_execute("SET allow_in_place_tablespaces = on")?;
    client.batch_execute("CREATE TABLESPACE other LOCATION ''")?;
    client.batch_execute(
        "CREATE ROLE reader; CREATE ROLE \"Writer's\";
         ALTER TABLE photos ALTER embedding SET STORAGE PLAIN, ALTER embedding SET STATISTICS 17,
             ALTER embedding SET (n_distinct = -0.5), ALTER embedding SET COMPRESSION pglz;
         COMMENT ON COLUMN photos.embedding IS 'what it''s like';
         GRANT SELECT (embedding), UPDATE (embedding, camera) ON photos TO \"Writer's\" WITH GRANT OPTION;
         GRANT SELECT (embedding) ON photos TO PUBLIC;
         CREATE INDEX graph ON photos USING clip_hnsw (embedding embedding_ip_ops, camera)
             WITH (m = 8) TABLESPACE other;
         CREATE INDEX tree ON photos (camera COLLATE \"C\" DESC, embedding DESC NULLS LAST, id NULLS FIRST)
             INCLUDE (camera);
         CREATE INDEX below ON photos (id) INCLUDE (embedding);
         COMMENT ON INDEX graph IS 'the graph''s';
         ALTER TABLE photos CLUSTER ON tree;
         ALTER TABLE photos ENABLE ALWAYS TRIGGER pgclip_embedding;
         ALTER TABLE photos ENABLE REPLICA TRIGGER pgclip_before_embedding;
         ALTER TRIGGER pgclip_embedding ON photos RENAME TO \"See\";
         COMMENT ON TRIGGER \"See\" ON photos IS 'encodes';
         COMMENT ON TRIGGER pgclip_before_embedding ON photos IS 'forgets';
         SET default_tablespace = other",
    )?;
    let before = catalog(&mut client)?;
    client.batch_execute(CALL)?;
    assert_eq!(catalog(&mut client)?, before);
    assert_eq!(value::<i64>(&mut client, RIGHT)?, 6);
    // Switched off, and with dimensions.
    client.batch_execute(
        "ALTER TABLE photos DISABLE TRIGGER \"See\";
         ALTER TABLE photos ADD sized embedding(128);
         SELECT clip_attach('photos', embedding => 'sized', model => 'second', on_error => 'null')",
    )?;
    let before = catalog(&mut client)?;
    for column in ["embedding", "sized"] {
        client.batch_execute(&format!(
            "CALL clip_reencode('photos', 'pgclip-traffic-tiny', '{column}')"
        ))?;
    }
    assert_eq!(catalog(&mut client)?, before);
    Ok(())
}

/// An index of the second column had the name of the first one's, cut after 50 characters: two indexes that
/// began alike got one, and with letters of more than a byte the server cut the name once more, and it was
/// not found. Triggers of columns with long names were called alike as well.
#[test]
fn names_that_are_long_or_alike_are_no_matter() -> Result<()> {
    let (_cluster, mut client) = prepared("named")?;
    let (long, wide) = ("n".repeat(61), "ü".repeat(30));
    client.batch_execute(&format!(
        "SELECT clip_detach('photos');
         ALTER TABLE photos RENAME embedding TO {long}_1;
         ALTER TABLE photos ADD {long}_2 embedding, ADD {wide} embedding;
         SELECT clip_attach('photos', embedding => '{long}_1'), clip_attach('photos', embedding => '{long}_2'),
             clip_attach('photos', embedding => '{wide}');
         CREATE INDEX {long}_1 ON photos USING clip_hnsw ({long}_1);
         CREATE INDEX {long}_2 ON photos USING clip_hnsw ({long}_1);
         CREATE INDEX {long}_3 ON photos USING clip_hnsw ({long}_1 embedding_l2_ops);
         CREATE INDEX {wide}x ON photos USING clip_hnsw ({wide});
         CREATE INDEX {wide}y ON photos USING clip_hnsw ({wide});
         CREATE INDEX {wide}_re ON photos (camera)"
    ))?;
    for column in [format!("{long}_2"), wide.clone()] {
        client.batch_execute(&format!("CALL clip_backfill('photos', embedding => '{column}')"))?;
    }
    let before = catalog(&mut client)?;
    for column in [format!("{long}_1"), wide.clone(), format!("{long}_2")] {
        client.batch_execute(&format!("CALL clip_reencode('photos', 'second', '{column}')"))?;
        let right = RIGHT.replace("embedding <=>", &format!("{column} <=>"));
        assert_eq!(value::<i64>(&mut client, &right)?, 6, "{column}");
    }
    assert_eq!(catalog(&mut client)?, before);
    for name in [format!("{long}_1"), format!("{long}_2"), format!("{wide}x"), format!("{wide}y")] {
        let faults = format!("SELECT count(*) FROM clip_index_check('{name}')");
        assert_eq!(value::<i64>(&mut client, &faults)?, 0, "{name}");
    }
    // Detached and attached in any order: what one drops may be called as another's.
    client.batch_execute(&format!(
        "SELECT clip_detach('photos', '{long}_2');
         SELECT clip_attach('photos', embedding => '{long}_2', model => 'second')"
    ))?;
    Ok(())
}

/// What the second column would not have is refused, as are tables that share their columns.
#[test]
fn what_would_be_lost_is_refused() -> Result<()> {
    let (_cluster, mut client) = prepared("lost")?;
    client.batch_execute("SET client_min_messages = warning")?;
    for (make, undo, states) in [
        (
            "ALTER TABLE photos ALTER embedding SET NOT NULL",
            "ALTER TABLE photos ALTER embedding DROP NOT NULL",
            // From PostgreSQL 18 on it is a constraint, which depends on the column.
            ["0A000", "2BP01"],
        ),
        (
            "CREATE DOMAIN looks AS embedding; SELECT clip_detach('photos');
             ALTER TABLE photos ALTER embedding TYPE looks; SELECT clip_attach('photos')",
            "SELECT clip_detach('photos'); ALTER TABLE photos ALTER embedding TYPE embedding;
             SELECT clip_attach('photos')",
            ["0A000"; 2],
        ),
        ("CREATE TABLE child () INHERITS (photos)", "DROP TABLE child", ["0A000"; 2]),
        (
            "CREATE TABLE above (camera text); ALTER TABLE photos INHERIT above",
            "ALTER TABLE photos NO INHERIT above; DROP TABLE above",
            ["0A000"; 2],
        ),
        (
            "CREATE PUBLICATION columns_alone FOR TABLE photos (id, embedding)",
            "DROP PUBLICATION columns_alone",
            ["2BP01"; 2],
        ),
        (
            "CREATE STATISTICS pair ON camera, embedding FROM photos",
            "DROP STATISTICS pair",
            ["2BP01"; 2],
        ),
        (
            "ALTER TABLE photos ALTER embedding SET DEFAULT '[1]'",
            "ALTER TABLE photos ALTER embedding DROP DEFAULT",
            ["2BP01"; 2],
        ),
        (
            "SET allow_system_table_mods = on;
             INSERT INTO pg_seclabel SELECT attrelid, 'pg_class'::regclass, attnum, 'p', 'l'
             FROM pg_attribute WHERE attrelid = 'photos'::regclass AND attname = 'embedding'",
            "DELETE FROM pg_seclabel",
            ["0A000"; 2],
        ),
    ] {
        client.batch_execute(make)?;
        let found = sqlstate(client.batch_execute(CALL));
        assert!(states.contains(&&*found), "{make}: {found}");
        client.batch_execute(undo)?;
    }
    let columns = "SELECT count(*) FROM pg_attribute WHERE attname LIKE '%reencode'";
    assert_eq!(value::<i64>(&mut client, columns)?, 0);
    client.batch_execute(CALL)?;
    assert_eq!(value::<i64>(&mut client, RIGHT)?, 6);
    Ok(())
}

/// Calls it as the owner `her` of the table, and has a superuser change something `meanwhile`: after its first
/// parts have committed, while rows are being filled.
fn with(name: &str, meanwhile: &str) -> Result<(Cluster, Client, Result<(), postgres::Error>)> {
    let (cluster, mut client) = prepared(name)?;
    client.batch_execute(
        "CREATE INDEX sight ON photos USING clip_hnsw (embedding);
         CREATE ROLE her LOGIN; CREATE ROLE him; GRANT CREATE ON SCHEMA public TO her, him;
         ALTER TABLE photos OWNER TO her",
    )?;
    let mut holder = cluster.connect()?;
    let mut her = cluster.connect_as("her", "postgres")?;
    let mut other = cluster.connect()?;
    let mut waiting = |what: &str, count: i64| {
        cluster.wait_for(what, || {
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            Ok(value::<i64>(&mut client, waiting)? >= count)
        })
    };
    // The second column is there when the backfill waits for a row.
    holder.batch_execute("BEGIN; SELECT FROM photos WHERE id = 3 FOR UPDATE")?;
    let called = thread::scope(|scope| {
        let calling = scope.spawn(|| her.batch_execute(CALL));
        waiting("the backfill's wait", 1)?;
        let changing = scope.spawn(|| other.batch_execute(meanwhile));
        waiting("the change's wait", 2)?;
        holder.batch_execute("COMMIT")?;
        changing.join().expect("no panic").context("the change")?;
        anyhow::Ok(calling.join().expect("no panic"))
    })?;
    Ok((cluster, client, called))
}

/// A table that is renamed between two transactions is found by its number; one that is called as it was is
/// none of its business.
#[test]
fn a_table_that_is_renamed_meanwhile_is_gone_on_with() -> Result<()> {
    let (_cluster, mut client, called) = with(
        "renamed",
        "BEGIN; ALTER TABLE photos RENAME TO pictures;
         CREATE TABLE photos (id int, image bytea, camera text, embedding embedding, embedding_reencode embedding);
         ALTER TABLE photos OWNER TO her; COMMIT",
    )?;
    called?;
    assert_eq!(value::<i64>(&mut client, &RIGHT.replace("photos", "pictures"))?, 6);
    let index: String = value(&mut client, "SELECT pg_get_indexdef('sight'::regclass)")?;
    assert_eq!(index, "CREATE INDEX sight ON public.pictures USING clip_hnsw (embedding)");
    let left = "SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' ||
                (SELECT count(*) FROM pg_index WHERE indrelid = 'photos'::regclass)
         FROM pg_attribute WHERE attrelid = 'photos'::regclass AND attnum > 0";
    let left: String = value(&mut client, left)?;
    assert_eq!(left, "id image camera embedding embedding_reencode 0");
    Ok(())
}

/// The next transaction of the former owner changes nothing of a table that is another's by now.
#[test]
fn a_table_that_is_anothers_meanwhile_is_left_alone() -> Result<()> {
    let (_cluster, mut client, called) = with("given_away", "ALTER TABLE photos OWNER TO him")?;
    assert_eq!(sqlstate(called), "42501");
    let bound =
        "SELECT string_agg(embedding || ' ' || model, ', ' ORDER BY embedding) FROM clip_columns";
    assert_eq!(
        value::<String>(&mut client, bound)?,
        "embedding pgclip-traffic-tiny, embedding_reencode second"
    );
    // The new owner goes on.
    client.batch_execute("SET ROLE him")?;
    client.batch_execute(CALL)?;
    assert_eq!(value::<i64>(&mut client, RIGHT)?, 6);
    Ok(())
}

/// One that is gone is told of, as one that never was.
#[test]
fn a_table_that_is_dropped_meanwhile_is_told_of() -> Result<()> {
    let (_cluster, _client, called) = with("dropped", "DROP TABLE photos")?;
    assert_eq!(sqlstate(called), "42P01");
    Ok(())
}

/// A child that came meanwhile would have lost its own column with the first one.
#[test]
fn a_table_that_is_inherited_from_meanwhile_is_refused_at_the_end() -> Result<()> {
    let (_cluster, mut client, called) = with(
        "inherited",
        "BEGIN; LOCK TABLE photos; CREATE TABLE child () INHERITS (photos); COMMIT",
    )?;
    assert_eq!(sqlstate(called), "0A000");
    client.batch_execute("DROP TABLE child")?;
    client.batch_execute(CALL)?;
    assert_eq!(value::<i64>(&mut client, RIGHT)?, 6);
    Ok(())
}

/// Where the first column was attached otherwise since an earlier call, or has another index, the second one
/// follows: it took the first's place as it had been attached at the start.
#[test]
fn a_first_column_that_is_attached_otherwise_meanwhile_stays_so() -> Result<()> {
    let (_cluster, mut client, called) = with(
        "otherwise",
        "BEGIN; LOCK TABLE photos; SELECT clip_detach('photos', 'embedding_reencode'); COMMIT",
    )?;
    assert_ne!(sqlstate(called), "no error");
    client.batch_execute(
        "SELECT clip_attach('photos', embedding => 'embedding_reencode', model => 'second');
         SELECT clip_detach('photos'); SELECT clip_attach('photos', on_error => 'null');
         CREATE INDEX later ON photos USING clip_hnsw (embedding embedding_l2_ops)",
    )?;
    client.batch_execute(CALL)?;
    let kept =
        "SELECT string_agg(embedding || ' ' || model || ' ' || on_error, ', ') FROM clip_columns";
    assert_eq!(value::<String>(&mut client, kept)?, "embedding second null");
    let indexes = "SELECT string_agg(relname, ' ' ORDER BY relname)
         FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid
         WHERE indrelid = 'photos'::regclass AND NOT indisprimary";
    assert_eq!(value::<String>(&mut client, indexes)?, "later sight");
    assert_eq!(value::<i64>(&mut client, RIGHT)?, 6);
    Ok(())
}
