//! BMP as Pillow reads it, with its readings of what the format leaves open: which palettes make an
//! image grey, which bit fields hold alpha, where a run-length image lies.
//!
//! Own code, as no decoder at hand keeps palettes of less than 8 bits as indices, which the resize needs.

use super::{DecodeError, Decoded, Format, Limits, Mode, buffer, unpacked};

/// What the header says, as far as it matters.
#[derive(Debug)]
struct Header {
    width: usize,
    height: usize,
    /// Rows from the top; else from the bottom.
    is_top_down: bool,
    bits: u16,
    compression: u32,
    colours: usize,
    /// Bytes of a palette entry.
    entry: usize,
    /// Red, green, blue and alpha, where the compression is bit fields.
    masks: [u32; 4],
    /// Where the palette lies, and the pixels.
    palette: usize,
    pixels: usize,
}

const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let header = Header::read(bytes)?;
    let (width, height) = (header.width, header.height);
    if width == 0 || height == 0 {
        return Err(corrupt("it has no pixels"));
    }
    limits.check(width as u64, height as u64, if header.bits <= 8 { 1 } else { 4 })?;
    match (header.bits, header.compression) {
        (1 | 4 | 8, RAW | RLE8 | RLE4) => indexed(bytes, &header),
        (16 | 24 | 32, RAW | BITFIELDS) => coloured(bytes, &header),
        (1 | 4 | 8, BITFIELDS) => unsupported("bit fields and a palette"),
        (16 | 24 | 32, RLE8 | RLE4) => Err(corrupt("run lengths without a palette")),
        (1 | 4 | 8 | 16 | 24 | 32, 4) => unsupported("compression 4 (JPEG, or 24-bit run lengths)"),
        (1 | 4 | 8 | 16 | 24 | 32, 5) => unsupported("compression 5 (PNG)"),
        (1 | 4 | 8 | 16 | 24 | 32, other) => unsupported(&format!("compression {other}")),
        (other, _) => unsupported(&format!("{other} bits a pixel")),
    }
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = |at: usize| -> Result<u16, DecodeError> {
            let field = bytes.get(at..at + 2).ok_or_else(|| truncated(bytes, "its header"))?;
            Ok(u16::from_le_bytes([field[0], field[1]]))
        };
        let long = |at: usize| -> Result<u32, DecodeError> {
            Ok(u32::from(short(at)?) | u32::from(short(at + 2)?) << 16)
        };
        let size = long(14)?;
        let end = 14 + size as usize;
        let stored_at = long(10)? as usize;
        let mut header = if size == 12 {
            Self {
                width: short(18)?.into(),
                height: short(20)?.into(),
                is_top_down: false,
                bits: short(24)?,
                compression: RAW,
                colours: 0,
                entry: 3,
                masks: [0; 4],
                palette: end,
                pixels: stored_at,
            }
        } else if matches!(size, 40 | 52 | 56 | 64 | 108 | 124) {
            let height = long(22)?;
            // As Pillow has it: a height is negative where its highest byte is 255.
            let is_top_down = height >> 24 == 0xff;
            Self {
                width: long(18)? as usize,
                height: if is_top_down { height.wrapping_neg() } else { height } as usize,
                is_top_down,
                bits: short(28)?,
                compression: long(30)?,
                colours: long(46)? as usize,
                entry: 4,
                masks: [0; 4],
                palette: end,
                pixels: stored_at,
            }
        } else {
            return unsupported(&format!("a header of {size} bytes"));
        };
        if header.compression == BITFIELDS {
            // After a header of 40 bytes, within a longer one, is the same place.
            let count = if size >= 56 { 4 } else { 3 };
            for (mask, at) in header.masks.iter_mut().zip((54..).step_by(4)).take(count) {
                *mask = long(at)?;
            }
            if size == 40 {
                header.palette += 12;
            }
        }
        if header.colours == 0 && header.bits <= 8 {
            header.colours = 1 << header.bits;
        }
        if header.pixels == end && header.bits <= 8 {
            header.pixels = end.saturating_add(header.entry.saturating_mul(header.colours));
        }
        if header.pixels == 0 {
            header.pixels = header.palette;
            if header.bits <= 8 {
                let length = header.entry.saturating_mul(header.colours);
                header.pixels = header.palette.saturating_add(length).min(bytes.len());
            }
        }
        Ok(header)
    }

    /// Bytes from one row to the next.
    fn stride(&self) -> usize {
        (self.width * usize::from(self.bits)).div_ceil(32) * 4
    }

    /// The rows of `length` bytes each, from the top.
    fn rows<'a>(
        &self,
        bytes: &'a [u8],
        stride: usize,
        length: usize,
    ) -> Result<impl Iterator<Item = &'a [u8]>, DecodeError> {
        // The last row needs no padding.
        let all = (self.height - 1).checked_mul(stride).and_then(|rows| rows.checked_add(length));
        let data = all
            .and_then(|all| bytes.get(self.pixels..self.pixels.checked_add(all)?))
            .ok_or_else(|| truncated(bytes, "its pixels"))?;
        let (height, is_top_down) = (self.height, self.is_top_down);
        Ok((0..height).map(move |row| {
            let stored = if is_top_down { row } else { height - 1 - row };
            &data[stored * stride..][..length]
        }))
    }
}

