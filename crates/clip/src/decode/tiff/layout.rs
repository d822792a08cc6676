//! What the pixels of a TIFF file are and how they lie, by the rules of Pillow's `TiffImagePlugin`; and
//! which of it is refused. Apart from the reading, since it is a table of the format's many corners.

use super::compression::{Compression, corrupt};
use super::directory::{Directory, tag};
use crate::decode::{DecodeError, Mode};

/// What the samples of a pixel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Samples {
    /// Grey levels of 1 to 8 bits, light or dark; of 1 bit, Pillow's mode "1".
    Grey {
        is_inverted: bool,
    },
    GreyAlpha,
    Palette,
    Rgb,
    RgbAlpha,
    /// The colours multiplied with alpha, which Pillow undoes.
    RgbAssociated,
    Cmyk,
    /// Converted by the JPEG decoder, which gives RGB.
    YCbCr,
}

/// The layout of the pixels in the file.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) samples: Samples,
    /// Samples a pixel in the file, and bits of each.
    pub(super) count: usize,
    pub(super) bits: usize,
    /// Each sample of all pixels apart from the others.
    pub(super) is_planar: bool,
    pub(super) compression: Compression,
    pub(super) is_predicted: bool,
    /// The lowest bit of a byte comes first.
    pub(super) is_reversed: bool,
    /// Which byte of a sample of 16 bits is the higher one.
    pub(super) high_byte: usize,
}

impl Layout {
    /// By the rules of Pillow's `TiffImagePlugin`.
    pub(super) fn of(directory: &Directory<'_>) -> Result<Self, DecodeError> {
        let number = |tag: u16, default: u64| directory.number(tag).unwrap_or(default);
        let size = |tag: u16| match directory.number(tag) {
            Some(size @ 1..) => Ok(size as usize),
            _ => Err(corrupt("it has no pixels")),
        };
        let (width, height) = (size(tag::WIDTH)?, size(tag::LENGTH)?);
        if width.max(height) > i32::MAX as usize {
            return Err(DecodeError::TooLarge {
                what: format!("{width} × {height} pixels"),
                limit: format!("{} a side", i32::MAX),
            });
        }
        let compression = Compression::of(number(tag::COMPRESSION, 1), number(tag::T4_OPTIONS, 0))?;
        if directory.is_big() && !directory.is_little() {
            return unsupported("offsets of 64 bits, their highest byte first (BigTIFF)".into());
        }
        let photometric = number(tag::PHOTOMETRIC, 0);
        let is_planar = number(tag::PLANAR_CONFIGURATION, 1) == 2;
        let is_reversed = number(tag::FILL_ORDER, 1) == 2;
        let mut count = number(tag::SAMPLES_PER_PIXEL, 1) as usize;
        let mut extra = directory.numbers(tag::EXTRA_SAMPLES).unwrap_or_default();
        let mut bits = directory.numbers(tag::BITS_PER_SAMPLE).unwrap_or_else(|| vec![1]);
        let formats = directory.numbers(tag::SAMPLE_FORMAT).unwrap_or_else(|| vec![1]);
        if is_planar && !extra.is_empty() && extra.iter().all(|kind| *kind == 0) {
            if compression == Compression::None {
                return unsupported("an extra plane of unspecified use, uncompressed".into());
            }
            // Unspecified samples at the end have chunks of their own, which nobody reads.
            bits.truncate(bits.len().saturating_sub(extra.len()));
            count = count.saturating_sub(extra.len());
            extra.clear();
        }
        if !(1..=6).contains(&count) {
            return unsupported(format!("{count} samples a pixel"));
        }
        if bits.len() == 1 {
            bits = vec![bits[0]; count];
        }
        bits.truncate(count);
        if bits.len() != count {
            return Err(corrupt("the bits of its samples are not told"));
        }
        if bits.iter().any(|each| *each != bits[0]) {
            return unsupported(format!("samples of different numbers of bits: {bits:?}"));
        }
        let depth = bits[0] as usize;
        let samples = match formats.as_slice() {
            [1, rest @ ..] if rest.iter().all(|format| *format == 1) => {
                samples(photometric, count, depth, &extra)?
            }
            [2, rest @ ..] if rest.iter().all(|format| *format == 2) => {
                // Read as if they had no sign, as Pillow does with 8 bits.
                if (photometric, count, depth, is_reversed) != (1, 1, 8, false) {
                    return unsupported(format!("signed samples of {depth} bits"));
                }
                Samples::Grey { is_inverted: false }
            }
            [3, ..] => return unsupported(format!("floating-point samples of {depth} bits")),
            other => return unsupported(format!("sample formats {other:?}")),
        };
        let layout = Self {
            width,
            height,
            samples,
            count,
            bits: depth,
            is_planar: is_planar && count > 1,
            compression,
            is_predicted: match number(tag::PREDICTOR, 1) {
                2 => matches!(compression, Compression::Lzw | Compression::Deflate),
                1 => false,
                _ if !matches!(compression, Compression::Lzw | Compression::Deflate) => false,
                3 => return unsupported("the floating-point predictor".into()),
                other => return unsupported(format!("predictor {other}")),
            },
            is_reversed,
            high_byte: directory.is_little().into(),
        };
        layout.check()?;
        Ok(layout)
    }

