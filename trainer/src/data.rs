//! Label files: which picture goes with which captions, and which others would fit it.
//!
//! Three forms are read: the challenge's `image$attributes$caption[$augmented caption]`, one
//! picture on as many lines as it has captions, open_clip's CSV (`filepath<TAB>title` with a
//! header line), and webdataset shards. Synthetic sets have the scenes' full description beside them, which
//! then decides what fits. Nothing is decoded here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pgclip_scenes::{Query, Scene, set};
use sha2::{Digest, Sha256};

use crate::checkpoint;
use crate::lines::{self, Captions, CsvForm};
use crate::place::{self, Place};

/// What is known about one caption.
#[derive(Clone, Debug)]
pub struct Caption {
    pub text: String,
    /// The attributes named on its line, as sorted numbers; empty: unknown.
    attributes: Vec<u32>,
    /// What it asks for, in sets of synthetic scenes.
    query: Option<Query>,
}

/// One picture with its captions.
#[derive(Clone, Debug)]
pub struct Sample {
    pub place: Place,
    /// Indices into [`Labels::captions`], at least one.
    pub captions: Vec<u32>,
    /// All attributes named on any of its lines, sorted.
    attributes: Vec<u32>,
    /// What the picture shows, in sets of synthetic scenes.
    pub scene: Option<Scene>,
}

/// A label file in memory.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    pub samples: Vec<Sample>,
    /// Distinct captions.
    pub captions: Vec<Caption>,
}

/// Where the pictures of a label file lie: in `images`, or else in the folder `images` beside
/// the file, or else beside the file itself.
pub fn picture_folder(path: &Path, images: Option<&Path>) -> PathBuf {
    let inner = beside(path).join(set::IMAGES);
    match images {
        Some(folder) => folder.to_owned(),
        None if inner.is_dir() => inner,
        None => beside(path).to_owned(),
    }
}

