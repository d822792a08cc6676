//! What an ordinary role may do, and what it may not.

use anyhow::{Context, Result};
use pgclip_cluster::Cluster;
use pgclip_tests::{copy, make_photos, pictures, register_second, sqlstate, start, value};
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

/// `clip_attach` of a stranger's table waited for a lock behind a writer, and every later writer waited
/// behind it, before it said that one must own the table. Rights are looked at before locks.
#[test]
fn a_stranger_waits_for_no_lock() -> Result<()> {
    let (cluster, mut client) = prepared("strangers")?;
    client.batch_execute("CREATE INDEX photos_index ON photos USING clip_hnsw (embedding)")?;
    let oid: u32 = value(&mut client, "SELECT 'photos'::regclass::oid")?;
    let index: u32 = value(&mut client, "SELECT 'photos_index'::regclass::oid")?;
    // Locked so that nobody else may so much as read, until the end of this test.
    client.batch_execute("BEGIN; LOCK TABLE photos; DROP INDEX photos_index")?;
    let mut stranger = cluster.connect_as("stranger", "postgres")?;
    stranger.batch_execute("SET statement_timeout = '20s'")?;
    for statement in [
        format!("SELECT clip_attach({oid}::oid::regclass)"),
        format!("SELECT clip_detach({oid}::oid::regclass)"),
        format!("CALL clip_backfill({oid}::oid::regclass)"),
        format!("CALL clip_reencode({oid}::oid::regclass, 'pgclip-traffic-tiny')"),
        format!("SELECT clip_index_check({index}::oid::regclass)"),
        format!("SELECT clip_index_stats({index}::oid::regclass)"),
        format!(
            "SELECT clip_evaluate({oid}::oid::regclass, {oid}::oid::regclass, {oid}::oid::regclass)"
        ),
        "SELECT count(*) FROM text_search(NULL::photos, 'a red bus')".into(),
        "SELECT count(*) FROM image_search(NULL::photos, '\\x00')".into(),
    ] {
        assert_eq!(state(&mut stranger, &statement), DENIED, "{statement}");
    }
    Ok(())
}

/// Encoding keeps a processor or a GPU busy. One REVOKE keeps a role from it, by whatever function it
/// comes: `encode_texts` and the searches used to need another each.
#[test]
fn a_revoke_keeps_a_role_from_the_encoder() -> Result<()> {
    let (cluster, mut client) = prepared("revoked")?;
    client.batch_execute(
        "REVOKE EXECUTE ON FUNCTION encode_text(text, text), encode_image(bytea, text) FROM PUBLIC;
         CREATE TABLE queries AS SELECT 1 AS id, 'a red bus' AS query;
         CREATE TABLE relevance AS SELECT 1 AS query, 1::bigint AS photo;
         GRANT SELECT ON queries, relevance TO reader",
    )?;
    let mut reader = cluster.connect_as("reader", "postgres")?;
    let any = "(SELECT embedding FROM photos LIMIT 1)";
    for statement in [
        "SELECT encode_text('a')".into(),
        "SELECT encode_texts('{a}')".into(),
        "SELECT encode_image('\\x00')".into(),
        "SELECT encode_images(ARRAY['\\x00'::bytea])".into(),
        "SELECT clip_query('a red bus')".into(),
        "SELECT clip_query('a red bus', enhance => false)".into(),
        "SELECT * FROM text_search(NULL::photos, 'a red bus')".into(),
        "SELECT * FROM image_search(NULL::photos, '\\x00')".into(),
        "SELECT * FROM clip_evaluate('queries', 'relevance', 'photos')".into(),
        format!("SELECT * FROM zero_shot({any}, '{{a,b}}')"),
        format!("SELECT * FROM zero_shot({any}, '{{a,b}}', '{{\"a {{}}\"}}'::text[])"),
        format!("SELECT * FROM clip_fill_attributes({any})"),
    ] {
        assert_eq!(state(&mut reader, &statement), DENIED, "{statement}");
    }
    // What needs no encoder goes on.
    reader.batch_execute("SELECT * FROM enhance_prompt('a red bus'); SELECT id FROM photos ORDER BY embedding <=> (SELECT embedding FROM photos LIMIT 1)")?;
    // A table is encoded as its rows are written with the rights of its owner.
    let mut stranger = cluster.connect_as("stranger", "postgres")?;
    stranger.batch_execute(
        "CREATE TABLE mine (id bigint PRIMARY KEY, image bytea, embedding embedding)",
    )?;
    assert_eq!(state(&mut stranger, "SELECT clip_attach('mine')"), DENIED);
    client.batch_execute("GRANT EXECUTE ON FUNCTION encode_image(bytea, text) TO stranger")?;
    stranger.batch_execute("SELECT clip_attach('mine')")?;
    let picture = &pictures(1)[0];
    stranger.execute("INSERT INTO mine VALUES (1, $1)", &[picture])?;
    client.batch_execute("REVOKE EXECUTE ON FUNCTION encode_image(bytea, text) FROM stranger")?;
    let refused = stranger.execute("INSERT INTO mine VALUES (2, $1)", &[picture]);
    assert_eq!(sqlstate(refused), DENIED);
    let mut writer = cluster.connect_as("writer", "postgres")?;
    writer.execute("INSERT INTO photos (id, image) VALUES (100, $1)", &[picture])?;
    Ok(())
}

