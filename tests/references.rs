//! Images that lie outside of their rows: files beneath a root, and large objects.
//!
//! The stories that these tests guard against: an extension that opened any path for anyone, with
//! the server's rights; and a named pipe in a picture folder on which a server waited for ever.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use pgclip_cluster::Cluster;
use pgclip_tests::{both, pictures, sqlstate, start, trapdoor, value};
use postgres::Client;

const DENIED: &str = "42501";

/// A folder that every account can reach, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("pgclip-{name}-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A cluster with a root `archive` for the role `writer`, which may insert into `photos` but not
/// into the table's neighbours; and the folder.
fn prepared(name: &str) -> Result<(Cluster, Client, Folder, PathBuf)> {
    let (cluster, mut client) = start(&Cluster::builder(name))?;
    let folder = Folder::new(name)?;
    let root = folder.path().join("archive");
    fs::create_dir_all(root.join("day 1"))?;
    for (n, picture) in pictures(4).iter().enumerate() {
        fs::write(root.join(format!("day 1/{n}.jpg")), picture)?;
    }
    fs::write(folder.path().join("secret.jpg"), &pictures(5)[4])?;
    // The server runs as another user than we do.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    client.batch_execute(
        "CREATE ROLE owner LOGIN; CREATE ROLE writer LOGIN; CREATE ROLE stranger LOGIN;
         GRANT CREATE ON SCHEMA public TO owner",
    )?;
    client.execute(
        "SELECT clip_register_root('archive', $1, '{owner,writer}')",
        &[&root.to_str().context("a path that is text")?],
    )?;
    let mut owner = cluster.connect_as("owner", "postgres")?;
    owner.batch_execute(
        "CREATE TABLE photos (id int PRIMARY KEY, path text, embedding embedding);
         SELECT clip_attach('photos', image => 'path', root => 'archive');
         GRANT INSERT, SELECT, UPDATE (path) ON photos TO writer, stranger",
    )?;
    Ok((cluster, client, folder, root))
}

fn state(client: &mut Client, statement: &str) -> String {
    sqlstate(client.batch_execute(statement))
}

/// The SQLSTATE and the message of an INSERT of a path.
fn refusal(client: &mut Client, path: &str) -> (String, String) {
    let error = client.execute("INSERT INTO photos VALUES (99, $1)", &[&path]);
    let error = error.expect_err("it was accepted");
    let said = error.as_db_error().expect("the server said it");
    (said.code().code().to_owned(), said.message().to_owned())
}

#[test]
fn paths_are_encoded_as_their_files_are() -> Result<()> {
    let (cluster, mut client, _folder, root) = prepared("paths")?;
    let mut writer = cluster.connect_as("writer", "postgres")?;
    writer.batch_execute(
        "INSERT INTO photos SELECT n, 'day 1/' || n || '.jpg' FROM generate_series(0, 3) AS n",
    )?;
    for (n, picture) in pictures(4).iter().enumerate() {
        let near = "SELECT (embedding <=> encode_image($2)) < 1e-3 FROM photos WHERE id = $1";
        assert!(client.query_one(near, &[&(n as i32), picture])?.get::<_, bool>(0), "{n}");
    }
    // Another path, another embedding; none, none.
    writer.batch_execute("UPDATE photos SET path = 'day 1/3.jpg' WHERE id = 0")?;
    let same = "SELECT count(DISTINCT embedding) FROM photos WHERE id IN (0, 3)";
    assert_eq!(value::<i64>(&mut client, same)?, 1);
    writer.batch_execute("UPDATE photos SET path = NULL WHERE id = 0")?;
    assert!(value::<bool>(&mut client, "SELECT embedding IS NULL FROM photos WHERE id = 0")?);
    // A path may be looked at: it stays in the hit.
    let search =
        "SELECT (hit).path FROM image_search_file(NULL::photos, 'archive', 'day 1/2.jpg', k => 1)";
    assert_eq!(value::<String>(&mut writer, search)?, "day 1/2.jpg");
    let near = "SELECT embedding <=> encode_image_file('archive', path) FROM photos WHERE id = 1";
    assert!(value::<f64>(&mut writer, near)? < 1e-3);
    let listed = "SELECT root FROM clip_columns WHERE relation = 'photos'::regclass";
    assert_eq!(value::<String>(&mut client, listed)?, "archive");
    // The root is part of a dump.
    let dump = cluster.client_program("pg_dump", "postgres").output()?;
    let dump = String::from_utf8(dump.stdout)?;
    let entry = dump.lines().find(|line| line.starts_with("clip_root\t")).unwrap_or_default();
    let parts =
        ["\"archive\"".into(), format!("\"{}\"", root.display()), "[\"owner\", \"writer\"]".into()];
    assert!(parts.iter().all(|part| entry.contains(part)), "{dump}");
    Ok(())
}

