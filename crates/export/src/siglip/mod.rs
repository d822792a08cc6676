//! SigLIP and SigLIP 2 from weights: like CLIP's, but that the image tower has no class token and pools
//! its patches by attention to a learnt probe, and the text tower looks both ways, is always filled up
//! to its context length, and ends with its last token. Its own module, since nothing but the blocks
//! is shared with [`Architecture`](crate::Architecture)'s CLIP.

mod config;
mod graph;
mod weights;

use std::path::Path;

use pgclip_clip::model::{
    ClipConfig, FORMAT_ANY, IMAGE_FILE, ImageConfig, Padding, TEXT_FILE, TextConfig, TokenizerKind,
};

use crate::checkpoint::Checkpoint;
use crate::config::Tower;
use crate::error::ExportError;
use crate::export::{Draft, Options};
use crate::foreign::{Published, read_tokenizer};
use crate::onnx;

use config::Siglip;
pub use config::{check_known, describes};
use weights::Weights;

/// Converts the weights in a checkpoint, described at `config`, up to the point where the directory
/// would appear.
pub fn draft(
    checkpoint: &Checkpoint,
    config: &Path,
    options: &Options,
    dir: &Path,
) -> Result<Draft, ExportError> {
    let siglip = Siglip::read(config, checkpoint, &options.stated)?;
    let tokenizer = Published::read(checkpoint.folder())?;
    let mut tokens = tokenizer.describe(siglip.clean(&tokenizer), Padding::Context)?;
    tokens.language = options.language.clone();
    let read = read_tokenizer(&tokenizer, &tokens, siglip.context_length)?;
    if read.vocabulary() as usize > siglip.vocab_size {
        return Err(ExportError::config(
            config,
            format!(
                "vocab_size is {}, but tokenizer.json has {} token ids",
                siglip.vocab_size,
                read.vocabulary()
            ),
        ));
    }
    let weights = Weights::load(checkpoint, &siglip)?;
    let preprocessing = &siglip.preprocessing;
    let description = ClipConfig {
        format: FORMAT_ANY,
        name: String::new(),
        architecture: siglip.describe(),
        dimensions: siglip.dimensions as u32,
        image: ImageConfig {
            size: siglip.image_size as u32,
            mean: preprocessing.mean,
            std: preprocessing.std,
            resize: options.resize.unwrap_or(preprocessing.resize),
            interpolation: preprocessing.interpolation,
            exif_orientation: options.exif_orientation,
        },
        text: TextConfig {
            context_length: siglip.context_length as u32,
            vocab_size: siglip.vocab_size as u32,
            tokenizer: TokenizerKind::File,
            tokens: Some(tokens.clone()),
        },
        logit_scale: weights.logit_scale,
        logit_bias: Some(weights.logit_bias),
        towers: None,
        mean_text_embedding: options.mean_text_embedding.clone(),
        precision: options.precision.arithmetic(),
        files: Default::default(),
    };
    let mut draft = Draft::begin(description, options, dir)?;
    tokenizer.write(draft.path())?;
    draft.set_files("tokenizer", vec![tokens.file]);
    let image = graph::image(&weights.vision, &siglip, options.precision);
    let text = graph::text(&weights.text, &siglip, options.precision);
    for (graph, file) in [(&image, IMAGE_FILE), (&text, TEXT_FILE)] {
        let files = onnx::write(graph, draft.path(), file, options.most_inline_bytes)?;
        draft.set_files(file, files);
    }
    let tower = |tower: &Tower| {
        let Tower { width, layers, heads, .. } = tower;
        format!("{layers} layers of width {width}, {heads} heads")
    };
    draft.set_towers([tower(&siglip.vision), tower(&siglip.text)]);
    draft.set_parameters(image.parameters() + text.parameters());
    Ok(draft)
}
