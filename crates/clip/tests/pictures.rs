//! Every kind of picture against Pillow: of each file in `pictures/`, which independent encoders
//! wrote, the pixels are Pillow's, and what open_clip's transform makes of them is open_clip's; or it is
//! refused as unsupported, with the feature's name. Files that Pillow has no picture of are errors.
//!
//! `pictures/make.py` says how they were made. Pixels are compared in Pillow's mode: single bits and
//! indices by the colours that they stand for, everything else as it is, alpha and ink included.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pgclip_clip::decode::{DecodeError, Decoded, Limits, Mode, decode};
use pgclip_clip::model::{ImageConfig, Interpolation, ResizeMode};
use pgclip_clip::preprocess::Preprocessor;
use sha2::{Digest, Sha256};

/// Files against their format's rules that Pillow reads nevertheless, and that are errors here: two
/// palettes where there may be one, rubbish between blocks, strips that are missing (Pillow has black).
const STRICTER: [&str; 3] =
    ["bad_two_palettes.png", "bad_between_blocks.gif", "bad_few_strips.tif"];
/// Files that Pillow gives up on over a chunk that does not concern the pixels.
const READ_HERE: [&str; 1] = ["bad_gamma.png"];

struct Case {
    name: String,
    bytes: Vec<u8>,
    mode: String,
    size: (u32, u32),
    pixels: String,
    transformed: String,
    /// What the refusal has to say; empty where there must be a picture, or an error of any kind.
    words: String,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let files = fs::read(folder.join("files.bin")).unwrap();
    let mut at = 0;
    let cases = fs::read_to_string(folder.join("manifest.tsv"))
        .unwrap()
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, length, mode, width, height, pixels, transformed, words] = fields[..] else {
                panic!("{line}")
            };
            let length: usize = length.parse().unwrap();
            at += length;
            Case {
                name: name.into(),
                bytes: files[at - length..at].to_vec(),
                mode: mode.into(),
                size: (width.parse().unwrap(), height.parse().unwrap()),
                pixels: pixels.into(),
                transformed: transformed.into(),
                words: if words == "-" { String::new() } else { words.into() },
            }
        })
        .collect();
    assert_eq!(at, files.len(), "files.bin and manifest.tsv are of one making");
    cases
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that a picture is compared by.
fn pixels(image: &Decoded, mode: &str) -> Vec<u8> {
    match image.mode {
        Mode::Palette => {
            let colours = image.pixels.iter().map(|index| image.palette[usize::from(*index)]);
            if mode == "1" {
                colours.map(|colour| colour[0]).collect()
            } else {
                colours.flatten().collect()
            }
        }
        _ => image.pixels.clone(),
    }
}

fn is_mode(mode: Mode, pillows: &str) -> bool {
    match mode {
        Mode::L => pillows == "L",
        Mode::La => pillows == "LA",
        Mode::Rgb => pillows == "RGB",
        Mode::Rgba => pillows == "RGBA",
        Mode::Cmyk => pillows == "CMYK",
        Mode::Palette => matches!(pillows, "P" | "1"),
    }
}

/// The verdict, or what is wrong.
fn judged(case: &Case, preprocessor: &Preprocessor) -> Result<&'static str, String> {
    match decode(&case.bytes, &Limits::default()) {
        Err(DecodeError::Unsupported { found }) if !case.words.is_empty() => {
            if found.contains(&case.words) {
                Ok("refused")
            } else {
                Err(format!("refused as \"{found}\", not for \"{}\"", case.words))
            }
        }
        Err(_) if case.mode == "error" && case.words.is_empty() => Ok("an error for both"),
        Err(_) if STRICTER.contains(&case.name.as_str()) => Ok("stricter"),
        Err(error) => Err(format!("{error}; Pillow has {} {:?}", case.mode, case.size)),
        Ok(_) if case.mode == "error" && READ_HERE.contains(&case.name.as_str()) => {
            Ok("read here alone")
        }
        Ok(image) => {
            let found = (image.width, image.height);
            if !case.words.is_empty() {
                return Err(format!("{:?} {found:?}, not refused", image.mode));
            }
            if !is_mode(image.mode, &case.mode) || found != case.size {
                let theirs = (&case.mode, case.size);
                return Err(format!("{:?} {found:?}; Pillow has {theirs:?}", image.mode));
            }
            if digest(&pixels(&image, &case.mode)) != case.pixels {
                return Err(format!("other pixels than Pillow's, {:?}", image.mode));
            }
            if digest(&preprocessor.run(&image)) != case.transformed {
                return Err(format!("other pixels after the transform, {:?}", image.mode));
            }
            Ok("equal")
        }
    }
}

#[test]
fn every_picture_is_pillows_or_refused_by_name() {
    let preprocessor = Preprocessor::new(&ImageConfig {
        size: 32,
        mean: [0.5; 3],
        std: [0.5; 3],
        resize: ResizeMode::Crop,
        interpolation: Interpolation::Bicubic,
        exif_orientation: false,
    });
    let cases = cases();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let kind = case.name.rsplit_once('.').unwrap().1;
        match judged(case, &preprocessor) {
            Ok(verdict) => *counts.entry((kind, verdict)).or_default() += 1,
            Err(what) => wrong.push(format!("{}: {what}", case.name)),
        }
    }
    for ((kind, verdict), count) in &counts {
        println!("{kind}: {count} {verdict}");
    }
    println!("{} pictures, {} of them neither equal nor refused", cases.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
