//! Model directories: what is accepted, and what each mistake in one is told.

use std::fs;
use std::path::Path;

use pgclip_clip::model::{
    ClipConfig, FileDigest, ImageConfig, Interpolation, ModelDir, ModelError, Precision,
    ResizeMode, TextConfig, TokenizerKind, is_model_name,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn config() -> ClipConfig {
    ClipConfig {
        format: 1,
        name: "tiny".into(),
        architecture: "nothing much".into(),
        dimensions: 4,
        image: ImageConfig {
            size: 64,
            mean: [0.5; 3],
            std: [0.25; 3],
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
        mean_text_embedding: Some(vec![0.5, -0.5, 0.5, 0.5]),
        precision: Precision::Fp32,
        files: Default::default(),
    }
}

/// A directory with two files that pass for towers.
fn directory() -> (TempDir, FileDigest) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("image.onnx"), b"pixels in").unwrap();
    fs::write(dir.path().join("text.onnx"), b"tokens in").unwrap();
    let digest = config().write(dir.path(), &["image.onnx", "text.onnx"]).unwrap();
    (dir, digest)
}

/// What opening says after `change` was made to clip.json.
fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let (dir, _) = directory();
    let path = dir.path().join("clip.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(&path, json.to_string()).unwrap();
    let message = ModelDir::open(dir.path()).expect_err("this is to be refused").to_string();
    message.replace(path.to_str().unwrap(), "clip.json")
}

#[test]
fn what_was_written_is_read() {
    let (dir, digest) = directory();
    let model = ModelDir::open(dir.path()).unwrap();
    assert_eq!(FileDigest(model.digest), digest);
    assert_eq!(digest, FileDigest::of(&fs::read(dir.path().join("clip.json")).unwrap()));
    assert_eq!(model.config.dimensions, 4);
    assert_eq!(model.read("image.onnx").unwrap(), b"pixels in");
    let mut hashed = 0;
    model.verify(|bytes| hashed += bytes).unwrap();
    assert_eq!(hashed, 18);
    assert!(matches!(model.read("clip.json"), Err(ModelError::NotListed { .. })));
}

#[test]
fn changed_files_are_refused() {
    let (dir, _) = directory();
    let model = ModelDir::open(dir.path()).unwrap();
    fs::write(dir.path().join("text.onnx"), b"tokens in?").unwrap();
    assert!(matches!(model.read("text.onnx"), Err(ModelError::Digest { .. })));
    assert!(matches!(model.verify(|_| ()), Err(ModelError::Digest { .. })));
    fs::remove_file(dir.path().join("text.onnx")).unwrap();
    let message = ModelDir::open(dir.path()).unwrap_err().to_string();
    assert!(message.contains("text.onnx") && message.contains("No such file"), "{message}");
}

#[test]
fn links_and_folders_are_refused() {
    let (dir, _) = directory();
    let inside = dir.path().join("image.onnx");
    fs::remove_file(&inside).unwrap();
    std::os::unix::fs::symlink("text.onnx", &inside).unwrap();
    assert!(matches!(ModelDir::open(dir.path()), Err(ModelError::NotAFile { .. })));
    fs::remove_file(&inside).unwrap();
    fs::create_dir(&inside).unwrap();
    assert!(matches!(ModelDir::open(dir.path()), Err(ModelError::NotAFile { .. })));
    assert!(matches!(ModelDir::open(dir.path().join("none")), Err(ModelError::Io { .. })));
}

