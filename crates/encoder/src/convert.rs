//! `convert`: published CLIP weights or ready ONNX graphs to a model directory. Its own file because
//! it is a command of its own; the work is done by the export crate, and by `adopt` where it takes
//! ONNX Runtime.

use std::path::PathBuf;

use crate::adopt;
use crate::confine::Confinement;
use crate::direction::texts_direction;
use crate::models::Models;
use crate::settings::EngineOptions;
use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use pgclip_clip::model::{Interpolation, ResizeMode};
use pgclip_clip::towers::BatchSize;
use pgclip_export::{
    Activation, Architecture, Draft, Graphs, Options, Preprocessing, Stated, Summary, Tower,
    holds_graphs, holds_weights,
};

#[derive(Args, Debug)]
pub struct ConvertOptions {
    /// What was published: weights in safetensors, .pt or .bin as open_clip or Hugging Face name them
    /// (a file, the index of a model in several files, or a folder with either), or a folder of ONNX
    /// graphs in the layout of Immich or of optimum and transformers.js
    source: PathBuf,
    /// The model directory to make
    directory: PathBuf,
    /// What to take of a folder that has both [default: weights where they can be converted]
    #[arg(long, value_enum)]
    from: Option<From>,
    /// Description of the weights' architecture: open_clip_config.json, one of open_clip's model
    /// configurations, or config.json with processor_config.json or preprocessor_config.json beside
    /// it [default: the one beside the weights]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the model [default: that of the directory]
    #[arg(long)]
    name: Option<String>,
    /// Of weights
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// Of graphs: which variant, such as fp16, quantized, int8, q4 [default: fp32, the one without a
    /// suffix, or the only one]
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Of graphs: how many numbers of an embedding are taken, for models whose embeddings may be cut
    #[arg(long, value_name = "N")]
    dimensions: Option<u32>,
    /// Of graphs that take texts of any length: most tokens of a text [default: the model's, at most
    /// 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=4096))]
    context_length: Option<u32>,
    /// Of models that have languages: the token of the one that texts are in, such as deu_Latn
    #[arg(long, value_name = "TOKEN")]
    language: Option<String>,
    /// Of graphs, which do not tell it: the multiplier of cosine similarities [default: 100]
    #[arg(long, value_name = "X")]
    logit_scale: Option<f32>,
    /// Of graphs, likewise: what is added to the multiplied similarity, in models that were trained
    /// with a sigmoid
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    logit_bias: Option<f32>,
    /// How images are prepared, where neither the description nor a file beside it tells it: the
    /// shortest side to size, bicubic, and the centre of it, with this mean and deviation
    #[arg(long, value_enum)]
    preprocess: Option<Preprocess>,
    /// Of weights with one of open_clip's model configurations: the tag that open_clip publishes them
    /// under, such as openai or laion2b_s34b_b79k, which tells preprocessing and activation
    #[arg(long, value_name = "TAG")]
    pretrained: Option<String>,
    /// Of weights, where nothing tells it: the function between the layers of a block's perceptron
    #[arg(long, value_enum)]
    activation: Option<ActivationName>,
    /// How images become square: cropped at the sides, padded with black, or squashed [default: as
    /// the description says]
    #[arg(long, value_enum)]
    resize: Option<Resize>,
    /// Whether images are turned as their EXIF orientation says; open_clip leaves them as they lie
    #[arg(long, value_enum, default_value_t = Exif::On)]
    exif_orientation: Exif,
    /// Replace a model directory that is there already
    #[arg(long)]
    overwrite: bool,
    /// ONNX Runtime's shared library, version 1.23 or later, for probing graphs and for the texts'
    /// direction [default: what PGCLIP_ONNXRUNTIME names, the one installed with the extension, or the
    /// system's]
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    Weights,
    Graphs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Exif {
    On,
    Off,
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
enum ActivationName {
    Gelu,
    /// That of OpenAI's own weights
    QuickGelu,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Resize {
    Crop,
    Pad,
    Squash,
}

pub fn run(options: &ConvertOptions) -> anyhow::Result<()> {
    let export = Options {
        name: options.name.clone(),
        precision: match options.precision {
            Precision::Fp32 => pgclip_export::Precision::Fp32,
            Precision::Fp16 => pgclip_export::Precision::Fp16,
            Precision::Fp16Storage => pgclip_export::Precision::Fp16Storage,
        },
        stated: Stated {
            preprocessing: options.preprocess.map(|preprocess| match preprocess {
                Preprocess::Openai => Preprocessing::openai(),
                Preprocess::Imagenet => Preprocessing::imagenet(),
                Preprocess::Inception => Preprocessing::inception(),
            }),
            activation: options.activation.map(|activation| match activation {
                ActivationName::Gelu => Activation::Gelu,
                ActivationName::QuickGelu => Activation::QuickGelu,
            }),
            tag: options.pretrained.clone(),
        },
        resize: options.resize.map(|resize| match resize {
            Resize::Crop => ResizeMode::Crop,
            Resize::Pad => ResizeMode::Pad,
            Resize::Squash => ResizeMode::Squash,
        }),
        exif_orientation: options.exif_orientation == Exif::On,
        variant: options.variant.clone(),
        dimensions: options.dimensions,
        context_length: options.context_length,
        language: options.language.clone(),
        logit_scale: options.logit_scale,
        logit_bias: options.logit_bias,
        overwrite: options.overwrite,
        ..Options::default()
    };
    let ConvertOptions { source, config, directory, .. } = options;
    let models = Models::new(&EngineOptions::on_cpu(options.onnxruntime()), Confinement::none());
    let (mut draft, what) = if takes_graphs(options)? {
        options.refuse_options_of_weights()?;
        models.runtime.version().map_err(|failure| {
            anyhow::anyhow!(
                "{}; graphs are probed with it: name it with --onnxruntime",
                failure.message
            )
        })?;
        let graphs = Graphs::open(source, &export)?;
        (adopt::adopt(&graphs, &export, &models, directory)?, graphs.what.clone())
    } else {
        options.refuse_options_of_graphs()?;
        let draft = pgclip_export::draft(source, config.as_deref(), &export, directory)?;
        (draft, "weights".to_owned())
    };
    println!("{} taken for {what}", source.display());
    learn_direction(&mut draft, &models)?;
    let summary = draft.finish()?;
    println!("{}", report(options, &summary));
    Ok(())
}

impl ConvertOptions {
    /// The library of ONNX Runtime.
    fn onnxruntime(&self) -> PathBuf {
        if let Some(path) = &self.onnxruntime {
            return path.clone();
        }
        if let Some(path) = std::env::var_os("PGCLIP_ONNXRUNTIME") {
            return path.into();
        }
        // Beside the extension's library, as the server's own directories lie to each other.
        let programs = std::env::current_exe().ok();
        let programs = programs.as_deref().and_then(std::path::Path::parent);
        ["../lib/pgclip", "../lib/postgresql/pgclip"]
            .iter()
            .filter_map(|folder| Some(programs?.join(folder).join("libonnxruntime.so")))
            .find(|path| path.is_file())
            .unwrap_or_else(|| "libonnxruntime.so".into())
    }

    /// Options that graphs have no use for are not overlooked.
    fn refuse_options_of_weights(&self) -> anyhow::Result<()> {
        let given = [
            ("--pretrained", self.pretrained.is_some()),
            ("--activation", self.activation.is_some()),
        ];
        for (option, given) in given {
            ensure!(!given, "{option} is for weights, and {} are graphs", self.source.display());
        }
        Ok(())
    }

    /// Options that weights answer themselves are not overlooked.
    fn refuse_options_of_graphs(&self) -> anyhow::Result<()> {
        let given = [
            ("--variant", self.variant.is_some()),
            ("--dimensions", self.dimensions.is_some()),
            ("--context-length", self.context_length.is_some()),
            ("--language", self.language.is_some()),
            ("--logit-scale", self.logit_scale.is_some()),
            ("--logit-bias", self.logit_bias.is_some()),
        ];
        for (option, given) in given {
            ensure!(!given, "{option} is for graphs, and {} are weights", self.source.display());
        }
        Ok(())
    }
}

/// Whether the source is to be taken for graphs.
fn takes_graphs(options: &ConvertOptions) -> anyhow::Result<bool> {
    let source = &options.source;
    let (graphs, weights) = (holds_graphs(source), holds_weights(source));
    Ok(match options.from {
        Some(From::Graphs) => true,
        Some(From::Weights) => false,
        None if graphs && weights && options.variant.is_none() => {
            // Of a folder with both the weights are better known, where they are known at all.
            !Architecture::is_known(source, options.config.as_deref())
        }
        None => graphs,
    })
}

/// Finds the texts' direction, if the model does not bring it. Weights are converted without ONNX
/// Runtime as well; clip_register_model then does it.
fn learn_direction(draft: &mut Draft, models: &Models) -> anyhow::Result<()> {
    if draft.config.mean_text_embedding.is_some() {
        return Ok(());
    }
    if let Err(failure) = models.runtime.version() {
        tracing::warn!(
            "the texts' direction is left to clip_register_model: {} (--onnxruntime)",
            failure.message
        );
        return Ok(());
    }
    let model = adopt::load(draft, models)?;
    let direction =
        texts_direction(&model).map_err(|failure| anyhow::anyhow!("{}", failure.message));
    draft.config.mean_text_embedding = Some(direction.context("the texts' direction")?);
    Ok(())
}

/// What was made, for people.
fn report(options: &ConvertOptions, summary: &Summary) -> String {
    let Summary { config, .. } = summary;
    let resized = match config.image.resize {
        ResizeMode::Crop => "cropping",
        ResizeMode::Pad => "padding",
        ResizeMode::Squash => "squashing",
    };
    let interpolation = match config.image.interpolation {
        Interpolation::Bicubic => "bicubic",
        Interpolation::Bilinear => "bilinear",
    };
    let mut lines = vec![
        format!("{} in {}", config.name, options.directory.display()),
        format!("  architecture  {}", config.architecture),
    ];
    let mut towers = [String::new(), String::new()];
    if let Some(architecture) = &summary.architecture {
        towers = [&architecture.vision, &architecture.text].map(tower);
        towers[0] += &format!(", patches of {0}x{0}", architecture.patch_size);
    } else if let Some(described) = &summary.towers {
        towers = described.clone();
    } else if let Some(described) = &config.towers {
        towers = [&described.image, &described.text].map(|tower| match tower.batch {
            BatchSize::Any => "in batches".to_owned(),
            BatchSize::One => "one by one".to_owned(),
        });
    }
    let exif = if config.image.exif_orientation { "turned by EXIF" } else { "not turned by EXIF" };
    lines.extend([
        format!("  image tower   {}", towers[0]),
        format!(
            "                {0}x{0} pixels, resized by {resized}, {interpolation}, {exif}",
            config.image.size
        ),
        format!("                mean {:?}, deviation {:?}", config.image.mean, config.image.std),
        format!("  text tower    {}", towers[1]),
        format!(
            "                {} tokens at most, {} token ids{}",
            config.text.context_length,
            config.text.vocab_size,
            match &config.text.tokens {
                None => ", CLIP's own".to_owned(),
                Some(tokens) => format!(" of {}", tokens.file),
            }
        ),
        format!("  dimensions    {}", config.dimensions),
    ]);
    if let Some(parameters) = summary.parameters {
        let precision = options.precision.to_possible_value();
        lines.push(format!("  parameters    {:.1} million", parameters as f64 / 1e6));
        lines.push(format!(
            "  precision     {}",
            precision.as_ref().map_or("", |value| value.get_name())
        ));
    }
    let assumed = summary.parameters.is_none() && options.logit_scale.is_none();
    let assumed = if assumed { " (assumed: graphs do not tell it)" } else { "" };
    lines.push(format!("  logit scale   {}{assumed}", config.logit_scale));
    if let Some(bias) = config.logit_bias {
        lines.push(format!("  logit bias    {bias}"));
    }
    for (file, bytes) in &summary.files {
        lines.push(format!("  {file:<13} {:.1} MB", *bytes as f64 / 1e6));
    }
    lines.push(format!("  digest        {}", summary.digest));
    lines.join("\n")
}

fn tower(tower: &Tower) -> String {
    let activation = match tower.activation {
        Activation::Gelu => "GELU",
        Activation::GeluTanh => "GELU by tanh",
        Activation::QuickGelu => "QuickGELU",
    };
    let Tower { width, layers, heads, .. } = tower;
    format!("{layers} layers of width {width}, {heads} heads, {activation}")
}
