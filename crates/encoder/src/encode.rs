//! From bytes and texts to embeddings, for one batch, with no thread or queue in sight.
//! Its own file because the pipeline, `check` and `bench` all call these steps.

use crate::backend::Tower;
use crate::confine::Confinement;
use crate::failure::Failure;
use crate::file;
use crate::models::Model;
use crate::pipeline::ItemResult;
use crate::settings::EngineOptions;
use half::f16;
use pgclip_clip::decode::{self, DecodeError, Limits};
use pgclip_clip::protocol::{ByteBuf, ErrorKind, Image, ItemError, MAX_TEXT_BYTES};
use pgclip_clip::tokenize::{END_OF_TEXT, Tokenizer};
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A batch of images as the image tower's input.
#[derive(Debug)]
pub struct Prepared {
    pub model: Arc<Model>,
    /// f32 [N, 3, S, S], normalised: the N images that could be decoded, in their order.
    pixels: Vec<f32>,
    /// One for each image of the batch: `None` where its pixels are above.
    errors: Vec<Option<ItemError>>,
}

/// Bounds on one image.
pub fn limits(options: &EngineOptions) -> Limits {
    let pixels = u64::from(options.max_megapixels) * 1_000_000;
    Limits {
        pixels,
        exif_orientation: options.exif_orientation,
        scaled: options.scaled_decode,
        ..Limits::default()
    }
}

/// Reads, decodes, resizes and normalises images in parallel, on the pool that this runs in.
pub fn prepare(
    model: &Arc<Model>,
    images: &[Image],
    limits: &Limits,
    confinement: &Confinement,
) -> Prepared {
    let exif_orientation = limits.exif_orientation || model.config().image.exif_orientation;
    let limits = &Limits { exif_orientation, ..*limits };
    let stride = 3 * model.image_size().pow(2);
    let mut pixels = vec![0.0; images.len() * stride];
    let errors: Vec<Option<ItemError>> = images
        .par_iter()
        .zip(pixels.par_chunks_exact_mut(stride))
        .with_max_len(1)
        .map(|(image, pixels)| prepare_one(model, image, limits, confinement, pixels).err())
        .collect();
    if errors.iter().any(Option::is_some) {
        let good = errors.iter().enumerate().filter(|(_, error)| error.is_none());
        let mut kept = 0;
        for (from, _) in good {
            pixels.copy_within(from * stride..(from + 1) * stride, kept * stride);
            kept += 1;
        }
        pixels.truncate(kept * stride);
    }
    Prepared { model: model.clone(), pixels, errors }
}

/// One image, [3, S, S] into `pixels`. A panic in a decoder is an error of that image.
fn prepare_one(
    model: &Model,
    image: &Image,
    limits: &Limits,
    confinement: &Confinement,
    pixels: &mut [f32],
) -> Result<(), ItemError> {
    let read;
    let image = match image {
        Image::Bytes(bytes) => bytes,
        Image::File { root, path } => {
            read = file::read(root, path, limits.bytes, confinement)?;
            &read
        }
    };
    let work = || -> Result<(), DecodeError> {
        let decoded = decode::decode_for(image, limits, model.image_size())?;
        model.preprocessor.normalise(&model.preprocessor.run(&decoded), pixels);
        Ok(())
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let kind = match error {
                DecodeError::TooLarge { .. } => ErrorKind::ImageTooLarge,
                DecodeError::Unsupported { .. } => ErrorKind::UnsupportedImage,
                _ => ErrorKind::BadImage,
            };
            Err(ItemError { kind, message: error.to_string() })
        }
        Err(_) => {
            let message = "the decoder failed on this image".to_owned();
            Err(ItemError { kind: ErrorKind::BadImage, message })
        }
    }
}

/// Runs prepared images through the image tower: a result for each image of the batch.
pub fn infer(prepared: Prepared) -> Result<Vec<ItemResult>, Failure> {
    let Prepared { model, pixels, errors } = prepared;
    let size = model.image_size();
    let count = pixels.len() / (3 * size * size);
    let shape = [count, 3, size, size].map(|n| n as i64);
    let embeddings = match count {
        0 => Vec::new(),
        _ => model.image()?.run(&shape, &pixels)?,
    };
    Ok(merge(errors, &embeddings, model.dimensions()))
}

