//! The forward pass against what open_clip computed with the same weights.
//!
//! The files are the exporter's (`crates/export/tests/golden/make.py` and `archives.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pgclip_train::config::{CONFIG_FILE, Config};
use pgclip_train::model::{Clip, Precision};
use pgclip_train::params::Params;
use tch::{Device, Kind, Tensor, no_grad};

struct Golden {
    config: Config,
    params: Params,
    expected: BTreeMap<String, Tensor>,
}

fn golden(name: &str) -> Golden {
    golden_of(name, "open_clip_model.safetensors")
}

fn golden_of(name: &str, weights: &str) -> Golden {
    let folder: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/export/tests/golden").join(name);
    let config = Config::read(&folder.join(CONFIG_FILE)).unwrap();
    let params = Params::load(&folder.join(weights), &config.model_cfg, Device::Cpu).unwrap();
    let expected = Tensor::read_safetensors(folder.join("expected.safetensors")).unwrap();
    Golden { config, params, expected: expected.into_iter().collect() }
}

fn least_cosine(found: &Tensor, expected: &Tensor) -> f64 {
    let expected = expected / expected.norm_scalaropt_dim(2, [1i64], true);
    (found * expected).sum_dim_intlist(&[1i64][..], false, Kind::Float).min().double_value(&[])
}

/// Token ids as rows of the token table.
fn mapped(tokens: &Tensor, table: Option<&[i32]>) -> Tensor {
    match table {
        Some(table) => Tensor::from_slice(table)
            .to_kind(Kind::Int64)
            .index_select(0, &tokens.flatten(0, 1))
            .view_as(tokens),
        None => tokens.shallow_clone(),
    }
}

fn agrees(name: &str, precision: Precision, least: f64) {
    holds(name, &golden(name), precision, least);
}

/// The least cosines of pictures and of texts.
fn cosines(golden: &Golden, precision: Precision) -> (f64, f64) {
    let Golden { config, params, expected } = golden;
    let model = Clip::new(config, params, precision);
    no_grad(|| {
        let pictures = expected["pixels"].permute([0, 2, 3, 1]); // 8-bit, [N, S, S, 3]
        let image = least_cosine(&model.encode_bytes(&pictures), &expected["image"]);
        let tokens = &expected["tokens"];
        let rows = mapped(tokens, params.token_rows.as_deref());
        let text = model.encode_rows(&rows, &tokens.argmax(1, false));
        (image, least_cosine(&text, &expected["text"]))
    })
}

fn holds(name: &str, golden: &Golden, precision: Precision, least: f64) {
    let (image, text) = cosines(golden, precision);
    assert!(image >= least && text >= least, "{name}: pictures {image}, texts {text}");
    let Golden { config, params, expected } = golden;
    let model = Clip::new(config, params, precision);
    no_grad(|| {
        // What follows the longest end-of-text token may be cut off.
        let tokens = &expected["tokens"];
        let ends = tokens.argmax(1, false);
        let rows = mapped(tokens, params.token_rows.as_deref());
        let longest = i64::try_from(ends.max()).unwrap() + 1;
        let cut = model.encode_rows(&rows.narrow(1, 0, longest), &ends);
        assert!(least_cosine(&cut, &expected["text"]) >= least, "{name}: cut texts");
    });
    let scale = model.logit_scale.exp().double_value(&[]);
    let wanted = f64::try_from(expected["logit_scale"].reshape([-1]).get(0)).unwrap();
    assert!((scale / wanted - 1.0).abs() < 1e-5, "{name}: scale {scale}, not {wanted}");
}

#[test]
fn erf_gelu_agrees_with_open_clip() {
    agrees("erf_gelu", Precision::Fp32, 0.9999);
}

#[test]
fn quick_gelu_and_a_separate_text_tower_agree_with_open_clip() {
    agrees("open_clip", Precision::Fp32, 0.9999);
}

/// That golden model has QuickGELU in one tower and GELU in the other, which open_clip cannot
/// describe: each tower is held to its own.
#[test]
fn hugging_faces_naming_and_description_are_read() {
    for weights in ["model.safetensors", "pytorch_model.bin"] {
        for (activation, kind) in [("quick_gelu", "image"), ("gelu", "text")] {
            let golden = hugging_face(activation, weights);
            let (image, text) = cosines(&golden, Precision::Fp32);
            let cosine = if kind == "image" { image } else { text };
            assert!(cosine >= 0.9999, "{weights}: cosine of the {kind}s {cosine}");
        }
    }
}

fn hugging_face(activation: &str, weights: &str) -> Golden {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/export/tests/golden/hugging_face");
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "preprocessor_config.json"] {
        let text = std::fs::read_to_string(golden.join(name)).unwrap();
        let wanted = format!("\"hidden_act\": \"{activation}\"");
        let text = text.replace("\"hidden_act\": \"gelu\"", &wanted);
        let text = text.replace("\"hidden_act\": \"quick_gelu\"", &wanted);
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let config = Config::read(&folder.path().join("config.json")).unwrap();
    let params = Params::load(&golden.join(weights), &config.model_cfg, Device::Cpu).unwrap();
    let expected = Tensor::read_safetensors(golden.join("expected.safetensors")).unwrap();
    Golden { config, params, expected: expected.into_iter().collect() }
}

