//! An element's tuple on an upper layer, by the byte map of [`layout`](crate::format::layout). Its own file
//! because it is a record apart, one for each layer that the element is in, chained from the
//! highest down.

use crate::error::Corrupt;
use crate::format::edges::{EdgeMap, Edges, EdgesMut};
use crate::format::id::{ID_BYTES, Id};
use crate::format::layout::{FORMAT_VERSION, Layout, UPPER_HEADER};
use crate::format::record::{Kind, put};

const LAYER: usize = 2;
const COUNT: usize = 3;
const SCALE: usize = 8;
const BELOW: usize = 12;
const _: () = assert!(SCALE + 4 == BELOW && BELOW + ID_BYTES <= UPPER_HEADER);

/// An element's tuple on an upper layer, as read.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a> {
    layout: &'a Layout,
    bytes: &'a [u8],
}

impl<'a> Upper<'a> {
    /// Checks a record and makes a view of it.
    pub fn new(layout: &'a Layout, bytes: &'a [u8]) -> Result<Self, Corrupt> {
        Kind::Upper.check(bytes, "not a tuple of an upper layer")?;
        if bytes.len() != layout.upper_bytes() {
            return Err(Corrupt("a tuple of an upper layer of another length"));
        }
        if usize::from(bytes[COUNT]) > layout.m {
            return Err(Corrupt("more edges than an element can have"));
        }
        Ok(Self { layout, bytes })
    }

    /// The layer, from 1 up.
    pub fn layer(&self) -> u8 {
        self.bytes[LAYER]
    }

    /// The element's tuple one layer lower.
    pub fn below(&self) -> Option<Id> {
        Id::decode(&self.bytes[BELOW..BELOW + ID_BYTES])
    }

    /// The edges.
    pub fn edges(&self) -> Edges<'a> {
        Edges::new(self.layout, map(self.layout), self.bytes)
    }
}

/// The edges of a tuple of an upper layer, for changing.
pub fn upper_mut<'a>(layout: &'a Layout, bytes: &'a mut [u8]) -> Result<EdgesMut<'a>, Corrupt> {
    Upper::new(layout, bytes)?;
    Ok(EdgesMut::new(layout, map(layout), bytes))
}

/// A tuple of an upper layer without edges.
pub fn new_upper(layout: &Layout, layer: u8, below: Option<Id>) -> Vec<u8> {
    let mut bytes = vec![0; layout.upper_bytes()];
    put(&mut bytes, 0, &[Kind::Upper as u8, FORMAT_VERSION, layer]);
    put(&mut bytes, SCALE, &1f32.to_le_bytes());
    put(&mut bytes, BELOW, &Id::encode(below));
    bytes
}

fn map(layout: &Layout) -> EdgeMap {
    EdgeMap { count: COUNT, kept: None, scale: SCALE, arrays: UPPER_HEADER, capacity: layout.m }
}
