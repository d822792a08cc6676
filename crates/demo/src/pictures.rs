//! The pictures of the demo: scenes drawn from seeds that no training used, kept as JPEG files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use pgclip_scenes::{Carrying, Domain, Pedestrian, Scene, SceneOptions, Subject, Upper};
use rayon::prelude::*;

/// The first seed of the demo's pictures. The trainer's sets mix theirs to other seeds.
const FIRST_SEED: u64 = 7_000_000_000;

/// 2026-11-01 00:00 UTC, in seconds.
const FIRST_TIME: u64 = 1_793_491_200;

/// Where the pictures seem to come from.
pub const CAMERAS: [&str; 6] =
    ["north gate", "south gate", "harbour road", "station square", "ring road", "tunnel"];

/// One picture, with what it shows: the truth that hits are held against.
pub struct Picture {
    pub id: i64,
    pub scene: Scene,
    pub file: PathBuf,
}

impl Picture {
    pub fn camera(&self) -> &'static str {
        CAMERAS[self.id as usize % CAMERAS.len()]
    }

    /// When it was taken: every seven minutes from the first of November.
    pub fn taken_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST_TIME + 420 * self.id as u64)
    }
}

/// What a scene shows, in a few words.
pub fn describe(scene: &Scene) -> String {
    let domain = match scene.domain {
        Domain::Web | Domain::Photo => "web",
        Domain::Surveillance | Domain::Crop => "surveillance",
    };
    let shown = match &scene.subject {
        Subject::Vehicle(v) => format!("{} {} {}", v.colour, v.make.word(), v.kind),
        Subject::Pedestrian(p) => pedestrian(p),
    };
    format!("{shown} · {domain}")
}

fn pedestrian(p: &Pedestrian) -> String {
    let mut words = vec![format!("{} {}, from the {}", p.gender, p.age, p.facing)];
    match (p.long_coat, p.upper) {
        (true, _) => words.push(format!("long {} coat", p.upper_colour)),
        (false, Upper::Plain) => {
            words.push(format!("{} top, {} sleeves", p.upper_colour, p.sleeves))
        }
        (false, upper) => {
            words.push(format!("{} top ({upper}), {} sleeves", p.upper_colour, p.sleeves));
        }
    }
    words.push(format!("{} {}", p.lower_colour, p.lower));
    if p.carrying != Carrying::Nothing {
        words.push(p.carrying.to_string());
    }
    let worn = [(p.hat, "hat"), (p.glasses, "glasses"), (p.boots, "boots")];
    words.extend(worn.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()));
    words.join(", ")
}

/// Draws `count` pictures into `folder`, or takes those that an earlier run left there.
pub fn draw(folder: &Path, count: usize) -> Result<Vec<Picture>> {
    let options = SceneOptions::default();
    let pictures: Vec<Picture> = (0..count)
        .map(|number| Picture {
            id: number as i64 + 1,
            scene: Scene::sample(FIRST_SEED + number as u64, &options),
            file: folder.join(format!("{:05}.jpg", number + 1)),
        })
        .collect();
    // Says what is there; written last, so that a run cut short is repeated.
    let note = folder.join("drawn.txt");
    let drawn = format!("{count} pictures by pgclip-demo {}\n", env!("CARGO_PKG_VERSION"));
    if fs::read_to_string(&note).is_ok_and(|text| text == drawn) {
        return Ok(pictures);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    pictures.par_iter().try_for_each(|picture| {
        fs::write(&picture.file, picture.scene.file(&options))
            .with_context(|| format!("cannot write {}", picture.file.display()))
    })?;
    fs::write(&note, drawn)?;
    Ok(pictures)
}

/// A picture that is not among those of [`draw`]: the first unseen scene that `wanted` likes.
pub fn unseen(wanted: impl Fn(&Scene) -> bool) -> (Scene, Vec<u8>) {
    let options = SceneOptions::default();
    let seeds = FIRST_SEED + 1_000_000..;
    let mut scenes = seeds.map(|seed| Scene::sample(seed, &options));
    let scene = scenes.find(|scene| wanted(scene)).expect("seeds do not end");
    let file = scene.file(&options);
    (scene, file)
}
