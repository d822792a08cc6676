//! What an image will cost in memory, told from its header before anything of it is decoded.
//!
//! Its own file, apart from the decoders, because it is a promise about them: whoever plans with a
//! budget (the encoder) asks here first. `tests/need.rs` measures every kind of file with a counting
//! allocator and holds the promise. A file whose header cannot be read needs next to nothing, since
//! no decoder gets beyond it; [`Need::limits`] sees to that.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use crate::decode::{DecodeError, Format, Limits, bmff, sniff};

/// What decoding and resizing take beside the image's own bytes and the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// As the header says, in pixels; 0 where it says nothing that is understood.
    pub width: u64,
    pub height: u64,
    /// Bytes of memory, the most at any moment.
    pub bytes: u64,
}

/// Bytes that are taken whatever the size: decoders' tables, the sums of a resize to 336 pixels.
const BASE: u64 = 2 << 20;
/// Segments, blocks and stray bytes that are looked through before the header counts as unreadable.
const MOST_STEPS: u64 = 100_000;
/// Pixels that an image may have whose header is not understood.
const UNKNOWN_PIXELS: u64 = BASE / 16;
/// Bytes a pixel of the width or height: rows of blocks, windows of the resize.
const PER_SIDE: u64 = 320;

impl Need {
    /// Limits within which a decoder cannot take more: a header that it understands differently is
    /// then an error, and not more memory.
    pub fn limits(&self, limits: &Limits) -> Limits {
        let pixels = match self.pixels() {
            0 => UNKNOWN_PIXELS,
            known => known,
        };
        let memory = limits.memory.min(self.bytes);
        Limits { pixels: limits.pixels.min(pixels), memory, ..*limits }
    }

    fn pixels(&self) -> u64 {
        self.width.saturating_mul(self.height)
    }

    /// Refuses what `limits` refuse anyway, before memory is kept for it.
    pub fn check(&self, limits: &Limits) -> Result<(), DecodeError> {
        limits.check(self.width, self.height, 0)
    }
}

/// Bytes of one pixel at the various stages.
#[derive(Clone, Copy)]
struct Pixel {
    width: u64,
    height: u64,
    /// While it is decoded: tenths of a byte.
    decoding: u64,
    /// Of the decoded image, as `Mode::channels`.
    channels: u64,
    /// Bytes of a part that is decoded by itself, and may reach beyond the image.
    part: u64,
}

impl Pixel {
    fn need(self, oriented: bool) -> Need {
        let Self { width, height, decoding, channels, part } = self;
        let pixels = width.saturating_mul(height);
        // The resize multiplies with alpha in a copy, and turns tall images; a camera's turn is
        // another copy, made before.
        let alpha = if matches!(channels, 2 | 4) { channels } else { 0 };
        let tall = if height > width { channels } else { 0 };
        let resizing = channels + (alpha + tall).max(if oriented { channels } else { 0 });
        let per_pixel = decoding.max(10 * resizing);
        let bytes = (pixels.saturating_mul(per_pixel) / 10)
            .saturating_add(PER_SIDE.saturating_mul(width.saturating_add(height)))
            .saturating_add(part)
            .saturating_add(BASE);
        Need { width, height, bytes }
    }
}

/// What an image needs; `oriented`: it is turned as its camera noted. An error is the source's.
pub fn need(source: &mut (impl Read + Seek), oriented: bool) -> io::Result<Need> {
    let mut header = Header { source, steps: 0 };
    let head: [u8; 32] = header.at_most(0)?;
    let found = match sniff(&head) {
        Ok(Format::Png) => Some(png(&head)),
        Ok(Format::Gif) => header.gif(&head),
        Ok(Format::Bmp) => Some(bmp(&head)),
        Ok(Format::WebP) => webp(&head),
        Ok(Format::Tiff) => header.tiff(&head),
        Ok(Format::Jpeg) => header.jpeg(),
        Ok(Format::Avif | Format::Heif) => header.heif(),
        Ok(Format::Jxl) => header.jxl(),
        Err(_) => None,
    };
    Ok(found.map_or(Need { width: 0, height: 0, bytes: BASE }, |pixel| pixel.need(oriented)))
}

fn u16_be(bytes: &[u8]) -> u64 {
    u16::from_be_bytes([bytes[0], bytes[1]]).into()
}

fn u16_le(bytes: &[u8]) -> u64 {
    u16::from_le_bytes([bytes[0], bytes[1]]).into()
}

