//! A folder and all below it, in order of names. Links are followed, loops of them are failures.
//! A name is the path below the folder.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::{Failure, Found, Images, json_key};
use crate::item::{Field, Item, Place};

pub fn list(
    root: &Path,
    images: Images,
    fields: Vec<String>,
) -> impl Iterator<Item = Found> + use<> {
    let root = root.to_owned();
    let walk = WalkDir::new(&root).follow_links(true).sort_by_file_name();
    walk.into_iter().filter_map(move |entry| match entry {
        Ok(entry) if entry.file_type().is_dir() || !images.has(entry.path()) => None,
        Ok(entry) => Some(item(&root, entry.into_path(), &fields)),
        Err(error) => {
            let path = error.path().unwrap_or(&root);
            // A link to nowhere is a failure only where it would be an image.
            if path.is_symlink() && !images.has(path) && error.io_error().is_some() {
                return None;
            }
            let name = below(&root, path).to_string_lossy().into_owned();
            let reason = error.io_error().map_or_else(|| error.to_string(), |io| io.to_string());
            let reason = format!("cannot be read: {reason}");
            Some(Err(Failure { name, reason }))
        }
    })
}

fn below<'a>(root: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

fn item(root: &Path, path: PathBuf, fields: &[String]) -> Found {
    let Some(name) = below(root, &path).to_str().map(str::to_owned) else {
        let name = below(root, &path).to_string_lossy().into_owned();
        return Err(Failure { name, reason: "its name is not UTF-8".into() });
    };
    let field = |field: &String| {
        let key = json_key(field);
        let beside = path.with_extension(key.map_or(field.as_str(), |_| "json"));
        match key {
            _ if !beside.exists() => Field::Missing,
            Some(key) => Field::Json(Place::File(beside), key.to_owned()),
            None => Field::Beside(Place::File(beside)),
        }
    };
    let fields = fields.iter().map(field).collect();
    Ok(Item { name, image: Place::File(path), fields })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_folder_is_listed_in_order_with_what_lies_beside() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        for name in ["b/2.JPG", "b/c/3.png", "a.jpg", "notes.txt", "b/2.txt", "b/2.json"] {
            fs::write(root.join(name), "{\"lane\": 3, \"gate\": \"north\"}\n").unwrap();
        }
        symlink("nowhere", root.join("d.jpg")).unwrap();
        symlink("nowhere", root.join("d.log")).unwrap();
        symlink("..", root.join("b/up")).unwrap();
        let images = Images(vec!["jpg".into(), "png".into()]);
        let fields = ["txt", "json:lane", "json:gate", "json:none"].map(str::to_owned).to_vec();
        let found: Vec<_> = list(root, images, fields).collect();
        let names: Vec<_> = found
            .iter()
            .map(|found| match found {
                Ok(item) => item.name.clone(),
                Err(failure) => format!("!{}", failure.name),
            })
            .collect();
        assert_eq!(names, ["a.jpg", "b/2.JPG", "b/c/3.png", "!b/up", "!d.jpg"]);
        let values = |at: usize| -> Vec<_> {
            let item = found[at].as_ref().unwrap();
            item.fields.iter().map(|field| field.value().unwrap()).collect()
        };
        assert_eq!(values(0), [None, None, None, None]);
        let json = "{\"lane\": 3, \"gate\": \"north\"}";
        assert_eq!(
            values(1),
            [Some(json), Some("3"), Some("north"), None].map(|v| v.map(str::to_owned))
        );
    }
}