#[test]
fn towers_of_different_activations_are_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/export/tests/golden");
    let error = Config::read(&folder.join("hugging_face/config.json")).unwrap_err();
    assert!(format!("{error:#}").contains("different activations"), "{error:#}");
}

#[test]
fn a_checkpoint_of_open_clips_training_is_read() {
    let golden = golden_of("open_clip", "epoch_1.pt");
    holds("epoch_1.pt", &golden, Precision::Fp32, 0.9999);
}

#[test]
fn all_that_does_not_fit_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/export/tests/golden");
    let mut config = hugging_face("gelu", "model.safetensors").config;
    config.model_cfg.vision_cfg.layers = 2; // the weights have 3
    config.model_cfg.text_cfg.layers = 3; // and 2
    let weights = folder.join("hugging_face/model.safetensors");
    let error = Params::load(&weights, &config.model_cfg, Device::Cpu).unwrap_err();
    let text = format!("{error:#}");
    for line in [
        "missing: text_model.encoder.layers.2.layer_norm1.bias",
        "missing: text_model.encoder.layers.2.self_attn.q_proj.weight",
        "unknown: vision_model.encoder.layers.2.mlp.fc2.weight",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn bf16_agrees_roughly() {
    agrees("erf_gelu", Precision::Bf16, 0.995);
}

#[test]
fn a_table_of_token_rows_changes_nothing() {
    let Golden { config, params, expected } = golden("erf_gelu");
    let tokens = &expected["tokens"];
    let used: Vec<i64> = {
        let flat = tokens.flatten(0, 1);
        let mut ids = vec![0i64; flat.numel()];
        flat.copy_data(&mut ids, flat.numel());
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let vocabulary = config.model_cfg.text_cfg.vocab_size as usize;
    let table = pgclip_train::tokens::token_rows(std::slice::from_ref(&used), vocabulary);

    // The same model with a table of the used tokens' embeddings, row 0 in front.
    let full = params.get("token_embedding.weight").detach();
    let rows = full.index_select(0, &Tensor::from_slice(&used));
    let zero = Tensor::zeros([1, rows.size()[1]], (Kind::Float, Device::Cpu));
    let mut tensors: BTreeMap<String, Tensor> =
        params.tensors.keys().map(|name| (name.clone(), params.get(name))).collect();
    tensors.insert("token_embedding.weight".into(), Tensor::cat(&[zero, rows], 0));
    let compact = Params { tensors, token_rows: Some(table.clone()) };

    // It survives a file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compact.safetensors");
    compact.save(&path).unwrap();
    let compact = Params::load(&path, &config.model_cfg, Device::Cpu).unwrap();
    assert_eq!(compact.token_rows.as_deref(), Some(&table[..]));

    let model = Clip::new(&config, &compact, Precision::Fp32);
    let rows = mapped(tokens, Some(&table));
    no_grad(|| {
        let found = model.encode_rows(&rows, &tokens.argmax(1, false));
        assert!(least_cosine(&found, &expected["text"]) >= 0.9999);
    });
}

#[test]
fn weights_of_another_shape_are_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/export/tests/golden");
    let mut config = Config::read(&folder.join("erf_gelu").join(CONFIG_FILE)).unwrap();
    config.model_cfg.text_cfg.width = 64;
    let weights = folder.join("erf_gelu/open_clip_model.safetensors");
    let error = Params::load(&weights, &config.model_cfg, Device::Cpu).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("wrong shape: positional_embedding") && text.contains("erf_gelu"),
        "{text}"
    );
}

/// Published weights are exported as checkpoints are, and ONNX Runtime agrees (the command fails
/// where it does not).
#[test]
fn published_weights_are_exported_and_checked() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/export/tests/golden");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let run = |weights: &str, more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pgclip-train"))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .args(["export", golden.join(weights).to_str().unwrap(), out.to_str().unwrap()])
            .args(["--name", "test", "--overwrite"])
            .args(more)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    for (weights, more) in [
        ("open_clip/epoch_1.pt", &["--precision", "fp32"][..]),
        ("open_clip", &["--precision", "fp16"][..]),
    ] {
        let (success, text) = run(weights, more);
        assert!(success && text.contains("cosine of pictures "), "{weights}: {text}");
    }
    let (success, text) = run("open_clip/epoch_1.pt", &["--model", "ViT-B-32"]);
    assert!(!success && text.contains("weights and architecture do not fit"), "{text}");
    let (success, text) = run("make.py", &[]);
    assert!(!success && text.contains("make.py"), "{text}");
}
