//! Image bytes to pixels, in the colour mode that Pillow would open them in.
//!
//! The one door through which bytes from anywhere come in: the format is told from the bytes, the
//! limits are checked against the header before anything is allocated, and whatever the bytes
//! hold, the answer is an image or an error that says what was found. The modes are Pillow's
//! because open_clip resizes in them (see `preprocess`); each format has a file of its own.

pub(crate) mod bmff;
mod bmp;
mod foreign;
mod gif;
mod heif;
mod idct;
mod jpeg;
mod jxl;
mod libjpeg;
mod orient;
mod png;
mod tiff;
mod webp;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An image as it was stored: rows from the top, no gaps between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Width and height in pixels, 1 or more.
    pub width: u32,
    pub height: u32,
    pub mode: Mode,
    /// `width` × `height` × [`Mode::channels`] bytes.
    pub pixels: Vec<u8>,
    /// RGB of each index in [`Mode::Palette`], 256 of them; else empty.
    pub palette: Vec<[u8; 3]>,
}

impl Decoded {
    /// An RGB image made elsewhere.
    ///
    /// # Panics
    /// If `pixels` has not 3 × `width` × `height` bytes, or either is 0.
    pub fn rgb(width: u32, height: u32, pixels: Vec<u8>) -> Self {
        assert!(width > 0 && height > 0, "an image has pixels");
        assert_eq!(pixels.len() as u64, 3 * u64::from(width) * u64::from(height), "RGB pixels");
        Self { width, height, mode: Mode::Rgb, pixels, palette: Vec::new() }
    }
}

/// What the bytes of a pixel mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Grey.
    L,
    /// Grey and alpha.
    La,
    Rgb,
    /// Red, green, blue and alpha, the colours not multiplied with it.
    Rgba,
    /// Amounts of ink.
    Cmyk,
    /// Index into the palette; also images of 1 bit.
    Palette,
}

impl Mode {
    /// Bytes per pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::L | Self::Palette => 1,
            Self::La => 2,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }
}

/// What an image may cost, and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the encoded image.
    pub bytes: usize,
    /// Most pixels.
    pub pixels: u64,
    /// Longest side in pixels.
    pub side: u32,
    /// Most bytes of memory that decoding takes.
    pub memory: u64,
    /// Whether the image is turned as its EXIF orientation says; open_clip ignores it.
    pub exif_orientation: bool,
    /// Whether [`decode_for`] may make a large JPEG smaller as it decodes it.
    pub scaled: bool,
}

impl Default for Limits {
    /// 256 MiB, 100 million pixels, 65,535 pixels a side, 1 GiB; orientation ignored, nothing scaled.
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            pixels: 100_000_000,
            side: 65_535,
            memory: 1 << 30,
            exif_orientation: false,
            scaled: false,
        }
    }
}

impl Limits {
    /// Checks what a header says; `channels` are bytes per pixel while decoding.
    pub(crate) fn check(&self, width: u64, height: u64, channels: u64) -> Result<(), DecodeError> {
        let (pixels, longest) = (width.saturating_mul(height), width.max(height));
        let what = format!("{width} × {height} pixels");
        if pixels > self.pixels {
            return Err(DecodeError::TooLarge { what, limit: format!("{} pixels", self.pixels) });
        }
        if longest > u64::from(self.side) {
            return Err(DecodeError::TooLarge { what, limit: format!("{} a side", self.side) });
        }
        let memory = pixels.saturating_mul(channels);
        if memory > self.memory {
            let what = format!("{what}, {memory} bytes of memory");
            return Err(DecodeError::TooLarge { what, limit: format!("{} bytes", self.memory) });
        }
        Ok(())
    }
}

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Tiff,
    Gif,
    Jxl,
    /// AVIF, and telephones' HEIC and its kin, where the system has libheif.
    Avif,
    Heif,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Gif => "GIF",
            Self::Avif => "AVIF",
            Self::Jxl => "JPEG XL",
            Self::Heif => "HEIC",
        })
    }
}

/// Why bytes are no image that can be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing known as an image.
    #[error("not an image: {found}")]
    NotAnImage { found: String },
    /// An image, but in no format that is read, or in a variant of one that is not.
    #[error("unsupported image: {found}")]
    Unsupported { found: String },
    /// The data end before the image does.
    #[error("the {format} image is truncated ({bytes} bytes): {message}")]
    Truncated { format: Format, bytes: usize, message: String },
    /// The data contradict their format.
    #[error("the {format} image is corrupt: {message}")]
    Corrupt { format: Format, message: String },
    /// More than [`Limits`] allow.
    #[error("the image is too large: {what}, the limit is {limit}")]
    TooLarge { what: String, limit: String },
}

