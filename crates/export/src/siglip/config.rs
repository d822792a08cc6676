//! What a description says of a SigLIP: transformers' `config.json` of a `SiglipModel`, or open_clip's
//! with one of timm's `…_siglip_…` trunks. Sizes that weights tell are taken from them; heads and
//! activation are told by the description, in timm's case by the trunk's name.

use std::path::Path;

use pgclip_clip::model::Clean;
use serde_json::{Value, json};

use crate::checkpoint::Checkpoint;
use crate::config::section::Section;
use crate::config::{self, Activation, Preprocessing, Tower, open_clip};
use crate::error::ExportError;
use crate::foreign::{Published, cleaning, transformers_cleaning};
use crate::naming::Naming;

/// A SigLIP: everything the graphs need but the weights.
pub struct Siglip {
    pub dimensions: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub vision: Tower,
    pub text: Tower,
    pub context_length: usize,
    pub vocab_size: usize,
    pub preprocessing: Preprocessing,
    /// How texts are cleaned, where the description says it.
    clean: Option<Vec<Clean>>,
}

/// timm's trunks: the beginning of a name, heads, and whether its GELU is approximated by tanh.
const TRUNKS: &[(&str, usize, bool)] = &[
    ("vit_base_patch32_siglip_256", 12, true),
    ("vit_base_patch16_siglip_", 12, false),
    ("vit_large_patch16_siglip_512", 16, true),
    ("vit_large_patch16_siglip_", 16, false),
    ("vit_so400m_patch14_siglip_", 16, false),
    ("vit_so400m_patch16_siglip_", 16, true),
    ("vit_giantopt_patch16_siglip_", 16, true),
];

/// Whether the description at `path` is of a SigLIP.
pub fn describes(path: &Path) -> bool {
    let Ok(config) = config::read_json(path) else { return false };
    let model = config.get("model_cfg").unwrap_or(&config);
    let trunk = model["vision_cfg"]["timm_model_name"].as_str().unwrap_or_default();
    let hugging_face = config["model_type"].as_str().is_some_and(|kind| kind.starts_with("siglip"));
    // A text tower of transformers' is another matter (nllb-clip-…-siglip).
    let text_is_own = !model["text_cfg"]["hf_model_name"].is_string();
    hugging_face || trunk.contains("_siglip_") && text_is_own
}

impl Siglip {
    pub fn read(
        path: &Path,
        checkpoint: &Checkpoint,
        stated: Option<&Preprocessing>,
    ) -> Result<Self, ExportError> {
        let bad = |message| ExportError::config(path, message);
        let config = config::read_json(path)?;
        let (mut siglip, told) = if config["model_type"].is_string() {
            let siglip = hugging_face(config).map_err(bad)?;
            let told = config::beside_config(path, siglip.image_size)?;
            (siglip, told)
        } else {
            open_clips(config, checkpoint).map_err(bad)?
        };
        siglip.preprocessing = match (told, stated) {
            (Some(told), _) => told,
            (None, Some(stated)) => stated.clone(),
            (None, None) => return Err(ExportError::NoPreprocessing { path: path.into() }),
        };
        siglip.check().map_err(bad)?;
        Ok(siglip)
    }

    /// The steps of a text's cleaning.
    pub fn clean(&self, tokenizer: &Published) -> Vec<Clean> {
        self.clean.clone().unwrap_or_else(|| transformers_cleaning(tokenizer, "siglip"))
    }

    pub fn describe(&self) -> String {
        let Tower { width, layers, .. } = self.vision;
        let size = match (width, layers) {
            (768, 12) => "B".to_owned(),
            (1024, 24) => "L".to_owned(),
            (1152, 27) => "SO400M".to_owned(),
            (1536, 40) => "gopt".to_owned(),
            _ => format!("{width}x{layers}"),
        };
        let Self { patch_size, image_size, text, .. } = self;
        format!("SigLIP ViT-{size}-{patch_size}-{image_size}, text {}x{}", text.width, text.layers)
    }

