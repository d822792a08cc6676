//! Model directories: that the encoder loads what was registered and nothing else, and
//! says which of the many ways to be wrong it is.

mod support;

use pgclip_wire::protocol::{ErrorKind, ModelRef, Request, Response};
use std::path::Path;
use support::*;

/// Asks for one text by this model.
fn ask(client: &mut Client, model: &ModelRef) -> Response {
    client.ask(&Request::Texts { id: 1, model: model.clone(), texts: vec!["a bus".into()] })
}

fn describe(client: &mut Client, directory: &str) -> Response {
    client.ask(&Request::Describe { id: 2, directory: directory.into() })
}

/// A copy of the model that may be damaged.
fn copy(name: &str) -> ModelRef {
    let directory = scratch(name);
    std::fs::create_dir_all(&directory).unwrap();
    for file in std::fs::read_dir(&model().directory).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
    ModelRef { directory: directory.display().to_string(), ..model().clone() }
}

/// A model once stayed in memory for as long as the encoder ran. One that nobody uses is given up, its
/// memory with it, and its next use loads it again.
#[test]
fn an_idle_model_is_unloaded_and_its_memory_given_back() {
    let weights = scratch("large weights");
    pgclip_export::RandomClip::shallow(512).write(&weights).unwrap();
    let directory = scratch("large");
    let made =
        pgclip_export::export(&weights, None, &pgclip_export::Options::default(), &directory)
            .unwrap();
    let directory = directory.display().to_string();
    let large = ModelRef { directory, digest: made.digest.0, language: None };
    let encoder = Encoder::start(&["--model-idle-timeout", "4", "--threads", "1"]);
    let resident = || {
        let path = format!("/proc/{}/status", encoder.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    let mut client = encoder.connect();
    let request = Request::Texts { id: 1, model: large.clone(), texts: vec!["a bus".into()] };
    // What is loaded once and for all is there before: ONNX Runtime and its threads.
    assert!(client.texts(&["a bus"])[0].is_ok());
    client.status_when(|status| status.models.is_empty());
    let before = resident();
    let first = items(client.ask(&request));
    let loaded = client.status().models;
    let megabytes = loaded[0].bytes >> 20;
    assert_eq!(loaded.len(), 1);
    assert!(megabytes > 90, "{loaded:?}");
    let with = resident();
    client.status_when(|status| status.models.is_empty());
    // The list is shorter a moment before the memory is free.
    let start = std::time::Instant::now();
    while resident() > before + megabytes / 4 && start.elapsed() < HANG {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let after = resident();
    println!("{megabytes} MB of weights: {before} MB before, {with} MB loaded, {after} MB after");
    assert!(with > before + megabytes, "{before} {with}");
    assert!(after < before + megabytes / 4, "{before} {with} {after}");
    // Not out of the cache.
    let texts = vec!["a red bus".into()];
    let answer = client.ask(&Request::Texts { id: 2, model: large, texts });
    assert!(items(answer)[0].is_ok() && items(client.ask(&request)) == first);
}

/// Without the setting models stay.
#[test]
fn models_stay_where_no_time_is_set() {
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    assert!(client.texts(&["a bus"])[0].is_ok());
    let status = client.status_when(|status| status.models[0].idle_seconds > 0.3);
    assert!(status.models[0].bytes > 0, "{status:?}");
}

#[test]
fn a_directory_is_described_as_it_is_loaded() {
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let Response::Model { id: 2, model: info } = describe(&mut client, &model().directory) else {
        panic!("no description")
    };
    assert_eq!((info.name.as_str(), info.dimensions, info.image_size), ("random", 24, 36));
    assert_eq!((info.digest, info.context_length), (model().digest, 77));
    assert_eq!((info.precision.as_str(), info.device.as_str()), ("fp32", "cpu"));
    assert!(info.logit_scale > 1.0);
    // It is not loaded again for what follows.
    assert!(client.texts(&["a bus"])[0].is_ok());
    assert_eq!(client.status().models.len(), 1);
}

#[test]
fn only_the_registered_bytes_are_loaded() {
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let missing = ModelRef { directory: "/nonexistent/model".into(), ..model().clone() };
    assert_eq!(failure(ask(&mut client, &missing)), ErrorKind::ModelNotFound);
    assert_eq!(failure(describe(&mut client, &missing.directory)), ErrorKind::ModelNotFound);

    let other = ModelRef { digest: [9; 32], ..model().clone() };
    assert_eq!(failure(ask(&mut client, &other)), ErrorKind::ModelDigestMismatch);

    // A file that has changed since clip.json was written.
    let changed = copy("changed");
    let path = Path::new(&changed.directory).join("text.onnx");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(failure(ask(&mut client, &changed)), ErrorKind::ModelDigestMismatch);
    assert_eq!(failure(describe(&mut client, &changed.directory)), ErrorKind::ModelDigestMismatch);

    // The good one, which has the digest that was asked for all along, goes on.
    assert!(matches!(ask(&mut client, model()), Response::Embeddings { .. }));
}

#[test]
fn a_directory_that_is_no_model_is_refused() {
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let broken = copy("broken");
    let file = |name: &str| Path::new(&broken.directory).join(name);
    let config = std::fs::read_to_string(file("clip.json")).unwrap();
    let changes: [(&str, &str); 4] = [
        ("\"dimensions\": 24", "\"dimensions\": 25"),
        ("\"size\": 36", "\"size\": 40"),
        ("\"context_length\": 77", "\"context_length\": 1"),
        ("\"format\": 1", "\"format\": 3"),
    ];
    for (from, to) in changes {
        assert!(config.contains(from), "{config}");
        std::fs::write(file("clip.json"), config.replace(from, to)).unwrap();
        assert_eq!(failure(describe(&mut client, &broken.directory)), ErrorKind::ModelInvalid);
    }
    for text in ["", "{}", "[1, 2", "\u{0}"] {
        std::fs::write(file("clip.json"), text).unwrap();
        assert_eq!(failure(describe(&mut client, &broken.directory)), ErrorKind::ModelInvalid);
    }
    // An ONNX file that is listed with its digest, and is none.
    std::fs::write(file("text.onnx"), "no graph").unwrap();
    let mut described =
        pgclip_clip::model::ClipConfig::parse(config.as_bytes(), &file("clip.json"));
    let digest = described
        .as_mut()
        .unwrap()
        .write(Path::new(&broken.directory), &["image.onnx", "text.onnx"]);
    let broken = ModelRef { digest: digest.unwrap().0, ..broken };
    assert_eq!(failure(describe(&mut client, &broken.directory)), ErrorKind::ModelInvalid);
    assert_eq!(failure(ask(&mut client, &broken)), ErrorKind::ModelInvalid);
    // Its other tower is sound, and serves.
    let images = vec![jpeg(1).into()];
    let request = Request::Images { id: 3, model: broken, images };
    assert!(items(client.ask(&request))[0].is_ok());
}

#[test]
fn external_data_is_read_from_the_directory_and_from_nowhere_else() {
    let split = pgclip_export::Options { most_inline_bytes: 0, ..Default::default() };
    let split = make_model("split", split);
    let data: Vec<_> = std::fs::read_dir(&split.directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".onnx") && name != "clip.json")
        .collect();
    assert!(!data.is_empty(), "no external data was written");
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let here = items(ask(&mut client, &split));
    assert_eq!(here, items(ask(&mut client, model())));

    // The same graphs, the data no longer listed: nobody vouches for its bytes.
    let path = Path::new(&split.directory).join("clip.json");
    let json = std::fs::read(&path).unwrap();
    let mut config = pgclip_clip::model::ClipConfig::parse(&json, &path).unwrap();
    let directory = Path::new(&split.directory);
    let digest = config.write(directory, &["image.onnx", "text.onnx"]).unwrap();
    let unlisted = ModelRef { digest: digest.0, ..split };
    assert_eq!(failure(ask(&mut client, &unlisted)), ErrorKind::ModelInvalid);
}

#[test]
fn the_least_recently_used_model_is_given_up() {
    let encoder = Encoder::start(&["--max-models", "2"]);
    let mut client = encoder.connect();
    let named = |name: &str| {
        make_model(name, pgclip_export::Options { name: Some(name.into()), ..Default::default() })
    };
    let models = [named("one"), named("two"), named("three")];
    let loaded = |client: &mut Client| {
        client.status().models.into_iter().map(|model| model.name).collect::<Vec<_>>()
    };
    for model in &models[..2] {
        ask(&mut client, model);
    }
    assert_eq!(loaded(&mut client), ["two", "one"]);
    let images = vec![jpeg(1).into()];
    client.ask(&Request::Images { id: 3, model: models[0].clone(), images });
    ask(&mut client, &models[2]);
    assert_eq!(loaded(&mut client), ["three", "one"]);
    assert!(matches!(ask(&mut client, &models[1]), Response::Embeddings { .. }));
}

/// Half precision changes the embeddings a little, and both fit in one server.
#[test]
fn half_precision_models_serve_beside_others() {
    let half =
        pgclip_export::Options { precision: pgclip_export::Precision::Fp16, ..Default::default() };
    let half = make_model("half", half);
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let [exact, rough] = [model(), &half].map(|model| items(ask(&mut client, model)));
    assert!(cosine(exact[0].as_ref().unwrap(), rough[0].as_ref().unwrap()) > 0.999);
}
