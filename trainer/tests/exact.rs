//! Held to open_clip's own numbers: embeddings of each architecture, through the trainer and
//! through ONNX Runtime, and twenty steps of training (`golden/make.py` made the files).

#[path = "common/seeded.rs"]
mod seeded;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::Parser;
use ort::environment::Environment;
use ort::session::Session;
use pgclip_train::config::{CONFIG_FILE, Config};
use pgclip_train::encode::{picture_tensor, rectangle};
use pgclip_train::learn::{LearnArgs, Learner};
use pgclip_train::model::{Clip, Precision};
use pgclip_train::params::Params;
use pgclip_train::{architectures, schedule};
use tch::{Device, Kind, Tensor, no_grad};

const FAMILY: [&str; 11] = [
    "ViT-B-32",
    "ViT-B-32-quickgelu",
    "ViT-B-16",
    "ViT-B-16-quickgelu",
    "ViT-L-14",
    "ViT-L-14-quickgelu",
    "ViT-H-14",
    "ViT-H-14-quickgelu",
    "ViT-g-14",
    "ViT-bigG-14",
    "ViT-bigG-14-quickgelu",
];
const FULL: &str = "ViT-B-32 at full size";
const PICTURES: usize = 6;
/// The learning rate of the golden training: high enough that every option shows within twenty
/// steps, low enough that rounding does not grow beyond what is allowed.
const RATE: f64 = 4e-4;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    Tensor::read_safetensors(golden(name)).unwrap().into_iter().collect()
}

/// The configuration that open_clip was given, read as any other.
fn config(name: &str) -> Config {
    let text = std::fs::read_to_string(golden("models.json")).unwrap();
    let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CONFIG_FILE);
    std::fs::write(&path, all[name].to_string()).unwrap();
    Config::read(&path).unwrap()
}

fn seeded_params(config: &Config) -> Params {
    let mut params = Params::init(&config.model_cfg, None, 0, Device::Cpu).unwrap();
    seeded::fill(&mut params);
    params
}

/// A folder with a model's weights and description, and the model exported from them.
fn exported(config: &Config, params: &Params) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("open_clip_model.safetensors");
    params.save(&weights).unwrap();
    let text = serde_json::to_string(config).unwrap();
    std::fs::write(folder.path().join(CONFIG_FILE), text).unwrap();
    let options = pgclip_export::Options::default();
    pgclip_export::export(&weights, None, &options, &folder.path().join("model")).unwrap();
    folder
}

static ENVIRONMENT: LazyLock<Environment> =
    LazyLock::new(|| ort::init_from(onnxruntime()).unwrap().build().unwrap());

fn onnx(path: &Path, name: &str, input: ort::value::DynValue) -> Tensor {
    let builder = Session::builder(&ENVIRONMENT).unwrap().with_intra_threads(1).unwrap();
    let mut session = { builder }.commit_from_file(path).unwrap();
    let outputs = session.run(ort::inputs![name => input]).unwrap();
    let (shape, values) = outputs["embedding"].try_extract_tensor::<f32>().unwrap();
    Tensor::from_slice(values).view([shape[0], shape[1]])
}

fn onnxruntime() -> PathBuf {
    if let Some(path) = std::env::var_os("PGCLIP_ONNXRUNTIME") {
        return path.into();
    }
    let fetched =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/deps/onnxruntime/onnxruntime/capi");
    let files = std::fs::read_dir(fetched).into_iter().flatten().flatten();
    files
        .map(|file| file.path())
        .find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
        .expect("no ONNX Runtime: run `make deps`, or name the library in PGCLIP_ONNXRUNTIME")
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let mut values = vec![0f32; tensor.numel()];
    tensor.contiguous().copy_data(&mut values, tensor.numel());
    values
}

