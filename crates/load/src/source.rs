//! Where images come from: each source lists items one by one, and holds no more of its list than
//! the entries of one folder or of one group of a tar.

mod folder;
mod list;
mod tar;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::item::Item;
use crate::options::Options;

/// What a source comes by.
pub type Found = Result<Item, Failure>;

/// A file that cannot even be listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub name: String,
    pub reason: String,
}

/// Opens a folder, a tar or a CSV. `fields` are the values wanted with each image.
pub fn open(options: &Options, fields: &[String]) -> Result<Box<dyn Iterator<Item = Found>>> {
    let path = &options.source;
    let kind = fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
    let images = Images(options.extensions.clone());
    let prefix = options.prefix.clone();
    let found: Box<dyn Iterator<Item = Found>> = if kind.is_dir() {
        Box::new(folder::list(path, images, fields.to_vec()))
    } else if has_extension(path, "csv") || has_extension(path, "tsv") {
        Box::new(list::list(path, options.path_field.as_deref(), fields)?)
    } else {
        tar::list(path, images, fields.to_vec())?
    };
    Ok(Box::new(found.map(move |found| {
        found.map(|item| Item { name: format!("{prefix}{}", item.name), ..item })
    })))
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(wanted))
}

/// The extensions of images.
#[derive(Clone, Debug)]
struct Images(Vec<String>);

impl Images {
    fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|extension| has_extension(path, extension))
    }
}

/// What `json:KEY` asks for.
fn json_key(field: &str) -> Option<&str> {
    field.strip_prefix("json:")
}
