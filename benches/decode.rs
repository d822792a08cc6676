//! JPEG decoders: how far each is from open_clip's pixels, then how much of the processor each takes,
//! which is not the time on the wall: jpeg-decoder starts threads of its own. The photographs are
//! drawn, grainy and 4:2:0 as cameras write them; scaled decoding is timed together with the resize
//! that follows, since it is what makes that one cheaper.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use pgclip_clip::decode::{Decoded, Limits, Mode, decode, decode_for};
use pgclip_clip::model::{ImageConfig, Interpolation, ResizeMode};
use pgclip_clip::preprocess::Preprocessor;
use pgclip_scenes::{Scene, SceneOptions};

type Decoder = fn(&[u8]) -> Decoded;

const DECODERS: [(&str, Decoder); 3] =
    [("libjpeg, ours", ours), ("zune-jpeg in image", images), ("jpeg-decoder", peer)];
/// Long sides of the photographs, in pixels.
const SIDES: [u32; 3] = [640, 1920, 4000];

fn ours(bytes: &[u8]) -> Decoded {
    decode(bytes, &Limits::default()).unwrap()
}

/// The `image` crate, which has zune-jpeg below and conversions around it.
fn images(bytes: &[u8]) -> Decoded {
    let image = image::load_from_memory_with_format(bytes, image::ImageFormat::Jpeg).unwrap();
    match image {
        image::DynamicImage::ImageLuma8(grey) => {
            Decoded { mode: Mode::L, ..of(grey.width(), grey.height(), grey.into_raw()) }
        }
        other => of(other.width(), other.height(), other.into_rgb8().into_raw()),
    }
}

fn peer(bytes: &[u8]) -> Decoded {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let pixels = decoder.decode().unwrap();
    let info = decoder.info().unwrap();
    let mode = match info.pixel_format {
        jpeg_decoder::PixelFormat::L8 => Mode::L,
        _ => Mode::Rgb,
    };
    Decoded { mode, ..of(info.width.into(), info.height.into(), pixels) }
}

/// Ours, with each side divided by `parts` (2, 4 or 8) as the coefficients are transformed.
fn scaled(bytes: &[u8], parts: u32, shorter: u32) -> Decoded {
    let limits = Limits { scaled: true, ..Limits::default() };
    let image = decode_for(bytes, &limits, (shorter / parts / 2) as usize).unwrap();
    assert_eq!(image.width.min(image.height), shorter.div_ceil(parts));
    image
}

fn of(width: u32, height: u32, pixels: Vec<u8>) -> Decoded {
    Decoded { width, height, mode: Mode::Rgb, pixels, palette: Vec::new() }
}

fn preprocessor(size: u32, resize: ResizeMode) -> Preprocessor {
    Preprocessor::new(&ImageConfig {
        size,
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        resize,
        interpolation: Interpolation::Bicubic,
        exif_orientation: false,
    })
}

/// A drawn scene of this long side as JPEG, 4:2:0.
fn photograph(side: u32) -> Vec<u8> {
    let scene = Scene::sample(7, &SceneOptions::vehicles());
    // Drawn smaller and enlarged where it is large: drawing takes long, decoding does not care.
    let drawn = scene.draw(side.min(1000));
    let height = (u64::from(drawn.height()) * u64::from(side) / u64::from(drawn.width())) as u32;
    let filter = image::imageops::FilterType::Triangle;
    let mut photo = image::imageops::resize(&drawn, side, height, filter);
    let mut state = 1u32;
    for value in photo.iter_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = value.saturating_add((state >> 28) as u8).saturating_sub(8);
    }
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 85);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&photo, side as u16, height as u16, ColorType::Rgb).unwrap();
    bytes
}

/// Distances from the pixels that Pillow and open_clip's transform make of the golden files.
fn exactness() {
    let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/clip/tests/golden"));
    println!("levels off open_clip's pixels, golden JPEG files, all but the one in CMYK");
    for (name, decoder) in DECODERS {
        let (mut files, mut worst, mut most, mut sum) = (0, 0.0, 0, 0.0);
        for (folder, resize) in [("crop", ResizeMode::Crop), ("pad", ResizeMode::Pad)] {
            let preprocessor = preprocessor(64, resize);
            for entry in fs::read_dir(golden.join("expected").join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let file = path.file_stem().unwrap().to_str().unwrap();
                if !file.ends_with(".jpg") || file == "cmyk.jpg" {
                    continue;
                }
                let theirs = ours(&fs::read(&path).unwrap()).pixels;
                let image = decoder(&fs::read(golden.join("images").join(file)).unwrap());
                let pixels = preprocessor.run(&image);
                assert_eq!(pixels.len(), theirs.len());
                let differences = || pixels.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b));
                let mean = differences().map(f64::from).sum::<f64>() / pixels.len() as f64;
                files += 1;
                sum += mean;
                worst = f64::max(worst, mean);
                most = most.max(differences().max().unwrap());
            }
        }
        println!(
            "  {name:<16} mean {:.3}, worst file {worst:.3}, one value {most}, {files} files",
            sum / f64::from(files)
        );
    }
}

/// Times the processor on all threads of this process.
fn processor<T>(bencher: &mut Bencher, mut work: impl FnMut() -> T) {
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a place for the answer.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    bencher.iter_custom(|rounds| {
        let begun = now();
        (0..rounds).for_each(|_| _ = black_box(work()));
        now() - begun
    });
}

fn decoding(c: &mut Criterion) {
    exactness();
    let crop = preprocessor(224, ResizeMode::Crop);
    for side in SIDES {
        let bytes = photograph(side);
        let full = ours(&bytes);
        let (width, height) = (full.width, full.height);
        let mut group = c.benchmark_group(format!("{width}x{height} of {} kB", bytes.len() / 1000));
        group.throughput(Throughput::Elements(1)).sample_size(10);
        for (name, decoder) in DECODERS {
            group.bench_function(name, |b| processor(b, || decoder(&bytes)));
        }
        group.bench_function("ours, and resized to 224", |b| {
            processor(b, || crop.run(&ours(&bytes)));
        });
        for parts in [2, 4, 8].into_iter().filter(|parts| height / parts >= 224) {
            group.bench_function(format!("scaled by 1/{parts}, and resized to 224"), |b| {
                processor(b, || crop.run(&scaled(&bytes, parts, width.min(height))));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decoding);
criterion_main!(benches);
