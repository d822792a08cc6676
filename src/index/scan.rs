//! Index scans: rows in the order of their distance to the ORDER BY operator's other side, as many
//! as the executor asks for.
//!
//! The state hangs on the memory context of the scan, since an error skips its end. A rescan reads
//! the new keys and starts the walk anew in the memory of the last one.

use std::rc::Rc;

use pgclip_hnsw::{Cut, Order, Query, Scan, ScanOptions, Space};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{FromDatum, PgLogLevel, PgMemoryContexts, pg_guard, pg_sys};

use super::columns::Columns;
use super::error::{beyond_the_table, dimensions, name, or_raise};
use super::filter::Conditions;
use super::meta::Meta;
use super::open;
use super::store::{IndexStore, Writing};
use crate::embedding::Embedding;
use crate::error::Failure;
use crate::settings::{self, IterativeScan};

/// Where a scan stands.
enum Phase {
    /// The keys have changed; nothing was looked at yet.
    Fresh,
    /// Rows come out.
    Walking(Rc<Space>, Box<Query>),
    Finished,
}

/// The state of a scan.
struct State {
    store: IndexStore,
    columns: Columns,
    conditions: Conditions,
    scan: Scan,
    phase: Phase,
    /// Blocks of the table when last asked for.
    table_blocks: u32,
}

/// The scan's state.
///
/// # Safety
/// The scan must be one of ours, and no other reference to its state live.
unsafe fn state<'a>(scan: pg_sys::IndexScanDesc) -> &'a mut State {
    // SAFETY: the caller's promise.
    unsafe { &mut *(*scan).opaque.cast::<State>() }
}

/// Begins a scan.
#[pg_guard]
pub unsafe extern "C-unwind" fn begin(
    index: pg_sys::Relation,
    keys: i32,
    orderings: i32,
) -> pg_sys::IndexScanDesc {
    let columns = Columns::of(index).unwrap_or_else(|failure| failure.raise());
    let state = State {
        store: IndexStore::new(index, Writing::Logged),
        columns,
        conditions: Conditions::default(),
        scan: Scan::new(),
        phase: Phase::Fresh,
        table_blocks: 0,
    };
    // SAFETY: the index is open; the state is dropped with the context that the scan lives in.
    unsafe {
        let scan = pg_sys::RelationGetIndexScan(index, keys, orderings);
        (*scan).opaque =
            PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(state).cast();
        scan
    }
}

/// Takes new keys.
#[pg_guard]
pub unsafe extern "C-unwind" fn rescan(
    scan: pg_sys::IndexScanDesc,
    keys: pg_sys::ScanKey,
    count: i32,
    orderings: pg_sys::ScanKey,
    ordering_count: i32,
) {
    // SAFETY: the arrays are the executor's, of these lengths, and the scan has room for them.
    unsafe {
        let to = &mut *scan;
        if !keys.is_null() && count > 0 {
            std::ptr::copy(keys, to.keyData, count as usize);
        }
        if !orderings.is_null() && ordering_count > 0 {
            std::ptr::copy(orderings, to.orderByData, ordering_count as usize);
        }
        let state = state(scan);
        state.phase = Phase::Fresh;
        let keys = match to.numberOfKeys {
            count if count > 0 => std::slice::from_raw_parts(to.keyData, count as usize),
            _ => &[],
        };
        let null = pg_sys::SK_SEARCHNULL as i32;
        if keys.iter().any(|key| key.sk_attno == 1 && key.sk_flags & null != 0) {
            unsupported(state.store.index(), "rows without an embedding are not in it");
        }
        state.conditions = Conditions::compile(keys, &state.columns.filters)
            .unwrap_or_else(|failure| failure.raise());
    }
}

fn unsupported(index: pg_sys::Relation, why: &str) -> ! {
    Failure::new(
        Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("index \"{}\" cannot answer this query: {why}", name(index)),
    )
    .hint("Set enable_seqscan or enable_sort back on: the planner would not choose this index by itself.")
    .raise()
}

