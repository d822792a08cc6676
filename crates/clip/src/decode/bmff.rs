//! The boxes of a HEIF file (ISO/IEC 23008-12), which AVIF is of as well: what is said of the primary
//! picture. Its own file, since the look at a header (`need`) and the decoder, which is others' code
//! and is held to what was looked at, read the same; no pixel is touched here.
//!
//! ```text
//! ftyp  brands
//! meta  pitm (the primary item)  iref (what is whose)
//!       iprp: ipco (properties), ipma (which item has which)
//! mdat  data of items
//! ```

use std::ops::Range;

/// Bytes of a `meta` box that are looked at; pictures of thousands of tiles have some 100 kB.
pub(crate) const MOST_META: u64 = 4 << 20;
/// Items, properties, references: more than that is no picture's.
const MOST_PARTS: usize = 10_000;

/// What a `meta` box says of the primary picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Picture {
    /// As its `ispe` says, before it is turned.
    pub width: u32,
    pub height: u32,
    /// Whether `irot` turns it by a quarter or three.
    pub turned: bool,
    /// Whether another item is its alpha.
    pub alpha: bool,
}

/// A box's type and where its content lies, from the first bytes of it; `left`: bytes from its start to
/// the end of what holds it.
pub(crate) fn header(head: &[u8], left: u64) -> Option<([u8; 4], Range<u64>)> {
    let kind = head.get(4..8)?.try_into().ok()?;
    let (start, size) = match u32::from_be_bytes(head.get(..4)?.try_into().ok()?) {
        0 => (8, left),
        1 => (16, u64::from_be_bytes(head.get(8..16)?.try_into().ok()?)),
        size => (8, size.into()),
    };
    (size >= start).then_some((kind, start..size))
}

/// The content of the file's `meta` box; `None` where there is none, or the file ends before it does.
pub(crate) fn meta(bytes: &[u8]) -> Option<&[u8]> {
    boxes(bytes).find(|(kind, _)| kind == b"meta").map(|(_, content)| content)
}

/// Boxes one after the other, as far as they are whole.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (kind, range) = header(rest, rest.len() as u64)?;
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        let content = rest.get(range.clone())?;
        rest = &rest[range.end..];
        Some((kind, content))
    })
    .take(MOST_PARTS)
}

/// Numbers one after the other.
struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    /// A full box: its version and flags, and what comes after.
    fn full(content: &'a [u8]) -> Option<(u8, u32, Self)> {
        let mut numbers = Self(content);
        let word = numbers.take(4)? as u32;
        Some(((word >> 24) as u8, word & 0xff_ffff, numbers))
    }

    /// A number of so many bytes; of none 0.
    fn take(&mut self, bytes: usize) -> Option<u64> {
        let (number, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(number.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }
}

/// The content of a `meta` box, taken apart.
struct Meta<'a> {
    primary: u64,
    properties: Vec<([u8; 4], &'a [u8])>,
    /// Item and 1-based property.
    owned: Vec<(u64, usize)>,
    /// Type, from, to.
    references: Vec<([u8; 4], u64, u64)>,
}

/// What the content of a `meta` box says of the primary picture, where it can be understood.
pub(crate) fn picture(meta: &[u8]) -> Option<Picture> {
    let meta = Meta::read(meta)?;
    let mut found = Picture { alpha: meta.has_alpha(), ..Picture::default() };
    for (kind, content) in meta.of(meta.primary) {
        match kind {
            b"ispe" => {
                let (_, _, mut numbers) = Numbers::full(content)?;
                (found.width, found.height) = (numbers.take(4)? as u32, numbers.take(4)? as u32);
            }
            b"irot" => found.turned ^= content.first()? & 1 == 1,
            _ => {}
        }
    }
    (found.width > 0 && found.height > 0).then_some(found)
}

impl<'a> Meta<'a> {
    fn read(meta: &'a [u8]) -> Option<Self> {
        let (_, _, Numbers(children)) = Numbers::full(meta)?;
        let (properties, owned, references) = Default::default();
        let mut found = Self { primary: 0, properties, owned, references };
        for (kind, content) in boxes(children) {
            match &kind {
                b"pitm" => {
                    let (version, _, mut numbers) = Numbers::full(content)?;
                    found.primary = numbers.take(if version == 0 { 2 } else { 4 })?;
                }
                b"iref" => found.references = references_in(content)?,
                b"iprp" => found.properties(content)?,
                _ => {}
            }
        }
        Some(found)
    }

    fn properties(&mut self, content: &'a [u8]) -> Option<()> {
        for (kind, content) in boxes(content) {
            match &kind {
                b"ipco" => self.properties = boxes(content).collect(),
                b"ipma" => {
                    let (version, flags, mut numbers) = Numbers::full(content)?;
                    for _ in 0..numbers.take(4)?.min(MOST_PARTS as u64) {
                        let item = numbers.take(if version == 0 { 2 } else { 4 })?;
                        for _ in 0..numbers.take(1)? {
                            let wide = flags & 1 != 0;
                            let number = numbers.take(if wide { 2 } else { 1 })?;
                            let index = number & if wide { 0x7fff } else { 0x7f };
                            self.owned.push((item, index as usize));
                        }
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    /// An item's properties, in their order.
    fn of(&self, item: u64) -> impl Iterator<Item = (&[u8; 4], &'a [u8])> {
        self.owned.iter().filter(move |(owner, _)| *owner == item).filter_map(|(_, index)| {
            let (kind, content) = self.properties.get(index.checked_sub(1)?)?;
            Some((kind, *content))
        })
    }

    /// Whether an item is said to be the primary picture's alpha.
    fn has_alpha(&self) -> bool {
        const NAMES: [&[u8]; 2] =
            [b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"];
        let is_alpha = |item: u64| {
            let mut kinds = self.of(item).filter(|(kind, _)| *kind == b"auxC");
            kinds.any(|(_, content)| {
                NAMES.iter().any(|name| content.get(4..).is_some_and(|c| c.starts_with(name)))
            })
        };
        let mut of_primary =
            self.references.iter().filter(|(kind, _, to)| kind == b"auxl" && *to == self.primary);
        of_primary.any(|(_, from, _)| is_alpha(*from))
    }
}

fn references_in(content: &[u8]) -> Option<Vec<([u8; 4], u64, u64)>> {
    let (version, _, Numbers(children)) = Numbers::full(content)?;
    let wide = if version == 0 { 2 } else { 4 };
    let mut references = Vec::new();
    for (kind, content) in boxes(children) {
        let mut numbers = Numbers(content);
        let from = numbers.take(wide)?;
        for _ in 0..numbers.take(2)? {
            references.push((kind, from, numbers.take(wide)?));
            if references.len() > MOST_PARTS {
                return None;
            }
        }
    }
    Some(references)
}
