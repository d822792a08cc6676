//! The settings that a run's later steps depend on: kept in checkpoints, and compared when a run is
//! resumed.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::args::TrainArgs;
use crate::data;

/// What a run's later steps depend on, by name.
pub fn of(args: &TrainArgs) -> Result<BTreeMap<String, String>> {
    let data = data::digest(&args.train_data)?;
    let pairs = [
        ("train_data_sha256", data),
        ("captions", format!("{:?}", args.captions)),
        ("model", args.model.clone()),
        ("compact_vocabulary", args.compact_vocabulary.to_string()),
        ("token_noise", args.token_noise.to_string()),
        ("epochs", args.epochs.to_string()),
        ("steps", args.steps.map_or("by epochs".into(), |steps| steps.to_string())),
        ("batch_size", args.batch_size.to_string()),
        ("lr", args.lr.to_string()),
        ("warmup", args.warmup.to_string()),
        ("seed", args.seed.to_string()),
        ("flip", args.flip.to_string()),
        ("shift", args.shift.to_string()),
        ("brightness", args.brightness.to_string()),
    ];
    let scale = args.aug_scale.map(|scale| ("aug_scale", scale.to_string()));
    let pairs = pairs.into_iter().chain(scale).chain(args.learn.settings());
    Ok(pairs.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// An error that names a setting which is another now.
pub fn same(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Result<()> {
    let value = |of: &BTreeMap<String, String>, name| {
        of.get(name).map_or("absent", String::as_str).to_owned()
    };
    for name in old.keys().chain(new.keys()) {
        let (was, is) = (value(old, name), value(new, name));
        ensure!(was == is, "{name} was {was}, and is {is} now");
    }
    Ok(())
}
