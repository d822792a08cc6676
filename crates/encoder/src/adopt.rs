//! Ready graphs to a model directory, the part that needs ONNX Runtime: each tower is loaded and
//! probed, its batch is freed where the numbers stay the same, and whatever does not fit is told by
//! the file that is at fault. Apart from `convert`, which is the command.

use crate::backend::{Feed, Tower};
use crate::encode;
use crate::models::{Model, Models};
use anyhow::{Context, Result, bail, ensure};
use pgclip_clip::decode::Decoded;
use pgclip_clip::towers::{BatchSize, Holds, Layout};
use pgclip_export::{Draft, Graphs, Options, Which};
use std::path::Path;
use std::sync::Arc;

/// Cosine from which on two embeddings of one item count as the same.
const SAME: f32 = 0.9999;
/// Texts of unlike lengths.
const TEXTS: [&str; 2] = ["a red car", "two children and a dog in front of a house with a garden"];

/// Makes the directory of `graphs`, probed and complete but for its last place.
pub fn adopt(graphs: &Graphs, options: &Options, models: &Models, dir: &Path) -> Result<Draft> {
    let mut draft = graphs.draft(options, dir)?;
    let both = [Which::Image, Which::Text];
    for which in both {
        graphs.write(&mut draft, which, true)?;
    }
    for which in both {
        let at = || format!("\"{}\"", graphs.path(which).display());
        let freed = load(&mut draft, models).and_then(|model| probe(&model, which));
        let same = match freed {
            Ok(same) => same,
            Err(_) if graphs.is_fixed(which) => false,
            Err(error) => return Err(error).with_context(at),
        };
        if !same {
            graphs.write(&mut draft, which, false)?;
            let towers = draft.config.towers.as_mut().context("graphs have towers")?;
            match which {
                Which::Image => towers.image.batch = BatchSize::One,
                Which::Text => towers.text.batch = BatchSize::One,
            }
            load(&mut draft, models).and_then(|model| probe(&model, which)).with_context(at)?;
        }
    }
    let model = load(&mut draft, models)?;
    knows_all_tokens(&model)
        .with_context(|| format!("\"{}\"", graphs.path(Which::Text).display()))?;
    let alone: Vec<&str> = both
        .into_iter()
        .zip(["images", "texts"])
        .filter(|(which, _)| batch(&draft, *which) == Some(BatchSize::One))
        .map(|(_, what)| what)
        .collect();
    if !alone.is_empty() {
        draft.config.architecture += &format!(", {} one by one", alone.join(" and "));
    }
    Ok(draft)
}

fn batch(draft: &Draft, which: Which) -> Option<BatchSize> {
    let towers = draft.config.towers.as_ref()?;
    Some(match which {
        Which::Image => towers.image.batch,
        Which::Text => towers.text.batch,
    })
}

/// The model as it is so far.
pub fn load(draft: &mut Draft, models: &Models) -> Result<Arc<Model>> {
    draft.describe()?;
    let directory = draft.path().display().to_string();
    models.open(&directory).map_err(|failure| anyhow::anyhow!("{}", failure.message))
}

/// Runs a tower on two items. Whether they get the same embeddings together as alone.
fn probe(model: &Arc<Model>, which: Which) -> Result<bool> {
    let fail = |failure: crate::failure::Failure| anyhow::anyhow!("{}", failure.message);
    let (tower, feeds) = match which {
        Which::Image => (model.image().map_err(fail)?, images(model)),
        Which::Text => {
            let tower = model.text().map_err(fail)?;
            let feeds = texts(model, &tower)?;
            (tower, feeds)
        }
    };
    let [one, other, both] = feeds;
    let run = |feed: &Feed| tower.run(feed).map_err(fail);
    let alone = [run(&one)?, run(&other)?];
    for embedding in &alone {
        ensure!(
            embedding.iter().all(|x| x.is_finite()),
            "gives no finite embedding for a probe: its output \"{}\" has NaN, infinity, or nothing but 0",
            match which {
                Which::Image => model.config().image_tower().output.name,
                Which::Text => model.config().text_tower().output.name,
            }
        );
    }
    let Ok(together) = tower.run(&both) else { return Ok(false) };
    let dimensions = model.dimensions();
    let same = together.chunks_exact(dimensions).zip(&alone).all(|(a, b)| cosine(a, b) > SAME);
    Ok(same)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Two pictures, each alone and both together.
fn images(model: &Model) -> [Feed<'static>; 3] {
    let size = model.image_size();
    let pictures: Vec<f32> = [3usize, 7]
        .into_iter()
        .flat_map(|step| {
            let level =
                |x: usize, y: usize, c: usize| ((x * step + y * (step + 2 * c)) % 256) as u8;
            let at = |n: usize| (n / 3 % size * 256 / size, n / 3 / size * 256 / size, n % 3);
            let pixels = (0..3 * size * size).map(|n| {
                let (x, y, c) = at(n);
                level(x, y, c)
            });
            let picture = Decoded::rgb(size as u32, size as u32, pixels.collect());
            let mut out = vec![0.0; 3 * size * size];
            model.preprocessor.normalise(&model.preprocessor.run(&picture), &mut out);
            out
        })
        .collect();
    let feed = |pixels: &[f32]| {
        let count = pixels.len() / (3 * size * size);
        let shape = match model.config().image_tower().main().holds {
            Holds::Pixels { layout: Layout::Nhwc } => [count, size, size, 3],
            _ => [count, 3, size, size],
        };
        let shape = shape.map(|n| n as i64).to_vec();
        Feed::Pixels { shape, pixels: pixels.to_vec().into() }
    };
    let (one, other) = pictures.split_at(pictures.len() / 2);
    [feed(one), feed(other), feed(&pictures)]
}

/// Two texts, likewise; each as long as it is where the tower allows it.
fn texts(model: &Model, tower: &Tower) -> Result<[Feed<'static>; 3]> {
    let length = model.context_length();
    let tokens = model.tokens().map_err(|failure| anyhow::anyhow!("{}", failure.message))?;
    let mut ids = Vec::new();
    for text in TEXTS {
        let encoded = tokens.encode(text, None, length);
        ids.push(encoded.map_err(|error| anyhow::anyhow!("{}", error.message))?);
    }
    let feed = |ids: &[Vec<i64>]| tokens.batch(tower, ids, length);
    Ok([feed(&ids[..1]), feed(&ids[1..]), feed(&ids)])
}

/// Whether the text tower takes every id that the tokeniser gives.
fn knows_all_tokens(model: &Arc<Model>) -> Result<()> {
    let text = &model.config().text;
    let Some(tokens) = &text.tokens else { return Ok(()) };
    let last = i64::from(text.vocab_size) - 1;
    let ids = vec![last; 3.min(model.context_length())];
    let tower = model.text().map_err(|failure| anyhow::anyhow!("{}", failure.message))?;
    if let Err(failure) = encode::ids(model, &tower, &[ids]) {
        bail!(
            "does not take the token ids of \"{}\", which go up to {last}: {}",
            tokens.file,
            failure.message
        );
    }
    Ok(())
}
