//! SQL regression: every `sql/NAME.sql` goes through psql into a database of its own that has
//! the extension, and what psql prints must equal `expected/NAME.out` (or `NAME_1.out`, …).
//!
//! `make test-server TESTS='--test regress'` runs all of them, `… -- NAME` those with NAME in
//! their name, and `PGCLIP_BLESS=1` writes what came out to `expected/`. What came out lies in
//! `target/regress`. Errors show their SQLSTATE. Files that end in `_pgvector` run where the
//! server has pgvector. A file can read pictures with psql, whose variable `root` is the
//! checkout:
//!
//! ```sql
//! \set picture `base64 -w0 "$ROOT/crates/clip/tests/golden/rgba.png"`
//! SELECT encode_image(decode(:'picture', 'base64'));
//! ```
//!
//! A harness of its own, so that each file is a test with a name. Each runs twice: with the
//! library loaded at the server's start and without.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use pgclip_cluster::{Cluster, Server, workspace};

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

/// A server that the files run on, started by the first of them.
struct Mode {
    name: &'static str,
    preload: bool,
    cluster: OnceLock<std::result::Result<Cluster, String>>,
}

impl Mode {
    fn new(name: &'static str, preload: bool) -> Arc<Self> {
        Arc::new(Self { name, preload, cluster: OnceLock::new() })
    }

    fn cluster(&self) -> Result<&Cluster> {
        let start = || {
            let started = Cluster::builder(self.name).preload(self.preload).start();
            started.map_err(|error| format!("{error:#}"))
        };
        self.cluster.get_or_init(start).as_ref().map_err(|error| anyhow!("{error}"))
    }
}

fn blessing() -> bool {
    std::env::var_os("PGCLIP_BLESS").is_some()
}

fn folder() -> PathBuf {
    workspace().join("tests")
}

fn trials() -> Result<Vec<Trial>> {
    let server = Server::find()?;
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join("sql"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut modes = vec![Mode::new("sql", false)];
    if !blessing() {
        modes.push(Mode::new("preloaded", true));
    }
    let mut trials = Vec::new();
    for mode in modes {
        for file in &files {
            let name = file.file_stem().context("no name")?.to_string_lossy().into_owned();
            let lacks_pgvector = name.ends_with("_pgvector") && !server.has_extension("vector");
            let (mode, file) = (Arc::clone(&mode), file.clone());
            let title = format!("{}::{name}", mode.name);
            let trial = Trial::test(title, move || {
                check(&mode, &file, &name).map_err(|error| Failed::from(format!("{error:#}")))
            });
            trials.push(trial.with_ignored_flag(lacks_pgvector));
        }
    }
    Ok(trials)
}

fn check(mode: &Mode, file: &Path, name: &str) -> Result<()> {
    let actual = run(mode, file, name)?;
    let results = workspace().join("target/regress").join(mode.name);
    fs::create_dir_all(&results)?;
    let result = results.join(format!("{name}.out"));
    fs::write(&result, &actual)?;

    let expected = folder().join("expected");
    let first = expected.join(format!("{name}.out"));
    let alternatives = (1..10).map(|n| expected.join(format!("{name}_{n}.out")));
    let candidates: Vec<PathBuf> =
        [first.clone()].into_iter().chain(alternatives).filter(|path| path.exists()).collect();
    let difference = result.with_extension("diff");
    if candidates.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text == actual)) {
        let _ = fs::remove_file(difference);
        return Ok(());
    }
    if blessing() {
        fs::create_dir_all(&expected)?;
        fs::write(&first, &actual)?;
        return Ok(());
    }
    // The alternative that differs least is the one that was meant.
    let least = candidates.iter().map(|path| diff(path, &result)).min_by_key(String::len);
    let text = least.unwrap_or_else(|| format!("{} is missing", first.display()));
    fs::write(difference, &text)?;
    // Of the server's log only what a reader of the difference cannot see there: crashes, warnings.
    let log = mode.cluster()?.log();
    let unusual = log.lines().filter(|line| {
        ["PANIC:", "WARNING:", "signal", "pgclip"].iter().any(|word| line.contains(word))
            && !line.contains("STATEMENT:")
    });
    let unusual = unusual.collect::<Vec<_>>().join("\n");
    Err(anyhow!("{text}\n{unusual}"))
}

/// What psql prints for `file`, with nothing in it that depends on the machine.
fn run(mode: &Mode, file: &Path, name: &str) -> Result<String> {
    let database = format!("regress_{name}");
    let cluster = mode.cluster()?;
    let mut client = cluster.connect()?;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"))?;
    client.batch_execute(&format!("CREATE DATABASE {database}"))?;
    let mut session = cluster.connect_as(pgclip_cluster::SUPERUSER, &database)?;
    session.batch_execute("CREATE EXTENSION pgclip").context("CREATE EXTENSION pgclip")?;
    drop(session);

    let mut psql = cluster.client_program("psql", &database);
    // `verbose` is what shows an SQLSTATE; the lines with C source positions go below.
    psql.args(["-X", "-a", "-q", "-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=never"])
        .arg("-v")
        .arg(format!("root={}", workspace().display()))
        .env("ROOT", workspace())
        .env("PGTZ", "UTC")
        .env("PGDATESTYLE", "ISO, YMD")
        .env("PGOPTIONS", "-c intervalstyle=postgres_verbose")
        .current_dir(folder())
        .stdin(File::open(file)?);
    let output = both_outputs(&mut psql)?;
    client.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)"))?;
    let root = workspace().display().to_string();
    let kept = output.lines().filter(|line| !line.starts_with("LOCATION:  "));
    Ok(kept.map(|line| line.replace(&root, "ROOT") + "\n").collect())
}

/// Standard output and error in the order they were written.
fn both_outputs(command: &mut Command) -> Result<String> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds the pipe's writing end too; reading ends when the last one is closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut bytes)?;
    child.wait()?;
    Ok(String::from_utf8(bytes)?)
}

fn diff(expected: &Path, actual: &Path) -> String {
    let run = || -> Result<String> {
        let output = Command::new("diff").arg("-U3").arg(expected).arg(actual).output()?;
        ensure!(
            output.status.code() == Some(1),
            String::from_utf8_lossy(&output.stderr).into_owned()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    run().unwrap_or_else(|error| format!("diff: {error:#}"))
}
