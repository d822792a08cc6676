//! The arms as data: which runs each needs, with every number of every recipe.
//!
//! Each arm is the one before it and one step more, in A3R's order.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pgclip_scenes::benchmark::{CAPTIONS, Split};
use pgclip_scenes::set;

use super::AblationArgs;
use super::measure::How;
use crate::config::Config;

/// One row of the table.
#[derive(Debug)]
pub struct Arm {
    pub name: &'static str,
    /// What it adds to the arm before it.
    pub adds: &'static str,
    /// `None`: the pre-trained model as it is.
    training: Option<&'static FineTuning>,
    pub how: How,
}

/// A training from the pre-trained model.
#[derive(Debug)]
struct FineTuning {
    name: &'static str,
    /// Pads pictures to a square instead of cutting them to one.
    pads: bool,
    /// Takes the captions that zero-shot augmentation completed.
    augmented: bool,
    lr: &'static str,
    epochs: u64,
}

const BASELINE: FineTuning =
    FineTuning { name: "baseline", pads: false, augmented: false, lr: "3e-4", epochs: 3 };
const PADDING: FineTuning = FineTuning { name: "padding", pads: true, ..BASELINE };
const AUGMENTED: FineTuning = FineTuning { name: "augmentation", augmented: true, ..PADDING };
const GENTLE: FineTuning = FineTuning { name: "gentle", lr: "3e-5", epochs: 1, ..AUGMENTED };

const PLAIN: How = How { enhance: false, rerank: false };

pub const ARMS: &[Arm] = &[
    Arm { name: "pretrained", adds: "(the pre-trained model alone)", training: None, how: PLAIN },
    Arm { name: "baseline", adds: "fine-tuning", training: Some(&BASELINE), how: PLAIN },
    Arm { name: "padding", adds: "padding to a square", training: Some(&PADDING), how: PLAIN },
    Arm {
        name: "augmentation",
        adds: "zero-shot attribute augmentation",
        training: Some(&AUGMENTED),
        how: PLAIN,
    },
    Arm {
        name: "gentle",
        adds: "small learning rate and few epochs",
        training: Some(&GENTLE),
        how: PLAIN,
    },
    Arm {
        name: "enhancement",
        adds: "prompt enhancement",
        training: Some(&GENTLE),
        how: How { enhance: true, rerank: false },
    },
    Arm {
        name: "reranking",
        adds: "adaption re-ranking",
        training: Some(&GENTLE),
        how: How { enhance: true, rerank: true },
    },
];

/// Steps of pre-training and pictures of a step, of pre-training and of fine-tuning.
const PRETRAIN_STEPS: u64 = 2500;
const PRETRAIN_BATCH: u64 = 128;
const BATCH: u64 = 128;

/// One process of `pgclip-train` and what it leaves.
#[derive(Debug)]
pub struct Run {
    pub arguments: Vec<String>,
    /// A checkpoint or a file.
    pub product: PathBuf,
}

impl Run {
    pub fn command_line(&self) -> String {
        format!("pgclip-train {}", self.arguments.join(" "))
    }

    fn new(line: &str, paths: &[(&str, &Path)], product: PathBuf) -> Run {
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for &(option, path) in paths {
            arguments.extend([option.to_owned(), path.display().to_string()]);
        }
        arguments.retain(|argument| !argument.is_empty());
        Run { arguments, product }
    }
}

/// Where things lie and how large they are.
#[derive(Debug)]
pub struct Plan {
    work: PathBuf,
    share: f64,
}

impl Plan {
    pub fn new(args: &AblationArgs) -> Result<Plan> {
        fs::create_dir_all(&args.work)
            .with_context(|| format!("cannot make {}", args.work.display()))?;
        Ok(Plan { work: args.work.clone(), share: args.share })
    }

    pub fn data(&self) -> PathBuf {
        self.work.join("data")
    }

    /// The training captions, apart from what else is known about the pictures; and the model's
    /// shape, with either preprocessing.
    pub fn write_inputs(&self) -> Result<()> {
        let labels = fs::read_to_string(self.data().join("train").join(set::LABELS))?;
        let bare = |line: &str| {
            let (image, rest) = line.split_once('$')?;
            Some(format!("{image}$${}\n", rest.split_once('$')?.1))
        };
        let lines: Option<String> = labels.lines().map(bare).collect();
        let lines = lines.context("a label line is image$attributes$caption")?;
        fs::write(self.labels(), lines)?;
        for pads in [false, true] {
            let text = serde_json::to_string_pretty(&shape(pads))? + "\n";
            fs::write(self.model(pads), text)?;
        }
        Ok(())
    }

    fn labels(&self) -> PathBuf {
        self.work.join("train.txt")
    }

    fn model(&self, pads: bool) -> PathBuf {
        self.work.join(if pads { "pad.json" } else { "crop.json" })
    }

