//! Damaged indexes: pages of garbage, of another format version, of other indexes, cut files. The
//! bytes are written into the file while the server is down. Whatever they are, a statement that
//! meets them fails with an error that names the index and the block, and the backend lives.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::{Cluster, Shutdown};
use pgclip_tests::value;
use pgclip_tests::vectors::{COSINE, Clusters, Dice, ensure_whole, fill, make_tables, start_quiet};
use postgres::Client;

const PAGE: usize = 8192;

/// A cluster with an index whose file is written to.
struct Victim {
    cluster: Cluster,
    file: PathBuf,
    intact: Vec<u8>,
}

impl Victim {
    fn new(name: &str, dims: usize, rows: usize, options: &str) -> Result<(Self, Client)> {
        let (cluster, mut client) = start_quiet(name)?;
        let mut clusters = Clusters::new(71, dims, 20);
        make_tables(&mut client, &mut clusters, rows)?;
        // Rows of equal vectors, so that there are overflow tuples.
        client.batch_execute("INSERT INTO t SELECT 100000 + id, v, f FROM t WHERE id % 10 = 0")?;
        client.batch_execute(&format!("CREATE INDEX i ON t USING clip_hnsw (v, f) {options}"))?;
        let path: String = value(&mut client, "SELECT pg_relation_filepath('i')")?;
        cluster.stop(Shutdown::Fast)?;
        // Else the server notices all of it before the index does.
        let _ = cluster
            .account()
            .command(cluster.server().program("pg_checksums"))
            .args(["--disable", "--pgdata"])
            .arg(cluster.data())
            .output()?;
        let file = cluster.data().join(path);
        let intact = std::fs::read(&file)?;
        let victim = Self { cluster, file, intact };
        victim.cluster.start()?;
        let client = victim.cluster.connect()?;
        Ok((victim, client))
    }

    fn blocks(&self) -> usize {
        self.intact.len() / PAGE
    }

    /// Writes these pages of the intact file changed by `change`, and starts the server again.
    fn with(&self, change: impl FnOnce(&mut Vec<u8>)) -> Result<Client> {
        self.cluster.stop(Shutdown::Fast)?;
        let mut bytes = self.intact.clone();
        change(&mut bytes);
        let file = File::options().write(true).open(&self.file)?;
        file.set_len(bytes.len() as u64)?;
        file.write_all_at(&bytes, 0)?;
        drop(file);
        self.cluster.start()?;
        self.cluster.connect()
    }
}

/// What a user may do with an index.
const STATEMENTS: [&str; 7] = [
    "SET enable_seqscan = off; SET enable_sort = off;
     SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> (SELECT v FROM queries WHERE id = 1) LIMIT 20) n",
    "SET pgclip.iterative_scan = relaxed;
     SELECT count(*) FROM (SELECT id FROM t WHERE f < 70 ORDER BY v <=> (SELECT v FROM queries WHERE id = 2)) n",
    "SELECT * FROM clip_index_check('i')",
    "SELECT * FROM clip_index_stats('i')",
    "INSERT INTO t SELECT 200000 + id, v, f FROM queries WHERE id < 20",
    "INSERT INTO t SELECT 300000 + id, v, f FROM t WHERE id < 20",
    "DELETE FROM t WHERE id % 7 = 3",
];

/// Runs all statements and a vacuum; says how many failed, all in the right way.
fn ensure_refused(victim: &Victim, client: &mut Client, what: &str) -> Result<usize> {
    let backend: i32 = value(client, "SELECT pg_backend_pid()")?;
    let mut failed = 0;
    for statement in STATEMENTS.into_iter().chain(["VACUUM t", "VACUUM (INDEX_CLEANUP on) t"]) {
        let Err(error) = client.batch_execute(statement) else { continue };
        let error = error
            .as_db_error()
            .with_context(|| format!("{what}: {statement}: {error}\n{}", victim.cluster.log()))?;
        failed += 1;
        let (code, message) = (error.code().code(), error.message());
        // XX001 is the server's own for a page whose header cannot be, or that is not there. Other
        // dimensions can be.
        ensure!(
            ["XX002", "XX001"].contains(&code) || what == "dimensions" && code == "22000",
            "{what}: {statement}: {code}: {message}\n{:?}",
            error.detail()
        );
        if code == "XX002" {
            ensure!(message.contains("index \"i\"") && message.contains("block "), "{message}");
            ensure!(error.hint().is_some(), "no hint with: {message}");
        }
    }
    ensure!(value::<i32>(client, "SELECT pg_backend_pid()")? == backend, "{what}");
    Ok(failed)
}

fn ensure_calm(victim: &Victim) -> Result<()> {
    let log = victim.cluster.log();
    ensure!(!log.contains("all server processes terminated"), "a backend crashed:\n{log}");
    ensure!(!log.contains("panicked at"), "a panic:\n{log}");
    Ok(())
}

/// Another format version, older or newer, is told as such, with both numbers, and REINDEX is all it
/// takes.
#[test]
fn another_format_version_is_refused() -> Result<()> {
    for version in [1, 9] {
        let (victim, client) = Victim::new("version", 16, 200, "")?;
        drop(client);
        let mut client = victim.with(|bytes| bytes[24 + 4] = version)?;
        let error = client
            .batch_execute("SELECT * FROM clip_index_stats('i')")
            .expect_err("another version than this one's");
        let error = error.as_db_error().context("the server's own")?;
        assert_eq!(error.code().code(), "XX002");
        let message = error.message();
        let told = format!("format version {version}");
        ensure!(message.contains(&told) && message.contains("reads version 2"), "{message}");
        ensure!(error.hint().is_some_and(|hint| hint.contains("REINDEX")), "no hint");
        ensure_refused(&victim, &mut client, &told)?;
        client.batch_execute("REINDEX INDEX i")?;
        ensure_whole(&mut client, COSINE, "i")?;
        ensure_calm(&victim)?;
    }
    Ok(())
}

