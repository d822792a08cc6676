//! What a description says of a SigLIP: transformers' `config.json` of a `SiglipModel`, or open_clip's
//! with one of timm's `…_siglip_…` trunks. Sizes that weights tell are taken from them; heads and
//! activation are told by the description, in timm's case by the trunk's name.

use std::path::Path;

use pgclip_clip::model::Clean;
use serde_json::{Value, json};

use crate::checkpoint::Checkpoint;
use crate::config::known::Known;
use crate::config::open_clip::Parts;
use crate::config::section::Section;
use crate::config::{self, Activation, Preprocessing, Sizes, Stated, Tower, open_clip};
use crate::error::ExportError;
use crate::foreign::{Published, cleaning, transformers_cleaning};

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

/// Why weights of the SigLIP that is described at `path` cannot be converted, if they cannot.
pub fn check_known(path: &Path) -> Result<(), ExportError> {
    Siglip::read_partly(path).map(|_| ())
}

impl Siglip {
    pub fn read(
        path: &Path,
        checkpoint: &Checkpoint,
        stated: &Stated,
    ) -> Result<Self, ExportError> {
        let (mut siglip, told, bare) = Self::read_partly(path)?;
        let bad = |message| ExportError::config(path, message);
        if siglip.vision.width == 0 {
            siglip.take_sizes(checkpoint).map_err(bad)?;
        }
        let known = Known::of(path, bare, stated)?;
        if stated.activation.is_some() {
            return Err(bad("is of a SigLIP, whose activation is known".into()));
        }
        siglip.preprocessing = known.preprocessing(path, told, stated.preprocessing.as_ref())?;
        siglip.check().map_err(bad)?;
        Ok(siglip)
    }

    /// Without what open_clip's description leaves to the weights: such sizes are 0.
    fn read_partly(path: &Path) -> Result<(Self, Option<Preprocessing>, bool), ExportError> {
        let bad = |message| ExportError::config(path, message);
        let config = config::read_json(path)?;
        if config["model_type"].is_string() {
            let siglip = hugging_face(config).map_err(bad)?;
            let told = config::beside_config(path, siglip.image_size)?;
            return Ok((siglip, told, false));
        }
        open_clips(config).map_err(bad)
    }

    /// timm's image tower is described by its name; its sizes are those of the weights.
    fn take_sizes(&mut self, checkpoint: &Checkpoint) -> Result<(), String> {
        let shape = |name: &str, axis: usize| -> Result<usize, String> {
            let tensor = checkpoint.tensor(name);
            let side = tensor.and_then(|tensor| tensor.shape.get(axis).copied());
            side.ok_or_else(|| format!("does not fit the weights, which have no {name}"))
        };
        self.patch_size = shape("visual.trunk.patch_embed.proj.weight", 2)?;
        self.vision.width = shape("visual.trunk.patch_embed.proj.weight", 0)?;
        self.vision.mlp_width = shape("visual.trunk.blocks.0.mlp.fc1.weight", 0)?;
        let block = |layer: &usize| format!("visual.trunk.blocks.{layer}.norm1.weight");
        self.vision.layers =
            (0..).take_while(|layer| checkpoint.tensor(&block(layer)).is_some()).count();
        Ok(())
    }

    /// The steps of a text's cleaning.
    pub fn clean(&self, tokenizer: &Published) -> Vec<Clean> {
        self.clean.clone().unwrap_or_else(|| transformers_cleaning(tokenizer, "siglip"))
    }

    pub fn describe(&self) -> String {
        let Self { vision, patch_size, image_size, text, .. } = self;
        let size = vision.size();
        format!("SigLIP ViT-{size}-{patch_size}-{image_size}, text {}x{}", text.width, text.layers)
    }

    /// Number of patches.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    fn check(&self) -> Result<(), String> {
        let Self { dimensions, image_size, patch_size, context_length, vocab_size, .. } = *self;
        let sizes = Sizes { dimensions, image_size, patch_size, context_length, vocab_size };
        sizes.check(&self.vision, &self.text)?;
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

/// open_clip's description, the preprocessing where it tells that, and whether it is a bare model
/// configuration.
fn open_clips(config: Value) -> Result<(Siglip, Option<Preprocessing>, bool), String> {
    let Parts { mut model, preprocess, bare } = open_clip::parts(config)?;
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
    let vision = Tower {
        width: 0,
        layers: 0,
        heads: *heads,
        mlp_width: 0,
        activation: if *tanh { Activation::GeluTanh } else { Activation::Gelu },
        epsilon: 1e-6,
    };

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
    text.ignore(&["hf_tokenizer_name"]);
    let text_tower =
        open_clip::tower(&mut text, 512, activation, |_, section| section.whole("heads", 8))?;
    text.finish()?;
    let preprocessing =
        preprocess.map(|section| open_clip::preprocessing(section, image_size)).transpose()?;
    let siglip = Siglip {
        dimensions,
        image_size,
        patch_size: 0,
        vision,
        text: text_tower,
        context_length,
        vocab_size,
        preprocessing: Preprocessing::inception(),
        clean,
    };
    Ok((siglip, preprocessing, bare))
}
