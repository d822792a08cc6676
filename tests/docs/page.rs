//! One page: its blocks, what runs of them, and what must come out.
//!
//! - A block that begins with three backticks and `sql` is run by psql, all of a page in one session.
//! - `sh run` is run by bash between them, in the same folder.
//! - A `text` block straight after one of these is what it prints; `…` in a line stands for anything, a line of
//!   `…` alone for any lines. Without it the block must raise no error.
//! - `sql skip: REASON` is not run, and counted.
//! - Every block names its language.
//!
//! A page that creates the extension itself begins in an empty database, every other one with the table
//! `photos` of the tutorial. `/srv` in a page is a folder of the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use pgclip_cluster::workspace;

use crate::blessing;
use crate::fixture::Fixture;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sql,
    Shell,
    Other,
}

struct Block {
    kind: Kind,
    /// Lines between the fences, counted from 0: first, and one past the last.
    lines: std::ops::Range<usize>,
    body: String,
    /// The block of what it prints.
    expected: Option<std::ops::Range<usize>>,
}

pub struct Page {
    file: PathBuf,
    text: Vec<String>,
    blocks: Vec<Block>,
    skipped: Vec<String>,
}

impl Page {
    pub fn read(file: &Path) -> Result<Self> {
        let text: Vec<String> = fs::read_to_string(file)?.lines().map(str::to_owned).collect();
        let mut page =
            Self { file: file.to_owned(), text, blocks: Vec::new(), skipped: Vec::new() };
        let mut line = 0;
        // The block that ended last, if nothing but blank lines came since.
        let mut last = None;
        while line < page.text.len() {
            let Some(info) = page.text[line].strip_prefix("```") else {
                if !page.text[line].trim().is_empty() {
                    last = None;
                }
                line += 1;
                continue;
            };
            let first = line + 1;
            let length = page.text[first..].iter().position(|text| text == "```");
            let length = length.with_context(|| format!("line {first}: a block does not end"))?;
            let lines = first..first + length;
            let info = info.trim().to_owned();
            let (language, rest) = info.split_once(' ').unwrap_or((&info, ""));
            let kind = match (language, rest.trim()) {
                ("", _) => bail!("line {first}: a block names no language"),
                ("sql", "") => Kind::Sql,
                ("sh", "run") => Kind::Shell,
                ("sql", rest) => {
                    let reason = rest.strip_prefix("skip:").unwrap_or_default().trim();
                    ensure!(
                        !reason.is_empty(),
                        "line {first}: \"sql {rest}\" is no \"sql skip: REASON\""
                    );
                    page.skipped.push(format!("{}:{first}: {reason}", page.title()));
                    Kind::Other
                }
                _ => Kind::Other,
            };
            if language == "text"
                && let Some(runs) = last.take()
            {
                let block: &mut Block = &mut page.blocks[runs];
                block.expected = Some(lines.clone());
            } else if kind == Kind::Other {
                last = None;
            } else {
                last = Some(page.blocks.len());
                let body = page.text[lines.clone()].join("\n") + "\n";
                page.blocks.push(Block { kind, lines: lines.clone(), body, expected: None });
            }
            line = lines.end + 1;
        }
        Ok(page)
    }

    /// The path below the checkout, without its ending.
    pub fn title(&self) -> String {
        let path = self.file.strip_prefix(workspace()).unwrap_or(&self.file);
        path.with_extension("").display().to_string()
    }

    /// How many blocks are run.
    pub fn run(&self) -> usize {
        self.blocks.len()
    }

    /// Those that are not, each with its reason.
    pub fn skipped(&self) -> Vec<String> {
        self.skipped.clone()
    }

    fn creates_extension(&self) -> bool {
        self.blocks.iter().any(|block| block.body.contains("CREATE EXTENSION pgclip;"))
    }

