//! `encode_image` and `encode_text` against open_clip itself: a model of open_clip's, converted and
//! registered, must give in SQL the embeddings that open_clip gave.
//!
//! The model and its embeddings are those of `crates/export/tests/golden`, the pictures and texts
//! those of `crates/clip/tests/golden`; `make.py` in either folder tells how they were made.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pgclip_cluster::Cluster;
use pgclip_tests::convert::convert;
use pgclip_tests::{file, start, value};
use postgres::Client;
use safetensors::SafeTensors;

/// The pictures whose embeddings are known, in the order of the file: cropped, then padded.
const PICTURES: [&str; 14] = [
    "base.jpg",
    "grey.jpg",
    "grey.png",
    "progressive.jpg",
    "s0_64x64.png",
    "s1_65x64.png",
    "s2_200x100.png",
    "s3_101x333.png",
    "s4_640x480.png",
    "s5_1x1.png",
    "s6_3x700.png",
    "s7_48x31.png",
    "s8_224x225.png",
    "s9_1000x37.png",
];

/// Converts the model where the server can read it, and registers it under the mode's name.
fn register(cluster: &Cluster, client: &mut Client, resize: &str) -> Result<()> {
    let options = ["--resize", resize, "--exif-orientation", "off"];
    convert(cluster, client, "crates/export/tests/golden/erf_gelu", resize, &options)
}

/// One of the expected matrices, row by row.
fn expected(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<Vec<f32>>> {
    let tensor = tensors.tensor(name)?;
    let width = *tensor.shape().last().context("no shape")?;
    let values: Vec<f32> =
        tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
}

/// Cosine similarity of what `query` gives and an embedding of open_clip's.
fn cosine(
    client: &mut Client,
    query: &str,
    input: &(dyn postgres::types::ToSql + Sync),
    expected: &[f32],
) -> Result<f64> {
    let statement = format!("SELECT 1 - ({query} <=> $2::real[]::embedding)");
    Ok(client.query_one(&statement, &[input, &expected])?.get(0))
}

#[test]
fn sql_gives_open_clips_embeddings() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("golden"))?;
    register(&cluster, &mut client, "crop")?;
    register(&cluster, &mut client, "pad")?;
    let bytes = fs::read(file("crates/export/tests/golden/erf_gelu/expected.safetensors"))?;
    let tensors = SafeTensors::deserialize(&bytes)?;

    let images = expected(&tensors, "image")?;
    assert_eq!(images.len(), 2 * PICTURES.len());
    let modes = ["crop", "pad"].into_iter().flat_map(|mode| PICTURES.map(|name| (mode, name)));
    for ((mode, name), expected) in modes.zip(&images) {
        let picture = fs::read(file("crates/clip/tests/golden/images").join(name))?;
        let query = format!("encode_image($1, '{mode}')");
        let cosine = cosine(&mut client, &query, &picture, expected)?;
        // Decoders of JPEG round in their own ways.
        let least =
            if Path::new(name).extension().is_some_and(|e| e == "jpg") { 0.999 } else { 0.9999 };
        assert!(cosine >= least, "{mode} {name}: cosine {cosine}");
    }

    let texts = fs::read_to_string(file("crates/clip/tests/golden/tokens.jsonl"))?;
    for (line, expected) in texts.lines().zip(expected(&tensors, "text")?) {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let text = line["text"].as_str().context("no text")?;
        let cosine = cosine(&mut client, "encode_text($1, 'crop')", &text, &expected)?;
        assert!(cosine >= 0.9999, "{text:?}: cosine {cosine}");
    }
    Ok(())
}

#[test]
fn a_model_that_changed_on_disk_is_refused() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("changed"))?;
    register(&cluster, &mut client, "crop")?;
    assert!(value::<bool>(&mut client, "SELECT dims(encode_text('a bus', 'crop')) > 0")?);
    let text = cluster.data().with_file_name("model-crop").join("text.onnx");
    let mut bytes = fs::read(&text)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&text, bytes)?;
    cluster.restart()?;
    let mut client = cluster.connect()?;
    let error =
        client.batch_execute("SELECT encode_text('a bus', 'crop')").err().context("no error")?;
    let state = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
    assert_eq!(state, "55000", "{error:?}");
    Ok(())
}
