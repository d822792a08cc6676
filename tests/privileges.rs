//! What an ordinary role may do, and what it may not.

use anyhow::{Context, Result};
use pgclip_cluster::Cluster;
use pgclip_tests::{copy, make_photos, pictures, sqlstate, start, value};
use postgres::Client;

const DENIED: &str = "42501";

/// A cluster with a filled table of photos and three roles: `reader` may SELECT, `writer` INSERT
/// alone, `stranger` nothing.
fn prepared(name: &str) -> Result<(Cluster, Client)> {
    let (cluster, mut client) = start(&Cluster::builder(name))?;
    make_photos(&mut client)?;
    copy(&mut client, "photos", &pictures(4)).context("COPY")?;
    client.batch_execute(
        "CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN; CREATE ROLE stranger LOGIN;
         GRANT SELECT ON photos TO reader;
         GRANT INSERT ON photos TO writer;
         GRANT CREATE ON SCHEMA public TO stranger",
    )?;
    Ok((cluster, client))
}

fn state(client: &mut Client, statement: &str) -> String {
    sqlstate(client.batch_execute(statement))
}

#[test]
fn everybody_encodes_and_readers_search() -> Result<()> {
    let (cluster, _) = prepared("readers")?;
    let mut reader = cluster.connect_as("reader", "postgres")?;
    assert!(value::<bool>(&mut reader, "SELECT dims(encode_text('a red bus')) > 0")?);
    let search = "SELECT count(*) FROM text_search(NULL::photos, 'a red bus')";
    assert_eq!(value::<i64>(&mut reader, search)?, 4);
    assert!(value::<i64>(&mut reader, "SELECT count(*) FROM clip_models")? > 0);

    let mut stranger = cluster.connect_as("stranger", "postgres")?;
    assert_eq!(state(&mut stranger, search), DENIED);
    assert_eq!(
        state(&mut stranger, "SELECT * FROM image_search(NULL::photos, '\\x00')"),
        DENIED,
        "rights come before the picture"
    );
    Ok(())
}

#[test]
fn who_may_insert_alone_gets_rows_encoded() -> Result<()> {
    let (cluster, mut client) = prepared("writers")?;
    let mut writer = cluster.connect_as("writer", "postgres")?;
    let picture = &pictures(1)[0];
    writer.execute("INSERT INTO photos (id, image) VALUES (100, $1)", &[picture])?;
    assert!(value::<bool>(&mut client, "SELECT embedding IS NOT NULL FROM photos WHERE id = 100")?);
    assert_eq!(state(&mut writer, "SELECT * FROM photos"), DENIED);
    assert_eq!(state(&mut writer, "UPDATE photos SET embedding = NULL"), DENIED);
    Ok(())
}

#[test]
fn tables_of_others_are_not_attached() -> Result<()> {
    let (cluster, mut client) = prepared("owners")?;
    let mut stranger = cluster.connect_as("stranger", "postgres")?;
    assert_eq!(state(&mut stranger, "SELECT clip_detach('photos')"), DENIED);
    client.batch_execute("SELECT clip_detach('photos')")?;
    let attach = "SELECT clip_attach('photos', image => 'image', embedding => 'embedding')";
    assert_eq!(state(&mut stranger, attach), DENIED);

    stranger.batch_execute(
        "CREATE TABLE mine (id bigint, camera text, image bytea, embedding embedding);
         SELECT clip_attach('mine')",
    )?;
    assert_eq!(copy(&mut stranger, "mine", &pictures(2))?, 2);
    assert_eq!(
        value::<i64>(&mut stranger, "SELECT count(*) FROM mine WHERE embedding IS NULL")?,
        0
    );
    Ok(())
}

#[test]
fn models_are_registered_by_those_who_may_read_the_servers_files() -> Result<()> {
    let (cluster, _) = prepared("models")?;
    let mut stranger = cluster.connect_as("stranger", "postgres")?;
    for statement in [
        "SELECT clip_register_model('theirs', '/etc')",
        "SELECT clip_drop_model('pgclip-traffic-tiny')",
        "SELECT clip_register_builtin()",
        "SELECT * FROM clip_model",
        "SELECT * FROM clip_binding",
        "INSERT INTO clip_templates (domain) VALUES ('theirs')",
        "DELETE FROM clip_templates",
        "INSERT INTO clip_attributes (attribute, value) VALUES ('colour', 'theirs')",
        "UPDATE clip_attributes SET enabled = false",
        "DELETE FROM clip_attributes",
        "SHOW pgclip.encoder_path",
    ] {
        assert_eq!(state(&mut stranger, statement), DENIED, "{statement}");
    }
    // These come from the server's configuration alone, whoever asks.
    for setting in ["pgclip.encoder_path", "pgclip.onnxruntime_path"] {
        let mut superuser = cluster.connect()?;
        superuser.batch_execute("SELECT encode_text('the library is loaded')")?;
        assert_eq!(state(&mut superuser, &format!("SET {setting} = '/bin/true'")), "55P02");
    }
    Ok(())
}

#[test]
fn views_show_what_concerns_tables_that_one_may_read() -> Result<()> {
    let (cluster, _) = prepared("views")?;
    let columns = "SELECT count(*) FROM clip_columns";
    assert_eq!(value::<i64>(&mut cluster.connect_as("reader", "postgres")?, columns)?, 1);
    assert_eq!(value::<i64>(&mut cluster.connect_as("stranger", "postgres")?, columns)?, 0);
    let directory = "SELECT bool_and(directory IS NULL) FROM clip_models";
    assert!(value::<bool>(&mut cluster.connect_as("stranger", "postgres")?, directory)?);
    Ok(())
}
