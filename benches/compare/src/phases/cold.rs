//! Cold: the server started anew, the index's and the table's files out of the operating system's
//! cache, and then queries, each for the first time. Counts what is read. Only these files are put
//! out of the cache, which needs no privilege and disturbs nobody else on the machine.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::bench::{K, Run};
use crate::report::{Better, Entry, short};
use crate::side::Side;
use crate::sweep::Work;

const QUERIES: usize = 50;

/// Each extension after a restart of its own.
pub fn run(run: &mut Run) -> Result<()> {
    println!("--> cold: {QUERIES} queries after a restart");
    let mut queries = run.data.own.clone();
    queries.truncate(QUERIES);
    let judge = run.judge(run.data, &queries, K)?;
    let mut seconds = [None; 2];
    let mut reads = [None; 2];
    for side in run.sides() {
        let files = files(run, side)?;
        run.bench.cluster.restart()?;
        let dropped = files.iter().filter(|file| forget(file).is_ok()).count();
        if dropped < files.len() {
            println!("    {} files stayed in the operating system's cache", files.len() - dropped);
        }
        // Planning is not what is measured: the first query is asked of another vector.
        let mut work = run.single(side, &queries, queries.len(), K)?;
        work.set(&run.setting(side))?;
        let started = Instant::now();
        let (mut recall, mut touched, mut read) = (0.0, 0.0, 0.0);
        for query in 0..queries.len() {
            let (all, missed) = work.touched(query)?;
            (touched, read) = (touched + all, read + missed);
        }
        let took = started.elapsed().as_secs_f64() / queries.len() as f64;
        for (query, ids) in work.answers(0..queries.len())?.iter().enumerate() {
            recall += judge.verdict(query, ids).recall;
        }
        let count = queries.len() as f64;
        let setting = run.setting(side).name;
        println!(
            "    {side:<9} {setting:<44} recall {:.4}  {} ms, {} buffers, of them read {}",
            recall / count,
            short(took * 1e3),
            short(touched / count),
            short(read / count)
        );
        let entry = Entry {
            setting,
            recall: Some(recall / count),
            seconds: Some(took),
            per_second: Some(1.0 / took),
            pages: Some(read / count),
            ..run.entry(side.name(), "cold")
        };
        run.bench.report.results.push(entry);
        let at = usize::from(side == Side::Pgvector);
        seconds[at] = Some(took * 1e3);
        reads[at] = Some(read / count);
    }
    let suffix = run.suffix.clone();
    let report = &mut run.bench.report;
    let what = "a query after a restart";
    report.compare(&format!("cold{suffix}"), what, "ms", Better::Less, seconds);
    let what = "buffers that it reads";
    report.compare(&format!("cold_reads{suffix}"), what, "", Better::Less, reads);
    Ok(())
}

/// The files of a side's table and index, and of the table's out-of-line values.
fn files(run: &Run, side: Side) -> Result<Vec<PathBuf>> {
    let mut client = run.session()?;
    client.batch_execute("CHECKPOINT")?;
    let rows = client.query(
        "SELECT pg_relation_filepath(oid) FROM pg_class WHERE oid IN
             (SELECT indexrelid FROM pg_index WHERE indrelid = $1::text::regclass
              UNION ALL SELECT $1::text::regclass
              UNION ALL SELECT reltoastrelid FROM pg_class WHERE oid = $1::text::regclass)",
        &[&side.table()],
    )?;
    let mut files = Vec::new();
    for row in rows {
        let first = run.bench.cluster.data().join(row.get::<_, String>(0));
        // Relations of more than a gigabyte go on in files with numbers.
        let more = (1..).map(|part| first.with_added_extension(part.to_string()));
        let more = more.take_while(|file| file.exists());
        files.extend(std::iter::once(first.clone()).chain(more));
    }
    Ok(files)
}

/// Puts a file out of the operating system's cache.
fn forget(path: &PathBuf) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    // What is not written yet stays.
    file.sync_all()?;
    // SAFETY: the descriptor is open; the call takes any numbers.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if error == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(error).into()) }
}
