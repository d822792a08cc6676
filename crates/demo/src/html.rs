//! The contact sheet: `index.html`, one page with every search's hits and nothing outside it, so
//! that it can be kept and sent. Searches for the same sentence stand side by side.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::findings::{Findings, Hit, Search};

const STYLE: &str = include_str!("page.css");

/// Writes the page, with the pictures in it.
pub fn write(findings: &Findings, page: &Path) -> Result<()> {
    fs::write(page, render(findings)?).with_context(|| format!("cannot write {}", page.display()))
}

fn render(findings: &Findings) -> Result<String> {
    let groups =
        findings.searches.chunk_by(|a, b| !a.sentence.is_empty() && a.sentence == b.sentence);
    let mut number = 0;
    let mut sections = String::new();
    for group in groups {
        sections.push_str(&section(group, number)?);
        number += group.len();
    }
    Ok(format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pgclip: {pictures} pictures, searched by sentences</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
<h1>{pictures} pictures, searched by sentences</h1>
<p class="quiet">Drawn traffic scenes, put into PostgreSQL with COPY and found with SQL. A hit is
<b>right</b> when the picture truly shows what was asked for; no search sees that truth.</p>
{facts}
{overview}
{sections}<footer>Written by <code>pgclip-demo</code>. A score is the cosine similarity of query and
picture; re-ranking changes the order alone. Average precision is taken over the hits shown and divided
by how many of them could be right.</footer>
</main>
</body>
</html>
"#,
        pictures = findings.pictures,
        facts = facts(findings),
        overview = overview(findings),
    ))
}

fn facts(findings: &Findings) -> String {
    let copied = &findings.copied;
    let rate = findings.pictures as f64 / copied.seconds.max(1e-3);
    let facts = [
        (escape(&findings.server), "server"),
        (escape(&findings.model), "model"),
        (format!("{:.1} MB", copied.bytes as f64 / 1e6), "of JPEG files copied"),
        (format!("{:.1} s", copied.seconds), "to copy and encode them"),
        (format!("{rate:.0}"), "images per second"),
    ];
    let items = facts.map(|(value, name)| format!("<li><b>{value}</b><span>{name}</span></li>"));
    format!("<ul class=\"facts\">{}</ul>", items.join(""))
}

/// A table of all searches, each a link to its hits.
fn overview(findings: &Findings) -> String {
    let row = |(number, search): (usize, &Search)| {
        format!(
            "<tr><td class=\"number\">{n}</td><td><a href=\"#search-{n}\">{}</a></td>\
             <td>{}</td><td class=\"number\">{} of {}</td><td class=\"number\">{:.3}</td>\
             <td class=\"number\">{:.1} ms</td></tr>\n",
            escape(&search.title),
            if search.sentence.is_empty() {
                "a picture".to_owned()
            } else {
                escape(&search.sentence)
            },
            search.matching(),
            search.hits.len(),
            search.average_precision(),
            search.milliseconds,
            n = number + 1,
        )
    };
    let rows: String = findings.searches.iter().enumerate().map(row).collect();
    format!(
        "<div class=\"scroll\"><table>\n<thead><tr><th class=\"number\">#</th><th>Search</th><th>For</th>\
         <th class=\"number\">Right</th><th class=\"number\">Average precision</th>\
         <th class=\"number\">Time</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>"
    )
}

/// One search, or several for one sentence; `first` counts those before.
fn section(group: &[Search], first: usize) -> Result<String> {
    let title = match group {
        [only] => escape(&only.title),
        _ => {
            format!("“{}”, with and without enhancement and re-ranking", escape(&group[0].sentence))
        }
    };
    let mut sides = String::new();
    for (i, search) in group.iter().enumerate() {
        sides.push_str(&side(search, first + i + 1, group.len() > 1)?);
    }
    Ok(format!("<section>\n<h2>{title}</h2>\n<div class=\"sides\">\n{sides}</div>\n</section>\n"))
}

fn side(search: &Search, number: usize, titled: bool) -> Result<String> {
    let heading = if titled { escape(&search.title) } else { format!("Search {number}") };
    let mut hits = String::new();
    for (i, hit) in search.hits.iter().enumerate() {
        hits.push_str(&card(hit, i + 1)?);
    }
    Ok(format!(
        "<article class=\"search\" id=\"search-{number}\">\n<header><h3>{heading}</h3>\
         <p class=\"outcome\"><b>{} of {} right</b> · {} in the table · average precision \
         <b>{:.3}</b> · {:.1} ms</p></header>\n<pre>{}</pre>\n{}<ol class=\"hits\">\n{hits}</ol>\n\
         </article>\n",
        search.matching(),
        search.hits.len(),
        search.relevant,
        search.average_precision(),
        search.milliseconds,
        escape(&search.sql),
        asked(search),
    ))
}