#[test]
fn messages_name_file_field_and_value() {
    let cases: [(&str, Value, &str); 24] = [
        ("/format", json!(3), "format is 3; it must be from 1 to 2"),
        ("/name", json!("../x"), "name is \"../x\"; letters, digits"),
        ("/dimensions", json!(0), "dimensions is 0; it must be from 1 to 16000"),
        ("/dimensions", json!(16_001), "dimensions is 16001; it must be from 1 to 16000"),
        ("/image/size", json!(5000), "image.size is 5000; it must be from 1 to 4096"),
        ("/image/mean/1", json!(1e39), "image.mean[1] is inf"),
        ("/image/std/2", json!(0), "image.std[2] is 0; it must be greater than 0"),
        ("/image/std/2", json!(1e-40), "image.std[2] is"),
        ("/image/resize", json!("squash"), "image.resize needs format 2; the format is 1"),
        ("/image/interpolation", json!("bilinear"), "image.interpolation needs format 2"),
        ("/text/tokenizer", json!("file"), "text.tokenizer needs format 2"),
        ("/precision", json!("quantized"), "precision needs format 2"),
        ("/image/resize", json!("stretch"), "unknown variant `stretch`"),
        ("/image/interpolation", json!("nearest"), "unknown variant `nearest`"),
        ("/text/context_length", json!(1), "text.context_length is 1; it must be from 2 to 4096"),
        ("/text/vocab_size", json!(49_407), "text.vocab_size is 49407; it must be from 49408"),
        ("/text/tokenizer", json!("t5"), "unknown variant `t5`"),
        ("/logit_scale", json!(-1), "logit_scale is -1; it must be greater than 0"),
        (
            "/mean_text_embedding",
            json!([1]),
            "mean_text_embedding has 1 values, but dimensions is 4",
        ),
        ("/mean_text_embedding/3", json!(1e39), "mean_text_embedding[3] is inf"),
        ("/precision", json!("int8"), "unknown variant `int8`"),
        ("/files", json!({}), "files does not list \"image.onnx\""),
        ("/files/image.onnx", json!("sha256:12"), "\"sha256:12\" is not sha256: and 64"),
        ("/architecture", json!("x".repeat(1001)), "architecture has 1001 bytes"),
    ];
    for (field, value, expected) in cases {
        let message = refusal(|json| *json.pointer_mut(field).unwrap() = value);
        assert!(message.starts_with("\"clip.json\""), "{field}: {message}");
        assert!(message.contains(expected), "{field}: {message}");
    }
    for name in ["../image.data", "a/b", "/etc/passwd", "", ".", ".hidden", "clip.json", "a\nb"] {
        let message = refusal(|json| {
            let digest = json["files"]["image.onnx"].clone();
            json["files"][name] = digest;
        });
        assert!(message.contains("which is not a plain file name"), "{name:?}: {message}");
    }
    let message = refusal(|json| json["prefix"] = json!("a photo of"));
    assert!(message.contains("unknown field `prefix`"), "{message}");
}

/// A description of graphs that were made elsewhere.
fn second_format(json: &mut Value) {
    json["format"] = json!(2);
    json["text"] = json!({
        "context_length": 64, "vocab_size": 32_000, "tokenizer": "file",
        "tokens": {"file": "text.onnx", "clean": ["repair", "lower"], "pad": 1, "padding": "context"},
    });
    let output = json!({"name": "out", "type": "f16", "width": 8});
    json["towers"] = json!({
        "image": {
            "file": "image.onnx", "batch": "one", "output": output,
            "inputs": [{"name": "image", "type": "u8", "holds": "pixels", "layout": "nhwc"}],
        },
        "text": {
            "file": "text.onnx", "batch": "any", "output": output,
            "inputs": [
                {"name": "ids", "type": "i32", "holds": "tokens"},
                {"name": "mask", "type": "i64", "holds": "mask"},
                {"name": "pixels", "type": "f32", "holds": "constant", "shape": [0, 3, 8, 8]},
            ],
        },
    });
    json["logit_bias"] = json!(-10.5);
}