/// Runs texts through the text tower: a result for each. Where the tower allows it, the batch is
/// cut to its longest text, most of a search's 77 tokens being padding.
pub fn texts(model: &Model, texts: &[String]) -> Result<Vec<ItemResult>, Failure> {
    let length = model.context_length();
    let mut tokens: Vec<i64> = Vec::with_capacity(texts.len() * length);
    let errors: Vec<Option<ItemError>> = texts
        .iter()
        .map(|text| {
            if text.len() <= MAX_TEXT_BYTES {
                tokens.extend(Tokenizer::clip().encode(text, length));
                return None;
            }
            let message =
                format!("the text has {} bytes, the limit is {MAX_TEXT_BYTES}", text.len());
            Some(ItemError { kind: ErrorKind::TextTooLong, message })
        })
        .collect();
    let embeddings = match tokens.len() {
        0 => Vec::new(),
        _ => {
            let tower = model.text()?;
            let cut = if tower.any_length { longest(&tokens, length) } else { length };
            run_texts(&tower, &tokens, length, cut)?
        }
    };
    Ok(merge(errors, &embeddings, model.dimensions()))
}

/// Runs texts of `length` tokens cut to their first `cut`.
fn run_texts(
    tower: &Tower,
    tokens: &[i64],
    length: usize,
    cut: usize,
) -> Result<Vec<f32>, Failure> {
    let shape = [tokens.len() / length, cut].map(|n| n as i64);
    if cut == length {
        return tower.run(&shape, tokens);
    }
    let tokens: Vec<i64> =
        tokens.chunks_exact(length).flat_map(|text| &text[..cut]).copied().collect();
    tower.run(&shape, &tokens)
}

/// Tokens of the longest text, its end included.
fn longest(tokens: &[i64], length: usize) -> usize {
    let ends =
        tokens.chunks_exact(length).map(|text| text.iter().rposition(|&id| id == END_OF_TEXT));
    ends.map(|end| end.map_or(length, |end| end + 1)).max().unwrap_or(length)
}

/// Whether a text tower gives a text the same embedding with and without its padding. One with a
/// causal mask does; one made elsewhere may take any length and have none.
pub fn ignores_padding(tower: &Tower, length: usize) -> bool {
    let tokens = Tokenizer::clip().encode("a probe", length);
    let run = |cut| run_texts(tower, &tokens, length, cut);
    let (Ok(whole), Ok(cut)) = (run(length), run(longest(&tokens, length))) else { return false };
    let cosine: f32 = whole.iter().zip(&cut).map(|(a, b)| a * b).sum();
    cosine > 0.9999
}

/// Puts the embeddings of the good items and the errors of the others in order.
fn merge(errors: Vec<Option<ItemError>>, embeddings: &[f32], dimensions: usize) -> Vec<ItemResult> {
    let mut embeddings = embeddings.chunks_exact(dimensions);
    let mut embedding = || {
        let values = embeddings.next().filter(|values| values.iter().all(|x| x.is_finite()));
        let values = values.ok_or_else(|| ItemError {
            kind: ErrorKind::Internal,
            message: "the model gives no finite embedding for this item".into(),
        })?;
        let halves = values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes());
        Ok(ByteBuf::from(halves.collect::<Vec<u8>>()))
    };
    errors.into_iter().map(|error| error.map_or_else(&mut embedding, Err)).collect()
}

/// Encodes a grey image and a word, to see that both towers load, run, and give unit-length
/// embeddings of the right dimensions.
pub fn probe(model: &Arc<Model>) -> Result<(), Failure> {
    let size = model.image_size();
    let pixels = vec![0.0; 3 * size * size];
    let prepared = Prepared { model: model.clone(), pixels, errors: vec![None] };
    let probes = [infer(prepared)?, texts(model, &["a probe".into()])?];
    for result in probes.into_iter().flatten() {
        result.map_err(|error| Failure::new(ErrorKind::ModelInvalid, error.message))?;
    }
    Ok(())
}

/// Runs `work`, turning a panic into a failure: the worker threads outlive every request.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Failure::new(ErrorKind::Internal, "the encoder failed; its log tells where"))
    })
}
