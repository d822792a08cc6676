//! From a trainer to the database: a model is fine-tuned on pictures of the table's kind, exported,
//! copied to the server, registered, and put in the place of the one in use; what searches find is
//! measured before and after. The way that docs/how-to/fine-tuning.md describes, for one to look at.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::{Cluster, Shutdown, workspace};
use pgclip_scenes::benchmark::Split;
use pgclip_scenes::{Query, Scene, image_name};
use postgres::Client;
use rayon::prelude::*;

use crate::pictures::Picture;
use crate::server;
use crate::step::step;

/// What a detector cuts out of surveillance frames, which the built-in model was not trained on:
/// pictures with captions to learn from, and others to search.
const SEED: u64 = 20_261_129;
const TRAINED: u64 = 2000;
const SEARCHED: u64 = 1000;

/// The recipe, beside paths: a few minutes on two cores.
const RECIPE: &str = "--model pgclip-traffic-tiny --captions given --epochs 10 --batch-size 100 \
    --lr 3e-4 --warmup 20 --wd 0.1 --grad-clip-norm 1 --precision fp32 --multi-positive --flip \
    --shift 3 --brightness 0.1 --seed 1 --save-frequency 0 --save-every 100 \
    --report-to tensorboard";

/// The sets of queries, each a table of its name and one of its answers.
const SETS: [&str; 2] = ["colour_and_type", "captions"];

/// Runs the demo with the trainer's program.
pub fn run(trainer: &Path) -> Result<()> {
    let folder = workspace().join("target/fine-tune");
    let learnt = folder.join("train");
    step(&format!("Draw {TRAINED} labelled pictures in {}", learnt.display()), || {
        draw(&learnt, Split::Val, TRAINED).and_then(|pictures| label(&learnt, &pictures))
    })?;
    let searched = folder.join("search");
    let pictures = step(&format!("Draw {SEARCHED} pictures to search"), || {
        draw(&searched, Split::Test, SEARCHED)
    })?;
    let (cluster, mut client) = server::open(&folder.join("pg"), None)?;
    server::copy(&mut client, &pictures)?;
    server::index(&mut client)?;
    step("Write queries down, and which pictures each is true of", || {
        ask(&mut client, SETS[0], Query::colours_and_types(), &pictures)?;
        let captions: BTreeSet<String> =
            pictures.iter().map(|picture| picture.scene.caption()).collect();
        let parsed =
            captions.into_iter().filter_map(|text| Some((text.clone(), Query::parse(&text)?)));
        ask(&mut client, SETS[1], parsed, &pictures)
    })?;
    let before = step("Measure what searches find", || evaluate(&mut client))?;

    let (run, model) = (folder.join("run"), folder.join("model"));
    if run.exists() {
        fs::remove_dir_all(&run)?;
    }
    step("Fine-tune the built-in model", || {
        let built_in = workspace().join("models/pgclip-traffic-tiny");
        let labels = learnt.join("labels.txt");
        let mut train = Command::new(trainer);
        train.arg("train").arg("--train-data").arg(&labels).arg("--pretrained").arg(built_in);
        train.arg("--out").arg(&run).args(RECIPE.split_whitespace());
        execute(train)
    })?;
    step("Export it", || {
        let mut export = Command::new(trainer);
        export.arg("export").arg(&run).arg(&model).args(["--name", "fine-tuned", "--overwrite"]);
        execute(export)
    })?;
    let copied = step("Copy it to the server", || copy(&model, &cluster))?;
    step("Put it in the place of the built-in model", || {
        for statement in [
            format!("SELECT clip_register_model('fine-tuned', '{copied}')"),
            "CALL clip_reencode('photos', 'fine-tuned')".to_owned(),
        ] {
            println!("{}", server::indent(&statement));
            client.batch_execute(&statement)?;
        }
        Ok(())
    })?;
    let after = step("Measure again", || evaluate(&mut client))?;
    println!(
        "\n| queries | model | mAP@10 | R@1 | R@10 | MRR@10 |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (set, (before, after)) in SETS.iter().zip(before.iter().zip(&after)) {
        for (model, found) in [("pgclip-traffic-tiny", before), ("fine-tuned", after)] {
            let Found { map, recall_at_1, recall, mrr, asked } = found;
            println!(
                "| {set}, {asked} | {model} | {map:.3} | {recall_at_1:.3} | {recall:.3} | {mrr:.3} |"
            );
        }
    }
    cluster.stop(Shutdown::Fast)
}

