//! What the inputs and outputs of a published graph are for: told by names, types and shapes, as
//! exporters write them. Apart from `layout`, which knows folders and the files beside the graphs.

use pgclip_clip::model::{IMAGE_FILE, Precision, TEXT_FILE};
use pgclip_clip::towers::{
    BatchSize, ElementType, Holds, Input, Layout as Axes, Output, TowerConfig,
};

use super::graph::{Foreign, Value};
use crate::error::ExportError;

impl Foreign {
    /// Whether it takes a mask of a text's tokens.
    pub(super) fn masked(&self) -> bool {
        self.inputs.iter().any(|input| input.name.contains("mask"))
    }

    /// The precision of most of its weights.
    pub(super) fn precision(&self) -> Result<Precision, ExportError> {
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

/// The tower that takes pictures; `width`: numbers of its output, where the graph does not tell.
pub(super) fn image_tower(graph: &Foreign, width: Option<u64>) -> Result<TowerConfig, ExportError> {
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
    Ok(tower)
}

/// The tower that takes texts, and their length where the graph fixes it. A graph that holds the other
/// tower as well gets a picture of `image_size` for that.
pub(super) fn text_tower(
    graph: &Foreign,
    image_size: u32,
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
            constant(value, image_size.into())
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
