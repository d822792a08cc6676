//! INSERT, COPY and UPDATE: one row into the graph that is there.

use pgclip_hnsw::{InsertOptions, LayoutError, NewRow, Space, Tid, Values, insert, level};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{FromDatum, pg_guard, pg_sys};

use super::build::{encode_values, tid_of};
use super::columns::Columns;
use super::error::{dimensions, name, or_raise};
use super::meta::Meta;
use super::open;
use super::options::Options;
use super::store::{IndexStore, Interlock, Writing};
use crate::embedding::Embedding;
use crate::error::Failure;

/// Dimensions, options and columns that do not fit a page.
pub fn layout_error(index: pg_sys::Relation, error: &LayoutError) -> Failure {
    let hint = match error {
        LayoutError::TooWide { .. } => {
            "Take a smaller m, fewer filter columns, or index an expression such as subvector(embedding, 1, 1024)."
        }
        LayoutError::Columns { .. } => "Leave some filter columns out.",
        _ => "See the reference for what can be indexed.",
    };
    Failure::new(
        Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("index \"{}\" cannot be built: {error}", name(index)),
    )
    .hint(hint)
}

/// The level of a row that is inserted: decided by its place.
pub fn level_of(space: &Space, seed: u64, tid: Tid) -> u8 {
    level(space, seed, u64::from(tid.block) << 16 | u64::from(tid.item))
}

/// What an INSERT keeps from one row to the next.
struct State {
    columns: Columns,
    options: Options,
}

/// The state of the statement, made at its first row.
unsafe fn state<'a>(index: pg_sys::Relation, info: *mut pg_sys::IndexInfo) -> &'a State {
    // SAFETY: the cache is ours alone, and lives as long as the context of `info`.
    unsafe {
        if (*info).ii_AmCache.is_null() {
            let columns = Columns::of(index).unwrap_or_else(|failure| failure.raise());
            let state = State { columns, options: Options::of(index) };
            let mut context = pgrx::PgMemoryContexts::For((*info).ii_Context);
            (*info).ii_AmCache = context.leak_and_drop_on_delete(state).cast();
        }
        &*(*info).ii_AmCache.cast::<State>()
    }
}

/// Inserts one row.
#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "the server's interface")]
pub unsafe extern "C-unwind" fn insert_row(
    index: pg_sys::Relation,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    tid: pg_sys::ItemPointer,
    _heap: pg_sys::Relation,
    _unique: pg_sys::IndexUniqueCheck::Type,
    _unchanged: bool,
    info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: the arguments are the server's, with a value for each column of the index.
    unsafe {
        let Some(vector) = Embedding::from_datum(*values, *nulls) else { return false };
        let State { columns, options } = state(index, info);
        let count = columns.filters.len();
        let filter_values = std::slice::from_raw_parts(values.add(1), count);
        let filter_nulls = std::slice::from_raw_parts(nulls.add(1), count);
        let mut bytes = Vec::with_capacity(8 * count);
        let bitmap = encode_values(&columns.filters, filter_values, filter_nulls, &mut bytes);
        let store = IndexStore::new(index, Writing::Logged);
        let (vector, tid) = (vector.as_slice(), tid_of(tid));
        let row = NewRow { vector, tid, values: Values::new(bitmap, &bytes) };
        // A vacuum that finds nothing left forgets the dimensions: what is read is good until the end.
        Interlock::shared(index, || insert_into(&store, row, options.ef_construction));
        false
    }
}

/// Inserts a row, with the interlock held.
fn insert_into(store: &IndexStore, row: NewRow<'_>, ef_construction: usize) {
    let index = store.index();
    let meta = with_dims(store, row.vector.len());
    let Some(space) = open::space(store, &meta) else { return };
    let dims = space.layout().dims;
    if row.vector.len() != dims {
        dimensions(index, dims, row.vector.len()).raise();
    }
    let level = level_of(&space, meta.seed, row.tid);
    or_raise(index, insert(store, &space, row, InsertOptions { ef_construction, level }));
    count_in(store, &meta, &space, row.vector, row.tid);
}

/// The meta data, with the dimensions that the first vector gives to an index of none.
fn with_dims(store: &IndexStore, dims: usize) -> Meta {
    let meta = store.meta();
    if meta.dims.is_some() {
        return meta;
    }
    let wanted = Meta { dims: Some(dims), ..meta };
    if let Err(error) = wanted.layout() {
        layout_error(store.index(), &error).raise();
    }
    store.change_meta(|meta| meta.dims.is_none().then(|| meta.dims = Some(dims)));
    store.meta()
}

/// Counts the vector in the index's mean: each while there are few, then ever fewer, each for as many as
/// there are between two, so that the mean is that of all however many come.
fn count_in(store: &IndexStore, meta: &Meta, space: &Space, vector: &[half::f16], tid: Tid) {
    /// One in so many of those that were counted is looked at.
    const SHARE: u64 = 256;
    let every = (meta.counted / SHARE).max(1).next_power_of_two();
    let place = u64::from(tid.block) << 16 | u64::from(tid.item);
    let drawn = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    if drawn.is_multiple_of(every) && space.is_indexable(vector) {
        open::count_vector(store, meta, space, vector, every);
    }
}
