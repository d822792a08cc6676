//! The benchmark of the problem itself: web-like pictures to learn from, surveillance-like ones to
//! search, queries for vehicles and for pedestrians. A file of its own because it says what a
//! search engine is measured on; nothing here draws.
//!
//! A searched picture is one of a family of four that differ in one thing each: a vehicle, the same
//! one in a neighbouring colour, of its twin type, and of another make; a pedestrian, and the same
//! one with other sleeves, with something else to carry, of another age.

use std::collections::BTreeMap;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::attributes::{Age, Carrying, Make, Pedestrian, Sleeves, Vehicle};
use crate::dice::Dice;
use crate::query::Query;
use crate::scene::{Domain, Scene, SceneOptions, Subject};
use crate::set::{self, SetError, image_name, scene_seed, write_scenes};

/// File with the free captions of a set.
pub const CAPTIONS: &str = "captions.txt";

/// Pictures of one family.
const FAMILY: u64 = 4;
/// Queries a subject at most.
const QUERIES: usize = 400;
/// Stream of a scene's seed for its web captions.
const WEB_WORDING: u64 = 1 << 33;
/// Stream of a family's seed for how its members differ.
const FAMILY_DICE: u64 = 6;

/// A part of the benchmark; no scene is in two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What the web knows: web pictures with a few detector's crops, free captions.
    Pretrain,
    /// The labelled training set: web pictures, captions in the challenge's grammar, of which many
    /// of vehicles lack type or colour.
    Train,
    /// To choose settings by: like `Test`.
    Val,
    /// Detector's crops to search, with queries.
    Test,
}

impl Split {
    pub const ALL: [Split; 4] = [Split::Pretrain, Split::Train, Split::Val, Split::Test];

    pub fn name(self) -> &'static str {
        match self {
            Split::Pretrain => "pretrain",
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }

    /// Number of pictures in the whole benchmark.
    pub fn count(self) -> u64 {
        match self {
            Split::Pretrain => 30_000,
            Split::Train => 10_000,
            Split::Val => 800,
            Split::Test => 1_600,
        }
    }

    /// Whether it is searched and has queries.
    pub fn is_searched(self) -> bool {
        matches!(self, Split::Val | Split::Test)
    }

    pub fn options(self) -> SceneOptions {
        let web =
            SceneOptions { vehicles: 0.5, surveillance: 0.0, long_side: (128, 256), quality: 90 };
        match self {
            Split::Pretrain => SceneOptions { surveillance: 0.1, ..web },
            Split::Train => web,
            Split::Val | Split::Test => {
                SceneOptions { surveillance: 1.0, long_side: (40, 140), ..web }
            }
        }
    }

    fn seed(self, seed: u64) -> u64 {
        scene_seed(seed, (1 << 40) + self as u64)
    }

    /// The scene at `index` of this split of the benchmark with this seed.
    pub fn scene(self, seed: u64, index: u64) -> Scene {
        let seed = self.seed(seed);
        let own = sample(scene_seed(seed, index), &self.options());
        if !self.is_searched() {
            return own;
        }
        // Indices past every set: a family's seed is no member's.
        let family = scene_seed(seed, (1 << 40) + index / FAMILY);
        let common = sample(family, &self.options());
        Scene { subject: member(&common.subject, family, index % FAMILY), ..own }
    }
}

/// A scene in the benchmark's domains, with makes that can be told apart by a badge's colour.
fn sample(seed: u64, options: &SceneOptions) -> Scene {
    let mut scene = Scene::sample(seed, options);
    scene.domain = match scene.domain.is_surveillance() {
        true => Domain::Crop,
        false => Domain::Photo,
    };
    if let Subject::Vehicle(vehicle) = &mut scene.subject {
        vehicle.make = badge(vehicle.make.index());
    }
    scene
}

/// One of thirteen makes, whose badges all differ in colour, and in shape as far as five go.
fn badge(index: usize) -> Make {
    let n = index % 13;
    Make::at(n * 5 + n % 5)
}

/// The member of a family whose first member shows `subject`.
fn member(subject: &Subject, seed: u64, which: u64) -> Subject {
    let mut dice = Dice::new(seed, FAMILY_DICE);
    match *subject {
        Subject::Vehicle(v) => Subject::Vehicle(match which {
            1 => Vehicle { colour: dice.one(v.colour.neighbours()), ..v },
            2 => Vehicle { kind: v.kind.twin(), ..v },
            3 => Vehicle { make: badge(v.make.index() / 5 + 1 + dice.below(12)), ..v },
            _ => v,
        }),
        Subject::Pedestrian(p) => {
            let other = match which {
                1 => Pedestrian { sleeves: another(Sleeves::ALL, p.sleeves, &mut dice), ..p },
                2 => Pedestrian { carrying: another(Carrying::ALL, p.carrying, &mut dice), ..p },
                3 => Pedestrian { age: another(Age::ALL, p.age, &mut dice), ..p },
                _ => p,
            };
            Subject::Pedestrian(other.consistent())
        }
    }
}

