//! `pgclip-load` on a real server: good, broken, huge and unreadable files, a load that is killed
//! midway and resumed, and what comes with images.
//!
//! The story that these tests guard against: a load of a million files dies at night, is started
//! again in the morning, and leaves some files twice and others nowhere, with nobody to tell which.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::{pictures, start, value};
use postgres::Client;

const TABLE: &str = "CREATE TABLE photos (name text PRIMARY KEY, camera text, lane int, \
    taken_at timestamptz, image bytea NOT NULL, embedding embedding)";

fn loader(cluster: &Cluster, source: &Path) -> Command {
    let mut command = cluster.client_program("pgclip-load", "postgres");
    command.arg(source).args(["--table", "photos"]);
    command
}

/// Exit status and what was written to standard output and error.
fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn names(client: &mut Client) -> Result<Vec<String>> {
    let rows = client.query("SELECT name FROM photos ORDER BY name COLLATE \"C\"", &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[test]
fn what_can_be_loaded_is_loaded_and_the_rest_is_told() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("load_faults"))?;
    client.batch_execute(TABLE)?;
    client.batch_execute("SELECT clip_attach('photos')")?;
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    fs::create_dir_all(root.join("day 1/night"))?;
    let pictures = pictures(60);
    for (n, picture) in pictures.iter().enumerate() {
        let place = if n % 2 == 0 { "day 1" } else { "day 1/night" };
        fs::write(root.join(place).join(format!("{n:02}.jpg")), picture)?;
    }
    fs::write(root.join("day 1/17broken.jpg"), b"no picture")?;
    fs::write(root.join("cut.jpg"), &pictures[0][..pictures[0].len() / 2])?;
    fs::write(root.join("empty.jpg"), b"")?;
    fs::write(root.join("readme.txt"), b"no image, and none of our business")?;
    File::create(root.join("huge.jpg"))?.set_len(3 << 20)?;
    std::os::unix::fs::symlink("nowhere", root.join("gone.jpg"))?;
    let report = root.join("failed.csv");

    let mut command = loader(&cluster, root);
    command.args(["--max-size", "2", "--batch", "16", "--prefix", "a/", "--report"]).arg(&report);
    let (status, out, err) = told(&command.output()?);
    assert_eq!(out, "60 loaded, 0 there already, 5 failed\n", "{err}");
    assert_eq!(status, 1);
    let mut failed: Vec<String> = fs::read_to_string(&report)?.lines().map(Into::into).collect();
    failed[1..].sort();
    assert_eq!(failed[0], "name,reason");
    for (line, begin) in failed[1..].iter().zip([
        "a/cut.jpg,refused by the server: cannot encode column image of table public.photos: the JPEG",
        "a/day 1/17broken.jpg,refused by the server: cannot encode column image of table public.photos: \
         not an image: 10 bytes",
        "a/empty.jpg,refused by the server",
        "a/huge.jpg,\"cannot be read: 3145728 bytes, more than the 2097152 that are allowed\"",
        "gone.jpg,cannot be read",
    ]) {
        let line = line.replace("\"\"", "\"");
        let plain = line.replacen(",\"refused", ",refused", 1);
        assert!(plain.starts_with(begin), "{line}\nnot: {begin}");
    }
    assert_eq!(failed.len(), 6, "{failed:?}");

    // Each good file once, with its own bytes and the embedding of these.
    assert_eq!(names(&mut client)?.len(), 60);
    for (n, picture) in pictures.iter().enumerate() {
        let place = if n % 2 == 0 { "day 1" } else { "day 1/night" };
        let name = format!("a/{place}/{n:02}.jpg");
        let row = client
            .query_one("SELECT image FROM photos WHERE name = $1", &[&name])
            .with_context(|| name.clone())?;
        assert!(row.get::<_, &[u8]>(0) == &picture[..], "{name} has other bytes");
    }
    let near = "SELECT bool_and((embedding <=> encode_image(image)) < 1e-3) FROM photos";
    assert!(value::<bool>(&mut client, near)?);

    // Once more: nothing is there to do but what failed.
    let (status, out, _) = told(&command.output()?);
    assert_eq!((status, &*out), (1, "0 loaded, 60 there already, 5 failed\n"));
    // Too many failures end it.
    command.args(["--max-failures", "3"]);
    let (status, _, err) = told(&command.output()?);
    assert!(status == 2 && err.contains("more than 3 files failed"), "{err}");
    Ok(())
}

