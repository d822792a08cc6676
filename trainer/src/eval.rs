//! How well texts find pictures and pictures texts: over captions, and over colour + type queries.
//!
//! A picture is a positive for a text when the text fits it ([`Labels::fits`]): in synthetic
//! sets, when the scene is what the text asks for.

use anyhow::{Result, ensure};
use pgclip_scenes::Query as SceneQuery;
use serde::Serialize;
use tch::{Device, Tensor};

use crate::args::EvalArgs;
use crate::config::Config;
use crate::data::Labels;
use crate::images::{self, Pictures, Reader};
use crate::lines::{Captions, write_whole};
use crate::metrics::ranking;
use crate::model::{Clip, Precision};
use crate::params::Params;
use crate::place::Place;
use crate::ranks::{self, Measures, Ranked};
use crate::weights::Weights;
use crate::{encode, report, search, tokens, torch};

/// What an evaluation finds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub pictures: usize,
    /// Pictures of vehicles, where the set says so.
    pub vehicles: usize,
    /// Every distinct caption as a query for pictures.
    pub captions: Measures,
    /// Every picture as a query for captions.
    pub pictures_to_captions: Measures,
    /// "a red sedan" and the like, for each pair that occurs.
    pub colour_type: Measures,
}

/// A report with every query's ranking.
#[derive(Debug)]
pub struct Evaluation {
    pub report: Report,
    pub captions: Vec<Ranked>,
    pub pictures: Vec<Ranked>,
    pub colour_type: Vec<Ranked>,
    /// The texts of `colour_type`.
    pub colour_type_texts: Vec<String>,
}

/// Runs `pgclip-train eval`.
pub fn run(args: &EvalArgs) -> Result<()> {
    let device = torch::device(&args.device)?;
    let Weights { config, params, .. } = args.weights.read(device)?;
    let model = Clip::new(&config, &params, Precision::Fp32);
    let labels = Labels::read_as(&args.data, args.images.as_deref(), Captions::Given, &args.csv)?;
    let mut set = Set::open(labels, &config, 0)?;
    let texts = Texts { model: &model, config: &config, params: &params, device };
    let embeddings = set.embed(&texts)?;
    let labels = set.labels;
    let evaluation = evaluate(&texts, &labels, &embeddings, &args.suffix)?;
    let json = serde_json::to_string_pretty(&evaluation.report)? + "\n";
    print!("{json}");
    if let Some(path) = &args.json {
        write_whole(path, json.as_bytes())?;
    }
    if let Some(path) = &args.html {
        let page = report::page(&args.weights.path, &evaluation, &labels, &Reader::new(&config))?;
        write_whole(path, page.as_bytes())?;
        println!("{}", path.display());
    }
    show(&texts, &labels, &embeddings, &args.query);
    if let Some(least) = args.at_least {
        let found = evaluation.report.colour_type.map_at_10;
        ensure!(found >= least, "mAP@10 of colour + type queries is {found:.4}, below {least}");
    }
    Ok(())
}

/// Measures `model` on a set, as training does at each checkpoint.
pub fn measure(
    model: &Clip,
    params: &Params,
    config: &Config,
    set: &mut Set,
    device: Device,
) -> Result<Report> {
    let texts = Texts { model, config, params, device };
    let embeddings = set.embed(&texts)?;
    Ok(evaluate(&texts, &set.labels, &embeddings, "")?.report)
}

/// Pictures of a set too large for memory that are decoded at a time.
const PART: usize = 1024;

/// A set to measure on.
#[derive(Debug)]
pub struct Set {
    pub labels: Labels,
    /// Decoded, where they are held in memory.
    pictures: Option<Pictures>,
}

impl Set {
    /// A set whose pictures are decoded now if they take at most `most_bytes`. Missing pictures are
    /// an error.
    pub fn open(mut labels: Labels, config: &Config, most_bytes: u64) -> Result<Self> {
        images::missing(&labels)?;
        let small = images::decoded_bytes(labels.samples.len(), config) <= most_bytes;
        let pictures = if small { Some(images::load(&mut labels, config)?) } else { None };
        Ok(Set { labels, pictures })
    }

    /// Bytes of decoded pictures that are held.
    pub fn bytes(&self) -> u64 {
        self.pictures.as_ref().map_or(0, |pictures| pictures.bytes.len() as u64)
    }