fn another<T: Copy + PartialEq>(all: &[T], than: T, dice: &mut Dice) -> T {
    let at = all.iter().position(|&one| one == than).unwrap_or(0);
    all[(at + 1 + dice.below(all.len() - 1)) % all.len()]
}

/// A sentence and the pictures of its set that it is true of, by index.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkQuery {
    pub text: String,
    pub relevant: Vec<u64>,
}

/// The queries of a searched set: captions of its scenes, no two with the same meaning.
pub fn queries(scenes: &[Scene], vehicles: bool) -> Vec<BenchmarkQuery> {
    let mut meanings: Vec<Query> = Vec::new();
    let mut found = Vec::new();
    for scene in scenes.iter().filter(|scene| scene.vehicle().is_some() == vehicles) {
        let text = scene.caption();
        let query = Query::parse(&text).expect("a caption says what it is about");
        if found.len() == QUERIES {
            break;
        }
        if meanings.contains(&query) {
            continue;
        }
        let relevant =
            (0..).zip(scenes).filter(|(_, scene)| query.matches(scene)).map(|(i, _)| i).collect();
        found.push(BenchmarkQuery { text, relevant });
        meanings.push(query);
    }
    found
}

/// What the benchmark holds; digests are SHA-256 in hexadecimal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkManifest {
    pub format: u32,
    pub seed: u64,
    /// The share of the whole benchmark's pictures.
    pub share: f64,
    pub splits: BTreeMap<String, SplitManifest>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitManifest {
    #[serde(flatten)]
    pub set: set::Manifest,
    pub vehicles: u64,
    /// Labels of vehicles that name no type, and no colour.
    pub without_type: u64,
    pub without_colour: u64,
    /// Of the further files, by name.
    pub files_sha256: BTreeMap<String, String>,
}

/// Writes all splits into folders of `dir`, `share` of their pictures, and `manifest.json`.
///
/// # Errors
/// When a file or directory cannot be written.
pub fn write(dir: &Path, seed: u64, share: f64) -> Result<BenchmarkManifest, SetError> {
    let splits = Split::ALL
        .iter()
        .map(|&split| {
            let count = ((split.count() as f64 * share) as u64).max(FAMILY);
            Ok((split.name().to_owned(), write_split(&dir.join(split.name()), split, seed, count)?))
        })
        .collect::<Result<_, SetError>>()?;
    let manifest = BenchmarkManifest { format: 1, seed, share, splits };
    let text = serde_json::to_string_pretty(&manifest).expect("plain data");
    set::write(&dir.join(set::MANIFEST), text.as_bytes())?;
    Ok(manifest)
}

fn write_split(dir: &Path, split: Split, seed: u64, count: u64) -> Result<SplitManifest, SetError> {
    let scene_of = |index| split.scene(seed, index);
    let set = write_scenes(dir, count, split.seed(seed), &split.options(), scene_of)?;
    let scenes: Vec<Scene> = (0..count).into_par_iter().map(scene_of).collect();
    let mut files: Vec<(String, String)> = Vec::new();
    if split == Split::Pretrain {
        files.push((CAPTIONS.to_owned(), web_captions(&scenes)));
    }
    if split.is_searched() {
        for (subject, vehicles) in [("car", true), ("person", false)] {
            let queries = queries(&scenes, vehicles);
            let texts = queries.iter().map(|q| format!("{}\n", q.text)).collect();
            let relevance = (1..).zip(&queries).flat_map(|(number, query)| {
                query.relevant.iter().map(move |&i| format!("{number}\t{}\n", image_name(i)))
            });
            files.push((format!("queries_{subject}.txt"), texts));
            files.push((format!("relevance_{subject}.tsv"), relevance.collect()));
        }
    }
    let mut files_sha256 = BTreeMap::new();
    for (name, text) in files {
        set::write(&dir.join(&name), text.as_bytes())?;
        files_sha256.insert(name, set::hex(&Sha256::digest(text.as_bytes())));
    }
    let vehicles = || scenes.iter().filter(|scene| scene.vehicle().is_some());
    Ok(SplitManifest {
        set,
        vehicles: vehicles().count() as u64,
        without_type: vehicles().filter(|scene| !scene.naming.kind).count() as u64,
        without_colour: vehicles().filter(|scene| !scene.naming.colour).count() as u64,
        files_sha256,
    })
}

/// Three free captions a picture as label lines, and one in the challenge's grammar: published models
/// read whole sentences, so what stands in for them has to as well.
fn web_captions(scenes: &[Scene]) -> String {
    let lines: Vec<String> = (0..scenes.len() as u64)
        .into_par_iter()
        .map(|index| {
            let scene = &scenes[index as usize];
            let mut rng = ChaCha8Rng::seed_from_u64(scene.seed);
            rng.set_stream(WEB_WORDING);
            let free = (0..3).map(|_| scene.web_caption(&mut rng));
            free.chain([scene.caption()])
                .map(|text| format!("{}${}${text}\n", image_name(index), scene.attributes()))
                .collect()
        })
        .collect();
    lines.concat()
}
