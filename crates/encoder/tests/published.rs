//! Folders as models are published (`published/make.py`), converted and served: pictures and texts get
//! the embeddings that the library gives which defines the model, and texts its token ids.

mod support;

use pgclip_clip::model::{ModelDir, Padding};
use pgclip_clip::tokens::FileTokenizer;
use pgclip_wire::protocol::{ErrorKind, ModelRef, Request, Response};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use support::*;

fn published(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn floats(values: &Value) -> Vec<f32> {
    values.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn convert(source: &Path, directory: &Path, options: &[&str]) -> Output {
    let mut convert = program("convert");
    convert.arg(source).arg(directory).arg("--onnxruntime").arg(onnxruntime()).args(options);
    convert.output().unwrap()
}

/// Converts a folder, and fails where that does.
fn converted(source: &Path, name: &str, options: &[&str]) -> ModelDir {
    let directory = scratch(name);
    let output = convert(source, &directory, options);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let model = ModelDir::open(&directory).unwrap();
    model.verify(|_| ()).unwrap();
    assert!(model.config.mean_text_embedding.is_some(), "{name} has no texts' direction");
    model
}

fn reference(model: &ModelDir) -> ModelRef {
    let directory = model.path.display().to_string();
    ModelRef { directory, digest: model.digest, language: None }
}

/// Converts a published folder and compares what the encoder makes of pictures and texts. Returns the
/// least cosine of each.
fn measured(name: &str, more: &[&str]) -> [f32; 2] {
    let expected = json(&published(name).join("expected.json"));
    let texts: Vec<String> = serde_json::from_value(json(&published("texts.json"))).unwrap();
    let options: Vec<&str> =
        expected["convert"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
    let suffix = more.concat();
    let model =
        converted(&published(name), &format!("{name}{suffix}"), &[&options[..], more].concat());

    let tokens = model.config.text.tokens.as_ref().expect("a tokenizer of its own");
    let length = model.config.text.context_length as usize;
    let bytes = model.read(&tokens.file).unwrap();
    let tokenizer = FileTokenizer::new(&bytes, tokens, length).unwrap();
    assert_eq!(texts.len(), 300);
    for (text, ids) in texts.iter().zip(expected["ids"].as_array().unwrap()) {
        let mut found = tokenizer.encode(text).unwrap();
        if tokens.padding == Padding::Context {
            found.resize(length, tokens.pad.into());
        }
        let ids: Vec<i64> = serde_json::from_value(ids.clone()).unwrap();
        assert_eq!(found, ids, "{name}: {text:?}");
    }

    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let embedding = |item: Result<Vec<f32>, _>| item.unwrap();
    let (mut least_image, mut least_text) = (1f32, 1f32);
    let pictures = expected["images"].as_object().unwrap();
    let images = pictures.keys().map(|file| published("pictures").join(file));
    let images = images.map(|path| std::fs::read(path).unwrap().into()).collect();
    let request = Request::Images { id: 1, model: reference(&model), images };
    for (item, (file, expected)) in items(client.ask(&request)).into_iter().zip(pictures) {
        let cosine = cosine(&embedding(item), &floats(expected));
        println!("{name} {file}: {cosine}");
        least_image = least_image.min(cosine);
    }
    let known = expected["texts"].as_array().unwrap();
    let texts = texts[..known.len()].to_vec();
    let request = Request::Texts { id: 2, model: reference(&model), texts: texts.clone() };
    for ((item, text), expected) in items(client.ask(&request)).into_iter().zip(&texts).zip(known) {
        let cosine = cosine(&embedding(item), &floats(expected));
        println!("{name} {text:?}: {cosine}");
        least_text = least_text.min(cosine);
    }
    println!("{name} {suffix}: least cosine of images {least_image:.6}, of texts {least_text:.6}");
    [least_image, least_text]
}

macro_rules! agree {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let [image, text] = measured(stringify!($name), &[]);
            assert!(image >= 0.9999 && text >= 0.9999, "images {image}, texts {text}");
        })*
    };
}

agree! {
    clip_quickgelu laion dfn resnet coca mobileclip mobileclip2 convnext eva02 pe_core siglip xlm_roberta clipa metaclip2 nllb m_clip
    clip_optimum siglip2 jina_like siglip_weights siglip_transformers
}

/// A copy of a published folder, to be damaged.
fn copied(name: &str, to: &str) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            match from.is_dir() {
                true => copy(&from, &to),
                false => _ = std::fs::copy(&from, &to).unwrap(),
            }
        }
    }
    let folder = scratch(to);
    copy(&published(name), &folder.join("published"));
    folder.join("published")
}

/// Converts a folder that cannot be, and returns why. Nothing is left behind.
fn refused(source: &Path, options: &[&str]) -> String {
    let parent = source.parent().unwrap().join("models");
    std::fs::create_dir_all(&parent).unwrap();
    let output = convert(source, &parent.join("model"), options);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0, "something is left of it");
    said
}

fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

