//! The first frame of a GIF, as indices: Pillow opens it as a palette image (or as grey, where
//! the palette is the grey ramp) and resizes it without interpolation.

use std::borrow::Cow;
use std::io::Cursor;
use std::num::NonZeroU64;

use gif::{DecodeOptions, DecodingError, MemoryLimit};

use super::{DecodeError, Decoded, Format, Limits, Mode, buffer};

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let failed = |error| error_of(error, bytes);
    let mut options = DecodeOptions::new();
    options.set_memory_limit(
        NonZeroU64::new(limits.memory)
            .map_or(MemoryLimit::Bytes(NonZeroU64::MIN), MemoryLimit::Bytes),
    );
    // Pillow skips what it does not know.
    options.allow_unknown_blocks(true);
    let whole = with_palette(bytes)?;
    let mut decoder = options.read_info(Cursor::new(&*whole)).map_err(failed)?;
    let mut screen = (usize::from(decoder.width()), usize::from(decoder.height()));
    limits.check(screen.0 as u64, screen.1 as u64, 1)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let Some(frame) = decoder.next_frame_info().map_err(failed)? else {
        let message = "it has no frame".into();
        return Err(DecodeError::Corrupt { format: Format::Gif, message });
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    let (transparent, local) = (frame.transparent, frame.palette.clone());
    screen = (screen.0.max(left + width), screen.1.max(top + height));
    limits.check(screen.0 as u64, screen.1 as u64, 2)?;
    if screen.0 == 0 || screen.1 == 0 {
        let message = "it has no pixels".into();
        return Err(DecodeError::Corrupt { format: Format::Gif, message });
    }
    let mut indices = buffer(width * height)?;
    decoder.read_into_buffer(&mut indices).map_err(failed)?;
    let pixels = if screen == (width, height) {
        indices
    } else {
        let mut canvas = buffer(screen.0 * screen.1)?;
        canvas.fill(transparent.unwrap_or(0));
        for (row, line) in indices.chunks_exact(width.max(1)).enumerate() {
            canvas[(top + row) * screen.0 + left..][..width].copy_from_slice(line);
        }
        canvas
    };
    let is_ramp = |palette: &[u8]| {
        palette.chunks_exact(3).enumerate().all(|(index, rgb)| rgb == [index as u8; 3])
    };
    if local.as_deref().is_some_and(is_ramp) && !global.as_deref().is_none_or(is_ramp) {
        // Pillow opens it as grey with a palette, and then cannot resize it.
        let found = "GIF with a grey ramp for its frame and a palette of colours for all".into();
        return Err(DecodeError::Unsupported { found });
    }
    let stored = local.or(global).unwrap_or_default();
    let is_grey = is_ramp(&stored);
    let mut palette = vec![[0; 3]; if is_grey { 0 } else { 256 }];
    for (entry, colour) in palette.iter_mut().zip(stored.chunks_exact(3)) {
        entry.copy_from_slice(colour);
    }
    Ok(Decoded {
        width: screen.0 as u32,
        height: screen.1 as u32,
        mode: if is_grey { Mode::L } else { Mode::Palette },
        pixels,
        palette,
    })
}

/// The bytes with a palette for all frames, the grey ramp where they have none: it is what Pillow takes
/// then, and the decoder wants one.
fn with_palette(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    let (Some(head), Some(rest)) = (bytes.get(..13), bytes.get(13..)) else {
        return Ok(Cow::Borrowed(bytes));
    };
    if head[10] & 0x80 != 0 {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut whole = Vec::new();
    whole.try_reserve_exact(bytes.len() + 768).map_err(|_| too_large())?;
    whole.extend_from_slice(head);
    whole[10] |= 0x87;
    whole.extend((0..=255).flat_map(|level| [level; 3]));
    whole.extend_from_slice(rest);
    Ok(Cow::Owned(whole))
}

fn too_large() -> DecodeError {
    DecodeError::TooLarge { what: "a GIF's buffers".into(), limit: "the memory".into() }
}

fn error_of(error: DecodingError, bytes: &[u8]) -> DecodeError {
    let message = error.to_string();
    match error {
        DecodingError::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Gif, bytes: bytes.len(), message }
        }
        DecodingError::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Gif, bytes: bytes.len(), message }
        }
        DecodingError::MemoryLimit | DecodingError::OutOfMemory => too_large(),
        _ => DecodeError::Corrupt { format: Format::Gif, message },
    }
}
