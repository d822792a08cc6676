//! Where a scan goes on when the nearest candidates do not lead to the rows it looks for: to those
//! that pass its filter, wherever they lie; out of a crowd of near-duplicates; and once more from the
//! beginning, where a vacuum has freed elements on its way.

use std::cmp::Reverse;

use super::Scan;
use crate::error::{Corrupt, Error};
use crate::format::id::Id;
use crate::format::record::{Element, Kind, Values};
use crate::search::second_way::Way;
use crate::space::{Query, Space};
use crate::store::Store;
use crate::tuning;

impl Scan {
    /// What is to be expanded next; none where all that is left lies beyond the bound, or where it
    /// does on the second way and the first is not worth it.
    pub(super) fn pop(&mut self, bound: f32) -> Option<(Way, Id)> {
        if self.track.turn() == Way::Second {
            if let Some(id) = self.track.pop(bound) {
                return Some((Way::Second, id));
            }
            if bound < f32::INFINITY && self.track.is_vain() {
                return None;
            }
        }
        while let Some(candidate) = self.walk.pool.pop(bound) {
            if self.track.expand(candidate.id) {
                return Some((Way::First, candidate.id));
            }
        }
        None
    }

    /// Begins the second way with rows that pass from all over the index.
    pub(super) fn sample<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
        pass: &mut impl FnMut(Values<'_>) -> bool,
    ) -> Result<(), Error<S::Error>> {
        const BLOCKS: u64 = 256;
        /// The golden section: blocks are spread evenly however many are looked at.
        const STEP: f64 = 0.618_034;
        self.track.begin();
        self.walk.wants_last = true;
        let extent = store.extent().map_err(Error::Store)?;
        let blocks = u64::from(extent.end.saturating_sub(extent.start));
        let step = (blocks as f64 * STEP) as u64 | 1;
        let mut elements = 0;
        for number in 0..BLOCKS.min(blocks) {
            let block = extent.start + (number * step % blocks) as u32;
            for item in 1..=space.layout().elements_a_page() as u16 {
                if self.left() == 0 {
                    return Ok(());
                }
                self.looked += 1;
                self.stats.sampled += 1;
                let id = Id { block, item };
                let look = |bytes: &[u8]| {
                    if Kind::Element.is_replaced(bytes) {
                        return Ok(false);
                    }
                    let element = Element::new(space.layout(), bytes)?;
                    Ok(!element.is_free() && element.tid().is_some() && pass(element.values()))
                };
                let passes = store.read(id, look).map_err(Error::Store)?.unwrap_or(Ok(false));
                let passes = passes.map_err(|corrupt: Corrupt| corrupt.at(id))?;
                if passes && self.track.expand(id) {
                    self.expand(store, space, query, id, pass)?;
                    elements += 1;
                }
            }
            store.interrupt().map_err(Error::Store)?;
            if elements >= tuning::filter_sample() {
                break;
            }
        }
        Ok(())
    }

    /// Begins the walk again where elements were freed since it began: those that it still had to
    /// expand may be gone, or others in their places, and the ways that led over them with them. False
    /// where it knows all that there is. Rows that were taken are not taken again.
    pub(super) fn look_again<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
    ) -> Result<bool, Error<S::Error>> {
        const TIMES: usize = 8;
        if store.freed().map_err(Error::Store)? == self.freed {
            return Ok(false);
        }
        if self.restarts == TIMES {
            self.lost = true;
            return Ok(false);
        }
        self.restarts += 1;
        self.known.extend(self.returned.iter().copied());
        self.known.extend(self.held.iter().map(|Reverse(row)| row.tid));
        self.looked += self.walk.expanded;
        self.enter(store, space, query)
    }

    /// Adds what lies nearest on layer 1 to what is to be expanded.
    pub(super) fn look_around<S: Store>(
        &mut self,
        store: &S,
        space: &Space,
        query: &Query,
    ) -> Result<(), Error<S::Error>> {
        self.wide = true;
        let most = self.left();
        let (found, looked) = self.descent.survey(store, space, query, most)?;
        self.looked += looked;
        found.into_iter().for_each(|(id, estimate)| self.walk.add(id, estimate));
        Ok(())
    }
}
