//! BMP, by `image`'s own decoder of it, which can leave palettes as they are.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::bmp::BmpDecoder;

use super::other::{error_of, read};
use super::{DecodeError, Decoded, Format, Limits, Mode};

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let failed = |error| error_of(error, Format::Bmp, bytes);
    let mut decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let Some(stored) = decoder.get_palette() else {
        return read(decoder, Format::Bmp, bytes, limits);
    };
    let mut palette = vec![[0; 3]; 256];
    palette.iter_mut().zip(stored).for_each(|(entry, colour)| *entry = *colour);
    let is_grey =
        stored.len() > 2 && stored.iter().enumerate().all(|(index, rgb)| *rgb == [index as u8; 3]);
    decoder.set_indexed_color(true);
    if decoder.color_type() != image::ColorType::L8 {
        return Err(DecodeError::Unsupported { found: "a BMP with a palette of colours".into() });
    }
    let indices = read(decoder, Format::Bmp, bytes, limits)?;
    Ok(if is_grey { indices } else { Decoded { mode: Mode::Palette, palette, ..indices } })
}
