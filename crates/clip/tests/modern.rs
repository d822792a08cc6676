//! AVIF, JPEG XL and HEIC against the libraries that other programs read them with: of each file in
//! `modern/` the pixels are those of the PNG beside it, to a rounding. `modern/make.py` made them.
//!
//! Damaged and cut files are errors, and end nothing: a decoder of AV1 that was tried here ended the
//! process over one of these, with a panic that nobody could catch.

use std::fs;
use std::path::{Path, PathBuf};

use pgclip_clip::decode::{DecodeError, Decoded, Limits, Mode, decode};

/// The most by which a colour may differ from the library's, and the mean of that: nothing where the file
/// is lossless, a rounding where it is not. AVIF's chroma Pillow interpolates and libheif does not.
fn bound(name: &str) -> (u8, f64) {
    match name.rsplit_once('.').unwrap() {
        ("lossy" | "grey_lossy" | "coarse" | "container", "jxl") => (1, 0.5),
        (_, "jxl") => (0, 0.0),
        ("444" | "best" | "400", _) | (_, "heic") => (2, 0.5),
        // Where alpha is small colours that were multiplied with it are hardly there.
        ("premultiplied", _) => (255, 5.0),
        // libheif repeats chroma.
        _ => (24, 4.0),
    }
}

fn files(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/modern");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == kind)).collect();
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn upright() -> Limits {
    Limits { exif_orientation: true, ..Limits::default() }
}

/// Compares with the PNG beside a file.
fn compare(path: &Path, found: &Decoded) -> Result<(), String> {
    let expected = path.with_file_name(format!("{}.png", name(path)));
    let expected = decode(&fs::read(expected).unwrap(), &Limits::default()).unwrap();
    let of = |image: &Decoded| (image.mode, image.width, image.height);
    if of(found) != of(&expected) {
        return Err(format!("{:?} instead of {:?}", of(found), of(&expected)));
    }
    let pairs = found.pixels.iter().zip(&expected.pixels);
    let differences: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    let most = *differences.iter().max().unwrap();
    let mean = differences.iter().map(|d| f64::from(*d)).sum::<f64>() / differences.len() as f64;
    println!("{:24} {:?}, at most {most} of 255, {mean:.3} in the mean", name(path), found.mode);
    let (bound, mean_bound) = bound(&name(path));
    if most > bound || mean > mean_bound {
        return Err(format!("differs by {most}, {mean:.3} in the mean"));
    }
    Ok(())
}

#[test]
fn jpeg_xl_is_its_librarys() {
    let mut wrong = Vec::new();
    for path in files("jxl") {
        let bytes = fs::read(&path).unwrap();
        let judged = decode(&bytes, &Limits::default())
            .map_err(|error| error.to_string())
            .and_then(|found| compare(&path, &found));
        if let Err(what) = judged {
            wrong.push(format!("{}: {what}", name(&path)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where the system has libheif the pixels are its own; where it has not, the error says what to do.
#[test]
fn avif_and_heic_are_decoded_where_the_system_can() {
    let mut wrong = Vec::new();
    for path in files("avif").into_iter().chain(files("heic")) {
        match decode(&fs::read(&path).unwrap(), &upright()) {
            Ok(found) => {
                if let Err(what) = compare(&path, &found) {
                    wrong.push(format!("{}: {what}", name(&path)));
                }
            }
            Err(DecodeError::Unsupported { found }) => {
                println!("{}: {found}", name(&path));
                let format = if name(&path).ends_with("avif") { "AVIF" } else { "HEIC" };
                assert!(found.starts_with(format) && found.contains("libheif"), "{found}");
            }
            Err(other) => wrong.push(format!("{}: {other}", name(&path))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    for path in files("avif").into_iter().chain(files("jxl")).chain(files("heic")) {
        let bytes = fs::read(&path).unwrap();
        let small = Limits { pixels: 1000, ..Limits::default() };
        let tight = Limits { memory: 2000, ..Limits::default() };
        for limits in [small, tight] {
            let error = decode(&bytes, &limits).unwrap_err();
            assert!(matches!(error, DecodeError::TooLarge { .. }), "{}: {error}", name(&path));
        }
    }
}

/// What is cut short is no picture, wherever it is cut.
#[test]
fn cut_files_are_errors() {
    for path in files("avif").into_iter().chain(files("jxl")).chain(files("heic")) {
        let whole = fs::read(&path).unwrap();
        for length in (16..whole.len() - 1).step_by(7) {
            let cut = decode(&whole[..length], &Limits::default());
            // Of an animation the first frame is there.
            let may = ["animated", "sequence"].iter().any(|part| name(&path).contains(part));
            assert!(cut.is_err() || may, "{} at {length}", name(&path));
        }
    }
}

/// Bytes changed at random: an error or some picture, but an end of neither process nor patience.
#[test]
fn damaged_files_do_no_harm() {
    let rounds: u32 = std::env::var("PGCLIP_FUZZ").map_or(40, |rounds| rounds.parse().unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut read, mut refused) = (0, 0);
    for path in files("avif").into_iter().chain(files("jxl")).chain(files("heic")) {
        let whole = fs::read(&path).unwrap();
        for _ in 0..rounds {
            let mut damaged = whole.clone();
            for _ in 0..1 + random(4) {
                let at = random(damaged.len());
                damaged[at] = match random(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => damaged[at] ^ 1 << random(8),
                    _ => random(256) as u8,
                };
            }
            match decode(&damaged, &upright()) {
                Ok(image) => {
                    let channels = image.mode.channels();
                    let pixels = image.width as usize * image.height as usize;
                    assert!(image.mode == Mode::Palette || image.pixels.len() == pixels * channels);
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{read} pictures, {refused} errors");
    assert!(refused > 0);
}