/// Everybody may look at `clip_status`. Looking used to start an encoder, and to wait for it.
#[test]
fn looking_at_the_status_starts_nothing() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("status"))?;
    assert_eq!(value::<String>(&mut client, "SELECT state FROM clip_status")?, "down");
    assert!(cluster.encoders().is_empty());
    client.batch_execute("SELECT encode_text('a')")?;
    assert_eq!(value::<String>(&mut client, "SELECT state FROM clip_status")?, "running");
    for encoder in cluster.encoders() {
        encoder.signal(libc::SIGKILL);
    }
    // The session's own connection is dead: that is seen, and nothing is waited for.
    let known = ["down", "running"];
    let state: String = value(&mut client, "SELECT state FROM clip_status")?;
    assert!(known.contains(&state.as_str()), "{state}");
    Ok(())
}

/// With `RUST_BACKTRACE=1` in the server's environment every error had a backtrace in its DETAIL, with
/// the paths of the machine that built the library.
#[test]
fn no_backtrace_is_told_to_users() -> Result<()> {
    for preload in [false, true] {
        let builder = Cluster::builder("backtrace").preload(preload);
        let builder =
            builder.environment("RUST_BACKTRACE", "1").environment("RUST_LIB_BACKTRACE", "1");
        let (cluster, mut client) = start(&builder)?;
        for statement in [
            "SELECT encode_text('a', 'none')",
            "SELECT '[1]'::embedding <=> '[1,2]'",
            "SELECT encode_image('\\x00')",
            "SELECT * FROM text_search(5, 'a')",
            "SELECT 1/0 FROM clip_status",
            "DO $$BEGIN PERFORM encode_text('a', 'none'); END$$",
        ] {
            let error = client.batch_execute(statement).err().context(statement)?;
            let told = error.as_db_error().context(statement)?;
            let told = format!("{} {:?} {:?}", told.message(), told.detail(), told.hint());
            assert!(!told.contains(".rs") && !told.contains("pgclip::"), "{statement}: {told}");
        }
        assert!(!cluster.log().contains("pgclip::"), "{}", cluster.log());
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

/// Somebody's files in the place of ours: errors said "Not a directory" after twenty seconds, and not of
/// what. They name the file and the way out, at once.
#[test]
fn damaged_files_of_ours_are_named_with_the_way_out() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("damaged"))?;
    let told = |client: &mut Client| -> Result<String> {
        let error = client.batch_execute("SELECT encode_text('a')").err().context("it encodes")?;
        let told = error.as_db_error().context("no error of the server's")?;
        let (detail, hint) = (told.detail().unwrap_or_default(), told.hint().unwrap_or_default());
        Ok(format!("{} {detail} {hint}", told.message()))
    };
    let ours = cluster.data().join("pgclip");
    std::fs::write(&ours, "a file")?;
    let named = told(&mut client)?;
    assert!(named.contains("\"pgclip\" in the data directory is no directory"), "{named}");
    assert!(named.contains("remove \"pgclip\""), "{named}");
    std::fs::remove_file(&ours)?;
    std::fs::create_dir_all(ours.join("supervisor.lock"))?;
    let named = told(&mut client)?;
    assert!(named.contains("\"pgclip/supervisor.lock\""), "{named}");
    std::fs::remove_dir_all(&ours)?;
    client.batch_execute("SELECT encode_text('a')")?;
    Ok(())
}

