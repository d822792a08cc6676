//! What a model finds: the benchmark's queries against all its searched pictures, with what
//! happens at query time switched on or off.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pgclip_query::enhance::{self, Lexicon};
use pgclip_query::rerank::{Options, rerank};
use pgclip_scenes::set;
use tch::{Device, Kind, Tensor};

use super::result::Found;
use crate::config::Config;
use crate::data::Labels;
use crate::metrics::{average_precision, ranking};
use crate::model::{Clip, Precision};
use crate::params::Params;
use crate::{checkpoint, encode, images, tokens};

/// What happens at query time.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Prompt enhancement.
    pub enhance: bool,
    /// Adaption re-ranking of the first [`CANDIDATES`].
    pub rerank: bool,
}

/// Places within which a hit counts.
const DEPTH: usize = 10;
const CANDIDATES: usize = 50;

struct Question {
    text: String,
    relevant: Vec<bool>,
}

/// Asks a checkpoint the queries of each subject of a searched split.
pub fn measure(checkpoint: &Path, split: &Path, how: How) -> Result<BTreeMap<String, Found>> {
    let (config, params) = checkpoint::load_model(checkpoint, Device::Cpu)?;
    let model = Clip::new(&config, &params, Precision::Fp32);
    let mut labels = Labels::read(&split.join(set::LABELS), None)?;
    let count = labels.samples.len();
    let pictures = images::load(&mut labels, &config)?;
    // Relevance goes by the pictures' numbers.
    ensure!(pictures.len() == count, "pictures of {} are unreadable", split.display());
    let pictures = encode::pictures(&model, &pictures, Device::Cpu);
    ["car", "person"]
        .iter()
        .map(|subject| {
            let questions = questions(split, subject, count)?;
            let queries = queries(&model, &config, &params, &questions, how.enhance)?;
            let scores = queries.matmul(&pictures.transpose(0, 1)); // [Q, N]
            let mut found = Found::default();
            for (index, question) in (0..).zip(&questions) {
                let mut row = vec![0f32; count];
                scores.get(index).copy_data(&mut row, count);
                ensure!(row.iter().all(|score| score.is_finite()), "an embedding is NaN");
                let mut order = ranking(&row);
                if how.rerank {
                    rerank_first(&mut order, &row, &pictures);
                }
                found.average_precision.push(average_precision(&order, &question.relevant, DEPTH));
                let first = order.iter().position(|&picture| question.relevant[picture]);
                found.first_hit.push(first.map_or(0, |place| place + 1));
            }
            Ok(((*subject).to_owned(), found))
        })
        .collect()
}

/// Puts the first candidates into the order that adaption re-ranking gives them.
fn rerank_first(order: &mut [usize], scores: &[f32], pictures: &Tensor) {
    let dims = pictures.size()[1] as usize;
    let first = order.len().min(CANDIDATES);
    let candidates = order[..first].to_vec();
    let mut embeddings = vec![0f32; first * dims];
    for (row, &picture) in embeddings.chunks_exact_mut(dims).zip(&candidates) {
        pictures.get(picture as i64).copy_data(row, dims);
    }
    let scores: Vec<f32> = candidates.iter().map(|&picture| scores[picture]).collect();
    for (place, index) in
        rerank(&embeddings, dims, &scores, &Options::default()).into_iter().enumerate()
    {
        order[place] = candidates[index];
    }
}

/// The queries of a subject with what they should find among `pictures` pictures.
fn questions(split: &Path, subject: &str, pictures: usize) -> Result<Vec<Question>> {
    let read = |name: String| {
        let path = split.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut questions: Vec<Question> = read(format!("queries_{subject}.txt"))?
        .lines()
        .map(|text| Question { text: text.to_owned(), relevant: vec![false; pictures] })
        .collect();
    ensure!(!questions.is_empty(), "{} asks nothing about a {subject}", split.display());
    for line in read(format!("relevance_{subject}.tsv"))?.lines() {
        let mark = |questions: &mut Vec<Question>| {
            let (number, image) = line.split_once('\t')?;
            let index: usize = image.strip_suffix(".jpg")?.parse().ok()?;
            let question = questions.get_mut(number.parse::<usize>().ok()?.checked_sub(1)?)?;
            *question.relevant.get_mut(index)? = true;
            Some(())
        };
        mark(&mut questions).with_context(|| format!("no such query or picture: {line:?}"))?;
    }
    Ok(questions)
}

/// Unit-length embeddings [Q, D]; the mean of its prompts' embeddings where a query has several.
fn queries(
    model: &Clip,
    config: &Config,
    params: &Params,
    questions: &[Question],
    enhance: bool,
) -> Result<Tensor> {
    let domains = enhance::builtin();
    let lexicon = Lexicon::new(&domains);
    let prompts: Vec<Vec<String>> = questions
        .iter()
        .map(|question| match enhance {
            true => Ok(lexicon.enhance(&question.text, None)?.prompts),
            false => Ok(vec![question.text.clone()]),
        })
        .collect::<Result<_>>()?;
    let context = config.model_cfg.text_cfg.context_length as usize;
    let table = params.token_rows.as_deref();
    let rows: Vec<Vec<i64>> = prompts
        .iter()
        .flatten()
        .map(|text| tokens::to_rows(&tokens::tokenize(text, context), table))
        .collect();
    let encoded = encode::texts(model, &rows, Device::Cpu);
    let mut at = 0;
    let means: Vec<Tensor> = prompts
        .iter()
        .map(|prompts| {
            let n = prompts.len() as i64;
            at += n;
            encoded.narrow(0, at - n, n).mean_dim(0i64, false, Kind::Float)
        })
        .collect();
    let means = Tensor::stack(&means, 0);
    Ok(&means / means.norm_scalaropt_dim(2, [-1i64], true).clamp_min(1e-12))
}
