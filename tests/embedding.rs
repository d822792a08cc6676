//! The embedding type against input of any kind, and through dump and restore. What it does with
//! given input is in `sql/embedding*.sql`.

use std::error::Error;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::{Cluster, SUPERUSER};
use pgclip_testkit::dice::Dice;
use pgclip_tests::{start, value};
use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// Bytes sent as they are for a parameter of any type.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl ToSql for Raw {
    fn to_sql(
        &self,
        _type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_type: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Bad data, bad messages and too many dimensions have SQLSTATEs of their own; anything else
/// (a panic is XX000) is a bug.
fn assert_refused_properly(error: &postgres::Error, input: &dyn std::fmt::Debug) {
    let code = error.code().map_or("no SQLSTATE", |code| code.code());
    let known = ["22000", "22003", "22P02", "22P03", "08P01", "54000"];
    assert!(known.contains(&code), "{code} for {input:?}: {error}");
}

#[test]
fn any_bytes_are_read_or_refused() -> Result<()> {
    let (_cluster, mut client) = start(&Cluster::builder("embedding_bytes"))?;
    let echo = client.prepare("SELECT embedding_send($1::embedding)")?;
    let mut dice = Dice::new(1);
    let mut read = 0;
    for _ in 0..3000 {
        let dims = dice.below(12);
        let mut bytes = vec![0, dims as u8, 0, 0];
        bytes.extend((0..2 * dims).map(|_| dice.below(256) as u8 & 0xbb));
        for _ in 0..dice.below(3) {
            match dice.below(3) {
                0 => bytes.truncate(dice.below(bytes.len() + 1)),
                1 => bytes.push(dice.below(256) as u8),
                _ if bytes.is_empty() => {}
                _ => {
                    let at = dice.below(bytes.len());
                    bytes[at] = dice.below(256) as u8;
                }
            }
        }
        match client.query_one(&echo, &[&Raw(bytes.clone())]) {
            Ok(row) => {
                assert_eq!(row.get::<_, Vec<u8>>(0), bytes);
                read += 1;
            }
            Err(error) => assert_refused_properly(&error, &bytes),
        }
    }
    assert!((500..2500).contains(&read), "{read} of 3000 messages were good: a poor test");
    Ok(())
}

#[test]
fn any_text_is_read_or_refused() -> Result<()> {
    const PIECES: &str =
        "[|]|,|,|,| |1|2.5|-3|1e3|65504|65520|1e-9|0.1|\t|.|-|e|nan|inf|[1,2]|é|😀|\"";
    let pieces: Vec<&str> = PIECES.split('|').collect();
    let (_cluster, mut client) = start(&Cluster::builder("embedding_text"))?;
    let twice = "SELECT e::text, e::text::embedding::text FROM (SELECT $1::text::embedding) t(e)";
    let twice = client.prepare(twice)?;
    let mut dice = Dice::new(2);
    let mut read = 0;
    for _ in 0..5000 {
        let mut text = String::from("[1");
        for _ in 0..dice.below(8) {
            text.push_str(pieces[dice.below(pieces.len())]);
        }
        if dice.below(4) > 0 {
            text.push(']');
        }
        match client.query_one(&twice, &[&text]) {
            Ok(row) => {
                assert_eq!(row.get::<_, String>(0), row.get::<_, String>(1), "{text:?}");
                read += 1;
            }
            Err(error) => assert_refused_properly(&error, &text),
        }
    }
    assert!(read > 250, "{read} of 5000 texts were good: a poor test");
    Ok(())
}

/// Runs `pg_dump` on one database and feeds what it writes to `psql` on another, where the first
/// error ends it.
fn dump_and_restore(cluster: &Cluster, from: &str, to: &str) -> Result<()> {
    let mut dump = cluster.client_program("pg_dump", from).stdout(Stdio::piped()).spawn()?;
    let script = dump.stdout.take().context("no output to read")?;
    let psql = cluster
        .client_program("psql", to)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
        .stdin(script)
        .stdout(Stdio::null())
        .output()?;
    ensure!(psql.status.success(), "psql: {}", String::from_utf8_lossy(&psql.stderr));
    ensure!(dump.wait()?.success(), "pg_dump failed");
    Ok(())
}

const STORED: &str = "
CREATE TABLE stored (id int, e embedding(2), f embedding DEFAULT '[0,0]', CHECK (e <-> f < 100));
INSERT INTO stored VALUES (1, '[1,2]', '[3,4]'), (2, '[-0,65504]', NULL), (3, NULL, NULL);
INSERT INTO stored SELECT 4, NULL, array_agg(i % 7)::embedding FROM generate_series(1, 5000) i;
CREATE INDEX ON stored (e);
CREATE VIEW near AS SELECT id FROM stored ORDER BY e <=> '[1,2]';
CREATE MATERIALIZED VIEW mean AS SELECT avg(e) AS e FROM stored;
";

const CONTENTS: &str = "SELECT string_agg(id || coalesce(e::text, '') || coalesce(f::text, ''), ';'
    ORDER BY id) || (SELECT e::text FROM mean) FROM stored";

#[test]
fn dumps_carry_embeddings() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("embedding_dump"))?;
    client.batch_execute(STORED)?;
    client.batch_execute("CREATE DATABASE restored TEMPLATE template0")?;
    dump_and_restore(&cluster, "postgres", "restored")?;
    let mut restored = cluster.connect_as(SUPERUSER, "restored")?;
    let (before, after): (String, String) =
        (value(&mut client, CONTENTS)?, value(&mut restored, CONTENTS)?);
    assert_eq!(before, after);
    Ok(())
}

/// Casts between two extensions' types are easily dumped twice or not at all. Here they are an
/// extension's own, so a dump restores into an empty database, and into one that has pgvector.
#[test]
fn dumps_carry_the_casts_to_pgvector() -> Result<()> {
    let cluster = Cluster::builder("embedding_casts").start()?;
    let mut client = cluster.connect()?;
    let here = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')";
    if !value::<bool>(&mut client, here)? {
        return Ok(());
    }
    client.batch_execute("CREATE EXTENSION pgclip_pgvector CASCADE")?;
    client.batch_execute(
        "CREATE TABLE both_types (e embedding(2), h halfvec(2), v vector(2));
         CREATE VIEW crossed AS SELECT h::embedding AS e, e::halfvec AS h, v::embedding AS w,
             e <=> h AS distance FROM both_types;
         INSERT INTO both_types VALUES ('[1,2]', '[3,4]', '[5,6]')",
    )?;
    client.batch_execute("CREATE DATABASE restored TEMPLATE template0")?;
    client.batch_execute("CREATE DATABASE with_pgvector TEMPLATE template0")?;
    cluster.connect_as(SUPERUSER, "with_pgvector")?.batch_execute("CREATE EXTENSION vector")?;
    for database in ["restored", "with_pgvector"] {
        dump_and_restore(&cluster, "postgres", database)?;
        let mut restored = cluster.connect_as(SUPERUSER, database)?;
        let row: String = value(&mut restored, "SELECT crossed::text FROM crossed")?;
        assert_eq!(row, "(\"[3,4]\",\"[1,2]\",\"[5,6]\",0.01613008990009257)");
    }
    Ok(())
}
