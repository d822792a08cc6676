//! One image to load: its name, where its bytes are, and the values that come with it. Sources make
//! items, workers read them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The largest value out of a file beside an image.
const MAX_FIELD_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub struct Item {
    pub name: String,
    pub image: Place,
    pub fields: Vec<Field>,
}

/// Where bytes are.
#[derive(Clone, Debug)]
pub enum Place {
    File(PathBuf),
    /// A piece of an archive.
    Slice {
        archive: Arc<File>,
        offset: u64,
        length: u64,
    },
}

/// A value that comes with an image.
#[derive(Clone, Debug)]
pub enum Field {
    Missing,
    Text(String),
    /// The text of a file beside the image.
    Beside(Place),
    /// A value of a JSON file beside the image.
    Json(Place, String),
}

impl Place {
    /// Bytes that reading takes, as far as is known.
    pub fn length(&self) -> u64 {
        match self {
            Place::File(path) => std::fs::metadata(path).map_or(0, |found| found.len()),
            Place::Slice { length, .. } => *length,
        }
    }

    /// The bytes, or in a few words why there are none.
    pub fn read(&self, most: u64) -> Result<Vec<u8>, String> {
        let large = |length| {
            Err(format!("cannot be read: {length} bytes, more than the {most} that are allowed"))
        };
        match self {
            Place::File(path) => {
                let read = || {
                    // Before it is opened: a pipe would wait for its other end.
                    let found = std::fs::metadata(path)?;
                    if !found.is_file() {
                        return Err(std::io::Error::other("it is not a regular file"));
                    }
                    let mut bytes = Vec::with_capacity(found.len().min(most) as usize);
                    if found.len() <= most {
                        File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
                    }
                    Ok((found.len(), bytes))
                };
                match read() {
                    Err(error) => Err(format!("cannot be read: {error}")),
                    Ok((length, bytes)) if length.max(bytes.len() as u64) > most => {
                        large(length.max(bytes.len() as u64))
                    }
                    Ok((_, bytes)) => Ok(bytes),
                }
            }
            Place::Slice { length, .. } if *length > most => large(*length),
            Place::Slice { archive, offset, length } => {
                let mut bytes = vec![0; *length as usize];
                match archive.read_exact_at(&mut bytes, *offset) {
                    Ok(()) => Ok(bytes),
                    Err(error) => Err(format!("cannot be read: {error}")),
                }
            }
        }
    }
}

impl Field {
    /// The value as text; what is not there is NULL.
    pub fn value(&self) -> Result<Option<String>, String> {
        let text = |place: &Place| -> Result<String, String> {
            let bytes = place.read(MAX_FIELD_BYTES).map_err(|e| format!("a field {e}"))?;
            String::from_utf8(bytes).map_err(|_| "a field is not UTF-8".into())
        };
        match self {
            Field::Missing => Ok(None),
            Field::Text(text) => Ok(Some(text.clone())),
            Field::Beside(place) => Ok(Some(text(place)?.trim_end_matches(['\r', '\n']).into())),
            Field::Json(place, key) => {
                let json: serde_json::Value = serde_json::from_str(&text(place)?)
                    .map_err(|error| format!("its JSON is broken: {error}"))?;
                Ok(match json.get(key) {
                    None | Some(serde_json::Value::Null) => None,
                    Some(serde_json::Value::String(text)) => Some(text.clone()),
                    Some(other) => Some(other.to_string()),
                })
            }
        }
    }
}
