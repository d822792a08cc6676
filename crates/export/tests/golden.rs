//! Exported graphs, run by ONNX Runtime, against what open_clip and transformers computed with the
//! same weights (`golden/make.py`).
//!
//! The library is the one that `PGCLIP_ONNXRUNTIME` names, or the one that `make deps` fetched.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ort::environment::Environment;
use ort::session::Session;
use ort::value::Tensor;
use pgclip_clip::decode::{Limits, decode};
use pgclip_clip::model::ModelDir;
use pgclip_clip::preprocess::Preprocessor;
use pgclip_export::{Architecture, Checkpoint, Options, Precision, Preprocessing, Stated, export};
use safetensors::SafeTensors;

const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// What a library computed: pixels as 8-bit RGB in planes, ids, and embeddings of unit length.
struct Expected {
    pixels: (Vec<u8>, Vec<usize>),
    tokens: (Vec<i64>, Vec<usize>),
    image: Vec<f32>,
    text: Vec<f32>,
    dimensions: usize,
    logit_scale: f32,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn expected(name: &str) -> Expected {
    let bytes = std::fs::read(golden(name).join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |name: &str| {
        let tensor = tensors.tensor(name).unwrap();
        (tensor.data().to_vec(), tensor.shape().to_vec())
    };
    let floats = |name: &str| -> Vec<f32> {
        raw(name).0.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    let (tokens, shape) = raw("tokens");
    Expected {
        pixels: raw("pixels"),
        tokens: (tokens.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect(), shape),
        image: floats("image"),
        text: floats("text"),
        dimensions: raw("image").1[1],
        logit_scale: floats("logit_scale")[0],
    }
}

/// A model directory in a temporary folder, and the sessions of both towers.
struct Exported {
    _folder: tempfile::TempDir,
    model: ModelDir,
    image: Session,
    text: Session,
}

fn exported(name: &str, options: &Options) -> Exported {
    exported_from(&golden(name), options)
}

fn exported_from(weights: &Path, options: &Options) -> Exported {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    export(weights, None, options, &dir).unwrap();
    let model = ModelDir::open(&dir).unwrap();
    model.verify(|_| ()).unwrap();
    let open = |file: &str| session(&dir.join(file));
    let (image, text) = (open("image.onnx"), open("text.onnx"));
    Exported { _folder: folder, model, image, text }
}

fn session(path: &Path) -> Session {
    static ENVIRONMENT: LazyLock<Environment> =
        LazyLock::new(|| ort::init_from(onnxruntime()).unwrap().build().unwrap());
    let builder = Session::builder(&ENVIRONMENT).unwrap().with_intra_threads(1).unwrap();
    { builder }.commit_from_file(path).unwrap()
}

fn onnxruntime() -> PathBuf {
    if let Some(path) = std::env::var_os("PGCLIP_ONNXRUNTIME") {
        return path.into();
    }
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/deps/onnxruntime/onnxruntime/capi");
    let files = std::fs::read_dir(fetched).into_iter().flatten().flatten();
    files
        .map(|file| file.path())
        .find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
        .expect("no ONNX Runtime: run `make deps`, or name the library in PGCLIP_ONNXRUNTIME")
}

fn embeddings(session: &mut Session, input: ort::session::SessionInputs<'_, '_>) -> Vec<f32> {
    let outputs = session.run(input).unwrap();
    outputs["embedding"].try_extract_tensor::<f32>().unwrap().1.to_vec()
}

fn images(session: &mut Session, expected: &Expected) -> Vec<f32> {
    let (pixels, shape) = &expected.pixels;
    let plane = shape[2] * shape[3];
    let normalised: Vec<f32> = pixels
        .iter()
        .enumerate()
        .map(|(at, &pixel)| {
            let channel = at / plane % 3;
            (f32::from(pixel) / 255.0 - MEAN[channel]) / STD[channel]
        })
        .collect();
    let pixels = Tensor::from_array((shape.clone(), normalised)).unwrap();
    embeddings(session, ort::inputs!["pixels" => pixels].into())
}

/// Embeddings of texts of `length` tokens.
fn texts(session: &mut Session, tokens: &[i64], length: usize) -> Vec<f32> {
    let tokens = Tensor::from_array(([tokens.len() / length, length], tokens.to_vec())).unwrap();
    embeddings(session, ort::inputs!["tokens" => tokens].into())
}

/// The smallest cosine of corresponding embeddings; `found` must be of unit length.
fn least_cosine(found: &[f32], expected: &[f32], dimensions: usize) -> f64 {
    assert_eq!(found.len(), expected.len());
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let pairs = found.chunks_exact(dimensions).zip(expected.chunks_exact(dimensions));
    pairs
        .map(|(found, expected)| {
            let length = dot(found, found).sqrt();
            assert!((length - 1.0).abs() < 1e-5, "an embedding has length {length}");
            dot(found, expected) / dot(expected, expected).sqrt()
        })
        .fold(1.0, f64::min)
}

fn agrees(name: &str, precision: Precision, least: f64) {
    let model = exported(name, &Options { precision, ..Options::default() });
    model_agrees(name, model, &format!("{precision:?}"), least);
}

fn model_agrees(name: &str, mut model: Exported, what: &str, least: f64) {
    let expected = expected(name);
    let scale = model.model.config.logit_scale;
    assert!((scale / expected.logit_scale - 1.0).abs() < 1e-5, "logit scale {scale}");
    let length = expected.tokens.1[1];
    let image = images(&mut model.image, &expected);
    let text = texts(&mut model.text, &expected.tokens.0, length);
    let image = least_cosine(&image, &expected.image, expected.dimensions);
    let text = least_cosine(&text, &expected.text, expected.dimensions);
    println!("{name} {what}: least cosine of images {image:.7}, of texts {text:.7}");
    assert!(image >= least && text >= least, "{name}: images {image}, texts {text}");
}

#[test]
fn fp32_agrees_with_the_libraries() {
    for name in ["erf_gelu", "open_clip", "hugging_face"] {
        agrees(name, Precision::Fp32, 0.9999);
    }
}

#[test]
fn fp16_agrees_with_the_libraries() {
    for name in ["erf_gelu", "open_clip", "hugging_face"] {
        agrees(name, Precision::Fp16, 0.999);
        agrees(name, Precision::Fp16Storage, 0.999);
    }
}

/// A batch may be cut to its longest text: what comes after the end has no effect.
#[test]
fn texts_may_be_cut_to_the_longest() {
    let expected = expected("open_clip");
    let mut model = exported("open_clip", &Options::default());
    let (tokens, shape) = &expected.tokens;
    let full = shape[1];
    let short: Vec<&[i64]> =
        tokens.chunks_exact(full).filter(|text| text[20..].iter().all(|&id| id == 0)).collect();
    assert!(short.len() > 5);
    let cut: Vec<i64> = short.iter().flat_map(|text| text[..20].to_vec()).collect();
    let cut = texts(&mut model.text, &cut, 20);
    let whole = texts(&mut model.text, &short.concat(), full);
    let cosine = least_cosine(&cut, &whole, expected.dimensions);
    assert!(cosine > 0.999_999, "{cosine}");
}

/// Large models keep their weights beside the graph: the same embeddings to the bit.
#[test]
fn weights_in_a_second_file_give_the_same_embeddings() {
    let expected = expected("hugging_face");
    let mut inline = exported("hugging_face", &Options::default());
    let options = Options { most_inline_bytes: 1000, ..Options::default() };
    let mut external = exported("hugging_face", &options);
    let names: Vec<&str> = external.model.config.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["image.onnx", "image.onnx.data", "text.onnx", "text.onnx.data"]);
    assert_eq!(images(&mut external.image, &expected), images(&mut inline.image, &expected));
    let (tokens, shape) = &expected.tokens;
    let text = |session: &mut Session| texts(session, tokens, shape[1]);
    assert_eq!(text(&mut external.text), text(&mut inline.text));
}

/// A model directory gives its weights back: exported anew they compute the same, and all that a
/// description would say is known.
#[test]
fn a_model_directory_can_be_exported_again() {
    let beside = Options { most_inline_bytes: 1000, ..Options::default() };
    let halves = Options { precision: Precision::Fp16Storage, ..Options::default() };
    for name in ["erf_gelu", "open_clip", "hugging_face"] {
        let cases =
            [(Options::default(), 0.9999), (beside.clone(), 0.9999), (halves.clone(), 0.999)];
        for (mut options, least) in cases {
            options.mean_text_embedding = Some(vec![0.25; expected(name).dimensions]);
            let first = exported(name, &options);
            let again = exported_from(&first.model.path, &Options::default());
            let (was, is) = (&first.model.config, &again.model.config);
            assert_eq!((&is.architecture, &is.image), (&was.architecture, &was.image));
            assert_eq!((is.dimensions, &is.text), (was.dimensions, &was.text));
            assert_eq!(is.mean_text_embedding, options.mean_text_embedding);
            let found = Checkpoint::open(&first.model.path).unwrap().architecture;
            let weights = Checkpoint::open(&golden(name)).unwrap();
            let mut described = Architecture::find(None, &weights).unwrap();
            described.preprocessing = found.clone().unwrap().preprocessing; // as f32 in JSON
            assert_eq!(found, Some(described));
            model_agrees(name, again, "read back", least);
        }
    }
}

/// A graph of somebody else's has other names; one that was changed has another digest.
#[test]
fn weights_are_read_from_whole_models_of_ours_alone() {
    let model = exported("open_clip", &Options::default());
    let path = model.model.path.join("text.onnx");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|part| part == b"pgclip").unwrap();
    bytes[at] = b'q';
    std::fs::write(&path, bytes).unwrap();
    let message = |dir: &Path| Checkpoint::open(dir).err().unwrap().to_string();
    assert!(message(&model.model.path).contains("text.onnx"), "{}", message(&model.model.path));

    let mut config = model.model.config.clone();
    config.write(&model.model.path, &["image.onnx", "text.onnx"]).unwrap();
    assert!(message(&model.model.path).contains("was not written by pgclip"));
}

/// The description of version 5 of transformers was once overlooked, and OpenAI's mean and deviation
/// taken in its place: cosine 0.9.
#[test]
fn a_picture_is_prepared_as_either_library_describes_it() {
    let described = golden("described");
    let bytes = std::fs::read(described.join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let picture = std::fs::read(described.join("picture.png")).unwrap();
    let picture = decode(&picture, &Limits::default()).unwrap();
    let embedding = |folder: &Path, options: &Options| -> Vec<f32> {
        let Exported { _folder, model, mut image, .. } = exported_from(folder, options);
        let preprocessor = Preprocessor::new(&model.config.image);
        let mut pixels = vec![0.0; 3 * 32 * 32];
        preprocessor.normalise(&preprocessor.run(&picture), &mut pixels);
        let pixels = Tensor::from_array(([1, 3, 32, 32], pixels)).unwrap();
        embeddings(&mut image, ort::inputs!["pixels" => pixels].into())
    };
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("hugging_face").join(file), folder.path().join(file)).unwrap();
    }
    let stated = Stated { preprocessing: Some(Preprocessing::openai()), ..Stated::default() };
    let named = Options { stated, ..Options::default() };
    let assumed = embedding(folder.path(), &named);
    let processor = folder.path().join("processor_config.json");
    std::fs::copy(described.join("processor_config.json"), &processor).unwrap();
    let hugging_face = embedding(folder.path(), &Options::default());

