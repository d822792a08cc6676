//! open_clip's description: `open_clip_config.json` (`model_cfg` and `preprocess_cfg`), or a bare
//! model configuration. Defaults are those of open_clip's `CLIPVisionCfg` and `CLIPTextCfg`.
//!
//! An option that changes the arithmetic and is not known here is refused: a graph that ignores it
//! would give embeddings that look right and are wrong.

use pgclip_clip::model::ResizeMode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Activation, Architecture, Preprocessing, Tower};

#[derive(Deserialize)]
struct Model {
    embed_dim: usize,
    vision_cfg: Vision,
    text_cfg: Text,
    #[serde(default)]
    quick_gelu: bool,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Vision {
    layers: usize,
    width: usize,
    head_width: usize,
    mlp_ratio: f64,
    patch_size: usize,
    image_size: Square,
    no_ln_pre: bool,
    norm_kwargs: Option<Norm>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Text {
    context_length: usize,
    vocab_size: usize,
    width: usize,
    heads: usize,
    layers: usize,
    mlp_ratio: f64,
    norm_kwargs: Option<Norm>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Norm {
    eps: Option<f32>,
}

/// A width and height that must be the same.
#[derive(Deserialize)]
#[serde(untagged)]
enum Square {
    Side(usize),
    Sides([usize; 2]),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Preprocess {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
    resize_mode: Option<String>,
    size: Option<Square>,
}

impl Default for Vision {
    fn default() -> Self {
        Self {
            layers: 12,
            width: 768,
            head_width: 64,
            mlp_ratio: 4.0,
            patch_size: 16,
            image_size: Square::Side(224),
            no_ln_pre: false,
            norm_kwargs: None,
            other: Map::new(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self {
            context_length: 77,
            vocab_size: 49_408,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            norm_kwargs: None,
            other: Map::new(),
        }
    }
}

/// The architecture that `config` describes.
pub(super) fn parse(mut config: Value) -> Result<Architecture, String> {
    let preprocess = config.get_mut("preprocess_cfg").map(Value::take);
    let model = match config.get_mut("model_cfg") {
        Some(model) => model.take(),
        None => config,
    };
    let model: Model = serde_json::from_value(model)
        .map_err(|e| format!("is no description of a CLIP with a vision transformer: {e}"))?;
    let Model { embed_dim, vision_cfg: vision, text_cfg: text, quick_gelu, other } = model;
    refuse_unknown("", &other, &["custom_text", "init_logit_scale", "cast_dtype"])?;
    refuse_unknown("vision_cfg.", &vision.other, VISION_IGNORED)?;
    refuse_unknown("text_cfg.", &text.other, TEXT_IGNORED)?;
    let image_size = side(&vision.image_size)?;
    let preprocessing = match preprocess {
        Some(preprocess) => preprocessing(preprocess, image_size)?,
        None => Preprocessing::default(),
    };
    let activation = if quick_gelu { Activation::QuickGelu } else { Activation::Gelu };
    let tower = |width, layers, heads, mlp_ratio: f64, norm: Option<Norm>| Tower {
        width,
        layers,
        heads,
        mlp_width: (width as f64 * mlp_ratio) as usize,
        activation,
        epsilon: norm.and_then(|norm| norm.eps).unwrap_or(1e-5),
    };
    let heads = vision.width.checked_div(vision.head_width).ok_or("vision_cfg.head_width is 0")?;
    Ok(Architecture {
        dimensions: embed_dim,
        image_size,
        patch_size: vision.patch_size,
        ln_pre: !vision.no_ln_pre,
        vision: tower(vision.width, vision.layers, heads, vision.mlp_ratio, vision.norm_kwargs),
        text: tower(text.width, text.layers, text.heads, text.mlp_ratio, text.norm_kwargs),
        context_length: text.context_length,
        vocab_size: text.vocab_size,
        preprocessing,
    })
}

/// Options that say nothing about what a trained ViT with class token computes.
const VISION_IGNORED: &[&str] = &[
    "attn_pooler_heads",
    "attn_pooler_queries",
    "final_ln_after_pool", // the same: the class token is normalised by itself
    "output_tokens",
    "patch_dropout",
    "timm_drop",
    "timm_drop_path",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "timm_proj_bias",
];
const TEXT_IGNORED: &[&str] = &[
    "eos_id",
    "final_ln_after_pool",
    "hf_model_pretrained",
    "hf_pooler_type",
    "hf_proj_type",
    "output_tokens",
    "pad_id",
];

/// Refuses options beyond `ignored`, unless their value is the one that changes nothing.
fn refuse_unknown(at: &str, other: &Map<String, Value>, ignored: &[&str]) -> Result<(), String> {
    for (key, value) in other {
        let neutral = match (key.as_str(), value) {
            (_, Value::Null | Value::Bool(false)) => true,
            (_, Value::Object(options)) => options.is_empty(),
            ("block_type", Value::String(v)) => v == "default",
            ("pool_type", Value::String(v)) => v == "tok" || v == "argmax",
            ("pos_embed_type", Value::String(v)) => v == "learnable",
            ("proj_type", Value::String(v)) => v == "linear",
            _ => false,
        };
        if !neutral && !ignored.contains(&key.as_str()) {
            return Err(format!("{at}{key} = {value} is not supported"));
        }
    }
    Ok(())
}

fn side(size: &Square) -> Result<usize, String> {
    match *size {
        Square::Side(side) => Ok(side),
        Square::Sides([height, width]) if height == width => Ok(height),
        Square::Sides([height, width]) => {
            Err(format!("images of {height} by {width} pixels are not square"))
        }
    }
}

fn preprocessing(config: Value, image_size: usize) -> Result<Preprocessing, String> {
    let config: Preprocess =
        serde_json::from_value(config).map_err(|e| format!("preprocess_cfg: {e}"))?;
    let default = Preprocessing::default();
    if let Some(size) = config.size
        && side(&size)? != image_size
    {
        let size = side(&size)?;
        return Err(format!("preprocess_cfg.size is {size}, but image_size {image_size}"));
    }
    if let Some(interpolation) = config.interpolation.filter(|name| name != "bicubic") {
        return Err(format!("preprocess_cfg.interpolation = \"{interpolation}\" is not supported"));
    }
    let resize = match config.resize_mode.as_deref() {
        None | Some("shortest" | "crop") => ResizeMode::Crop,
        // open_clip pads after it has resized, A3R and we before: the same but for a pixel's
        // width at the border.
        Some("longest" | "pad") => ResizeMode::Pad,
        Some(other) => {
            return Err(format!("preprocess_cfg.resize_mode = \"{other}\" is not supported"));
        }
    };
    Ok(Preprocessing {
        mean: config.mean.unwrap_or(default.mean),
        std: config.std.unwrap_or(default.std),
        resize,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bare_configuration_gets_open_clips_defaults() {
        let config = json!({
            "embed_dim": 1280, "quick_gelu": true,
            "vision_cfg": {"image_size": [224, 224], "layers": 48, "width": 1664,
                           "head_width": 104, "mlp_ratio": 4.9231, "patch_size": 14},
            "text_cfg": {"width": 1280, "heads": 20, "layers": 32, "pool_type": "argmax"},
        });
        let architecture = parse(config).unwrap();
        assert_eq!((architecture.vision.heads, architecture.vision.mlp_width), (16, 8192));
        assert_eq!((architecture.text.mlp_width, architecture.context_length), (5120, 77));
        assert_eq!(architecture.text.activation, Activation::QuickGelu);
        assert_eq!(architecture.preprocessing, Preprocessing::default());
        assert_eq!(architecture.describe(), "ViT-bigG-14-quickgelu, text 1280x32");
    }

    #[test]
    fn what_would_change_the_arithmetic_is_refused_by_name() {
        let with = |section: &str, key: &str, value: Value| {
            let mut config = json!({"embed_dim": 64, "vision_cfg": {}, "text_cfg": {}});
            config[section][key] = value;
            parse(config).unwrap_err()
        };
        let refused = [
            ("vision_cfg", "timm_model_name", json!("vit_medium_patch16_gap_256")),
            ("vision_cfg", "ls_init_value", json!(1e-4)),
            ("vision_cfg", "pool_type", json!("avg")),
            ("text_cfg", "hf_model_name", json!("roberta-base")),
            ("text_cfg", "no_causal_mask", json!(true)),
            ("text_cfg", "tokenizer_kwargs", json!({"clean": "canonicalize"})),
        ];
        for (section, key, value) in refused {
            let error = with(section, key, value);
            assert!(error.starts_with(&format!("{section}.{key} = ")), "{error}");
        }
        let error = with("vision_cfg", "layers", json!([3, 4, 6, 3]));
        assert!(error.contains("no description of a CLIP with a vision transformer"), "{error}");
    }
}