/// An embedding is written for who may not write it himself as the table's owner. The owner's trigger then
/// found the caller's temporary table by the name of its own, and ran the trigger that it had: whoever might
/// insert became superuser. Such a session is refused; with the right to write, everything runs as the caller.
#[test]
fn temporary_objects_of_who_inserts_are_not_found_by_the_owners_code() -> Result<()> {
    let (cluster, mut client) = prepared("temporary")?;
    client.batch_execute(
        "CREATE TABLE audit (what text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO audit VALUES (TG_OP); RETURN NEW; END$$;
         CREATE TABLE noted (id bigint PRIMARY KEY, image bytea, embedding embedding);
         SELECT clip_attach('noted');
         CREATE TRIGGER note AFTER UPDATE ON noted FOR EACH ROW EXECUTE FUNCTION note();
         GRANT INSERT ON noted TO writer",
    )?;
    let picture = &pictures(1)[0];
    let mut writer = cluster.connect_as("writer", "postgres")?;
    writer.batch_execute(
        "CREATE TEMP TABLE audit (what text); GRANT ALL ON audit TO PUBLIC;
         CREATE FUNCTION pg_temp.take() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN EXECUTE 'ALTER ROLE writer SUPERUSER'; RETURN NEW; END$$;
         CREATE TRIGGER take BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION pg_temp.take()",
    )?;
    let insert = "INSERT INTO noted (id, image) VALUES ($1, $2)";
    assert_eq!(sqlstate(writer.execute(insert, &[&1_i64, picture])), DENIED);
    // As whoever may write it himself, his own code runs with his own rights, which do not suffice.
    client.batch_execute("GRANT SELECT, UPDATE ON noted TO writer; ALTER TABLE noted DISABLE TRIGGER pgclip_embedding")?;
    writer.execute(insert, &[&2_i64, picture])?;
    client.batch_execute("ALTER TABLE noted ENABLE TRIGGER pgclip_embedding")?;
    assert_eq!(sqlstate(writer.execute(insert, &[&3_i64, picture])), DENIED);
    assert_eq!(state(&mut writer, "CALL clip_backfill('noted')"), DENIED);
    let taken = "SELECT rolsuper FROM pg_roles WHERE rolname = 'writer'";
    assert!(!value::<bool>(&mut client, taken)?, "the writer is superuser");
    // Who brings nothing is served, and the owner's code finds what is the owner's.
    let mut other = cluster.connect_as("writer", "postgres")?;
    client.batch_execute("GRANT INSERT ON audit TO writer")?;
    other.execute(insert, &[&4_i64, picture])?;
    assert!(value::<bool>(&mut client, "SELECT embedding IS NOT NULL FROM noted WHERE id = 4")?);
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM audit")?, 1);
    Ok(())
}

/// The embedding is written with the owner's rights for who may not write it. A check that refused the row
/// then showed all of it to who had inserted it, columns that he may not read among them.
#[test]
fn an_error_shows_nothing_of_a_row_that_one_may_not_read() -> Result<()> {
    let (cluster, mut client) = prepared("shown")?;
    client.batch_execute(
        "CREATE TABLE hushed (id bigint PRIMARY KEY, image bytea, embedding embedding, secret text DEFAULT 'the secret',
             CONSTRAINT never CHECK (embedding IS NULL));
         SELECT clip_attach('hushed');
         GRANT INSERT (id, image) ON hushed TO writer;
         GRANT INSERT (id, image), SELECT ON hushed TO reader",
    )?;
    let insert = "INSERT INTO hushed (id, image) VALUES ($1, $2)";
    let mut id = 0_i64;
    let mut refused = |role: &str| {
        id += 1;
        let mut inserter = cluster.connect_as(role, "postgres")?;
        let error = inserter.execute(insert, &[&id, &pictures(1)[0]]).err();
        let error = error.context("a row that the check forbids was inserted")?;
        let error = error.as_db_error().context("no error of the server's")?;
        assert_eq!(error.code().code(), "23514");
        assert!(error.message().contains("\"never\""), "{}", error.message());
        anyhow::Ok(error.detail().unwrap_or_default().to_owned())
    };
    let told = refused("writer")?;
    assert!(!told.contains("secret") && told.contains("not shown"), "{told}");
    // Who may read the table may read it in errors as well.
    let told = refused("reader")?;
    assert!(told.contains("the secret"), "{told}");
    Ok(())
}