    // The same weights with open_clip's description of them.
    std::fs::remove_file(processor).unwrap();
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let preprocess = std::fs::read(described.join("preprocess_cfg.json")).unwrap();
    let preprocess: serde_json::Value = serde_json::from_slice(&preprocess).unwrap();
    let whole = serde_json::json!({
        "model_cfg": {
            "embed_dim": 20, "quick_gelu": true,
            "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 3, "width": 48,
                           "head_width": 16, "mlp_ratio": 2.0},
            "text_cfg": {"layers": 2, "width": 32, "heads": 2, "mlp_ratio": 1.5},
        },
        "preprocess_cfg": preprocess,
    });
    std::fs::write(folder.path().join("open_clip_config.json"), whole.to_string()).unwrap();
    let open_clip = embedding(folder.path(), &Options::default());
    for (name, found) in [("hugging_face", hugging_face), ("open_clip", open_clip)] {
        let expected = expected.tensor(name).unwrap();
        let expected: Vec<f32> =
            expected.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let cosine = least_cosine(&found, &expected, 20);
        let otherwise = least_cosine(&assumed, &expected, 20);
        println!("{name}: cosine {cosine:.7}, with OpenAI's mean and deviation {otherwise:.3}");
        assert!(cosine > 0.99999 && otherwise < 0.99, "{name}: {cosine}, {otherwise}");
    }
}
