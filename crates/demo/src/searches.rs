//! The searches of the demo: what is asked, what would be right, and the table of what came.

use std::io::{IsTerminal, stdout};
use std::time::Instant;

use anyhow::{Context, Result};
use pgclip_scenes::{Carrying, Colour, Lower, Scene, VehicleType};
use postgres::Client;
use postgres::types::ToSql;

use crate::pictures::{Picture, describe, unseen};
use crate::report::{Hit, Search};
use crate::server::indent;

/// What is asked, and which pictures answer it.
struct Question {
    title: &'static str,
    /// As a person types it in psql; `:'suspect'` stands for the example picture.
    sql: &'static str,
    /// What of it is looked for in the pictures; empty in a search by picture.
    sentence: &'static str,
    enhanced: bool,
    example: Vec<u8>,
    answers: fn(&Picture) -> bool,
}

fn vehicle(scene: &Scene, colour: Colour, kind: VehicleType) -> bool {
    scene.vehicle().is_some_and(|vehicle| vehicle.colour == colour && vehicle.kind == kind)
}

fn person(scene: &Scene, skirt: bool, carrying: Carrying) -> bool {
    scene.pedestrian().is_some_and(|person| {
        (person.lower == Lower::Skirt && !person.long_coat) == skirt && person.carrying == carrying
    })
}

fn questions() -> Vec<Question> {
    let suspect = |scene: &Scene| vehicle(scene, Colour::Green, VehicleType::Truck);
    vec![
        Question {
            title: "A vehicle, the sentence as it stands",
            sql: "SELECT (hit).id, (hit).camera, score\n  FROM text_search(NULL::photos, 'A red sedan.', k => 10, enhance => false)",
            sentence: "A red sedan.",
            enhanced: false,
            example: Vec::new(),
            answers: |picture| vehicle(&picture.scene, Colour::Red, VehicleType::Sedan),
        },
        Question {
            title: "The same, enhanced to what a surveillance camera sees",
            sql: "SELECT (hit).id, (hit).camera, score\n  FROM text_search(NULL::photos, 'A red sedan.', k => 10)",
            sentence: "A red sedan.",
            enhanced: true,
            example: Vec::new(),
            answers: |picture| vehicle(&picture.scene, Colour::Red, VehicleType::Sedan),
        },
        Question {
            title: "Another vehicle, enhanced",
            sql: "SELECT (hit).id, (hit).camera, score\n  FROM text_search(NULL::photos, 'a yellow bus', k => 10)",
            sentence: "a yellow bus",
            enhanced: true,
            example: Vec::new(),
            answers: |picture| vehicle(&picture.scene, Colour::Yellow, VehicleType::Bus),
        },
        Question {
            title: "A person, the sentence as it stands",
            sql: "SELECT (hit).id, (hit).camera, score\n  FROM text_search(NULL::photos, 'A woman in a skirt with a backpack.', k => 10, enhance => false)",
            sentence: "A woman in a skirt with a backpack.",
            enhanced: false,
            example: Vec::new(),
            answers: |picture| person(&picture.scene, true, Carrying::Backpack),
        },
        Question {
            title: "The same, enhanced",
            sql: "SELECT (hit).id, (hit).camera, score\n  FROM text_search(NULL::photos, 'A woman in a skirt with a backpack.', k => 10)",
            sentence: "A woman in a skirt with a backpack.",
            enhanced: true,
            example: Vec::new(),
            answers: |picture| person(&picture.scene, true, Carrying::Backpack),
        },
        Question {
            title: "By a picture that is not in the table: a green truck",
            sql: "SELECT (hit).id, (hit).camera, score\n  FROM image_search(NULL::photos, :'suspect', k => 10)",
            sentence: "",
            enhanced: false,
            example: unseen(suspect).1,
            answers: |picture| vehicle(&picture.scene, Colour::Green, VehicleType::Truck),
        },
        Question {
            title: "With a WHERE clause, in plain SQL",
            sql: "SELECT id, camera, (1 - (embedding <=> clip_query('a white SUV')))::real AS score\n  FROM photos\n WHERE camera = 'north gate' AND taken_at >= '2026-11-03'\n ORDER BY embedding <=> clip_query('a white SUV')\n LIMIT 10",
            sentence: "a white SUV",
            enhanced: true,
            example: Vec::new(),
            answers: |picture| {
                picture.camera() == "north gate"
                    && vehicle(&picture.scene, Colour::White, VehicleType::Suv)
            },
        },
    ]
}

/// Runs all searches, and prints each as it comes.
pub fn run(client: &mut Client, pictures: &[Picture]) -> Result<Vec<Search>> {
    let mut searches = Vec::new();
    for (number, question) in questions().into_iter().enumerate() {
        println!("==> Search {}: {}\n{}", number + 1, question.title, indent(question.sql));
        let search = ask(client, pictures, question)?;
        print(&search);
        searches.push(search);
    }
    Ok(searches)
}

fn ask(client: &mut Client, pictures: &[Picture], question: Question) -> Result<Search> {
    let Question { title, sql, sentence, enhanced, example, answers } = question;
    let statement = sql.replace(":'suspect'", "$1::bytea");
    let parameters: &[&(dyn ToSql + Sync)] = if example.is_empty() { &[] } else { &[&example] };
    let start = Instant::now();
    let rows = client.query(&statement, parameters).with_context(|| statement.clone())?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    let hits = rows.iter().map(|row| {
        let id: i64 = row.get("id");
        let found = pictures.iter().find(|picture| picture.id == id);
        let picture = found.with_context(|| format!("no picture has id {id}"))?;
        Ok(Hit {
            id,
            camera: row.get("camera"),
            score: row.get("score"),
            label: picture.scene.caption(),
            truth: describe(&picture.scene),
            matches: answers(picture),
            file: picture.file.clone(),
        })
    });
    let hits = hits.collect::<Result<_>>()?;
    let prompts = if enhanced {
        client.query_one("SELECT prompts FROM enhance_prompt($1)", &[&sentence])?.get(0)
    } else {
        vec![sentence.to_owned()]
    };
    Ok(Search {
        title: title.to_owned(),
        sql: sql.to_owned(),
        sentence: sentence.to_owned(),
        prompts,
        milliseconds,
        relevant: pictures.iter().filter(|picture| answers(picture)).count(),
        hits,
        example,
    })
}

fn print(search: &Search) {
    println!("\n     #     id  score  {:<15}shows", "camera");
    let (green, red, plain) =
        if stdout().is_terminal() { ("\x1b[32m", "\x1b[31m", "\x1b[0m") } else { ("", "", "") };
    for (rank, hit) in search.hits.iter().enumerate() {
        let mark =
            if hit.matches { format!("{green}✓{plain}") } else { format!("{red}✗{plain}") };
        println!(
            "  {mark} {:>2}  {:>5}  {:.3}  {:<15}{}",
            rank + 1,
            hit.id,
            hit.score,
            hit.camera,
            hit.label
        );
    }
    println!(
        "\n    {} of {} hits are right ({} pictures would be); {:.1} ms\n",
        search.matching(),
        search.hits.len(),
        search.relevant,
        search.milliseconds
    );
}
