//! A page of an index as bytes: its kind, and where its items lie. Everything that a page says about
//! itself is checked before it is believed, since a page of garbage must be an error and no crash: its
//! header too, which the server's own functions trust.
//!
//! ```text
//! page header (24 B) │ item pointers │ … free … │ items │ special (16 B):
//!  0  u32   magic, "pgcl"
//!  4  u16   kind: 1 meta, 2 a vector, 3 records
//!  6  u16   format version
//!  8  8 B   zeros
//! ```

use std::ops::Range;

use pgrx::pg_sys;

use super::meta::{FORMAT_VERSION, MAGIC};

/// The bytes of a page.
pub const PAGE: usize = pg_sys::BLCKSZ as usize;
/// The bytes of a page's header.
pub const HEADER: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
/// The bytes at its end.
pub const SPECIAL: usize = 16;

const _: () = assert!(PAGE == 8192, "records are laid out for pages of 8 kB");
const _: () = assert!(HEADER == 24 && size_of::<pg_sys::ItemIdData>() == 4);
const _: () = assert!(PAGE - HEADER - SPECIAL == pgclip_hnsw::format::layout::PAGE_ROOM);

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    Meta = 1,
    Vector = 2,
    Records = 3,
}

/// The special bytes of a page.
pub fn special(kind: Kind) -> [u8; SPECIAL] {
    let mut bytes = [0; SPECIAL];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..6].copy_from_slice(&(kind as u16).to_le_bytes());
    bytes[6..8].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes
}

/// A number of the page's header.
fn header(page: &[u8; PAGE], at: usize) -> usize {
    u16::from_ne_bytes([page[at], page[at + 1]]).into()
}

/// Where the item pointers end, and where the items begin.
const LOWER: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_lower);
const UPPER: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_upper);
const SPECIAL_AT: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_special);
const VERSION: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_pagesize_version);

/// Is this a page of ours, of this kind, and does its header say what can be? The server's functions
/// that add and take out items end the whole server where it does not, so nothing is done with a page
/// before this.
pub fn check(page: &[u8; PAGE], kind: Kind) -> Result<(), &'static str> {
    if header(page, SPECIAL_AT) != PAGE - SPECIAL {
        return Err("it is no page of an index");
    }
    let found = &page[PAGE - SPECIAL..];
    let wanted = special(kind);
    if found[..4] != wanted[..4] {
        return Err("it is no page of this kind of index");
    } else if found[6..8] != wanted[6..8] {
        return Err("it has another format version");
    } else if found[4..6] != wanted[4..6] {
        return Err("it holds something else");
    }
    let (lower, upper) = (header(page, LOWER), header(page, UPPER));
    let in_order = HEADER <= lower && lower <= upper && upper <= PAGE - SPECIAL;
    if !in_order || kind == Kind::Records && !(lower - HEADER).is_multiple_of(POINTER) {
        return Err("its header says what cannot be");
    }
    // The size is a multiple of 256, beside it the version of the server's pages.
    if header(page, VERSION) & !0xff != PAGE {
        return Err("its header says another size");
    }
    Ok(())
}

/// The bytes of an item pointer.
const POINTER: usize = size_of::<pg_sys::ItemIdData>();

/// Is it a page of zeros, as a crash between adding and filling it leaves behind?
pub fn is_new(page: &[u8; PAGE]) -> bool {
    page[UPPER..UPPER + 2] == [0, 0] && page.iter().all(|byte| *byte == 0)
}

/// The number of items.
pub fn items(page: &[u8; PAGE]) -> u16 {
    let lower = header(page, LOWER).min(PAGE - SPECIAL);
    (lower.saturating_sub(HEADER) / POINTER) as u16
}

fn pointer(page: &[u8; PAGE], item: u16) -> pg_sys::ItemIdData {
    let at = HEADER + POINTER * (usize::from(item) - 1);
    assert!(at + POINTER <= PAGE, "item {item} of a page");
    // SAFETY: the four bytes are within the page, and any bytes are an item pointer.
    unsafe { page.as_ptr().add(at).cast::<pg_sys::ItemIdData>().read_unaligned() }
}

/// Where an item lies; none where there is no such item, or none in use.
pub fn item(page: &[u8; PAGE], item: u16) -> Result<Option<Range<usize>>, &'static str> {
    if item == 0 || item > items(page) {
        return Ok(None);
    }
    let pointer = pointer(page, item);
    if pointer.lp_flags() != pg_sys::LP_NORMAL {
        return Ok(None);
    }
    let (start, length) = (pointer.lp_off() as usize, pointer.lp_len() as usize);
    let upper = header(page, UPPER).max(HEADER);
    if start < upper || start + length > PAGE - SPECIAL || !start.is_multiple_of(8) {
        return Err("an item lies outside it");
    }
    Ok(Some(start..start + length))
}

/// The first item that is not in use, and had been.
pub fn unused(page: &[u8; PAGE]) -> Option<u16> {
    (1..=items(page)).find(|item| {
        let pointer = pointer(page, *item);
        pointer.lp_flags() == pg_sys::LP_UNUSED && pointer.lp_len() == 0
    })
}

/// The bytes that one more record can have: an item pointer that is not in use is used again.
pub fn room_for_record(page: &[u8; PAGE]) -> usize {
    match unused(page) {
        Some(_) => room(page),
        None => room(page).saturating_sub(POINTER),
    }
}

/// Where an item lies on a page of items that all have so many bytes, and were added in order.
pub fn guess(item: u16, bytes: usize) -> Range<usize> {
    let end = (PAGE - SPECIAL).saturating_sub(bytes * usize::from(item).saturating_sub(1));
    end.saturating_sub(bytes)..end
}

/// The bytes between the item pointers and the items.
pub fn room(page: &[u8; PAGE]) -> usize {
    header(page, UPPER).saturating_sub(header(page, LOWER))
}
