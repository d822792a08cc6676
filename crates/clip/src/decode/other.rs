//! WebP and TIFF, through the `image` crate: for these its colour modes are Pillow's. What it
//! reads of BMP goes through here too.

use std::io::Cursor;

use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::{DecodeError, Decoded, Format, Limits, Mode, orient};

pub(super) fn decode(
    format: Format,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Decoded, DecodeError> {
    let kind = if format == Format::WebP { ImageFormat::WebP } else { ImageFormat::Tiff };
    if let (Format::WebP, Some(size)) = (format, bytes.get(4..8).and_then(|b| b.try_into().ok())) {
        // The decoder fills up what is missing at the end; a last byte of padding may be.
        let size = u64::from(u32::from_le_bytes(size)) + 8;
        if (bytes.len() as u64) + 1 < size {
            let message = format!("its header says {size} bytes");
            return Err(DecodeError::Truncated { format, bytes: bytes.len(), message });
        }
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind);
    let mut memory = image::Limits::default();
    memory.max_alloc = Some(limits.memory);
    reader.limits(memory);
    let decoder = reader.into_decoder().map_err(|error| error_of(error, format, bytes))?;
    read(decoder, format, bytes, limits)
}

/// Checks the limits and reads the pixels.
pub(super) fn read(
    mut decoder: impl ImageDecoder,
    format: Format,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Decoded, DecodeError> {
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(DecodeError::Corrupt { format, message: "it has no pixels".into() });
    }
    let per_pixel = u64::from(decoder.color_type().bytes_per_pixel());
    limits.check(width.into(), height.into(), per_pixel)?;
    let orientation = if limits.exif_orientation {
        decoder.orientation().unwrap_or(Orientation::NoTransforms)
    } else {
        Orientation::NoTransforms
    };
    let high = |samples: Vec<u16>| samples.into_iter().map(|sample| (sample >> 8) as u8).collect();
    let (mode, pixels) = match DynamicImage::from_decoder(decoder)
        .map_err(|error| error_of(error, format, bytes))?
    {
        DynamicImage::ImageLuma8(image) => (Mode::L, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (Mode::La, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (Mode::Rgb, image.into_raw()),
        DynamicImage::ImageRgba8(image) => (Mode::Rgba, image.into_raw()),
        DynamicImage::ImageLuma16(image) => (Mode::L, high(image.into_raw())),
        DynamicImage::ImageLumaA16(image) => (Mode::La, high(image.into_raw())),
        DynamicImage::ImageRgb16(image) => (Mode::Rgb, high(image.into_raw())),
        DynamicImage::ImageRgba16(image) => (Mode::Rgba, high(image.into_raw())),
        other => {
            let found = format!("a {format} of {:?}", other.color());
            return Err(DecodeError::Unsupported { found });
        }
    };
    let image = Decoded { width, height, mode, pixels, palette: Vec::new() };
    Ok(orient::apply(image, orientation))
}

pub(super) fn error_of(error: ImageError, format: Format, bytes: &[u8]) -> DecodeError {
    let message = error.to_string();
    match error {
        ImageError::Unsupported(_) => {
            DecodeError::Unsupported { found: format!("a {format}: {message}") }
        }
        ImageError::Limits(_) => DecodeError::TooLarge {
            what: format!("a {format}: {message}"),
            limit: "the memory".into(),
        },
        _ if ended(&error) => DecodeError::Truncated { format, bytes: bytes.len(), message },
        _ => DecodeError::Corrupt { format, message },
    }
}

/// Whether an unexpected end of the data is among an error's causes.
fn ended(error: &ImageError) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::UnexpectedEof
        {
            return true;
        }
        cause = error.source();
    }
    false
}
