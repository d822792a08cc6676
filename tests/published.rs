//! Models in folders as they are published, from the folder to a search in SQL: the embeddings are
//! those of the library that the model is from, and what a model brings beside its graphs (its
//! tokeniser, its bias, its texts' direction) has its effect.
//!
//! The folders and what is expected of them are those of `crates/encoder/tests/published`.

use std::fs;

use anyhow::{Context, Result};
use pgclip_cluster::Cluster;
use pgclip_tests::convert::{convert, copy_folder};
use pgclip_tests::{file, start, value};
use postgres::Client;
use serde_json::Value;

const FOLDERS: &str = "crates/encoder/tests/published";

/// Converts and registers a published folder under its name. Returns what is expected of it.
fn register(cluster: &Cluster, client: &mut Client, name: &str) -> Result<Value> {
    let folder = format!("{FOLDERS}/{name}");
    let expected: Value = serde_json::from_slice(&fs::read(file(&folder).join("expected.json"))?)?;
    let options = expected["convert"].as_array().context("no options")?;
    let options: Vec<&str> = options.iter().filter_map(Value::as_str).collect();
    convert(cluster, client, &folder, name, &options)?;
    Ok(expected)
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
    copy_folder(&source, &silent)?;
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

/// Searches with an nllb model once were all in the language that it was converted for.
#[test]
fn each_call_has_its_language() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("language"))?;
    let folder = format!("{FOLDERS}/nllb");
    convert(&cluster, &mut client, &folder, "nllb", &[])?;
    convert(&cluster, &mut client, &folder, "german", &["--language", "deu_Latn"])?;
    let mut holds = |condition: &str| -> Result<()> {
        assert!(value::<bool>(&mut client, &format!("SELECT {condition}"))?, "{condition}");
        Ok(())
    };
    let german = "encode_text('ein rotes Auto', 'german')";
    holds(&format!("encode_text('ein rotes Auto', 'nllb', 'deu_Latn') = {german}"))?;
    holds(&format!("encode_text('ein rotes Auto', 'nllb') <> {german}"))?;
    holds(&format!(
        "(encode_texts(ARRAY[NULL, 'ein rotes Auto'], 'nllb', language => 'deu_Latn'))[2] = {german}"
    ))?;
    holds(&format!(
        "clip_query('ein rotes Auto', 'nllb', enhance => false, language => 'deu_Latn') = {german}"
    ))?;
    // A call site keeps its last query, by its language as well.
    holds(
        "count(DISTINCT clip_query('ein rotes Auto', 'nllb', enhance => false, language => l)) = 3
         FROM unnest(ARRAY['deu_Latn', 'rus_Cyrl', 'eng_Latn', 'deu_Latn']) AS l",
    )?;
    client.batch_execute(
        "CREATE TABLE photos (id bigint PRIMARY KEY, embedding embedding);
         INSERT INTO photos SELECT 1, encode_text('ein rotes Auto', 'nllb', 'deu_Latn')",
    )?;
    let score: f32 = value(
        &mut client,
        "SELECT score FROM text_search(NULL::photos, 'ein rotes Auto', model => 'nllb',
                                       enhance => false, language => 'deu_Latn')",
    )?;
    assert!(score > 0.9999, "{score}");
    for (statement, told) in [
        ("SELECT encode_text('x', 'nllb', 'tlh_Latn')", "no language \"tlh_Latn\""),
        ("SELECT encode_text('x', NULL, 'deu_Latn')", "the model has no languages"),
    ] {
        let error = client.batch_execute(statement).err().context("no error")?;
        let error = error.as_db_error().context("no error of the server's")?;
        assert_eq!(error.code().code(), "22023", "{error:?}");
        assert!(error.message().contains(told), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("deu_Latn")), "{error:?}");
    }
    Ok(())
}

/// A model that nobody uses is unloaded after `pgclip.model_idle_timeout`; `clip_status` tells of each its
/// size and last use.
#[test]
fn an_idle_model_is_unloaded() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("idle"))?;
    client.execute("SELECT encode_text('a bus')", &[])?;
    let models: Vec<String> = value(&mut client, "SELECT models FROM clip_status")?;
    let [model] = &models[..] else { panic!("{models:?}") };
    for part in ["pgclip-traffic-tiny on cpu, ", " MB, last used ", " s ago"] {
        assert!(model.contains(part), "{part:?} is not in {model}");
    }
    client.batch_execute("ALTER SYSTEM SET pgclip.model_idle_timeout = '1s'")?;
    client.batch_execute("SELECT pg_reload_conf()")?;
    cluster.wait_for("the new setting", || {
        Ok(value::<String>(&mut client, "SHOW pgclip.model_idle_timeout")? == "1s")
    })?;
    client.execute("SELECT encode_text('a car')", &[])?;
    cluster.wait_for("the model to be unloaded", || {
        value(&mut client, "SELECT pg_catalog.cardinality(models) = 0 FROM clip_status")
    })?;
    client.execute("SELECT encode_text('another car')", &[])?;
    Ok(())
}
