//! JPEG, by zune-jpeg itself: the `image` crate's wrapper copies the input, reads truncated files
//! without a word, and converts CMYK before the resize.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{DecodeError, Decoded, Format, Limits, Mode, buffer, orient, scaled};

/// With `least` the image may be made smaller, its shorter side not below that.
pub(super) fn decode(
    bytes: &[u8],
    limits: &Limits,
    least: Option<u32>,
) -> Result<Decoded, DecodeError> {
    // zune-jpeg does not miss the last few bytes, nor does it always miss the last rows.
    if !has_end(bytes) {
        let message = "it has no end-of-image marker".into();
        return Err(DecodeError::Truncated { format: Format::Jpeg, bytes: bytes.len(), message });
    }
    if let Some(image) = least.and_then(|least| scaled::decode(bytes, limits, least)) {
        return Ok(image);
    }
    // Strict, as only then the end of the data is an error. It also refuses stray bytes between
    // segments, which libjpeg skips with a warning and cameras do write: those are tried again.
    match decode_as(bytes, limits, true) {
        Err(DecodeError::Corrupt { message, .. }) if message.contains("Extra bytes") => {
            decode_as(bytes, limits, false)
        }
        result => result,
    }
}

/// Whether an end-of-image marker follows, outside of segments (a thumbnail has one of its own).
/// Pillow does not open an image without it either.
fn has_end(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == 0xff) {
        rest = &rest[at + 1..];
        match rest {
            [0xd9, ..] => return true,
            // Stuffing, fill bytes, and the markers that stand alone: TEM, RST, SOI.
            [0x00 | 0x01 | 0xd0..=0xd8 | 0xff, ..] => {}
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(1 + length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

fn decode_as(bytes: &[u8], limits: &Limits, strict: bool) -> Result<Decoded, DecodeError> {
    let failed = |error: DecodeErrors| error_of(error, bytes);
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(failed)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let (mode, colours) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (Mode::L, ColorSpace::Luma),
        Some(ColorSpace::YCbCr | ColorSpace::RGB | ColorSpace::YCCK) => {
            (Mode::Rgb, ColorSpace::RGB)
        }
        Some(ColorSpace::CMYK) => (Mode::Cmyk, ColorSpace::CMYK),
        other => {
            let found = format!("a JPEG of {other:?}");
            return Err(DecodeError::Unsupported { found });
        }
    };
    limits.check(width as u64, height as u64, mode.channels() as u64)?;
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    let mut pixels = buffer(width * height * mode.channels())?;
    decoder.decode_into(&mut pixels).map_err(failed)?;
    if mode == Mode::Cmyk {
        // Adobe stores light, not ink; Pillow takes every CMYK JPEG for Adobe's.
        pixels.iter_mut().for_each(|value| *value = 255 - *value);
    }
    let image =
        Decoded { width: width as u32, height: height as u32, mode, pixels, palette: Vec::new() };
    Ok(if limits.exif_orientation {
        orient::apply_exif(image, decoder.exif().map(Vec::as_slice))
    } else {
        image
    })
}

fn error_of(error: DecodeErrors, bytes: &[u8]) -> DecodeError {
    let message = error.to_string().trim_matches('"').to_owned();
    let truncated = match &error {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => true,
        _ => message.contains("Premature end"),
    };
    match error {
        DecodeErrors::Unsupported(what) => {
            DecodeError::Unsupported { found: format!("a JPEG with {what:?}") }
        }
        _ if truncated => {
            DecodeError::Truncated { format: Format::Jpeg, bytes: bytes.len(), message }
        }
        _ => DecodeError::Corrupt { format: Format::Jpeg, message },
    }
}
