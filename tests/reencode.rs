//! `clip_reencode`: a column in use gets another model while it is searched and written.

use anyhow::{Context, Result};
use pgclip_cluster::Cluster;
use pgclip_tests::{PHOTOS, copy, pictures, register_second, sqlstate, start, value};
use postgres::Client;

const ROWS: i64 = 600;
const WRONG: &str = "SELECT count(*) FROM photos
     WHERE embedding IS NULL OR NOT embedding <=> encode_image(image, 'second') < 1e-3";
const FIRST: &str = "SELECT count(*) FROM photos WHERE embedding <=> encode_image(image) < 1e-3";

/// A cluster with an indexed table of pictures and a second model.
fn prepared(name: &str, attach: &str) -> Result<(Cluster, Client)> {
    let (cluster, mut client) = start(&Cluster::builder(name))?;
    register_second(&cluster, &mut client)?;
    client.batch_execute(PHOTOS)?;
    client.batch_execute(&format!("SELECT clip_attach('photos'{attach})"))?;
    let files = pictures(40);
    copy(&mut client, "photos", files.iter().cycle().take(ROWS as usize))?;
    client.batch_execute(
        "CREATE INDEX \"By sight\" ON photos USING clip_hnsw (embedding embedding_l2_ops, camera)
             WITH (m = 8);
         CREATE ROLE reader; GRANT SELECT (embedding) ON photos TO reader",
    )?;
    Ok((cluster, client))
}

/// Is the column the second model's, with its index, its grant and nothing left over?
fn is_second(client: &mut Client) -> Result<()> {
    assert_eq!(value::<i64>(client, WRONG)?, 0);
    let columns = "SELECT string_agg(embedding || ' ' || model, ', ') FROM clip_columns";
    assert_eq!(value::<String>(client, columns)?, "embedding second");
    let names = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = 'photos'::regclass AND attnum > 0 AND NOT attisdropped";
    assert_eq!(value::<String>(client, names)?, "id camera image embedding");
    let index: String = value(client, "SELECT pg_get_indexdef('\"By sight\"'::regclass)")?;
    assert_eq!(
        index,
        "CREATE INDEX \"By sight\" ON public.photos USING clip_hnsw \
         (embedding embedding_l2_ops, camera) WITH (m='8')"
    );
    let faults = "SELECT count(*) FROM clip_index_check('\"By sight\"')";
    assert_eq!(value::<i64>(client, faults)?, 0);
    let granted = "SELECT has_column_privilege('reader', 'photos', 'embedding', 'SELECT')";
    assert!(value::<bool>(client, granted)?);
    client.batch_execute("SELECT * FROM text_search(NULL::photos, 'a red bus')")?;
    Ok(())
}

#[test]
fn searches_and_writes_go_on() -> Result<()> {
    let (cluster, mut client) = prepared("reencode", "")?;
    assert_eq!(value::<i64>(&mut client, FIRST)?, ROWS);
    let other = &pictures(41)[40];
    let mut user = cluster.connect()?;
    let searches = std::thread::scope(|scope| {
        let changing = scope
            .spawn(|| client.batch_execute("CALL clip_reencode('photos', 'second', batch => 16)"));
        let mut step = 0;
        while !changing.is_finished() {
            let found = "SELECT count(*) FROM text_search(NULL::photos, 'a red bus')";
            assert_eq!(value::<i64>(&mut user, found)?, 10);
            let id = (step * 7) % ROWS + 1;
            user.execute("UPDATE photos SET image = $2 WHERE id = $1", &[&id, other])?;
            let add = "INSERT INTO photos (id, camera, image) VALUES ($1, 'new', $2)";
            user.execute(add, &[&(10_000 + step), other])?;
            step += 1;
        }
        changing.join().expect("no panic")?;
        anyhow::Ok(step)
    })?;
    assert!(searches > 10, "only {searches} searches while the model changed");
    is_second(&mut client)?;
    // New rows have the second model too.
    client.execute("INSERT INTO photos (id, image) VALUES (20000, $1)", &[other])?;
    is_second(&mut client)
}

#[test]
fn cut_short_it_goes_on_and_async_columns_stay_so() -> Result<()> {
    let (cluster, mut client) = prepared("cut_short", ", mode => 'async'")?;
    let until_empty = |client: &mut Client| {
        cluster.wait_for("an empty queue", || {
            Ok(value::<i64>(client, "SELECT count(*) FROM clip_queue")? == 0)
        })
    };
    until_empty(&mut client)?;
    client.execute("INSERT INTO photos (id, image) VALUES (9000, 'no image')", &[])?;
    until_empty(&mut client)?;
    let mut observer = cluster.connect()?;
    std::thread::scope(|scope| {
        scope.spawn(|| client.batch_execute("CALL clip_reencode('photos', 'second', batch => 8)"));
        cluster.wait_for("a first batch", || {
            let done = "SELECT coalesce(max(done), 0) FROM clip_progress";
            Ok(value::<i64>(&mut observer, done)? > 20)
        })?;
        cluster.kill()
    })?;
    cluster.start()?;
    let mut client = cluster.connect()?;
    // As searchable as before.
    assert_eq!(value::<i64>(&mut client, "SELECT count(embedding) FROM photos")?, ROWS);
    client.batch_execute("SELECT * FROM text_search(NULL::photos, 'a red bus')")?;
    client.batch_execute("CALL clip_reencode('photos', 'second')")?;
    until_empty(&mut client)?;
    let failed = "SELECT string_agg(embedding || ' ' || (key->>'id'), ', ') FROM clip_errors";
    assert_eq!(value::<String>(&mut client, failed)?, "embedding 9000");
    client.batch_execute("DELETE FROM photos WHERE id = 9000")?;
    is_second(&mut client)?;
    assert_eq!(value::<String>(&mut client, "SELECT mode FROM clip_columns")?, "async");
    Ok(())
}

