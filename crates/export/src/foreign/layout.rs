//! Folders of ready graphs as they are published, and what each says of its towers.
//!
//! ```text
//! Immich's           config.json (open_clip's), visual/model.onnx, visual/preprocess_cfg.json,
//!                    textual/model.onnx, textual/tokenizer.json
//! optimum's and      config.json (transformers'), onnx/vision_model.onnx, onnx/text_model.onnx,
//! transformers.js's  preprocessor_config.json, tokenizer.json; the graphs may lie beside them
//! one graph          the same with onnx/model.onnx alone, which holds both towers
//! ```

use std::path::{Path, PathBuf};

use pgclip_clip::model::{
    CLIP_VOCABULARY, Clean, ClipConfig, FORMAT_ANY, ImageConfig, Padding, TextConfig, TokenizerKind,
};
use pgclip_clip::towers::{BatchSize, TowerConfig, Towers};
use serde_json::Value as Json;

use super::graph::{Foreign, Tower};
use super::text::{Published, Texts, transformers_cleaning};
use super::towers::{image_tower, text_tower};
use crate::config::section::Section;
use crate::config::{self, Preprocessing, image_processor, open_clip};
use crate::error::ExportError;
use crate::export::{Draft, Options};

const HUGGING_FACE_CONFIG: &str = "config.json";
/// What cosine similarities are multiplied with where nothing tells it: what nearly all models
/// that were trained with a softmax end up with.
const USUAL_LOGIT_SCALE: f32 = 100.0;
/// Tokens of a text for models that take thousands, unless more are asked for.
const USUAL_MOST_TOKENS: u32 = 512;

/// One of the two towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Image,
    Text,
}

/// A folder of graphs, read and described.
pub struct Graphs {
    /// What it was taken for.
    pub what: String,
    image: Foreign,
    /// `None`: the image tower's holds both.
    text: Option<Foreign>,
    tokenizer: Option<Published>,
    config: ClipConfig,
}

/// Where a layout has its graphs.
#[derive(Debug, PartialEq)]
enum Found {
    Immich,
    Two { image: PathBuf, text: PathBuf },
    One(PathBuf),
}

/// Whether a folder holds graphs of a layout that is known.
pub fn holds_graphs(folder: &Path) -> bool {
    folder.is_dir()
        && (["visual/model.onnx", "textual/model.onnx"].iter().any(|f| folder.join(f).exists())
            || !candidates(folder).is_empty())
}

impl Graphs {
    /// Recognises what the folder holds, and reads it.
    pub fn open(folder: &Path, options: &Options) -> Result<Self, ExportError> {
        match find(folder, options.variant.as_deref())? {
            Found::Immich => immich(folder, options),
            found => transformers(folder, found, options),
        }
    }

    pub fn is_fixed(&self, which: Which) -> bool {
        self.tower(which).batch == BatchSize::One
    }

    fn tower(&self, which: Which) -> &TowerConfig {
        let towers = self.config.towers.as_ref().expect("graphs are described by their towers");
        match which {
            Which::Image => &towers.image,
            Which::Text => &towers.text,
        }
    }

    fn graph(&self, which: Which) -> &Foreign {
        match (which, &self.text) {
            (Which::Text, Some(text)) => text,
            _ => &self.image,
        }
    }

    /// The file that a tower comes from.
    pub fn path(&self, which: Which) -> &Path {
        &self.graph(which).path
    }

    /// A model directory in the making, without its towers.
    pub fn draft(&self, options: &Options, dir: &Path) -> Result<Draft, ExportError> {
        let mut draft = Draft::begin(self.config.clone(), options, dir)?;
        if let (Some(tokenizer), Some(tokens)) = (&self.tokenizer, &self.config.text.tokens) {
            tokenizer.write(draft.path())?;
            draft.set_files("tokenizer", vec![tokens.file.clone()]);
        }
        Ok(draft)
    }

