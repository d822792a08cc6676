//! The documents as files: which there are, whether links and the tree in README.md are true, and that
//! each keeps to its length and to the present.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::workspace;

/// What a page may not have: what was. It has a place, `docs/decisions`, and the changelog.
const HISTORY: [&str; 7] = [
    "earlier version",
    "used to be",
    "formerly",
    "previously",
    "no longer the",
    "minutes before",
    "was once",
];

fn markdown(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            markdown(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    Ok(())
}

/// The book's files.
fn book() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    markdown(&workspace().join("docs"), &mut files)?;
    Ok(files)
}

/// The documents whose blocks are run.
pub fn pages() -> Result<Vec<PathBuf>> {
    let mut files = vec![workspace().join("README.md")];
    files.extend(book()?);
    Ok(files)
}

fn documents() -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(|name| workspace().join(name))
        .into();
    files.extend(pages()?);
    Ok(files)
}

fn shown(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}

/// README.md's tree: the first block after the heading "Where what is".
fn tree() -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace().join("README.md"))?;
    let (_, rest) = text.split_once("## Where what is").context("README.md has no tree")?;
    let block = rest.split("```").nth(1).context("README.md has no tree")?;
    let (mut folders, mut paths) = (Vec::<String>::new(), Vec::new());
    for line in block.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let indent = line.len() - line.trim_start().len();
        if indent > 6 {
            continue; // the rest of a description
        }
        let name = line.split_whitespace().next().context("an empty line")?;
        folders.truncate(indent / 2);
        let path = folders.concat() + name;
        if name.ends_with('/') {
            folders.push(name.to_owned());
        }
        paths.push(path);
    }
    Ok(paths)
}

/// Folders below `folder` that git knows.
fn folders(folder: &str) -> Result<BTreeSet<String>> {
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-tree", "-d", "--name-only", "HEAD", folder])
        .current_dir(workspace())
        .output();
    let listed = listed.ok().filter(|output| output.status.success());
    let Some(listed) = listed else {
        // No history, as in an archive: whatever is there and not hidden.
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(workspace().join(folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() && !name.starts_with('.') && name != "target" {
                names.insert(format!("{folder}{name}/"));
            }
        }
        return Ok(names);
    };
    let text = String::from_utf8(listed.stdout)?;
    Ok(text.lines().filter(|name| !name.starts_with('.')).map(|name| format!("{name}/")).collect())
}

/// README.md once listed a file that had become three, and lacked a crate.
pub fn the_tree_is_the_true_one() -> Result<()> {
    let paths = tree()?;
    for path in &paths {
        ensure!(workspace().join(path).exists(), "README.md lists {path}, which is not there");
    }
    let listed: BTreeSet<String> = paths.into_iter().collect();
    let mut there = folders("")?;
    there.extend(folders("crates/")?);
    there.extend(folders("src/")?);
    let missing: Vec<&String> = there
        .iter()
        .filter(|path| workspace().join(path).exists() && !listed.contains(*path))
        .collect();
    ensure!(missing.is_empty(), "README.md does not list {missing:?}");
    Ok(())
}

/// The anchor of a heading, as code hosts and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

/// Targets of the links of a text, outside of blocks.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        }
        if inside {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some(end) = part.find(')') {
                links.push(part[..end].to_owned());
            }
        }
    }
    links
}

pub fn links_lead_somewhere() -> Result<()> {
    let mut wrong = Vec::new();
    for file in documents()? {
        let text = fs::read_to_string(&file)?;
        let folder = file.parent().context("no folder")?;
        for link in links(&text) {
            if link.starts_with("http") || link.starts_with("mailto:") {
                continue;
            }
            let (path, wanted) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { file.clone() } else { folder.join(path) };
            let found = fs::read_to_string(&target);
            let has = |text: &str| {
                let headings = text.lines().filter(|line| line.starts_with('#'));
                headings.into_iter().any(|line| anchor(line.trim_start_matches('#')) == wanted)
            };
            let right = match (&found, wanted) {
                (_, "") => target.exists(),
                (Ok(text), _) => has(text),
                (Err(_), _) => false,
            };
            if !right {
                wrong.push(format!("{}: {link}", shown(&file)));
            }
        }
    }
    ensure!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
    Ok(())
}

pub fn every_page_is_in_the_summary() -> Result<()> {
    let docs = workspace().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md"))?;
    let listed: BTreeSet<String> = links(&summary).into_iter().collect();
    for file in book()? {
        let name = file.strip_prefix(&docs)?.display().to_string();
        ensure!(
            name == "SUMMARY.md" || listed.contains(&name),
            "docs/SUMMARY.md does not list {name}"
        );
    }
    Ok(())
}

pub fn documents_are_short() -> Result<()> {
    for (name, most) in [("README.md", 150), ("ARCHITECTURE.md", 250)] {
        let lines = fs::read_to_string(workspace().join(name))?.lines().count();
        ensure!(lines <= most, "{name} has {lines} lines, more than {most}");
    }
    Ok(())
}

pub fn history_is_in_decisions() -> Result<()> {
    let mut wrong = Vec::new();
    for file in documents()? {
        if file.starts_with(workspace().join("docs/decisions")) {
            continue;
        }
        for (line, text) in (1..).zip(fs::read_to_string(&file)?.lines()) {
            if HISTORY.iter().any(|word| text.to_lowercase().contains(word)) {
                wrong.push(format!("{}:{line}: {}", shown(&file), text.trim()));
            }
        }
    }
    ensure!(wrong.is_empty(), "what was belongs into docs/decisions:\n{}", wrong.join("\n"));
    Ok(())
}

/// Files and folders that a text names between backticks: from the root, or a module by its room in `src`.
fn named_paths<'a>(text: &'a str, tops: &[String]) -> Vec<&'a str> {
    let mut inside = false;
    let mut paths = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        }
        if inside {
            continue;
        }
        for token in line.split('`').skip(1).step_by(2) {
            // With a blank, a star or a NAME it is a command or a pattern.
            let plain = token.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let pattern = ["NAME", "NNNN", "seed-N"].iter().any(|word| token.contains(word));
            if plain && !pattern && tops.iter().any(|top| token.starts_with(top.as_str())) {
                paths.push(token);
            }
        }
    }
    paths
}

/// ARCHITECTURE.md once explained a file that had become a folder, and SECURITY.md named modules by
/// rooms that they had left.
pub fn named_paths_are_there() -> Result<()> {
    let mut tops: Vec<String> = folders("")?.into_iter().collect();
    let rooms = folders("src/")?.into_iter();
    tops.extend(rooms.filter_map(|room| room.strip_prefix("src/").map(str::to_owned)));
    let is_there = |path: &str| {
        [path.to_owned(), format!("src/{path}"), format!("src/{path}.rs")]
            .iter()
            .any(|path| workspace().join(path).exists())
    };
    let mut wrong = Vec::new();
    for file in documents()? {
        let text = fs::read_to_string(&file)?;
        let gone = named_paths(&text, &tops).into_iter().filter(|path| !is_there(path));
        wrong.extend(gone.map(|path| format!("{}: {path}", shown(&file))));
    }
    ensure!(wrong.is_empty(), "documents name what is not there:\n{}", wrong.join("\n"));
    Ok(())
}