fn beside(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// SHA-256 of a label file, or of what the headers of shards say, in hexadecimal.
pub fn digest(path: &Path) -> Result<String> {
    if !place::is_shards(path) {
        return checkpoint::digest(path)
            .with_context(|| format!("cannot read the label file {}", path.display()));
    }
    let mut hash = Sha256::new();
    for (place, caption) in place::read_shards(path)? {
        hash.update(format!("{place:?} {caption}\n"));
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Labels {
    /// Reads the given captions of a label file; pictures are sought in [`picture_folder`].
    pub fn read(path: &Path, images: Option<&Path>) -> Result<Self> {
        Self::read_as(path, images, Captions::Given, &CsvForm::default())
    }

    /// Reads a label file or webdataset shards.
    pub fn read_as(
        path: &Path,
        images: Option<&Path>,
        captions: Captions,
        csv: &CsvForm,
    ) -> Result<Self> {
        let mut reader = Reader::default();
        if place::is_shards(path) {
            for (place, caption) in place::read_shards(path)? {
                let name = place.to_string();
                reader.add(&name, place, "", &caption);
            }
            return Ok(reader.labels);
        }
        let folder = picture_folder(path, images);
        for line in lines::read(path, csv)? {
            let place = Place::File(folder.join(&line.image));
            reader.add(&line.image, place, &line.attributes, captions.of(&line));
        }
        let mut labels = reader.labels;
        let scenes = beside(path).join(set::SCENES);
        if scenes.is_file() {
            labels.describe(&scenes)?;
        }
        Ok(labels)
    }

    /// Leaves out all samples but those `kept` (indices, ascending), and captions of none.
    pub fn keep(&mut self, kept: &[usize]) {
        self.samples = kept.iter().map(|&at| self.samples[at].clone()).collect();
        let mut numbers: Vec<Option<u32>> = vec![None; self.captions.len()];
        for caption in self.samples.iter().flat_map(|sample| &sample.captions) {
            numbers[*caption as usize] = Some(0);
        }
        for (next, number) in numbers.iter_mut().flatten().enumerate() {
            *number = next as u32;
        }
        let mut used = numbers.iter();
        self.captions.retain(|_| used.next().is_some_and(Option::is_some));
        for caption in self.samples.iter_mut().flat_map(|sample| &mut sample.captions) {
            *caption = numbers[*caption as usize].unwrap_or(0);
        }
    }

    /// Whether the caption of that index fits the sample: it is one of its own, or what it
    /// asks for is what the scene shows, or (without scenes) all attributes that its line
    /// names are among the sample's.
    pub fn fits(&self, sample: &Sample, index: u32) -> bool {
        let caption = &self.captions[index as usize];
        if sample.captions.contains(&index) {
            return true;
        }
        match (&caption.query, &sample.scene) {
            (Some(query), Some(scene)) => query.matches(scene),
            (None, None) => {
                !caption.attributes.is_empty() && is_subset(&caption.attributes, &sample.attributes)
            }
            _ => false,
        }
    }

    /// Takes the scenes of a synthetic set, picture by picture in the order of the labels.
    fn describe(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let scenes: Vec<Scene> = text
            .lines()
            .enumerate()
            .map(|(number, line)| {
                serde_json::from_str(line)
                    .with_context(|| format!("{}, line {}", path.display(), number + 1))
            })
            .collect::<Result<_>>()?;
        ensure!(
            scenes.len() == self.samples.len(),
            "{} describes {} scenes; the labels name {} pictures",
            path.display(),
            scenes.len(),
            self.samples.len()
        );
        for (sample, scene) in self.samples.iter_mut().zip(scenes) {
            sample.scene = Some(scene);
        }
        for caption in &mut self.captions {
            caption.query = Query::parse(&caption.text);
        }
        Ok(())
    }
}

/// Collects lines into [`Labels`].
#[derive(Default)]
struct Reader {
    labels: Labels,
    samples: HashMap<String, usize>,
    captions: HashMap<(String, Vec<u32>), u32>,
    attributes: HashMap<String, u32>,
}

impl Reader {
    /// `image` is what tells the picture apart.
    fn add(&mut self, image: &str, place: Place, attributes: &str, text: &str) {
        let mut named: Vec<u32> = split_attributes(attributes)
            .map(|name| {
                let next = self.attributes.len() as u32;
                *self.attributes.entry(name.to_owned()).or_insert(next)
            })
            .collect();
        named.sort_unstable();
        named.dedup();

        let next = self.labels.captions.len() as u32;
        let caption = *self.captions.entry((text.to_owned(), named.clone())).or_insert_with(|| {
            let text = text.to_owned();
            let attributes = named.clone();
            self.labels.captions.push(Caption { text, attributes, query: None });
            next
        });

        let next = self.labels.samples.len();
        let index = *self.samples.entry(image.to_owned()).or_insert_with(|| {
            let (captions, attributes) = (vec![], vec![]);
            self.labels.samples.push(Sample { place, captions, attributes, scene: None });
            next
        });
        let sample = &mut self.labels.samples[index];
        if !sample.captions.contains(&caption) {
            sample.captions.push(caption);
        }
        sample.attributes.extend(named);
        sample.attributes.sort_unstable();
        sample.attributes.dedup();
    }
}

/// Whether every element of the sorted `part` is in the sorted `whole`.
fn is_subset(part: &[u32], whole: &[u32]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|wanted| rest.any(|have| have == wanted))
}

/// Attributes are separated by commas where there are any, else by blanks; a list of
/// 0 and 1 (the pedestrians' flags) names nothing by itself.
fn split_attributes(text: &str) -> impl Iterator<Item = &str> {
    let commas = text.contains(',');
    text.split(move |c: char| if commas { c == ',' } else { c.is_whitespace() })
        .map(|name| name.trim().trim_end_matches('.'))
        .filter(|name| !matches!(*name, "" | "0" | "1"))
}
