//! What `need` promises of an image's memory, held to what an allocator counts while the image is
//! decoded and resized. Its own test binary, since a counting allocator is for a whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pgclip_clip::decode::{Decoded, Limits, decode};
use pgclip_clip::model::{ImageConfig, Interpolation, ResizeMode};
use pgclip_clip::need::{Need, need};
use pgclip_clip::preprocess::Preprocessor;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn add(bytes: usize) {
    PEAK.fetch_max(IN_USE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    // As the system may do it: both are there for a moment, unless a large block is moved by its
    // pages, which is what happens to all that counts here.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One image at a time.
static TURN: Mutex<()> = Mutex::new(());

fn of(bytes: &[u8], limits: &Limits) -> Need {
    need(&mut Cursor::new(bytes), limits.exif_orientation).unwrap()
}

/// The most bytes that decoding and resizing hold, and the image, where it is one.
fn measure(bytes: &[u8], limits: &Limits) -> (usize, Option<Decoded>) {
    let _turn = TURN.lock().unwrap();
    let config = ImageConfig {
        size: 224,
        mean: [0.5; 3],
        std: [0.5; 3],
        resize: ResizeMode::Crop,
        interpolation: Interpolation::Bicubic,
        exif_orientation: false,
    };
    let preprocessor = Preprocessor::new(&config);
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let decoded = decode(bytes, limits).ok();
    if let Some(decoded) = &decoded {
        preprocessor.run(decoded);
    }
    (PEAK.load(Relaxed) - before, decoded)
}

/// A lossless WebP of 34 bytes once took 0.9 GB, and a JPEG of the same size a third of that: the
/// number of pixels tells little.
#[test]
fn what_is_promised_is_enough_and_not_much_more() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/need");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut read = 0;
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        for exif_orientation in [false, true] {
            let limits = Limits { exif_orientation, ..Limits::default() };
            let need = of(&bytes, &limits);
            let (peak, decoded) = measure(&bytes, &need.limits(&limits));
            let pixels = (need.width * need.height) as f64;
            let (taken, promised) = (peak as f64 / pixels, need.bytes as f64 / pixels);
            if !exif_orientation {
                println!(
                    "{name:32} {taken:6.2} of {promised:6.2} bytes a pixel{}",
                    if decoded.is_none() { ", refused" } else { "" }
                );
            }
            if peak as u64 > need.bytes {
                wrong.push(format!("{name} took {peak} bytes, {} were promised", need.bytes));
            }
            let Some(decoded) = decoded else { continue };
            read += 1;
            let size = (u64::from(decoded.width), u64::from(decoded.height));
            assert_eq!((need.width, need.height), size, "{name}");
            // libheif's own memory is not counted here, so of AVIF only the promise's size is held.
            if name.ends_with(".avif") {
                assert!(promised < 20.0, "{name}: {promised} bytes a pixel");
            } else if need.bytes as f64 > 3.5 * peak as f64 + 3e6 {
                wrong.push(format!("{name} took {peak} bytes of {} promised", need.bytes));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(read >= 100, "{read}");
}

/// Nothing in a header makes the look at it fail, or costs more than a moment.
#[test]
fn damaged_headers_are_looked_at_without_a_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/need");
    for entry in fs::read_dir(folder).unwrap() {
        let whole = fs::read(entry.unwrap().path()).unwrap();
        let head = whole.len().min(700);
        for (at, value) in (0..head).flat_map(|at| [0, 1, 0x7f, 0xff].map(|value| (at, value))) {
            let mut damaged = whole.clone();
            damaged[at] = value;
            of(&damaged, &Limits::default());
        }
        for length in 0..head {
            of(&whole[..length], &Limits::default());
        }
        // TIFF keeps its directory at the end.
        for at in whole.len().saturating_sub(400)..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            of(&damaged, &Limits::default());
        }
    }
}

/// A TIFF of a few pixels may have tiles of any size, which are decoded whole.
#[test]
fn tiles_count() {
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    let tags = [(256, 10), (257, 10), (258, 8), (277, 3), (322, 30_000), (323, 30_000)];
    file.extend((tags.len() as u16).to_le_bytes());
    for (tag, value) in tags {
        file.extend(u16::to_le_bytes(tag));
        file.extend(4_u16.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(u32::to_le_bytes(value));
    }
    let need = of(&file, &Limits::default());
    assert_eq!((need.width, need.height), (10, 10));
    assert!(need.bytes > 3 * 30_000 * 30_000, "{}", need.bytes);
}
