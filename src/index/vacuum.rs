//! VACUUM: rows that the table no longer has are taken out (bulk delete), then the elements that
//! lost all theirs are taken out of the graph (clean-up).
//!
//! Bulk delete may be called several times; it only marks, and what is marked is still walked
//! through. Clean-up first waits for the inserts that had begun before ([`Interlock`]), then looks
//! at each page once: elements with a dead neighbour get others. Nothing points to the dead then,
//! and their places are free for new records. A vacuum that is cancelled leaves marks behind,
//! and the meta page says so, for the next one.

use std::collections::HashSet;

use pgclip_hnsw::{
    Entry, Forest, Id, Moments, Placement, Space, StoreMut, Tid, TooMany, free, mark_dead,
    move_entry, reconnect, remove_rows, repair,
};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{pg_guard, pg_sys};

use super::columns::Columns;
use super::elements::each_element;
use super::error::or_raise;
use super::locked::Lock;
use super::meta::FIRST_BLOCK;
use super::open;
use super::page;
use super::recall;
use super::store::{IndexStore, Interlock, Writing};
use crate::error::Failure;

/// Lets a vacuum's cost delay and cancels have their turn. Nothing is locked.
fn delay_point() {
    // SAFETY: nothing is held.
    unsafe {
        #[cfg(feature = "pg18")]
        pg_sys::vacuum_delay_point(false);
        #[cfg(not(feature = "pg18"))]
        pg_sys::vacuum_delay_point();
    }
}

/// The store of a vacuum.
unsafe fn store(info: *mut pg_sys::IndexVacuumInfo) -> IndexStore {
    // SAFETY: the server's own description of the vacuum.
    unsafe { IndexStore::new((*info).index, Writing::Logged).with_strategy((*info).strategy) }
}

/// Takes rows out that the callback names.
#[pg_guard]
pub unsafe extern "C-unwind" fn bulk_delete(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    callback: pg_sys::IndexBulkDeleteCallback,
    state: *mut std::ffi::c_void,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: the arguments are the server's; the callback takes any item pointer.
    let (store, stats, mut is_gone) = unsafe {
        let stats = or_new(stats);
        let is_gone = move |tid: Tid| {
            let mut pointer = pg_sys::ItemPointerData::default();
            pgrx::itemptr::item_pointer_set_all(&mut pointer, tid.block, tid.item);
            let callback = callback.expect("a bulk delete has a callback");
            pg_sys::ffi::pg_guard_ffi_boundary(|| callback(&mut pointer, state))
        };
        (store(info), &mut *stats, is_gone)
    };
    let meta = store.meta();
    let Some(space) = open::space(&store, &meta) else { return stats };
    let (mut rows, mut removed, mut pending) = (0, 0, meta.pending);
    let mut block = FIRST_BLOCK;
    let mut found: Vec<(Id, Option<Tid>, bool)> = Vec::new();
    while block < store.blocks() {
        delay_point();
        found.clear();
        each_element(&store, &space, block, |id, element| {
            if !element.is_dead() {
                found.push((id, element.tid(), element.overflow().is_some()));
            }
        });
        for (id, first, more) in found.drain(..) {
            let first_gone = first.is_some_and(&mut is_gone);
            // One without any row lost its last to a vacuum that died before it marked it.
            if first.is_some() && !first_gone && !more {
                rows += 1;
                continue;
            }
            let gone = |tid| if Some(tid) == first { first_gone } else { is_gone(tid) };
            let left = or_raise(store.index(), remove_rows(&store, &space, id, gone));
            if left.left == 0 && !left.dead {
                if !pending {
                    // Before the first mark: a crash after it must not hide it.
                    pending = true;
                    store.change_meta(|meta| {
                        meta.pending = true;
                        Some(())
                    });
                }
                or_raise(store.index(), mark_dead(&store, &space, id));
            }
            rows += left.left;
            removed += left.removed;
        }
        block += 1;
    }
    stats.num_index_tuples = rows as f64;
    stats.tuples_removed += removed as f64;
    stats
}

/// The statistics of a vacuum, made where there are none yet.
unsafe fn or_new(stats: *mut pg_sys::IndexBulkDeleteResult) -> *mut pg_sys::IndexBulkDeleteResult {
    if !stats.is_null() {
        return stats;
    }
    // SAFETY: memory of this size, of zeros, or an error.
    unsafe { pg_sys::palloc0(size_of::<pg_sys::IndexBulkDeleteResult>()).cast() }
}

/// Takes the dead out of the graph.
#[pg_guard]
pub unsafe extern "C-unwind" fn clean_up(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: the server's own description of the vacuum.
    let (store, analyze, index) = unsafe { (store(info), (*info).analyze_only, (*info).index) };
    if analyze {
        return stats;
    }
    let meta = store.meta();
    if !meta.pending {
        if recall::is_due(&store, &meta) {
            recall::calibrate(&store, delay_point);
        }
        // SAFETY: the statistics are none or the server's own, the relation is open.
        unsafe {
            if let Some(stats) = stats.as_mut() {
                // Rows may have left tuples empty, whose places are found by the map's upper levels.
                pg_sys::IndexFreeSpaceMapVacuum(index);
                stats.num_pages = store.blocks();
            }
        }
        return stats;
    }
    if let Some(space) = open::space(&store, &meta) {
        Interlock::wait(index);
        let dead = collect_dead(&store, &space);
        if !dead.is_empty() {
            sweep(&store, &space, &dead);
            // Before the first of them goes: scans that meet what comes in their places look again.
            store.change_meta(|meta| {
                meta.freed = meta.freed.wrapping_add(1) & (u32::MAX >> 1);
                meta.gone = meta.gone.saturating_add(dead.len() as u32);
                Some(())
            });
            for id in &dead {
                or_raise(index, free(&store, &space, *id));
                delay_point();
            }
        }
    }
    store.change_meta(|meta| {
        meta.pending = false;
        Some(())
    });
    forget_dimensions(&store);
    if recall::is_due(&store, &store.meta()) {
        recall::calibrate(&store, delay_point);
    }
    // SAFETY: the relation is open; the statistics are the server's or new.
    unsafe {
        pg_sys::IndexFreeSpaceMapVacuum(index);
        let fresh = stats.is_null();
        let stats = or_new(stats);
        (*stats).num_pages = store.blocks();
        (*stats).estimated_count |= fresh;
        if fresh {
            (*stats).num_index_tuples = (*info).num_heap_tuples;
        }
        stats
    }
}

