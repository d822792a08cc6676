//! Model directories as a whole: what is in them, where they are put, and what is said about
//! weights that make none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pgclip_clip::model::{ModelDir, ResizeMode};
use pgclip_export::{Architecture, ExportError, Options, Precision, Preprocessing, Stated, export};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

/// A temporary folder with a copy of a golden model in it.
struct Copy {
    folder: tempfile::TempDir,
    weights: PathBuf,
}

impl Copy {
    fn of(name: &str, weights: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        for file in fs::read_dir(golden).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let weights = folder.path().join(weights);
        Self { folder, weights }
    }

    fn hugging_face() -> Self {
        Self::of("hugging_face", "model.safetensors")
    }

    fn export(&self, options: &Options) -> Result<pgclip_export::Summary, ExportError> {
        export(&self.weights, None, options, &self.dir())
    }

    /// The message of an export that must fail and leave nothing behind.
    fn refused(&self) -> String {
        let before = self.listing();
        let error = self.export(&Options::default()).unwrap_err();
        assert_eq!(self.listing(), before, "something was left behind");
        error.to_string()
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("some-clip")
    }

    fn listing(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// Writes the weights anew, after `change`.
    fn change(&self, change: impl FnOnce(&mut Tensors)) {
        let bytes = fs::read(&self.weights).unwrap();
        let mut tensors = Tensors::new();
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let value = (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec());
            tensors.insert(name, value);
        }
        change(&mut tensors);
        fs::write(&self.weights, serialise(&tensors)).unwrap();
    }
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn serialise(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn the_description_says_what_was_exported() {
    let copy = Copy::of("open_clip", "open_clip_model.safetensors");
    let mean: Vec<f32> = (0..24).map(|v| v as f32 / 100.0).collect();
    let options = Options {
        precision: Precision::Fp16,
        resize: Some(ResizeMode::Pad),
        mean_text_embedding: Some(mean.clone()),
        ..Options::default()
    };
    let summary = copy.export(&options).unwrap();
    let model = ModelDir::open(copy.dir()).unwrap();
    model.verify(|_| ()).unwrap();
    assert_eq!(model.config, summary.config);
    assert_eq!(model.digest, summary.digest.0);
    let config = &model.config;
    assert_eq!((config.name.as_str(), config.dimensions), ("some-clip", 24));
    assert_eq!((config.image.size, config.image.resize), (36, ResizeMode::Pad));
    assert_eq!(config.mean_text_embedding, Some(mean));
    assert_eq!(config.architecture, "ViT-40x2-8-36-quickgelu, text 32x3");
    assert!((config.logit_scale - 3.7f32.exp()).abs() < 1e-3);
    assert_eq!(config.precision, pgclip_clip::model::Precision::Fp16);
}

#[test]
fn a_directory_that_exists_is_replaced_only_on_demand_and_only_if_it_is_a_model() {
    let copy = Copy::hugging_face();
    copy.export(&Options::default()).unwrap();
    let first = ModelDir::open(copy.dir()).unwrap().digest;
    assert!(copy.refused().ends_with("exists already"));
    let overwrite = Options { overwrite: true, precision: Precision::Fp16, ..Options::default() };
    copy.export(&overwrite).unwrap();
    assert_ne!(ModelDir::open(copy.dir()).unwrap().digest, first);
    fs::remove_file(copy.dir().join("clip.json")).unwrap();
    let error = copy.export(&overwrite).unwrap_err().to_string();
    assert!(error.contains("is no model directory"), "{error}");
    assert!(copy.dir().join("image.onnx").exists());
}

#[test]
fn the_same_weights_give_the_same_digest() {
    let copy = Copy::hugging_face();
    let first = copy.export(&Options::default()).unwrap().digest;
    let again = Options { overwrite: true, ..Options::default() };
    assert_eq!(copy.export(&again).unwrap().digest, first);
}

#[test]
fn weights_in_several_files_are_found_by_their_index() {
    let whole = Copy::hugging_face();
    let expected = whole.export(&Options::default()).unwrap();
    let parts = Copy::hugging_face();
    let mut second = Tensors::new();
    parts.change(|tensors| second = tensors.split_off("text_projection.weight"));
    fs::rename(&parts.weights, parts.folder.path().join("model-1.safetensors")).unwrap();
    fs::write(parts.folder.path().join("model-2.safetensors"), serialise(&second)).unwrap();
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    fs::write(parts.folder.path().join("model.safetensors.index.json"), index).unwrap();
    let summary = export(parts.folder.path(), None, &Options::default(), &parts.dir()).unwrap();
    assert_eq!(summary.digest, expected.digest);

    let index = r#"{"weight_map": {"a": "../model-1.safetensors"}}"#;
    fs::write(parts.folder.path().join("model.safetensors.index.json"), index).unwrap();
    let elsewhere = parts.folder.path().join("other");
    let error = export(parts.folder.path(), None, &Options::default(), &elsewhere).unwrap_err();
    assert!(error.to_string().contains("no plain file name"), "{error}");
}

#[test]
fn every_tensor_that_does_not_fit_is_listed() {
    let copy = Copy::hugging_face();
    copy.change(|tensors| {
        tensors.remove("vision_model.encoder.layers.2.mlp.fc1.bias").unwrap();
        tensors.remove("logit_scale").unwrap();
        let extra = (Dtype::F32, vec![1], vec![0; 4]);
        tensors.insert("vision_model.encoder.layers.3.layer_norm1.bias".into(), extra.clone());
        tensors.insert("text_model.embeddings.position_ids".into(), extra);
        let positions = "text_model.embeddings.position_embedding.weight";
        let (_, shape, data) = tensors.get_mut(positions).unwrap();
        shape[0] -= 1;
        data.truncate(shape[0] * shape[1] * 2);
    });
    let message = copy.refused();
    let mut lines: Vec<&str> = message.lines().map(str::trim).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "missing: logit_scale [1]",
            "missing: vision_model.encoder.layers.2.mlp.fc1.bias [96]",
            "unknown: vision_model.encoder.layers.3.layer_norm1.bias",
            "weights and architecture do not fit:",
            "wrong shape: text_model.embeddings.position_embedding.weight is [76, 32], expected \
             [77, 32]",
        ]
    );
}

