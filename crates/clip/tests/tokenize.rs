//! The tokeniser against open_clip 3.3: every row of `golden/tokens.jsonl`.

use std::fs;
use std::path::Path;

use pgclip_clip::tokenize::Tokenizer;
use proptest::prelude::*;
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

#[test]
fn a_long_text_is_cut_and_ends() {
    let text = "a red car on a wet road ".repeat(5_000);
    let ids = Tokenizer::clip().encode(&text, 77);
    assert_eq!((ids.len(), ids[0], ids[75], ids[76]), (77, 49_406, 320, 49_407));
    for text in ["a".repeat(100_000), "é".repeat(100_000), "!?".repeat(600_000)] {
        let ids = Tokenizer::clip().encode(&text, 77);
        assert_eq!((ids.len(), ids[76]), (77, 49_407));
    }
}

#[test]
fn a_short_context_holds_the_end() {
    for (length, expected) in [
        (2, vec![49_406, 49_407]),
        (3, vec![49_406, 736, 49_407]),
        (5, vec![49_406, 736, 1_615, 49_407, 0]),
    ] {
        assert_eq!(Tokenizer::clip().encode("red car", length), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any text: as many ids as asked for, all known, one start, an end, then zeros.
    #[test]
    fn any_text_is_tokens(text in "(?s).{0,60}", length in 2usize..100) {
        let ids = Tokenizer::clip().encode(&text, length);
        prop_assert_eq!(ids.len(), length);
        prop_assert!(ids.iter().all(|id| (0..49_408).contains(id)));
        prop_assert_eq!(ids[0], 49_406);
        prop_assert!(ids.contains(&49_407));
    }
}