    fn seed_folder(&self, seed: u64) -> PathBuf {
        self.work.join(format!("seed-{seed}"))
    }

    fn scaled(&self, whole: u64) -> u64 {
        ((whole as f64 * self.share).round() as u64).max(2)
    }

    /// Too small a batch has nothing to tell apart.
    fn batch(&self, whole: u64) -> u64 {
        self.scaled(whole).max(8)
    }

    /// The runs that make what `arm` measures, in order.
    pub fn runs(&self, arm: &Arm, seed: u64) -> Vec<Run> {
        let pretraining = self.pretraining(seed);
        let Some(training) = arm.training else { return vec![pretraining] };
        let pretrained = pretraining.product.clone();
        let mut runs = vec![pretraining];
        if training.augmented {
            runs.extend(self.augmentation(seed, &pretrained));
        }
        runs.push(self.fine_tuning(training, seed, &pretrained));
        runs
    }

    /// Fills in what the training captions leave open, by what the pre-trained model sees, and
    /// makes a training set of it.
    fn augmentation(&self, seed: u64, pretrained: &Path) -> [Run; 2] {
        let folder = self.seed_folder(seed);
        let (lines, set) = (folder.join("augmented.txt"), folder.join("augmented"));
        let train = self.data().join("train");
        let augment = Run::new(
            "augment --device cpu",
            &[("", pretrained), ("", &train.join(set::LABELS)), ("--out", &lines)],
            lines.clone(),
        );
        let prepare = Run::new(
            "prepare",
            &[("", &lines), ("--images", &train.join(set::IMAGES)), ("--out", &set)],
            set.join("all.csv"),
        );
        [augment, prepare]
    }

    fn pretraining(&self, seed: u64) -> Run {
        let steps = self.scaled(PRETRAIN_STEPS);
        let batch = self.batch(PRETRAIN_BATCH);
        let warmup = self.scaled(100);
        let line = format!(
            "train --compact-vocabulary --token-noise 0 --lr 1e-3 --wd 0.1 {} \
             --steps {steps} --batch-size {batch} --warmup {warmup} --seed {seed} --save-every {}",
            COMMON,
            self.scaled(100)
        );
        let out = self.seed_folder(seed).join("pretrain");
        let data = self.data().join("pretrain").join(CAPTIONS);
        let paths: [(&str, &Path); 3] =
            [("--train-data", &data), ("--model", &self.model(false)), ("--out", &out)];
        Run::new(&line, &paths, checkpoint_of(&out, steps))
    }

    fn fine_tuning(&self, how: &FineTuning, seed: u64, pretrained: &Path) -> Run {
        let batch = self.batch(BATCH);
        let steps = self.scaled(Split::Train.count() / BATCH * how.epochs);
        let line = format!(
            "train --lr {} --wd 0.01 {} --token-noise 0 --steps {steps} --batch-size {batch} \
             --warmup {} --seed {seed} --save-every 100",
            how.lr,
            COMMON,
            steps / 10
        );
        let out = self.seed_folder(seed).join(how.name);
        let weights = pretrained.join(crate::checkpoint::MODEL_FILE);
        // The augmented set names its pictures by their whole paths.
        let (labels, images) = match how.augmented {
            true => (self.seed_folder(seed).join("augmented/all.csv"), PathBuf::from(".")),
            false => (self.labels(), self.data().join("train").join(set::IMAGES)),
        };
        let paths: [(&str, &Path); 5] = [
            ("--train-data", &labels),
            ("--images", &images),
            ("--model", &self.model(how.pads)),
            ("--pretrained", &weights),
            ("--out", &out),
        ];
        Run::new(&line, &paths, checkpoint_of(&out, steps))
    }
}

/// What all trainings share; every number is told, so that a change of a default changes nothing.
const COMMON: &str = "--beta1 0.9 --beta2 0.98 --eps 1e-6 --grad-clip-norm 1 --precision fp32 \
                      --multi-positive --save-frequency 0 --log-every 20 --flip --shift 2 \
                      --brightness 0.1 --keep 1 --device cpu --resume";

fn checkpoint_of(run: &Path, steps: u64) -> PathBuf {
    run.join("checkpoints").join(format!("step_{steps:08}"))
}

/// The built-in model's towers, smaller in what costs most: 36 patches of a picture instead of 64,
/// three layers for them, two for texts. A patch is 16 pixels wide as ViT-B/16's are: so many patches
/// of 8 would leave too few pixels of a long crop that is padded.
fn shape(pads: bool) -> Config {
    let mut config = Config::traffic_tiny();
    config.model_cfg.vision_cfg.layers = 3;
    config.model_cfg.vision_cfg.image_size = 96;
    config.model_cfg.vision_cfg.patch_size = 16;
    config.model_cfg.text_cfg.layers = 2;
    config.preprocess_cfg.resize_mode = if pads { "longest" } else { "shortest" }.into();
    config
}