    /// Embeddings of all pictures, [N, D] on the CPU. Those that cannot be read leave the labels.
    fn embed(&mut self, texts: &Texts) -> Result<Tensor> {
        let &Texts { model, config, device, .. } = texts;
        if let Some(pictures) = &self.pictures {
            return Ok(encode::pictures(model, pictures, device));
        }
        let places: Vec<&Place> = self.labels.samples.iter().map(|sample| &sample.place).collect();
        let found = encode::places(model, config, &places, PART, device)?;
        images::report(&found.broken);
        if !found.broken.is_empty() {
            self.labels.keep(&found.kept);
        }
        Ok(found.embeddings)
    }
}

/// A model as an encoder of texts.
struct Texts<'a> {
    model: &'a Clip,
    config: &'a Config,
    params: &'a Params,
    device: Device,
}

impl Texts<'_> {
    /// Embeddings [N, D] on the CPU.
    fn encode<S: AsRef<str>>(&self, texts: &[S]) -> Tensor {
        let context = self.config.model_cfg.text_cfg.context_length as usize;
        let table = self.params.token_rows.as_deref();
        let rows: Vec<Vec<i64>> = texts
            .iter()
            .map(|text| tokens::to_rows(&tokens::tokenize(text.as_ref(), context), table))
            .collect();
        encode::texts(self.model, &rows, self.device)
    }
}

/// Ranks pictures [N, D] for all captions and the reverse, with `suffix` behind every text.
fn evaluate(texts: &Texts, labels: &Labels, pictures: &Tensor, suffix: &str) -> Result<Evaluation> {
    let with_suffix = |text: &str| match suffix {
        "" => text.to_owned(),
        _ => format!("{}{suffix}", text.trim_end_matches('.')),
    };
    let (samples, captions) = (&labels.samples, &labels.captions);
    let encoded: Vec<String> = captions.iter().map(|caption| with_suffix(&caption.text)).collect();
    let encoded = texts.encode(&encoded);
    let fits = |caption: usize, sample: usize| labels.fits(&samples[sample], caption as u32);
    let by_caption = ranks::rank(&encoded, pictures, fits)?;
    let by_picture = ranks::rank(pictures, &encoded, |sample, caption| fits(caption, sample))?;

    // One query for each pair of colour and type that some picture shows; none where the set
    // does not describe its scenes.
    let shows = |query: &SceneQuery, at: usize| {
        samples[at].scene.as_ref().is_some_and(|scene| query.matches(scene))
    };
    let pairs: Vec<(String, SceneQuery)> = SceneQuery::colours_and_types()
        .into_iter()
        .filter(|(_, query)| (0..samples.len()).any(|at| shows(query, at)))
        .collect();
    let by_pair = match pairs.is_empty() {
        true => Vec::new(),
        false => {
            let encoded: Vec<String> = pairs.iter().map(|(text, _)| with_suffix(text)).collect();
            ranks::rank(&texts.encode(&encoded), pictures, |pair, at| shows(&pairs[pair].1, at))?
        }
    };
    let scenes = samples.iter().filter_map(|sample| sample.scene.as_ref());
    Ok(Evaluation {
        report: Report {
            pictures: samples.len(),
            vehicles: scenes.filter(|scene| scene.vehicle().is_some()).count(),
            captions: Measures::of(&by_caption),
            pictures_to_captions: Measures::of(&by_picture),
            colour_type: Measures::of(&by_pair),
        },
        captions: by_caption,
        pictures: by_picture,
        colour_type: by_pair,
        colour_type_texts: pairs.into_iter().map(|(text, _)| text).collect(),
    })
}

/// Prints the best pictures for free texts, those that fit marked with +.
fn show(encoder: &Texts, labels: &Labels, pictures: &Tensor, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    let scores = encoder.encode(texts).matmul(&pictures.transpose(0, 1));
    for (text, scores) in texts.iter().zip(search::rows_f32(&scores)) {
        println!("\n{text}");
        let query = SceneQuery::parse(text);
        for &index in ranking(&scores).iter().take(10) {
            let sample = &labels.samples[index];
            let mark = match (&query, &sample.scene) {
                (Some(query), Some(scene)) if query.matches(scene) => '+',
                _ => ' ',
            };
            let first = &labels.captions[sample.captions[0] as usize].text;
            println!("{mark} {:.3}  {}  {first}", scores[index], sample.place);
        }
    }
}