fn indexed(bytes: &[u8], header: &Header) -> Result<Decoded, DecodeError> {
    if !(1..=65_536).contains(&header.colours) {
        return unsupported(&format!("a palette of {} colours", header.colours));
    }
    let stored = bytes.get(header.palette..).unwrap_or_default();
    let stored = &stored[..stored.len().min(header.entry * header.colours)];
    let entries = || stored.chunks(header.entry);
    let level = |index: usize| if header.colours == 2 { [0, 255][index] } else { index as u8 };
    let is_grey = entries().len() == header.colours
        && entries().enumerate().all(|(index, entry)| entry.get(..3) == Some(&[level(index); 3]));
    let is_run_length = header.compression != RAW;
    // A grey palette makes Pillow read the rows as its mode "1" or "L" has them, whatever the bits.
    let bits = match (is_grey, header.colours) {
        (true, ..=2) => 1,
        (true, _) => 8,
        (false, _) => header.bits.into(),
    };
    let (width, height) = (header.width, header.height);
    let mut pixels = buffer(width * height)?;
    if is_run_length {
        run_lengths(bytes, header, &mut pixels)?;
    } else {
        let length = (width * bits).div_ceil(8);
        if length > header.stride() {
            return unsupported("a grey palette of 256 colours and less than 8 bits a pixel");
        }
        let rows = header.rows(bytes, header.stride(), length)?;
        for (row, out) in rows.zip(pixels.chunks_exact_mut(width)) {
            unpacked(row, bits, out);
        }
    }
    let mut palette = vec![[0; 3]; 256];
    if is_grey && header.colours <= 2 {
        palette[1..].fill([255; 3]);
    } else if is_grey {
        palette = Vec::new();
    } else if stored.len() / header.entry > 256 {
        return unsupported(&format!("a palette of {} colours", header.colours));
    } else {
        for (colour, entry) in palette.iter_mut().zip(entries().filter(|e| e.len() >= 3)) {
            *colour = [entry[2], entry[1], entry[0]];
        }
    }
    let mode = if palette.is_empty() { Mode::L } else { Mode::Palette };
    Ok(Decoded { width: width as u32, height: height as u32, mode, pixels, palette })
}

/// Writes the indices of a run-length image, rows from the top.
fn run_lengths(bytes: &[u8], header: &Header, pixels: &mut [u8]) -> Result<(), DecodeError> {
    let (width, is_nibbles) = (header.width, header.compression == RLE4);
    let mut at = header.pixels;
    let next = |at: &mut usize| {
        *at += 1;
        bytes.get(*at - 1).copied()
    };
    // Pixels in stored order, and those of the row that runs have filled.
    let (mut done, mut column) = (0, 0);
    while done < pixels.len() {
        let (Some(count), Some(value)) = (next(&mut at), next(&mut at)) else { break };
        let left = pixels.len() - done;
        match (count, value) {
            (0, 0) => {
                done += (width - done % width) % width;
                column = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let (Some(right), Some(up)) = (next(&mut at), next(&mut at)) else { break };
                done += left.min(usize::from(right) + usize::from(up) * width);
                column = done % width;
            }
            (0, count) => {
                let count = left.min(count.into());
                for index in 0..if is_nibbles { count.div_ceil(2) } else { count } {
                    let Some(byte) = next(&mut at) else {
                        return Err(truncated(bytes, "its pixels"));
                    };
                    if is_nibbles {
                        pixels[done + 2 * index] = byte >> 4;
                        if 2 * index + 1 < count {
                            pixels[done + 2 * index + 1] = byte & 15;
                        }
                    } else {
                        pixels[done + index] = byte;
                    }
                }
                done += count;
                column += usize::from(value);
                // Absolute runs end at an even place in the file.
                if done < pixels.len() && !at.is_multiple_of(2) {
                    at += 1;
                }
            }
            (count, value) => {
                let count = usize::from(count).min(width.saturating_sub(column)).min(left);
                let colours = if is_nibbles { [value >> 4, value & 15] } else { [value; 2] };
                for (index, pixel) in pixels[done..done + count].iter_mut().enumerate() {
                    *pixel = colours[index % 2];
                }
                done += count;
                column += count;
            }
        }
    }
    if done < pixels.len() {
        return Err(truncated(bytes, "its pixels"));
    }
    if !header.is_top_down {
        let (mut top, mut bottom) = (0, header.height - 1);
        while top < bottom {
            let (upper, lower) = pixels.split_at_mut(bottom * width);
            upper[top * width..][..width].swap_with_slice(&mut lower[..width]);
            (top, bottom) = (top + 1, bottom - 1);
        }
    }
    Ok(())
}