#[test]
fn a_column_of_paths_moves_to_another_model() -> Result<()> {
    let (cluster, mut client, folder, _) = prepared("move")?;
    let second = folder.path().join("second");
    trapdoor::make(&second, "second", "hang")?;
    let second = second.to_str().context("a path that is text")?;
    client.execute("SELECT clip_register_model('second', $1)", &[&second])?;
    let mut writer = cluster.connect_as("writer", "postgres")?;
    writer.batch_execute("INSERT INTO photos VALUES (1, 'day 1/1.jpg')")?;
    client.batch_execute("CALL clip_reencode('photos', 'second')")?;
    writer.batch_execute("INSERT INTO photos VALUES (2, 'day 1/2.jpg')")?;
    let columns = "SELECT concat_ws(' ', embedding, model, root) FROM clip_columns";
    assert_eq!(value::<String>(&mut client, columns)?, "embedding second archive");
    let moved = "SELECT count(*) FROM photos
         WHERE embedding <=> encode_image_file('archive', path, 'second') < 1e-3";
    assert_eq!(value::<i64>(&mut client, moved)?, 2);
    Ok(())
}

#[test]
fn no_path_leads_out_of_its_root() -> Result<()> {
    let (cluster, mut client, folder, root) = prepared("leave")?;
    let mut writer = cluster.connect_as("writer", "postgres")?;
    symlink(folder.path().join("secret.jpg"), root.join("link.jpg"))?;
    symlink(folder.path(), root.join("up"))?;
    assert!(Command::new("mkfifo").arg(root.join("pipe.jpg")).status()?.success());
    fs::write(root.join("text.jpg"), "no picture")?;
    let absolute = folder.path().join("secret.jpg");
    let absolute = absolute.to_str().context("a path that is text")?;
    for (path, code, told) in [
        ("../secret.jpg", "22023", "lies outside of its root"),
        ("day 1/../../secret.jpg", "22023", "lies outside of its root"),
        (absolute, "22023", "lies outside of its root"),
        ("/dev/zero", "22023", "lies outside of its root"),
        ("link.jpg", "22023", "is a link"),
        ("up/secret.jpg", "22023", "is a link, or is reached through one"),
        ("pipe.jpg", "22023", "is a pipe"),
        ("day 1", "22023", "is a directory"),
        ("none.jpg", "58P01", "does not exist"),
        ("", "58P01", "does not exist"),
        ("text.jpg", "22P03", "not an image"),
    ] {
        let (state, message) = refusal(&mut writer, path);
        assert!(state == code && message.contains(told), "{path}: {state} {message}");
        assert!(
            message.starts_with("cannot encode column path of table public.photos: "),
            "{message}"
        );
    }
    assert_eq!(refusal(&mut writer, &"x".repeat(5000)).0, "54000");
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM photos")?, 0);
    Ok(())
}

/// The encoder is confined to what was there when it started; files beside the data directory that
/// appear later are read by the next one, which a statement does not notice.
#[test]
fn a_root_may_appear_after_the_encoder() -> Result<()> {
    both("new_root", |cluster, client| {
        let pid = "SELECT pid FROM clip_status";
        client.batch_execute("SELECT encode_text('x')")?;
        let root = cluster.data().with_file_name("archive");
        fs::create_dir(&root)?;
        fs::write(root.join("0.jpg"), &pictures(1)[0])?;
        let before: i32 = value(client, pid)?;
        let root = root.to_str().context("a path that is text")?;
        client.execute("SELECT clip_register_root('archive', $1)", &[&root])?;
        let near = "SELECT encode_image_file('archive', '0.jpg') <=> encode_image($1) < 1e-3";
        assert!(client.query_one(near, &[&pictures(1)[0]])?.get::<_, bool>(0));
        let (after, told) = client
            .query_one("SELECT pid, confinement FROM clip_status", &[])
            .map(|row| (row.get::<_, i32>(0), row.get::<_, String>(1)))?;
        assert_eq!(before != after, !told.contains("no landlock"), "{told}");
        Ok(())
    })
}

