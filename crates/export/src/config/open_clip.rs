//! open_clip's description: `open_clip_config.json` (`model_cfg` and `preprocess_cfg`), or a bare
//! model configuration. Defaults are those of open_clip's `CLIPVisionCfg`, `CLIPTextCfg` and
//! `PreprocessCfg`.
//!
//! An option that changes the arithmetic and is not known here is refused: a graph that ignores it
//! would give embeddings that look right and are wrong.

use pgclip_clip::model::{Interpolation, ResizeMode};
use serde_json::{Value, json};

use super::section::Section;
use super::{Activation, OPENAI_MEAN, OPENAI_STD, Parsed, Preprocessing, Shape, Tower};

/// Of a model: how weights begin and are named, and in which type they are kept.
const HARMLESS: &[&str] = &["cast_dtype", "custom_text", "init_logit_scale", "output_dict"];
/// Of the image tower: what has its effect in training, or only with an option that is refused.
const VISION_HARMLESS: &[&str] = &[
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
/// Of the text tower, likewise; ids of padding are behind the end of the text, which a causal mask
/// hides.
const TEXT_HARMLESS: &[&str] = &[
    "eos_id",
    "final_ln_after_pool",
    "hf_model_pretrained",
    "hf_pooler_type",
    "hf_proj_type",
    "output_tokens",
    "pad_id",
];
/// Options of a transformer that are off in every CLIP that can be converted.
const OFF: &[&str] =
    &["qk_norm", "scaled_cosine_attn", "scale_attn", "scale_attn_inner", "scale_fc", "scale_heads"];

/// The shape that `config` describes, and what it tells beside that.
pub(super) fn parse(config: Value) -> Result<Parsed, String> {
    let Parts { model, preprocess, bare } = parts(config)?;
    let activation_told = model.has("quick_gelu");
    let shape = model_cfg(model)?;
    let preprocessing =
        preprocess.map(|section| preprocessing(section, shape.image_size)).transpose()?;
    Ok(Parsed { shape, preprocessing, bare, activation_told })
}

/// The sections of a description.
pub(crate) struct Parts {
    pub model: Section,
    pub preprocess: Option<Section>,
    /// Whether it is a model configuration alone.
    pub bare: bool,
}

pub(crate) fn parts(config: Value) -> Result<Parts, String> {
    let mut whole = Section::new("", config)?;
    let preprocess = whole.section("preprocess_cfg")?;
    Ok(match whole.take("model_cfg") {
        Some(model) => {
            whole.finish()?;
            Parts { model: Section::new("", model)?, preprocess, bare: false }
        }
        None => Parts { model: whole, preprocess, bare: true },
    })
}

fn model_cfg(mut model: Section) -> Result<Shape, String> {
    let missing = |key: &str| format!("is no description of a CLIP: {key} is missing");
    let dimensions =
        model.get("embed_dim", "a whole number")?.ok_or_else(|| missing("embed_dim"))?;
    let mut vision = model.section("vision_cfg")?.ok_or_else(|| missing("vision_cfg"))?;
    let mut text = model.section("text_cfg")?.ok_or_else(|| missing("text_cfg"))?;
    let activation =
        if model.flag("quick_gelu", false)? { Activation::QuickGelu } else { Activation::Gelu };
    model.only("nonscalar_logit_scale", &[json!(false)])?;
    model.ignore(HARMLESS);
    model.finish()?;

    let image_size = super::square(&mut vision, "image_size")?.unwrap_or(224);
    let patch_size = super::square(&mut vision, "patch_size")?.unwrap_or(16);
    let ln_pre = !vision.flag("no_ln_pre", false)?;
    vision.only("attentional_pool", &[json!(false)])?;
    vision.only("pool_type", &[json!("tok")])?;
    vision.only("pos_embed_type", &[json!("learnable")])?;
    vision.ignore_without("timm_model_name", VISION_HARMLESS);
    let head_width = vision.whole("head_width", 64)?;
    let vision_tower = tower(&mut vision, 768, activation, |width, _| {
        width.checked_div(head_width).ok_or_else(|| "vision_cfg.head_width is 0".into())
    })?;
    vision.finish()?;

    let context_length = text.whole("context_length", 77)?;
    let vocab_size = text.whole("vocab_size", 49_408)?;
    for key in ["embed_cls", "no_causal_mask", "proj_bias"] {
        text.only(key, &[json!(false)])?;
    }
    text.only("pool_type", &[json!("argmax")])?;
    text.only("proj_type", &[json!("linear")])?;
    text.only("tokenizer_kwargs", &[json!({})])?;
    text.ignore_without("hf_model_name", TEXT_HARMLESS);
    let text_tower = tower(&mut text, 512, activation, |_, section| section.whole("heads", 8))?;
    text.finish()?;
    Ok(Shape {
        dimensions,
        image_size,
        patch_size,
        ln_pre,
        vision: vision_tower,
        text: text_tower,
        context_length,
        vocab_size,
    })
}

/// What the transformers of open_clip's own have, whichever tower they are of.
pub(crate) fn tower(
    section: &mut Section,
    width: usize,
    activation: Activation,
    heads: impl FnOnce(usize, &mut Section) -> Result<usize, String>,
) -> Result<Tower, String> {
    for key in OFF {
        section.only(key, &[json!(false)])?;
    }
    section.only("block_type", &[json!("default")])?;
    section.only("act_kwargs", &[json!({})])?;
    let mut epsilon = 1e-5;
    if let Some(mut norm) = section.section("norm_kwargs")? {
        epsilon = norm.number("eps", epsilon)?;
        norm.finish()?;
    }
    let width = section.whole("width", width)?;
    let mlp_ratio = section.number("mlp_ratio", 4.0)?;
    Ok(Tower {
        width,
        layers: section.whole("layers", 12)?,
        heads: heads(width, section)?,
        mlp_width: (width as f64 * mlp_ratio) as usize,
        activation,
        epsilon: epsilon as f32,
    })
}

pub(crate) fn preprocessing(
    mut config: Section,
    image_size: usize,
) -> Result<Preprocessing, String> {
    if let Some(size) = super::square(&mut config, "size")?
        && size != image_size
    {
        return Err(format!("preprocess_cfg.size is {size}, but image_size {image_size}"));
    }
    config.only("mode", &[json!("RGB")])?;
    // At random it is in training alone.
    let interpolation = match config.text("interpolation")?.as_deref() {
        None | Some("bicubic" | "random") => Interpolation::Bicubic,
        Some("bilinear") => Interpolation::Bilinear,
        Some(other) => {
            let why = "only \"bicubic\" and \"bilinear\"";
            return Err(config.refusal("interpolation", &json!(other), why));
        }
    };
    let mode = config.text("resize_mode")?;
    let resize = match mode.as_deref() {
        None | Some("shortest") => ResizeMode::Crop,
        // open_clip pads after it has resized, A3R and we before: the same but for a pixel's
        // width at the border.
        Some("longest") => ResizeMode::Pad,
        Some("squash") => ResizeMode::Squash,
        Some(other) => {
            let why = "only \"shortest\", \"longest\" and \"squash\"";
            return Err(config.refusal("resize_mode", &json!(other), why));
        }
    };
    match resize {
        // Nothing is filled.
        ResizeMode::Crop | ResizeMode::Squash => config.ignore(&["fill_color"]),
        ResizeMode::Pad => config.only("fill_color", &[json!(0), json!([0, 0, 0])])?,
    }
    let mean = config.channels("mean")?.unwrap_or(OPENAI_MEAN);
    let std = config.channels("std")?.unwrap_or(OPENAI_STD);
    config.finish()?;
    Ok(Preprocessing { mean, std, resize, interpolation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_configuration_gets_open_clips_defaults() {
        let config = json!({
            "embed_dim": 1280, "quick_gelu": true,
            "vision_cfg": {"image_size": [224, 224], "layers": 48, "width": 1664,
                           "head_width": 104, "mlp_ratio": 4.9231, "patch_size": 14},
            "text_cfg": {"width": 1280, "heads": 20, "layers": 32, "pool_type": "argmax"},
        });
        let Parsed { shape, preprocessing, bare, activation_told } = parse(config).unwrap();
        assert!(bare && activation_told);
        assert_eq!((shape.vision.heads, shape.vision.mlp_width), (16, 8192));
        assert_eq!((shape.text.mlp_width, shape.context_length), (5120, 77));
        assert_eq!(shape.text.activation, Activation::QuickGelu);
        // Which it does not tell.
        assert_eq!(preprocessing, None);
    }

    /// As open_clip 3.3 writes a whole one, with every field of `PreprocessCfg`.
    fn whole() -> Value {
        json!({
            "model_cfg": {
                "embed_dim": 64,
                "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
                "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8,
                             "layers": 12},
            },
            "preprocess_cfg": {
                "size": [224, 224], "mode": "RGB", "mean": [0.5, 0.5, 0.5],
                "std": [0.25, 0.25, 0.25], "interpolation": "bicubic",
                "resize_mode": "shortest", "fill_color": 0,
            },
        })
    }

    #[test]
    fn preprocessing_is_open_clips() {
        let found = parse(whole()).unwrap().preprocessing.unwrap();
        assert_eq!((found.mean, found.std, found.resize), ([0.5; 3], [0.25; 3], ResizeMode::Crop));
        let mut partly = whole();
        partly["preprocess_cfg"] = json!({"mean": 0.4, "interpolation": "random"});
        let found = parse(partly).unwrap().preprocessing.unwrap();
        assert_eq!((found.mean, found.std), ([0.4; 3], OPENAI_STD));
        for (key, value) in [
            ("interpolation", json!("lanczos")),
            ("resize_mode", json!("stretch")),
            ("mode", json!("L")),
            ("mean", json!([0.5])),
            ("crop_pct", json!(0.9)),
        ] {
            let mut config = whole();
            config["preprocess_cfg"][key] = value;
            let error = parse(config).err().unwrap();
            assert!(error.starts_with(&format!("preprocess_cfg.{key} = ")), "{error}");
        }
        let mut other = whole();
        other["preprocess_cfg"]["size"] = json!(256);
        assert!(parse(other).err().unwrap().contains("size is 256, but image_size 224"));
        let mut filled = whole();
        filled["preprocess_cfg"]["resize_mode"] = json!("longest");
        assert_eq!(parse(filled.clone()).unwrap().preprocessing.unwrap().resize, ResizeMode::Pad);
        filled["preprocess_cfg"]["fill_color"] = json!(127);
        assert!(parse(filled).err().unwrap().starts_with("preprocess_cfg.fill_color = 127"));
    }

    #[test]
    fn what_would_change_the_arithmetic_is_refused_by_name() {
        for (section, key, value) in [
            ("", "init_logit_bias", json!(-10)),
            ("", "nonscalar_logit_scale", json!(true)),
            ("", "multimodal_cfg", json!({"width": 512})),
            ("vision_cfg", "timm_model_name", json!("vit_medium_patch16_gap_256")),
            ("vision_cfg", "ls_init_value", json!(1e-4)),
            ("vision_cfg", "pool_type", json!("avg")),
            ("vision_cfg", "pos_embed_type", json!("sin_cos_2d")),
            ("vision_cfg", "attentional_pool", json!(true)),
            ("vision_cfg", "act_kwargs", json!({"approximate": "tanh"})),
            ("vision_cfg", "qk_norm", json!(true)),
            ("vision_cfg", "scale_fc", json!(true)),
            ("vision_cfg", "block_type", json!("custom")),
            ("vision_cfg", "layers", json!([3, 4, 6, 3])),
            ("vision_cfg", "image_size", json!([224, 196])),
            ("vision_cfg", "in_chans", json!(4)),
            ("vision_cfg", "causal", json!(false)),
            ("text_cfg", "hf_model_name", json!("roberta-base")),
            ("text_cfg", "hf_tokenizer_name", json!("timm/ViT-B-16-SigLIP")),
            ("text_cfg", "no_causal_mask", json!(true)),
            ("text_cfg", "embed_cls", json!(true)),
            ("text_cfg", "proj_bias", json!(true)),
            ("text_cfg", "proj_type", json!("none")),
            ("text_cfg", "pool_type", json!("last")),
            ("text_cfg", "ls_init_value", json!(0.1)),
            ("text_cfg", "tokenizer_mode", json!("clean")),
            ("text_cfg", "tokenizer_kwargs", json!({"clean": "canonicalize"})),
        ] {
            let mut config = json!({"embed_dim": 64, "vision_cfg": {}, "text_cfg": {}});
            let (at, name) = match section {
                "" => (&mut config, key.to_owned()),
                _ => (&mut config[section], format!("{section}.{key}")),
            };
            at[key] = value;
            let error = parse(config).err().unwrap();
            assert!(error.starts_with(&format!("{name} = ")), "{error}");
        }
        let mut config = json!({"embed_dim": 64, "vision_cfg": {}, "text_cfg": {}});
        config["vision_cfg"]["norm_kwargs"] = json!({"eps": 1e-6, "bias": false});
        let error = parse(config).err().unwrap();
        assert!(error.starts_with("vision_cfg.norm_kwargs.bias = "), "{error}");
    }
}
