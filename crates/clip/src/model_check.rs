//! The bounds of `clip.json`, field by field: apart from `model.rs` because it is one long list.

use crate::model::{
    CLIP_VOCABULARY, CONFIG_FILE, ClipConfig, FORMAT, FORMAT_ANY, Interpolation, Precision,
    ResizeMode, TokenizerKind, is_model_name, shorten,
};
use crate::towers::{ElementType, Holds, TowerConfig};

/// Most files a model directory may list; external data of one file per tensor fits.
const MAX_FILES: usize = 10_000;

/// The first field that is out of bounds, and what is wrong with it.
pub(crate) fn check_config(config: &ClipConfig) -> Result<(), (String, String)> {
    let ClipConfig { image, text, .. } = config;
    within("format", config.format, FORMAT, FORMAT_ANY)?;
    if config.format == FORMAT {
        check_first_format(config)?;
    }
    ensure(is_model_name(&config.name), "name", || {
        let name = shorten(&config.name);
        format!("is \"{name}\"; letters, digits, _, . and - make a name, 63 of them at most")
    })?;
    ensure(config.architecture.len() <= 1000, "architecture", || {
        format!("has {} bytes; at most 1000 are allowed", config.architecture.len())
    })?;
    within("dimensions", config.dimensions, 1, 16_000)?;
    within("image.size", image.size, 1, 4096)?;
    for channel in 0..3 {
        let (mean, std) = (image.mean[channel], image.std[channel]);
        ensure(mean.is_finite(), &format!("image.mean[{channel}]"), || format!("is {mean}"))?;
        ensure(std.is_finite() && std > 0.0, &format!("image.std[{channel}]"), || {
            format!("is {std}; it must be greater than 0")
        })?;
        let extreme = (1.0 + mean.abs()) / std;
        ensure(extreme.is_finite(), &format!("image.std[{channel}]"), || {
            format!("is {std}, too small for a mean of {mean}")
        })?;
    }
    within("text.context_length", text.context_length, 2, 4096)?;
    match (text.tokenizer, &text.tokens) {
        (TokenizerKind::Clip, None) => {
            within("text.vocab_size", text.vocab_size, CLIP_VOCABULARY, 1 << 24)?
        }
        (TokenizerKind::Clip, Some(_)) => {
            return Err(("text.tokens".into(), "is given, but the tokenizer is \"clip\"".into()));
        }
        (TokenizerKind::File, None) => {
            return Err(("text.tokens".into(), "is missing, but the tokenizer is \"file\"".into()));
        }
        (TokenizerKind::File, Some(tokens)) => {
            within("text.vocab_size", text.vocab_size, 1, 1 << 24)?;
            ensure(
                config.files.is_empty() || config.files.contains_key(&tokens.file),
                "text.tokens.file",
                || format!("is \"{}\", which is not among the files", shorten(&tokens.file)),
            )?;
            ensure(tokens.pad < text.vocab_size, "text.tokens.pad", || {
                format!("is {}, but vocab_size is {}", tokens.pad, text.vocab_size)
            })?;
            for (field, value) in [
                ("prefix", &tokens.prefix),
                ("language", tokens.language.as_ref().unwrap_or(&tokens.prefix)),
            ] {
                ensure(value.len() <= 1000, &format!("text.tokens.{field}"), || {
                    format!("has {} bytes; at most 1000 are allowed", value.len())
                })?;
            }
        }
    }
    for (field, tower) in [("image", config.image_tower()), ("text", config.text_tower())] {
        check_tower(&format!("towers.{field}"), &tower, config, field == "image")?;
    }
    let scale = config.logit_scale;
    ensure(scale.is_finite() && scale > 0.0, "logit_scale", || {
        format!("is {scale}; it must be greater than 0")
    })?;
    if let Some(bias) = config.logit_bias {
        ensure(bias.is_finite(), "logit_bias", || format!("is {bias}"))?;
    }
    if let Some(mean) = &config.mean_text_embedding {
        ensure(mean.len() == config.dimensions as usize, "mean_text_embedding", || {
            format!("has {} values, but dimensions is {}", mean.len(), config.dimensions)
        })?;
        if let Some(at) = mean.iter().position(|value| !value.is_finite()) {
            return Err((format!("mean_text_embedding[{at}]"), format!("is {}", mean[at])));
        }
    }
    check_files(config)
}

