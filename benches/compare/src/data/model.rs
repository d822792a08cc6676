//! The model of a column, which tells the index the mean direction of texts. An exported model has it
//! from captions; here one that knows nothing is given that of text-like vectors.

use anyhow::{Context, Result};
use half::f16;
use pgclip_export::{Options, RandomClip};
use postgres::Client;

use super::Vectors;
use crate::exact::cache;

/// Where an index has the mean direction of texts from.
#[derive(Clone, Debug)]
pub enum Model {
    /// From the built-in model.
    BuiltIn,
    /// From a model whose embeddings of texts are these.
    OfTexts(Vectors),
}

impl Model {
    /// Registers the model where it is not known; its name.
    pub fn register(&self, client: &mut Client) -> Result<String> {
        let Self::OfTexts(texts) = self else { return Ok("pgclip-traffic-tiny".to_owned()) };
        let name = format!("compare-{}", texts.dims);
        let known = client
            .query_one("SELECT EXISTS (SELECT FROM clip_models WHERE name = $1)", &[&name])?
            .get::<_, bool>(0);
        if !known {
            let (weights, directory) =
                (cache()?.join(format!("{name}.weights")), cache()?.join(&name));
            RandomClip::smallest(texts.dims).write(&weights).context("random weights")?;
            let options = Options {
                mean_text_embedding: Some(mean(texts)),
                overwrite: true,
                ..Options::default()
            };
            pgclip_export::export(&weights, None, &options, &directory)?;
            let directory = directory.to_str().context("a path that is not UTF-8")?;
            client.execute("SELECT clip_register_model($1, $2)", &[&name, &directory])?;
        }
        Ok(name)
    }
}

fn mean(texts: &Vectors) -> Vec<f32> {
    let mut sum = vec![0.0; texts.dims];
    for text in texts.iter() {
        sum.iter_mut().zip(text).for_each(|(sum, &x)| *sum += f16::to_f32(x));
    }
    sum.iter().map(|sum| sum / texts.len() as f32).collect()
}