    /// Writes a tower into the directory in the making; one whose batch is fixed at one item as it
    /// is, or with its batch freed.
    pub fn write(&self, draft: &mut Draft, which: Which, free: bool) -> Result<(), ExportError> {
        let mut config = self.tower(which).clone();
        let free_batch = free && self.is_fixed(which);
        if free_batch {
            config.batch = BatchSize::Any;
        }
        let tower = Tower { output: &config.output.name, free_batch };
        let files = self.graph(which).write(&tower, draft.path(), &config.file)?;
        draft.set_files(&config.file, files);
        let towers = draft.config.towers.as_mut().expect("graphs are described by their towers");
        match which {
            Which::Image => towers.image = config,
            Which::Text => towers.text = config,
        }
        Ok(())
    }
}

/// Graphs in a folder of optimum's or transformers.js's, `NAME` or `NAME_VARIANT`.onnx.
fn candidates(folder: &Path) -> Vec<PathBuf> {
    let files = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = files(folder.join("onnx"))
        .chain(files(folder.into()))
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .filter(|path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            ["vision_model", "text_model", "model"].iter().any(|name| {
                *stem == **name || stem.strip_prefix(name).is_some_and(|s| s.starts_with('_'))
            })
        })
        .collect();
    found.sort();
    found
}

/// Recognises a folder, and picks the variant of its graphs.
fn find(folder: &Path, variant: Option<&str>) -> Result<Found, ExportError> {
    let bad = |message: String| ExportError::config(folder, message);
    let immich = ["visual/model.onnx", "textual/model.onnx"].map(|file| folder.join(file));
    if immich.iter().any(|file| file.exists()) {
        if let Some(missing) = immich.iter().find(|file| !file.exists()) {
            return Err(ExportError::config(missing, "is missing, and its twin is there"));
        }
        if let Some(variant) = variant {
            return Err(bad(format!("has no variants; \"{variant}\" was asked for")));
        }
        return Ok(Found::Immich);
    }
    let files = candidates(folder);
    let pick = |name: &str| -> Result<Option<PathBuf>, ExportError> {
        let variants: Vec<(&str, &PathBuf)> = files
            .iter()
            .filter_map(|path| {
                let stem = path.file_stem()?.to_str()?.strip_prefix(name)?;
                let variant = if stem.is_empty() { "fp32" } else { stem.strip_prefix('_')? };
                Some((variant, path))
            })
            .collect();
        let list = || variants.iter().map(|(variant, _)| *variant).collect::<Vec<_>>().join(", ");
        let wanted = match variant {
            Some(variant) => variants.iter().find(|(found, _)| *found == variant),
            None => match &variants[..] {
                [only] => Some(only),
                many => many.iter().find(|(found, _)| *found == "fp32"),
            },
        };
        match wanted {
            Some((_, path)) => Ok(Some((*path).clone())),
            None if variants.is_empty() => Ok(None),
            None => Err(bad(match variant {
                Some(wanted) => format!("has {name}.onnx as {}, not as \"{wanted}\"", list()),
                None => format!("has {name}.onnx as {}: choose one with --variant", list()),
            })),
        }
    };
    // The whole model is there beside its towers in many folders; the towers are what is needed.
    match (pick("vision_model")?, pick("text_model")?) {
        (Some(image), Some(text)) => Ok(Found::Two { image, text }),
        (Some(one), None) | (None, Some(one)) if pick("model")?.is_none() => Err(bad(format!(
            "has {}, and not the other tower's graph",
            one.file_name().unwrap_or_default().to_string_lossy()
        ))),
        _ => pick("model")?.map(Found::One).ok_or_else(|| {
            bad("holds no graphs of a layout that is known: visual/model.onnx and \
                 textual/model.onnx, onnx/vision_model.onnx and onnx/text_model.onnx, or \
                 onnx/model.onnx"
                .into())
        }),
    }
}

fn read_json(path: &Path) -> Result<Json, ExportError> {
    config::read_json(path)
}

