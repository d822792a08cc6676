//! What commands take as a model: a run, a folder of weights, a model directory of the database.

mod common;

use clap::Parser;
use common::Fixture;
use pgclip_train::args::{Cli, Command};
use pgclip_train::{checkpoint, eval, export};

fn run(line: &[&str]) -> anyhow::Result<()> {
    match Cli::parse_from(["pgclip-train"].iter().chain(line)).command {
        Command::Eval(args) => eval::run(&args),
        Command::Export(args) => export::run(&args),
        _ => unreachable!("the line says eval or export"),
    }
}

#[test]
fn a_model_directory_measures_as_its_checkpoint_and_can_be_trained_further() {
    let fixture = Fixture::new(40);
    let path = |name: &str| fixture.path(name).to_str().unwrap().to_owned();
    fixture.train("run", &["--steps", "12", "--save-every", "12"]).unwrap();
    let (run_path, model, labels) = (path("run"), path("model"), path("data/labels.txt"));
    run(&["export", &run_path, &model, "--name", "tiny"]).unwrap();
    let measure = |checkpoint: &str, more: &[&str]| -> anyhow::Result<serde_json::Value> {
        let json = path("eval.json");
        let common = ["eval", checkpoint, "--data", &labels, "--device", "cpu", "--json", &json];
        run(&[&common[..], more].concat())?;
        Ok(serde_json::from_str(&std::fs::read_to_string(json)?)?)
    };
    let expected = measure(&run_path, &[]).unwrap();
    assert_eq!(measure(&model, &[]).unwrap(), expected);
    assert_eq!(measure(&model, &["--model", &path("tiny.json")]).unwrap(), expected);

    // Weights alone need a description.
    let saved = checkpoint::locate(&fixture.path("run")).unwrap();
    std::fs::copy(saved.join("model.safetensors"), fixture.path("bare.safetensors")).unwrap();
    let bare = path("bare.safetensors");
    assert_eq!(measure(&bare, &["--model", &path("tiny.json")]).unwrap(), expected);
    let error = format!("{:#}", measure(&bare, &[]).unwrap_err());
    assert!(error.contains("--model names the architecture"), "{error}");
    let error = format!("{:#}", measure(&run_path, &["--model", "ViT-B-32"]).unwrap_err());
    assert!(error.contains("no --model"), "{error}");

    // From each of them training starts with the same loss.
    let losses = |out: &str, from: &str| {
        fixture.train(out, &["--steps", "2", "--pretrained", from]).unwrap();
        fixture.losses(out)
    };
    let (of_run, of_model) = (losses("on", &run_path), losses("again", &model));
    for (one, other) in of_run.iter().zip(of_model) {
        assert!((one - other).abs() < 2e-4, "{one} {other}");
    }
    assert!(of_run[0] < 0.9 * fixture.losses("run")[0], "{of_run:?}");

    // A graph that was changed is not read.
    let graph = fixture.path("model/text.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(graph, bytes).unwrap();
    let error = format!("{:#}", measure(&model, &[]).unwrap_err());
    assert!(error.contains("text.onnx"), "{error}");
}
