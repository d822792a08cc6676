//! Dependencies go one way: the extension's modules and the workspace's crates stand in an order, and
//! none uses what stands behind it.
//!
//! Three imports went backwards before this was held (encoding knew the search, the supervisor the
//! ingest, and the index all of ingest, to learn where a model's texts lie), and each had made the rooms
//! that it tied together impossible to change apart.

use std::fs;
use std::path::{Path, PathBuf};

use pgclip_testkit::imports::{File, against_order, strangers};

/// The modules of `src`, in the order data flows through them.
const ROOMS: &[&str] = &[
    "error",
    "limits",
    "context",
    "settings",
    "place",
    "catalog", // what all need
    "embedding",
    "models",
    "encoder",
    "attributes",
    "ingest",
    "index",
    "search",
    "workers",
];

/// The crates of the workspace. Those of tests and benches stand above all and are used by none.
const CRATES: &[&str] = &[
    "testkit", "simd", "hnsw", "clip", "wire", "query", "scenes", "export", "cluster", "encoder",
    "load", "demo",
];

/// What the extension is made of, beside itself: nothing that encodes, draws or trains.
const EXTENSION: &[&str] =
    &["pgclip_simd", "pgclip_hnsw", "pgclip_clip", "pgclip_wire", "pgclip_query", "pgrx"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The sources in a folder and below.
fn sources(folder: &Path) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{next:?}: {error}")) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.push(File { path, source });
            }
        }
    }
    files
}

fn is_ours(name: &str) -> bool {
    name.starts_with("pgclip_") || name.starts_with("pgrx")
}

#[test]
fn the_extensions_rooms_stand_in_order() {
    let files = sources(&root().join("src"));
    for room in ROOMS {
        let there = files.iter().any(|file| file.module().first() == Some(room));
        assert!(there, "the order names `{room}`, which is not in src");
    }
    let mut faults = against_order(ROOMS, &files);
    faults.extend(strangers(&files, EXTENSION, is_ours));
    assert!(faults.is_empty(), "in src:\n{}", faults.join("\n"));
}

#[test]
fn crates_use_only_those_below_and_none_sees_the_server() {
    let folder = root().join("crates");
    let mut there: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut declared = CRATES.to_vec();
    there.sort_unstable();
    declared.sort_unstable();
    assert_eq!(there, declared, "crates and their declared order");
    let names: Vec<String> = CRATES.iter().map(|name| format!("pgclip_{name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut faults = Vec::new();
    for (at, name) in CRATES.iter().enumerate() {
        // A program's own library is called as its crate.
        let found = strangers(&sources(&folder.join(name).join("src")), &names[..=at], is_ours);
        faults.extend(found.into_iter().map(|fault| format!("crates/{name}/src/{fault}")));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