#[test]
fn files_that_are_no_weights_are_named() {
    let copy = Copy::hugging_face();
    let whole = fs::read(&copy.weights).unwrap();
    for length in [0, 7, 8, 100, 20_000, whole.len() - 1] {
        fs::write(&copy.weights, &whole[..length]).unwrap();
        let message = copy.refused();
        assert!(message.contains("is not a complete safetensors file"), "{length}: {message}");
        assert!(message.contains("model.safetensors"), "{length}: {message}");
    }
    fs::write(&copy.weights, vec![0xAB; 5000]).unwrap();
    assert!(copy.refused().contains("is not a complete safetensors file"));
    copy.change_to(&[("conv1.weight", Dtype::F32, &[2])]);
    assert!(copy.refused().contains("holds no CLIP"));
    fs::remove_file(&copy.weights).unwrap();
    assert!(copy.refused().starts_with("cannot read"));
}

impl Copy {
    /// Writes zeros of these names and shapes as the weights.
    fn change_to(&self, tensors: &[(&str, Dtype, &[usize])]) {
        let tensors = tensors
            .iter()
            .map(|(name, dtype, shape)| {
                let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
                (name.to_string(), (*dtype, shape.to_vec(), vec![0; bytes]))
            })
            .collect();
        fs::write(&self.weights, serialise(&tensors)).unwrap();
    }
}

