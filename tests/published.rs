//! Models in folders as they are published, from the folder to a search in SQL: the embeddings are
//! those of the library that the model is from, and what a model brings beside its graphs (its
//! tokeniser, its bias, its texts' direction) has its effect.
//!
//! The folders and what is expected of them are those of `crates/encoder/tests/published`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::{file, start, value};
use postgres::Client;
use serde_json::Value;

const FOLDERS: &str = "crates/encoder/tests/published";

/// Copies a published folder to where the cluster's account can read it, converts it, and registers
/// it under the folder's name. Returns what is expected of it.
fn register(cluster: &Cluster, client: &mut Client, name: &str) -> Result<Value> {
    let source = cluster.data().with_file_name(format!("published-{name}"));
    copy(&file(FOLDERS).join(name), &source)?;
    let directory = cluster.data().with_file_name(format!("model-{name}"));
    let expected: Value = serde_json::from_slice(&fs::read(source.join("expected.json"))?)?;
    let options = expected["convert"].as_array().context("no options")?;
    let converted = cluster
        .account()
        .command(cluster.server().program("pgclip-encoder"))
        // ONNX Runtime is the one that is installed with the extension.
        .env_remove("PGCLIP_ONNXRUNTIME")
        .arg("convert")
        .args([&source, &directory])
        .args(options.iter().filter_map(Value::as_str))
        .output()?;
    ensure!(
        converted.status.success(),
        "pgclip-encoder convert: {}",
        String::from_utf8_lossy(&converted.stderr)
    );
    let directory = directory.display().to_string();
    client.execute("SELECT clip_register_model($1, $2)", &[&name, &directory])?;
    Ok(expected)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry?.file_name()));
        match from.is_dir() {
            true => copy(&from, &to)?,
            false => _ = fs::copy(from, to)?,
        }
    }
    Ok(())
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).map(|x| x as f32).collect()
}

/// Weights, two graphs, and one graph for both: pictures and texts of each in SQL.
#[test]
fn published_models_are_searched() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("published"))?;
    let texts: Vec<String> = serde_json::from_slice(&fs::read(file(FOLDERS).join("texts.json"))?)?;
    for name in ["siglip_weights", "m_clip", "jina_like"] {
        let expected = register(&cluster, &mut client, name)?;
        for (picture, embedding) in expected["images"].as_object().context("no images")? {
            let bytes = fs::read(file(FOLDERS).join("pictures").join(picture))?;
            let statement = "SELECT 1 - (encode_image($1, $2) <=> $3::real[]::embedding)";
            let cosine: f64 =
                client.query_one(statement, &[&bytes, &name, &floats(embedding)])?.get(0);
            assert!(cosine >= 0.9999, "{name} {picture}: cosine {cosine}");
        }
        for (text, embedding) in texts.iter().zip(expected["texts"].as_array().context("no texts")?)
        {
            let statement = "SELECT 1 - (encode_text($1, $2) <=> $3::real[]::embedding)";
            let cosine: f64 =
                client.query_one(statement, &[text, &name, &floats(embedding)])?.get(0);
            assert!(cosine >= 0.9999, "{name} {text:?}: cosine {cosine}");
        }
    }
    // How items go through is shown.
    let architecture: String =
        value(&mut client, "SELECT architecture FROM clip_models WHERE name = 'm_clip'")?;
    assert!(architecture.contains("Immich"), "{architecture}");
    Ok(())
}

/// A SigLIP judges each label by itself: the fixture's scale and bias are known, and probabilities are
/// those of its sigmoid, which do not add up to 1.
#[test]
fn labels_of_a_siglip_are_judged_one_by_one() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("sigmoid"))?;
    register(&cluster, &mut client, "siglip_weights")?;
    let picture = fs::read(file(FOLDERS).join("pictures/wide.jpg"))?;
    let rows = client.query(
        "WITH e AS (SELECT encode_image($1, 'siglip_weights') AS e)
         SELECT z.probability,
                1 / (1 + exp(-(m.logit_scale * (1 - (e <=> encode_text(label, 'siglip_weights')))
                               + m.logit_bias)))
         FROM e, clip_models AS m,
              zero_shot(e, ARRAY['a red car', 'a cat', 'the sea'], '{}', 'siglip_weights') AS z
         WHERE m.name = 'siglip_weights'",
        &[&picture],
    )?;
    assert_eq!(rows.len(), 3);
    let mut sum = 0.0;
    for row in &rows {
        let (found, expected): (f64, f64) = (row.get(0), row.get(1));
        assert!((found - expected).abs() < 2e-2, "{found} instead of {expected}");
        sum += found;
    }
    assert!((sum - 1.0).abs() > 1e-3, "they add up to {sum}");
    let bias: f32 = value(&mut client, "SELECT logit_bias FROM clip_models WHERE logit_bias < 0")?;
    assert!((bias + 4.5).abs() < 1e-6, "{bias}");
    Ok(())
}

/// A model whose directory does not tell where its texts lie is asked when it is registered.
#[test]
fn the_texts_direction_of_a_registered_model_is_known() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("direction"))?;
    register(&cluster, &mut client, "siglip_weights")?;
    let source = cluster.data().with_file_name("model-siglip_weights");
    let silent = cluster.data().with_file_name("silent");
    copy(&source, &silent)?;
    let path = silent.join("clip.json");
    let mut description: Value = serde_json::from_slice(&fs::read(&path)?)?;
    assert!(description["mean_text_embedding"].is_array());
    description["mean_text_embedding"] = Value::Null;
    fs::write(&path, description.to_string())?;
    client.execute("SELECT clip_register_model('silent', $1)", &[&silent.to_str()])?;
    let same: f64 = value(
        &mut client,
        "SELECT 1 - (a.mean_text_embedding::embedding <=> b.mean_text_embedding::embedding)
         FROM clip_model AS a, clip_model AS b WHERE a.name = 'silent' AND b.name = 'siglip_weights'",
    )?;
    assert!(same > 0.9999, "{same}");
    // It is where texts are, and pictures are not.
    let (text, picture): (f64, f64) = {
        let picture = fs::read(file(FOLDERS).join("pictures/wide.jpg"))?;
        let row = client.query_one(
            "SELECT 1 - (mean_text_embedding::embedding <=> encode_text('two dogs', 'silent')),
                    1 - (mean_text_embedding::embedding <=> encode_image($1, 'silent'))
             FROM clip_model WHERE name = 'silent'",
            &[&picture],
        )?;
        (row.get(0), row.get(1))
    };
    assert!(text > picture, "{text} {picture}");
    Ok(())
}
