//! A JPEG at a half, a quarter or an eighth of its size, made as its coefficients are transformed:
//! for large photographs, where that is asked for. Another decoder than the exact one's, since
//! zune-jpeg cannot do it; its pixels are near open_clip's, not open_clip's.

use jpeg_decoder::{Decoder, PixelFormat};

use super::{Decoded, Limits, Mode, orient};

/// The image with its shorter side not below `least`. `None`: it is not large enough, in a mode that
/// is not scaled, or not to be read by this decoder; the exact one knows what to do or to say.
pub(super) fn decode(bytes: &[u8], limits: &Limits, least: u32) -> Option<Decoded> {
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(limits.memory).unwrap_or(usize::MAX));
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    let mode = match info.pixel_format {
        PixelFormat::L8 => Mode::L,
        PixelFormat::RGB24 => Mode::Rgb,
        _ => return None,
    };
    let (width, height) = (u64::from(info.width), u64::from(info.height));
    limits.check(width, height, mode.channels() as u64).ok()?;
    let parts = [8, 4, 2].into_iter().find(|parts| width.min(height) / parts >= least.into())?;
    let part = |side: u64| side.div_ceil(parts) as u16;
    let (width, height) = decoder.scale(part(width), part(height)).ok()?;
    let pixels = decoder.decode().ok()?;
    let (width, height) = (width.into(), height.into());
    let image = Decoded { width, height, mode, pixels, palette: Vec::new() };
    Some(if limits.exif_orientation {
        orient::apply_exif(image, decoder.exif_data())
    } else {
        image
    })
}
