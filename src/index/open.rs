//! An index made ready: its meta data and its vector space. Its own file because a space takes
//! longer to make than a short scan, so a session keeps those that it has used.

use std::cell::RefCell;
use std::rc::Rc;

use half::f16;
use pgclip_hnsw::{Moments, Query, Space};

use super::error::corrupt;
use super::meta::{MEAN_BLOCK, META_BLOCK, Meta, TEXT_BLOCK};
use super::store::IndexStore;

/// A space is decided by these.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    layout: pgclip_hnsw::Layout,
    seed: u64,
    text: u64,
}

/// Spaces kept for the next statement.
const KEPT: usize = 8;

thread_local! {
    static SPACES: RefCell<Vec<(Key, Rc<Space>)>> = const { RefCell::new(Vec::new()) };
}

/// The digest of a texts' direction that a meta page has: FNV-1a of its bytes, which never changes;
/// never 0.
pub fn text_digest(text: &[f32]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = text.iter().flat_map(|x| x.to_bits().to_le_bytes());
    let digest = bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    digest.max(1)
}

/// Vectors of fp16 as they lie on a page.
pub fn to_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()
}

/// The numbers of such bytes.
pub fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    let mut aside = Vec::new();
    let mut numbers = vec![0.0; bytes.len() / 2];
    pgclip_simd::widen(pgclip_simd::halves(bytes, &mut aside), &mut numbers);
    numbers
}

/// The space of an index; none until its dimensions are known.
pub fn space(store: &IndexStore, meta: &Meta) -> Option<Rc<Space>> {
    let layout = match meta.layout() {
        Ok(layout) => layout?,
        Err(error) => corrupt(store.index(), META_BLOCK, &error.to_string()),
    };
    let key = Key { layout, seed: meta.seed, text: meta.text };
    let known = SPACES.with_borrow(|spaces| {
        spaces.iter().find(|(other, _)| *other == key).map(|(_, space)| Rc::clone(space))
    });
    if known.is_some() {
        return known;
    }
    let text = (meta.text != 0).then(|| from_bytes(&store.vector(TEXT_BLOCK, 2 * key.layout.dims)));
    let space = Rc::new(Space::new(key.layout.clone(), meta.seed, text.as_deref()));
    SPACES.with_borrow_mut(|spaces| {
        spaces.truncate(KEPT - 1);
        spaces.insert(0, (key, Rc::clone(&space)));
    });
    Some(space)
}

/// The mean inner distance of a query to everything in the index, where enough is known of it.
pub fn mean_distance(store: &IndexStore, meta: &Meta, space: &Space, query: &Query) -> Option<f32> {
    if meta.counted == 0 {
        return None;
    }
    moments(store, meta, space).mean_distance(space, query)
}

/// The moments of the index's vectors.
pub fn moments(store: &IndexStore, meta: &Meta, space: &Space) -> Moments {
    let centroid = from_bytes(&store.vector(MEAN_BLOCK, 2 * space.layout().dims));
    Moments { count: meta.counted, norm2: meta.norm2, centroid }
}

/// Writes the moments into the index.
pub fn set_moments(store: &IndexStore, moments: &Moments) {
    if moments.count == 0 {
        return;
    }
    let bytes = to_bytes(&moments.centroid);
    store.set_vector(MEAN_BLOCK, |page| page[..bytes.len()].copy_from_slice(&bytes));
    store.change_meta(|meta| {
        (meta.counted, meta.norm2) = (moments.count, moments.norm2);
        Some(())
    });
}

/// Counts a vector in the moments, as so many: the mean is changed under its page's lock and the
/// numbers under the meta page's, so none of those who do so at once is lost.
pub fn count_vector(store: &IndexStore, meta: &Meta, space: &Space, vector: &[f16], weight: u64) {
    let one = Moments::of(space, vector);
    let share = weight as f32 / (meta.counted + weight) as f32;
    store.set_vector(MEAN_BLOCK, |page| {
        let bytes = &mut page[..2 * one.centroid.len()];
        let mut mean = from_bytes(bytes);
        mean.iter_mut().zip(&one.centroid).for_each(|(mean, x)| *mean += (x - *mean) * share);
        bytes.copy_from_slice(&to_bytes(&mean));
    });
    store.change_meta(|meta| {
        let counted = meta.counted.saturating_add(weight);
        meta.norm2 += (one.norm2 - meta.norm2) * (weight as f64 / counted as f64) as f32;
        meta.counted = counted;
        Some(())
    });
}