/// Decodes an image: JPEG, PNG, WebP, BMP, TIFF, GIF or JPEG XL (the first frame or page), or AVIF and
/// HEIC where the system has libheif.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    decode_least(bytes, limits, None)
}

/// Decodes an image that is to be resized to `size` pixels a side: a JPEG, where [`Limits`] allow it,
/// to no less than twice that, for the resize to have something to average over.
pub fn decode_for(bytes: &[u8], limits: &Limits, size: usize) -> Result<Decoded, DecodeError> {
    let least = limits.scaled.then(|| u32::try_from(2 * size).unwrap_or(u32::MAX));
    decode_least(bytes, limits, least)
}

/// Decodes an image, a JPEG's shorter side to no less than `least` if that is given.
fn decode_least(bytes: &[u8], limits: &Limits, least: Option<u32>) -> Result<Decoded, DecodeError> {
    let format = sniff(bytes)?;
    if bytes.len() > limits.bytes {
        return Err(DecodeError::TooLarge {
            what: format!("{} bytes", bytes.len()),
            limit: format!("{} bytes", limits.bytes),
        });
    }
    // The decoders are others' code and the bytes may be anyone's: a panic in one of them is an
    // error of this image alone. No state is shared with it.
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Jpeg => jpeg::decode(bytes, limits, least),
        Format::Png => png::decode(bytes, limits),
        Format::Gif => gif::decode(bytes, limits),
        Format::Bmp => bmp::decode(bytes, limits),
        Format::Tiff => tiff::decode(bytes, limits),
        Format::WebP => webp::decode(bytes, limits),
        Format::Jxl => jxl::decode(bytes, limits),
        Format::Avif | Format::Heif => heif::decode(bytes, limits, format),
    }));
    decoded.unwrap_or_else(|_| {
        Err(DecodeError::Corrupt { format, message: "the decoder gave up on it".into() })
    })
}

/// The format that the first bytes show.
///
/// What is no image is told by its length alone: it may be a file that is nobody's to see.
pub fn sniff(bytes: &[u8]) -> Result<Format, DecodeError> {
    let head = &bytes[..bytes.len().min(32)];
    match head {
        [] => Err(DecodeError::NotAnImage { found: "it has no bytes".into() }),
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Format::Tiff),
        [b'B', b'M', _, _, _, _, _, _, _, _, _, _, _, _, 12..=124, 0, 0, 0, ..] => Ok(Format::Bmp),
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => Ok(Format::Jxl),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => Ok(Format::Avif),
        // These may hold either; which one the brands tell that come after.
        [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'i' | b's', b'f', b'1', ..] => {
            let avif =
                head.get(16..).unwrap_or_default().chunks_exact(4).any(|brand| brand == b"avif");
            Ok(if avif { Format::Avif } else { Format::Heif })
        }
        [
            _,
            _,
            _,
            _,
            b'f',
            b't',
            b'y',
            b'p',
            b'h',
            b'e',
            b'i' | b'v',
            b'c' | b'x' | b'm' | b's',
            ..,
        ] => Ok(Format::Heif),
        _ => match foreign::name(bytes) {
            Some(found) => Err(DecodeError::Unsupported { found: found.into() }),
            None => Err(DecodeError::NotAnImage { found: format!("{} bytes", bytes.len()) }),
        },
    }
}

/// Samples of 1, 2, 4 or 8 bits to bytes, the highest bits of a byte first; as many as `out` has.
fn unpacked(row: &[u8], bits: usize, out: &mut [u8]) {
    let most = ((1u16 << bits) - 1) as u8;
    for (sample, out) in out.iter_mut().enumerate() {
        let at = sample * bits;
        *out = row[at / 8] >> (8 - bits - at % 8) & most;
    }
}

/// A zeroed buffer, or an error where there is no memory for it.
fn buffer(length: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    out.try_reserve_exact(length).map_err(|_| DecodeError::TooLarge {
        what: format!("{length} bytes of memory"),
        limit: "what the system has".into(),
    })?;
    out.resize(length, 0);
    Ok(out)
}
