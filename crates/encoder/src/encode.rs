//! From bytes and texts to embeddings, for one batch, with no thread or queue in sight.
//! Its own file because the pipeline, `check` and `bench` all call these steps.

use crate::backend::{Feed, Tower};
use crate::confine::Confinement;
use crate::failure::Failure;
use crate::file;
use crate::large::Budget;
use crate::models::Model;
use crate::pipeline::{Batch, ItemResult, Large, Slot, Wanted};
use crate::settings::EngineOptions;
use crate::tokens::Tokens;
use half::f16;
use pgclip_clip::decode::{self, DecodeError, Limits};
use pgclip_clip::need::need;
use pgclip_clip::towers::{Holds, Layout};
use pgclip_wire::protocol::{ByteBuf, ErrorKind, Image, ItemError, MAX_TEXT_BYTES};
use rayon::prelude::*;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A batch of images as the image tower's input.
#[derive(Debug)]
pub struct Prepared {
    pub model: Arc<Model>,
    /// As the tower's input is laid out: the N images that could be decoded, in their order.
    pixels: Vec<f32>,
    /// One for each image of the batch: `None` where its pixels are above.
    errors: Vec<Option<ItemError>>,
}

/// Bounds on one image.
pub fn limits(options: &EngineOptions, budget: &Budget) -> Limits {
    let pixels = u64::from(options.max_megapixels) * 1_000_000;
    Limits {
        pixels,
        memory: budget.large,
        exif_orientation: options.exif_orientation,
        scaled: options.scaled_decode,
        ..Limits::default()
    }
}

/// What images are read under.
#[derive(Debug)]
pub struct Rules<'a> {
    pub limits: &'a Limits,
    pub budget: &'a Budget,
    pub confinement: &'a Confinement,
    pub wanted: &'a Wanted,
}

/// What became of one image.
enum Fate {
    /// Its pixels are there.
    Good,
    Bad(ItemError),
    /// It takes so many bytes that it waits for them elsewhere.
    Large(u64),
    /// Nobody waits for it any more.
    Unwanted,
}

/// Reads, decodes, resizes and normalises a batch in parallel, on the pool that this runs in. What
/// it holds of large images is given back untouched.
pub fn prepare(
    model: &Arc<Model>,
    batch: Batch<Image>,
    rules: &Rules,
) -> (Vec<Slot>, Prepared, Vec<Large>) {
    let stride = 3 * model.image_size().pow(2);
    let mut pixels = vec![0.0; batch.items.len() * stride];
    let fates: Vec<Fate> = batch
        .items
        .par_iter()
        .zip(&batch.slots)
        .zip(pixels.par_chunks_exact_mut(stride))
        .with_max_len(1)
        .map(|((image, slot), pixels)| {
            one(model, image, *slot, rules, rules.budget.ordinary, pixels)
        })
        .collect();
    let (mut slots, mut errors, mut large) = (Vec::new(), Vec::new(), Vec::new());
    let mut good = 0;
    let all = batch.slots.into_iter().zip(batch.items).zip(fates);
    for (at, ((slot, image), fate)) in all.enumerate() {
        match fate {
            Fate::Good => {
                if good < at {
                    pixels.copy_within(at * stride..(at + 1) * stride, good * stride);
                }
                good += 1;
                errors.push(None);
                slots.push(slot);
            }
            Fate::Bad(error) => {
                errors.push(Some(error));
                slots.push(slot);
            }
            Fate::Large(need) => {
                large.push(Large { model: batch.model.clone(), slot, image, need });
            }
            Fate::Unwanted => {}
        }
    }
    pixels.truncate(good * stride);
    (slots, Prepared { model: model.clone(), pixels, errors }, large)
}

/// The same of one large image, for which memory was set aside. `None`: nobody waits for it.
pub fn prepare_large(model: &Arc<Model>, large: &Large, rules: &Rules) -> Option<Prepared> {
    let mut pixels = vec![0.0; 3 * model.image_size().pow(2)];
    let error = match one(model, &large.image, large.slot, rules, large.need, &mut pixels) {
        Fate::Good => None,
        Fate::Bad(error) => Some(error),
        // Only a file can be another than the one that memory was set aside for.
        Fate::Large(_) => Some(ItemError {
            kind: ErrorKind::FileChanged,
            message: "the file of the image was changed while it waited".into(),
        }),
        Fate::Unwanted => return None,
    };
    if error.is_some() {
        pixels.clear();
    }
    Some(Prepared { model: model.clone(), pixels, errors: vec![error] })
}

/// One image, [3, S, S] into `pixels`, if it takes no more than `memory` bytes.
fn one(
    model: &Model,
    image: &Image,
    slot: Slot,
    rules: &Rules,
    memory: u64,
    pixels: &mut [f32],
) -> Fate {
    if !rules.wanted.contains(slot.ticket) {
        return Fate::Unwanted;
    }
    match prepare_one(model, image, rules, memory, pixels) {
        Ok(None) => Fate::Good,
        Ok(Some(need)) => Fate::Large(need),
        Err(error) => Fate::Bad(error),
    }
}

