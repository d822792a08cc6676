//! How well texts find pictures: R@1 and mAP@10 over captions and over colour + type queries.
//!
//! A picture is a positive for a text when the text fits it ([`Labels::fits`]): in synthetic
//! sets, when the scene is what the text asks for.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pgclip_scenes::Query as SceneQuery;
use serde::Serialize;
use tch::{Device, Tensor};

use crate::args::EvalArgs;
use crate::config::Config;
use crate::data::Labels;
use crate::images::{self, Pictures};
use crate::metrics::{average_precision, mean, ranking, recalled};
use crate::model::{Clip, Precision};
use crate::params::Params;
use crate::{checkpoint, encode, tokens, torch};

/// The measures of one set of queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Number of queries.
    pub queries: usize,
    /// Share of queries whose first picture is a positive.
    pub recall_at_1: f64,
    /// Share with a positive among the first five.
    pub recall_at_5: f64,
    /// Share with a positive among the first ten.
    pub recall_at_10: f64,
    /// Mean of the average precision at 10, divided by min(10, positives).
    pub map_at_10: f64,
}

/// What an evaluation finds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub pictures: usize,
    /// Pictures of vehicles, where the set says so.
    pub vehicles: usize,
    /// Every distinct caption as a query.
    pub captions: Measures,
    /// "a red sedan" and the like, for each pair that occurs.
    pub colour_type: Measures,
}

/// A text with what it should find.
struct Query {
    text: String,
    positive: Vec<bool>,
}

/// Runs `pgclip-train eval`.
pub fn run(args: &EvalArgs) -> Result<()> {
    let device = torch::device(&args.device)?;
    let (config, params) = checkpoint::load_model(&checkpoint::locate(&args.checkpoint)?, device)?;
    let model = Clip::new(&config, &params, Precision::Fp32);
    let labels = Labels::read(&args.data, args.images.as_deref())?;
    let paths: Vec<&Path> = labels.samples.iter().map(|sample| sample.path.as_path()).collect();
    let pictures = images::load(&paths, &config)?;
    let evaluation = Evaluation { config: &config, params: &params, labels: &labels, device };
    let embeddings = encode::pictures(&model, &pictures, device);
    let report = evaluation.report(&model, &embeddings, &args.suffix)?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    evaluation.show(&model, &embeddings, &args.query);
    if let Some(least) = args.at_least {
        let found = report.colour_type.map_at_10;
        ensure!(found >= least, "mAP@10 of colour + type queries is {found:.4}, below {least}");
    }
    Ok(())
}

/// Measures `model` on pictures already in memory, as training does at each checkpoint.
pub fn measure(
    model: &Clip,
    params: &Params,
    config: &Config,
    labels: &Labels,
    pictures: &Pictures,
    device: Device,
) -> Result<Report> {
    let embeddings = encode::pictures(model, pictures, device);
    Evaluation { config, params, labels, device }.report(model, &embeddings, "")
}

struct Evaluation<'a> {
    config: &'a Config,
    params: &'a Params,
    labels: &'a Labels,
    device: Device,
}

impl Evaluation<'_> {
    fn report(&self, model: &Clip, pictures: &Tensor, suffix: &str) -> Result<Report> {
        let captions = self.caption_queries();
        let (pairs, vehicles) = self.colour_type_queries();
        Ok(Report {
            pictures: self.labels.samples.len(),
            vehicles,
            captions: self.measures(model, pictures, &captions, suffix)?,
            colour_type: self.measures(model, pictures, &pairs, suffix)?,
        })
    }

    fn caption_queries(&self) -> Vec<Query> {
        let samples = &self.labels.samples;
        (0..self.labels.captions.len() as u32)
            .map(|index| Query {
                text: self.labels.captions[index as usize].text.clone(),
                positive: samples.iter().map(|s| self.labels.fits(s, index)).collect(),
            })
            .collect()
    }

    /// One query for each pair of colour and type that some picture shows, and the number
    /// of pictures that show any. None where the set does not describe its scenes.
    fn colour_type_queries(&self) -> (Vec<Query>, usize) {
        let scenes = || self.labels.samples.iter().map(|sample| sample.scene.as_ref());
        let queries = SceneQuery::colours_and_types()
            .into_iter()
            .map(|(text, query)| Query {
                text,
                positive: scenes().map(|s| s.is_some_and(|s| query.matches(s))).collect(),
            })
            .filter(|query| query.positive.contains(&true))
            .collect();
        (queries, scenes().flatten().filter(|scene| scene.vehicle().is_some()).count())
    }

    fn measures(
        &self,
        model: &Clip,
        pictures: &Tensor,
        queries: &[Query],
        suffix: &str,
    ) -> Result<Measures> {
        if queries.is_empty() {
            return Ok(Measures::default());
        }
        let texts: Vec<String> = queries
            .iter()
            .map(|query| match suffix {
                "" => query.text.clone(),
                _ => format!("{}{suffix}", query.text.trim_end_matches('.')),
            })
            .collect();
        let scores = self.scores(model, pictures, &texts);
        ensure!(scores.iter().flatten().all(|score| score.is_finite()), "an embedding is NaN");
        let (mut at1, mut at5, mut at10, mut precision) = (vec![], vec![], vec![], vec![]);
        for (query, scores) in queries.iter().zip(&scores) {
            let order = ranking(scores);
            let hit = |k| f64::from(u8::from(recalled(&order, &query.positive, k)));
            at1.push(hit(1));
            at5.push(hit(5));
            at10.push(hit(10));
            precision.push(average_precision(&order, &query.positive, 10));
        }
        Ok(Measures {
            queries: queries.len(),
            recall_at_1: mean(&at1),
            recall_at_5: mean(&at5),
            recall_at_10: mean(&at10),
            map_at_10: mean(&precision),
        })
    }

    /// Cosine similarity of each text with each picture.
    fn scores(&self, model: &Clip, pictures: &Tensor, texts: &[String]) -> Vec<Vec<f32>> {
        let context = self.config.model_cfg.text_cfg.context_length as usize;
        let table = self.params.token_rows.as_deref();
        let rows: Vec<Vec<i64>> = texts
            .iter()
            .map(|text| tokens::to_rows(&tokens::tokenize(text, context), table))
            .collect();
        let scores = encode::texts(model, &rows, self.device).matmul(&pictures.transpose(0, 1));
        let n = self.labels.samples.len();
        (0..texts.len() as i64)
            .map(|i| {
                let mut line = vec![0f32; n];
                scores.get(i).copy_data(&mut line, n);
                line
            })
            .collect()
    }

    /// Prints the best pictures for free texts, those that fit marked with +.
    fn show(&self, model: &Clip, pictures: &Tensor, texts: &[String]) {
        if texts.is_empty() {
            return;
        }
        for (text, scores) in texts.iter().zip(self.scores(model, pictures, texts)) {
            println!("\n{text}");
            let query = SceneQuery::parse(text);
            for &index in ranking(&scores).iter().take(10) {
                let sample = &self.labels.samples[index];
                let mark = match (&query, &sample.scene) {
                    (Some(query), Some(scene)) if query.matches(scene) => '+',
                    _ => ' ',
                };
                let first = &self.labels.captions[sample.captions[0] as usize].text;
                println!("{mark} {:.3}  {}  {first}", scores[index], sample.path.display());
            }
        }
    }
}
