//! Captions as rows of the token table.
//!
//! CLIP's vocabulary has 49,408 tokens, of which a small model meets a few hundred. A table
//! maps token ids to the rows in use; row 0 is shared by all other tokens, and learns through
//! [`Noise`] that it says nothing.

use std::collections::BTreeSet;

use pgclip_clip::tokenize::Tokenizer;
use rand::Rng;
use rayon::prelude::*;

use crate::data::Labels;

/// CLIP's end-of-text token, the largest id.
pub const END_OF_TEXT: i64 = 49_407;
/// CLIP's start-of-text token.
pub const START_OF_TEXT: i64 = 49_406;

/// Token ids of a text up to and with its end-of-text token.
pub fn tokenize(text: &str, context_length: usize) -> Vec<i64> {
    let mut ids = Tokenizer::clip().encode(text, context_length);
    let end = ids.iter().position(|&id| id == END_OF_TEXT).unwrap_or(ids.len() - 1);
    ids.truncate(end + 1);
    ids
}

/// The token ids of every caption, in order.
pub fn tokenize_all(labels: &Labels, context_length: usize) -> Vec<Vec<i64>> {
    labels.captions.par_iter().map(|caption| tokenize(&caption.text, context_length)).collect()
}

/// A table for the tokens in `captions`, rows in the order of the ids from 1.
pub fn token_rows(captions: &[Vec<i64>], vocabulary: usize) -> Vec<i32> {
    let used: BTreeSet<i64> = captions.iter().flatten().copied().collect();
    let mut rows = vec![0; vocabulary];
    for (row, id) in used.into_iter().enumerate() {
        if let Some(slot) = usize::try_from(id).ok().and_then(|id| rows.get_mut(id)) {
            *slot = row as i32 + 1;
        }
    }
    rows
}

/// Maps token ids to rows; without a table an id is its own row.
pub fn to_rows(ids: &[i64], table: Option<&[i32]>) -> Vec<i64> {
    match table {
        Some(table) => ids
            .iter()
            .map(|&id| {
                let row = usize::try_from(id).ok().and_then(|id| table.get(id));
                i64::from(row.copied().unwrap_or(0))
            })
            .collect(),
        None => ids.to_vec(),
    }
}

/// Unknown words thrown into captions during training, so that they do no harm in queries.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Share of captions that get any.
    pub probability: f64,
}

impl Noise {
    /// Inserts the shared row of unknown tokens one to three times, at random places between
    /// the start-of-text and the end-of-text token.
    pub fn apply(self, rows: &mut Vec<i64>, context_length: usize, rng: &mut impl Rng) {
        if self.probability == 0.0 || !rng.random_bool(self.probability) {
            return;
        }
        for _ in 0..rng.random_range(1..=3) {
            if rows.len() >= context_length || rows.len() < 2 {
                return;
            }
            let at = rng.random_range(1..rows.len());
            rows.insert(at, 0);
        }
    }
}
