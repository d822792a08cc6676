//! A dump carries the user's models, templates and attached columns, and a restore writes rows as
//! they were: embeddings are not computed again.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::{Cluster, SUPERUSER};
use pgclip_tests::{PHOTOS, copy, make_photos, pictures, register_second, start, value};

/// `pg_dump postgres | psql restored`.
fn restore(cluster: &Cluster) -> Result<()> {
    restore_as(cluster, SUPERUSER)
}

/// The same, dumped by a role.
fn restore_as(cluster: &Cluster, role: &str) -> Result<()> {
    cluster.connect()?.batch_execute("CREATE DATABASE restored TEMPLATE template0")?;
    let mut dump = cluster
        .client_program("pg_dump", "postgres")
        .env("PGUSER", role)
        .stdout(Stdio::piped())
        .spawn()?;
    let psql = cluster
        .client_program("psql", "restored")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
        .stdin(dump.stdout.take().context("no pipe")?)
        .stdout(Stdio::null())
        .output()?;
    ensure!(dump.wait()?.success(), "pg_dump failed");
    ensure!(psql.status.success(), "psql: {}", String::from_utf8_lossy(&psql.stderr));
    Ok(())
}

#[test]
fn a_restored_database_is_the_same() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("dump"))?;
    make_photos(&mut client)?;
    copy(&mut client, "photos", &pictures(5)).context("COPY")?;
    // An embedding that its image does not have: only a second encoding could change it.
    client.batch_execute(
        "ALTER TABLE photos DISABLE TRIGGER USER;
         UPDATE photos SET embedding = (SELECT embedding FROM photos WHERE id = 1) WHERE id = 2;
         ALTER TABLE photos ENABLE TRIGGER USER;
         INSERT INTO clip_templates (domain, words) VALUES ('boats', '{boat,ship}');
         INSERT INTO clip_attributes (attribute, value, words) VALUES ('colour', 'beige', '{beige,sand}');
         UPDATE clip_attributes SET words = '{gray,slate}' WHERE value = 'grey';
         UPDATE clip_templates SET templates = '{\"{} at night\"}' WHERE domain = 'vehicle'",
    )?;
    restore(&cluster)?;
    let mut restored = cluster.connect_as(SUPERUSER, "restored")?;
    for query in [
        "SELECT string_agg(id || embedding::text, ' ' ORDER BY id) FROM photos",
        "SELECT string_agg(t::text, ' ' ORDER BY domain, builtin) FROM clip_templates AS t",
        "SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM clip_attributes AS a",
        "SELECT string_agg(c::text, ' ') FROM clip_columns AS c",
        "SELECT string_agg(m.name || m.digest, ' ' ORDER BY m.name) FROM clip_models AS m",
        "SELECT string_agg(e::text, ' ') FROM enhance_prompt('a ship') AS e",
        "SELECT string_agg(e::text, ' ') FROM enhance_prompt('a slate or sand car') AS e",
    ] {
        let before: Option<String> = value(&mut client, query)?;
        assert!(before.is_some(), "{query} has nothing to compare");
        assert_eq!(value::<Option<String>>(&mut restored, query)?, before, "{query}");
    }
    // The column is attached in the restored database too.
    restored.execute("INSERT INTO photos (id, image) VALUES (6, $1)", &[&pictures(6)[5]])?;
    let near = "SELECT (embedding <=> encode_image(image)) < 1e-3 FROM photos WHERE id = 6";
    assert!(value::<bool>(&mut restored, near)?);
    Ok(())
}

#[test]
fn rows_that_wait_are_dumped_with_their_queue() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("dump_queue"))?;
    client.batch_execute(PHOTOS)?;
    copy(&mut client, "photos", &pictures(5)).context("COPY")?;
    // Queued by hand, so that no worker is there before the dump.
    client.batch_execute(
        "SELECT clip_attach('photos', mode => 'async');
         INSERT INTO clip_queue (relation, embedding, key)
         SELECT 'photos', 'embedding', jsonb_build_object('id', id) FROM photos",
    )?;
    restore(&cluster)?;
    let mut restored = cluster.connect_as(SUPERUSER, "restored")?;
    assert_eq!(value::<i64>(&mut restored, "SELECT count(*) FROM clip_queue")?, 5);
    restored.execute("INSERT INTO photos (id, image) VALUES (6, $1)", &[&pictures(6)[5]])?;
    cluster.wait_for("an empty queue", || {
        Ok(value::<i64>(&mut restored, "SELECT count(*) FROM clip_queue")? == 0)
    })?;
    let near = "SELECT count(*) FROM photos WHERE embedding <=> encode_image(image) < 1e-3";
    assert_eq!(value::<i64>(&mut restored, near)?, 6);
    Ok(())
}