/// Forgets the dimensions of an index that has no element left, where its column declares none: the
/// next row may have others. They may have come from a row whose transaction was rolled back.
fn forget_dimensions(store: &IndexStore) {
    let index = store.index();
    let declared = Columns::of(index).unwrap_or_else(|failure| failure.raise()).dims;
    let is_empty = || {
        let meta = store.meta();
        meta.entry.is_none() && meta.dims.is_some()
    };
    if declared.is_some() || !is_empty() {
        return;
    }
    Interlock::alone(index, || {
        if !is_empty() {
            return;
        }
        // What inserts that were cut off have left.
        for block in FIRST_BLOCK..store.blocks() {
            delay_point();
            let Some(locked) = store.records(block, Lock::Share) else { continue };
            let items = page::items(locked.page());
            drop(locked);
            for item in (1..=items).rev() {
                let Ok(()) = store.free(Id { block, item });
            }
        }
        store.change_meta(|meta| {
            (meta.dims, meta.counted, meta.norm2) = (None, 0, 0.0);
            Some(())
        });
    });
}

/// The dead elements.
fn collect_dead(store: &IndexStore, space: &Space) -> HashSet<Id> {
    let mut dead = HashSet::new();
    let mut leftover = Vec::new();
    let mut block = FIRST_BLOCK;
    while block < store.blocks() {
        delay_point();
        let mut full = false;
        each_element(store, space, block, |id, element| {
            if element.is_free() {
                leftover.push(id);
            } else if element.is_dead() {
                full |= dead.try_reserve(1).is_err();
                if !full {
                    dead.insert(id);
                }
            }
        });
        if full {
            no_memory(store, dead.len());
        }
        // A crash came between marking and freeing: what belonged to it may be somebody else's now.
        for id in leftover.drain(..) {
            let Ok(()) = store.free(id);
        }
        block += 1;
    }
    dead
}

/// What a vacuum has to remember of each element does not fit into memory.
fn no_memory(store: &IndexStore, elements: usize) -> ! {
    Failure::new(
        Code::ERRCODE_OUT_OF_MEMORY,
        format!(
            "cannot vacuum index \"{}\": no memory for {elements} elements",
            super::error::name(store.index())
        ),
    )
    .hint("REINDEX needs no more than maintenance_work_mem.")
    .raise()
}

/// Looks at each element once: those with a dead neighbour get others. Then moves the entry point, and
/// gives those whose parent is dead another. Takes the mean anew on the way.
fn sweep(store: &IndexStore, space: &Space, dead: &HashSet<Id>) {
    /// Vectors for the mean.
    const SAMPLE: u64 = 20_000;
    let per_page = pgclip_hnsw::format::layout::PAGE_ROOM / space.layout().element_bytes();
    let about = u64::from(store.blocks()) * per_page.max(1) as u64;
    let stride = about.div_ceil(SAMPLE).max(1);
    let split = space.layout().placement == Placement::Split;
    let mut moments = Moments::default();
    let mut vector = Vec::new();
    let mut highest: Option<Entry> = None;
    let mut seen = 0;
    let mut due: Vec<Id> = Vec::new();
    let mut forest = Forest::new();
    let mut full = false;
    let mut block = FIRST_BLOCK;
    while block < store.blocks() {
        delay_point();
        due.clear();
        each_element(store, space, block, |id, element| {
            if element.is_dead() {
                return;
            }
            let level = element.level();
            if highest.is_none_or(|highest| level > highest.level) {
                highest = Some(Entry { id, level });
            }
            // Edges in a tuple of their own and upper layers are looked at by the repair.
            let apart = split || level > 0;
            let bad =
                || element.edges().is_some_and(|edges| edges.ids().any(|id| dead.contains(&id)));
            if apart || bad() {
                due.push(id);
            } else if let Some(edges) = element.edges() {
                full |= forest.push(id, edges.parent()).is_err();
            }
            seen += 1;
            if seen % stride == 0 {
                moments.add(space, pgclip_simd::halves(element.vector(), &mut vector));
            }
        });
        for id in &due {
            or_raise(store.index(), repair(store, space, *id, dead));
            full |=
                matches!(or_raise(store.index(), forest.add(store, space, *id)), Err(TooMany(_)));
        }
        if full {
            no_memory(store, seen as usize);
        }
        block += 1;
    }
    or_raise(store.index(), move_entry(store, dead, highest));
    or_raise(store.index(), reconnect(store, space, &mut forest));
    open::set_moments(store, &moments);
}