    /// Refuses what could be read, and is not as Pillow reads it.
    fn check(&self) -> Result<(), DecodeError> {
        let (is_raw, is_jpeg) =
            (self.compression == Compression::None, self.compression == Compression::Jpeg);
        let is_fax = matches!(self.compression, Compression::Fax(_));
        match self.samples {
            Samples::YCbCr if !is_jpeg || self.is_planar => {
                unsupported("YCbCr that is not JPEG with its samples together".into())
            }
            Samples::GreyAlpha if self.is_planar => {
                unsupported("grey and alpha in planes of their own".into())
            }
            _ if self.is_planar && is_raw && self.bits != 8 => {
                unsupported(format!("planes of {} bits a sample, uncompressed", self.bits))
            }
            _ if self.is_planar && self.count > 4 => unsupported(format!("{} planes", self.count)),
            Samples::RgbAssociated if self.is_planar && is_raw => {
                unsupported("associated alpha in a plane of its own, uncompressed".into())
            }
            _ if is_fax && self.bits * self.count != 1 => {
                unsupported("CCITT compression of more than 1 bit".into())
            }
            _ if is_jpeg && self.bits != 8 => {
                unsupported(format!("JPEG compression of {} bits", self.bits))
            }
            _ if self.is_predicted && !matches!(self.bits, 8 | 16) => {
                unsupported(format!("a predictor of {} bits", self.bits))
            }
            _ if self.is_reversed && !self.is_reversed_for_pillow() => {
                unsupported("its lowest bits first".into())
            }
            _ => Ok(()),
        }
    }

    /// Whether Pillow reads bytes that begin with their lowest bit, in this layout.
    fn is_reversed_for_pillow(&self) -> bool {
        let is_raw = self.compression == Compression::None;
        match self.samples {
            Samples::Grey { is_inverted: true } => self.bits < 8 || !is_raw,
            Samples::Grey { is_inverted: false } => self.count == 1,
            Samples::Palette => self.count == 1 && (self.bits == 8 || !is_raw),
            Samples::Rgb => self.bits == 8 && self.count == 3,
            _ => false,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match self.samples {
            Samples::Grey { .. } if self.bits == 1 => Mode::Palette,
            Samples::Grey { .. } => Mode::L,
            Samples::GreyAlpha => Mode::La,
            Samples::Palette => Mode::Palette,
            Samples::Rgb | Samples::YCbCr => Mode::Rgb,
            Samples::RgbAlpha | Samples::RgbAssociated => Mode::Rgba,
            Samples::Cmyk => Mode::Cmyk,
        }
    }

    /// Samples of a pixel that lie together.
    pub(super) fn together(&self) -> usize {
        if self.is_planar { 1 } else { self.count }
    }
}

/// What a pixel of this photometric interpretation is, of samples without sign.
fn samples(
    photometric: u64,
    count: usize,
    bits: usize,
    extra: &[u64],
) -> Result<Samples, DecodeError> {
    let name = match photometric {
        0 | 1 => "grey",
        2 => "RGB",
        3 => "a palette",
        4 => "a transparency mask",
        5 => "CMYK",
        6 => "YCbCr",
        8..=10 => "Lab",
        32803 => "a colour filter array",
        32844 | 32845 => "LogLuv",
        34892 => "linear raw colours",
        other => return unsupported(format!("photometric interpretation {other}")),
    };
    let found = match (photometric, bits, count, extra) {
        (0, 1 | 2 | 4 | 8, 1, []) => Samples::Grey { is_inverted: true },
        (1, 1 | 2 | 4 | 8, 1, []) | (6, 8, 1, []) | (1, 8, 2, [0]) => {
            Samples::Grey { is_inverted: false }
        }
        (1, 8, 2, [2]) => Samples::GreyAlpha,
        (3, 1 | 2 | 4 | 8, 1, []) | (3, 8, 2, [0]) => Samples::Palette,
        (2, 8 | 16, 3, []) => Samples::Rgb,
        (2, 8 | 16, 4, [0]) | (2, 8, 5, [0, 0]) | (2, 8, 6, [0, 0, 0]) => Samples::Rgb,
        (2, 8 | 16, 4, [] | [2]) | (2, 8, 4, [999]) => Samples::RgbAlpha,
        (2, 8, 5, [2, 0]) | (2, 8, 6, [2, 0, 0]) => Samples::RgbAlpha,
        (2, 8 | 16, 4, [1]) | (2, 8, 5, [1, 0]) | (2, 8, 6, [1, 0, 0]) => Samples::RgbAssociated,
        (5, 8 | 16, 4, []) | (5, 8, 5, [0]) | (5, 8, 6, [0, 0]) => Samples::Cmyk,
        (6, 8, 3, []) => Samples::YCbCr,
        (0 | 1, _, 1, []) => return unsupported(format!("grey samples of {bits} bits")),
        (1, 8, 2, [1]) => return unsupported("grey and associated alpha".into()),
        (3, 8, 2, [2]) => return unsupported("a palette and alpha".into()),
        _ => {
            let extra = if extra.is_empty() { "none".into() } else { format!("{extra:?}") };
            return unsupported(format!(
                "{name} in {count} samples of {bits} bits, extra samples {extra}"
            ));
        }
    };
    Ok(found)
}

fn unsupported<T>(what: String) -> Result<T, DecodeError> {
    Err(DecodeError::Unsupported { found: format!("TIFF with {what}") })
}
