//! `pgclip-train augment`: colours and types that captions leave open, filled in zero-shot.
//!
//! A3R's self-enhancement of training data: of all combinations that a caption admits, the
//! one whose prompt is most like the picture. Makes are never filled in: the paper finds that
//! models guess them badly. What each line becomes is decided in [`crate::caption`].

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use tch::{Device, Tensor};

use crate::caption::{Captions, Vehicle, in_template};
use crate::config::Config;
use crate::data::picture_folder;
use crate::images::{self, Broken};
use crate::lexicon::Lexicon;
use crate::lines::{self, CsvForm, Line, write_whole};
use crate::model::{Clip, Precision};
use crate::params::Params;
use crate::place::Place;
use crate::progress::progress_bar;
use crate::weights::{Weights, WeightsArgs};
use crate::{encode, tokens, torch};

#[derive(Debug, Args)]
pub struct AugmentArgs {
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Label file: image$attributes$caption, or open_clip's CSV (.csv, .tsv)
    pub labels: PathBuf,
    #[command(flatten)]
    pub csv: CsvForm,
    /// File to write: image$attributes$caption$augmented caption
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Folder of the pictures [default: the label file's]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Colours, types and makes as JSON, as `prepare` writes them [default: the challenge's]
    #[arg(long, value_name = "FILE")]
    pub lexicon: Option<PathBuf>,
    /// Leave "A" and "This is a" out of the augmented captions, as A3R's published files do
    #[arg(long)]
    pub drop_prefix: bool,
    /// Leave out lines that are not augmented: persons, and vehicles that nothing is known of
    #[arg(long)]
    pub vehicles_only: bool,
    /// Prompt by which the model compares candidates; {} stands for "red Audi Sedan"
    #[arg(long, default_value = "A {}")]
    pub template: String,
    /// Pictures in memory at a time
    #[arg(long, default_value_t = 256)]
    pub batch_size: usize,
    #[arg(long, default_value = "auto")]
    pub device: String,
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// What was done to a label file.
#[derive(Debug, Default)]
pub struct Summary {
    pub lines: usize,
    pub colours: usize,
    pub types: usize,
    /// Lines about persons, or about nothing that the lexicon knows.
    pub skipped: usize,
    pub broken: Vec<Broken>,
}

/// Runs `pgclip-train augment`.
pub fn run(args: &AugmentArgs) -> Result<()> {
    ensure!(args.batch_size >= 1, "--batch-size starts at 1");
    ensure!(args.template.contains("{}"), "--template {:?} has no {{}}", args.template);
    let device = torch::device(&args.device)?;
    let lexicon = match &args.lexicon {
        Some(path) => Lexicon::read(path)?,
        None => Lexicon::challenge(),
    };
    let domains = pgclip_query::enhance::builtin();
    let lines = lines::read(&args.labels, &args.csv)?;
    let folder = picture_folder(&args.labels, args.images.as_deref());
    let Weights { config, params, .. } = args.weights.read(device)?;
    let filler = Filler {
        captions: Captions::new(&lexicon, &domains, args.drop_prefix),
        model: Clip::new(&config, &params, Precision::Fp32),
        config: &config,
        params: &params,
        device,
        template: &args.template,
        batch_size: args.batch_size,
    };
    let (augmented, summary) = filler.run(&lines, &folder)?;
    let text: String = lines
        .iter()
        .zip(augmented)
        .filter(|(_, caption)| caption.is_some() || !args.vehicles_only)
        .map(|(line, caption)| {
            let augmented = Some(caption.unwrap_or_else(|| line.caption.clone()));
            format!("{}\n", Line { augmented, ..line.clone() })
        })
        .collect();
    write_whole(&args.out, text.as_bytes())?;
    println!(
        "{}: {} lines; filled in {} colours and {} types; {} lines left as they are",
        args.out.display(),
        summary.lines,
        summary.colours,
        summary.types,
        summary.skipped + summary.broken.len()
    );
    images::report(&summary.broken);
    Ok(())
}

/// A model with what it needs to fill in captions.
struct Filler<'a> {
    captions: Captions<'a>,
    model: Clip,
    config: &'a Config,
    params: &'a Params,
    device: Device,
    template: &'a str,
    batch_size: usize,
}

/// A line to fill in.
struct Task {
    index: usize,
    place: Place,
    vehicle: Vehicle,
}