#[test]
fn a_root_is_for_its_roles() -> Result<()> {
    let (cluster, mut client, folder, root) = prepared("roles")?;
    let mut stranger = cluster.connect_as("stranger", "postgres")?;
    let mut owner = cluster.connect_as("owner", "postgres")?;
    // Whose right counts is who inserts, not who owns the table.
    assert_eq!(state(&mut stranger, "INSERT INTO photos VALUES (1, 'day 1/1.jpg')"), DENIED);
    assert_eq!(state(&mut stranger, "SELECT encode_image_file('archive', 'day 1/1.jpg')"), DENIED);
    let search = "SELECT * FROM image_search_file(NULL::photos, 'archive', 'day 1/1.jpg')";
    assert_eq!(state(&mut stranger, search), DENIED);
    assert_eq!(state(&mut stranger, "INSERT INTO photos VALUES (1, NULL)"), "no error");
    assert_eq!(state(&mut stranger, "UPDATE photos SET path = 'day 1/1.jpg'"), DENIED);
    assert_eq!(value::<i64>(&mut stranger, "SELECT count(*) FROM clip_roots")?, 0);
    assert_eq!(state(&mut stranger, "SELECT * FROM clip_root"), DENIED);
    assert!(value::<bool>(&mut owner, "SELECT directory IS NULL FROM clip_roots")?);
    // One transaction, two users: each statement is its own user's.
    client.batch_execute("GRANT stranger TO writer")?;
    let mut writer = cluster.connect_as("writer", "postgres")?;
    let both = "BEGIN; INSERT INTO photos VALUES (2, 'day 1/2.jpg'); SET LOCAL ROLE stranger;
                INSERT INTO photos VALUES (3, 'day 1/3.jpg'); COMMIT";
    assert_eq!(state(&mut writer, both), DENIED);
    writer.batch_execute("ROLLBACK")?;

    // Only those who may read files of the server say what a root is.
    let directory = root.to_str().context("a path that is text")?;
    for mine in [
        format!("SELECT clip_register_root('mine', '{directory}', '{{stranger}}')"),
        format!("SELECT clip_register_root('archive', '{directory}', '{{stranger}}')"),
        "SELECT clip_drop_root('archive')".to_owned(),
    ] {
        assert_eq!(state(&mut stranger, &mine), DENIED, "{mine}");
        assert_eq!(state(&mut owner, &mine), DENIED, "{mine}");
    }
    client.batch_execute(&format!("SELECT clip_register_root('mine', '{directory}')"))?;
    let mine = "CREATE TABLE mine (path text, embedding embedding);
                SELECT clip_attach('mine', image => 'path', root => 'mine')";
    assert_eq!(state(&mut owner, mine), DENIED);
    let data = cluster.data();
    // As a tablespace lies there.
    let (space, link) = (folder.path().join("space"), data.join("pg_tblspc/99999"));
    fs::create_dir(&space)?;
    symlink(&space, &link)?;
    let above = data.parent().and_then(Path::parent).context("a folder above")?;
    for (statement, code) in [
        (format!("SELECT clip_register_root('d', '{}')", data.display()), "22023"),
        (format!("SELECT clip_register_root('d', '{}/base')", data.display()), "22023"),
        (format!("SELECT clip_register_root('d', '{}')", above.display()), "22023"),
        (format!("SELECT clip_register_root('d', '{}')", space.display()), "22023"),
        (format!("SELECT clip_register_root('d', '{}')", folder.path().display()), "22023"),
        ("SELECT clip_register_root('d', 'relative')".into(), "22023"),
        ("SELECT clip_register_root('d', '/nowhere/at/all')".into(), "58P01"),
        ("SELECT clip_register_root('d', '/dev/null')".into(), "22023"),
        ("SELECT clip_register_root('a b', '/srv')".into(), "42602"),
        ("SELECT clip_register_root('d', '/srv', '{NULL}')".into(), "22004"),
        ("SELECT clip_register_root('d', '/srv', '{4711}')".into(), "42704"),
        ("SELECT clip_register_root('archive', '/srv')".into(), "42710"),
        ("SELECT clip_drop_root('archive')".into(), "2BP01"),
        ("SELECT clip_drop_root('none')".into(), "42704"),
        ("SELECT clip_attach('photos', image => 'id', root => 'archive')".into(), "42804"),
        ("SELECT clip_attach('photos', image => 'path')".into(), "42804"),
        ("SELECT clip_attach('photos', image => 'path', root => 'none')".into(), "42704"),
    ] {
        assert_eq!(state(&mut client, &statement), code, "{statement}");
    }
    fs::remove_file(link)?;

    // Rights that are taken away are gone with the next statement.
    writer.batch_execute("INSERT INTO photos VALUES (4, 'day 1/1.jpg')")?;
    client.batch_execute(&format!(
        "SELECT clip_register_root('archive', '{directory}', '{{owner}}')"
    ))?;
    assert_eq!(state(&mut writer, "INSERT INTO photos VALUES (5, 'day 1/1.jpg')"), DENIED);
    client.batch_execute("SELECT clip_detach('photos'); SELECT clip_drop_root('archive')")?;
    Ok(())
}

