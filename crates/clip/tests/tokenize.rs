//! The tokeniser against open_clip 3.3: every row of `golden/tokens.jsonl`.

use std::fs;
use std::path::Path;

use pgclip_clip::tokenize::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    text: String,
    ids: Vec<i64>,
}

fn rows(name: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let lines = fs::read_to_string(path).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn compare(rows: &[Row]) {
    let failures: Vec<_> = rows
        .iter()
        .map(|row| (row, Tokenizer::clip().encode(&row.text, 77)))
        .filter(|(row, ids)| row.ids != *ids)
        .map(|(row, ids)| {
            let used = |ids: &[i64]| ids.iter().copied().filter(|id| *id != 0).collect::<Vec<_>>();
            format!("{:?}: {:?} instead of {:?}", row.text, used(&ids), used(&row.ids))
        })
        .collect();
    assert!(failures.is_empty(), "{} rows differ: {failures:#?}", failures.len());
}

#[test]
fn tokens_are_open_clips() {
    let rows = rows("tokens.jsonl");
    assert_eq!(rows.len(), 326);
    compare(&rows);
}
