//! Decoding and preprocessing against Pillow and open_clip: every image of `golden/`, in both
//! resize modes, to the level. `golden/make.py` made the expected values and says how.

use std::fs;
use std::path::{Path, PathBuf};

use pgclip_clip::decode::{Limits, decode};
use pgclip_clip::model::{ImageConfig, Interpolation, ResizeMode};
use pgclip_clip::preprocess::Preprocessor;

const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn config(resize: ResizeMode) -> ImageConfig {
    ImageConfig {
        size: 64,
        mean: MEAN,
        std: STD,
        resize,
        interpolation: Interpolation::Bicubic,
        exif_orientation: false,
    }
}

fn compare(folder: &str, resize: ResizeMode, limits: &Limits) {
    let preprocessor = Preprocessor::new(&config(resize));
    let mut expected: Vec<_> = fs::read_dir(golden().join("expected").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    expected.sort();
    assert!(expected.len() >= 8, "golden files are missing");
    let mut failures = Vec::new();
    for path in expected {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let image = decode(&fs::read(golden().join("images").join(&name)).unwrap(), limits)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let theirs = decode(&fs::read(&path).unwrap(), &Limits::default()).unwrap();
        let ours = preprocessor.run(&image);
        assert_eq!(ours.len(), theirs.pixels.len(), "{name}");
        let most = ours.iter().zip(&theirs.pixels).map(|(a, b)| a.abs_diff(*b)).max();
        if most != Some(0) {
            failures.push(format!("{name}: {most:?} levels apart"));
        }
    }
    assert!(failures.is_empty(), "{folder}: {failures:#?}");
}

#[test]
fn crop_is_open_clips() {
    compare("crop", ResizeMode::Crop, &Limits::default());
}

#[test]
fn pad_is_a3rs() {
    compare("pad", ResizeMode::Pad, &Limits::default());
}

#[test]
fn orientation_is_honoured_when_asked_for() {
    let limits = Limits { exif_orientation: true, ..Limits::default() };
    compare("oriented", ResizeMode::Crop, &limits);
}

#[test]
fn normalised_values_are_pytorchs() {
    let preprocessor = Preprocessor::new(&config(ResizeMode::Crop));
    let rgb: Vec<u8> = (0..64 * 64 * 3).map(|i| (i / 3 % 256) as u8).collect();
    let mut out = vec![0.0; rgb.len()];
    preprocessor.normalise(&rgb, &mut out);
    for (channel, plane) in out.chunks_exact(64 * 64).enumerate() {
        for (at, value) in plane.iter().enumerate() {
            let level = (at % 256) as f32 / 255.0;
            assert_eq!(*value, (level - MEAN[channel]) / STD[channel]);
        }
    }
    // From preprocess.npz: black, in each channel.
    assert_eq!((out[0], out[4096], out[8192]), (-1.792_262_6, -1.752_097_1, -1.480_219_8));
}