impl Filler<'_> {
    /// The augmented caption of each line, `None` where it is left as it is.
    fn run(&self, lines: &[Line], folder: &Path) -> Result<(Vec<Option<String>>, Summary)> {
        let mut result: Vec<Option<String>> = vec![None; lines.len()];
        let mut summary = Summary { lines: lines.len(), ..Summary::default() };
        let mut tasks = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let Some(vehicle) = self.captions.vehicle(line) else {
                summary.skipped += 1;
                continue;
            };
            match self.choices(&vehicle)[..] {
                // Everything is known: nothing to ask the model.
                [(colour, kind)] => {
                    result[index] = Some(self.captions.fill(&line.caption, &vehicle, colour, kind));
                }
                _ => tasks.push(Task {
                    index,
                    place: Place::File(folder.join(&line.image)),
                    vehicle,
                }),
            }
        }
        let prompts = self.prompts(&tasks);
        let bar = progress_bar(tasks.len() as u64, "augment");
        for tasks in tasks.chunks(self.batch_size) {
            let places: Vec<&Place> = tasks.iter().map(|task| &task.place).collect();
            let loaded = images::load_readable(&places, self.config);
            if !loaded.kept.is_empty() {
                let embeddings = encode::pictures(&self.model, &loaded.pictures, self.device);
                for (row, &at) in loaded.kept.iter().enumerate() {
                    let task = &tasks[at];
                    let (colour, kind) =
                        self.best(&task.vehicle, &embeddings.get(row as i64), &prompts)?;
                    summary.colours += usize::from(task.vehicle.colour.is_none());
                    summary.types += usize::from(task.vehicle.kind.is_none());
                    let caption = &lines[task.index].caption;
                    let filled = self.captions.fill(caption, &task.vehicle, colour, kind);
                    result[task.index] = Some(filled);
                }
            }
            summary.broken.extend(loaded.broken);
            bar.inc(tasks.len() as u64);
        }
        bar.finish_and_clear();
        images::some_readable(tasks.len(), &summary.broken)?;
        Ok((result, summary))
    }

    /// Colour and type of every combination that the label admits.
    fn choices<'v>(&'v self, vehicle: &'v Vehicle) -> Vec<(&'v str, &'v str)> {
        let lexicon = self.captions.lexicon;
        let colours = vehicle.colour.as_ref().map_or(&lexicon.colours[..], std::slice::from_ref);
        let types = vehicle.kind.as_ref().map_or(&lexicon.types[..], std::slice::from_ref);
        let pairs = |colour| types.iter().map(move |kind: &String| (colour, kind.as_str()));
        colours.iter().flat_map(|colour: &String| pairs(colour.as_str())).collect()
    }

    fn prompt(&self, vehicle: &Vehicle, colour: &str, kind: &str) -> String {
        let make = vehicle.make.as_deref().unwrap_or("");
        let kind = match self.captions.lexicon.type_in_make(make) {
            Some(_) => "", // "Balong Heavy Truck" says it
            None => kind,
        };
        let words: Vec<&str> =
            [colour, make, kind].into_iter().filter(|word| !word.is_empty()).collect();
        in_template(self.template, &words.join(" "))
    }

    /// The embeddings of all prompts that any of the tasks needs, each encoded once.
    fn prompts(&self, tasks: &[Task]) -> Prompts {
        let mut distinct = BTreeSet::new();
        for task in tasks {
            for (colour, kind) in self.choices(&task.vehicle) {
                distinct.insert(self.prompt(&task.vehicle, colour, kind));
            }
        }
        let context = self.config.model_cfg.text_cfg.context_length as usize;
        let table = self.params.token_rows.as_deref();
        let rows: Vec<Vec<i64>> = distinct
            .iter()
            .map(|text| tokens::to_rows(&tokens::tokenize(text, context), table))
            .collect();
        let embeddings = match rows.is_empty() {
            true => Tensor::zeros([0, 1], (tch::Kind::Float, Device::Cpu)),
            false => encode::texts(&self.model, &rows, self.device),
        };
        let rows = distinct.into_iter().zip(0..).collect();
        Prompts { rows, embeddings }
    }

    /// The combination whose prompt has the largest cosine with the picture [D].
    fn best<'v>(
        &'v self,
        vehicle: &'v Vehicle,
        picture: &Tensor,
        prompts: &Prompts,
    ) -> Result<(&'v str, &'v str)> {
        let choices = self.choices(vehicle);
        let rows: Vec<i64> = choices
            .iter()
            .map(|(colour, kind)| prompts.rows[&self.prompt(vehicle, colour, kind)])
            .collect();
        let scores = prompts.embeddings.index_select(0, &Tensor::from_slice(&rows)).mv(picture);
        ensure!(f64::try_from(scores.sum(None))?.is_finite(), "the model gives embeddings of NaN");
        Ok(choices[i64::try_from(scores.argmax(None, false))? as usize])
    }
}

/// Embeddings of prompts, [P, D] on the CPU, and the row of each.
struct Prompts {
    rows: HashMap<String, i64>,
    embeddings: Tensor,
}