/// Opens a directory of the second format after `change`, or says why not.
fn second(change: impl FnOnce(&mut Value)) -> Result<ModelDir, String> {
    let (dir, _) = directory();
    let path = dir.path().join("clip.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    second_format(&mut json);
    change(&mut json);
    fs::write(&path, json.to_string()).unwrap();
    ModelDir::open(dir.path()).map_err(|e| e.to_string())
}

#[test]
fn the_second_format_describes_any_graph() {
    let model = second(|_| ()).unwrap();
    let again = serde_json::to_vec(&model.config).unwrap();
    assert_eq!(ClipConfig::parse(&again, Path::new("again")).unwrap(), model.config);
    assert_eq!(model.config.text_tower().main().name, "ids");
    for (field, value, expected) in [
        ("/towers/image/file", json!("../image.onnx"), "towers.image.file is \"../image.onnx\""),
        ("/towers/image/file", json!("other.onnx"), "files does not list \"other.onnx\""),
        ("/towers/image/inputs/0/type", json!("i64"), "towers.image.inputs[0].type is i64"),
        ("/towers/image/inputs", json!([]), "towers.image.inputs has 0 entries"),
        (
            "/towers/text/inputs/0/holds",
            json!("mask"),
            "towers.text.inputs has 0 entries that hold",
        ),
        ("/towers/text/inputs/1/holds", json!("tokens"), "towers.text.inputs has 2 entries"),
        ("/towers/text/inputs/2/shape", json!([1 << 20, 1 << 20]), "towers.text.inputs[2].shape"),
        ("/towers/text/inputs/2/shape", json!([-2]), "towers.text.inputs[2].shape"),
        ("/towers/text/output/width", json!(3), "towers.text.output.width is 3"),
        ("/towers/text/output/type", json!("u8"), "towers.text.output.type is u8"),
        ("/text/tokens/pad", json!(32_000), "text.tokens.pad is 32000, but vocab_size is 32000"),
        ("/text/tokens/file", json!("gone.json"), "text.tokens.file is \"gone.json\""),
        ("/text/tokens", json!(null), "text.tokens is missing"),
        ("/text/tokenizer", json!("clip"), "text.tokens is given"),
        ("/logit_bias", json!(1e39), "logit_bias is inf"),
    ] {
        let message = second(|json| *json.pointer_mut(field).unwrap() = value).unwrap_err();
        assert!(message.contains(expected), "{field}: {message}");
    }
}

/// Of the description that [`directory`] writes.
const DIGEST: &str = "sha256:56e5bdc85affd3aa391e96cccf1b6b9d09d6e673c359973cbad168a8155ba7cb";

/// Columns are bound to the digest of `clip.json`: what is written in the first format stays the same
/// to the byte, whatever the second one has words for.
#[test]
fn the_first_format_is_written_as_ever() {
    let builtin =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/pgclip-traffic-tiny/clip.json");
    let bytes = fs::read(&builtin).unwrap();
    let config = ClipConfig::parse(&bytes, &builtin).unwrap();
    let mut written = serde_json::to_vec_pretty(&config).unwrap();
    written.push(b'\n');
    assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(bytes).unwrap());
    let (_, digest) = directory();
    assert_eq!(digest.to_string(), DIGEST);
}

#[test]
fn a_description_is_bounded() {
    let (dir, _) = directory();
    fs::write(dir.path().join("clip.json"), vec![b' '; 5 << 20]).unwrap();
    assert!(matches!(ModelDir::open(dir.path()), Err(ModelError::TooLong { .. })));
}

#[test]
fn model_names() {
    for name in ["a", "ViT-bigG-14.fp16", "0_x", &"x".repeat(63)] {
        assert!(is_model_name(name), "{name}");
    }
    for name in ["", "-x", ".x", "a b", "a/b", "é", "a\0", &"x".repeat(64)] {
        assert!(!is_model_name(name), "{name:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ClipConfig::parse(&bytes, Path::new("clip.json"));
    }

    /// A good description with a piece replaced.
    #[test]
    fn broken_descriptions_are_an_answer(at in any::<prop::sample::Index>(), with in "\\PC{0,6}") {
        let mut json = serde_json::to_string(&config()).unwrap();
        let start = json.floor_char_boundary(at.index(json.len()));
        let end = json.ceil_char_boundary((start + 5).min(json.len()));
        json.replace_range(start..end, &with);
        let _ = ClipConfig::parse(json.as_bytes(), Path::new("clip.json"));
    }
}