/// Draws the first scenes of a split.
fn draw(folder: &Path, split: Split, count: u64) -> Result<Vec<Picture>> {
    let images = folder.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    (0..count)
        .into_par_iter()
        .map(|number| {
            let scene: Scene = split.scene(SEED, number);
            let file = images.join(image_name(number));
            fs::write(&file, scene.file(&split.options()))
                .with_context(|| format!("cannot write {}", file.display()))?;
            Ok(Picture { id: number as i64 + 1, scene, file })
        })
        .collect()
}

/// Writes the captions as the challenge has them.
fn label(folder: &Path, pictures: &[Picture]) -> Result<()> {
    let line = |(number, picture): (u64, &Picture)| {
        let scene = &picture.scene;
        format!("{}${}${}\n", image_name(number), scene.attributes(), scene.caption())
    };
    let labels: String = (0..).zip(pictures).map(line).collect();
    Ok(fs::write(folder.join("labels.txt"), labels)?)
}

/// Makes the tables of a set: the queries, and the pictures that each is true of.
fn ask(
    client: &mut Client,
    set: &str,
    queries: impl IntoIterator<Item = (String, Query)>,
    pictures: &[Picture],
) -> Result<()> {
    client.batch_execute(&format!(
        "CREATE TABLE {set} (id int PRIMARY KEY, sentence text);
         CREATE TABLE {set}_answers (query int, photo bigint)"
    ))?;
    let mut transaction = client.transaction()?;
    for (id, (text, query)) in (1i32..).zip(queries) {
        let right = pictures.iter().filter(|picture| query.matches(&picture.scene));
        let right: Vec<i64> = right.map(|picture| picture.id).collect();
        let insert = format!("INSERT INTO {set} VALUES ($1, $2)");
        transaction.execute(&insert, &[&id, &text])?;
        let insert = format!("INSERT INTO {set}_answers SELECT $1, unnest($2::bigint[])");
        transaction.execute(&insert, &[&id, &right])?;
    }
    Ok(transaction.commit()?)
}

/// What the searches find.
struct Found {
    map: f64,
    recall_at_1: f64,
    recall: f64,
    mrr: f64,
    asked: i64,
}

/// Measures the searches of each set.
fn evaluate(client: &mut Client) -> Result<Vec<Found>> {
    let measure = |set: &&str| {
        let statement = format!(
            "SELECT * FROM clip_evaluate('{set}', '{set}_answers', 'photos', cutoffs => '{{1,10}}')"
        );
        println!("{}", server::indent(&statement));
        let rows = client.query(&statement, &[])?;
        ensure!(rows.len() == 2, "clip_evaluate gives {} rows", rows.len());
        let (first, ten) = (&rows[0], &rows[1]);
        Ok(Found {
            map: ten.get("map"),
            recall_at_1: first.get("recall"),
            recall: ten.get("recall"),
            mrr: ten.get("mrr"),
            asked: ten.get("asked"),
        })
    };
    SETS.iter().map(measure).collect()
}

fn execute(mut command: Command) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    println!("    {line}");
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}

/// Copies a model directory to where the server can read it, and returns its path there.
fn copy(model: &Path, cluster: &Cluster) -> Result<String> {
    let data = cluster.data();
    let target = data.parent().context("the data lie in a folder")?.join("fine-tuned");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::create_dir(&target).with_context(|| format!("cannot make {}", target.display()))?;
    for file in fs::read_dir(model)? {
        let file = file?;
        fs::copy(file.path(), target.join(file.file_name()))?;
    }
    ensure!(cluster.account().reaches(&target), "the server cannot read {}", target.display());
    println!("    {}", target.display());
    Ok(target.display().to_string())
}
