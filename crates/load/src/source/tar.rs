//! A tar file, uncompressed: members are found by their heads, and read later by place, so that
//! connections read one archive in parallel. As in webdataset, neighbours whose names are the same
//! up to the first full stop of the last part belong together. A name is the member's path.

use std::fs::File;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result, ensure};
use tar::Archive;

use super::{Failure, Found, Images, json_key};
use crate::item::{Field, Item, Place};

/// Items listed ahead.
const AHEAD: usize = 256;

pub fn list(
    path: &Path,
    images: Images,
    fields: Vec<String>,
) -> Result<Box<dyn Iterator<Item = Found>>> {
    let open = || File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let (file, archive) = (open()?, Arc::new(open()?));
    ensure!(file.metadata()?.is_file(), "{} is not a folder, a tar or a CSV", path.display());
    let name = path.display().to_string();
    // Entries borrow the archive they come from, so a thread holds both.
    let (found, items) = sync_channel(AHEAD);
    let mut group = Group { images, fields, archive, key: String::new(), files: Vec::new() };
    thread::spawn(move || {
        let read = group.read(file, &found);
        group.send(&found);
        if let Err(error) = read {
            let reason = format!("the archive cannot be read further: {error}");
            let _ = found.send(Err(Failure { name, reason }));
        }
    });
    Ok(Box::new(items.into_iter()))
}

/// Members that belong together.
struct Group {
    images: Images,
    fields: Vec<String>,
    archive: Arc<File>,
    key: String,
    files: Vec<(PathBuf, Place)>,
}

impl Group {
    /// Reads the archive to its end, or as long as somebody listens; the last group stays.
    fn read(&mut self, file: File, found: &SyncSender<Found>) -> io::Result<()> {
        for entry in Archive::new(file).entries_with_seek()? {
            let entry = entry?;
            let path = entry.path()?.into_owned();
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let Some(name) = path.to_str() else {
                let name = path.to_string_lossy().into_owned();
                let failure = Failure { name, reason: "its name is not UTF-8".into() };
                if found.send(Err(failure)).is_err() {
                    return Ok(());
                }
                continue;
            };
            let key = key(name);
            if key != self.key {
                if !self.send(found) {
                    return Ok(());
                }
                self.key = key.to_owned();
            }
            let place = Place::Slice {
                archive: self.archive.clone(),
                offset: entry.raw_file_position(),
                length: entry.size(),
            };
            self.files.push((path, place));
        }
        Ok(())
    }

    /// Sends the images of the group, each with the fields beside it. False: nobody listens.
    fn send(&mut self, found: &SyncSender<Found>) -> bool {
        let files = mem::take(&mut self.files);
        let field = |field: &String| {
            let key = json_key(field);
            let wanted = format!(".{}", key.map_or(field.as_str(), |_| "json"));
            let beside = files.iter().find(|(path, _)| {
                let path = path.to_string_lossy();
                path.strip_prefix(self.key.as_str()).is_some_and(|rest| rest == wanted)
            });
            match (beside, key) {
                (None, _) => Field::Missing,
                (Some((_, place)), Some(key)) => Field::Json(place.clone(), key.to_owned()),
                (Some((_, place)), None) => Field::Beside(place.clone()),
            }
        };
        let fields: Vec<Field> = self.fields.iter().map(field).collect();
        files.iter().filter(|(path, _)| self.images.has(path)).all(|(path, place)| {
            let name = path.to_string_lossy().into_owned();
            found.send(Ok(Item { name, image: place.clone(), fields: fields.clone() })).is_ok()
        })
    }
}

/// A member's path up to the first full stop of its last part.
fn key(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |at| at + 1);
    name[last..].find('.').map_or(name, |at| &name[..last + at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn listed(bytes: &[u8]) -> Vec<Found> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes).unwrap();
        let images = Images(vec!["jpg".into()]);
        let fields = ["txt", "json:lane"].map(str::to_owned).to_vec();
        list(file.path(), images, fields).unwrap().collect()
    }

    #[test]
    fn members_of_one_key_belong_together() {
        let long = format!("{}/1.jpg", "folder".repeat(30));
        let found = listed(&archive(&[
            ("s.0/a.txt", "first\n"),
            ("s.0/a.jpg", "A"),
            ("s.0/a.json", "{\"lane\": 7}"),
            ("s.0/b.seg.jpg", "B2"),
            ("s.0/b.jpg", "B"),
            (&long, "C"),
        ]));
        let found: Vec<Item> = found.into_iter().map(Result::unwrap).collect();
        let shown: Vec<_> = found
            .iter()
            .map(|item| {
                let image = String::from_utf8(item.image.read(10).unwrap()).unwrap();
                let fields: Vec<_> = item.fields.iter().map(|f| f.value().unwrap()).collect();
                (item.name.as_str(), image, fields)
            })
            .collect();
        let fields = |a: Option<&str>, b: Option<&str>| {
            vec![a, b].into_iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(
            shown,
            [
                ("s.0/a.jpg", "A".into(), fields(Some("first"), Some("7"))),
                ("s.0/b.seg.jpg", "B2".into(), fields(None, None)),
                ("s.0/b.jpg", "B".into(), fields(None, None)),
                (&long, "C".into(), fields(None, None)),
            ]
        );
    }

    #[test]
    fn an_archive_cut_short_gives_what_it_has() {
        let whole = archive(&[("a.jpg", "A"), ("b.jpg", "B"), ("c.jpg", "C")]);
        // Into the head of the second member.
        let found = listed(&whole[..1024 + 100]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].as_ref().unwrap().name, "a.jpg");
        let reason = &found[1].as_ref().unwrap_err().reason;
        assert!(reason.starts_with("the archive cannot be read further"), "{reason}");
        // Into the content of the second.
        let last = listed(&whole[..1024 + 512]).pop().unwrap().unwrap();
        assert!(last.image.read(10).unwrap_err().starts_with("cannot be read"));
    }
}
