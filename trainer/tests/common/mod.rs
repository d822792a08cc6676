//! Small data sets and runs for the trainer's tests.

#![allow(dead_code)] // each test file uses its own part

use std::path::{Path, PathBuf};
use std::sync::Once;

use clap::Parser;
use pgclip_train::args::{Cli, Command, TrainArgs};
use pgclip_train::{checkpoint, synth, torch, train};

/// A model small enough to train in seconds.
const TINY: &str = r#"{
  "model_cfg": {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"width": 32, "heads": 2, "layers": 1}
  },
  "preprocess_cfg": {
    "mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28],
    "interpolation": "bicubic", "resize_mode": "longest"
  }
}"#;

/// A folder with a set of scenes (`data`) and a tiny architecture (`tiny.json`).
pub struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    pub fn new(scenes: u64) -> Self {
        // As the program does: with several threads within an operation sums would depend on them.
        static PREPARED: Once = Once::new();
        PREPARED.call_once(|| torch::prepare(0).unwrap());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tiny.json"), TINY).unwrap();
        let data = folder.path().join("data");
        let count = scenes.to_string();
        let line = ["pgclip-train", "synth", data.to_str().unwrap(), "--count", &count];
        let Command::Synth(args) = Cli::parse_from(line.iter().chain(&["--captions", "3"])).command
        else {
            unreachable!("the line says synth")
        };
        synth::run(&args).unwrap();
        Fixture { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command line of a run into `out`, without the program's name.
    pub fn line(&self, out: &str, more: &[&str]) -> Vec<String> {
        let paths = ["data/captions.txt", "tiny.json", out].map(|name| self.path(name));
        let [data, model, out] = paths.map(|path| path.to_str().unwrap().to_owned());
        let mut line: Vec<String> =
            ["train", "--train-data", &data, "--model", &model, "--out", &out]
                .map(Into::into)
                .into();
        let settings = "--compact-vocabulary --batch-size 16 --lr 3e-3 --wd 0.1 --warmup 5 \
                        --precision fp32 --grad-clip-norm 1 --multi-positive --log-every 1 \
                        --save-frequency 0 --flip --shift 2 --brightness 0.1 --token-noise 0.3 \
                        --device cpu";
        line.extend(settings.split_whitespace().map(str::to_owned));
        line.extend(more.iter().map(|&word| word.to_owned()));
        line
    }

    pub fn args(&self, out: &str, more: &[&str]) -> TrainArgs {
        let line = self.line(out, more);
        match Cli::parse_from(std::iter::once("pgclip-train".to_owned()).chain(line)).command {
            Command::Train(args) => *args,
            _ => unreachable!("the line says train"),
        }
    }

    pub fn train(&self, out: &str, more: &[&str]) -> anyhow::Result<()> {
        train::run(&self.args(out, more)).map(drop)
    }

    /// A run's out.log.
    pub fn log(&self, out: &str) -> String {
        std::fs::read_to_string(self.path(out).join("out.log")).unwrap()
    }

    /// The losses in a run's out.log.
    pub fn losses(&self, out: &str) -> Vec<f64> {
        self.log(out)
            .lines()
            .filter_map(|line| line.split(" loss ").nth(1))
            .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
            .collect()
    }

    /// Panics unless the last checkpoints of two runs are the same to the bit.
    pub fn same_bits(&self, one: &str, other: &str) {
        let last = |run: &str| contents(&checkpoint::locate(&self.path(run)).unwrap());
        for ((name, one), (_, other)) in last(one).into_iter().zip(last(other)) {
            assert!(one == other, "{name} differs");
        }
    }
}

/// The bytes of every file of a checkpoint, by name.
pub fn contents(checkpoint: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(checkpoint)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Writes a tar of members in this order.
pub fn tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.finish().unwrap();
}
