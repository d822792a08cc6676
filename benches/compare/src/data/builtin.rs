//! Vectors of the built-in model: scenes drawn and captioned, encoded through SQL in the cluster
//! itself, and kept as .npy files for the next run. The texts are real ones of the same model, so
//! the gap between texts and images is as well.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use half::f16;
use indicatif::ProgressBar;
use pgclip_cluster::Cluster;
use pgclip_scenes::{Scene, SceneOptions};
use postgres::Client;
use rayon::prelude::*;

use super::model::Model;
use super::{Data, Vectors, generate, npy};
use crate::exact::cache;
use crate::side::Metric;

/// Dimensions of `pgclip-traffic-tiny`.
pub const DIMS: usize = 128;
/// The first seed; the trainer's and the demo's scenes have others.
const FIRST_SEED: u64 = 9_300_000_000;
/// Scenes that are drawn and encoded together.
const BATCH: usize = 256;

/// `rows` scenes, those to insert later, `queries` scenes and as many captions of other scenes.
pub fn data(cluster: &Cluster, metric: Metric, rows: usize, queries: usize) -> Result<Data> {
    let later = generate::later(rows);
    let folder = cache()?;
    let images = rows + later + queries;
    let kept = folder.join(format!("builtin-images-{images}.npy"));
    let mut base = kept_or(
        &kept,
        images,
        |client, from, to| {
            let options = SceneOptions::default();
            let files: Vec<Vec<u8>> = (from..to)
                .into_par_iter()
                .map(|i| Scene::sample(FIRST_SEED + i as u64, &options).file(&options))
                .collect();
            encode(client, "encode_images($1)", &files)
        },
        cluster,
    )?;
    let kept = folder.join(format!("builtin-texts-{queries}.npy"));
    let text = kept_or(
        &kept,
        queries,
        |client, from, to| {
            let captions: Vec<String> = (from..to)
                .map(|i| {
                    let seed = FIRST_SEED + 500_000_000 + i as u64;
                    Scene::sample(seed, &SceneOptions::default()).caption()
                })
                .collect();
            encode(client, "encode_texts($1)", &captions)
        },
        cluster,
    )?;
    let own = base.split_off(rows + later);
    let later = base.split_off(rows);
    Ok(Data {
        title: format!("{rows} scenes, encoded by the built-in model"),
        metric,
        base,
        later,
        own,
        text: Some(text),
        frames: false,
        model: Some(Model::BuiltIn),
    })
}

fn kept_or(
    kept: &Path,
    count: usize,
    make: impl Fn(&mut Client, usize, usize) -> Result<Vec<f16>>,
    cluster: &Cluster,
) -> Result<Vectors> {
    if kept.exists() {
        return npy::read(kept);
    }
    println!("    encoding {count} for {}", kept.display());
    let mut client = cluster.connect()?;
    let bar = ProgressBar::new(count as u64);
    let mut values = Vec::new();
    for from in (0..count).step_by(BATCH) {
        let to = (from + BATCH).min(count);
        values.extend(make(&mut client, from, to)?);
        bar.inc((to - from) as u64);
    }
    bar.finish_and_clear();
    ensure!(values.len() == count * DIMS, "the built-in model gave other dimensions than {DIMS}");
    let vectors = Vectors::new(DIMS, values);
    npy::write(kept, &vectors)?;
    Ok(vectors)
}

/// Runs an encoding function over an array; all elements, one embedding after the other.
fn encode<T>(client: &mut Client, call: &str, items: &[T]) -> Result<Vec<f16>>
where
    T: postgres::types::ToSql + Sync + std::fmt::Debug,
{
    let sql =
        format!("SELECT embedding_send(e) FROM unnest({call}) WITH ORDINALITY t(e, n) ORDER BY n");
    let rows = client.query(&sql, &[&items]).context("the built-in model does not encode")?;
    let mut values = Vec::new();
    for row in rows {
        let bytes: Vec<u8> = row.get(0);
        let (pairs, _) = bytes[4..].as_chunks::<2>();
        values.extend(pairs.iter().map(|&pair| f16::from_bits(u16::from_be_bytes(pair))));
    }
    Ok(values)
}
