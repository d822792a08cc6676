//! `pgclip-train synth`: a labelled set of synthetic traffic scenes on disk.
//!
//! The set itself is written by `pgclip-scenes`; what training adds are captions in many
//! wordings, in a second label file of the same form.

use std::fs;

use anyhow::{Context, Result, ensure};
use pgclip_scenes::benchmark::{self, Split};
use pgclip_scenes::{SceneOptions, image_name, scene_at, write_set};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::args::SynthArgs;
use crate::checkpoint::digest;

/// Name of the label file with the free captions.
pub const CAPTION_FILE: &str = "captions.txt";

/// Stream of a scene's seed for its free captions.
const WORDING: u64 = 1 << 32;

/// Runs `pgclip-train synth`.
pub fn run(args: &SynthArgs) -> Result<()> {
    if args.benchmark {
        return write_benchmark(args);
    }
    ensure!(args.count > 0, "--count must be at least 1");
    ensure!((0.0..=1.0).contains(&args.vehicles), "--vehicles must be in [0, 1]");
    let options = SceneOptions { vehicles: args.vehicles, ..SceneOptions::default() };
    let manifest = write_set(&args.out, args.count, args.seed, &options)?;
    println!("{}: {} pictures", args.out.display(), manifest.count);
    println!("images {}\nlabels {}", manifest.images_sha256, manifest.labels_sha256);
    if args.captions > 0 {
        let path = args.out.join(CAPTION_FILE);
        fs::write(&path, captions(args, &options))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("captions {}", digest(&path)?);
    }
    Ok(())
}

fn write_benchmark(args: &SynthArgs) -> Result<()> {
    ensure!(args.share > 0.0 && args.share <= 1.0, "--share must be in (0, 1]");
    let manifest = benchmark::write(&args.out, args.seed, args.share)?;
    for split in Split::ALL {
        let part = &manifest.splits[split.name()];
        println!(
            "{}: {} pictures, {} of vehicles, whose labels lack the type in {} cases, the colour in {}",
            split.name(),
            part.set.count,
            part.vehicles,
            part.without_type,
            part.without_colour
        );
        println!("  images {}", part.set.images_sha256);
    }
    Ok(())
}

/// `--captions` label lines for each scene, the first in the challenge's own words.
fn captions(args: &SynthArgs, options: &SceneOptions) -> String {
    let lines: Vec<String> = (0..args.count)
        .into_par_iter()
        .map(|index| {
            let scene = scene_at(args.seed, index, options);
            let mut rng = ChaCha8Rng::seed_from_u64(scene.seed);
            rng.set_stream(WORDING);
            let (image, attributes) = (image_name(index), scene.attributes());
            let free = (1..args.captions).map(|_| scene.training_caption(&mut rng));
            std::iter::once(scene.caption())
                .chain(free)
                .map(|caption| format!("{image}${attributes}${caption}\n"))
                .collect()
        })
        .collect();
    lines.concat()
}
