//! What bad images get: each an error that says what was found, none a panic, none much memory.

use std::fs;
use std::path::Path;

use pgclip_clip::decode::{DecodeError, Decoded, Format, Limits, decode, decode_for};
use pgclip_clip::model::{ImageConfig, Interpolation, ResizeMode};
use pgclip_clip::preprocess::Preprocessor;
use proptest::prelude::*;

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images").join(name)).unwrap()
}

fn fails(bytes: &[u8]) -> DecodeError {
    decode(bytes, &Limits::default()).expect_err("this is no image")
}

/// A PNG whose header claims a size, with `data` as its one IDAT chunk.
fn png(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
        out.extend((data.len() as u32).to_be_bytes());
        let start = out.len();
        out.extend(kind);
        out.extend(data);
        let crc = !out[start..].iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
            })
        });
        out.extend(crc.to_be_bytes());
    }
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    chunk(&mut out, b"IHDR", &header);
    chunk(&mut out, b"IDAT", data);
    chunk(&mut out, b"IEND", &[]);
    out
}

/// An error once showed the first 12 bytes of what was no image: those of any file beneath a root.
#[test]
fn bytes_that_are_no_image_are_not_shown() {
    assert_eq!(fails(b"").to_string(), "not an image: it has no bytes");
    assert_eq!(fails(b"hello, world").to_string(), "not an image: 12 bytes");
    assert_eq!(fails(&[0, 1, 2, 255]).to_string(), "not an image: 4 bytes");
    // Nor are the bytes of a file that goes on as no image: each message is the same for other bytes.
    let secret = |byte: u8| {
        [
            &b"\xff\xd8\xff"[..],
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"BM",
            b"II*\0\x08\0\0\0",
            b"RIFF\0\0\0\0WEBP",
        ]
        .map(|head| fails(&[head, &[byte; 60]].concat()).to_string())
    };
    for message in secret(b'w').iter().chain(&secret(b'#')) {
        for shown in ["ww", "##", "77", "23", "0x"] {
            assert!(!message.contains(shown), "{message}");
        }
    }
}

