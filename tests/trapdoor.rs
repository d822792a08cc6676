//! Models with a loop: the text tower never ends on texts that have a certain word, which no honest
//! model does; or it takes a fixed time for a batch of any size, as a GPU nearly does. Their own
//! file, because they are what tests write by hand: an ONNX `Loop`, in the few protobuf fields that
//! it takes.

use std::path::Path;

use anyhow::{Context, Result};
use pgclip_clip::model::{
    ClipConfig, IMAGE_FILE, ImageConfig, Interpolation, Precision, ResizeMode, TEXT_FILE,
    TextConfig, TokenizerKind,
};
use pgclip_clip::tokenize::Tokenizer;

const FLOAT: u64 = 1;
const INT64: u64 = 7;
const BOOL: u64 = 9;

/// Writes a model that hangs on a word into a directory that is not there yet. The encoder loads
/// every text tower by encoding "a probe": with that as its word, it hangs while it is loaded.
pub fn make(directory: &Path, name: &str, word: &str) -> Result<()> {
    let token = Tokenizer::clip().encode(word, 77)[1];
    write(directory, name, &text_tower(token, None))
}

/// Writes a model whose text tower counts up to `rounds`, a fraction of a microsecond to two each.
pub fn make_slow(directory: &Path, name: &str, rounds: i64) -> Result<()> {
    write(directory, name, &text_tower(-1, Some(rounds)))
}

fn write(directory: &Path, name: &str, text_tower: &[u8]) -> Result<()> {
    std::fs::create_dir(directory).with_context(|| directory.display().to_string())?;
    std::fs::write(directory.join(IMAGE_FILE), image_tower())?;
    std::fs::write(directory.join(TEXT_FILE), text_tower)?;
    let mut config = ClipConfig {
        format: 1,
        name: name.into(),
        architecture: "trapdoor".into(),
        dimensions: 3,
        image: ImageConfig {
            size: 8,
            mean: [0.5; 3],
            std: [0.5; 3],
            resize: ResizeMode::Pad,
            interpolation: Interpolation::Bicubic,
            exif_orientation: false,
        },
        text: TextConfig {
            context_length: 77,
            vocab_size: 49_408,
            tokenizer: TokenizerKind::Clip,
            tokens: None,
        },
        logit_scale: 100.0,
        logit_bias: None,
        towers: None,
        mean_text_embedding: None,
        precision: Precision::Fp32,
        files: Default::default(),
    };
    config.write(directory, &[IMAGE_FILE, TEXT_FILE])?;
    Ok(())
}

/// pixels f32 [N, 3, 8, 8] to their means plus one, f32 [N, 3].
fn image_tower() -> Vec<u8> {
    let one = [number(1, 1), number(2, FLOAT), text(8, "one"), bytes(9, &1f32.to_le_bytes())];
    let graph = [
        node("ReduceMean", &["pixels"], &["mean"], &[ints("axes", &[2, 3]), int("keepdims", 0)]),
        node("Add", &["mean", "one"], &["embedding"], &[]),
        text(2, "image"),
        bytes(5, &one.concat()),
        value(11, "pixels", FLOAT, &[None, Some(3), Some(8), Some(8)]),
        value(12, "embedding", FLOAT, &[None, Some(3)]),
    ];
    model(&graph)
}

/// tokens i64 [N, L] to f32 [N, 3], the same for all; for ever where a token is `trap`, or always
/// in so many rounds.
fn text_tower(trap: i64, rounds: Option<i64>) -> Vec<u8> {
    let body = [
        node("Identity", &["going"], &["going_on"], &[]),
        node("Identity", &["carried"], &["carried_on"], &[]),
        text(2, "body"),
        value(11, "round", INT64, &[]),
        value(11, "going", BOOL, &[]),
        value(11, "carried", FLOAT, &[None, Some(3)]),
        value(12, "going_on", BOOL, &[]),
        value(12, "carried_on", FLOAT, &[None, Some(3)]),
    ];
    let body = [text(1, "body"), bytes(6, &body.concat()), number(20, 5)];
    let trap = [number(1, 1), number(2, INT64), text(8, "trap"), bytes(9, &trap.to_le_bytes())];
    let limit = rounds.unwrap_or(i64::MAX).to_le_bytes();
    let limit = [number(2, INT64), text(8, "limit"), bytes(9, &limit)];
    let condition = if rounds.is_some() { "" } else { "caught" };
    let to = |element| int("to", element as i64);
    let flat = int("keepdims", 0);
    let graph = [
        node("Equal", &["tokens", "trap"], &["equal"], &[]),
        node("Cast", &["equal"], &["hits"], &[to(INT64)]),
        node("ReduceMax", &["hits"], &["hit"], &[flat]),
        node("Cast", &["hit"], &["caught"], &[to(BOOL)]),
        node("Cast", &["tokens"], &["numbers"], &[to(FLOAT)]),
        node("ReduceMax", &["numbers"], &["largest"], &[ints("axes", &[1]), int("keepdims", 1)]),
        node("Concat", &["largest"; 3], &["three"], &[int("axis", 1)]),
        node("Loop", &["limit", condition, "three"], &["embedding"], &[bytes(5, &body.concat())]),
        text(2, "text"),
        bytes(5, &trap.concat()),
        bytes(5, &limit.concat()),
        value(11, "tokens", INT64, &[None, None]),
        value(12, "embedding", FLOAT, &[None, Some(3)]),
    ];
    model(&graph)
}

fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    let opset = [text(1, ""), number(2, 13)];
    [number(1, 8), bytes(7, &graph.concat()), bytes(8, &opset.concat())].concat()
}

fn node(kind: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs = inputs.iter().map(|name| text(1, name));
    let outputs = outputs.iter().map(|name| text(2, name));
    let parts = inputs.chain(outputs).chain([text(4, kind)]).chain(attributes.iter().cloned());
    bytes(1, &parts.collect::<Vec<_>>().concat())
}

fn int(name: &str, value: i64) -> Vec<u8> {
    bytes(5, &[text(1, name), number(3, value as u64), number(20, 2)].concat())
}

fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|&value| number(8, value)).collect();
    bytes(5, &[text(1, name), values, number(20, 7)].concat())
}

/// An input or output; `None` is a length that is free.
fn value(field: u64, name: &str, element: u64, shape: &[Option<u64>]) -> Vec<u8> {
    let dimension = |(at, length): (usize, &Option<u64>)| match length {
        Some(length) => bytes(1, &number(1, *length)),
        None => bytes(1, &text(2, &format!("free_{at}"))),
    };
    let shape: Vec<u8> = shape.iter().enumerate().flat_map(dimension).collect();
    let tensor = [number(1, element), bytes(2, &shape)].concat();
    bytes(field, &[text(1, name), bytes(2, &bytes(1, &tensor))].concat())
}

fn text(field: u64, text: &str) -> Vec<u8> {
    bytes(field, text.as_bytes())
}

/// A field of wire type 2: length and bytes.
fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field of wire type 0: a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
