//! The names of image formats that are not read, by their first bytes: whoever stores one is told so,
//! rather than that it is no image.

/// The format's name, where the bytes show one.
pub(super) fn name(bytes: &[u8]) -> Option<&'static str> {
    let head = &bytes[..bytes.len().min(32)];
    let brand = if head.get(4..8) == Some(b"ftyp") { head.get(8..12) } else { None };
    if let Some(brand) = brand {
        return match brand {
            b"crx " => Some("Canon raw (CR3)"),
            b"jp2 " | b"jpx " | b"jpm " => Some("JPEG 2000"),
            b"isom" | b"iso2" | b"mp41" | b"mp42" | b"avc1" | b"M4V " | b"qt  " => {
                Some("a video (MP4)")
            }
            _ => None,
        };
    }
    Some(match head {
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => "JPEG 2000",
        [0xff, 0xd8, 0xff] => "JPEG",
        [0xff, 0xd8, 0xf7, ..] => "JPEG-LS",
        [b'I', b'I', 0xbc, ..] => "JPEG XR",
        [b'I', b'I', b'R', b'O' | b'S', ..] | [b'I', b'I', b'U', 0, ..] => "camera raw",
        [0x8a, b'M', b'N', b'G', ..] => "MNG",
        [0x8b, b'J', b'N', b'G', ..] => "JNG",
        [0, 0, 1, 0, count, 0, ..] if *count > 0 => "ICO (an icon)",
        [0, 0, 2, 0, count, 0, ..] if *count > 0 => "CUR (a cursor)",
        [b'8', b'B', b'P', b'S', ..] => "PSD (a Photoshop document)",
        [b'%', b'P', b'D', b'F', b'-', ..] => "PDF",
        [b'%', b'!', b'P', b'S', ..] | [0xc5, 0xd0, 0xd3, 0xc6, ..] => "PostScript",
        [b'g', b'i', b'm', b'p', b' ', b'x', b'c', b'f', ..] => "XCF (GIMP)",
        [b'q', b'o', b'i', b'f', ..] => "QOI",
        [b'f', b'a', b'r', b'b', b'f', b'e', b'l', b'd', ..] => "farbfeld",
        [b'D', b'D', b'S', b' ', ..] => "DDS",
        [0x76, 0x2f, 0x31, 0x01, ..] => "OpenEXR",
        [b'#', b'?', b'R', b'A', b'D', b'I', b'A', b'N', b'C', b'E', ..]
        | [b'#', b'?', b'R', b'G', b'B', b'E', ..] => "Radiance HDR",
        [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n', ..] | [b'P', b'F' | b'f', b'\n', ..] => {
            "a portable bitmap (PNM)"
        }
        [0x59, 0xa6, 0x6a, 0x95, ..] => "Sun raster",
        [0x01, 0xda, 0 | 1, 1 | 2, ..] => "SGI",
        [10, 0 | 2..=5, 1, 1 | 2 | 4 | 8, ..] => "PCX",
        [0xd7, 0xcd, 0xc6, 0x9a, ..] => "WMF",
        [1, 0, 0, 0, ..] if bytes.get(40..44) == Some(b" EMF") => "EMF",
        [b'S', b'I', b'M', b'P', b'L', b'E', b' ', b' ', b'=', ..] => "FITS",
        [b'A', b'T', b'&', b'T', b'F', b'O', b'R', b'M', ..] => "DjVu",
        [b'B', b'P', b'G', 0xfb, ..] => "BPG",
        [b'F', b'L', b'I', b'F', ..] => "FLIF",
        [b'I', b'C', b'N', b'S', ..] | [b'i', b'c', b'n', b's', ..] => "ICNS (an icon)",
        [0xab, b'K', b'T', b'X', b' ', ..] => "KTX",
        [b'/', b'*', b' ', b'X', b'P', b'M', b' ', b'*', b'/', ..] => "XPM",
        _ if is_svg(bytes) => "SVG",
        _ => return None,
    })
}

/// Whether this is an XML text of which an early element is `svg`.
fn is_svg(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let early = &text[..text.len().min(1024)];
    text.starts_with(b"<svg")
        || text.starts_with(b"<?xml") && early.windows(4).any(|tag| tag == b"<svg")
        || text.starts_with(b"<!DOCTYPE svg")
}