fn u24_le(bytes: &[u8]) -> u64 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]).into()
}

fn u32_be(bytes: &[u8]) -> u64 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into()
}

fn u32_le(bytes: &[u8]) -> u64 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into()
}

fn png(head: &[u8; 32]) -> Pixel {
    let (width, height, depth) = (u32_be(&head[16..]), u32_be(&head[20..]), head[24]);
    let channels = match head[25] {
        2 => 3,
        4 => 2,
        6 => 4,
        _ => 1,
    };
    // 16-bit samples are cut, packed ones unpacked, into a copy; grey with alpha of 16 bits becomes
    // colours.
    let decoding = match depth {
        16 if head[25] == 4 => 80,
        16 => 30 * channels,
        8 => 10 * channels,
        _ => 15 * channels,
    };
    let channels = if (depth, head[25]) == (16, 4) { 4 } else { channels };
    Pixel { width, height, decoding, channels, part: 0 }
}

fn bmp(head: &[u8; 32]) -> Pixel {
    let (width, height, bits) = match u32_le(&head[14..]) {
        12 => (u16_le(&head[18..]), u16_le(&head[20..]), u16_le(&head[24..])),
        // The height is negative where the rows come from the top.
        _ => {
            let height = i32::from_le_bytes([head[22], head[23], head[24], head[25]]);
            (u32_le(&head[18..]), u64::from(height.unsigned_abs()), u16_le(&head[28..]))
        }
    };
    let channels = if bits == 32 { 4 } else { 3 };
    Pixel { width, height, decoding: 10 * (channels + 1), channels, part: 0 }
}

fn webp(head: &[u8; 32]) -> Option<Pixel> {
    match &head[12..16] {
        b"VP8 " => {
            let (width, height) = (u16_le(&head[26..]) & 0x3fff, u16_le(&head[28..]) & 0x3fff);
            Some(Pixel { width, height, decoding: 50, channels: 3, part: 0 })
        }
        // Four bytes are decoded, of which three are copied where there is no alpha.
        b"VP8L" => {
            let bits = u32_le(&head[21..]);
            let (width, height) = ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1);
            let (decoding, channels) = if bits >> 28 & 1 == 1 { (100, 4) } else { (80, 3) };
            Some(Pixel { width, height, decoding, channels, part: 0 })
        }
        // What is inside comes later; the most that it may be.
        b"VP8X" => {
            let (width, height) = (u24_le(&head[24..]) + 1, u24_le(&head[27..]) + 1);
            Some(Pixel { width, height, decoding: 120, channels: 4, part: 0 })
        }
        _ => None,
    }
}

/// Tenths of a byte a pixel while it is decoded, with the result.
const HEIF: u64 = 160;
const JXL: u64 = 400;

/// Bits from the lowest of each byte on; zeros where there are no more.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> u64 {
        let bit =
            |at: usize| u64::from(self.bytes.get(at / 8).copied().unwrap_or(0) >> (at % 8) & 1);
        let number = (0..count).map(|n| bit(self.at + n) << n).sum();
        self.at += count;
        number
    }
}

/// Reads here and there in a file.
struct Header<'a, S> {
    source: &'a mut S,
    steps: u64,
}

