//! CREATE INDEX: vectors are gathered, the graph is made by threads in memory, and its pages are
//! written in one go and logged at the end. Past `maintenance_work_mem` what is there becomes pages,
//! and the other rows are inserted into them, which is slower and says so.
//!
//! The threads never call the server: they start with all signals blocked, the backend's own thread
//! watches for interrupts and reports progress, and they are gone before an error, a cancel or the
//! backend's exit goes on.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, Once};

use half::f16;
use pgclip_hnsw::{
    BuildError, BuildOptions, Builder, Calibration, Control, Host, InsertOptions, NewRow, NoMemory,
    Pages, Pushed, Space, Stopped, Tid, Values, insert,
};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{FromDatum, PgLogLevel, PgRelation, pg_guard, pg_sys};

use super::columns::Columns;
use super::error::{dimensions, or_raise};
use super::filter::Column;
use super::meta::{FIRST_BLOCK, Meta, SEED};
use super::open::{from_bytes, set_moments, text_digest, to_bytes};
use super::options::Options;
use super::page::Kind;
use super::store::{IndexStore, Writing};
use super::{insert as inserting, page, recall};
use crate::catalog::extension::Extension;
use crate::embedding::Embedding;
use crate::error::Failure;
use crate::models;
use crate::models::binding::Binding;

/// The phases of `pg_stat_progress_create_index`, after the server's own first one.
const LOADING: i64 = 2;
const LINKING: i64 = 3;
const WRITING: i64 = 4;
const INSERTING: i64 = 5;
const MEASURING: i64 = 6;

/// The names of the phases.
#[pg_guard]
pub unsafe extern "C-unwind" fn phase_name(phase: i64) -> *mut std::ffi::c_char {
    let name = match phase {
        1 => c"initializing",
        LOADING => c"loading vectors",
        LINKING => c"building graph in memory",
        WRITING => c"writing pages",
        INSERTING => c"inserting into pages",
        MEASURING => c"measuring recall",
        _ => return std::ptr::null_mut(),
    };
    name.as_ptr().cast_mut()
}

fn progress(what: u32, value: i64) {
    // SAFETY: writes the backend's own progress entry.
    unsafe { pg_sys::pgstat_progress_update_param(what as i32, value) }
}

/// The backend, as the threads' host.
#[derive(Debug)]
struct Backend {
    /// Is the work counted in elements, so that progress can be told?
    counted: bool,
}

impl Host for Backend {
    fn spawn(&mut self, spawn: &mut dyn FnMut()) {
        // SAFETY: both sets are plain data; the calling thread gets its own mask back.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            spawn();
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        }
    }

    fn tick(&mut self, done: usize, total: usize) {
        if self.counted {
            progress(pg_sys::PROGRESS_CREATEIDX_TUPLES_TOTAL, total as i64);
            progress(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, done as i64);
        }
        pgrx::check_for_interrupts!();
    }
}

/// The threads at work, for an exit that does not unwind.
static RUNNING: Mutex<Option<Arc<Control>>> = Mutex::new(None);

/// Stops the threads before the backend goes.
unsafe extern "C-unwind" fn stop_threads(_code: i32, _argument: pg_sys::Datum) {
    let running = RUNNING.lock().map(|running| running.clone()).ok().flatten();
    if let Some(control) = running {
        control.stop_and_wait();
    }
}

/// A control that is stopped when the backend exits.
fn control() -> Arc<Control> {
    static ONCE: Once = Once::new();
    // SAFETY: the callback takes no argument; registered once a backend.
    ONCE.call_once(|| unsafe {
        pg_sys::before_shmem_exit(Some(stop_threads), pg_sys::Datum::null())
    });
    let control = Arc::new(Control::default());
    if let Ok(mut running) = RUNNING.lock() {
        *running = Some(Arc::clone(&control));
    }
    control
}

/// Takes what needed memory.
fn or_no_memory<T>(result: Result<T, NoMemory>) -> T {
    result.unwrap_or_else(|error| {
        Failure::new(Code::ERRCODE_OUT_OF_MEMORY, format!("cannot build the index: {error}"))
            .hint("Lower maintenance_work_mem: past it the build goes on on pages.")
            .raise()
    })
}

