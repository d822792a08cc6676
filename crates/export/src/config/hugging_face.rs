//! Hugging Face's description: `config.json` of a `CLIPModel`, and `preprocessor_config.json`.
//! Defaults are those of transformers' `CLIPVisionConfig` and `CLIPTextConfig`, which newer
//! versions leave out of the files.

use pgclip_clip::model::ResizeMode;
use serde::Deserialize;
use serde_json::Value;

use super::{Activation, Architecture, Preprocessing, Tower};

#[derive(Deserialize)]
struct Model {
    model_type: Option<String>,
    projection_dim: Option<usize>,
    #[serde(default)]
    vision_config: Vision,
    #[serde(default)]
    text_config: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Vision {
    image_size: Option<usize>,
    patch_size: Option<usize>,
    num_channels: Option<usize>,
    #[serde(flatten)]
    tower: Transformer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Text {
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    #[serde(flatten)]
    tower: Transformer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Transformer {
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
}

#[derive(Deserialize)]
struct Preprocessor {
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    resample: Option<u32>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Side(usize),
    Sides { height: usize, width: usize },
}

/// Pillow's number for bicubic interpolation.
const BICUBIC: u32 = 3;

/// The architecture that `config` describes.
pub(super) fn parse(config: Value, preprocessor: Option<Value>) -> Result<Architecture, String> {
    let model: Model = serde_json::from_value(config)
        .map_err(|e| format!("is no description of a CLIPModel: {e}"))?;
    if let Some(kind) = model.model_type.filter(|kind| kind != "clip") {
        return Err(format!("model_type is \"{kind}\"; only \"clip\" is supported"));
    }
    let Model { vision_config: vision, text_config: text, .. } = model;
    if let Some(channels) = vision.num_channels.filter(|&channels| channels != 3) {
        return Err(format!("vision_config.num_channels is {channels}; images have 3"));
    }
    let image_size = vision.image_size.unwrap_or(224);
    let preprocessing = match preprocessor {
        Some(preprocessor) => preprocessing(preprocessor, image_size)
            .map_err(|message| format!("{}: {message}", super::PREPROCESSOR_CONFIG))?,
        None => Preprocessing::default(),
    };
    Ok(Architecture {
        dimensions: model.projection_dim.unwrap_or(512),
        image_size,
        patch_size: vision.patch_size.unwrap_or(32),
        ln_pre: true,
        vision: tower(vision.tower, 768, 3072, 12, "vision_config")?,
        text: tower(text.tower, 512, 2048, 8, "text_config")?,
        context_length: text.max_position_embeddings.unwrap_or(77),
        vocab_size: text.vocab_size.unwrap_or(49_408),
        preprocessing,
    })
}

fn tower(
    config: Transformer,
    width: usize,
    mlp_width: usize,
    heads: usize,
    section: &str,
) -> Result<Tower, String> {
    let activation = match config.hidden_act.as_deref() {
        None | Some("quick_gelu") => Activation::QuickGelu,
        Some("gelu") => Activation::Gelu,
        Some(other) => return Err(format!("{section}.hidden_act = \"{other}\" is not supported")),
    };
    Ok(Tower {
        width: config.hidden_size.unwrap_or(width),
        layers: config.num_hidden_layers.unwrap_or(12),
        heads: config.num_attention_heads.unwrap_or(heads),
        mlp_width: config.intermediate_size.unwrap_or(mlp_width),
        activation,
        epsilon: config.layer_norm_eps.unwrap_or(1e-5),
    })
}

fn preprocessing(config: Value, image_size: usize) -> Result<Preprocessing, String> {
    let config: Preprocessor = serde_json::from_value(config).map_err(|e| e.to_string())?;
    if let Some(resample) = config.resample.filter(|&resample| resample != BICUBIC) {
        return Err(format!("resample = {resample} is not supported, only 3 (bicubic)"));
    }
    if config.do_center_crop == Some(false) {
        return Err("do_center_crop = false is not supported".into());
    }
    let (height, width) = match config.crop_size {
        None => (image_size, image_size),
        Some(Size::Side(side)) => (side, side),
        Some(Size::Sides { height, width }) => (height, width),
    };
    if (height, width) != (image_size, image_size) {
        return Err(format!("crop_size is {height} by {width}, but image_size {image_size}"));
    }
    let default = Preprocessing::default();
    Ok(Preprocessing {
        mean: config.image_mean.unwrap_or(default.mean),
        std: config.image_std.unwrap_or(default.std),
        resize: ResizeMode::Crop,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_file_leaves_out_is_transformers_default() {
        let architecture = parse(json!({"vision_config": {}, "text_config": {}}), None).unwrap();
        assert_eq!(architecture.describe(), "ViT-B-32-quickgelu, text 512x12");
        assert_eq!((architecture.text.heads, architecture.vision.heads), (8, 12));
    }

    #[test]
    fn preprocessing_comes_from_the_file_beside() {
        let config = json!({"vision_config": {"image_size": 336, "hidden_act": "gelu"}});
        let preprocessor = |crop: Value| {
            json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "resample": 3,
                   "crop_size": crop})
        };
        let crop = json!({"height": 336, "width": 336});
        let architecture = parse(config.clone(), Some(preprocessor(crop))).unwrap();
        assert_eq!(architecture.preprocessing.std, [0.25; 3]);
        assert_eq!(architecture.vision.activation, Activation::Gelu);
        let error = parse(config, Some(preprocessor(json!(224)))).unwrap_err();
        assert!(error.contains("crop_size is 224 by 224, but image_size 336"), "{error}");
    }
}