#[test]
fn descriptions_that_are_missing_or_wrong_are_named() {
    let copy = Copy::hugging_face();
    let config = copy.folder.path().join("config.json");
    fs::write(&config, "{").unwrap();
    assert!(copy.refused().contains("is not JSON"));
    fs::write(&config, "{}").unwrap();
    assert!(copy.refused().contains("config.json\": is no description of a CLIP"));
    fs::remove_file(&config).unwrap();
    assert!(copy.refused().starts_with("no open_clip_config.json or config.json beside"));
}

/// Weights without a description of preprocessing were once given OpenAI's constants without a word.
#[test]
fn preprocessing_is_told_or_named_and_never_assumed() {
    let copy = Copy::hugging_face();
    let old = copy.folder.path().join("preprocessor_config.json");
    let new = copy.folder.path().join("processor_config.json");
    let image = |overwrite| {
        let options = Options { overwrite, ..Options::default() };
        copy.export(&options).unwrap().config.image
    };
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let write = |path: &Path, value: &Value| fs::write(path, value.to_string()).unwrap();
    let described = read(&old);

    // Both, as version 4 writes them: the one says nothing of images.
    write(&new, &json!({"processor_class": "CLIPProcessor"}));
    assert_eq!(image(false).mean, Preprocessing::openai().mean);
    fs::remove_dir_all(copy.dir()).unwrap();
    fs::remove_file(&old).unwrap();
    let message = copy.refused();
    assert!(message.contains("config.json\" says nothing of how images are prepared"), "{message}");
    assert!(message.contains("--preprocess openai"), "{message}");

    // As version 5 does.
    let mut odd = described.clone();
    odd["image_mean"] = json!([0.1, 0.2, 0.3]);
    write(&new, &json!({"image_processor": odd, "processor_class": "CLIPProcessor"}));
    assert_eq!(image(false).mean, [0.1, 0.2, 0.3]);
    fs::remove_dir_all(copy.dir()).unwrap();
    // Both, and they differ.
    write(&old, &described);
    let message = copy.refused();
    assert!(message.contains("processor_config.json\": does not agree with"), "{message}");
    assert!(message.contains("image_mean is [0.1, 0.2, 0.3] in the one"), "{message}");
    write(&old, &odd);
    assert_eq!(image(false).mean, [0.1, 0.2, 0.3]);

    // What is named may not be another than what is told.
    let imagenet = Options {
        overwrite: true,
        stated: Stated { preprocessing: Some(Preprocessing::imagenet()), ..Stated::default() },
        ..Options::default()
    };
    let message = copy.export(&imagenet).unwrap_err().to_string();
    assert!(message.contains("tells another preprocessing"), "{message}");
    fs::remove_file(&old).unwrap();
    fs::remove_file(&new).unwrap();
    assert_eq!(copy.export(&imagenet).unwrap().config.image.std, Preprocessing::imagenet().std);
    fs::remove_dir_all(copy.dir()).unwrap();

    // The file and the option are named.
    for (path, value, told) in [
        (&old, json!({"do_pad": true}), "preprocessor_config.json\": do_pad = true is not"),
        (
            &new,
            json!({"image_processor": {"resample": 0}}),
            "processor_config.json\": image_processor.resample = 0 is not",
        ),
        (&new, json!({"video_processor": {}}), "processor_config.json\": video_processor = {} is"),
    ] {
        write(path, &value);
        let message = copy.refused();
        assert!(message.contains(told), "{message}");
        fs::remove_file(path).unwrap();
    }
}

/// A bare model configuration does not tell it either; to start a training from, it is enough.
#[test]
fn a_bare_configuration_of_open_clips_needs_the_preprocessing_named() {
    let copy = Copy::of("open_clip", "open_clip_model.safetensors");
    let config = copy.folder.path().join("open_clip_config.json");
    let whole: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    fs::write(&config, whole["model_cfg"].to_string()).unwrap();
    assert!(copy.refused().contains("says nothing of how images are prepared"));
    let read = Architecture::read(&config).unwrap();
    assert_eq!(read.preprocessing, Preprocessing::openai());
    let stated = Stated { preprocessing: Some(Preprocessing::openai()), ..Stated::default() };
    copy.export(&Options { stated, ..Options::default() }).unwrap();
}

