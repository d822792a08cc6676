//! PNG, by the png crate itself: `image` expands palettes and transparency, which Pillow does not
//! before the resize.

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, Decoder, DecodingError, Limits as PngLimits};

use super::{DecodeError, Decoded, Format, Limits, Mode, buffer, orient, unpacked};

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let failed = |error| error_of(error, bytes);
    let memory = usize::try_from(limits.memory).unwrap_or(usize::MAX);
    let whole = with_end(bytes)?;
    let mut decoder = Decoder::new_with_limits(Cursor::new(&*whole), PngLimits { bytes: memory });
    let header = decoder.read_header_info().map_err(failed)?;
    let (width, height) = (header.width, header.height);
    let (colours, depth) = (header.color_type, header.bit_depth);
    let stored = colours.samples() as u64 * if depth == BitDepth::Sixteen { 2 } else { 1 };
    limits.check(width.into(), height.into(), stored)?;
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(failed)?;
    let length =
        reader.output_buffer_size().ok_or(DecodingError::LimitsExceeded).map_err(failed)?;
    let mut data = buffer(length)?;
    let frame = reader.next_frame(&mut data).map_err(failed)?;
    if (frame.width, frame.height) != (width, height) {
        let message = format!("its first frame has {} × {} pixels", frame.width, frame.height);
        return Err(DecodeError::Corrupt { format: Format::Png, message });
    }
    let row = width as usize * colours.samples();
    if (colours, depth) == (ColorType::Grayscale, BitDepth::Sixteen) {
        // Pillow keeps 16 bits, resizes them, and then cuts off at 255: all but white.
        return Err(DecodeError::Unsupported { found: "PNG with grey samples of 16 bits".into() });
    }
    let mode = match colours {
        // Pillow's mode "1": as a palette it is resized without interpolation.
        ColorType::Grayscale if depth == BitDepth::One => Mode::Palette,
        ColorType::Grayscale => Mode::L,
        ColorType::GrayscaleAlpha if depth == BitDepth::Sixteen => Mode::Rgba,
        ColorType::GrayscaleAlpha => Mode::La,
        ColorType::Rgb => Mode::Rgb,
        ColorType::Rgba => Mode::Rgba,
        ColorType::Indexed => Mode::Palette,
    };
    let pixels = match depth {
        BitDepth::Eight => data,
        // The high byte. Grey and alpha become colours, for which Pillow has a mode.
        BitDepth::Sixteen if colours == ColorType::GrayscaleAlpha => {
            let mut pixels = buffer(data.len())?;
            for (to, from) in pixels.chunks_exact_mut(4).zip(data.chunks_exact(4)) {
                to.copy_from_slice(&[from[0], from[0], from[0], from[2]]);
            }
            pixels
        }
        BitDepth::Sixteen => data.chunks_exact(2).map(|sample| sample[0]).collect(),
        packed => unpack(&data, row, frame.line_size, packed as usize, mode == Mode::L),
    };
    let palette = match (mode, colours) {
        (Mode::Palette, ColorType::Indexed) => {
            let stored = reader.info().palette.as_deref().unwrap_or_default();
            let mut palette = vec![[0; 3]; 256];
            for (entry, colour) in palette.iter_mut().zip(stored.chunks_exact(3)) {
                entry.copy_from_slice(colour);
            }
            palette
        }
        (Mode::Palette, _) => [[0; 3], [255; 3]].into_iter().cycle().take(256).collect(),
        _ => Vec::new(),
    };
    let image = Decoded { width, height, mode, pixels, palette };
    Ok(if limits.exif_orientation {
        orient::apply_exif(image, reader.info().exif_metadata.as_deref())
    } else {
        image
    })
}

/// Samples of 1, 2 or 4 bits to bytes, grey ones stretched to 0…255.
fn unpack(data: &[u8], row: usize, line: usize, bits: usize, stretch: bool) -> Vec<u8> {
    let factor = if stretch { 255 / ((1u16 << bits) - 1) as u8 } else { 1 };
    let mut out = vec![0; row * (data.len() / line)];
    for (line, out) in data.chunks_exact(line).zip(out.chunks_exact_mut(row)) {
        unpacked(line, bits, out);
        out.iter_mut().for_each(|value| *value *= factor);
    }
    out
}

/// The bytes with an end: Pillow does not miss the last chunk, the decoder does.
fn with_end(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
    let mut at = 8;
    while let Some(&[a, b, c, d, ref kind @ ..]) = bytes.get(at..at + 8) {
        let end = at.saturating_add(12 + u32::from_be_bytes([a, b, c, d]) as usize);
        match (end > bytes.len(), kind == b"IEND") {
            (false, false) => at = end,
            (true, true) => break,
            // The end is there, or another chunk is cut, which Pillow minds too.
            _ => return Ok(Cow::Borrowed(bytes)),
        }
    }
    let mut whole = Vec::new();
    whole.try_reserve_exact(at + END.len()).map_err(|_| DecodeError::TooLarge {
        what: "a PNG's bytes".into(),
        limit: "what the system has".into(),
    })?;
    whole.extend_from_slice(bytes.get(..at).unwrap_or(bytes));
    whole.extend_from_slice(END);
    Ok(Cow::Owned(whole))
}

fn error_of(error: DecodingError, bytes: &[u8]) -> DecodeError {
    // What follows would be values out of the data, which nobody is shown.
    let message = error.to_string();
    let message = message.split([':', '(', '{']).next().unwrap_or_default().trim_end().to_owned();
    match error {
        DecodingError::Format(_) if message.starts_with("Unrecognized critical chunk") => {
            DecodeError::Unsupported { found: "PNG with an unknown critical chunk".into() }
        }
        DecodingError::Format(_) if message.contains("ChunkType") => {
            let message = "a chunk is damaged or out of its place".into();
            DecodeError::Corrupt { format: Format::Png, message }
        }
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Png, bytes: bytes.len(), message }
        }
        DecodingError::LimitsExceeded => {
            DecodeError::TooLarge { what: "a PNG's buffers".into(), limit: "the memory".into() }
        }
        _ => DecodeError::Corrupt { format: Format::Png, message },
    }
}