fn agrees(name: &str, expected: &BTreeMap<String, Tensor>) {
    LazyLock::force(&ENVIRONMENT); // before the first of its tensors
    let config = config(name);
    let params = seeded_params(&config);
    let model = Clip::new(&config, &params, Precision::Fp32);
    let size = config.model_cfg.vision_cfg.image_size as usize;
    let bytes = seeded::pictures("forward", PICTURES, size);
    let texts = seeded::texts("forward", PICTURES, 77, 49_406, 49_407);
    let (image, text) = no_grad(|| {
        let (rows, ends) = rectangle(&texts, Device::Cpu);
        let pictures = picture_tensor(&bytes, size, Device::Cpu);
        (model.encode_bytes(&pictures), model.encode_rows(&rows, &ends))
    });
    let folder = exported(&config, &params);
    let preprocess = &config.preprocess_cfg;
    let colour = |v: [f32; 3]| Tensor::from_slice(&v).view([1, 3, 1, 1]);
    let pixels = picture_tensor(&bytes, size, Device::Cpu).permute([0, 3, 1, 2]);
    let pixels = pixels.to_kind(Kind::Float) / 255.0;
    let pixels = (pixels - colour(preprocess.mean)) / colour(preprocess.std);
    let shape = [PICTURES, 3, size, size];
    let pixels = ort::value::Tensor::from_array((shape, floats(&pixels))).unwrap().into_dyn();
    let onnx_image = onnx(&folder.path().join("model/image.onnx"), "pixels", pixels);
    let padded: Vec<i64> = texts
        .iter()
        .flat_map(|text| text.iter().copied().chain(std::iter::repeat_n(0, 77 - text.len())))
        .collect();
    let tokens = ort::value::Tensor::from_array(([PICTURES, 77], padded)).unwrap().into_dyn();
    let onnx_text = onnx(&folder.path().join("model/text.onnx"), "tokens", tokens);
    for (through, kind, found) in [
        ("the trainer", "image", &image),
        ("the trainer", "text", &text),
        ("ONNX Runtime", "image", &onnx_image),
        ("ONNX Runtime", "text", &onnx_text),
    ] {
        let cosine = seeded::least_cosine(found, &expected[&format!("{name}.{kind}")]);
        println!("{name}, {kind}s through {through}: least cosine {cosine:.8}");
        assert!(cosine >= 0.9999, "{name}, {kind}s through {through}: {cosine}");
    }
}

#[test]
fn each_architecture_shrunk_agrees_with_open_clip() {
    let expected = tensors("forward.safetensors");
    for name in FAMILY {
        agrees(name, &expected);
    }
}

#[test]
fn vit_b_32_at_full_size_agrees_with_open_clip() {
    agrees(FULL, &tensors("forward.safetensors"));
}

/// The table of names says what open_clip's files say: what `shrink` leaves alone must be equal.
#[test]
fn names_mean_open_clips_configurations() {
    for name in FAMILY {
        let (ours, theirs) = (architectures::named(name).unwrap(), config(name));
        let (ours, theirs) = (ours.model_cfg, theirs.model_cfg);
        assert_eq!(ours.quick_gelu, theirs.quick_gelu, "{name}");
        let (v, w) = (&ours.vision_cfg, &theirs.vision_cfg);
        assert_eq!((v.patch_size, v.head_width), (w.patch_size, w.head_width), "{name}");
        let width = w.width as f64;
        assert_eq!((width * v.mlp_ratio) as i64, w.mlp_width(), "{name}");
        let (t, u) = (&ours.text_cfg, &theirs.text_cfg);
        assert_eq!((t.context_length, t.vocab_size), (u.context_length, u.vocab_size), "{name}");
        assert_eq!(t.width / t.heads, u.width / u.heads, "{name}");
    }
    let full = architectures::named("ViT-B-32").unwrap();
    assert_eq!(full.model_cfg, config(FULL).model_cfg);
}

#[derive(Parser)]
#[command(args_override_self = true)]
struct Line {
    #[command(flatten)]
    learn: LearnArgs,
}

fn options(more: &str) -> LearnArgs {
    let common = "test --precision fp32 --wd 1 ";
    Line::try_parse_from((common.to_owned() + more).split_whitespace()).unwrap().learn
}