/// OpenAI's weights beside a model configuration without `quick_gelu`, open_clip's ViT-B-32.json, were
/// once taken for ones of GELU: embeddings that look right and are wrong.
#[test]
fn a_configuration_of_openais_weights_without_quick_gelu_is_told_or_asked_about() {
    use pgclip_export::Activation::{Gelu, QuickGelu};
    let copy = Copy::of("open_clip", "open_clip_model.safetensors");
    let config = copy.folder.path().join("open_clip_config.json");
    let whole: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    let mut model = whole["model_cfg"].clone();
    model.as_object_mut().unwrap().remove("quick_gelu");
    let described = |name: &str, description: &Value| {
        let path = copy.folder.path().join(name);
        fs::write(&path, description.to_string()).unwrap();
        path
    };
    let found = |config: &Path, weights: &Path, stated: Stated| {
        let weights = pgclip_export::Checkpoint::open(weights).unwrap();
        let found = Architecture::find_for(Some(config), &weights, &stated);
        found.map(|found| (found.vision.activation, found.text.activation, found.preprocessing))
    };
    let silent = Stated::default;
    let tag = |tag: &str| Stated { tag: Some(tag.into()), ..Stated::default() };
    let quick = Stated { activation: Some(QuickGelu), ..Stated::default() };
    let plain = Stated { activation: Some(Gelu), ..Stated::default() };

    // The file, the field and the options are named.
    let b32 = described("ViT-B-32.json", &model);
    let message = found(&b32, &copy.weights, silent()).unwrap_err().to_string();
    for part in ["ViT-B-32.json", "quick_gelu", "--pretrained", "--activation"] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    let openai = Preprocessing::openai();
    let of =
        |activation, preprocessing: &Preprocessing| (activation, activation, preprocessing.clone());
    let asked = |config: &Path, stated| found(config, &copy.weights, stated).unwrap();
    assert_eq!(asked(&b32, quick.clone()), of(QuickGelu, &openai));
    assert_eq!(asked(&b32, tag("openai")), of(QuickGelu, &openai));
    assert_eq!(asked(&b32, tag("laion2b_s34b_b79k")), of(Gelu, &openai));
    let message = found(&b32, &copy.weights, tag("laion9b")).unwrap_err().to_string();
    assert!(message.contains("\"laion9b\"") && message.contains("metaclip_400m"), "{message}");

    // Where all of open_clip's weights are alike there is nothing to ask: DFN's squash, QuickGELU.
    let dfn = described("ViT-H-14-378.json", &model);
    let squash = Preprocessing { resize: ResizeMode::Squash, ..openai.clone() };
    assert_eq!(asked(&dfn, silent()), of(QuickGelu, &squash));
    // Where they differ in their preprocessing it is asked for.
    let h14 = described("ViT-H-14.json", &model);
    let message = found(&h14, &copy.weights, quick.clone()).unwrap_err().to_string();
    assert!(message.contains("says nothing of how images are prepared"), "{message}");
    assert_eq!(asked(&h14, tag("dfn5b")), of(QuickGelu, &squash));

    // A description of certain weights means GELU by its silence, unless they are called OpenAI's.
    let mut certain = whole.clone();
    certain["model_cfg"] = model.clone();
    let certain = described("certain.json", &certain);
    assert_eq!(asked(&certain, silent()).0, Gelu);
    let called = copy.folder.path().join("vit_base_patch32_clip_224.OpenAI.safetensors");
    fs::copy(&copy.weights, &called).unwrap();
    let message = found(&certain, &called, silent()).unwrap_err().to_string();
    assert!(message.contains("certain.json") && message.contains("quick_gelu"), "{message}");
    assert_eq!(found(&certain, &called, plain.clone()).unwrap().0, Gelu);

    // OpenAI's own files have sizes among the weights.
    copy.change(|tensors| {
        for (name, size) in [("input_resolution", 36i64), ("context_length", 77), ("vocab_size", 9)]
        {
            let size = size.to_le_bytes().to_vec();
            tensors.insert(name.into(), (Dtype::I64, Vec::new(), size));
        }
    });
    assert_eq!(asked(&certain, silent()).0, QuickGelu);
    let message = found(&certain, &copy.weights, plain).unwrap_err().to_string();
    assert!(message.contains("quick_gelu: the option --activation and the weights"), "{message}");
    copy.export(&Options::default()).unwrap();
}

