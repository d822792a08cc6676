//! A model directory back to weights, so that what was exported can be trained further, measured
//! and exported anew.
//!
//! Read are the exporter's own graphs, whose names and shapes are known: this undoes what
//! `vision`, `text` and `block` do. Matrices are turned back, the queries' scale is taken out, and
//! the class token, which the graph adds to the first position, stays there: the class embedding
//! of the result is zero. Weights are as exact as they were stored. All files are in memory, and
//! their digests are checked.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use pgclip_clip::model::{CONFIG_FILE, ClipConfig, IMAGE_FILE, ModelDir, TEXT_FILE, TokenizerKind};
use prost::Message;
use safetensors::Dtype;

use crate::config::{Activation, Architecture, Preprocessing, Tower};
use crate::error::ExportError;
use crate::naming::Naming;
use crate::proto::{DataType, GraphProto, ModelProto, TensorProto};
use crate::tensor::{Tensor, transposed};

/// A tensor in memory, fp32 or (the token table's rows) i32, little-endian.
pub struct Made {
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub bytes: Vec<u8>,
}

/// The weights of a model directory in open_clip's naming, the architecture they are of, and the
/// directory's own description.
pub fn read(dir: &Path) -> Result<(BTreeMap<String, Made>, Architecture, ClipConfig), ExportError> {
    let model = ModelDir::open(dir)?;
    if model.config.towers.is_some() || model.config.text.tokenizer != TokenizerKind::Clip {
        let what = "is of a model that training does not know: weights are read from CLIP's alone";
        return Err(ExportError::config(&dir.join(CONFIG_FILE), what));
    }
    let image = Graph::read(&model, IMAGE_FILE)?;
    let text = Graph::read(&model, TEXT_FILE)?;
    let naming = Naming::of(text.constants.keys().map(String::as_str))
        .ok_or_else(|| text.bad("has no token table"))?;
    let architecture = describe(&model.config, &image, &text, naming)?;
    let mut weights = Weights { naming, made: BTreeMap::new() };
    weights.vision(&image, &architecture)?;
    weights.text(&text, &architecture)?;
    weights.put("logit_scale", &[], &[model.config.logit_scale.ln()]);
    Ok((weights.made, architecture, model.config))
}

/// One tower's graph.
struct Graph {
    path: std::path::PathBuf,
    constants: HashMap<String, Constant>,
    nodes: GraphProto,
}

struct Constant {
    dims: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl Graph {
    fn read(model: &ModelDir, file: &str) -> Result<Self, ExportError> {
        let path = model.path.join(file);
        let decoded = ModelProto::decode(&model.read(file)?[..]);
        let decoded =
            decoded.map_err(|e| ExportError::config(&path, format!("is no graph: {e}")))?;
        let foreign = "was not written by pgclip: weights are read from its own graphs alone";
        let ours = (decoded.producer_name == "pgclip").then_some(decoded.graph).flatten();
        let mut nodes = ours.ok_or_else(|| ExportError::config(&path, foreign))?;
        let mut graph = Graph { path, constants: HashMap::new(), nodes: GraphProto::default() };
        let mut others = HashMap::new();
        for tensor in std::mem::take(&mut nodes.initializer) {
            let name = tensor.name.clone();
            let constant = graph.constant(tensor, model, &mut others)?;
            graph.constants.insert(name, constant);
        }
        graph.nodes = nodes;
        Ok(graph)
    }

    /// A constant with its bytes, from the graph or from a file beside it.
    fn constant(
        &self,
        tensor: TensorProto,
        model: &ModelDir,
        others: &mut HashMap<String, Vec<u8>>,
    ) -> Result<Constant, ExportError> {
        let name = &tensor.name;
        let dtype = match tensor.data_type() {
            DataType::Float => Dtype::F32,
            DataType::Float16 => Dtype::F16,
            DataType::Int32 => Dtype::I32,
            DataType::Int64 => Dtype::I64,
            DataType::Undefined => return Err(self.bad(format!("{name} has an unknown type"))),
        };
        let dims: Vec<usize> = tensor.dims.iter().map(|&dim| dim as usize).collect();
        let field = |key| tensor.external_data.iter().find(|e| e.key == key).map(|e| &e.value[..]);
        let bytes = match (&tensor.raw_data, field("location")) {
            (Some(bytes), _) => bytes.clone(),
            (None, Some(file)) => {
                if !others.contains_key(file) {
                    others.insert(file.to_owned(), model.read(file)?);
                }
                let number = |key| field(key).and_then(|value| value.parse::<usize>().ok());
                number("offset")
                    .zip(number("length"))
                    .and_then(|(start, length)| others[file].get(start..start.checked_add(length)?))
                    .ok_or_else(|| self.bad(format!("{name} is not within {file}")))?
                    .to_vec()
            }
            (None, None) => Vec::new(),
        };
        let elements = dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
        if elements.and_then(|n| n.checked_mul(dtype.bitsize() / 8)) != Some(bytes.len()) {
            return Err(self.bad(format!("{name} {dims:?} has {} bytes", bytes.len())));
        }
        Ok(Constant { dims, dtype, bytes })
    }

    fn bad(&self, message: impl Into<String>) -> ExportError {
        ExportError::config(&self.path, message)
    }

    fn get(&self, name: &str) -> Result<&Constant, ExportError> {
        self.constants.get(name).ok_or_else(|| self.bad(format!("has no {name}")))
    }

    /// Shape and values of floats.
    fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), ExportError> {
        let Constant { dims, dtype, bytes } = self.get(name)?;
        let tensor =
            Tensor { name: name.to_owned(), shape: dims.clone(), dtype: *dtype, data: bytes };
        Ok((dims.clone(), tensor.floats()))
    }