/// The quantised variants are within a hair of the others, and are chosen by name.
#[test]
fn variants_are_chosen_by_name() {
    let [image, text] = measured("clip_optimum", &["--variant", "quantized"]);
    assert!(image >= 0.99 && text >= 0.99, "images {image}, texts {text}");
    let folder = copied("clip_optimum", "variants");
    let onnx = |name: &str| folder.join("onnx").join(name);
    for tower in ["vision_model", "text_model"] {
        std::fs::rename(onnx(&format!("{tower}.onnx")), onnx(&format!("{tower}_fp16.onnx")))
            .unwrap();
    }
    let said = refused(&folder, &[]);
    says(&said, &["vision_model.onnx as fp16, quantized", "--variant"]);
    says(
        &refused(&folder, &["--variant", "q4"]),
        &["vision_model.onnx as fp16, quantized", "\"q4\""],
    );
    std::fs::remove_file(onnx("text_model_fp16.onnx")).unwrap();
    std::fs::remove_file(onnx("text_model_quantized.onnx")).unwrap();
    says(&refused(&folder, &["--variant", "fp16"]), &["vision_model_fp16.onnx, and not the other"]);
}

#[test]
fn folders_that_are_no_model_are_refused_by_name() {
    let folder = scratch("neither").join("published");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("notes.txt"), "no model").unwrap();
    says(&refused(&folder, &[]), &["published", "no weights", "visual/model.onnx"]);
    let without = |file: &str, options: &[&str]| {
        let folder = copied("clip_quickgelu", &format!("without {}", file.replace('/', " ")));
        std::fs::remove_file(folder.join(file)).unwrap();
        refused(&folder, options)
    };
    for file in [
        "textual/tokenizer.json",
        "textual/model.onnx",
        "visual/model.onnx",
        "visual/preprocess_cfg.json",
        "config.json",
    ] {
        says(&without(file, &[]), &[file]);
    }
    let folder = copied("siglip2", "without a processor");
    std::fs::remove_file(folder.join("preprocessor_config.json")).unwrap();
    says(&refused(&folder, &[]), &["preprocessor_config.json"]);
}

/// Each of these graphs once would have been taken, or would have ended the command with a panic.
#[test]
fn graphs_that_are_at_fault_are_named() {
    let with = |fault: &str, tower: &str| {
        let folder = copied("clip_quickgelu", &format!("fault {fault}"));
        let graph = published("faults").join(format!("{fault}.onnx"));
        std::fs::copy(graph, folder.join(tower).join("model.onnx")).unwrap();
        if fault == "link" {
            let secret = folder.parent().unwrap().join("secret.bin");
            std::fs::write(&secret, [0; 96]).unwrap();
            std::os::unix::fs::symlink(secret, folder.join(tower).join("link.bin")).unwrap();
        }
        let said = refused(&folder, &[]);
        says(&said, &[&format!("{tower}/model.onnx")]);
        said
    };
    says(&with("custom", "visual"), &["acme.ops.Fancy", "custom operator"]);
    says(&with("nan", "visual"), &["no finite embedding", "\"embedding\""]);
    says(&with("narrow", "textual"), &["has 7 numbers", "has 24"]);
    says(&with("three", "visual"), &["\"image\" takes 3 items at once"]);
    says(&with("missing", "visual"), &["nowhere.bin", "ones"]);
    says(&with("outside", "visual"), &["../../secret.bin", "out of the folder"]);
    says(&with("absolute", "visual"), &["/etc/passwd", "out of the folder"]);
    says(&with("link", "visual"), &["link.bin", "a link out of the folder"]);
    let folder = copied("clip_quickgelu", "no graph");
    for bytes in [&b""[..], b"not a graph at all", &[0x0a; 40]] {
        std::fs::write(folder.join("visual/model.onnx"), bytes).unwrap();
        says(&refused(&folder, &[]), &["visual/model.onnx"]);
    }
    let whole = std::fs::read(published("clip_quickgelu/visual/model.onnx")).unwrap();
    std::fs::write(folder.join("visual/model.onnx"), &whole[..whole.len() / 2]).unwrap();
    says(&refused(&folder, &[]), &["visual/model.onnx"]);
}

/// Changes the tokenizer.json of a copied folder.
fn with_tokenizer(name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let folder = copied("clip_quickgelu", name);
    let path = folder.join("textual/tokenizer.json");
    let mut tokenizer = json(&path);
    change(&mut tokenizer);
    std::fs::write(path, tokenizer.to_string()).unwrap();
    folder
}