/// What a layout tells beside its graphs.
struct Described {
    what: String,
    architecture: String,
    preprocessing: Preprocessing,
    image_size: u32,
    /// Most tokens of a text, unless the graph says how many.
    most_tokens: Option<u32>,
    /// Widths of the outputs, where the graphs don't tell.
    widths: [Option<u64>; 2],
    clean: Vec<Clean>,
    padding: Padding,
    strip_separator: bool,
}

fn immich(folder: &Path, options: &Options) -> Result<Graphs, ExportError> {
    let (visual, textual) = (folder.join("visual"), folder.join("textual"));
    let image = Foreign::open(&visual.join("model.onnx"), folder)?;
    let text = Foreign::open(&textual.join("model.onnx"), folder)?;
    let path = folder.join(HUGGING_FACE_CONFIG);
    let model = read_json(&path)?;
    let preprocess = visual.join("preprocess_cfg.json");
    let told = read_json(&preprocess)?;
    let image_size = size(&image, &told, &model["vision_cfg"]["image_size"], &preprocess)?;
    let preprocessing = Section::new("", told)
        .and_then(|section| open_clip::preprocessing(section, image_size as usize))
        .map_err(|message| ExportError::config(&preprocess, message))?;
    let tokenizer = Published::read(&textual)?;
    let texts = Texts::read(&model, &path, text.masked())?;
    let dimensions = model["embed_dim"].as_u64();
    let described = Described {
        what: "ready graphs in Immich's layout".into(),
        architecture: "graphs in Immich's layout".into(),
        preprocessing,
        image_size,
        most_tokens: Some(texts.context_length),
        widths: [dimensions, dimensions],
        clean: texts.clean,
        padding: Padding::Context,
        strip_separator: texts.strip_separator,
    };
    assemble(image, Some(text), tokenizer, described, options)
}

fn transformers(folder: &Path, found: Found, options: &Options) -> Result<Graphs, ExportError> {
    let (image, text, one) = match &found {
        Found::Two { image, text } => (image, Some(text), "two graphs"),
        Found::One(both) => (both, None, "one graph for both towers"),
        Found::Immich => unreachable!("it has its own function"),
    };
    let image = Foreign::open(image, folder)?;
    let text = text.map(|path| Foreign::open(path, folder)).transpose()?;
    let path = folder.join(HUGGING_FACE_CONFIG);
    let model = read_json(&path)?;
    let kind = model["model_type"].as_str().unwrap_or_default().to_owned();
    let (vision_config, text_config) = (&model["vision_config"], &model["text_config"]);
    let processor = ["preprocessor_config.json", "processor_config.json"]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| ExportError::NoPreprocessing { path: folder.into() })?;
    let told = read_json(&processor)?;
    let told = if told["image_processor"].is_object() { &told["image_processor"] } else { &told };
    let image_size = size(&image, told, &vision_config["image_size"], &processor)?;
    let preprocessing = config::beside_config(&path, image_size as usize)?
        .ok_or(ExportError::NoPreprocessing { path: processor })?;
    let tokenizer = Published::read(folder)?;
    let siglip = kind.starts_with("siglip");
    let clean = transformers_cleaning(&tokenizer, &kind);
    let positions = text_config["max_position_embeddings"].as_u64();
    let positions = positions.and_then(|positions| u32::try_from(positions).ok());
    let most_tokens = match &kind[..] {
        "clip" | "siglip" | "siglip2" => positions.or(Some(if siglip { 64 } else { 77 })),
        _ => tokenizer.most_tokens().or(Some(77)),
    };
    let width = |section: &Json| {
        let keys = ["projection_dim", "embed_dim", "hidden_size"];
        let own = keys[..2].iter().find_map(|key| model[*key].as_u64()).filter(|_| !siglip);
        own.or_else(|| keys.iter().find_map(|key| section[*key].as_u64()))
    };
    let described = Described {
        what: format!("{one} in the layout of optimum and transformers.js"),
        architecture: format!("{} as graphs", if kind.is_empty() { "CLIP" } else { &kind }),
        preprocessing,
        image_size,
        most_tokens,
        widths: [width(vision_config), width(text_config)],
        clean,
        padding: if siglip { Padding::Context } else { Padding::Longest },
        strip_separator: false,
    };
    assemble(image, text, tokenizer, described, options)
}