    /// Shape and values of a matrix, turned.
    fn turned(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), ExportError> {
        let (dims, values) = self.floats(name)?;
        match dims[..] {
            [rows, columns] => Ok((vec![columns, rows], transposed(&values, columns))),
            _ => Err(self.bad(format!("{name} {dims:?} is no matrix"))),
        }
    }

    fn has(&self, operator: &str) -> bool {
        self.nodes.node.iter().any(|node| node.op_type == operator)
    }

    fn tower(&self, width: usize, blocks: &str, naming: Naming) -> Result<Tower, ExportError> {
        let part = |layer, part| naming.spell(&format!("{blocks}{layer}.{part}"));
        let there = |layer: &usize| self.constants.contains_key(&part(*layer, "ln_1.weight"));
        let layers = (0..).take_while(there).count();
        let wide = &self.get(&part(0, "mlp.c_fc.weight"))?.dims;
        // What queries, keys and values are cut into heads by: [0, 0, heads, head width].
        let heads = self.constants.values().find_map(|constant| {
            let Constant { dims, dtype: Dtype::I64, bytes } = constant else { return None };
            let numbers: Vec<i64> =
                bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect();
            match (&dims[..], &numbers[..]) {
                ([4], &[0, 0, heads, each]) if heads * each == width as i64 => Some(heads as usize),
                _ => None,
            }
        });
        let norm = self.nodes.node.iter().find(|node| node.op_type == "LayerNormalization");
        let epsilon = norm
            .and_then(|node| node.attribute.iter().find(|attribute| attribute.name == "epsilon"))
            .and_then(|attribute| attribute.f);
        Ok(Tower {
            width,
            layers,
            heads: heads.ok_or_else(|| self.bad("does not tell the number of heads"))?,
            mlp_width: wide.get(1).copied().unwrap_or(0),
            activation: match self.has("Sigmoid") {
                true => Activation::QuickGelu,
                false => Activation::Gelu,
            },
            epsilon: epsilon.ok_or_else(|| self.bad("has no layer norm"))?,
        })
    }
}

const VISION_BLOCKS: &str = "visual.transformer.resblocks.";
const TEXT_BLOCKS: &str = "transformer.resblocks.";

fn describe(
    config: &ClipConfig,
    image: &Graph,
    text: &Graph,
    naming: Naming,
) -> Result<Architecture, ExportError> {
    let width = |graph: &Graph| match graph.get("projection")?.dims[..] {
        [width, _] => Ok(width),
        _ => Err(graph.bad("projection is no matrix")),
    };
    let patch = &image.get(&naming.spell("visual.conv1.weight"))?.dims;
    Ok(Architecture {
        dimensions: config.dimensions as usize,
        image_size: config.image.size as usize,
        patch_size: patch.last().copied().unwrap_or(0),
        ln_pre: image.constants.contains_key(&naming.spell("visual.ln_pre.weight")),
        vision: image.tower(width(image)?, VISION_BLOCKS, naming)?,
        text: text.tower(width(text)?, TEXT_BLOCKS, naming)?,
        context_length: config.text.context_length as usize,
        vocab_size: config.text.vocab_size as usize,
        preprocessing: Preprocessing {
            mean: config.image.mean,
            std: config.image.std,
            resize: config.image.resize,
            interpolation: config.image.interpolation,
        },
    })
}

