//! Turning an image as its orientation tag says: always for TIFF, for others where it is asked for.

use super::Decoded;
use super::tiff::orientation;

/// Turns an image to be seen upright; the orientation is the tag's value, 1 to 8, others are ignored.
pub(super) fn apply(image: Decoded, orientation: u64) -> Decoded {
    let Decoded { width, height, mode, pixels, palette } = image;
    let (w, h, channels) = (width as usize, height as usize, mode.channels());
    // Where the pixel at (x, y) of the result lies in the source.
    let source: fn(usize, usize, usize, usize) -> (usize, usize) = match orientation {
        2 => |x, y, w, _| (w - 1 - x, y),
        3 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        4 => |x, y, _, h| (x, h - 1 - y),
        5 => |x, y, _, _| (y, x),
        6 => |x, y, _, h| (y, h - 1 - x),
        7 => |x, y, w, h| (w - 1 - y, h - 1 - x),
        8 => |x, y, w, _| (w - 1 - y, x),
        _ => return Decoded { width, height, mode, pixels, palette },
    };
    let swapped = orientation >= 5;
    let (out_w, out_h) = if swapped { (h, w) } else { (w, h) };
    let mut turned = Vec::with_capacity(pixels.len());
    for y in 0..out_h {
        for x in 0..out_w {
            let (from_x, from_y) = source(x, y, w, h);
            let at = (from_y * w + from_x) * channels;
            turned.extend_from_slice(&pixels[at..at + channels]);
        }
    }
    Decoded { width: out_w as u32, height: out_h as u32, mode, pixels: turned, palette }
}

/// Applies the orientation that an EXIF block (TIFF header and all) holds, if any.
pub(super) fn apply_exif(image: Decoded, exif: Option<&[u8]>) -> Decoded {
    match exif.and_then(orientation) {
        Some(orientation) => apply(image, orientation),
        None => image,
    }
}