/// What the first format has no words for.
fn check_first_format(config: &ClipConfig) -> Result<(), (String, String)> {
    let ClipConfig { image, text, .. } = config;
    let needs = |field: &str, new: bool| {
        ensure(!new, field, || format!("needs format {FORMAT_ANY}; the format is {FORMAT}"))
    };
    needs("towers", config.towers.is_some())?;
    needs("logit_bias", config.logit_bias.is_some())?;
    needs("image.resize", image.resize == ResizeMode::Squash)?;
    needs("image.interpolation", image.interpolation != Interpolation::Bicubic)?;
    needs("text.tokenizer", text.tokenizer != TokenizerKind::Clip)?;
    needs("text.tokens", text.tokens.is_some())?;
    needs("precision", config.precision == Precision::Quantized)
}

/// A tower has its one input of pixels or of tokens, and what else it takes goes with that.
fn check_tower(
    at: &str,
    tower: &TowerConfig,
    config: &ClipConfig,
    is_image: bool,
) -> Result<(), (String, String)> {
    ensure(is_plain_file_name(&tower.file), &format!("{at}.file"), || {
        format!("is \"{}\", which is not a plain file name", shorten(&tower.file).escape_debug())
    })?;
    within(&format!("{at}.output.width"), tower.output.width, config.dimensions, 65_536)?;
    let kind = |of: ElementType, known: &[ElementType], at: &str| {
        ensure(known.contains(&of), &format!("{at}.type"), || format!("is {of}"))
    };
    use ElementType::{Bool, F16, F32, I32, I64, U8};
    kind(tower.output.element, &[F32, F16], &format!("{at}.output"))?;
    ensure((1..=16).contains(&tower.inputs.len()), &format!("{at}.inputs"), || {
        format!("has {} entries; 1 to 16 are allowed", tower.inputs.len())
    })?;
    let mut mains = 0;
    for (number, input) in tower.inputs.iter().enumerate() {
        let at = format!("{at}.inputs[{number}]");
        match &input.holds {
            Holds::Pixels { .. } if is_image => {
                mains += 1;
                kind(input.element, &[F32, F16, U8], &at)?;
            }
            Holds::Tokens if !is_image => {
                mains += 1;
                kind(input.element, &[I32, I64], &at)?;
            }
            Holds::Mask if !is_image => kind(input.element, &[I32, I64, F32, Bool], &at)?,
            Holds::Segments if !is_image => kind(input.element, &[I32, I64], &at)?,
            Holds::Constant { shape, value } => {
                ensure(shape.len() <= 8, &format!("{at}.shape"), || {
                    format!("has {} axes; at most 8 are allowed", shape.len())
                })?;
                let elements = shape.iter().try_fold(1u32, |n, &side| match side {
                    -1 => Some(n),
                    side => n.checked_mul(u32::try_from(side).ok()?).filter(|&n| n <= 1 << 26),
                });
                ensure(elements.is_some(), &format!("{at}.shape"), || {
                    format!("is {shape:?}; sides are -1 for the batch, or 0 and more")
                })?;
                ensure(value.is_finite(), &format!("{at}.value"), || format!("is {value}"))?;
            }
            other => {
                return Err((
                    format!("{at}.holds"),
                    format!("is {other}, which is not this tower's"),
                ));
            }
        }
    }
    ensure(mains == 1, &format!("{at}.inputs"), || {
        let what = if is_image { "pixels" } else { "tokens" };
        format!("has {mains} entries that hold {what}; it must have one")
    })
}

fn check_files(config: &ClipConfig) -> Result<(), (String, String)> {
    ensure(config.files.len() <= MAX_FILES, "files", || {
        format!("lists {} files; at most {MAX_FILES} are allowed", config.files.len())
    })?;
    for name in config.files.keys() {
        ensure(is_plain_file_name(name) && name != CONFIG_FILE, "files", || {
            format!("lists \"{}\", which is not a plain file name", shorten(name).escape_debug())
        })?;
    }
    for required in [config.image_tower().file, config.text_tower().file] {
        ensure(config.files.contains_key(&required), "files", || {
            format!("does not list \"{required}\"")
        })?;
    }
    Ok(())
}

/// Whether `name` names a file in the directory itself: no separator, no hidden file, no control
/// character.
pub(crate) fn is_plain_file_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && !name.chars().any(|c| matches!(c, '/' | '\\') || c.is_control())
}

fn within(field: &str, value: u32, least: u32, most: u32) -> Result<(), (String, String)> {
    ensure((least..=most).contains(&value), field, || {
        if least == most {
            format!("is {value}; only {least} is known")
        } else {
            format!("is {value}; it must be from {least} to {most}")
        }
    })
}

fn ensure(holds: bool, field: &str, message: impl Fn() -> String) -> Result<(), (String, String)> {
    if holds { Ok(()) } else { Err((field.to_owned(), message())) }
}
