//! What the demo found, as plain data: printed as tables by `searches`, written as a page by
//! `html`.

use std::path::PathBuf;

/// Everything that one run shows.
pub struct Report {
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
    /// Does that match what was asked for?
    pub matches: bool,
    pub file: PathBuf,
}

impl Search {
    /// How many hits match.
    pub fn matching(&self) -> usize {
        self.hits.iter().filter(|hit| hit.matches).count()
    }
}
