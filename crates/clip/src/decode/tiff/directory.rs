//! The first directory of a TIFF file: its tags as numbers. Classic and BigTIFF, either byte order.
//!
//! Apart from what the tags mean, since everything in here is an offset that may lie.

use crate::decode::{DecodeError, Format};

/// Tags by their numbers in TIFF 6.0.
pub(super) mod tag {
    pub const WIDTH: u16 = 256;
    pub const LENGTH: u16 = 257;
    pub const BITS_PER_SAMPLE: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const ORIENTATION: u16 = 274;
    pub const SAMPLES_PER_PIXEL: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_BYTE_COUNTS: u16 = 279;
    pub const PLANAR_CONFIGURATION: u16 = 284;
    pub const T4_OPTIONS: u16 = 292;
    pub const PREDICTOR: u16 = 317;
    pub const COLOR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_LENGTH: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTE_COUNTS: u16 = 325;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
}

/// A tag's type, and the bytes of its values.
struct Entry<'a> {
    tag: u16,
    kind: u16,
    values: &'a [u8],
}

pub(super) struct Directory<'a> {
    is_little: bool,
    is_big: bool,
    /// By tag, each once.
    entries: Vec<Entry<'a>>,
}

impl<'a> Directory<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let is_little = bytes.first() == Some(&b'I');
        let is_big = bytes.get(2..4).is_some_and(|version| version.contains(&43));
        let number = |at: usize, size: usize| -> Result<u64, DecodeError> {
            let end = at.checked_add(size);
            let field = end.and_then(|end| bytes.get(at..end)).ok_or_else(|| truncated(bytes))?;
            Ok(number_of(field, is_little))
        };
        // Bytes of an offset, and of the count of entries.
        let (wide, count_size) = if is_big { (8, 8) } else { (4, 2) };
        let start = to_usize(number(if is_big { 8 } else { 4 }, wide)?);
        let count = to_usize(number(start, count_size)?);
        let first = start.checked_add(count_size).ok_or_else(|| truncated(bytes))?;
        let size = 4 + 2 * wide;
        // What is not there is not believed to be.
        if count > bytes.len() / size {
            return Err(truncated(bytes));
        }
        let mut entries = Vec::with_capacity(count);
        for index in 0..count {
            let at = first + index * size;
            let (tag, kind) = (number(at, 2)? as u16, number(at + 2, 2)? as u16);
            let length = to_usize(number(at + 4, wide)?).saturating_mul(size_of(kind));
            let inline = at + 4 + wide;
            let place = if length <= wide { inline } else { to_usize(number(inline, wide)?) };
            let values = place.checked_add(length).and_then(|end| bytes.get(place..end));
            // An unknown type has no length; a tag that nobody asks for may lie about its place.
            if let (Some(values), false) = (values, length == 0) {
                entries.push(Entry { tag, kind, values });
            }
        }
        entries.sort_by_key(|entry| entry.tag);
        if entries.windows(2).any(|pair| pair[0].tag == pair[1].tag) {
            return Err(DecodeError::Corrupt {
                format: Format::Tiff,
                message: "it has a tag twice".into(),
            });
        }
        Ok(Self { is_little, is_big, entries })
    }

    pub(super) fn is_little(&self) -> bool {
        self.is_little
    }

    /// Whether it is BigTIFF.
    pub(super) fn is_big(&self) -> bool {
        self.is_big
    }

    fn entry(&self, tag: u16) -> Option<&Entry<'a>> {
        let place = self.entries.binary_search_by_key(&tag, |entry| entry.tag).ok()?;
        Some(&self.entries[place])
    }

    /// The bytes of a tag's values.
    pub(super) fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        self.entry(tag).map(|entry| entry.values)
    }

    /// A tag's values, where they are whole numbers and not negative.
    pub(super) fn numbers(&self, tag: u16) -> Option<Vec<u64>> {
        let entry = self.entry(tag)?;
        if !matches!(entry.kind, 1 | 3 | 4 | 6 | 8 | 9 | 13 | 16 | 17 | 18) {
            return None;
        }
        let size = size_of(entry.kind);
        Some(entry.values.chunks_exact(size).map(|v| number_of(v, self.is_little)).collect())
    }

    /// The first of a tag's values.
    pub(super) fn number(&self, tag: u16) -> Option<u64> {
        self.numbers(tag)?.first().copied()
    }
}

/// Bytes of a value of a type; 0 where there is no such type.
fn size_of(kind: u16) -> usize {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 0,
    }
}

fn number_of(field: &[u8], is_little: bool) -> u64 {
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    if is_little { field.iter().rev().fold(0, add) } else { field.iter().fold(0, add) }
}

/// A number that is no offset in memory is one beyond any file.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn truncated(bytes: &[u8]) -> DecodeError {
    DecodeError::Truncated {
        format: Format::Tiff,
        bytes: bytes.len(),
        message: "its directory would end beyond it".into(),
    }
}
