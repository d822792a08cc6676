//! A CSV with a head line, a path a line; a `.tsv` has tabs. Paths are relative to the CSV's folder,
//! a name is the path as it is written, and other fields may fill columns. An empty field that is
//! wanted is an empty text, not NULL.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Failure, Found, has_extension};
use crate::item::{Field, Item, Place};

pub fn list(
    path: &Path,
    path_field: Option<&str>,
    fields: &[String],
) -> Result<impl Iterator<Item = Found> + use<>> {
    let delimiter = if has_extension(path, "tsv") { b'\t' } else { b',' };
    let opened = csv::ReaderBuilder::new().delimiter(delimiter).from_path(path);
    let mut reader = opened.with_context(|| format!("cannot open {}", path.display()))?;
    let head = reader.headers().with_context(|| format!("{}", path.display()))?.clone();
    let position = |field: &str| match head.iter().position(|name| name == field) {
        Some(at) => Ok(at),
        None => {
            let names: Vec<&str> = head.iter().collect();
            bail!("{} has no field \"{field}\", but: {}", path.display(), names.join(", "))
        }
    };
    let path_at = path_field.map_or(Ok(0), position)?;
    let fields: Vec<usize> = fields.iter().map(|field| position(field)).collect::<Result<_>>()?;
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    let file = path.display().to_string();
    let mut broken = false;
    Ok(reader.into_records().map_while(move |record| {
        if broken {
            return None;
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                // A line that is wrong in itself is left out; a file that ends is at its end.
                broken = error.is_io_error();
                return Some(Err(Failure { name: file.clone(), reason: error.to_string() }));
            }
        };
        let value = |at: usize| record.get(at).unwrap_or_default().to_owned();
        let name = value(path_at);
        let image = Place::File(folder.join(&name));
        let fields = fields.iter().map(|at| Field::Text(value(*at))).collect();
        Some(Ok(Item { name, image, fields }))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn fields_are_found_by_their_names_and_bad_lines_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        fs::write(&path, "camera,file\n\"north, 1\",a.jpg\nlost\nsouth,/abs/b.jpg\n").unwrap();
        let found: Vec<_> = list(&path, Some("file"), &["camera".to_owned()]).unwrap().collect();
        let item = found[0].as_ref().unwrap();
        assert_eq!(item.name, "a.jpg");
        assert_eq!(item.fields[0].value(), Ok(Some("north, 1".into())));
        let Place::File(place) = &item.image else { panic!("{item:?}") };
        assert_eq!(*place, folder.path().join("a.jpg"));
        assert!(found[1].as_ref().unwrap_err().reason.contains("line: 3"), "{found:?}");
        let Place::File(place) = &found[2].as_ref().unwrap().image else { panic!("{found:?}") };
        assert_eq!(*place, Path::new("/abs/b.jpg"));
        let error = list(&path, Some("path"), &[]).err().unwrap().to_string();
        assert!(error.contains("no field \"path\", but: camera, file"), "{error}");
    }
}