#[test]
fn tokenizers_that_are_at_fault_are_named() {
    let folder = with_tokenizer("vocabulary", |t| t["model"]["vocab"]["one more"] = 5000.into());
    says(&refused(&folder, &[]), &["textual/model.onnx", "tokenizer.json", "up to 5000"]);
    let folder = with_tokenizer("no model", |t| t["model"] = Value::Null);
    says(&refused(&folder, &[]), &["tokenizer.json", "model is missing"]);
    let folder = with_tokenizer("unknown model", |t| t["model"]["type"] = "Magic".into());
    says(&refused(&folder, &[]), &["tokenizer.json"]);
    let folder = with_tokenizer("growing", |t| {
        let twice =
            serde_json::json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        t["normalizer"] = serde_json::json!({"type": "Sequence", "normalizers": vec![twice; 40]});
    });
    says(&refused(&folder, &[]), &["tokenizer.json", "normalizer", "longer"]);
    let folder = copied("clip_quickgelu", "gigabytes");
    let file = std::fs::File::create(folder.join("textual/tokenizer.json")).unwrap();
    file.set_len(3 << 30).unwrap();
    says(&refused(&folder, &[]), &["tokenizer.json", "3221225472 bytes"]);
    let folder = copied("clip_quickgelu", "no padding");
    std::fs::write(folder.join("textual/tokenizer_config.json"), "{\"pad_token\": \"[PAD]\"}")
        .unwrap();
    says(&refused(&folder, &[]), &["tokenizer_config.json", "pad_token", "[PAD]"]);
    let folder = copied("nllb", "language");
    says(&refused(&folder, &["--language", "tlh_Latn"]), &["tokenizer.json", "tlh_Latn"]);
}

/// An nllb model once encoded every text in the language that it was converted for. Each text of a request
/// has that request's language, as if the model had been converted for it, and the cache keeps them apart.
#[test]
fn a_request_has_a_language_of_its_own() {
    let usual = converted(&published("nllb"), "usual", &["--exif-orientation", "off"]);
    let options = ["--exif-orientation", "off", "--language", "deu_Latn"];
    let german = converted(&published("nllb"), "german", &options);
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let mut ask = |model: &ModelDir, language: Option<&str>| {
        let model = ModelRef { language: language.map(str::to_owned), ..reference(model) };
        let texts = vec!["ein rotes Auto".into(), "deu_Latn".into()];
        client.ask(&Request::Texts { id: 1, model, texts })
    };
    let english = items(ask(&usual, None));
    let as_german = items(ask(&usual, Some("deu_Latn")));
    assert_eq!(as_german, items(ask(&german, None)));
    assert_eq!(english, items(ask(&usual, Some("eng_Latn"))));
    assert_eq!(english, items(ask(&german, Some("eng_Latn"))));
    let alike = cosine(english[0].as_ref().unwrap(), as_german[0].as_ref().unwrap());
    assert!(alike < 0.9999, "{alike}");
    let mut refused = |model: &ModelDir, language: &str| {
        let Response::Failed { kind, message, .. } = ask(model, Some(language)) else { panic!() };
        assert_eq!(kind, ErrorKind::NoLanguage);
        message
    };
    says(
        &refused(&usual, "tlh_Latn"),
        &["no language \"tlh_Latn\"", "deu_Latn, eng_Latn, rus_Cyrl"],
    );
    let without = converted(&published("clip_quickgelu"), "without-languages", &[]);
    says(&refused(&without, "deu_Latn"), &["has no languages", "\"deu_Latn\""]);
}

/// A pattern that takes exponential time on some texts is an error of those texts; others go on, and so
/// does the encoder.
#[test]
fn a_pattern_that_explodes_costs_its_text_alone() {
    let folder = with_tokenizer("explosion", |t| {
        t["pre_tokenizer"] = serde_json::json!({
            "type": "Split", "pattern": {"Regex": "(?:x|(?!y)x|xx)+(?=y)z"}, "behavior": "Isolated",
            "invert": false,
        });
    });
    let model = converted(&folder, "explosive", &["--exif-orientation", "off"]);
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let texts = vec!["a red car".to_owned(), "x".repeat(5000), "a blue car".to_owned()];
    let request = Request::Texts { id: 1, model: reference(&model), texts };
    let found = items(client.ask(&request));
    assert!(found[0].is_ok() && found[2].is_ok(), "{found:?}");
    assert!(found[1].is_err(), "{found:?}");
    assert!(client.texts(&["a bus"])[0].is_ok());
}

/// A phone's picture lies on its side in the file and says so: a model that was converted as usual sees
/// it upright, one that was converted for open_clip's numbers sees it as it lies.
#[test]
fn pictures_are_turned_unless_they_are_to_lie() {
    let bytes = std::fs::read(published("pictures/turned.jpg")).unwrap();
    let upright = image::load_from_memory(&bytes).unwrap().rotate90();
    let mut png = std::io::Cursor::new(Vec::new());
    upright.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let mut alike = |name: &str, options: &[&str]| {
        let model = converted(&published("clip_quickgelu"), name, options);
        let images = vec![bytes.clone().into(), png.get_ref().clone().into()];
        let request = Request::Images { id: 1, model: reference(&model), images };
        let found: Vec<_> = items(client.ask(&request)).into_iter().map(Result::unwrap).collect();
        cosine(&found[0], &found[1])
    };
    let turned = alike("turned", &[]);
    let lying = alike("lying", &["--exif-orientation", "off"]);
    assert!(turned > 0.999, "{turned}");
    assert!(lying < 0.99, "{lying}");
}
