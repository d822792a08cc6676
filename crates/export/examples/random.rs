//! Random weights in the shape of a published CLIP, for measuring speed with nothing downloaded:
//! `cargo run --release -p pgclip-export --example random -- ViT-B-32 FOLDER` writes what
//! `pgclip-encoder convert FOLDER DIR` takes.

use std::path::Path;

use anyhow::{Context, bail};
use pgclip_export::RandomClip;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder] = &arguments[..] else { bail!("usage: random MODEL FOLDER") };
    let model = RandomClip::published(name)
        .with_context(|| format!("{name} is none of ViT-B-32, ViT-L-14, ViT-bigG-14"))?;
    model.write(Path::new(folder)).with_context(|| folder.clone())
}