#[test]
fn columns_of_attributes_are_restored_as_they_were_and_go_on() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("dump_attributes"))?;
    client.batch_execute(&format!("{PHOTOS}; ALTER TABLE photos ADD \"Colour, of it\" text"))?;
    client.batch_execute(
        "SELECT clip_attach('photos', attributes => 'vehicle:colour=\"Colour, of it\"')",
    )?;
    copy(&mut client, "photos", &pictures(5)).context("COPY")?;
    client.batch_execute("UPDATE photos SET \"Colour, of it\" = NULL WHERE id = 1")?;
    restore(&cluster)?;
    let mut restored = cluster.connect_as(SUPERUSER, "restored")?;
    for query in [
        "SELECT string_agg(id || coalesce(\"Colour, of it\", '-'), ' ' ORDER BY id) FROM photos",
        "SELECT attributes FROM clip_columns",
    ] {
        let before: String = value(&mut client, query)?;
        assert_eq!(value::<String>(&mut restored, query)?, before, "{query}");
    }
    restored.execute("INSERT INTO photos (id, image) VALUES (6, $1)", &[&pictures(6)[5]])?;
    let filled = "SELECT \"Colour, of it\" = (SELECT value FROM clip_fill_attributes(embedding)
         WHERE attribute = 'colour') FROM photos WHERE id = 6";
    assert!(value::<bool>(&mut restored, filled)?);
    Ok(())
}

/// pg_dump as the database's owner, who is no superuser, failed: "failed to get data for sequence
/// clip_queue_id_seq", then "permission denied for table clip_model". It carries what that role may
/// read: rows that wait, templates, but no directories of the server.
#[test]
fn the_owner_of_a_database_dumps_what_he_may_read() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("dump_owner"))?;
    register_second(&cluster, &mut client)?;
    client.batch_execute(
        "CREATE ROLE owner LOGIN; ALTER DATABASE postgres OWNER TO owner; GRANT ALL ON SCHEMA public TO owner;
         SELECT clip_register_root('archive', '/usr', '{owner}');
         INSERT INTO clip_templates (domain, words) VALUES ('boats', '{boat,ship}')",
    )?;
    let mut owner = cluster.connect_as("owner", "postgres")?;
    owner.batch_execute(PHOTOS)?;
    copy(&mut owner, "photos", &pictures(3)).context("COPY")?;
    owner.batch_execute("SELECT clip_attach('photos', mode => 'async')")?;
    client.batch_execute(
        "CREATE TABLE secret (id bigint PRIMARY KEY, image bytea, embedding embedding);
         INSERT INTO clip_queue (relation, embedding, key) VALUES ('photos', 'embedding', '{\"id\": 1}');
         INSERT INTO clip_queue (relation, embedding, key) VALUES ('secret', 'embedding', '{\"id\": 2}')",
    )?;
    let dump = |role: &str| -> Result<String> {
        let mut dump = cluster.client_program("pg_dump", "postgres");
        let dump = dump.env("PGUSER", role).args(["--exclude-table", "secret"]).output()?;
        ensure!(dump.status.success(), "pg_dump: {}", String::from_utf8_lossy(&dump.stderr));
        Ok(String::from_utf8(dump.stdout)?)
    };
    let (theirs, all) = (dump("owner")?, dump(SUPERUSER)?);
    let directory: String =
        value(&mut client, "SELECT directory FROM clip_models WHERE name = 'second'")?;
    assert!(all.contains(&directory) && !theirs.contains(&directory), "{theirs}");
    assert!(theirs.contains("boats") && theirs.contains("clip_ingest"), "{theirs}");
    let queued = |dump: &str, key: &str| dump.contains(&format!("{{\"id\": {key}}}"));
    assert!(queued(&theirs, "1") && !queued(&theirs, "2"), "{theirs}");
    client.batch_execute("DROP TABLE secret; DELETE FROM clip_queue")?;
    restore_as(&cluster, "owner")?;
    let mut restored = cluster.connect_as(SUPERUSER, "restored")?;
    assert_eq!(value::<i64>(&mut restored, "SELECT count(*) FROM clip_models")?, 1);
    assert_eq!(value::<i64>(&mut restored, "SELECT count(*) FROM clip_columns")?, 1);
    drop(restored);
    client.batch_execute("DROP DATABASE restored")?;
    restore(&cluster)?;
    let mut restored = cluster.connect_as(SUPERUSER, "restored")?;
    for query in [
        "SELECT directory FROM clip_models WHERE name = 'second'",
        "SELECT directory || roles::text FROM clip_roots",
    ] {
        let before: String = value(&mut client, query)?;
        assert_eq!(value::<String>(&mut restored, query)?, before, "{query}");
    }
    Ok(())
}