/// Takes what threads have made. They only stop early when this stack unwinds.
fn finished<T>(result: Result<T, BuildError>) -> T {
    match result {
        Ok(made) => made,
        Err(BuildError::NoMemory(error)) => or_no_memory(Err(error)),
        Err(BuildError::Stopped(Stopped)) => stopped(),
    }
}

fn stopped() -> ! {
    pgrx::error!("the building of an index was stopped")
}

/// Where a build stands.
enum Stage<'a> {
    /// Vectors go into the builder, up to so many elements.
    Gathering(Box<Builder<'a>>, usize),
    /// There are pages; rows are inserted into them.
    Inserting,
}

/// A build.
struct Build<'a> {
    store: &'a IndexStore,
    columns: &'a Columns,
    meta: &'a Meta,
    options: Options,
    text: Option<&'a [f32]>,
    space: &'a OnceCell<Rc<Space>>,
    stage: Stage<'a>,
    /// Rows that the table is expected to have.
    expected: usize,
    threads: usize,
    rows: f64,
    values: Vec<u8>,
}

/// The texts' direction that the model of the index's column has; none where the column belongs to
/// no model. One that cannot be learnt although there is a model is told: text searches of such an
/// index look at more records for the same rows.
fn text_direction(heap: pg_sys::Relation, index: pg_sys::Relation) -> Option<Vec<f32>> {
    // SAFETY: both relations are open; the arrays have an entry for each key column.
    let (column, handler, relation) = unsafe {
        let column = *(*(*index).rd_index).indkey.values.as_ptr();
        (column, (*index).rd_amhandler, PgRelation::from_pg(heap))
    };
    let extension = Extension::of_function(handler);
    let bindings = Binding::all(&extension, &relation).ok()?;
    let binding = bindings.iter().find(|binding| binding.embedding == column)?;
    let direction = binding
        .resolve(&extension)
        .and_then(|model| models::texts_direction(&extension, &model.name));
    if let Ok(Some(direction)) = direction {
        // As it will be read back from the index.
        return Some(from_bytes(&to_bytes(&direction)));
    }
    let message = format!(
        "index \"{}\" is built without the direction of the texts of model \"{}\", which is not known",
        super::error::name(index),
        binding.model
    );
    Failure::new(Code::ERRCODE_WARNING, message)
        .hint("Searches by text are slower without it. Register the model anew with clip_register_model, then REINDEX.")
        .say(PgLogLevel::WARNING);
    None
}

