//! Turning an image as its EXIF orientation says: asked for by few, so apart from the decoders.

use image::metadata::Orientation;

use super::Decoded;

/// Applies an orientation.
pub(super) fn apply(image: Decoded, orientation: Orientation) -> Decoded {
    let Decoded { width, height, mode, pixels, palette } = image;
    let (w, h, channels) = (width as usize, height as usize, mode.channels());
    // Where the pixel at (x, y) of the result lies in the source.
    let source: fn(usize, usize, usize, usize) -> (usize, usize) = match orientation {
        Orientation::NoTransforms => return Decoded { width, height, mode, pixels, palette },
        Orientation::FlipHorizontal => |x, y, w, _| (w - 1 - x, y),
        Orientation::Rotate180 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        Orientation::FlipVertical => |x, y, _, h| (x, h - 1 - y),
        Orientation::Rotate90FlipH => |x, y, _, _| (y, x),
        Orientation::Rotate90 => |x, y, _, h| (y, h - 1 - x),
        Orientation::Rotate270FlipH => |x, y, w, h| (w - 1 - y, h - 1 - x),
        Orientation::Rotate270 => |x, y, w, _| (w - 1 - y, x),
    };
    let swapped = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
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
    match exif.and_then(Orientation::from_exif_chunk) {
        Some(orientation) => apply(image, orientation),
        None => image,
    }
}
