//! The contact sheet: `index.html`, a page of every search's hits, beside the pictures it shows.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report::{Report, Search};

/// Writes the page; pictures are linked relative to its folder.
pub fn write(report: &Report, page: &Path) -> Result<()> {
    let folder = page.parent().context("a page without a folder")?;
    let mut html =
        String::from("<!doctype html>\n<meta charset=\"utf-8\">\n<title>pgclip</title>\n");
    writeln!(html, "<h1>{} pictures, searched by sentences</h1>", report.pictures)?;
    writeln!(
        html,
        "<p>{}, model {}; {:.1} MB copied and encoded in {:.1} s.</p>",
        escape(&report.server),
        escape(&report.model),
        report.copied.bytes as f64 / 1e6,
        report.copied.seconds
    )?;
    for (number, search) in report.searches.iter().enumerate() {
        section(&mut html, search, folder, number)?;
    }
    fs::write(page, html).with_context(|| format!("cannot write {}", page.display()))
}

fn section(html: &mut String, search: &Search, folder: &Path, number: usize) -> Result<()> {
    writeln!(html, "<h2>{}</h2>\n<pre>{}</pre>", escape(&search.title), escape(&search.sql))?;
    if !search.example.is_empty() {
        let name = format!("example-{}.jpg", number + 1);
        fs::write(folder.join(&name), &search.example)?;
        writeln!(html, "<p><img src=\"{name}\" height=\"120\" alt=\"the example\"></p>")?;
    }
    writeln!(
        html,
        "<p>{} of {} right, {:.1} ms</p>",
        search.matching(),
        search.hits.len(),
        search.milliseconds
    )?;
    for hit in &search.hits {
        let file = hit.file.strip_prefix(folder).unwrap_or(&hit.file).display().to_string();
        let mark = if hit.matches { "✓" } else { "✗" };
        writeln!(
            html,
            "<figure style=\"display:inline-block\"><img src=\"{}\" height=\"120\" alt=\"{}\"><figcaption>{mark} {:.3}</figcaption></figure>",
            escape(&file),
            escape(&hit.label),
            hit.score
        )?;
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
