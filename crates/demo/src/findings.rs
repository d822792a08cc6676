//! What the demo found, as plain data: printed as tables by `searches`, written as a page by
//! `html`.

use std::path::PathBuf;

/// Everything that one run shows.
pub struct Findings {
    /// For example `PostgreSQL 18.6`.
    pub server: String,
    /// Name of the model that encoded.
    pub model: String,
    /// How many pictures the table holds.
    pub pictures: usize,
    pub copied: Copied,
    pub searches: Vec<Search>,
}

/// How loading went.
pub struct Copied {
    /// Wall time of all COPY statements, encoding included.
    pub seconds: f64,
    /// Sum of the JPEG files.
    pub bytes: u64,
}

/// One search and what it found.
pub struct Search {
    /// What is searched, in words.
    pub title: String,
    /// The statement as a person would type it.
    pub sql: String,
    /// The sentence that is searched for; empty in a search by picture. Neighbours with the same
    /// sentence are shown side by side.
    pub sentence: String,
    /// What the text tower gets: the sentence itself, or what enhancement made of it.
    pub prompts: Vec<String>,
    /// The example picture of a search by picture (a JPEG file), else empty.
    pub example: Vec<u8>,
    /// Wall time of the statement, the query's encoding included.
    pub milliseconds: f64,
    /// How many pictures in the table show what was asked for.
    pub relevant: usize,
    /// Best first.
    pub hits: Vec<Hit>,
}

/// One found row.
pub struct Hit {
    pub id: i64,
    pub camera: String,
    /// Cosine similarity.
    pub score: f32,
    /// What the picture truly shows.
    pub label: String,
    /// All of that in short, with where the picture seems to come from.
    pub truth: String,
    /// Does that match what was asked for?
    pub matches: bool,
    pub file: PathBuf,
}

impl Search {
    /// How many hits match.
    pub fn matching(&self) -> usize {
        self.hits.iter().filter(|hit| hit.matches).count()
    }

    /// How many could match at best.
    pub fn possible(&self) -> usize {
        self.relevant.min(self.hits.len())
    }

    /// The average precision of the hits: the precision at each that matches, summed, over the
    /// number that could match. 1 when no other order or choice would be better.
    pub fn average_precision(&self) -> f64 {
        let (mut sum, mut right) = (0.0, 0);
        for (rank, _) in self.hits.iter().enumerate().filter(|(_, hit)| hit.matches) {
            right += 1;
            sum += f64::from(right) / (rank + 1) as f64;
        }
        if self.possible() == 0 { 0.0 } else { sum / self.possible() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(matches: &[bool], relevant: usize) -> Search {
        let hit = |&matches: &bool| Hit {
            id: 1,
            camera: String::new(),
            score: 0.5,
            label: String::new(),
            truth: String::new(),
            matches,
            file: PathBuf::new(),
        };
        Search {
            title: String::new(),
            sql: String::new(),
            sentence: String::new(),
            prompts: Vec::new(),
            example: Vec::new(),
            milliseconds: 0.0,
            relevant,
            hits: matches.iter().map(hit).collect(),
        }
    }

    #[test]
    fn average_precision_is_over_what_was_possible() {
        assert_eq!(search(&[true, true, false, false], 2).average_precision(), 1.0);
        assert_eq!(search(&[false, true, false, true], 9).average_precision(), 0.25);
        assert_eq!(search(&[false, false], 0).average_precision(), 0.0);
    }
}