/// The options of a scan, as the settings say and, for a recall that is aimed at, the index.
pub fn options(index: pg_sys::Relation, meta: &Meta) -> ScanOptions {
    let order = match settings::ITERATIVE_SCAN.get() {
        IterativeScan::Strict => Order::Strict,
        IterativeScan::Relaxed => Order::Relaxed,
        IterativeScan::Off => Order::Off,
    };
    ScanOptions {
        slack: slack(index, meta),
        ef: settings::EF_SEARCH.get().max(1) as usize,
        order,
        max_records: settings::MAX_SCAN_TUPLES.get().max(1) as u64,
        max_memory: settings::SCAN_MEMORY.get().max(64) as usize * 1024,
    }
}

/// The slack of a scan: what is set, or what the recall takes that is aimed at. Of an index that was
/// filled by inserts nothing is known of that until its first VACUUM: one slack serves all then, which is
/// said where somebody has asked for another recall than the default.
fn slack(index: pg_sys::Relation, meta: &Meta) -> f32 {
    let own = settings::SEARCH_SLACK.get() as f32;
    if own > 0.0 {
        return own;
    }
    let target = settings::TARGET_RECALL.get();
    if meta.calibration.is_known() {
        return meta.calibration.slack(target);
    }
    let slack = ScanOptions::default().slack;
    if target != settings::DEFAULT_RECALL && once_a_statement() {
        let message = format!(
            "pgclip.target_recall is not heeded: what slack a recall takes in index \"{}\" was not measured",
            name(index)
        );
        Failure::new(Code::ERRCODE_WARNING, message)
            .hint(format!("VACUUM measures it. A slack of {slack} was taken."))
            .say(PgLogLevel::WARNING);
    }
    slack
}

impl State {
    /// Reads the query and begins the walk.
    ///
    /// # Safety
    /// The scan must be the state's own.
    unsafe fn start(&mut self, scan: pg_sys::IndexScanDesc) {
        let index = self.store.index();
        self.phase = Phase::Finished;
        // SAFETY: the scan's arrays have the lengths that stand beside them.
        let (key, snapshot) = unsafe {
            let scan = &*scan;
            if scan.numberOfOrderBys != 1 {
                unsupported(index, "it can order by one distance, and does nothing else");
            }
            (*scan.orderByData, scan.xs_snapshot)
        };
        // SAFETY: the executor's snapshot.
        let mvcc = unsafe {
            snapshot.as_ref().is_some_and(|snapshot| {
                snapshot.snapshot_type == pg_sys::SnapshotType::SNAPSHOT_MVCC
            })
        };
        if !mvcc {
            unsupported(index, "it holds no rows in place while they are looked at");
        }
        // SAFETY: counts in the backend's own statistics.
        unsafe { count_scan(scan) };
        let null = key.sk_flags & pg_sys::SK_ISNULL as i32 != 0;
        // SAFETY: the operator takes an embedding.
        let Some(vector) = (unsafe { Embedding::from_datum(key.sk_argument, null) }) else {
            return;
        };
        if self.conditions.never() {
            return;
        }
        let meta = self.store.meta();
        let Some(space) = open::space(&self.store, &meta) else { return };
        let dims = space.layout().dims;
        if vector.as_slice().len() != dims {
            dimensions(index, dims, vector.as_slice().len()).raise();
        }
        if space.layout().columns != self.columns.filters.len() {
            super::error::corrupt(
                index,
                super::meta::META_BLOCK,
                "other columns than the catalog's",
            );
        }
        let query = Box::new(space.query(vector.as_slice()));
        let mean = open::mean_distance(&self.store, &meta, &space, &query);
        self.scan.start(options(index, &meta), mean);
        self.phase = Phase::Walking(space, query);
    }
}

