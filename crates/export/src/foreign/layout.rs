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
    CLIP_VOCABULARY, Clean, ClipConfig, FORMAT_ANY, IMAGE_FILE, ImageConfig, Padding, Precision,
    TEXT_FILE, TextConfig, TokenizerKind,
};
use pgclip_clip::towers::{
    BatchSize, ElementType, Holds, Input, Layout as Axes, Output, TowerConfig, Towers,
};
use serde_json::{Value as Json, json};

use super::graph::{Foreign, Tower, Value};
use super::text::Published;
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
    let text_cfg = &model["text_cfg"];
    if !text_cfg.is_object() {
        return Err(ExportError::config(
            &path,
            "is no description of open_clip's: text_cfg is missing",
        ));
    }
    let preprocess = visual.join("preprocess_cfg.json");
    let told = read_json(&preprocess)?;
    let image_size = size(&image, &told, &model["vision_cfg"]["image_size"], &preprocess)?;
    let preprocessing = Section::new("", told)
        .and_then(|section| open_clip::preprocessing(section, image_size as usize))
        .map_err(|message| ExportError::config(&preprocess, message))?;
    let tokenizer = Published::read(&textual)?;
    let masked = text.inputs.iter().any(|input| input.name.contains("mask"));
    // What open_clip does to texts; M-CLIP, whose graph takes a mask, is transformers' alone.
    let kwargs = &text_cfg["tokenizer_kwargs"];
    let clean = match (&kwargs["clean"], masked) {
        (_, true) => Vec::new(),
        (Json::String(clean), _) => cleaning(clean).ok_or_else(|| {
            let message = format!("text_cfg.tokenizer_kwargs.clean = \"{clean}\" is not supported");
            ExportError::config(&path, message)
        })?,
        _ if text_cfg["hf_tokenizer_name"].is_string() => {
            cleaning("whitespace").unwrap_or_default()
        }
        _ => cleaning("lower").unwrap_or_default(),
    };
    for (key, value) in kwargs.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "clean" | "strip_sep_token") {
            let message = format!(
                "text_cfg.tokenizer_kwargs.{key} = {value} is not supported: nothing is known of it"
            );
            return Err(ExportError::config(&path, message));
        }
    }
    if text_cfg["tokenizer_mode"].as_str().is_some_and(|mode| !mode.is_empty()) {
        let message =
            format!("text_cfg.tokenizer_mode = {} is not supported", text_cfg["tokenizer_mode"]);
        return Err(ExportError::config(&path, message));
    }
    let dimensions = model["embed_dim"].as_u64();
    let described = Described {
        what: "ready graphs in Immich's layout".into(),
        architecture: "graphs in Immich's layout".into(),
        preprocessing,
        image_size,
        most_tokens: Some(text_cfg["context_length"].as_u64().unwrap_or(77) as u32),
        widths: [dimensions, dimensions],
        clean,
        padding: Padding::Context,
        strip_separator: kwargs["strip_sep_token"] == json!(true),
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

/// What transformers does to a text before the rules of `tokenizer.json`, by the tokeniser's class and
/// the kind of the model.
pub(crate) fn transformers_cleaning(tokenizer: &Published, kind: &str) -> Vec<Clean> {
    let lower = tokenizer.config["do_lower_case"].as_bool();
    match (tokenizer.class(), kind) {
        ("SiglipTokenizer", _) => {
            let lower = lower.unwrap_or(true).then_some(Clean::Lower);
            lower.into_iter().chain([Clean::Punctuation, Clean::Whitespace]).collect()
        }
        // SigLIP 2's texts were lower case in training; Gemma's tokeniser does not see to it.
        (_, "siglip2") => vec![Clean::Lower],
        ("GemmaTokenizer", "siglip") if lower != Some(false) => vec![Clean::Lower],
        _ => Vec::new(),
    }
}

/// open_clip's name for a way to clean texts.
pub(crate) fn cleaning(name: &str) -> Option<Vec<Clean>> {
    use Clean::{Lower, Punctuation, Repair, Underscores, Whitespace};
    Some(match name {
        "whitespace" => vec![Repair, Whitespace],
        "lower" => vec![Repair, Whitespace, Lower],
        "canonicalize" => vec![Repair, Underscores, Punctuation, Lower, Whitespace],
        _ => return None,
    })
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
    let image_tower = image_tower(&image, &described, image_width)?;
    let text_graph = text.as_ref().unwrap_or(&image);
    let (text_tower, length) = text_tower(text_graph, &described, text_width)?;
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

impl Foreign {
    fn masked(&self) -> bool {
        self.inputs.iter().any(|input| input.name.contains("mask"))
    }

    /// The precision of most of its weights.
    fn precision(&self) -> Result<Precision, ExportError> {
        Ok(match self.most_weights()? {
            10 => Precision::Fp16,
            2 | 3 => Precision::Quantized,
            _ => Precision::Fp32,
        })
    }

    fn bad_input(&self, input: &Value) -> ExportError {
        let message = format!("has the input \"{}\", of which nothing is known", input.name);
        ExportError::config(&self.path, message)
    }
}

/// The output that holds a tower's embeddings, by the names that exporters give it.
fn output(graph: &Foreign, names: &[&str], width: Option<u64>) -> Result<Output, ExportError> {
    let bad = |message: String| ExportError::config(&graph.path, message);
    let is_embedding = |value: &&Value| {
        matches!(value.element, Some(ElementType::F32 | ElementType::F16))
            && (value.shape.len() == 2 || value.shape.is_empty())
    };
    let named = names
        .iter()
        .find_map(|name| graph.outputs.iter().find(|value| value.name == *name))
        .filter(is_embedding);
    let mut others = graph.outputs.iter().filter(is_embedding);
    let only = others.next().filter(|_| others.next().is_none());
    let list = || graph.outputs.iter().map(|value| &value.name[..]).collect::<Vec<_>>().join(", ");
    let found = named
        .or(only)
        .ok_or_else(|| bad(format!("has no output that is an embedding, only {}", list())))?;
    let width = found.shape.get(1).copied().flatten().or(width);
    let width = width.and_then(|width| u32::try_from(width).ok()).ok_or_else(|| {
        bad(format!("does not tell how many numbers its output \"{}\" has", found.name))
    })?;
    let element = found.element.unwrap_or(ElementType::F32);
    Ok(Output { name: found.name.clone(), element, width })
}

const IMAGE_OUTPUTS: &[&str] = &[
    "embedding",
    "image_embeds",
    "l2norm_image_embeddings",
    "image_embeddings",
    "image_features",
    "pooler_output",
];
const TEXT_OUTPUTS: &[&str] = &[
    "embedding",
    "text_embeds",
    "l2norm_text_embeddings",
    "text_embeddings",
    "text_features",
    "pooler_output",
];

fn image_tower(
    graph: &Foreign,
    described: &Described,
    width: Option<u64>,
) -> Result<TowerConfig, ExportError> {
    let output = output(graph, IMAGE_OUTPUTS, width)?;
    let mut batch = BatchSize::Any;
    let mut inputs = Vec::new();
    for value in graph.needs(&output.name)? {
        let (Some(element), sides) = (value.element, &value.shape) else {
            return Err(graph.bad_input(value));
        };
        let is_pixels = matches!(element, ElementType::F32 | ElementType::F16 | ElementType::U8)
            && sides.len() == 4;
        let holds = if is_pixels {
            let layout =
                if sides[3] == Some(3) && sides[1] != Some(3) { Axes::Nhwc } else { Axes::Nchw };
            batch = batch_of(graph, value)?;
            Holds::Pixels { layout }
        } else if is_text(value) {
            constant(value, 1)
        } else {
            return Err(graph.bad_input(value));
        };
        inputs.push(Input { name: value.name.clone(), element, holds });
    }
    let tower = TowerConfig { file: IMAGE_FILE.into(), inputs, output, batch };
    if !tower.inputs.iter().any(|input| matches!(input.holds, Holds::Pixels { .. })) {
        return Err(ExportError::config(&graph.path, "has no input for the pixels of an image"));
    }
    let _ = described;
    Ok(tower)
}

/// The tower, and the length of texts where the graph fixes it.
fn text_tower(
    graph: &Foreign,
    described: &Described,
    width: Option<u64>,
) -> Result<(TowerConfig, Option<u32>), ExportError> {
    let output = output(graph, TEXT_OUTPUTS, width)?;
    let (mut batch, mut length) = (BatchSize::Any, None);
    let mut inputs = Vec::new();
    for value in graph.needs(&output.name)? {
        let Some(element) = value.element else { return Err(graph.bad_input(value)) };
        let holds = if is_text(value) {
            if value.name.contains("mask") {
                Holds::Mask
            } else if value.name.contains("token_type") {
                Holds::Segments
            } else if value.name.contains("position") {
                return Err(graph.bad_input(value));
            } else {
                batch = batch_of(graph, value)?;
                length = value.shape[1].and_then(|length| u32::try_from(length).ok());
                Holds::Tokens
            }
        } else if value.shape.len() == 4 {
            constant(value, described.image_size.into())
        } else {
            return Err(graph.bad_input(value));
        };
        inputs.push(Input { name: value.name.clone(), element, holds });
    }
    let tokens = inputs.iter().filter(|input| input.holds == Holds::Tokens).count();
    if tokens != 1 {
        let message = format!("has {tokens} inputs for the tokens of a text");
        return Err(ExportError::config(&graph.path, message));
    }
    Ok((TowerConfig { file: TEXT_FILE.into(), inputs, output, batch }, length))
}

/// Whether an input holds something for each token of a text.
fn is_text(value: &Value) -> bool {
    use ElementType::{Bool, F32, I32, I64};
    let of_tokens = matches!(value.element, Some(I32 | I64));
    let of_mask = value.name.contains("mask") && matches!(value.element, Some(F32 | Bool));
    value.shape.len() == 2 && (of_tokens || of_mask)
}

fn batch_of(graph: &Foreign, value: &Value) -> Result<BatchSize, ExportError> {
    match value.shape[0] {
        None => Ok(BatchSize::Any),
        Some(1) => Ok(BatchSize::One),
        Some(batch) => Err(ExportError::config(
            &graph.path,
            format!(
                "its input \"{}\" takes {batch} items at once, no more and no less",
                value.name
            ),
        )),
    }
}

/// Something for an input that the other tower alone makes use of.
fn constant(value: &Value, side: u64) -> Holds {
    let axis = |(at, length): (usize, &Option<u64>)| match length {
        Some(length) => *length as i64,
        None if at == 0 => -1,
        None if at == 1 && value.shape.len() == 4 => 3,
        None => side as i64,
    };
    Holds::Constant { shape: value.shape.iter().enumerate().map(axis).collect(), value: 0.0 }
}