fn learner(options: &LearnArgs) -> Learner {
    let config = config("trained");
    let params = seeded_params(&config);
    Learner::new(config, params, options, 0)
}

/// Twenty steps with open_clip's data, order and settings, and the gradients of the first.
fn trains(recipe: &str, more: &str) {
    let expected = tensors("train.safetensors");
    let options = options(more);
    let mut learner = learner(&options);
    let gradients = learner.gradients(&seeded::batch(0, 16, 32), 0).unwrap().tensors;
    let names: Vec<&str> = learner.params.trained().map(|(name, _)| name).collect();
    let prefix = format!("{recipe}.gradient.");
    let theirs: Vec<&str> =
        expected.keys().filter_map(|name| name.strip_prefix(prefix.as_str())).collect();
    assert_eq!(names, theirs, "{recipe}: the trained parameters");
    let mut least = 1f64;
    for (name, gradient) in names.iter().zip(&gradients) {
        let theirs = expected[&format!("{prefix}{name}")].view([1, -1]);
        let cosine = seeded::least_cosine(&gradient.contiguous().view([1, -1]), &theirs);
        assert!(cosine >= 0.9999, "{recipe}: the gradient of {name}: cosine {cosine}");
        least = least.min(cosine);
    }
    let worst = deviation(&mut learner, &expected[&format!("{recipe}.losses")]);
    println!("{recipe}: least cosine of a gradient {least:.7}, losses within {worst:.1e}");
    assert!(worst < 1e-4, "{recipe}: a loss is off by {worst}");
}

/// Trains, and gives the largest relative difference of a step's loss from open_clip's.
fn deviation(learner: &mut Learner, losses: &Tensor) -> f64 {
    let steps = losses.numel();
    let off = (0..steps).map(|step| {
        let rate = schedule::cosine(step as u64, RATE, 5, steps as u64);
        let stats = learner.step(&seeded::batch(step, 16, 32), step as u64, rate).unwrap();
        (stats.loss.double_value(&[]) / losses.double_value(&[step as i64]) - 1.0).abs()
    });
    off.fold(0.0, f64::max)
}

/// What would be overlooked proves nothing: an option left out or wrong is beyond the bound.
#[test]
fn every_option_shows_in_the_losses() {
    let expected = tensors("train.safetensors");
    for (recipe, more) in [
        ("plain", "--wd 0.5"),
        ("plain", "--beta1 0.85"),
        ("plain", "--beta2 0.95"),
        ("plain", "--grad-clip-norm 0.5"),
        ("plain", "--layer-decay 0.9"),
        ("plain", "--force-patch-dropout 0.25"),
        ("plain", "--lock-image --lock-image-unlocked-groups 4"),
        ("clipped", "--grad-clip-norm 2"),
        ("locked_image", "--lock-image --lock-image-unlocked-groups 1"),
        ("locked_text", "--lock-text --lock-text-unlocked-layers 2"),
    ] {
        let off = deviation(&mut learner(&options(more)), &expected[&format!("{recipe}.losses")]);
        assert!(off > 1e-4, "{recipe} with {more} is off by {off} only");
    }
}

#[test]
fn plain_training_agrees_with_open_clip() {
    trains("plain", "");
}

#[test]
fn accumulation_agrees_with_open_clip() {
    trains("accumulated", "--accum-freq 4");
}

#[test]
fn clipping_agrees_with_open_clip() {
    trains("clipped", "--grad-clip-norm 0.5");
}

#[test]
fn a_locked_image_tower_agrees_with_open_clip() {
    trains("locked_image", "--lock-image --lock-image-unlocked-groups 2");
}

#[test]
fn a_locked_text_tower_agrees_with_open_clip() {
    trains("locked_text", "--lock-text --lock-text-unlocked-layers 1");
}

#[test]
fn checkpointing_changes_nothing() {
    trains("plain", "--grad-checkpointing");
    trains("accumulated", "--accum-freq 4 --grad-checkpointing");
    trains("locked_image", "--lock-image --lock-image-unlocked-groups 2 --grad-checkpointing");
}