impl<S: Read + Seek> Header<'_, S> {
    /// Bytes from `offset` on; zeros where the file has no more.
    fn at_most<const N: usize>(&mut self, offset: u64) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.seek(SeekFrom::Start(offset))?;
        let mut filled = 0;
        while filled < N {
            match self.source.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// Bytes from `offset` on, all of them.
    fn at<const N: usize>(&mut self, offset: u64) -> Option<[u8; N]> {
        self.steps += 1;
        let mut bytes = [0; N];
        self.source.seek(SeekFrom::Start(offset)).ok()?;
        self.source.read_exact(&mut bytes).ok()?;
        (self.steps < MOST_STEPS).then_some(bytes)
    }

    /// The first frame may reach out of the screen, which then grows.
    fn gif(&mut self, head: &[u8; 32]) -> Option<Pixel> {
        let screen = (u16_le(&head[6..]), u16_le(&head[8..]));
        let table = |packed: u8| if packed & 0x80 != 0 { 3 << ((packed & 7) + 1) } else { 0 };
        let mut at = 13 + table(head[10]);
        loop {
            match self.at::<1>(at)?[0] {
                0x21 => at = self.past_blocks(at + 2)?,
                0x2c => break,
                // Stray bytes between blocks, and the end.
                _ => return None,
            }
        }
        let frame: [u8; 9] = self.at(at + 1)?;
        let width = screen.0.max(u16_le(&frame) + u16_le(&frame[4..]));
        let height = screen.1.max(u16_le(&frame[2..]) + u16_le(&frame[6..]));
        Some(Pixel { width, height, decoding: 20, channels: 1, part: 0 })
    }

    /// The end of a GIF's data blocks.
    fn past_blocks(&mut self, mut at: u64) -> Option<u64> {
        loop {
            match self.at::<1>(at)?[0] {
                0 => return Some(at + 1),
                length => at += 1 + u64::from(length),
            }
        }
    }

    /// Where the next box begins, its type and its content, if it is whole as far as it is told.
    fn next_box(&mut self, at: u64) -> Option<([u8; 4], Range<u64>)> {
        let head: [u8; 16] = self.at_most(at).ok()?;
        self.steps += 1;
        let (kind, content) = bmff::header(&head, u64::MAX - at)?;
        let content = at.checked_add(content.start)?..at.checked_add(content.end)?;
        (self.steps < MOST_STEPS).then_some((kind, content))
    }

    /// AVIF and HEIC: what the `meta` box says of the primary picture.
    fn heif(&mut self) -> Option<Pixel> {
        let mut at = 0;
        let content = loop {
            match self.next_box(at)? {
                (kind, content) if kind == *b"meta" => break content,
                (_, content) => at = content.end,
            }
        };
        let length = (content.end - content.start).min(bmff::MOST_META);
        let mut meta = Vec::new();
        self.source.seek(SeekFrom::Start(content.start)).ok()?;
        self.source.take(length).read_to_end(&mut meta).ok()?;
        let picture = bmff::picture(&meta)?;
        let (width, height) = (u64::from(picture.width), u64::from(picture.height));
        let (width, height) = if picture.turned { (height, width) } else { (width, height) };
        let channels = if picture.alpha { 4 } else { 3 };
        Some(Pixel { width, height, decoding: HEIF, channels, part: meta.len() as u64 })
    }

    /// JPEG XL: the first bits of its code stream, by itself or in the first box that holds some.
    fn jxl(&mut self) -> Option<Pixel> {
        let mut at = 0;
        if self.at::<2>(0)? != [0xff, 0x0a] {
            at = loop {
                match self.next_box(at)? {
                    (kind, content) if kind == *b"jxlc" => break content.start,
                    // A number stands before a part.
                    (kind, content) if kind == *b"jxlp" => break content.start + 4,
                    (_, content) => at = content.end,
                }
            };
        }
        let bytes: [u8; 32] = self.at_most(at + 2).ok()?;
        let mut bits = Bits { bytes: &bytes, at: 0 };
        let small = bits.take(1) == 1;
        let side = |bits: &mut Bits<'_>| match small {
            true => 8 * (bits.take(5) + 1),
            false => {
                let wide = [9, 13, 18, 30][bits.take(2) as usize];
                bits.take(wide) + 1
            }
        };
        let height = side(&mut bits);
        let (times, by) = [(0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1)]
            [bits.take(3) as usize];
        let by_ratio = (height * times).checked_div(by);
        let width = by_ratio.unwrap_or_else(|| side(&mut bits));
        // Not all metadata are the usual ones, there are more of them, and the orientation is first.
        let extra = bits.take(1) == 0 && bits.take(1) == 1;
        let turned = extra && bits.take(3) >= 4;
        let (width, height) = if turned { (height, width) } else { (width, height) };
        Some(Pixel { width, height, decoding: JXL, channels: 4, part: 0 })
    }

    /// The frame header, and whether the first scan has all components.
    fn jpeg(&mut self) -> Option<Pixel> {
        let (mut at, mut frame) = (2, None);
        loop {
            let [mark, kind] = self.at(at)?;
            match (mark, kind) {
                (0xff, 0x00 | 0x01 | 0xd0..=0xd9) => at += 2,
                (0xff, 0x02..=0xfe) => {
                    let [high, low, first] = self.at(at + 2)?;
                    match kind {
                        0xc4 | 0xc8 | 0xcc => {}
                        0xc0..=0xcf => frame = Some(self.frame(at + 4, kind)?),
                        0xda => {
                            let Frame { width, height, parts, samples, progressive } = frame?;
                            // Coefficients of 16 bits are kept where scans add to each other.
                            let kept = progressive || u64::from(first) < parts;
                            let channels = if parts == 2 { 3 } else { parts.clamp(1, 4) };
                            let decoding = 10 * channels + if kept { 3 * samples } else { samples };
                            return Some(Pixel { width, height, decoding, channels, part: 0 });
                        }
                        _ => {}
                    }
                    at += 2 + u16_be(&[high, low]);
                }
                // Fill bytes, and stray ones, which decoders skip.
                _ => at += 1,
            }
        }
    }

    fn frame(&mut self, at: u64, kind: u8) -> Option<Frame> {
        let head: [u8; 6] = self.at(at)?;
        let parts = head[5].min(4);
        let mut sampling = [(1, 1); 4];
        for part in 0..parts {
            let [_, factors] = self.at(at + 6 + 3 * u64::from(part))?;
            sampling[usize::from(part)] =
                (u64::from(factors >> 4).clamp(1, 4), u64::from(factors & 15).clamp(1, 4));
        }
        let sampling = &sampling[..usize::from(parts)];
        let across = sampling.iter().map(|(across, _)| across).max()?;
        let down = sampling.iter().map(|(_, down)| down).max()?;
        let each = sampling.iter().map(|(x, y)| (10 * x * y).div_ceil(across * down));
        Some(Frame {
            width: u16_be(&head[3..]),
            height: u16_be(&head[1..]),
            parts: parts.into(),
            samples: each.sum(),
            progressive: matches!(kind & 3, 2) || kind >= 0xc9,
        })
    }

    /// The first directory. All samples are decoded as they are stored, then cut to 8 bits.
    fn tiff(&mut self, head: &[u8; 32]) -> Option<Pixel> {
        let little = head[0] == b'I';
        let number = |bytes: &[u8]| {
            let shift = |(at, byte): (usize, &u8)| {
                u64::from(*byte) << (8 * if little { at } else { bytes.len() - 1 - at })
            };
            bytes.iter().enumerate().map(shift).sum::<u64>()
        };
        let big = number(&head[2..4]) == 43;
        let (start, count_bytes, entry_bytes) =
            if big { (number(&head[8..16]), 8, 20) } else { (number(&head[4..8]), 2, 12) };
        let count: [u8; 8] = self.at_most(start).ok()?;
        let (mut width, mut height, mut bits, mut samples) = (0, 0, 1, 1);
        let mut tile = (0, 0);
        for entry in 0..number(&count[..count_bytes]).min(MOST_STEPS) {
            let offset = start.checked_add(count_bytes as u64 + entry * entry_bytes)?;
            let entry: [u8; 20] = self.at_most(offset).ok()?;
            let (tag, kind) = (number(&entry[..2]), number(&entry[2..4]));
            let (count, value) =
                if big { (number(&entry[4..12]), 12) } else { (number(&entry[4..8]), 8) };
            let size = match kind {
                1 => 1,
                3 => 2,
                16 => 8,
                _ => 4,
            };
            let inline = if big { 8 } else { 4 };
            let single = || number(&entry[value..][..size.min(inline)]);
            match tag {
                256 => width = single(),
                257 => height = single(),
                258 if count.saturating_mul(size as u64) <= inline as u64 => bits = single(),
                // A list elsewhere: its first, the others being the same.
                258 => {
                    let first: [u8; 8] = self.at_most(number(&entry[value..][..inline])).ok()?;
                    bits = number(&first[..size]);
                }
                277 => samples = single(),
                322 => tile.0 = single(),
                323 => tile.1 = single(),
                _ => {}
            }
        }
        let (bits, samples) = (bits.clamp(1, 64), samples.clamp(1, 8));
        let stored = (10 * bits * samples).div_ceil(8).max(10);
        let channels = samples.min(4);
        // Twice: as it is stored, and with what is predicted undone.
        let part = tile.0.saturating_mul(tile.1).saturating_mul(stored) / 10;
        let (decoding, part) = (2 * stored + 10 * channels, part.saturating_mul(2));
        Some(Pixel { width, height, decoding, channels, part })
    }
}

/// What a JPEG's frame header says.
struct Frame {
    width: u64,
    height: u64,
    parts: u64,
    /// Of all components, in tenths a pixel.
    samples: u64,
    progressive: bool,
}
