//! JPEG as Pillow reads it: grey, RGB or CMYK, by libjpeg-turbo.
//!
//! What Pillow refuses, and what its library can and ours can't (lossless), is told from the frame's
//! header before the library is asked, so that it can be called by its name.

use super::libjpeg::{Colours, Jpeg, JpegError};
use super::{DecodeError, Decoded, Format, Limits, Mode, buffer, orient};

/// With `least` the image may be made smaller, its shorter side not below that.
pub(super) fn decode(
    bytes: &[u8],
    limits: &Limits,
    least: Option<u32>,
) -> Result<Decoded, DecodeError> {
    let failed = |error| error_of(error, Format::Jpeg, bytes);
    let segments = Segments::of(bytes);
    segments.check("JPEG")?;
    let mut jpeg = Jpeg::new(None, bytes).map_err(failed)?;
    let (mode, out) = match jpeg.components() {
        1 => (Mode::L, Colours::JCS_GRAYSCALE),
        3 => (Mode::Rgb, Colours::JCS_RGB),
        4 => (Mode::Cmyk, Colours::JCS_CMYK),
        count => {
            return Err(DecodeError::Unsupported { found: format!("JPEG of {count} components") });
        }
    };
    jpeg.set_colours(jpeg.stored_colours(), out);
    let (width, height) = (jpeg.width(), jpeg.height());
    check(&jpeg, limits, mode.channels() as u64)?;
    if let Some(least) = least {
        let parts = [8, 4, 2].into_iter().find(|parts| width.min(height) / parts >= least);
        jpeg.set_scale(parts.unwrap_or(1));
    }
    let (width, height, channels) = jpeg.start().map_err(failed)?;
    let mut pixels = buffer(width as usize * height as usize * channels)?;
    jpeg.read(&mut pixels).map_err(failed)?;
    if mode == Mode::Cmyk {
        // Adobe stores light, not ink; Pillow takes every CMYK JPEG for Adobe's.
        pixels.iter_mut().for_each(|value| *value = 255 - *value);
    }
    let image = Decoded { width, height, mode, pixels, palette: Vec::new() };
    Ok(if limits.exif_orientation { orient::apply_exif(image, segments.exif) } else { image })
}

/// Checks what a JPEG, the whole or a part of another file, takes of memory.
pub(super) fn check(jpeg: &Jpeg<'_>, limits: &Limits, channels: u64) -> Result<(), DecodeError> {
    let (width, height) = (u64::from(jpeg.width()), u64::from(jpeg.height()));
    limits.check(width, height, channels)?;
    let memory = (width * height * channels).saturating_add(jpeg.coefficient_bytes());
    if memory > limits.memory {
        let what = format!("{width} × {height} pixels in scans, {memory} bytes of memory");
        return Err(DecodeError::TooLarge { what, limit: format!("{} bytes", limits.memory) });
    }
    Ok(())
}

/// What the segments before the first scan tell, as far as Pillow looks at them.
#[derive(Debug, Default)]
pub(super) struct Segments<'a> {
    /// The marker of the frame's header and its sample precision.
    frame: Option<(u8, u8)>,
    components: u8,
    /// The content of the first EXIF segment, TIFF header and all.
    exif: Option<&'a [u8]>,
}

impl<'a> Segments<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let mut found = Self::default();
        let mut rest = bytes.get(2..).unwrap_or_default();
        while let Some(at) = rest.iter().position(|byte| *byte == 0xff) {
            rest = &rest[at + 1..];
            match *rest {
                // Stuffing, fill bytes, and the markers that stand alone: TEM, RST, SOI, EOI.
                [0x00 | 0x01 | 0xd0..=0xd9 | 0xff, ..] => {}
                [0xda, ..] => break,
                [marker, high, low, ..] => {
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    let content = rest.get(3..1 + length).unwrap_or_default();
                    match (marker, content) {
                        (0xc4 | 0xc8 | 0xcc, _) => {}
                        (0xc0..=0xcf | 0xde, [precision, _, _, _, _, components, ..]) => {
                            found.frame = Some((marker, *precision));
                            found.components = *components;
                        }
                        (0xe1, [b'E', b'x', b'i', b'f', 0, 0, exif @ ..]) => {
                            found.exif = found.exif.or(Some(exif));
                        }
                        _ => {}
                    }
                    rest = rest.get(1 + length..).unwrap_or_default();
                }
                _ => break,
            }
        }
        found
    }

    /// Refuses what is not decoded, by its name.
    pub(super) fn check(&self, what: &str) -> Result<(), DecodeError> {
        let unsupported =
            |kind: String| Err(DecodeError::Unsupported { found: format!("{what} {kind}") });
        match self.frame {
            Some((0xc3 | 0xcb, _)) => unsupported("with lossless compression".into()),
            Some((0xc5..=0xc7 | 0xcd..=0xcf | 0xde, _)) => {
                unsupported("with hierarchical progression".into())
            }
            Some((_, precision)) if precision != 8 => {
                unsupported(format!("with samples of {precision} bits"))
            }
            Some(_) if !matches!(self.components, 1 | 3 | 4) => {
                unsupported(format!("of {} components", self.components))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn error_of(error: JpegError, format: Format, bytes: &[u8]) -> DecodeError {
    const UNSUPPORTED: [&str; 6] = [
        "Sorry, arithmetic coding is not implemented",
        "CCIR601 sampling not implemented yet",
        "Fractional sampling not implemented yet",
        "Unsupported color conversion request",
        "Unsupported JPEG process: SOF type",
        "Empty JPEG image (DNL not supported)",
    ];
    match error {
        JpegError::Ended => DecodeError::Truncated {
            format,
            bytes: bytes.len(),
            message: "its JPEG data end early".into(),
        },
        JpegError::Scans => DecodeError::TooLarge {
            what: "a JPEG with so many scans".into(),
            limit: "4 billion pixels in all scans together, or 1000 scans".into(),
        },
        JpegError::Library { message, .. }
            if message.starts_with("Insufficient memory")
                || message.starts_with("Maximum supported image dimension") =>
        {
            DecodeError::TooLarge { what: "a JPEG's buffers".into(), limit: "the memory".into() }
        }
        JpegError::Library { message, .. } if UNSUPPORTED.contains(&message.as_str()) => {
            DecodeError::Unsupported { found: format!("JPEG: {message}") }
        }
        JpegError::Library { message, .. } => DecodeError::Corrupt { format, message },
    }
}