    pub fn check(mut self, fixture: &Fixture) -> Result<()> {
        let name: String =
            self.title().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let name = name.to_ascii_lowercase();
        let database = fixture.database(&name, self.creates_extension())?;
        let folder = fixture.folder(&name)?;
        let printed = self.play(fixture, &database, &folder)?;
        let mut wrong = Vec::new();
        let mut changes = Vec::new();
        for (block, printed) in self.blocks.iter().zip(&printed) {
            let place = format!("{}.md:{}", self.title(), block.lines.start);
            match &block.expected {
                Some(lines) => {
                    let expected = &self.text[lines.clone()];
                    if !matches(expected, printed) {
                        wrong.push(format!(
                            "{place} should print\n{}\nbut prints\n{}",
                            expected.join("\n"),
                            printed.join("\n")
                        ));
                        changes.push((lines.clone(), printed.clone()));
                    }
                }
                None => {
                    let error = printed.iter().any(|line| is_error(line));
                    if error {
                        bail!("{place} fails:\n{}{}", block.body, printed.join("\n"));
                    }
                }
            }
        }
        if blessing() {
            for (lines, printed) in changes.into_iter().rev() {
                self.text.splice(lines, printed);
            }
            fs::write(&self.file, self.text.join("\n") + "\n")?;
            return Ok(());
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        Ok(())
    }

    /// Runs the blocks, and returns what each printed.
    fn play(&self, fixture: &Fixture, database: &str, folder: &Path) -> Result<Vec<Vec<String>>> {
        const MARK: &str = "-- block --";
        // A shell says the mark, since psql empties its own output before it starts one.
        let mark = format!("\n\\! echo '{MARK}'\n");
        let mut script = String::from("\\set VERBOSITY default\n\\set SHOW_CONTEXT never\n");
        for (number, block) in self.blocks.iter().enumerate() {
            script += &mark;
            match block.kind {
                Kind::Shell => {
                    fs::write(
                        folder.join(format!("block-{number}.sh")),
                        fixture.to_test(&block.body),
                    )?;
                    script += &format!("\\! bash -e block-{number}.sh 2>&1");
                }
                _ => script += &fixture.to_test(&block.body),
            }
        }
        script += &mark;
        fs::write(folder.join("page.sql"), &script)?;
        let mut psql: Command = fixture.client("psql", database);
        psql.args(["-X", "-q", "-f", "page.sql"]).current_dir(folder);
        let output = fixture::both_outputs(&mut psql)?;
        let output = fixture.to_page(&output);
        let mut parts: Vec<Vec<String>> = Vec::new();
        for line in output.lines() {
            if line == MARK {
                parts.push(Vec::new());
            } else if let Some(part) = parts.last_mut() {
                // psql names the file and the line of an error.
                let line = line.strip_prefix("psql:page.sql:").map_or(line, |rest| {
                    rest.split_once(": ").map_or(rest, |(_, message)| message)
                });
                part.push(line.trim_end().to_owned());
            }
        }
        ensure!(parts.len() == self.blocks.len() + 1, "psql ended early:\n{output}");
        parts.truncate(self.blocks.len());
        for part in &mut parts {
            while part.last().is_some_and(String::is_empty) {
                part.pop();
            }
            while part.first().is_some_and(String::is_empty) {
                part.remove(0);
            }
        }
        Ok(parts)
    }
}

use crate::fixture;

fn is_error(line: &str) -> bool {
    ["ERROR:", "FATAL:", "PANIC:", "invalid command", "error: "]
        .iter()
        .any(|word| line.starts_with(word))
        || line.contains("command not found")
        || line.contains("No such file or directory")
}

/// Is this what was printed, where `…` stands for anything?
fn matches(expected: &[String], printed: &[String]) -> bool {
    match (expected.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((line, rest)), _) if line.trim() == "…" => {
            (0..=printed.len()).any(|skip| matches(rest, &printed[skip..]))
        }
        (Some((line, rest)), Some((found, others))) => {
            line_matches(line.trim_end(), found) && matches(rest, others)
        }
        _ => false,
    }
}

fn line_matches(expected: &str, found: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|start| found.strip_prefix(start)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((end, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(end)
}