/// Weights under open_clip's names, from graphs that have the names of `naming`.
struct Weights {
    naming: Naming,
    made: BTreeMap<String, Made>,
}

impl Weights {
    fn put(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let made = Made { shape: shape.to_vec(), dtype: Dtype::F32, bytes };
        self.made.insert(name.to_owned(), made);
    }

    fn vision(&mut self, graph: &Graph, architecture: &Architecture) -> Result<(), ExportError> {
        let width = architecture.vision.width;
        self.plain(graph, "visual.conv1.weight")?;
        self.put("visual.class_embedding", &[width], &vec![0.0; width]);
        self.plain(graph, "visual.positional_embedding")?;
        if architecture.ln_pre {
            self.norm(graph, "visual.ln_pre")?;
        }
        self.blocks(graph, VISION_BLOCKS, &architecture.vision)?;
        self.norm(graph, "visual.ln_post")?;
        let (shape, values) = graph.floats("projection")?;
        self.put("visual.proj", &shape, &values);
        Ok(())
    }

    fn text(&mut self, graph: &Graph, architecture: &Architecture) -> Result<(), ExportError> {
        self.plain(graph, "token_embedding.weight")?;
        if let Some(rows) = graph.constants.get("token_rows") {
            let Constant { dims, dtype, bytes } = rows;
            let made = Made { shape: dims.clone(), dtype: *dtype, bytes: bytes.clone() };
            self.made.insert("token_rows".into(), made);
        }
        self.plain(graph, "positional_embedding")?;
        self.blocks(graph, TEXT_BLOCKS, &architecture.text)?;
        self.norm(graph, "ln_final")?;
        let (shape, values) = graph.floats("projection")?;
        self.put("text_projection", &shape, &values);
        Ok(())
    }

    fn blocks(&mut self, graph: &Graph, at: &str, tower: &Tower) -> Result<(), ExportError> {
        for layer in 0..tower.layers {
            let at = format!("{at}{layer}");
            self.norm(graph, &format!("{at}.ln_1"))?;
            self.attention(graph, &format!("{at}.attn"), tower)?;
            self.linear(graph, &format!("{at}.attn.out_proj"))?;
            self.norm(graph, &format!("{at}.ln_2"))?;
            self.linear(graph, &format!("{at}.mlp.c_fc"))?;
            self.linear(graph, &format!("{at}.mlp.c_proj"))?;
        }
        Ok(())
    }

    /// Queries, keys and values in one matrix, `[3 W, W]`, and the queries without their scale.
    fn attention(&mut self, graph: &Graph, at: &str, tower: &Tower) -> Result<(), ExportError> {
        let width = tower.width;
        let scale = 1.0 / ((width / tower.heads) as f32).sqrt();
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for (number, part) in ["q_proj", "k_proj", "v_proj"].into_iter().enumerate() {
            let name = |kind: &str| match self.naming.attention_is_split() {
                true => self.naming.spell(&format!("{at}.{part}.{kind}")),
                false => {
                    let whole = self.naming.spell(&format!("{at}.in_proj_{kind}"));
                    format!("{whole}[{}..{}]", number * width, (number + 1) * width)
                }
            };
            let scale = if number == 0 { scale } else { 1.0 };
            weight.extend(graph.turned(&name("weight"))?.1.iter().map(|value| value / scale));
            bias.extend(graph.floats(&name("bias"))?.1.iter().map(|value| value / scale));
        }
        self.put(&format!("{at}.in_proj_weight"), &[3 * width, width], &weight);
        self.put(&format!("{at}.in_proj_bias"), &[3 * width], &bias);
        Ok(())
    }

    fn linear(&mut self, graph: &Graph, at: &str) -> Result<(), ExportError> {
        let name = format!("{at}.weight");
        let (shape, values) = graph.turned(&self.naming.spell(&name))?;
        self.put(&name, &shape, &values);
        self.plain(graph, &format!("{at}.bias"))
    }

    fn norm(&mut self, graph: &Graph, at: &str) -> Result<(), ExportError> {
        self.plain(graph, &format!("{at}.weight"))?;
        self.plain(graph, &format!("{at}.bias"))
    }

    fn plain(&mut self, graph: &Graph, name: &str) -> Result<(), ExportError> {
        let (shape, values) = graph.floats(&self.naming.spell(name))?;
        self.put(name, &shape, &values);
        Ok(())
    }
}