#[test]
fn a_load_that_was_killed_is_resumed_and_leaves_each_file_once() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("load_killed"))?;
    // No unique key: what would keep a file from being there twice is the loader alone.
    client.batch_execute(
        "CREATE TABLE photos (name text, image bytea);
         CREATE INDEX ON photos (name);
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_catalog.pg_sleep(0.01); RETURN new; END';
         CREATE TRIGGER slow BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION slow()",
    )?;
    let folder = tempfile::tempdir()?;
    for n in 0..400 {
        fs::write(folder.path().join(format!("{n:03}.png")), n.to_string())?;
    }
    let count = "SELECT count(*) FROM photos";
    let mut command = loader(&cluster, folder.path());
    command
        .args(["--batch", "8", "--connections", "3"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut seen = 0;
    for _ in 0..3 {
        let mut child = command.spawn()?;
        cluster.wait_for("more rows", || Ok(value::<i64>(&mut client, count)? > seen + 20))?;
        child.kill()?;
        child.wait()?;
        seen = value(&mut client, count)?;
        ensure!(seen < 400, "the load was over before it was killed");
        let twice = "SELECT count(*) - count(DISTINCT name) FROM photos";
        assert_eq!(value::<i64>(&mut client, twice)?, 0);
    }
    let output = loader(&cluster, folder.path()).args(["--batch", "8"]).output()?;
    let (status, out, err) = told(&output);
    assert_eq!(status, 0, "{out}{err}");
    let expected: Vec<String> = (0..400).map(|n| format!("{n:03}.png")).collect();
    assert_eq!(names(&mut client)?, expected);
    let right = "SELECT bool_and(ltrim(left(name, 3), '0') = ltrim(convert_from(image, 'UTF8'), '0')) FROM photos";
    assert!(value::<bool>(&mut client, right)?);
    Ok(())
}

#[test]
fn values_come_from_the_source_and_rows_that_do_not_fit_are_left_out() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("load_values"))?;
    client.batch_execute(TABLE)?;
    client.batch_execute("ALTER TABLE photos ADD CHECK (lane < 9)")?;
    let folder = tempfile::tempdir()?;
    for name in ["a.jpg", "b.jpg", "c.jpg", "d.jpg"] {
        fs::write(folder.path().join(name), name)?;
    }
    let list = folder.path().join("list.csv");
    let lines = "when,file,lane\n2026-11-01 10:00+00,a.jpg,3\n2026-11-01 11:00+00,b.jpg,three\n\
                 2026-11-01 12:00+00,c.jpg,9\n2026-11-01 13:00+00,d.jpg,4\n\
                 2026-11-01 14:00+00,a.jpg,5\n2026-11-01 15:00+00,none.jpg,5\n";
    fs::write(&list, lines)?;
    let mut command = loader(&cluster, &list);
    command.args(["--path-field", "file", "--from", "taken_at=when", "--from", "lane=lane"]);
    command.args(["--set", "camera=north \"gate\""]);
    let (status, out, err) = told(&command.output()?);
    assert_eq!((status, &*out), (1, "2 loaded, 1 there already, 3 failed\n"), "{err}");
    for told in [
        "b.jpg: refused by the server: invalid input syntax for type integer: \"three\" (22P02)",
        "c.jpg: refused by the server: new row for relation \"photos\" violates check constraint",
        "none.jpg: cannot be read: No such file",
    ] {
        assert!(err.contains(told), "{told} is not in\n{err}");
    }
    let rows = client.query(
        "SELECT name, camera, lane, extract(hour FROM taken_at AT TIME ZONE 'UTC')::int, image \
         FROM photos ORDER BY name",
        &[],
    )?;
    let rows: Vec<(&str, &str, i32, i32, &[u8])> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)))
        .collect();
    assert_eq!(
        rows,
        [
            ("a.jpg", "north \"gate\"", 3, 10, &b"a.jpg"[..]),
            ("d.jpg", "north \"gate\"", 4, 13, b"d.jpg")
        ]
    );

    // A tar with values beside the images.
    let path = folder.path().join("shard.tar");
    let mut tar = tar::Builder::new(File::create(&path)?);
    for (name, content) in [
        ("x/1.jpg", "one"),
        ("x/1.json", "{\"lane\": 1}"),
        ("x/1.txt", "gate 1\n"),
        ("x/2.jpg", "two"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes())?;
    }
    tar.into_inner()?;
    let mut command = loader(&cluster, &path);
    command.args(["--from", "lane=json:lane", "--from", "camera=txt"]);
    let (status, out, err) = told(&command.output()?);
    assert_eq!((status, &*out), (0, "2 loaded, 0 there already, 0 failed\n"), "{err}");
    let rows = client.query(
        "SELECT camera, lane, convert_from(image, 'UTF8') FROM photos WHERE name LIKE 'x/%' ORDER BY name",
        &[],
    )?;
    let rows: Vec<(Option<&str>, Option<i32>, &str)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(rows, [(Some("gate 1"), Some(1), "one"), (None, None, "two")]);

    // What concerns no row ends the load.
    for (arguments, told) in [
        (["--set", "gate=1"], "table photos has no column \"gate\""),
        (["--image-column", "name"], "a column is named twice"),
        (["--table", "none"], "there is no table none"),
    ] {
        let mut command = cluster.client_program("pgclip-load", "postgres");
        command.arg(&path).args(arguments);
        if arguments[0] != "--table" {
            command.args(["--table", "photos"]);
        }
        let (status, _, err) = told_of(&mut command)?;
        assert!(status == 2 && err.contains(told), "{arguments:?}: {err}");
    }
    // Nor do two loads of one table run at once: each would add what the other is adding.
    client.batch_execute(&format!(
        "SELECT pg_advisory_lock({} + 'photos'::regclass::oid::bigint)",
        0x7067_6c00_0000_0000_i64
    ))?;
    let (status, _, err) = told_of(&mut loader(&cluster, &path))?;
    assert!(status == 2 && err.contains("another pgclip-load is loading into photos"), "{err}");
    Ok(())
}

fn told_of(command: &mut Command) -> Result<(i32, String, String)> {
    Ok(told(&command.output()?))
}
