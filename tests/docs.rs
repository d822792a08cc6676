//! The book is held to the program. Every SQL block of README.md and of docs/ is run by psql, and what
//! is printed under it must come out; the reference's pages must be what the server and the source say
//! of themselves; the tree in README.md must be the one that is there; links must lead somewhere.
//!
//! A person who types what a page says and gets an error stops reading. Documents of ours told settings
//! that had other defaults and folders that had moved, since nothing read them but people.
//!
//! A harness of its own, so that each page is a test with a name. `PGCLIP_BLESS=1` writes outputs and
//! the reference as they come out; read the difference. The rules for pages stand in [`page`].

#[path = "docs/errors.rs"]
mod errors;
#[path = "docs/fixture.rs"]
mod fixture;
#[path = "docs/house.rs"]
mod house;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/reference.rs"]
mod reference;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use pgclip_cluster::Server;

use crate::fixture::Fixture;
use crate::page::Page;

/// Blocks of SQL that nobody runs, over all pages: each has its reason, and they are to stay few.
const MOST_SKIPPED: usize = 6;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn blessing() -> bool {
    std::env::var_os("PGCLIP_BLESS").is_some()
}

/// The server that all pages share, started by the first that needs it.
struct Shared(OnceLock<std::result::Result<Fixture, String>>);

impl Shared {
    fn get(&self) -> Result<&Fixture> {
        let start = || Fixture::start().map_err(|error| format!("{error:#}"));
        self.0.get_or_init(start).as_ref().map_err(|error| anyhow!("{error}"))
    }
}

fn trial(name: String, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// Is it the server that pages show: plans look otherwise on others, and casts want pgvector's types?
fn is_the_books(server: &Server) -> bool {
    server.major() == 18 && server.has_extension("vector")
}

fn trials() -> Result<Vec<Trial>> {
    let other = !is_the_books(&Server::find()?);
    let shared = Arc::new(Shared(OnceLock::new()));
    let mut trials = Vec::new();
    let (mut run, mut skipped) = (0, Vec::new());
    for file in house::pages()? {
        let page = Page::read(&file).with_context(|| file.display().to_string())?;
        run += page.run();
        skipped.extend(page.skipped());
        if page.run() > 0 {
            let (shared, title) = (Arc::clone(&shared), page.title());
            let test = trial(format!("page::{title}"), move || page.check(shared.get()?));
            trials.push(test.with_ignored_flag(other));
        }
    }
    eprintln!("blocks run: {run}; not run: {}", skipped.len());
    skipped.iter().for_each(|reason| eprintln!("  not run: {reason}"));
    trials.push(trial("skipped_blocks_are_few".into(), move || {
        anyhow::ensure!(skipped.len() <= MOST_SKIPPED, "{} blocks are not run", skipped.len());
        Ok(())
    }));
    for part in reference::PARTS {
        let shared = Arc::clone(&shared);
        let name = format!("reference::{}", part.name);
        trials.push(trial(name, move || part.check(shared.get()?)).with_ignored_flag(other));
    }
    let shared_ = Arc::clone(&shared);
    trials.push(trial("every_object_has_a_comment".into(), move || {
        reference::every_object_has_a_comment(shared_.get()?)
    }));
    trials.push(trial("codes_are_their_conditions".into(), move || {
        errors::codes_are_their_conditions(shared.get()?)
    }));
    trials.push(trial("the_tree_is_the_true_one".into(), house::the_tree_is_the_true_one));
    trials.push(trial("named_paths_are_there".into(), house::named_paths_are_there));
    trials.push(trial("links_lead_somewhere".into(), house::links_lead_somewhere));
    trials.push(trial("every_page_is_in_the_summary".into(), house::every_page_is_in_the_summary));
    trials.push(trial("documents_are_short".into(), house::documents_are_short));
    trials.push(trial("history_is_in_decisions".into(), house::history_is_in_decisions));
    Ok(trials)
}
