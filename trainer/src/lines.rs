//! Lines of label files, as they are written: one picture, its attribute field, its captions.
//!
//! Apart from [`crate::data`], which makes a training set of them, because `prepare` and
//! `augment` read and write lines without looking for any picture.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

/// Numbers in the attribute field of a pedestrian.
const PERSON_FLAGS: usize = 21;

/// One line: `image$attributes$caption` or `image$attributes$caption$augmented caption`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub image: String,
    pub attributes: String,
    pub caption: String,
    pub augmented: Option<String>,
}

/// Which caption of a line is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Captions {
    /// The augmented one where there is one
    Augmented,
    /// The one given
    Given,
}

impl Captions {
    /// The caption of `line`.
    pub fn of(self, line: &Line) -> &str {
        match (self, &line.augmented) {
            (Captions::Augmented, Some(augmented)) => augmented,
            _ => &line.caption,
        }
    }
}

/// How open_clip's CSV is read: its separator and the names of its two columns.
#[derive(Clone, Debug, Args)]
pub struct CsvForm {
    /// Separator of a CSV's columns
    #[arg(long = "csv-separator", value_name = "CHAR", default_value = "\t", value_parser = separator)]
    pub separator: u8,
    /// Column of the pictures' paths
    #[arg(long = "csv-img-key", value_name = "NAME", default_value = "filepath")]
    pub image: String,
    /// Column of the captions
    #[arg(long = "csv-caption-key", value_name = "NAME", default_value = "title")]
    pub caption: String,
}

/// One ASCII character, or `\t` as a shell passes it.
fn separator(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        &[byte] if byte.is_ascii() => Ok(byte),
        _ => Err("expected one character".into()),
    }
}

impl Default for CsvForm {
    fn default() -> Self {
        CsvForm { separator: b'\t', image: "filepath".into(), caption: "title".into() }
    }
}

impl Line {
    /// Whether the attributes are a pedestrian's 21 flags, which is how the challenge tells
    /// persons from vehicles.
    pub fn is_person(&self) -> bool {
        self.attributes.split(',').count() == PERSON_FLAGS
    }

    fn parse(line: &str) -> Result<Self> {
        let mut fields = line.split('$').map(str::trim);
        let found = (fields.next(), fields.next(), fields.next(), fields.next(), fields.next());
        match found {
            (Some(image), Some(attributes), Some(caption), augmented, None)
                if !image.is_empty() && !caption.is_empty() && augmented != Some("") =>
            {
                Ok(Line {
                    image: image.to_owned(),
                    attributes: attributes.to_owned(),
                    caption: caption.to_owned(),
                    augmented: augmented.map(str::to_owned),
                })
            }
            _ => bail!("expected image$attributes$caption, found {:?}", shortened(line)),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}${}${}", self.image, self.attributes, self.caption)?;
        match &self.augmented {
            Some(augmented) => write!(f, "${augmented}"),
            None => Ok(()),
        }
    }
}

/// Whether a label file is open_clip's CSV, by its name.
pub fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "csv" || end == "tsv")
}

/// All lines of a label file: the challenge's form, or open_clip's CSV where the name ends
/// in .csv or .tsv.
pub fn read(path: &Path, form: &CsvForm) -> Result<Vec<Line>> {
    let bytes =
        fs::read(path).with_context(|| format!("cannot read the label file {}", path.display()))?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
            bail!("{}, line {line}: not UTF-8", path.display());
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = if is_csv(path) {
        read_csv(text, form).with_context(|| path.display().to_string())?
    } else {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                Line::parse(line)
                    .with_context(|| format!("{}, line {}", path.display(), number + 1))
            })
            .collect::<Result<_>>()?
    };
    ensure!(!lines.is_empty(), "{} names no picture", path.display());
    Ok(lines)
}

fn read_csv(text: &str, form: &CsvForm) -> Result<Vec<Line>> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(form.separator).from_reader(text.as_bytes());
    let header = reader.headers()?.clone();
    let column = |name: &str| {
        header.iter().position(|have| have == name).with_context(|| {
            let have: Vec<&str> = header.iter().collect();
            format!(
                "there is no column {name:?} among {have:?}, separated by {:?} \
                 (--csv-separator, --csv-img-key and --csv-caption-key say what to read)",
                char::from(form.separator)
            )
        })
    };
    let (image, caption) = (column(&form.image)?, column(&form.caption)?);
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record?; // csv's errors name the line
        let number = record.position().map_or(0, csv::Position::line);
        let field = |at: usize| record.get(at).map(str::trim).unwrap_or("");
        ensure!(
            !field(image).is_empty() && !field(caption).is_empty(),
            "line {number}: {:?} or {:?} is empty",
            form.image,
            form.caption
        );
        lines.push(Line {
            image: field(image).to_owned(),
            caption: field(caption).to_owned(),
            ..Line::default()
        });
    }
    Ok(lines)
}

/// The beginning of a text, for messages.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Writes a file whole or not at all: under another name first.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        fs::remove_file(&part).ok(); // frees what a full disk was given
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}