/// Reads the header, and where the image takes more than `memory` bytes says how many, else
/// goes on. A panic in a decoder is an error of that image.
fn prepare_one(
    model: &Model,
    image: &Image,
    rules: &Rules,
    memory: u64,
    pixels: &mut [f32],
) -> Result<Option<u64>, ItemError> {
    let exif_orientation = rules.limits.exif_orientation || model.config().image.exif_orientation;
    let limits = &Limits { exif_orientation, ..*rules.limits };
    let (need, opened) = match image {
        // These lie in the memory for requests.
        Image::Bytes(bytes) => {
            let source = &mut Cursor::new(&bytes[..]);
            (need(source, exif_orientation).map_err(|error| unreadable(&error))?, None)
        }
        Image::File { root, path } => {
            let mut opened = file::open(root, path, limits.bytes, rules.confinement)?;
            let looked = need(&mut opened.file, exif_orientation);
            let mut need = looked.map_err(|error| opened.failed(error))?;
            need.bytes = need.bytes.saturating_add(opened.length());
            (need, Some(opened))
        }
    };
    need.check(limits).map_err(of_decoding)?;
    if need.bytes > rules.budget.large.max(rules.budget.ordinary) {
        let message = format!(
            "the image is too large: {} × {} pixels take {} MB while they are decoded, the limit \
             is {} MB",
            need.width,
            need.height,
            need.bytes.div_ceil(1 << 20),
            rules.budget.large >> 20
        );
        return Err(ItemError { kind: ErrorKind::ImageTooLarge, message });
    }
    if need.bytes > memory {
        return Ok(Some(need.bytes));
    }
    let read;
    let bytes = match (image, opened) {
        (_, Some(opened)) => {
            read = opened.read()?;
            &read
        }
        (Image::Bytes(bytes), None) => &bytes[..],
        (Image::File { .. }, None) => &[],
    };
    let work = || -> Result<(), DecodeError> {
        let decoded = decode::decode_for(bytes, &need.limits(limits), model.image_size())?;
        model.preprocessor.normalise(&model.preprocessor.run(&decoded), pixels);
        Ok(())
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map(|()| None).map_err(of_decoding),
        Err(_) => {
            let message = "the decoder failed on this image".to_owned();
            Err(ItemError { kind: ErrorKind::BadImage, message })
        }
    }
}

fn of_decoding(error: DecodeError) -> ItemError {
    let kind = match error {
        DecodeError::TooLarge { .. } => ErrorKind::ImageTooLarge,
        DecodeError::Unsupported { .. } => ErrorKind::UnsupportedImage,
        _ => ErrorKind::BadImage,
    };
    ItemError { kind, message: error.to_string() }
}

fn unreadable(error: &std::io::Error) -> ItemError {
    ItemError { kind: ErrorKind::BadImage, message: format!("the image cannot be read: {error}") }
}

impl Prepared {
    /// Images in it, good and bad.
    pub fn len(&self) -> usize {
        self.errors.len()
    }

    /// Adds the images of another, which is of the same model.
    pub fn append(&mut self, other: Self) {
        self.pixels.extend(other.pixels);
        self.errors.extend(other.errors);
    }
}

/// Runs prepared images through the image tower: a result for each image of the batch.
pub fn infer(prepared: Prepared) -> Result<Vec<ItemResult>, Failure> {
    let Prepared { model, pixels, errors } = prepared;
    let size = model.image_size();
    let count = pixels.len() / (3 * size * size);
    let shape = match model.config().image_tower().main().holds {
        Holds::Pixels { layout: Layout::Nhwc } => [count, size, size, 3],
        _ => [count, 3, size, size],
    };
    let shape = shape.map(|n| n as i64).to_vec();
    let embeddings = match count {
        0 => Vec::new(),
        _ => model.image()?.run(&Feed::Pixels { shape, pixels: pixels.into() })?,
    };
    model.touch();
    Ok(merge(errors, &embeddings, model.dimensions()))
}

/// Runs texts of one language through the text tower: a result for each.
pub fn texts(
    model: &Model,
    language: Option<&str>,
    texts: &[String],
) -> Result<Vec<ItemResult>, Failure> {
    let tokens = model.tokens()?;
    let language = tokens.language(language)?;
    let mut good = Vec::with_capacity(texts.len());
    let errors: Vec<Option<ItemError>> = texts
        .iter()
        .map(|text| {
            if text.len() > MAX_TEXT_BYTES {
                let message =
                    format!("the text has {} bytes, the limit is {MAX_TEXT_BYTES}", text.len());
                return Some(ItemError { kind: ErrorKind::TextTooLong, message });
            }
            match tokens.encode(text, language, model.context_length()) {
                Ok(ids) => {
                    good.push(ids);
                    None
                }
                Err(error) => Some(error),
            }
        })
        .collect();
    let embeddings = match good.len() {
        0 => Vec::new(),
        _ => ids(model, &*model.text()?, &good)?,
    };
    model.touch();
    Ok(merge(errors, &embeddings, model.dimensions()))
}

/// Embeddings of texts' ids. Where each text goes alone, each has its own length.
pub fn ids(model: &Model, tower: &Tower, texts: &[Vec<i64>]) -> Result<Vec<f32>, Failure> {
    let (tokens, length) = (model.tokens()?, model.context_length());
    if !tower.one_by_one() {
        return tower.run(&tokens.batch(tower, texts, length));
    }
    let mut embeddings = Vec::with_capacity(texts.len() * model.dimensions());
    for text in texts {
        let text = std::slice::from_ref(text);
        embeddings.extend(tower.run(&tokens.batch(tower, text, length))?);
    }
    Ok(embeddings)
}

/// Whether a text tower gives a text the same embedding with and without its padding. One with a
/// causal mask does; one made elsewhere may take any length and have none.
pub fn ignores_padding(tower: &Tower, tokens: &Tokens, length: usize) -> bool {
    let Ok(ids) = tokens.encode("a probe", None, length) else { return false };
    let own = ids.len();
    let run = |length| tower.run(&tokens.padded(std::slice::from_ref(&ids), length));
    let (Ok(whole), Ok(cut)) = (run(length), run(own)) else { return false };
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
    let probes = [infer(prepared)?, texts(model, None, &["a probe".into()])?];
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
