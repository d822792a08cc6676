//! Which neighbours an element keeps: the heuristic of the HNSW paper (arXiv 1603.09320, algorithm
//! 4), which prefers neighbours that are nearer to the element than to each other, and fills the
//! places left with the nearest of the others. Its own file because building, inserting and
//! repairing choose alike.
//!
//! On the base layer a new element chooses three quarters of the places it has, and links back to it
//! fill the rest. A full list gives one place up at a time ([`replace`]): choosing anew among all its
//! neighbours each time took two to three times as long to build with, for recall that a little more
//! slack gives as well. What goes out of a list is, where possible, a neighbour of what comes in; that
//! nothing gets lost over it is not for these rules to see to, but for the edges that are kept
//! ([`tree`](crate::change::tree)).

use crate::format::layout::{Layout, MAX_LEVEL};
use crate::space::Space;

/// Chooses at most `most` of `candidates`, which are sorted by their distance to the element, the
/// second field; `between` measures two candidates. The chosen come first, in order: diverse ones,
/// then the fill.
pub fn select<T: Copy>(
    candidates: &[(T, f32)],
    most: usize,
    mut between: impl FnMut(T, T) -> f32,
    chosen: &mut Vec<(T, f32)>,
) {
    chosen.clear();
    let mut others = Vec::new();
    for (candidate, distance) in candidates {
        if chosen.len() == most {
            return;
        }
        if chosen.iter().all(|(kept, _)| between(*candidate, *kept) > *distance) {
            chosen.push((*candidate, *distance));
        } else {
            others.push((*candidate, *distance));
        }
    }
    let room = most - chosen.len();
    chosen.extend(others.into_iter().take(room));
}

/// Whose place a new neighbour at `distance` takes in a full list, if anyone's: that of the farthest
/// of those that it has an edge to itself (`linked`) and that are nearer to it than to the element;
/// else of those that it has an edge to; else of those nearer to it; else of all. A neighbour that
/// the new one has an edge to can still be reached.
///
/// It takes only places of neighbours farther than itself, and none where a nearer neighbour is
/// nearer to it than the element is; unless it `must` have one. The first `kept` stay in any case.
///
/// `to_element` has the neighbours' distances to the list's element, slot by slot; `to_new` tells
/// theirs to the new one.
pub fn replace(
    distance: f32,
    to_element: &[f32],
    kept: usize,
    mut to_new: impl FnMut(usize) -> f32,
    linked: impl Fn(usize) -> bool,
    must: bool,
) -> Option<usize> {
    let slots = || to_element.iter().copied().enumerate();
    if !must {
        for (slot, _) in slots().filter(|(_, element)| *element <= distance) {
            if to_new(slot) <= distance {
                return None;
            }
        }
    }
    let may_go = |element: f32| must || element > distance;
    let mut best: Option<(u8, f32, usize)> = None;
    for (slot, element) in slots().skip(kept).filter(|(_, element)| may_go(*element)) {
        let rank = 2 * u8::from(linked(slot));
        if best.is_some_and(|(other, far, _)| (rank + 1, element) < (other, far)) {
            continue;
        }
        let rank = rank + u8::from(to_new(slot) < element);
        if best.is_none_or(|(other, far, _)| rank > other || rank == other && element > far) {
            best = Some((rank, element, slot));
        }
    }
    best.map(|(_, _, slot)| slot)
}

/// The level of the element with this number: floor(-ln(u) / ln(m)) with u uniform, from a
/// generator that the seed and the number alone decide.
pub fn level(space: &Space, seed: u64, number: u64) -> u8 {
    level_of(space.layout(), seed, number)
}

pub(crate) fn level_of(layout: &Layout, seed: u64, number: u64) -> u8 {
    let mut z =
        seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let uniform = ((z >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let level = (-uniform.ln() / (layout.m as f64).ln()).floor();
    (level as u8).min(MAX_LEVEL)
}
