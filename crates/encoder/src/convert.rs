//! `convert`: published CLIP weights to a model directory. Its own file because it is a
//! command of its own; the work is done by the export crate.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pgclip_clip::model::ResizeMode;
use pgclip_export::{Activation, Options, Preprocessing, Summary, Tower};

#[derive(Args, Debug)]
pub struct ConvertOptions {
    /// Weights in safetensors as open_clip or Hugging Face publish them: a file, the index of a
    /// model in several files, or a folder with either
    weights: PathBuf,
    /// The model directory to make
    directory: PathBuf,
    /// Description of the architecture: open_clip_config.json, one of open_clip's model
    /// configurations, or config.json with processor_config.json or preprocessor_config.json beside
    /// it [default: the one beside the weights]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the model [default: that of the directory]
    #[arg(long)]
    name: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// How images are prepared, where neither the description nor a file beside it tells it: the
    /// shortest side to size, bicubic, and the centre of it, with this mean and deviation
    #[arg(long, value_enum)]
    preprocess: Option<Preprocess>,
    /// How images become square: cropped at the sides, or padded with black [default: as the
    /// description says]
    #[arg(long, value_enum)]
    resize: Option<Resize>,
    /// Replace a model directory that is there already
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Precision {
    /// The weights as they are: for CPUs
    #[default]
    Fp32,
    /// Half the size, and arithmetic in fp16: for GPUs
    Fp16,
    /// Half the size, arithmetic in fp32: for CPUs where the size matters
    Fp16Storage,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preprocess {
    /// OpenAI's, as nearly all CLIP models have it
    Openai,
    /// ImageNet's
    Imagenet,
    /// 0.5 and 0.5: values from -1 to 1
    Inception,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Resize {
    Crop,
    Pad,
}

pub fn run(options: &ConvertOptions) -> anyhow::Result<()> {
    let export = Options {
        name: options.name.clone(),
        precision: match options.precision {
            Precision::Fp32 => pgclip_export::Precision::Fp32,
            Precision::Fp16 => pgclip_export::Precision::Fp16,
            Precision::Fp16Storage => pgclip_export::Precision::Fp16Storage,
        },
        preprocessing: options.preprocess.map(|preprocess| match preprocess {
            Preprocess::Openai => Preprocessing::openai(),
            Preprocess::Imagenet => Preprocessing::imagenet(),
            Preprocess::Inception => Preprocessing::inception(),
        }),
        resize: options.resize.map(|resize| match resize {
            Resize::Crop => ResizeMode::Crop,
            Resize::Pad => ResizeMode::Pad,
        }),
        overwrite: options.overwrite,
        ..Options::default()
    };
    let ConvertOptions { weights, config, directory, .. } = options;
    let summary = pgclip_export::export(weights, config.as_deref(), &export, directory)?;
    println!("{}", report(options, &summary));
    Ok(())
}

/// What was made, for people.
fn report(options: &ConvertOptions, summary: &Summary) -> String {
    let Summary { config, architecture, .. } = summary;
    let precision = options.precision.to_possible_value();
    let mut lines = vec![
        format!("{} in {}", config.name, options.directory.display()),
        format!("  architecture  {}", config.architecture),
        format!("  image tower   {}", tower(&architecture.vision)),
        format!(
            "                {0}x{0} pixels, patches of {1}x{1}, resized by {2}",
            config.image.size,
            architecture.patch_size,
            match config.image.resize {
                ResizeMode::Crop => "cropping",
                ResizeMode::Pad => "padding",
            }
        ),
        format!("                mean {:?}, deviation {:?}", config.image.mean, config.image.std),
        format!("  text tower    {}", tower(&architecture.text)),
        format!(
            "                {} tokens at most, {} token ids",
            config.text.context_length, config.text.vocab_size
        ),
        format!("  dimensions    {}", config.dimensions),
        format!("  parameters    {:.1} million", summary.parameters as f64 / 1e6),
        format!("  precision     {}", precision.as_ref().map_or("", |value| value.get_name())),
        format!("  logit scale   {}", config.logit_scale),
    ];
    for (file, bytes) in &summary.files {
        lines.push(format!("  {file:<13} {:.1} MB", *bytes as f64 / 1e6));
    }
    lines.push(format!("  digest        {}", summary.digest));
    lines.join("\n")
}

fn tower(tower: &Tower) -> String {
    let activation = match tower.activation {
        Activation::Gelu => "GELU",
        Activation::QuickGelu => "QuickGELU",
    };
    let Tower { width, layers, heads, .. } = tower;
    format!("{layers} layers of width {width}, {heads} heads, {activation}")
}