/// How many elements a build in memory takes at most.
fn capacity(space: &Space, threads: usize, memory: usize) -> usize {
    let (mut low, mut high) = (0usize, 1usize << 31);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if Builder::bytes_for(space, middle, threads) <= memory {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

fn memory() -> usize {
    // SAFETY: a setting.
    unsafe { pg_sys::maintenance_work_mem as usize * 1024 }
}

/// Adds one row of the table.
#[pg_guard]
unsafe extern "C-unwind" fn add(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    alive: bool,
    state: *mut std::ffi::c_void,
) {
    // SAFETY: the arguments are the table scan's, the state the build's own.
    unsafe {
        let build = &mut *state.cast::<Build<'_>>();
        let columns = 1 + build.columns.filters.len();
        let values = std::slice::from_raw_parts(values, columns);
        let nulls = std::slice::from_raw_parts(nulls, columns);
        if let Some(vector) = Embedding::from_datum(values[0], nulls[0]) {
            // A row that is deleted already, but may be seen by an old snapshot, decides nothing.
            if !alive && !build.fits(vector.as_slice().len()) {
                return;
            }
            build.add(vector.as_slice(), tid_of(tid), &values[1..], &nulls[1..]);
        }
    }
}

/// A row's place, as the graph keeps it.
///
/// # Safety
/// `tid` must point to an item pointer.
pub unsafe fn tid_of(tid: pg_sys::ItemPointer) -> Tid {
    // SAFETY: the caller's promise.
    let (block, item) = unsafe { pgrx::itemptr::item_pointer_get_both(*tid) };
    Tid { block, item }
}

/// Encodes filter values into `bytes`; returns the null bitmap.
///
/// # Safety
/// The values must be of the columns' types.
pub unsafe fn encode_values(
    columns: &[Column],
    values: &[pg_sys::Datum],
    nulls: &[bool],
    bytes: &mut Vec<u8>,
) -> u8 {
    bytes.clear();
    let mut bitmap = 0;
    for (at, column) in columns.iter().enumerate() {
        let value = if nulls[at] {
            bitmap |= 1 << at;
            0
        } else {
            // SAFETY: the caller's promise.
            unsafe { column.kind.encode(values[at], column.type_oid, column.collation) }
        };
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bitmap
}

impl<'a> Build<'a> {
    /// Are these the index's dimensions, as far as they are known?
    fn fits(&self, dims: usize) -> bool {
        self.meta.dims.or(self.space.get().map(|space| space.layout().dims)) == Some(dims)
    }

    fn space(&self, dims: usize) -> &'a Rc<Space> {
        self.space.get_or_init(|| {
            let meta = Meta { dims: Some(dims), ..self.meta.clone() };
            let layout = match meta.layout() {
                Ok(Some(layout)) => layout,
                Ok(None) => unreachable!("the dimensions are known"),
                Err(error) => inserting::layout_error(self.store.index(), &error).raise(),
            };
            Rc::new(Space::new(layout, meta.seed, self.text))
        })
    }

    unsafe fn add(&mut self, vector: &[f16], tid: Tid, values: &[pg_sys::Datum], nulls: &[bool]) {
        let space = self.space(vector.len());
        let dims = space.layout().dims;
        if vector.len() != dims {
            dimensions(self.store.index(), dims, vector.len()).raise();
        }
        let mut bytes = std::mem::take(&mut self.values);
        // SAFETY: the values are the table scan's.
        let bitmap = unsafe { encode_values(&self.columns.filters, values, nulls, &mut bytes) };
        let row = NewRow { vector, tid, values: Values::new(bitmap, &bytes) };
        self.rows += f64::from(u8::from(space.is_indexable(vector)));
        if let Stage::Gathering(builder, most) = &mut self.stage {
            if *most == 0 {
                // What threads take for themselves is not to be most of it.
                while self.threads > 1 && Builder::bytes_for(space, 0, self.threads) > memory() / 4
                {
                    self.threads -= 1;
                }
                *most = capacity(space, self.threads, memory()).max(1);
                **builder = Builder::new(space);
                or_no_memory(builder.reserve(self.expected.min(*most)));
            }
            let room = builder.len() < *most && builder.bytes() <= memory();
            if room && builder.push(row.vector, row.tid, row.values) != Pushed::Full {
                progress(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, self.rows as i64);
                self.values = bytes;
                return;
            }
            self.overflow(space);
        }
        self.insert(space, row);
        self.values = bytes;
    }

    /// The builder is full: what it has becomes pages.
    fn overflow(&mut self, space: &Space) {
        let Stage::Gathering(builder, _) = std::mem::replace(&mut self.stage, Stage::Inserting)
        else {
            return;
        };
        let wanted = Builder::bytes_for(space, self.expected.max(builder.len()), self.threads);
        let message =
            format!("the graph does not fit maintenance_work_mem after {} rows", builder.len());
        let hint = format!(
            "The build goes on on pages, which is slower. With maintenance_work_mem of {} MB it would stay in memory.",
            (wanted >> 20) + 1
        );
        Failure::new(Code::ERRCODE_SUCCESSFUL_COMPLETION, message)
            .hint(hint)
            .say(PgLogLevel::NOTICE);
        self.write(*builder);
        progress(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, INSERTING);
    }

    fn insert(&self, space: &Space, row: NewRow<'_>) {
        let options = InsertOptions {
            ef_construction: self.options.ef_construction,
            level: inserting::level_of(space, self.meta.seed, row.tid),
        };
        or_raise(self.store.index(), insert(self.store, space, row, options));
        progress(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, self.rows as i64);
        pgrx::check_for_interrupts!();
    }

    /// Makes the graph and writes its pages.
    fn write(&self, builder: Builder<'_>) {
        let control = control();
        let options = BuildOptions {
            ef_construction: self.options.ef_construction,
            threads: self.threads,
            seed: self.meta.seed,
        };
        progress(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, LINKING);
        let mut host = Backend { counted: true };
        let pages = finished(builder.build(options, FIRST_BLOCK, &control, &mut host));
        progress(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, WRITING);
        self.write_pages(&pages, &control);
        let entry = pages.entry();
        self.store.change_meta(|meta| {
            meta.entry = entry;
            Some(())
        });
        set_moments(self.store, pages.moments());
    }

    fn write_pages(&self, pages: &Pages<'_>, control: &Control) {
        // Pages made at a time.
        let piece = (memory() / (8 * page::PAGE)).clamp(16, 512);
        let mut host = Backend { counted: false };
        progress(pg_sys::PROGRESS_CREATEIDX_TUPLES_TOTAL, pages.len() as i64);
        for start in (0..pages.len()).step_by(piece) {
            let range = start..(start + piece).min(pages.len());
            let made = pages.encode(range, self.threads, control, &mut host);
            let made = made.unwrap_or_else(|Stopped| stopped());
            for (at, records) in made.iter().enumerate() {
                let block = self.store.add_page(records);
                let expected = FIRST_BLOCK + (start + at) as u32;
                assert_eq!(block, expected, "nobody else adds pages to an index being built");
            }
            progress(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, (start + made.len()) as i64);
            pgrx::check_for_interrupts!();
        }
    }
}

/// The meta data of a new index.
fn new_meta(columns: &Columns, options: Options, text: Option<&[f32]>) -> Meta {
    Meta {
        metric: columns.metric,
        columns: columns.filters.len(),
        dims: columns.dims,
        m: options.m,
        entry: None,
        pending: false,
        freed: 0,
        seed: SEED,
        text: text.map_or(0, text_digest),
        counted: 0,
        norm2: 0.0,
        calibration: Calibration::default(),
        calibrated: 0,
        gone: 0,
    }
}

/// Writes the pages that an index begins with.
fn write_first_pages(
    store: &IndexStore,
    fork: pg_sys::ForkNumber::Type,
    meta: &Meta,
    text: Option<&[f32]>,
) {
    let text = text.map(to_bytes).unwrap_or_default();
    let room = page::PAGE - page::HEADER - page::SPECIAL;
    store.add_plain(fork, Kind::Meta, &meta.encode());
    store.add_plain(fork, Kind::Vector, &text[..text.len().min(room)]);
    store.add_plain(fork, Kind::Vector, &[]);
}

/// CREATE INDEX and REINDEX.
#[pg_guard]
pub unsafe extern "C-unwind" fn build(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::IndexBuildResult {
    let columns = Columns::of(index).unwrap_or_else(|failure| failure.raise());
    let options = Options::of(index);
    let text = text_direction(heap, index);
    let text = text.as_deref();
    let meta = new_meta(&columns, options, text);
    if let Err(error) = meta.layout() {
        inserting::layout_error(index, &error).raise();
    }
    let store = IndexStore::new(index, Writing::Building);
    let main = pg_sys::ForkNumber::MAIN_FORKNUM;
    write_first_pages(&store, main, &meta, text);
    // SAFETY: the table is open; both settings and estimates are plain numbers.
    let (expected, threads) = unsafe {
        let (mut pages, mut tuples, mut visible) = (0, 0.0, 0.0);
        pg_sys::estimate_rel_size(
            heap,
            std::ptr::null_mut(),
            &mut pages,
            &mut tuples,
            &mut visible,
        );
        (tuples as usize, 1 + workers(heap))
    };
    let space = OnceCell::new();
    // A builder needs a space, and the space the dimensions: until the first vector comes, one of a
    // single dimension stands in.
    let stand_in = stand_in();
    let mut state = Build {
        store: &store,
        columns: &columns,
        meta: &meta,
        options,
        text,
        space: &space,
        stage: Stage::Gathering(Box::new(Builder::new(&stand_in)), 0),
        expected,
        threads,
        rows: 0.0,
        values: Vec::new(),
    };
    progress(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, LOADING);
    progress(pg_sys::PROGRESS_CREATEIDX_TUPLES_TOTAL, expected as i64);
    // SAFETY: the state outlives the scan.
    let heap_rows = unsafe {
        pg_sys::table_index_build_scan(
            heap,
            index,
            info,
            true,
            true,
            Some(add),
            (&raw mut state).cast(),
            std::ptr::null_mut(),
        )
    };
    if let Stage::Gathering(builder, 1..) = std::mem::replace(&mut state.stage, Stage::Inserting) {
        state.write(*builder);
    }
    let dims = space.get().map(|space| space.layout().dims);
    store.change_meta(|meta| {
        meta.dims = meta.dims.or(dims);
        Some(())
    });
    progress(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, MEASURING);
    recall::calibrate(&store, pause);
    log_pages(index, main, &store);
    // SAFETY: memory of this size or an error.
    unsafe {
        let result: *mut pg_sys::IndexBuildResult =
            pg_sys::palloc0(size_of::<pg_sys::IndexBuildResult>()).cast();
        (*result).heap_tuples = heap_rows;
        (*result).index_tuples = state.rows;
        result
    }
}

/// How many threads may help, by the settings for processes that do.
fn workers(heap: pg_sys::Relation) -> usize {
    // SAFETY: the table is open, and its options are none or a table's; settings are plain numbers.
    unsafe {
        let most = pg_sys::max_parallel_maintenance_workers.min(pg_sys::max_parallel_workers);
        let options = (*heap).rd_options.cast::<pg_sys::StdRdOptions>().as_ref();
        let own = options.map_or(-1, |options| options.parallel_workers);
        (if own < 0 { most } else { own.min(most) }).max(0) as usize
    }
}

/// Lets a cancel have its turn.
fn pause() {
    pgrx::check_for_interrupts!();
}

/// A space that no vector is put into.
fn stand_in() -> Space {
    let layout = pgclip_hnsw::Layout::new(pgclip_hnsw::Metric::L2, 1, 2, 0);
    Space::new(layout.expect("one dimension fits"), 0, None)
}

/// Logs all pages of an index that was built without.
fn log_pages(index: pg_sys::Relation, fork: pg_sys::ForkNumber::Type, store: &IndexStore) {
    // SAFETY: the relation is open, and its pages are in order.
    unsafe {
        let init = fork == pg_sys::ForkNumber::INIT_FORKNUM;
        if init {
            pg_sys::log_newpage_range(index, fork, 0, FIRST_BLOCK, true);
        } else if needs_wal(index) {
            pg_sys::log_newpage_range(index, fork, 0, store.blocks(), true);
        }
    }
}

/// Are changes of a relation logged? (PostgreSQL's RelationNeedsWAL)
fn needs_wal(relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open.
    unsafe {
        let row = &*relation;
        let permanent =
            (*row.rd_rel).relpersistence == pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char;
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let first = row.rd_firstRelfilenodeSubid;
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let first = row.rd_firstRelfilelocatorSubid;
        let fresh = row.rd_createSubid != 0 || first != 0;
        let minimal = pg_sys::wal_level < pg_sys::WalLevel::WAL_LEVEL_REPLICA as i32;
        permanent && !(minimal && fresh)
    }
}

/// The index of an unlogged table, as it is after a crash: empty.
#[pg_guard]
pub unsafe extern "C-unwind" fn build_empty(index: pg_sys::Relation) {
    let columns = Columns::of(index).unwrap_or_else(|failure: Failure| failure.raise());
    let meta = new_meta(&columns, Options::of(index), None);
    let store = IndexStore::new(index, Writing::Building);
    let init = pg_sys::ForkNumber::INIT_FORKNUM;
    write_first_pages(&store, init, &meta, None);
    log_pages(index, init, &store);
}
