//! Where a record lies: a block of the index and an item of that block, as PostgreSQL counts them.
//! Heap rows are named in the same way.

/// The place of a record in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The block number.
    pub block: u32,
    /// The item number in the block, from 1.
    pub item: u16,
}

/// The place of a row in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid {
    /// The block number.
    pub block: u32,
    /// The item number in the block, from 1.
    pub item: u16,
}

/// The bytes of an [`Id`] or a [`Tid`] in a record.
pub const ID_BYTES: usize = 6;

/// A block number that no block has: no id.
const NO_BLOCK: u32 = u32::MAX;

/// The bytes of no id.
const NONE: [u8; ID_BYTES] = [0xff, 0xff, 0xff, 0xff, 0, 0];

fn decode(bytes: &[u8]) -> Option<(u32, u16)> {
    let bytes: &[u8; ID_BYTES] = bytes.try_into().ok()?;
    let [a, b, c, d, e, f] = *bytes;
    let block = u32::from_le_bytes([a, b, c, d]);
    (block != NO_BLOCK).then_some((block, u16::from_le_bytes([e, f])))
}

fn encode(block: u32, item: u16) -> [u8; ID_BYTES] {
    let ([a, b, c, d], [e, f]) = (block.to_le_bytes(), item.to_le_bytes());
    [a, b, c, d, e, f]
}

impl Id {
    /// Reads [`ID_BYTES`] bytes.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes).map(|(block, item)| Self { block, item })
    }

    /// The bytes of an id, or of none.
    pub fn encode(id: Option<Self>) -> [u8; ID_BYTES] {
        id.map_or(NONE, |id| encode(id.block, id.item))
    }
}

impl Tid {
    /// Reads [`ID_BYTES`] bytes.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes).map(|(block, item)| Self { block, item })
    }

    /// The bytes of a row's place, or of none.
    pub fn encode(tid: Option<Self>) -> [u8; ID_BYTES] {
        tid.map_or(NONE, |tid| encode(tid.block, tid.item))
    }
}
