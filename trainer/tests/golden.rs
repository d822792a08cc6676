//! The forward pass against what open_clip computed with the same weights.
//!
//! The files are the exporter's (`crates/export/tests/golden/make.py`).

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
    let folder: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/export/tests/golden").join(name);
    let config = Config::read(&folder.join(CONFIG_FILE)).unwrap();
    let weights = folder.join("open_clip_model.safetensors");
    let params = Params::load(&weights, &config.model_cfg, Device::Cpu).unwrap();
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
    let Golden { config, params, expected } = golden(name);
    let model = Clip::new(&config, &params, precision);
    no_grad(|| {
        let pictures = expected["pixels"].permute([0, 2, 3, 1]); // 8-bit, [N, S, S, 3]
        let cosine = least_cosine(&model.encode_bytes(&pictures), &expected["image"]);
        assert!(cosine >= least, "{name}: cosine of a picture {cosine}");

        let tokens = &expected["tokens"];
        let ends = tokens.argmax(1, false);
        let rows = mapped(tokens, params.token_rows.as_deref());
        let cosine = least_cosine(&model.encode_rows(&rows, &ends), &expected["text"]);
        assert!(cosine >= least, "{name}: cosine of a text {cosine}");

        // What follows the longest end-of-text token may be cut off.
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
    assert!(text.contains("has the shape") && text.contains("erf_gelu"), "{text}");
}