/// Width and height of the images: what the graph says, or else the descriptions.
fn size(graph: &Foreign, told: &Json, other: &Json, path: &Path) -> Result<u32, ExportError> {
    let input = graph.inputs.iter().find(|input| input.shape.len() == 4);
    let fixed = input.and_then(|input| input.shape[2].filter(|side| *side > 3));
    let array = other.as_array().and_then(|sides| sides.first()).unwrap_or(other);
    let side = fixed.or_else(|| image_processor::side(told)).or_else(|| array.as_u64());
    side.and_then(|side| u32::try_from(side).ok())
        .filter(|side| (1..=4096).contains(side))
        .ok_or_else(|| ExportError::config(path, "does not tell the size of images"))
}

/// Puts together what the graphs and the files beside them say.
fn assemble(
    image: Foreign,
    text: Option<Foreign>,
    tokenizer: Published,
    described: Described,
    options: &Options,
) -> Result<Graphs, ExportError> {
    let [image_width, text_width] = described.widths;
    let image_tower = image_tower(&image, image_width)?;
    let text_graph = text.as_ref().unwrap_or(&image);
    let (text_tower, length) = text_tower(text_graph, described.image_size, text_width)?;
    let widths = [image_tower.output.width, text_tower.output.width];
    if widths[0] != widths[1] {
        return Err(ExportError::config(
            &text_graph.path,
            format!(
                "its output \"{}\" has {} numbers, but \"{}\" of \"{}\" has {}",
                text_tower.output.name,
                widths[1],
                image_tower.output.name,
                image.path.display(),
                widths[0]
            ),
        ));
    }
    let dimensions = options.dimensions.unwrap_or(widths[0]);
    if dimensions == 0 || dimensions > widths[0] {
        return Err(ExportError::config(
            &image.path,
            format!("gives {} numbers, of which {dimensions} cannot be taken", widths[0]),
        ));
    }
    let most = described.most_tokens.unwrap_or(77);
    let usual = match described.padding {
        Padding::Longest => most.min(USUAL_MOST_TOKENS),
        Padding::Context => most,
    };
    let context_length = length.unwrap_or_else(|| options.context_length.unwrap_or(usual));
    let clips = described.what.contains("Immich") && tokenizer.is_clips() && !text_graph.masked();
    let (kind, tokens, vocab_size) = if clips {
        (TokenizerKind::Clip, None, CLIP_VOCABULARY)
    } else {
        let padding = if length.is_some() { Padding::Context } else { described.padding };
        let mut tokens = tokenizer.describe(described.clean.clone(), padding)?;
        if described.strip_separator {
            tokens.zeroed = tokenizer.special_id("sep_token");
        }
        tokens.language = options.language.clone();
        let read = super::text::read(&tokenizer, &tokens, context_length as usize)?;
        (TokenizerKind::File, Some(tokens), read.vocabulary())
    };
    let preprocessing = &described.preprocessing;
    let config = ClipConfig {
        format: FORMAT_ANY,
        name: options.name.clone().unwrap_or_default(),
        architecture: described.architecture.clone(),
        dimensions,
        image: ImageConfig {
            size: described.image_size,
            mean: preprocessing.mean,
            std: preprocessing.std,
            resize: options.resize.unwrap_or(preprocessing.resize),
            interpolation: preprocessing.interpolation,
            exif_orientation: options.exif_orientation,
        },
        text: TextConfig { context_length, vocab_size, tokenizer: kind, tokens },
        logit_scale: options.logit_scale.unwrap_or(USUAL_LOGIT_SCALE),
        logit_bias: options.logit_bias,
        towers: Some(Towers { image: image_tower, text: text_tower }),
        mean_text_embedding: options.mean_text_embedding.clone(),
        precision: image.precision()?,
        files: Default::default(),
    };
    let tokenizer = (!clips).then_some(tokenizer);
    Ok(Graphs { what: described.what, image, text, tokenizer, config })
}
