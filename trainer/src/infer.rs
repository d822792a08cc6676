//! `pgclip-train infer`: the pictures of a folder that sentences find, as A3R submitted them.
//!
//! A3R's infer, infer with prompt and merge_json in one command: vehicle and person queries
//! against one gallery, enhanced and re-ranked as the database does it, in one JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use pgclip_query::enhance::{self, Lexicon};
use pgclip_query::rerank::{self, Adaption};
use rayon::prelude::*;
use serde::Serialize;
use tch::{Device, Tensor};

use crate::config::Config;
use crate::images;
use crate::lines::write_whole;
use crate::model::{Clip, Precision};
use crate::params::Params;
use crate::place::Place;
use crate::search::{self, Hits, Method};
use crate::weights::{Weights, WeightsArgs};
use crate::{encode, tokens, torch};

#[derive(Debug, Args)]
pub struct InferArgs {
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Folder of the gallery; pictures in folders below it count too
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// Sentences about vehicles, one a line
    #[arg(long, value_name = "FILE", required_unless_present = "person_queries")]
    pub vehicle_queries: Option<PathBuf>,
    /// Sentences about persons, one a line
    #[arg(long, value_name = "FILE")]
    pub person_queries: Option<PathBuf>,
    /// JSON to write: {"results": [{"text", "image_names"}]}, vehicles first
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Pictures for each sentence
    #[arg(long, default_value_t = 10)]
    pub top_k: usize,
    /// Encode sentences as they are
    #[arg(long)]
    pub no_enhance: bool,
    /// Re-rank the first candidates
    #[arg(long, value_enum, default_value_t = Rerank::None)]
    pub rerank: Rerank,
    /// Candidates to re-rank
    #[arg(long, default_value_t = 50)]
    pub candidates: usize,
    #[arg(long, value_enum, default_value_t = Method::Auto)]
    pub search: Method,
    /// Pictures in memory at a time
    #[arg(long, default_value_t = 1024)]
    pub batch_size: usize,
    #[arg(long, default_value = "auto")]
    pub device: String,
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rerank {
    None,
    /// By an adapted query among the candidates and shared neighbours
    Adaption,
}

/// What is written.
#[derive(Debug, Serialize)]
struct Submission {
    results: Vec<Answer>,
}

#[derive(Debug, Serialize)]
struct Answer {
    text: String,
    image_names: Vec<String>,
}

/// Runs `pgclip-train infer`.
pub fn run(args: &InferArgs) -> Result<()> {
    ensure!(args.top_k >= 1 && args.batch_size >= 1, "--top-k and --batch-size start at 1");
    let device = torch::device(&args.device)?;
    let files = [("vehicle", &args.vehicle_queries), ("person", &args.person_queries)];
    let mut queries = Vec::new();
    for (domain, path) in files {
        if let Some(path) = path {
            queries.extend(read_queries(path)?.into_iter().map(|text| (text, domain)));
        }
    }
    let names = gallery(&args.images)?;
    let Weights { config, params, .. } = args.weights.read(device)?;
    let model = Clip::new(&config, &params, Precision::Fp32);
    let encoder = Encoder { config: &config, params: &params, model: &model, device };

    let (names, pictures) = encoder.pictures(&args.images, names, args.batch_size)?;
    let texts = encoder.queries(&queries, !args.no_enhance)?;
    let wanted = match args.rerank {
        Rerank::None => args.top_k,
        Rerank::Adaption => args.top_k.max(args.candidates),
    };
    let mut hits = search::search(&pictures, &texts, wanted, args.search);
    if args.rerank == Rerank::Adaption {
        let rows = search::rows_f32(&pictures);
        hits.par_iter_mut().for_each(|hits| adapt(hits, &rows));
    }
    let results = queries
        .into_iter()
        .zip(hits)
        .map(|((text, _), hits)| {
            let first = hits.iter().take(args.top_k);
            Answer { text, image_names: first.map(|&(at, _)| names[at].clone()).collect() }
        })
        .collect();
    let submission = Submission { results };
    let json = serde_json::to_string_pretty(&submission)? + "\n";
    write_whole(&args.out, json.as_bytes())?;
    println!(
        "{}: {} sentences, {} pictures",
        args.out.display(),
        submission.results.len(),
        names.len()
    );
    Ok(())
}

/// The sentences of a file, one a line; empty lines are none.
fn read_queries(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the queries {}", path.display()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let queries: Vec<String> = lines.map(str::to_owned).collect();
    ensure!(!queries.is_empty(), "{} has no query", path.display());
    Ok(queries)
}

/// Names of all pictures below a folder, relative to it, sorted.
fn gallery(folder: &Path) -> Result<Vec<String>> {
    const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];
    let mut names = Vec::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let ending = entry.path().extension().and_then(|end| end.to_str()).unwrap_or("");
        if entry.file_type().is_file() && ENDINGS.contains(&&*ending.to_ascii_lowercase()) {
            let name = entry.path().strip_prefix(folder)?.to_str();
            names.push(
                name.with_context(|| format!("{} is not UTF-8", entry.path().display()))?
                    .to_owned(),
            );
        }
    }
    ensure!(!names.is_empty(), "{} holds no picture", folder.display());
    names.sort_unstable();
    Ok(names)
}

