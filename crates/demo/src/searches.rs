//! The searches of the demo: what is asked, what would be right, and the table of what came.

use std::io::{IsTerminal, stdout};
use std::time::Instant;

use anyhow::{Context, Result};
use pgclip_scenes::Query;
use postgres::Client;
use postgres::types::ToSql;

use crate::findings::{Hit, Search};
use crate::pictures::{Picture, describe, unseen};
use crate::server::{indent, plan};

/// The sentence about a person.
const PERSON: &str = "A man carrying a backpack.";

/// What is asked, and which pictures answer it.
struct Question {
    title: &'static str,
    /// As a person types it in psql; `:'suspect'` stands for the example picture.
    sql: String,
    /// What of it is looked for in the pictures; empty in a search by picture.
    sentence: &'static str,
    enhanced: bool,
    example: Vec<u8>,
    /// What a right picture shows, by the words of a sentence.
    wanted: Query,
    /// Only pictures of this camera, if it is named.
    camera: Option<&'static str>,
}

impl Question {
    /// A search for a sentence, as it stands or enhanced, re-ranked or not.
    fn sentence(title: &'static str, sentence: &'static str, enhanced: bool, rerank: bool) -> Self {
        let plain = if enhanced { "" } else { ",\n                   enhance => false" };
        let rerank = if rerank { ",\n                   rerank => 'adaption'" } else { "" };
        let sql = format!(
            "SELECT (hit).id, (hit).camera, score\n  FROM text_search(NULL::photos, '{sentence}', k => 10{plain}{rerank})"
        );
        let (wanted, example) = (wanted(sentence), Vec::new());
        Self { title, sql, sentence, enhanced, example, wanted, camera: None }
    }

    /// The same sentence with and without enhancement and re-ranking.
    fn compared(sentence: &'static str) -> [Self; 4] {
        [
            Self::sentence("The sentence as it stands", sentence, false, false),
            Self::sentence("Enhanced", sentence, true, false),
            Self::sentence("As it stands, re-ranked", sentence, false, true),
            Self::sentence("Enhanced and re-ranked", sentence, true, true),
        ]
    }

    /// Is it a query over the table itself, whose plan is worth a look?
    fn is_plain(&self) -> bool {
        self.sql.contains("FROM photos")
    }

    fn is_answered_by(&self, picture: &Picture) -> bool {
        self.wanted.matches(&picture.scene)
            && self.camera.is_none_or(|name| picture.camera() == name)
    }
}

fn wanted(sentence: &str) -> Query {
    Query::parse(sentence).expect("the demo's sentences speak of vehicles and people")
}

fn questions() -> Vec<Question> {
    let truck = wanted("a green truck");
    let mut questions = Vec::from(Question::compared("A red sedan."));
    questions.extend(Question::compared(PERSON));
    questions.extend([
        Question::sentence("Another vehicle, enhanced", "a yellow bus", true, false),
        Question::sentence("Another person, enhanced", "a woman in a red coat", true, false),
        Question {
            title: "By a picture that is not in the table: a green truck",
            sql: "SELECT (hit).id, (hit).camera, score\n  FROM image_search(NULL::photos, :'suspect', k => 10)".into(),
            sentence: "",
            enhanced: false,
            example: unseen(|scene| truck.matches(scene)).1,
            wanted: truck,
            camera: None,
        },
        Question {
            title: "Of one camera alone",
            sql: "SELECT (hit).id, (hit).camera, score\n  FROM text_search(NULL::photos, 'a white SUV', k => 5,\n                   filter => '{\"camera\": \"north gate\"}')".into(),
            sentence: "a white SUV",
            enhanced: true,
            example: Vec::new(),
            wanted: wanted("a white SUV"),
            camera: Some("north gate"),
        },
        Question {
            title: "The same in plain SQL: the index checks the condition",
            sql: "SELECT id, camera, (1 - (embedding <=> clip_query('a white SUV')))::real AS score\n  FROM photos\n WHERE camera = 'north gate'\n ORDER BY embedding <=> clip_query('a white SUV')\n LIMIT 5".into(),
            sentence: "a white SUV",
            enhanced: true,
            example: Vec::new(),
            wanted: wanted("a white SUV"),
            camera: Some("north gate"),
        },
    ]);
    questions
}

/// Runs all searches, and prints each as it comes.
pub fn run(client: &mut Client, pictures: &[Picture]) -> Result<Vec<Search>> {
    let mut searches = Vec::new();
    for (number, question) in questions().into_iter().enumerate() {
        println!("==> Search {}: {}\n{}", number + 1, question.title, indent(&question.sql));
        if question.is_plain() {
            println!("\n{}", indent(&plan(client, &question.sql)?));
        }
        let search = ask(client, pictures, question)?;
        print(&search);
        searches.push(search);
    }
    Ok(searches)
}

fn ask(client: &mut Client, pictures: &[Picture], question: Question) -> Result<Search> {
    let statement = question.sql.replace(":'suspect'", "$1::bytea");
    let example = &question.example;
    let parameters: &[&(dyn ToSql + Sync)] = if example.is_empty() { &[] } else { &[example] };
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
            matches: question.is_answered_by(picture),
            file: picture.file.clone(),
        })
    });
    let hits = hits.collect::<Result<_>>()?;
    let prompts = if question.enhanced {
        client.query_one("SELECT prompts FROM enhance_prompt($1)", &[&question.sentence])?.get(0)
    } else {
        vec![question.sentence.to_owned()]
    };
    Ok(Search {
        relevant: pictures.iter().filter(|picture| question.is_answered_by(picture)).count(),
        title: question.title.to_owned(),
        sql: question.sql,
        sentence: question.sentence.to_owned(),
        prompts,
        milliseconds,
        hits,
        example: question.example,
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
            hit.truth
        );
    }
    println!(
        "\n    {} of {} hits are right, {} pictures in the table are; {:.1} ms\n",
        search.matching(),
        search.hits.len(),
        search.relevant,
        search.milliseconds
    );
}