#[test]
fn values_that_are_no_numbers_or_too_large_name_their_tensor() {
    let copy = Copy::of("open_clip", "open_clip_model.safetensors");
    let set = |value: f32| {
        copy.change(|tensors| {
            let (_, _, data) = tensors.get_mut("visual.ln_post.bias").unwrap();
            data[..4].copy_from_slice(&value.to_le_bytes());
        });
    };
    set(f32::NAN);
    assert_eq!(copy.refused(), "tensor \"visual.ln_post.bias\" holds NaN at element 0");
    set(70_000.0);
    let half = Options { precision: Precision::Fp16, ..Options::default() };
    let error = copy.export(&half).unwrap_err().to_string();
    assert_eq!(error, "tensor \"visual.ln_post.bias\" holds 70000, too large for fp16");
    copy.export(&Options::default()).unwrap();
}

#[test]
fn rows_of_a_cut_vocabulary_must_exist() {
    let copy = Copy::hugging_face();
    copy.change(|tensors| {
        let (_, _, data) = tensors.get_mut("token_rows").unwrap();
        data[400..404].copy_from_slice(&9999i32.to_le_bytes());
    });
    assert!(copy.refused().contains("token_rows names row 9999 of "));
}

/// What open_clip trains and what Hugging Face published first: torch's archives of the same
/// weights make the same model, to the bit.
#[test]
fn archives_of_torch_are_read_without_torch() {
    for (name, safetensors, archive) in [
        ("open_clip", "open_clip_model.safetensors", "epoch_1.pt"),
        ("hugging_face", "model.safetensors", "pytorch_model.bin"),
    ] {
        let mut copy = Copy::of(name, safetensors);
        let expected = copy.export(&Options::default()).unwrap().digest;
        fs::remove_file(&copy.weights).unwrap();
        copy.weights = copy.folder.path().join(archive);
        let again = Options { overwrite: true, ..Options::default() };
        assert_eq!(copy.export(&again).unwrap().digest, expected, "{archive}");
    }
}

/// Every cut and every changed byte of an archive's pickle is an error or another tensor, never a
/// panic.
#[test]
fn damaged_archives_are_named() {
    let copy = Copy::of("open_clip", "epoch_1.pt");
    let whole = fs::read(&copy.weights).unwrap();
    for length in [4, 100, 20_000, whole.len() / 2, whole.len() - 1] {
        fs::write(&copy.weights, &whole[..length]).unwrap();
        let message = copy.refused();
        assert!(message.contains("epoch_1.pt\" is no archive of a state dict"), "{message}");
    }
    let find = |bytes: &[u8]| whole.windows(bytes.len()).position(|part| part == bytes).unwrap();
    // The pickle begins in the first entry, and ends before the first tensor.
    let (start, end) = (find(b"\x80\x02}"), find(b"epoch_1/data/0"));
    assert!(end - start > 5000);
    for at in (start..end).step_by(31) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        fs::write(&copy.weights, &damaged).unwrap();
        if copy.export(&Options::default()).is_ok() {
            fs::remove_dir_all(copy.dir()).unwrap();
        }
    }
    fs::write(&copy.weights, b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.").unwrap();
    assert!(copy.refused().contains("saved before torch 1.6"));
}
