//! What the server calls: the access method's table of contents.

use pgrx::{PgBox, pg_guard, pg_sys};

use super::{build, columns, cost, insert, options, scan, vacuum};

/// Strategies of operator classes: 1 to 5 as a B-tree's, for filter columns; 6 cosine distance,
/// 7 Euclidean distance, 8 negative inner product, for ordering.
const STRATEGIES: u16 = 8;

static V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

#[unsafe(no_mangle)]
extern "C" fn pg_finfo_clip_hnsw_handler() -> &'static pg_sys::Pg_finfo_record {
    &V1
}

/// The handler of the access method.
///
/// # Safety
/// Called by PostgreSQL only.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn clip_hnsw_handler(
    _fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: a node of this type, of zeros, in the caller's memory.
    let mut routine =
        unsafe { PgBox::<pg_sys::IndexAmRoutine>::alloc_node(pg_sys::NodeTag::T_IndexAmRoutine) };
    routine.amstrategies = STRATEGIES;
    routine.amsupport = 0;
    routine.amcanorderbyop = true;
    routine.amcanmulticol = true;
    routine.amoptionalkey = true;
    routine.amsearcharray = true;
    routine.amsearchnulls = true;
    routine.amusemaintenanceworkmem = true;
    routine.amparallelvacuumoptions =
        (pg_sys::VACUUM_OPTION_PARALLEL_BULKDEL | pg_sys::VACUUM_OPTION_PARALLEL_CLEANUP) as u8;
    routine.amkeytype = pg_sys::InvalidOid;

    routine.ambuild = Some(build::build);
    routine.ambuildempty = Some(build::build_empty);
    routine.ambuildphasename = Some(build::phase_name);
    routine.aminsert = Some(insert::insert_row);
    routine.ambulkdelete = Some(vacuum::bulk_delete);
    routine.amvacuumcleanup = Some(vacuum::clean_up);
    routine.amcostestimate = Some(cost::estimate);
    routine.amoptions = Some(options::parse);
    routine.amvalidate = Some(columns::validate);
    routine.amproperty = Some(property);
    routine.ambeginscan = Some(scan::begin);
    routine.amrescan = Some(scan::rescan);
    routine.amgettuple = Some(scan::next);
    routine.amendscan = Some(scan::end);
    routine.into_pg().into()
}

/// Answers `pg_index_column_has_property` where the server cannot: rows come in the order of a distance
/// to the first column, and lists are for the others.
#[pg_guard]
unsafe extern "C-unwind" fn property(
    _index: pg_sys::Oid,
    column: i32,
    property: pg_sys::IndexAMProperty::Type,
    _name: *const std::ffi::c_char,
    result: *mut bool,
    _is_null: *mut bool,
) -> bool {
    use pg_sys::IndexAMProperty::{AMPROP_DISTANCE_ORDERABLE, AMPROP_SEARCH_ARRAY};
    let answer = match property {
        AMPROP_DISTANCE_ORDERABLE => column == 1,
        AMPROP_SEARCH_ARRAY => column > 1,
        _ => return false,
    };
    if column < 1 {
        return false;
    }
    // SAFETY: the server's own variable.
    unsafe { *result = answer }
    true
}