/// The next row.
#[pg_guard]
pub unsafe extern "C-unwind" fn next(
    scan: pg_sys::IndexScanDesc,
    direction: pg_sys::ScanDirection::Type,
) -> bool {
    // SAFETY: the scan is ours, and nobody else uses its state.
    unsafe {
        let state = state(scan);
        if direction != pg_sys::ScanDirection::ForwardScanDirection {
            unsupported(state.store.index(), "it cannot be read backward");
        }
        if matches!(state.phase, Phase::Fresh) {
            state.start(scan);
        }
        let Phase::Walking(space, query) = &state.phase else { return false };
        let conditions = &state.conditions;
        let index = state.store.index();
        let pass = |values: pgclip_hnsw::Values<'_>| conditions.pass(values);
        let found = or_raise(index, state.scan.next(&state.store, space, query, pass));
        let Some(row) = found else {
            if let Some(cut) = state.scan.cut_short() {
                warn(index, cut, state.scan.stats().rows);
            }
            state.phase = Phase::Finished;
            return false;
        };
        let to = &mut *scan;
        if row.tid.block >= state.table_blocks {
            state.table_blocks = blocks(to.heapRelation);
            if row.tid.block >= state.table_blocks {
                beyond_the_table(index, row.tid.block);
            }
        }
        pgrx::itemptr::item_pointer_set_all(&mut to.xs_heaptid, row.tid.block, row.tid.item);
        to.xs_recheck = conditions.lossy();
        to.xs_recheckorderby = false;
        true
    }
}

/// The blocks of a table.
unsafe fn blocks(table: pg_sys::Relation) -> u32 {
    // SAFETY: the executor has it open while it scans an index of it.
    unsafe { pg_sys::RelationGetNumberOfBlocksInFork(table, pg_sys::ForkNumber::MAIN_FORKNUM) }
}

/// Ends a scan. Its memory goes with the context.
#[pg_guard]
pub unsafe extern "C-unwind" fn end(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the scan is ours.
    unsafe { state(scan).phase = Phase::Finished }
}

/// Is this the first warning of the statement?
fn once_a_statement() -> bool {
    use std::cell::Cell;
    thread_local! {
        static WARNED: Cell<i64> = const { Cell::new(i64::MIN) };
    }
    // SAFETY: a number that the backend keeps.
    let statement = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    WARNED.replace(statement) != statement
}

/// Says, once a statement, that there may be more rows than were returned.
fn warn(index: pg_sys::Relation, cut: Cut, rows: u64) {
    if !once_a_statement() {
        return;
    }
    let (why, hint) = match cut {
        Cut::Records => (
            format!("after pgclip.max_scan_tuples ({})", settings::MAX_SCAN_TUPLES.get()),
            "Raise pgclip.max_scan_tuples, make the condition's column a filter column of the index, or index it by a B-tree.",
        ),
        Cut::Memory => {
            ("for want of memory (pgclip.scan_memory)".to_owned(), "Raise pgclip.scan_memory.")
        }
        Cut::Late => (
            "and left rows out that it found too late to return them in order".to_owned(),
            "Raise pgclip.search_slack, or set pgclip.iterative_scan to relaxed and sort.",
        ),
        Cut::Changed => (
            "after a vacuum had removed elements on its way".to_owned(),
            "Run the query again; a cursor that stays open over a vacuum may lose its way.",
        ),
        Cut::Off => (
            "because pgclip.iterative_scan is off".to_owned(),
            "Set pgclip.iterative_scan to strict or relaxed, or raise pgclip.ef_search.",
        ),
    };
    let message = format!(
        "the scan of index \"{}\" ended {why}, with {rows} rows: there may be more",
        name(index)
    );
    Failure::new(Code::ERRCODE_WARNING, message).hint(hint).say(PgLogLevel::WARNING);
}

/// Counts the scan in the statistics views.
///
/// # Safety
/// The scan must be live.
unsafe fn count_scan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the caller's promise; the index is open.
    unsafe {
        let index = (*scan).indexRelation;
        #[cfg(not(feature = "pg14"))]
        if (*index).pgstat_info.is_null() && (*index).pgstat_enabled {
            pg_sys::pgstat_assoc_relation(index);
        }
        if let Some(info) = (*index).pgstat_info.as_mut() {
            #[cfg(any(feature = "pg14", feature = "pg15"))]
            {
                info.t_counts.t_numscans += 1;
            }
            #[cfg(not(any(feature = "pg14", feature = "pg15")))]
            {
                info.counts.numscans += 1;
            }
        }
        #[cfg(feature = "pg18")]
        if let Some(instrument) = (*scan).instrument.as_mut() {
            instrument.nsearches += 1;
        }
    }
}