#[test]
fn what_depends_on_the_column_is_named() -> Result<()> {
    let (cluster, mut client) = prepared("refused", "")?;
    let call = "CALL clip_reencode('photos', 'second')";
    for (make, undo) in [
        ("CREATE VIEW v AS SELECT embedding FROM photos", "DROP VIEW v"),
        (
            "ALTER TABLE photos ADD length real GENERATED ALWAYS AS (norm(embedding)) STORED",
            "ALTER TABLE photos DROP length",
        ),
        (
            "CREATE INDEX half ON photos USING clip_hnsw (embedding) WHERE embedding IS NOT NULL",
            "DROP INDEX half",
        ),
        ("CREATE INDEX longest ON photos (norm(embedding))", "DROP INDEX longest"),
        ("CREATE UNIQUE INDEX once ON photos (embedding, id)", "DROP INDEX once"),
        (
            "ALTER TABLE photos ADD CONSTRAINT c CHECK (dims(embedding) > 1)",
            "ALTER TABLE photos DROP CONSTRAINT c",
        ),
    ] {
        client.batch_execute(make)?;
        let error = client.batch_execute(call).err().context("it went through")?;
        let error = error.as_db_error().context("no error of the server's")?;
        assert_eq!(error.code().code(), "2BP01", "{make}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.starts_with("Drop it first"), "{make}: {hint}");
        client.batch_execute(undo)?;
    }
    for (call, state) in [
        ("BEGIN; CALL clip_reencode('photos', 'second')", "25001"),
        ("CALL clip_reencode('photos', 'pgclip-traffic-tiny')", "55000"),
        ("CALL clip_reencode('photos', 'third')", "42704"),
        ("CALL clip_reencode('photos', 'second', 'camera')", "42704"),
        ("CALL clip_reencode('photos', NULL)", "22004"),
        ("CALL clip_reencode('photos', 'second', batch => 0)", "22023"),
    ] {
        assert_eq!(sqlstate(client.batch_execute(call)), state, "{call}");
        client.batch_execute("ROLLBACK")?;
    }
    client.batch_execute("CREATE ROLE other LOGIN")?;
    let mut other = cluster.connect_as("other", "postgres")?;
    assert_eq!(sqlstate(other.batch_execute(call)), "42501");
    // Nothing was left behind by any of these.
    assert_eq!(value::<i64>(&mut client, FIRST)?, ROWS);
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_columns")?, 1);
    client.batch_execute(call)?;
    is_second(&mut client)
}

/// The hint for partitioned tables is a way that leads there, with searches and writes going on.
#[test]
fn a_partitioned_table_is_refused_and_its_hint_works() -> Result<()> {
    let (_cluster, mut client) = prepared("partitioned", "")?;
    client.batch_execute(
        "CREATE TABLE parts (id bigint PRIMARY KEY, camera text, image bytea, embedding embedding)
             PARTITION BY RANGE (id);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
         CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (1000);
         SELECT clip_attach('parts');
         INSERT INTO parts SELECT id, camera, image FROM photos WHERE id <= 200",
    )?;
    for table in ["parts", "parts_1"] {
        let call = format!("CALL clip_reencode('{table}', 'second')");
        let error = client.batch_execute(&call).err().context("it went through")?;
        let error = error.as_db_error().context("no error of the server's")?;
        assert_eq!(error.code().code(), "42809", "{table}");
        assert!(error.hint().unwrap_or_default().contains("clip_backfill"), "{table}");
    }
    client.batch_execute("ALTER TABLE parts ADD next embedding")?;
    client.batch_execute("SELECT clip_attach('parts', embedding => 'next', model => 'second')")?;
    client.execute("INSERT INTO parts VALUES (500, 'new', $1)", &[&pictures(1)[0]])?;
    client.batch_execute("CALL clip_backfill('parts', embedding => 'next')")?;
    client.batch_execute("CREATE INDEX ON parts USING clip_hnsw (next)")?;
    client.batch_execute(
        "BEGIN; SELECT clip_detach('parts'), clip_detach('parts', 'next');
         ALTER TABLE parts DROP embedding; ALTER TABLE parts RENAME next TO embedding;
         SELECT clip_attach('parts', model => 'second'); COMMIT",
    )?;
    let right =
        "SELECT count(*) FROM parts WHERE embedding <=> encode_image(image, 'second') < 1e-3";
    assert_eq!(value::<i64>(&mut client, right)?, 201);
    client.execute("INSERT INTO parts (id, image) VALUES (501, $1)", &[&pictures(2)[1]])?;
    assert_eq!(value::<i64>(&mut client, right)?, 202);
    client.batch_execute("SELECT * FROM text_search(NULL::parts, 'a red bus')")?;
    Ok(())
}
