//! What the user sees: a progress bar on a terminal, the files that failed and why, and at the end
//! one line of counts.

use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::options::Options;

/// Failures that are written to the terminal; the report has all.
const SHOWN: u64 = 20;

#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    file: Mutex<Option<csv::Writer<File>>>,
    loaded: AtomicU64,
    present: AtomicU64,
    failed: AtomicU64,
    max_failures: u64,
}

impl Progress {
    pub fn new(options: &Options) -> Result<Self> {
        let bar = ProgressBar::new(0);
        bar.set_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} files, {per_sec}, {elapsed} {msg}")
                .expect("the template is right"),
        );
        let open = |path| {
            let mut file = csv::Writer::from_path(path)?;
            file.write_record(["name", "reason"])?;
            Ok::<_, csv::Error>(file)
        };
        let file = options.report.as_ref().map(open).transpose();
        Ok(Self {
            bar,
            file: Mutex::new(file.context("cannot write the report")?),
            loaded: AtomicU64::new(0),
            present: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            max_failures: options.max_failures,
        })
    }

    /// A file was listed.
    pub fn found(&self) {
        self.bar.inc_length(1);
    }

    /// A batch was committed.
    pub fn committed(&self, loaded: u64, present: u64) {
        self.loaded.fetch_add(loaded, Ordering::Relaxed);
        self.present.fetch_add(present, Ordering::Relaxed);
        self.bar.inc(loaded + present);
    }

    /// A file failed; an error when too many have.
    pub fn failed(&self, name: &str, reason: &str) -> Result<()> {
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.inc(1);
        self.bar.set_message(format!("({failed} failed)"));
        if failed <= SHOWN {
            self.bar.suspend(|| eprintln!("{name}: {reason}"));
        }
        if let Some(file) = &mut *self.file.lock().expect("no thread panics with it") {
            // Written through, so that a load that is killed has told what it knew.
            file.write_record([name, reason])?;
            file.flush()?;
        }
        if failed > self.max_failures {
            bail!("more than {} files failed", self.max_failures);
        }
        Ok(())
    }

    /// Prints the counts and returns how many failed.
    pub fn finish(&self) -> Result<u64> {
        self.bar.finish_and_clear();
        let [loaded, present, failed] =
            [&self.loaded, &self.present, &self.failed].map(|count| count.load(Ordering::Relaxed));
        if failed > SHOWN {
            eprintln!("… and {} more", failed - SHOWN);
        }
        println!("{loaded} loaded, {present} there already, {failed} failed");
        Ok(failed)
    }
}