    /// Number of patches.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: usize, most: usize| match value {
            0 => Err(format!("{name} is 0")),
            v if v > most => Err(format!("{name} is {v}, more than {most}")),
            _ => Ok(()),
        };
        within("the length of an embedding", self.dimensions, 16_000)?;
        within("image_size", self.image_size, 4096)?;
        within("patch_size", self.patch_size, self.image_size)?;
        within("context_length", self.context_length, 4096)?;
        within("vocab_size", self.vocab_size, 1 << 24)?;
        for (name, tower) in [("vision", &self.vision), ("text", &self.text)] {
            within(&format!("{name} width"), tower.width, 1 << 16)?;
            within(&format!("number of {name} layers"), tower.layers, 1000)?;
            within(&format!("{name} perceptron's width"), tower.mlp_width, 1 << 18)?;
            within(&format!("number of {name} heads"), tower.heads, tower.width)?;
            if tower.width % tower.heads != 0 {
                let Tower { width, heads, .. } = tower;
                return Err(format!("{name} width {width} does not divide by {heads} heads"));
            }
            if !(tower.epsilon > 0.0 && tower.epsilon < 1.0) {
                return Err(format!("{name} layer norm's epsilon is {}", tower.epsilon));
            }
        }
        if self.dimensions != self.vision.width {
            let (dimensions, width) = (self.dimensions, self.vision.width);
            return Err(format!("embeddings of {dimensions} do not fit a vision width of {width}"));
        }
        Ok(())
    }
}

/// transformers' `SiglipConfig`; what it leaves out are its defaults.
fn hugging_face(config: Value) -> Result<Siglip, String> {
    let mut model = Section::new("", config)?;
    // SigLIP 2's models of a fixed resolution are of the first kind as well.
    model.only("model_type", &[json!("siglip")])?;
    let section = |model: &mut Section, key: &str| -> Result<Section, String> {
        let found = model.section(key)?;
        found.map_or_else(|| Section::new(format!("{key}."), json!({})), Ok)
    };
    let mut vision = section(&mut model, "vision_config")?;
    let mut text = section(&mut model, "text_config")?;
    config::hugging_face::finish(model)?;
    vision.only("model_type", &[json!("siglip_vision_model")])?;
    vision.only("vision_use_head", &[json!(true)])?;
    vision.only("num_channels", &[json!(3)])?;
    let image_size = config::square(&mut vision, "image_size")?.unwrap_or(224);
    let patch_size = config::square(&mut vision, "patch_size")?.unwrap_or(16);
    let vision_tower = tower(&mut vision)?;
    vision.ignore(&["projection_size"]);
    config::hugging_face::finish(vision)?;
    text.only("model_type", &[json!("siglip_text_model")])?;
    let vocab_size = text.whole("vocab_size", 32_000)?;
    let context_length = text.whole("max_position_embeddings", 64)?;
    let text_tower = tower(&mut text)?;
    let dimensions = text.whole("projection_size", text_tower.width)?;
    text.ignore(&["eos_token_id"]);
    config::hugging_face::finish(text)?;
    Ok(Siglip {
        dimensions,
        image_size,
        patch_size,
        vision: vision_tower,
        text: text_tower,
        context_length,
        vocab_size,
        preprocessing: Preprocessing::inception(),
        clean: None,
    })
}

fn tower(section: &mut Section) -> Result<Tower, String> {
    let activation = match section.text("hidden_act")?.as_deref() {
        None | Some("gelu_pytorch_tanh") => Activation::GeluTanh,
        Some("gelu") => Activation::Gelu,
        Some(other) => {
            let why = "only \"gelu_pytorch_tanh\" and \"gelu\"";
            return Err(section.refusal("hidden_act", &json!(other), why));
        }
    };
    Ok(Tower {
        width: section.whole("hidden_size", 768)?,
        layers: section.whole("num_hidden_layers", 12)?,
        heads: section.whole("num_attention_heads", 12)?,
        mlp_width: section.whole("intermediate_size", 3072)?,
        activation,
        epsilon: section.number("layer_norm_eps", 1e-6)? as f32,
    })
}