/// The views of what waits, failed and is attached let conditions see rows of tables that one may not read,
/// before they were left out: a function that costs nothing was called first.
#[test]
fn a_condition_sees_no_rows_that_a_view_hides() -> Result<()> {
    let (cluster, mut client) = prepared("barrier")?;
    client.batch_execute(
        "CREATE TABLE hers (id text PRIMARY KEY, image bytea, embedding embedding);
         SELECT clip_attach('hers', on_error => 'null');
         INSERT INTO hers VALUES ('her secret', 'no image');
         CREATE SCHEMA theirs AUTHORIZATION writer",
    )?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_errors")?, 1);
    let folder = cluster.sockets().join("pictures");
    std::fs::create_dir(&folder)?;
    let folder = folder.display().to_string();
    client.execute("SELECT clip_register_root('archive', $1, '{reader}')", &[&folder])?;
    let mut writer = cluster.connect_as("writer", "postgres")?;
    writer.batch_execute("CREATE TABLE theirs.seen (what text)")?;
    // With nothing to convert, which would cost something.
    for kind in ["text", "name"] {
        writer.batch_execute(&format!(
            "CREATE FUNCTION theirs.look({kind}) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
             $$BEGIN INSERT INTO theirs.seen VALUES ($1); RETURN true; END$$"
        ))?;
    }
    for (view, what) in [
        ("clip_errors", "reason"),
        ("clip_columns", "image"),
        ("clip_roots", "name"),
        ("clip_progress", "embedding"),
    ] {
        writer.batch_execute(&format!("SELECT * FROM {view} WHERE theirs.look({what})"))?;
        let seen = "SELECT coalesce(string_agg(what, ', '), '') FROM theirs.seen";
        assert_eq!(value::<String>(&mut writer, seen)?, "", "{view}");
    }
    Ok(())
}

/// A trigger that calls our function need not be one that `clip_attach` made. One that runs before the row,
/// or under a condition, never did anything but stand in the way of a root's or a model's end; one with mode
/// async on a temporary table queued rows that nobody could ever encode.
#[test]
fn a_trigger_made_by_hand_blocks_and_queues_nothing() -> Result<()> {
    let (cluster, mut client) = prepared("forged")?;
    register_second(&cluster, &mut client)?;
    let folder = cluster.sockets().join("pictures");
    std::fs::create_dir(&folder)?;
    let folder = folder.display().to_string();
    client.execute("SELECT clip_register_root('archive', $1, '{reader}')", &[&folder])?;
    client.batch_execute("CREATE SCHEMA theirs AUTHORIZATION writer")?;
    let mut writer = cluster.connect_as("writer", "postgres")?;
    let digest: String =
        value(&mut client, "SELECT digest FROM clip_models WHERE name = 'second'")?;
    writer.batch_execute(&format!(
        "CREATE TABLE theirs.paths (id int PRIMARY KEY, image text, embedding embedding);
         CREATE TRIGGER paths AFTER INSERT OR UPDATE OF image, embedding ON theirs.paths
             FOR EACH ROW EXECUTE FUNCTION clip_ingest('pgclip-traffic-tiny', 'x', 'root=archive');
         CREATE TABLE theirs.odd (id int PRIMARY KEY, image bytea, embedding embedding);
         CREATE TRIGGER before BEFORE INSERT OR UPDATE OF image, embedding ON theirs.odd
             FOR EACH ROW EXECUTE FUNCTION clip_ingest('second', '{digest}');
         CREATE TRIGGER sometimes AFTER INSERT OR UPDATE OF image, embedding ON theirs.odd
             FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION clip_ingest('second', '{digest}');
         CREATE TRIGGER once AFTER INSERT OR UPDATE OF image, embedding ON theirs.odd
             FOR EACH STATEMENT EXECUTE FUNCTION clip_ingest('second', '{digest}');
         CREATE TEMP TABLE passing (id int PRIMARY KEY, image bytea, embedding embedding);
         CREATE TRIGGER later AFTER INSERT OR UPDATE OF image, embedding, id ON passing
             FOR EACH ROW EXECUTE FUNCTION clip_ingest('second', '{digest}', 'on_error=null', 'mode=async')",
    ))?;
    let picture = &pictures(1)[0];
    let insert = "INSERT INTO passing VALUES (1, $1)";
    assert_eq!(sqlstate(writer.execute(insert, &[picture])), "0A000");
    let insert = "INSERT INTO theirs.odd VALUES (1, $1)";
    assert_ne!(sqlstate(writer.execute(insert, &[picture])), "no error");
    assert_eq!(state(&mut writer, "INSERT INTO theirs.paths VALUES (1, 'a.jpg')"), DENIED);
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_queue")?, 0);
    let bound = "SELECT count(*) FROM clip_columns WHERE relation = 'theirs.odd'::regclass";
    assert_eq!(value::<i64>(&mut client, bound)?, 0);
    client.batch_execute("SELECT clip_drop_root('archive')")?;
    drop(writer);
    cluster.wait_for("the temporary table's end", || {
        value(&mut client, "SELECT NOT EXISTS (SELECT FROM pg_class WHERE relname = 'passing')")
    })?;
    client.batch_execute("SELECT clip_drop_model('second')")?;
    Ok(())
}