#[test]
fn large_objects_are_read_by_whoever_inserts() -> Result<()> {
    let (cluster, mut client, _folder, _) = prepared("large_objects")?;
    client.batch_execute(
        "CREATE TABLE objects (id int PRIMARY KEY, image oid, embedding embedding);
         SELECT clip_attach('objects');
         GRANT INSERT, SELECT ON objects TO writer, stranger",
    )?;
    let picture = &pictures(1)[0];
    // A comment makes it longer than a piece: FF FE, the length, the comment.
    let mut long = vec![0xff, 0xd8];
    for _ in 0..40 {
        long.extend([0xff, 0xfe, 0xff, 0xff]);
        long.extend([b'x'; 65_533]);
    }
    long.extend(&picture[2..]);
    assert!(long.len() > 2 << 20);
    let mut writer = cluster.connect_as("writer", "postgres")?;
    // Made by the very statement, by the transaction, and before.
    writer.execute("INSERT INTO objects VALUES (1, lo_from_bytea(0, $1))", &[picture])?;
    let mut transaction = writer.transaction()?;
    let object: u32 = transaction.query_one("SELECT lo_from_bytea(0, $1)", &[&long])?.get(0);
    transaction.execute("INSERT INTO objects VALUES (2, $1)", &[&object])?;
    transaction.commit()?;
    writer.execute("INSERT INTO objects VALUES (3, $1)", &[&object])?;
    let near = "SELECT bool_and((embedding <=> encode_image(lo_get(image))) < 1e-3) FROM objects";
    assert!(value::<bool>(&mut client, near)?);
    assert_eq!(value::<i64>(&mut client, "SELECT count(embedding) FROM objects")?, 3);

    let mut stranger = cluster.connect_as("stranger", "postgres")?;
    let insert = "INSERT INTO objects VALUES (4, $1)";
    assert_eq!(sqlstate(stranger.execute(insert, &[&object])), DENIED);
    client.batch_execute(&format!("GRANT SELECT ON LARGE OBJECT {object} TO stranger"))?;
    stranger.execute(insert, &[&object])?;
    assert_eq!(sqlstate(writer.execute("INSERT INTO objects VALUES (5, 4711)", &[])), "42704");
    let text: u32 = writer.query_one("SELECT lo_from_bytea(0, 'text')", &[])?.get(0);
    assert_eq!(sqlstate(writer.execute("INSERT INTO objects VALUES (5, $1)", &[&text])), "22P03");
    // Another object, another embedding.
    client.batch_execute(
        "UPDATE objects SET image = (SELECT image FROM objects WHERE id = 1) WHERE id = 4",
    )?;
    assert!(value::<bool>(&mut client, near)?);
    // Nor does a worker lend its rights to who inserts, nor a failure that is noted.
    client.batch_execute(
        "CREATE TABLE later (LIKE objects INCLUDING ALL); GRANT INSERT ON later TO stranger;
         SELECT clip_attach('later', mode => 'async', on_error => 'null')",
    )?;
    client.batch_execute(&format!("REVOKE SELECT ON LARGE OBJECT {object} FROM stranger"))?;
    assert_eq!(sqlstate(stranger.execute("INSERT INTO later VALUES (1, $1)", &[&object])), DENIED);
    client.execute("INSERT INTO later VALUES (2, $1)", &[&object])?;
    cluster.wait_for("the worker", || {
        value(&mut client, "SELECT bool_and(embedding IS NOT NULL) FROM later")
    })?;
    // Apart from the statement that wrote them, the owner's rights count: a superuser's backfill
    // lends none. What is not to be had is noted, and holds up nothing else.
    client.batch_execute(
        "ALTER TABLE objects OWNER TO stranger; ALTER TABLE photos OWNER TO stranger;
         ALTER TABLE objects DISABLE TRIGGER USER; UPDATE objects SET embedding = NULL;
         INSERT INTO objects VALUES (6, 4711); ALTER TABLE objects ENABLE TRIGGER USER;
         SELECT lo_from_bytea(4712, lo_get(image)) FROM objects WHERE id = 1;
         GRANT SELECT ON LARGE OBJECT 4712 TO stranger;
         ALTER TABLE objects DISABLE TRIGGER USER; INSERT INTO objects VALUES (7, 4712);
         ALTER TABLE objects ENABLE TRIGGER USER",
    )?;
    client.batch_execute("CALL clip_backfill('objects')")?;
    let filled = "SELECT array_agg(id) FROM objects WHERE embedding IS NOT NULL";
    assert_eq!(value::<Vec<i32>>(&mut client, filled)?, [7]);
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_errors")?, 5);
    client.batch_execute(
        "ALTER TABLE photos DISABLE TRIGGER USER; INSERT INTO photos VALUES (1, 'day 1/1.jpg');
         ALTER TABLE photos ENABLE TRIGGER USER",
    )?;
    assert_eq!(state(&mut client, "CALL clip_backfill('photos')"), DENIED);
    client.batch_execute("ALTER TABLE photos OWNER TO owner")?;
    client.batch_execute("CALL clip_backfill('photos')")?;
    assert!(value::<bool>(&mut client, "SELECT embedding IS NOT NULL FROM photos")?);
    Ok(())
}

