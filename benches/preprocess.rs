//! What an image costs before the encoder sees it: decoding, resizing, normalising. One thread.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgclip_clip::decode::{Limits, decode};
use pgclip_clip::model::{ImageConfig, Interpolation, ResizeMode};
use pgclip_clip::preprocess::Preprocessor;

const IMAGES: [(&str, &[u8]); 3] = [
    ("jpeg 320x240", include_bytes!("../crates/clip/tests/golden/images/frame_320x240.jpg")),
    ("png 200x100", include_bytes!("../crates/clip/tests/golden/images/s2_200x100.png")),
    ("webp 140x90", include_bytes!("../crates/clip/tests/golden/images/lossy.webp")),
];

fn config(size: u32) -> ImageConfig {
    ImageConfig {
        size,
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        resize: ResizeMode::Pad,
        interpolation: Interpolation::Bicubic,
        exif_orientation: false,
    }
}

fn images(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("decode");
    for (name, bytes) in IMAGES {
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |b| b.iter(|| decode(bytes, &limits).unwrap()));
    }
    group.finish();

    let mut group = c.benchmark_group("preprocess");
    for (name, bytes) in IMAGES {
        let image = decode(bytes, &limits).unwrap();
        for size in [64, 224] {
            let preprocessor = Preprocessor::new(&config(size));
            group.throughput(Throughput::Elements(1));
            group.bench_function(format!("{name} to {size}"), |b| {
                b.iter(|| preprocessor.run(&image));
            });
        }
    }
    group.finish();

    let preprocessor = Preprocessor::new(&config(224));
    let rgb = preprocessor.run(&decode(IMAGES[0].1, &limits).unwrap());
    let mut out = vec![0.0; rgb.len()];
    c.bench_function("normalise 224", |b| b.iter(|| preprocessor.normalise(&rgb, &mut out)));
}

criterion_group!(benches, images);
criterion_main!(benches);
