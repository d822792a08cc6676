//! `infer` and the database answer alike: a model is trained, exported and registered, the pictures of
//! a folder are loaded into a table, and `text_search` gives what `infer` writes for the same sentences.
//!
//! Embeddings are fp16 in the table and fp32 in the trainer, so two pictures whose similarities differ
//! by less than [`ROUNDING`] may change places, which few do; nothing else may. Re-ranking also goes by
//! which pictures are neighbours, so that a changed place there has no such bound.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use common::Fixture;
use pgclip_cluster::Cluster;
use pgclip_train::args::{Cli, Command};
use pgclip_train::{export, infer};
use postgres::Client;
use serde_json::Value;

/// By how much a similarity may differ between the two.
const ROUNDING: f32 = 1e-3;
const SCENES: u64 = 48;
const VEHICLES: [&str; 6] = [
    "A red Audi Sedan.",
    "a blue bus",
    "a white van on a rainy day",
    "a grey SUV or a black truck",
    "a yellow Toyota.",
    "A green Minivan.",
];
const PERSONS: [&str; 3] =
    ["A man with a hat.", "a woman in a red coat", "a person with a backpack"];

fn run(line: &[&str]) -> Result<()> {
    match Cli::parse_from(["pgclip-train"].iter().chain(line)).command {
        Command::Export(args) => export::run(&args),
        Command::Infer(args) => infer::run(&args),
        _ => unreachable!("the line says export or infer"),
    }
}

/// What `infer` finds for each sentence.
fn from_files(fixture: &Fixture, more: &[&str]) -> Result<Vec<(String, Vec<String>)>> {
    let names = ["run", "data/images", "vehicles.txt", "persons.txt", "out.json"];
    let paths = names.map(|name| fixture.path(name).display().to_string());
    let [model, images, vehicles, persons, out] = &paths;
    let line = [
        "infer",
        model,
        "--images",
        images,
        "--vehicle-queries",
        vehicles,
        "--person-queries",
        persons,
        "--out",
        out,
        "--device",
        "cpu",
    ];
    run(&[&line, more].concat())?;
    let found: Value = serde_json::from_slice(&fs::read(out)?)?;
    let results = found["results"].as_array().context("no results")?;
    results
        .iter()
        .map(|result| {
            let names = result["image_names"].as_array().context("no names")?;
            let names = names.iter().map(|name| Ok(name.as_str().context("no name")?.to_owned()));
            let text = result["text"].as_str().context("no text")?;
            Ok((text.to_owned(), names.collect::<Result<_>>()?))
        })
        .collect()
}

/// What SQL finds for one sentence, with all pictures' similarities to it.
fn from_sql(
    client: &mut Client,
    text: &str,
    options: &str,
) -> Result<(Vec<String>, HashMap<String, f32>)> {
    let search = |options: &str| {
        format!("SELECT (hit).name, score FROM text_search(NULL::gallery, $1, {options})")
    };
    let found = client.query(&search(options), &[&text])?;
    // The similarities that the order was made of: to the same prompt, before any re-ranking.
    let plain = options.split(", rerank").next().unwrap_or(options);
    let all = client.query(&search(&plain.replace("k => 10", "k => 1000")), &[&text])?;
    ensure!(all.len() == SCENES as usize, "{} pictures in the table", all.len());
    let scores = all.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok((found.iter().map(|row| row.get(0)).collect(), scores))
}

/// A table with the pictures of a folder, attached to a model.
fn fill(client: &mut Client, images: &Path, model: &Path) -> Result<()> {
    client.batch_execute(
        "CREATE EXTENSION pgclip; CREATE TABLE gallery (name text, image bytea, embedding embedding)",
    )?;
    client.execute("SELECT clip_register_model('trained', $1)", &[&model.display().to_string()])?;
    client.batch_execute("SELECT clip_attach('gallery', model => 'trained')")?;
    for entry in fs::read_dir(images)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let image = fs::read(entry.path())?;
        client.execute("INSERT INTO gallery (name, image) VALUES ($1, $2)", &[&name, &image])?;
    }
    Ok(())
}

#[test]
fn a_submission_from_files_is_the_one_from_sql() -> Result<()> {
    let fixture = Fixture::new(SCENES);
    fixture.train("run", &["--steps", "60", "--save-every", "60"])?;
    fs::write(fixture.path("vehicles.txt"), VEHICLES.join("\n"))?;
    fs::write(fixture.path("persons.txt"), PERSONS.join("\n"))?;
    let cluster = Cluster::builder("submission").start()?;
    let mut client = cluster.connect()?;
    // Beside the sockets, where the server's account can read it.
    let model = cluster.sockets().join("model");
    let run_folder = fixture.path("run").display().to_string();
    let line = ["export", &run_folder, &model.display().to_string(), "--name", "trained"];
    run(&line)?;
    fill(&mut client, &fixture.path("data/images"), &model)?;

    // Candidates are the whole gallery, so that no picture at the border is one for one side alone.
    for (to_infer, to_sql) in [
        (&[][..], "k => 10"),
        (&["--no-enhance"], "k => 10, enhance => false"),
        (
            &["--rerank", "adaption", "--candidates", "48"],
            "k => 10, rerank => 'adaption', candidates => 48",
        ),
    ] {
        let (mut places, mut equal) = (0, 0);
        for (at, (text, files)) in from_files(&fixture, to_infer)?.into_iter().enumerate() {
            let (wanted, domain) = match at.checked_sub(VEHICLES.len()) {
                None => (VEHICLES[at], "vehicle"),
                Some(at) => (PERSONS[at], "person"),
            };
            assert_eq!(text, wanted);
            let (rows, scores) =
                from_sql(&mut client, &text, &format!("domain => '{domain}', {to_sql}"))?;
            assert_eq!((files.len(), rows.len()), (10, 10));
            for (file, row) in files.iter().zip(&rows) {
                places += 1;
                equal += usize::from(file == row);
                let apart = (scores[file] - scores[row]).abs();
                assert!(
                    apart < ROUNDING || to_sql.contains("rerank"),
                    "{text} ({to_sql}): {file} and {row}, {apart} apart"
                );
            }
        }
        println!("{to_sql}: {equal} of {places} places equal");
        assert!(equal * 100 >= places * 85, "{to_sql}: {equal} of {places} places equal");
    }
    Ok(())
}