/// Valid images of kinds that are not read were "corrupt", or no images at all.
#[test]
fn other_formats_are_unsupported_by_name() {
    for (bytes, name) in [
        (&b"\0\0\0\x0cjP  \r\n\x87\n"[..], "JPEG 2000"),
        (b"\0\0\x01\0\x01\0\x10\x10", "ICO"),
        (b"8BPS\0\x01", "PSD"),
        (b"%PDF-1.7 and so on", "PDF"),
        (b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"),
        (b"<svg/>", "SVG"),
        (b"P6\n1 1\n255\nabc", "PNM"),
        (b"qoif\0\0\0\x01", "QOI"),
    ] {
        let error = fails(bytes);
        assert!(matches!(error, DecodeError::Unsupported { .. }), "{name}: {error}");
        assert!(error.to_string().starts_with("unsupported image: "), "{error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
}

#[test]
fn a_gigapixel_png_of_200_kb_is_refused_by_its_header() {
    let bytes = png(40_000, 25_000, &vec![0x78; 200_000]);
    assert_eq!(
        fails(&bytes).to_string(),
        "the image is too large: 40000 × 25000 pixels, the limit is 100000000 pixels"
    );
    assert!(matches!(fails(&png(70_000, 1, &[0])), DecodeError::TooLarge { .. }));
    assert!(matches!(
        fails(&png(u32::MAX, u32::MAX, &[0])),
        DecodeError::Corrupt { .. } | DecodeError::TooLarge { .. }
    ));
}

#[test]
fn limits_are_kept() {
    let bytes = golden("s4_640x480.png");
    for limits in [
        Limits { bytes: 1000, ..Limits::default() },
        Limits { pixels: 640 * 480 - 1, ..Limits::default() },
        Limits { side: 639, ..Limits::default() },
        Limits { memory: 640 * 480 * 3 - 1, ..Limits::default() },
    ] {
        let error = decode(&bytes, &limits).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { .. }), "{limits:?}: {error}");
    }
}

/// Every prefix of every golden image but the last bytes, which hold no pixels.
#[test]
fn truncated_images_are_errors() {
    let limits = Limits::default();
    for (name, tail) in [
        ("frame_320x240.jpg", 0),
        ("progressive.jpg", 0),
        ("grey.jpg", 0),
        ("cmyk.jpg", 0),
        ("rgba.png", 16),
        ("palette.png", 16),
        ("lossless.webp", 1),
        ("lossy.webp", 1),
        ("rgb.bmp", 1),
        ("rgb.tif", 1),
        ("animated.gif", 6_000),
    ] {
        let bytes = golden(name);
        decode(&bytes, &limits).unwrap();
        for part in 1..40 {
            let length = (bytes.len() - tail - 1) * part / 39;
            match decode(&bytes[..length], &limits) {
                Err(DecodeError::TooLarge { what, .. }) => panic!("{name}, {length}: {what}"),
                Err(_) => {}
                Ok(_) => panic!("{name}: {length} of {} bytes are accepted", bytes.len()),
            }
        }
    }
    let frame = golden("frame_320x240.jpg");
    match decode(&frame[..frame.len() / 2], &limits).unwrap_err() {
        DecodeError::Truncated { format: Format::Jpeg, bytes, .. } => {
            assert_eq!(bytes, frame.len() / 2);
        }
        other => panic!("{other}"),
    }
}

/// A camera's maker notes and trailing bytes do not make an image unreadable.
#[test]
fn bytes_after_the_image_are_ignored() {
    for name in ["frame_320x240.jpg", "rgba.png", "animated.gif"] {
        let mut bytes = golden(name);
        let plain = decode(&bytes, &Limits::default()).unwrap();
        bytes.extend(b"and some bytes more");
        assert_eq!(decode(&bytes, &Limits::default()).unwrap(), plain, "{name}");
    }
}

fn preprocess(image: &Decoded) {
    for resize in [ResizeMode::Crop, ResizeMode::Pad] {
        let config = ImageConfig {
            size: 16,
            mean: [0.5; 3],
            std: [0.5; 3],
            resize,
            interpolation: Interpolation::Bicubic,
            exif_orientation: false,
        };
        assert_eq!(Preprocessor::new(&config).run(image).len(), 16 * 16 * 3);
    }
}

const NAMES: [&str; 12] = [
    "sub420.jpg",
    "progressive.jpg",
    "cmyk.jpg",
    "exif6.jpg",
    "rgba_64x64.png",
    "palette4.png",
    "bits1.png",
    "lossy.webp",
    "alpha.webp",
    "palette.bmp",
    "lzw.tif",
    "animated.gif",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Any bytes, also behind a format's magic.
    #[test]
    fn any_bytes(magic in 0usize..7, rest in proptest::collection::vec(any::<u8>(), 0..400)) {
        let magics: [&[u8]; 7] = [
            b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a",
            b"RIFF\0\0\0\0WEBP", b"BM\0\0\0\0\0\0\0\0", b"II*\0",
        ];
        let bytes = [magics[magic], &rest].concat();
        if let Ok(image) = decode(&bytes, &Limits { pixels: 1 << 22, ..Limits::default() }) {
            preprocess(&image);
        }
    }

    /// Good images with some bytes changed and the end cut off.
    #[test]
    fn broken_images(
        name in 0usize..NAMES.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in 0usize..200,
    ) {
        let mut bytes = golden(NAMES[name]);
        let kept = bytes.len() - cut.min(bytes.len() / 2);
        bytes.truncate(kept);
        for (at, value) in changes {
            let length = bytes.len();
            bytes[at.index(length)] = value;
        }
        if let Ok(image) = decode(&bytes, &Limits { pixels: 1 << 22, exif_orientation: true, ..Limits::default() }) {
            preprocess(&image);
        }
    }

    /// Any size in any mode, down to one pixel and with sides of very different lengths.
    #[test]
    fn any_shape(width in 1u32..600, height in 1u32..600, thin in 0u32..3, seed in any::<u8>()) {
        let (width, height) = match thin {
            0 => (width, height),
            1 => (1, height * 40),
            _ => (width * 40, 1),
        };
        let pixels = (0..3 * width * height).map(|i| (i as u8).wrapping_mul(seed)).collect();
        preprocess(&Decoded::rgb(width, height, pixels));
    }
}

/// A large JPEG: the golden one, enlarged.
fn large() -> (u32, u32, Vec<u8>) {
    let small = decode(&golden("base.jpg"), &Limits::default()).unwrap();
    let rgb = image::RgbImage::from_raw(small.width, small.height, small.pixels).unwrap();
    let (width, height) = (8 * small.width + 3, 8 * small.height + 5);
    let filter = image::imageops::FilterType::CatmullRom;
    let enlarged = image::imageops::resize(&rgb, width, height, filter);
    let mut bytes = std::io::Cursor::new(Vec::new());
    enlarged.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    (width, height, bytes.into_inner())
}

#[test]
fn a_large_jpeg_is_decoded_smaller_where_that_is_asked_for() {
    let (width, height, bytes) = large();
    let (exact, scaled) = (Limits::default(), Limits { scaled: true, ..Limits::default() });
    let full = decode(&bytes, &exact).unwrap();
    assert_eq!((full.width, full.height), (width, height));
    assert_eq!(decode_for(&bytes, &exact, 16).unwrap(), full);
    assert_eq!(decode(&bytes, &scaled).unwrap(), full);
    for parts in [2, 4, 8] {
        // Twice the size still fits, and twice a size above does not.
        let size = (width.min(height) / parts / 2) as usize;
        let image = decode_for(&bytes, &scaled, size).unwrap();
        assert_eq!((image.width, image.height), (width.div_ceil(parts), height.div_ceil(parts)));
        let resized = |image: &Decoded| {
            let config = ImageConfig {
                size: size as u32,
                mean: [0.5; 3],
                std: [0.5; 3],
                resize: ResizeMode::Crop,
                interpolation: Interpolation::Bicubic,
                exif_orientation: false,
            };
            Preprocessor::new(&config).run(image)
        };
        let (ours, theirs) = (resized(&image), resized(&full));
        let apart = ours.iter().zip(&theirs).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let mean = apart.sum::<f64>() / ours.len() as f64;
        println!("1/{parts}, then resized to {size}: {mean:.3} levels apart on average");
        assert!(mean < 2.0, "1/{parts}: {mean}");
    }
    assert_eq!(decode_for(&bytes, &scaled, width.min(height) as usize / 2).unwrap(), full);
    // What is no JPEG, or none so large, is as it is, and so are errors.
    for name in NAMES {
        let bytes = golden(name);
        let image = decode_for(&bytes, &scaled, 1).unwrap();
        let whole = decode(&bytes, &exact).unwrap();
        assert_eq!((image.mode, image.width == 0), (whole.mode, false), "{name}");
    }
    let small = Limits { pixels: 1000, ..scaled };
    assert_eq!(decode_for(&bytes, &small, 16), decode(&bytes, &small));
    assert!(decode(&bytes, &small).is_err());
}

/// Half a picture is not made smaller and then taken for a whole one.
#[test]
fn half_a_jpeg_is_an_error_when_it_is_scaled_too() {
    let (.., bytes) = large();
    let scaled = Limits { scaled: true, ..Limits::default() };
    let half = &bytes[..bytes.len() / 2];
    assert!(matches!(decode_for(half, &scaled, 16), Err(DecodeError::Truncated { .. })));
}