struct Encoder<'a> {
    config: &'a Config,
    params: &'a Params,
    model: &'a Clip,
    device: Device,
}

impl Encoder<'_> {
    /// The names of the pictures that can be read, and their embeddings [N, D].
    fn pictures(
        &self,
        folder: &Path,
        names: Vec<String>,
        batch: usize,
    ) -> Result<(Vec<String>, Tensor)> {
        let places: Vec<Place> = names.iter().map(|name| Place::File(folder.join(name))).collect();
        let found = encode::places(self.model, self.config, &places, batch, self.device)?;
        images::report(&found.broken);
        let kept = found.kept.into_iter().map(|at| names[at].clone()).collect();
        Ok((kept, found.embeddings))
    }

    /// Embeddings of the queries [Q, D]: of the prompts that enhancement writes for them, the
    /// mean of several.
    fn queries(&self, queries: &[(String, &str)], enhance: bool) -> Result<Tensor> {
        let domains = enhance::builtin();
        let lexicon = Lexicon::new(&domains);
        // Each distinct prompt once.
        let mut rows = BTreeMap::new();
        let mut prompts = Vec::with_capacity(queries.len());
        for (text, domain) in queries {
            let of_query = match enhance {
                true => lexicon.enhance(text, Some(domain))?.prompts,
                false => vec![text.clone()],
            };
            let mut numbers = Vec::new();
            for prompt in of_query {
                let next = rows.len() as i64;
                numbers.push(*rows.entry(prompt).or_insert(next));
            }
            prompts.push(numbers);
        }
        let context = self.config.model_cfg.text_cfg.context_length as usize;
        let table = self.params.token_rows.as_deref();
        let mut texts = vec![Vec::new(); rows.len()];
        for (text, &row) in &rows {
            texts[row as usize] = tokens::to_rows(&tokens::tokenize(text, context), table);
        }
        let encoded = encode::texts(self.model, &texts, self.device);
        let means: Vec<Tensor> = prompts
            .iter()
            .map(|numbers| {
                let chosen = encoded.index_select(0, &Tensor::from_slice(numbers));
                let mean = chosen.mean_dim(0i64, false, tch::Kind::Float);
                &mean / mean.norm().clamp_min(1e-12)
            })
            .collect();
        Ok(Tensor::stack(&means, 0))
    }
}

/// Re-ranks one query's candidates by their embeddings.
fn adapt(hits: &mut Hits, pictures: &[Vec<f32>]) {
    let dims = pictures.first().map_or(0, Vec::len);
    let embeddings: Vec<f32> =
        hits.iter().flat_map(|&(at, _)| pictures[at].iter().copied()).collect();
    let scores: Vec<f32> = hits.iter().map(|&(_, score)| score).collect();
    let options = rerank::Options { adaption: Adaption::Component, ..Default::default() };
    let order = rerank::rerank(&embeddings, dims, &scores, &options);
    *hits = order.into_iter().map(|at| hits[at]).collect();
}