/// The sentence and its prompts, or the example picture.
fn asked(search: &Search) -> String {
    if !search.example.is_empty() {
        return format!(
            "<div class=\"example\"><img src=\"{}\" alt=\"the example\">\
             <p class=\"quiet\">the example picture, <code>:'suspect'</code></p></div>\n",
            data_url(&search.example)
        );
    }
    let prompts: String = search
        .prompts
        .iter()
        .map(|p| format!("<dd>{}</dd>", prompt(&search.sentence, p)))
        .collect();
    format!(
        "<dl><dt>sentence</dt><dd><q>{}</q></dd><dt>prompt</dt>{prompts}</dl>\n",
        escape(&search.sentence)
    )
}

/// A prompt, with what enhancement added marked.
fn prompt(sentence: &str, prompt: &str) -> String {
    let kept = sentence.trim().trim_end_matches('.');
    match prompt.split_once(kept) {
        Some((before, after)) if !kept.is_empty() && prompt != sentence => {
            let added = |text: &str| match text {
                "" => String::new(),
                text => format!("<ins>{}</ins>", escape(text)),
            };
            format!("<q>{}{}{}</q>", added(before), escape(kept), added(after))
        }
        _ => format!("<q>{}</q>", escape(prompt)),
    }
}

fn card(hit: &Hit, rank: usize) -> Result<String> {
    let picture =
        fs::read(&hit.file).with_context(|| format!("cannot read {}", hit.file.display()))?;
    let (class, mark, verdict) =
        if hit.matches { ("hit right", "✓", "right") } else { ("hit", "✗", "wrong") };
    Ok(format!(
        "<li class=\"{class}\" title=\"{label}\"><div class=\"frame\"><img src=\"{}\" alt=\"{truth}\">\
         <small>{rank}</small><i aria-label=\"{verdict}\">{mark}</i></div>\
         <div class=\"words\"><b>{:.3}</b> {}, id {}<span>{truth}</span></div></li>\n",
        data_url(&picture),
        hit.score,
        escape(&hit.camera),
        hit.id,
        label = escape(&hit.label),
        truth = escape(&hit.truth),
    ))
}

fn data_url(jpeg: &[u8]) -> String {
    format!("data:image/jpeg;base64,{}", BASE64.encode(jpeg))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use pgclip_scenes::{Query, Scene, SceneOptions};

    use super::*;
    use crate::findings::Copied;
    use crate::pictures::describe;

    /// A search whose hits are drawn into `folder`: `wanted`, with others among them.
    fn search(folder: &Path, title: &str, sentence: &str, wanted: &str, enhanced: bool) -> Search {
        let query = Query::parse(wanted).unwrap();
        let scenes = (0..).map(|seed| Scene::sample(seed, &SceneOptions::default()));
        let mut ranked: Vec<Scene> = scenes.clone().filter(|s| query.matches(s)).take(9).collect();
        ranked.insert(4, scenes.clone().find(|s| !query.matches(s)).unwrap());
        let hits = ranked.iter().enumerate().map(|(i, scene)| {
            let file = folder.join(format!("{}.jpg", scene.seed));
            fs::write(&file, scene.jpeg(200, 85)).unwrap();
            Hit {
                id: scene.seed as i64,
                camera: "north gate".to_owned(),
                score: 0.4 - i as f32 / 100.0,
                label: scene.caption(),
                truth: describe(scene),
                matches: query.matches(scene),
                file,
            }
        });
        let kept = sentence.trim_end_matches('.');
        let prompt = match enhanced {
            true => format!("{kept} image taken by traffic surveillance cameras"),
            false => sentence.to_owned(),
        };
        Search {
            title: title.to_owned(),
            sql: format!(
                "SELECT (hit).id, (hit).camera, score\n  FROM text_search(NULL::photos, '{sentence}', k => 10)"
            ),
            example: if sentence.is_empty() { ranked[0].jpeg(200, 85) } else { Vec::new() },
            sentence: sentence.to_owned(),
            prompts: vec![prompt],
            milliseconds: 12.3,
            relevant: 31,
            hits: hits.collect(),
        }
    }

    #[test]
    fn the_page_shows_every_hit_and_pairs_searches_for_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let findings = Findings {
            server: "PostgreSQL 18".to_owned(),
            model: "<a model>".to_owned(),
            pictures: 40,
            copied: Copied { seconds: 2.0, bytes: 1_000_000 },
            searches: vec![
                search(at, "As it stands", "A red sedan.", "a red sedan", false),
                search(at, "Enhanced", "A red sedan.", "a red sedan", true),
                search(at, "A person", "a woman with a backpack", "a woman with a backpack", false),
                search(at, "By a picture", "", "a green truck", false),
            ],
        };
        let page = at.join("index.html");
        write(&findings, &page).unwrap();
        let html = fs::read_to_string(page).unwrap();
        assert_eq!(html.matches("<section>").count(), 3);
        assert_eq!(html.matches("class=\"hit right\"").count(), 36);
        assert_eq!(html.matches("class=\"hit\"").count(), 4);
        assert!(html.contains("<ins> image taken by traffic surveillance cameras</ins>"));
        assert!(html.contains("&lt;a model&gt;") && !html.contains("<a model>"));
        assert!(!html.contains("http"), "nothing outside the page");
    }
}
