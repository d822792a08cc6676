//! Labels that zero-shot classification tells apart, as directions of the text tower. Apart from its
//! callers, since a function in SQL and the ingest trigger classify alike. Attributes that were encoded
//! are kept, since each row of a table is told apart by the same ones.

use std::cell::RefCell;
use std::rc::Rc;

use half::f16;
use pgclip_query::attributes::Value;
use pgclip_query::zero_shot::{each_by_itself, ensemble, probabilities};
use pgclip_wire::protocol::ModelRef;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use super::lexicon;
use crate::catalog::extension::Extension;
use crate::encoder::requests;
use crate::error::Failure;
use crate::limits;
use crate::models::Model;

/// Lexicons that a backend keeps encoded.
const MAX_KEPT: usize = 8;

thread_local! {
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// The attributes of some values, encoded by a model.
struct Kept {
    model: ModelRef,
    values: Vec<Value>,
    attributes: Vec<Rc<Attribute>>,
}

/// Some labels and their directions.
#[derive(Debug)]
pub struct Labels {
    pub names: Vec<String>,
    directions: Vec<Vec<f32>>,
    logit_scale: f32,
    logit_bias: Option<f32>,
}

impl Labels {
    /// Encodes labels with their templates, in which `{}` stands for the label.
    pub fn encode<'a, T: AsRef<str> + 'a>(
        model: &Model,
        labels: &[(&str, &'a [T])],
    ) -> Result<Self, Failure> {
        let of_label = |(_, templates): &(&str, &[T])| templates.len();
        let count = labels.iter().map(of_label).fold(0, sum);
        let bytes_of = |(label, templates): &(&str, &[T])| {
            templates.iter().map(|t| limits::prompt_bytes(t.as_ref(), label.len())).fold(0, sum)
        };
        limits::check("prompts (labels times templates)", count, limits::PROMPTS)
            .map_err(|failure| failure.hint("Give fewer labels, or fewer templates."))?;
        limits::check(
            "bytes of prompts",
            labels.iter().map(bytes_of).fold(0, sum),
            limits::PROMPT_BYTES,
        )
        .map_err(|failure| failure.hint("Give shorter labels and templates."))?;
        let prompts: Vec<String> = labels
            .iter()
            .flat_map(|(label, templates)| {
                templates.iter().map(|template| template.as_ref().replace("{}", label))
            })
            .collect();
        let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
        let texts = requests::texts(model, &prompts)?;
        let mut texts = texts.iter().map(|text| widened(text.as_slice()));
        let mut directions = Vec::with_capacity(labels.len());
        for (_, templates) in labels {
            let own: Vec<Vec<f32>> = texts.by_ref().take(templates.len()).collect();
            directions.push(ensemble(own.iter().map(Vec::as_slice)));
        }
        let names = labels.iter().map(|(label, _)| label.to_string()).collect();
        let Model { logit_scale, logit_bias, .. } = *model;
        Ok(Self { names, directions, logit_scale, logit_bias })
    }

    /// Of each label, in their order. They add up to 1, but for models with a bias, whose labels may
    /// all fit, or none of them.
    pub fn probabilities(&self, embedding: &[f16]) -> Vec<f64> {
        let (embedding, scale) = (widened(embedding), self.logit_scale);
        match self.logit_bias {
            Some(bias) => each_by_itself(&embedding, &self.directions, scale, bias),
            None => probabilities(&embedding, &self.directions, scale),
        }
    }

    /// The likeliest label, the first of equal ones, with its probability.
    pub fn best(&self, embedding: &[f16]) -> Option<(&str, f64)> {
        let found = self.probabilities(embedding).into_iter().enumerate();
        let best = found.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|(at, probability)| (self.names[at].as_str(), probability))
    }
}

/// The values of one attribute, ready to be told apart.
#[derive(Debug)]
pub struct Attribute {
    pub name: String,
    pub labels: Labels,
}

/// The attributes of a domain as `clip_attributes` has them now, by name.
pub fn attributes(
    extension: &Extension,
    model: &Model,
    domain: &str,
) -> Result<Vec<Rc<Attribute>>, Failure> {
    let mut values = lexicon::values(extension, domain)?;
    values.sort_by(|a, b| (&a.attribute, &a.value).cmp(&(&b.attribute, &b.value)));
    let is_it = |kept: &&Kept| kept.model == model.reference && kept.values == values;
    let kept = KEPT.with_borrow(|kept| kept.iter().find(is_it).map(|k| k.attributes.clone()));
    if let Some(attributes) = kept {
        return Ok(attributes);
    }
    let same = |a: &Value, b: &Value| a.attribute == b.attribute;
    let groups = values.chunk_by(same);
    let attributes: Vec<Rc<Attribute>> = groups
        .map(|group| {
            let labels: Vec<(&str, &[String])> =
                group.iter().map(|v| (v.value.as_str(), v.templates.as_slice())).collect();
            let labels = Labels::encode(model, &labels)?;
            Ok(Rc::new(Attribute { name: group[0].attribute.clone(), labels }))
        })
        .collect::<Result<_, Failure>>()?;
    let model = model.reference.clone();
    KEPT.with_borrow_mut(|kept| {
        if kept.len() >= MAX_KEPT {
            kept.remove(0);
        }
        kept.push(Kept { model, values, attributes: attributes.clone() });
    });
    Ok(attributes)
}

/// As much as there is, where the sum is more than a number holds.
fn sum(a: usize, b: usize) -> usize {
    a.saturating_add(b)
}

fn widened(embedding: &[f16]) -> Vec<f32> {
    embedding.iter().map(|x| x.to_f32()).collect()
}

/// What to say of a domain that has no attributes.
pub fn without_attributes(extension: &Extension, domain: &str) -> Result<Failure, Failure> {
    let known = lexicon::domains(extension)?;
    Ok(Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("domain \"{}\" has no attributes", limits::shown(domain)),
    )
    .hint(format!("clip_attributes has those of: {}.", known.join(", "))))
}