/// A reference that came with an embedding was nobody's to check: another model, or a backfill, encoded what
/// it points to with the rights of the table's owner, and the embedding told its author what it shows.
#[test]
fn who_writes_a_reference_needs_the_right_to_it_with_an_embedding_too() -> Result<()> {
    let (cluster, mut client, _folder, _) = prepared("given")?;
    client.batch_execute(
        "CREATE TABLE objects (id int PRIMARY KEY, image oid, embedding embedding, note text);
         SELECT clip_attach('objects', on_error => 'null');
         GRANT INSERT, SELECT, UPDATE ON objects, photos TO writer, stranger;
         SELECT lo_from_bytea(4711, 'secret')",
    )?;
    let given: String = value(&mut client, "SELECT encode_text('x')::text")?;
    let mut stranger = cluster.connect_as("stranger", "postgres")?;
    let mut writer = cluster.connect_as("writer", "postgres")?;
    let object =
        |id: i32, image: u32| format!("INSERT INTO objects VALUES ({id}, {image}, '{given}')");
    assert_eq!(state(&mut stranger, &object(1, 4711)), DENIED);
    // One that is not there might be somebody's tomorrow.
    assert_eq!(state(&mut stranger, &object(1, 4799)), "42704");
    let path = |id: i32| format!("INSERT INTO photos VALUES ({id}, 'day 1/1.jpg', '{given}')");
    assert_eq!(state(&mut stranger, &path(1)), DENIED);
    for statement in [path(1), path(2), "INSERT INTO objects VALUES (1, NULL)".into()] {
        writer.batch_execute(&statement)?;
    }
    // Changes as well, but none that leave the image as it is.
    let both = format!("UPDATE objects SET image = 4711, embedding = '{given}'");
    assert_eq!(state(&mut stranger, &both), DENIED);
    let both = format!("UPDATE photos SET path = 'day 1/2.jpg', embedding = '{given}'");
    assert_eq!(state(&mut stranger, &both), DENIED);
    client.batch_execute(&object(2, 4711))?;
    stranger
        .batch_execute("UPDATE objects SET note = 'seen', embedding = embedding, image = image")?;
    stranger.batch_execute(&format!("UPDATE photos SET embedding = '{given}', path = path"))?;
    // The right to a root is that of the moment.
    writer.batch_execute("PREPARE add AS INSERT INTO photos VALUES ($1, 'day 1/1.jpg', $2)")?;
    writer.batch_execute(&format!("EXECUTE add (3, '{given}')"))?;
    client.batch_execute("UPDATE clip_root SET roles = '{owner}'")?;
    assert_eq!(state(&mut writer, &format!("EXECUTE add (4, '{given}')")), DENIED);
    Ok(())
}
