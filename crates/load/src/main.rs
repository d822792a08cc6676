//! `pgclip-load`: image files of a folder, a tar or a CSV of paths into a table, by binary COPY,
//! from any machine that reaches the server.
//!
//! ```text
//!  source ─► names, in batches ─► a worker a connection: which are missing? ─► COPY, COMMIT
//!            (by hash of the name)       └─ readers ─► bytes, bounded ──────────┘
//! ```
//!
//! What is in the table already is known by the column of names, looked up in the transaction that
//! adds the rest: so there is no state beside the table, a load that was killed is resumed by
//! running it again, and no file is read that is there already.

mod connect;
mod item;
mod options;
mod plan;
mod progress;
mod read;
mod source;
mod worker;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::Result;
use clap::Parser;

use crate::item::Item;
use crate::options::Options;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::worker::Worker;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("pgclip-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Loads, and returns how many files failed.
fn run(options: &Options) -> Result<u64> {
    let fields: Vec<String> = options.from.iter().map(|from| from.1.clone()).collect();
    let source = source::open(options, &fields)?;
    let mut control = connect::connect(options)?;
    let plan = Plan::make(&mut control, options)?;
    let progress = Progress::new(options)?;
    let result = thread::scope(|scope| {
        let mut entrances = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..options.connections {
            let (entrance, batches) = sync_channel(1);
            let mut worker = Worker::new(connect::connect(options)?, &plan, options, &progress);
            entrances.push(entrance);
            workers.push(scope.spawn(move || worker.run(batches)));
        }
        let listed = deal(source, &entrances, options, &progress);
        drop(entrances);
        let done: Vec<Result<()>> =
            workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).collect();
        // A worker that stopped is why the listing did.
        done.into_iter().collect::<Result<()>>().and(listed)
    });
    let failed = progress.finish()?;
    result.map(|()| failed)
}

/// Hands the items of a source to the workers, in batches. A name always goes to the same worker:
/// what names it twice is loaded once, with no list of all names.
fn deal(
    source: Box<dyn Iterator<Item = source::Found>>,
    entrances: &[SyncSender<Vec<Item>>],
    options: &Options,
    progress: &Progress,
) -> Result<()> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut open: Vec<Vec<Item>> = entrances.iter().map(|_| Vec::new()).collect();
    for found in source {
        let item = match found {
            Ok(item) => item,
            Err(failure) => {
                progress.failed(&failure.name, &failure.reason)?;
                continue;
            }
        };
        progress.found();
        let at = hasher.hash_one(&item.name) as usize % open.len();
        open[at].push(item);
        if open[at].len() == options.batch && entrances[at].send(open[at].split_off(0)).is_err() {
            return Ok(());
        }
    }
    for (batch, entrance) in open.into_iter().zip(entrances) {
        if !batch.is_empty() && entrance.send(batch).is_err() {
            break;
        }
    }
    Ok(())
}
