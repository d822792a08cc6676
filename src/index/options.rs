//! The options of an index: `WITH (m = …, ef_construction = …)`.

use std::sync::OnceLock;

use pgclip_hnsw::format::layout::{MAX_M, MIN_M};
use pgrx::{pg_guard, pg_sys};

/// Edges of an element on each upper layer, half of those on the base layer.
pub const DEFAULT_M: i32 = 16;
/// Candidates looked at for the neighbours of a new element.
pub const DEFAULT_EF_CONSTRUCTION: i32 = 64;

/// How PostgreSQL keeps the parsed options.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Stored {
    length: i32,
    m: i32,
    ef_construction: i32,
}

/// The options of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub m: usize,
    pub ef_construction: usize,
}

static KIND: OnceLock<pg_sys::relopt_kind::Type> = OnceLock::new();

/// Tells the server about the options.
pub fn init() {
    // SAFETY: constant strings; called once a process, while the library is loaded.
    unsafe {
        let kind = pg_sys::add_reloption_kind();
        let lock = pg_sys::AccessExclusiveLock as i32;
        pg_sys::add_int_reloption(
            kind,
            c"m".as_ptr(),
            c"Edges of an element on each upper layer, half of those on the base layer".as_ptr(),
            DEFAULT_M,
            MIN_M as i32,
            MAX_M as i32,
            lock,
        );
        pg_sys::add_int_reloption(
            kind,
            c"ef_construction".as_ptr(),
            c"Candidates looked at for the neighbours of a new element".as_ptr(),
            DEFAULT_EF_CONSTRUCTION,
            4,
            1000,
            lock,
        );
        KIND.get_or_init(|| kind);
    }
}

impl Options {
    /// Of an open index.
    pub fn of(index: pg_sys::Relation) -> Self {
        // SAFETY: an open relation's options are none, or what `parse` returned.
        let stored = unsafe { (*index).rd_options.cast::<Stored>().as_ref() };
        let (m, ef) = stored.map_or((DEFAULT_M, DEFAULT_EF_CONSTRUCTION), |stored| {
            (stored.m, stored.ef_construction)
        });
        Self { m: m as usize, ef_construction: ef as usize }
    }
}

/// Reads the options as stored in the catalog.
#[pg_guard]
pub unsafe extern "C-unwind" fn parse(
    options: pg_sys::Datum,
    validate: bool,
) -> *mut pg_sys::bytea {
    let element = |name: &'static std::ffi::CStr, offset: usize| pg_sys::relopt_parse_elt {
        optname: name.as_ptr(),
        opttype: pg_sys::relopt_type::RELOPT_TYPE_INT,
        offset: offset as i32,
        ..Default::default()
    };
    let table = [
        element(c"m", std::mem::offset_of!(Stored, m)),
        element(c"ef_construction", std::mem::offset_of!(Stored, ef_construction)),
    ];
    let kind = *KIND.get().expect("set when the library was loaded");
    // SAFETY: the table describes fields of `Stored`, whose size is given.
    unsafe {
        pg_sys::build_reloptions(
            options,
            validate,
            kind,
            size_of::<Stored>(),
            table.as_ptr(),
            table.len() as i32,
        )
        .cast()
    }
}
