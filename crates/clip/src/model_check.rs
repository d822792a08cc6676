//! The bounds of `clip.json`, field by field: apart from `model.rs` because it is one long list.

use crate::model::{
    CLIP_VOCABULARY, CONFIG_FILE, ClipConfig, FORMAT, IMAGE_FILE, TEXT_FILE, TokenizerKind,
    is_model_name, shorten,
};

/// Most files a model directory may list; external data of one file per tensor fits.
const MAX_FILES: usize = 10_000;

/// The first field that is out of bounds, and what is wrong with it.
pub(crate) fn check_config(config: &ClipConfig) -> Result<(), (String, String)> {
    let ClipConfig { image, text, .. } = config;
    within("format", config.format, FORMAT, FORMAT)?;
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
    match text.tokenizer {
        TokenizerKind::Clip => {
            within("text.vocab_size", text.vocab_size, CLIP_VOCABULARY, 1 << 24)?
        }
    }
    let scale = config.logit_scale;
    ensure(scale.is_finite() && scale > 0.0, "logit_scale", || {
        format!("is {scale}; it must be greater than 0")
    })?;
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

fn check_files(config: &ClipConfig) -> Result<(), (String, String)> {
    ensure(config.files.len() <= MAX_FILES, "files", || {
        format!("lists {} files; at most {MAX_FILES} are allowed", config.files.len())
    })?;
    for name in config.files.keys() {
        ensure(is_plain_file_name(name) && name != CONFIG_FILE, "files", || {
            format!("lists \"{}\", which is not a plain file name", shorten(name).escape_debug())
        })?;
    }
    for required in [IMAGE_FILE, TEXT_FILE] {
        ensure(config.files.contains_key(required), "files", || {
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
