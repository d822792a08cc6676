//! `zero_shot` and `clip_fill_attributes`: what an embedding shows, by the labels that fit it best.

use pgrx::iter::TableIterator;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Array, name, pg_extern, pg_sys};

use super::labels::{self, Labels};
use crate::catalog::extension::Extension;
use crate::catalog::rights::{Encoding, check_encoding};
use crate::embedding::Embedding;
use crate::error::Failure;
use crate::limits;
use crate::models::{self, Model};

type Labelled = TableIterator<'static, (name!(label, String), name!(probability, f64))>;

#[pg_extern(sql = false)]
fn zero_shot(
    embedding: Option<Embedding>,
    labels: Option<Array<'_, &str>>,
    template: Option<&str>,
    model: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Labelled, ErrorReport> {
    classify(embedding, labels, vec![template.unwrap_or("{}")], model, fcinfo)
}

#[pg_extern(sql = false)]
fn zero_shot_ensemble(
    embedding: Option<Embedding>,
    labels: Option<Array<'_, &str>>,
    templates: Option<Array<'_, &str>>,
    model: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Labelled, ErrorReport> {
    let templates = match &templates {
        Some(templates) => elements(templates, "template")?,
        None => vec!["{}"],
    };
    classify(embedding, labels, templates, model, fcinfo)
}

/// Labels with their probabilities, the likeliest first; labels of equal probability in the order
/// given.
fn classify(
    embedding: Option<Embedding>,
    labels: Option<Array<'_, &str>>,
    templates: Vec<&str>,
    model: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Labelled, ErrorReport> {
    let (Some(embedding), Some(labels)) = (embedding, labels) else {
        return Ok(TableIterator::empty());
    };
    if templates.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "there is no template",
        )
        .hint("Leave templates out, or give one or more: ARRAY['a {} car', 'a photo of a {} car'].")
        .into());
    }
    if let Some(template) = templates.iter().find(|template| !template.contains("{}")) {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("the template \"{}\" has no {{}}", limits::shown(template)),
        )
        .hint("{} stands for the label: 'a photo of a {} car'.")
        .into());
    }
    let labels = elements(&labels, "label")?;
    let extension = Extension::of_call(fcinfo);
    check_encoding(&extension, Encoding::Texts)?;
    let model = models::resolve(&extension, model)?;
    check_model(&embedding, &model)?;
    let prompts: Vec<(&str, &[&str])> =
        labels.iter().map(|label| (*label, templates.as_slice())).collect();
    let encoded = Labels::encode(&model, &prompts)?;
    let probabilities = encoded.probabilities(embedding.as_slice());
    let mut rows: Vec<(String, f64)> = encoded.names.into_iter().zip(probabilities).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(TableIterator::new(rows))
}

/// The likeliest value of each attribute of a domain.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_fill_attributes(
    embedding: Option<Embedding>,
    domain: Option<&str>,
    model: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<
    TableIterator<
        'static,
        (name!(attribute, String), name!(value, String), name!(probability, f64)),
    >,
    ErrorReport,
> {
    let (Some(embedding), Some(domain)) = (embedding, domain) else {
        return Ok(TableIterator::empty());
    };
    let extension = Extension::of_call(fcinfo);
    check_encoding(&extension, Encoding::Texts)?;
    let model = models::resolve(&extension, model)?;
    check_model(&embedding, &model)?;
    let attributes = labels::attributes(&extension, &model, domain)?;
    if attributes.is_empty() {
        return Err(labels::without_attributes(&extension, domain)?.into());
    }
    let rows: Vec<(String, String, f64)> = attributes
        .into_iter()
        .filter_map(|attribute| {
            let (value, probability) = attribute.labels.best(embedding.as_slice())?;
            Some((attribute.name.clone(), value.to_owned(), probability))
        })
        .collect();
    Ok(TableIterator::new(rows))
}

/// An array's elements, none of which may be NULL.
fn elements<'a>(array: &'a Array<'_, &str>, what: &str) -> Result<Vec<&'a str>, Failure> {
    limits::check(&format!("{what}s"), array.len(), limits::PROMPTS)?;
    array.iter().collect::<Option<Vec<&str>>>().ok_or_else(|| {
        Failure::new(Code::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("a {what} is NULL"))
            .hint(format!("Leave NULLs out of the {what}s."))
    })
}

fn check_model(embedding: &Embedding, model: &Model) -> Result<(), Failure> {
    if embedding.dims().get() == model.dimensions {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_DATA_EXCEPTION,
        format!(
            "the embedding has {} dimensions, model \"{}\" has {}",
            embedding.dims().get(),
            model.name,
            model.dimensions
        ),
    )
    .hint("Name the model that made the embedding: model => '…'."))
}