/// Fields of the meta page, each with values that cannot be.
#[test]
fn a_meta_page_that_cannot_be_is_refused() -> Result<()> {
    let (victim, client) = Victim::new("meta", 16, 200, "")?;
    drop(client);
    let meta = 24;
    let changes: [(&str, usize, &[u8]); 11] = [
        ("magic", 0, b"xxxx"),
        ("metric", 6, &[0]),
        ("metric", 6, &[200]),
        ("columns", 7, &[5]),
        ("columns", 7, &[255]),
        ("dimensions", 8, &[17, 0]),
        ("dimensions", 8, &[255, 255]),
        ("m", 10, &[0, 0]),
        ("placement", 12, &[3]),
        ("entry point past the end", 14, &[0xff, 0xff, 0xff, 0x7f, 1, 0]),
        ("entry point in the meta page", 14, &[0, 0, 0, 0, 1, 0]),
    ];
    for (what, at, new) in changes {
        let mut client =
            victim.with(|bytes| bytes[meta + at..][..new.len()].copy_from_slice(new))?;
        let failed = ensure_refused(&victim, &mut client, what)?;
        ensure!(failed > 0, "{what}: nobody noticed");
    }
    // No error, but nothing that could crash either: a level that the entry point has not, a mean
    // that is no number.
    for (at, new) in [(13, &[15u8][..]), (48, &[0, 0, 0xc0, 0x7f]), (40, &[255; 8])] {
        let mut client =
            victim.with(|bytes| bytes[meta + at..][..new.len()].copy_from_slice(new))?;
        ensure_refused(&victim, &mut client, "soft")?;
    }
    ensure_calm(&victim)
}

/// Garbage in the place of pages: all of a page, or bytes here and there.
fn garbage(name: &str, dims: usize, rows: usize, options: &str) -> Result<()> {
    let (victim, client) = Victim::new(name, dims, rows, options)?;
    drop(client);
    let mut dice = Dice::new(72);
    let mut failed = 0;
    for round in 0..24 {
        let block = dice.below(victim.blocks());
        let what = format!("round {round}, block {block}");
        let mut client = victim.with(|bytes| {
            let whole = bytes.clone();
            let others = dice.below(victim.blocks());
            match round % 6 {
                // Bytes of a page's items, or of all pages' items.
                0 | 1 => {
                    let count = if round % 6 == 0 { 1 + dice.below(30) } else { 20_000 };
                    for _ in 0..count {
                        let page = if round % 6 == 0 {
                            block
                        } else {
                            3 + dice.below(victim.blocks() - 3)
                        };
                        let at = 24 + dice.below(PAGE - 24 - 16);
                        bytes[page * PAGE + at] = dice.bits() as u8;
                    }
                }
                2 => bytes[block * PAGE..][24..PAGE - 16]
                    .iter_mut()
                    .for_each(|byte| *byte = dice.bits() as u8),
                3 => bytes[block * PAGE..][..PAGE]
                    .iter_mut()
                    .for_each(|byte| *byte = dice.bits() as u8),
                4 => bytes[block * PAGE..][..PAGE].copy_from_slice(&whole[others * PAGE..][..PAGE]),
                // A page that was never written, in the middle or all from there on.
                _ if round % 2 == 0 => bytes[block * PAGE..][..PAGE].fill(0),
                _ => bytes.truncate(block.max(1) * PAGE),
            }
        })?;
        failed += ensure_refused(&victim, &mut client, &what)?;
    }
    println!("{failed} statements were refused");
    ensure!(failed > 0, "nobody noticed anything");
    ensure_calm(&victim)?;
    let mut client = victim.cluster.connect()?;
    client.batch_execute("REINDEX INDEX i")?;
    fill(&mut client, "t", 900_000, &Clusters::new(73, dims, 20).take(50))?;
    ensure_whole(&mut client, COSINE, "i")
}

#[test]
fn garbage_with_inline_codes_crashes_nothing() -> Result<()> {
    garbage("garbage_inline", 16, 300, "WITH (m = 4)")
}

#[test]
fn garbage_with_codes_apart_crashes_nothing() -> Result<()> {
    garbage("garbage_apart", 1600, 60, "")
}

#[test]
fn garbage_without_codes_crashes_nothing() -> Result<()> {
    garbage("garbage_plain", 2600, 60, "WITH (m = 4)")
}

/// Every byte of the header of a page of each kind: the server's own functions trust it, and end the
/// whole server where a page's item pointers end before its header does.
#[test]
fn headers_that_cannot_be_are_refused() -> Result<()> {
    let (victim, client) = Victim::new("headers", 16, 300, "WITH (m = 4)")?;
    drop(client);
    // The meta page, a vector, elements, upper layers with further rows.
    for block in [0, 2, 3, victim.blocks() - 1] {
        // The first eight are the server's place in its log.
        for at in 8..24 {
            for value in if block >= 3 { &[0u8, 1, 0xff][..] } else { &[0xff][..] } {
                let what = format!("block {block}, byte {at} = {value}");
                let mut client = victim.with(|bytes| bytes[block * PAGE + at] = *value)?;
                ensure_refused(&victim, &mut client, &what)?;
                drop(client);
                ensure_calm(&victim).with_context(|| what)?;
            }
        }
    }
    Ok(())
}
