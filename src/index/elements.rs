//! Every element of an index, a page at a time. Its own file because vacuum and those who measure an
//! index go through it in the same way.

use pgclip_hnsw::format::record::Kind;
use pgclip_hnsw::{Element, Id, Space};

use super::locked::Lock;
use super::page;
use super::store::IndexStore;

/// Calls `look` with each element of a page, which is locked meanwhile.
pub fn each_element(
    store: &IndexStore,
    space: &Space,
    block: u32,
    mut look: impl FnMut(Id, &Element<'_>),
) {
    let Some(locked) = store.records(block, Lock::Share) else { return };
    let mut damage = None;
    for item in 1..=page::items(locked.page()) {
        match page::item(locked.page(), item) {
            Ok(Some(range)) => {
                let bytes = &locked.page()[range];
                if Kind::of(bytes) != Ok(Kind::Element) {
                    continue;
                }
                match Element::new(space.layout(), bytes) {
                    Ok(element) => look(Id { block, item }, &element),
                    Err(corrupt) => damage = Some(corrupt.0),
                }
            }
            Ok(None) => (),
            Err(what) => damage = Some(what),
        }
    }
    drop(locked);
    if let Some(what) = damage {
        super::error::corrupt(store.index(), block, what);
    }
}
