//! `zero_shot`: which of some labels fits an embedding best, by CLIP's own softmax over cosine
//! similarities (Radford et al., arXiv 2103.00020, section 3.1).

use pgrx::iter::TableIterator;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Array, name, pg_extern, pg_sys};

use crate::embedding::Embedding;
use crate::encode::failure::Failure;
use crate::encode::{models, requests};
use crate::extension::Extension;

/// Labels with their probabilities, the likeliest first; labels of equal probability in the order
/// given.
#[pg_extern(sql = false)]
fn zero_shot(
    embedding: Option<Embedding>,
    labels: Option<Array<'_, &str>>,
    template: Option<&str>,
    model: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<TableIterator<'static, (name!(label, String), name!(probability, f64))>, ErrorReport> {
    let (Some(embedding), Some(labels)) = (embedding, labels) else {
        return Ok(TableIterator::empty());
    };
    let template = template.unwrap_or("{}");
    if !template.contains("{}") {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("the template \"{template}\" has no {{}}"),
        )
        .hint("{} stands for the label: 'a photo of a {} car'.")
        .into());
    }
    let labels: Option<Vec<&str>> = labels.iter().collect();
    let Some(labels) = labels else {
        return Err(Failure::new(Code::ERRCODE_NULL_VALUE_NOT_ALLOWED, "a label is NULL")
            .hint("Leave NULLs out of the labels.")
            .into());
    };
    let model = models::resolve(&Extension::of_call(fcinfo), model)?;
    if embedding.dims().get() != model.dimensions {
        return Err(Failure::new(
            Code::ERRCODE_DATA_EXCEPTION,
            format!(
                "the embedding has {} dimensions, model \"{}\" has {}",
                embedding.dims().get(),
                model.name,
                model.dimensions
            ),
        )
        .hint("Name the model that made the embedding: model => '…'.")
        .into());
    }
    let prompts: Vec<String> = labels.iter().map(|label| template.replace("{}", label)).collect();
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let texts = requests::texts(&model, &prompts)?;
    let scale = f64::from(model.logit_scale);
    let logits: Vec<f64> = texts.iter().map(|text| scale * cosine(&embedding, text)).collect();
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut rows: Vec<(String, f64)> = labels
        .iter()
        .zip(&weights)
        .map(|(label, weight)| (label.to_string(), weight / sum))
        .collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(TableIterator::new(rows))
}

/// Cosine similarity; 0 for a vector of zeros, which has no direction.
fn cosine(a: &Embedding, b: &Embedding) -> f64 {
    let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.as_slice().iter().zip(b.as_slice()) {
        let (a, b) = (a.to_f64(), b.to_f64());
        dot += a * b;
        aa += a * a;
        bb += b * b;
    }
    let norms = f64::sqrt(aa * bb);
    if norms > 0.0 { dot / norms } else { 0.0 }
}