/// 16, 24 and 32 bits a pixel.
fn coloured(bytes: &[u8], header: &Header) -> Result<Decoded, DecodeError> {
    let [red, green, blue, alpha] = header.masks;
    // The places of red, green, blue and alpha in a pixel's bytes.
    let places: &[usize] = match (header.bits, header.compression) {
        (16, RAW) => &[],
        (24, RAW) | (32, RAW) => &[2, 1, 0],
        (16, _) if [red, green, blue] == [0x7c00, 0x3e0, 0x1f] => &[],
        (16, _) if [red, green, blue] == [0xf800, 0x7e0, 0x1f] => &[],
        (24, _) if [red, green, blue] == [0xff_0000, 0xff00, 0xff] => &[2, 1, 0],
        (32, _) => match header.masks {
            [0x00ff_0000, 0xff00, 0xff, 0] => &[2, 1, 0],
            [0xff00_0000, 0x00ff_0000, 0xff00, 0] => &[3, 2, 1],
            [0xff00_0000, 0xff00, 0xff, 0] => &[3, 1, 0],
            [0xff00_0000, 0x00ff_0000, 0xff00, 0xff] => &[3, 2, 1, 0],
            [0xff, 0xff00, 0x00ff_0000, 0xff00_0000] => &[0, 1, 2, 3],
            [0x00ff_0000, 0xff00, 0xff, 0xff00_0000] | [0, 0, 0, 0] => &[2, 1, 0, 3],
            [0xff00_0000, 0xff00, 0xff, 0x00ff_0000] => &[3, 1, 0, 2],
            _ => return unsupported(&format!("bit fields {red:x} {green:x} {blue:x} {alpha:x}")),
        },
        _ => return unsupported(&format!("bit fields {red:x} {green:x} {blue:x}")),
    };
    let mode = if places.len() == 4 { Mode::Rgba } else { Mode::Rgb };
    let (width, height, size) = (header.width, header.height, usize::from(header.bits) / 8);
    let mut pixels = buffer(width * height * mode.channels())?;
    let rows = header.rows(bytes, header.stride(), width * size)?;
    for (row, out) in rows.zip(pixels.chunks_exact_mut(width * mode.channels())) {
        let each = row.chunks_exact(size).zip(out.chunks_exact_mut(mode.channels()));
        for (pixel, out) in each {
            if places.is_empty() {
                let value = u16::from_le_bytes([pixel[0], pixel[1]]);
                let field = |shift: u32, most: u16| (value >> shift & most) * 255 / most;
                let is_565 = header.compression == BITFIELDS && green == 0x7e0;
                let fields = if is_565 {
                    [field(11, 31), field(5, 63), field(0, 31)]
                } else {
                    [field(10, 31), field(5, 31), field(0, 31)]
                };
                out.copy_from_slice(&fields.map(|field| field as u8));
            } else {
                out.iter_mut().zip(places).for_each(|(out, place)| *out = pixel[*place]);
            }
        }
    }
    Ok(Decoded { width: width as u32, height: height as u32, mode, pixels, palette: Vec::new() })
}

fn unsupported<T>(what: &str) -> Result<T, DecodeError> {
    Err(DecodeError::Unsupported { found: format!("BMP with {what}") })
}

fn corrupt(message: &str) -> DecodeError {
    DecodeError::Corrupt { format: Format::Bmp, message: message.into() }
}

fn truncated(bytes: &[u8], what: &str) -> DecodeError {
    DecodeError::Truncated {
        format: Format::Bmp,
        bytes: bytes.len(),
        message: format!("{what} would end beyond it"),
    }
}