/// open_clip's description, and the preprocessing where it tells that.
fn open_clips(
    config: Value,
    checkpoint: &Checkpoint,
) -> Result<(Siglip, Option<Preprocessing>), String> {
    let mut whole = Section::new("", config)?;
    let preprocess = whole.section("preprocess_cfg")?;
    let mut model = match whole.take("model_cfg") {
        Some(model) => {
            whole.finish()?;
            Section::new("", model)?
        }
        None => whole,
    };
    let dimensions = model.whole("embed_dim", 0)?;
    let missing = |key: &str| format!("is no description of a SigLIP: {key} is missing");
    let mut vision = model.section("vision_cfg")?.ok_or_else(|| missing("vision_cfg"))?;
    let mut text = model.section("text_cfg")?.ok_or_else(|| missing("text_cfg"))?;
    model.ignore(&[
        "custom_text",
        "init_logit_bias",
        "init_logit_scale",
        "output_dict",
        "cast_dtype",
    ]);
    model.finish()?;

    let name = vision.text("timm_model_name")?.unwrap_or_default();
    let Some((_, heads, tanh)) =
        TRUNKS.iter().find(|(known, ..)| name.starts_with(known) && !name.contains("_gap_"))
    else {
        let why = "nothing is known of its heads and activation";
        return Err(vision.refusal("timm_model_name", &json!(name), why));
    };
    vision.only("timm_pool", &[json!("map")])?;
    vision.only("timm_proj", &[json!("none"), json!("")])?;
    let image_size = config::square(&mut vision, "image_size")?.unwrap_or(224);
    vision.ignore(&["timm_model_pretrained", "timm_drop", "timm_drop_path"]);
    vision.finish()?;
    let shape = |name: &str, axis: usize| -> Result<usize, String> {
        let tensor = checkpoint.tensor(name);
        let side = tensor.and_then(|tensor| tensor.shape.get(axis).copied());
        side.ok_or_else(|| format!("does not fit the weights, which have no {name}"))
    };
    let layers = (0..)
        .take_while(|layer| {
            checkpoint.tensor(&format!("visual.trunk.blocks.{layer}.norm1.weight")).is_some()
        })
        .count();
    let vision_tower = Tower {
        width: shape("visual.trunk.patch_embed.proj.weight", 0)?,
        layers,
        heads: *heads,
        mlp_width: shape("visual.trunk.blocks.0.mlp.fc1.weight", 0)?,
        activation: if *tanh { Activation::GeluTanh } else { Activation::Gelu },
        epsilon: 1e-6,
    };
    let patch_size = shape("visual.trunk.patch_embed.proj.weight", 2)?;

    let context_length = text.whole("context_length", 77)?;
    let vocab_size = text.whole("vocab_size", 49_408)?;
    for key in ["no_causal_mask", "proj_bias"] {
        if !text.flag(key, false)? {
            return Err(text.refusal(key, &json!(false), "only true"));
        }
    }
    if text.text("pool_type")?.as_deref() != Some("last") {
        return Err(text.refusal("pool_type", &json!(null), "only \"last\""));
    }
    let mut clean = cleaning("whitespace");
    if let Some(mut kwargs) = text.section("tokenizer_kwargs")? {
        if let Some(name) = kwargs.text("clean")? {
            clean = cleaning(&name);
            if clean.is_none() {
                return Err(kwargs.refusal("clean", &json!(name), "nothing is known of it"));
            }
        }
        kwargs.finish()?;
    }
    let mut activation = Activation::Gelu;
    if let Some(mut act) = text.section("act_kwargs")? {
        act.only("approximate", &[json!("tanh")])?;
        activation = Activation::GeluTanh;
        act.finish()?;
    }
    let mut epsilon = 1e-5;
    if let Some(mut norm) = text.section("norm_kwargs")? {
        epsilon = norm.number("eps", epsilon)?;
        norm.finish()?;
    }
    text.ignore(&["hf_tokenizer_name"]);
    let width = text.whole("width", 512)?;
    let mlp_ratio = text.number("mlp_ratio", 4.0)?;
    let text_tower = Tower {
        width,
        layers: text.whole("layers", 12)?,
        heads: text.whole("heads", 8)?,
        mlp_width: (width as f64 * mlp_ratio) as usize,
        activation,
        epsilon: epsilon as f32,
    };
    text.finish()?;
    let preprocessing =
        preprocess.map(|section| open_clip::preprocessing(section, image_size)).transpose()?;
    let siglip = Siglip {
        dimensions,
        image_size,
        patch_size,
        vision: vision_tower,
        text: text_tower,
        context_length,
        vocab_size,
        preprocessing: Preprocessing::inception(),
        clean,
    };
    debug_assert_ne!(checkpoint.naming, Naming::HuggingFace);
    Ok((siglip, preprocessing))
}
