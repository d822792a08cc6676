//! What a scan costs, for the planner: it has to choose between this index, a filter's B-tree with a
//! sort, and a sequential scan.
//!
//! A walk for the first rows expands some dozens of records, in proportion to the logarithm of the
//! index's size, and many more where a filter column lets few rows pass; each is a page at random.
//! The server interpolates between start and end by the LIMIT. What the index cannot answer is
//! priced out with a cost that is huge, but a number.

use pgrx::{pg_guard, pg_sys};

use crate::settings;

/// Higher than any plan's cost, and still a number.
const REFUSED: f64 = 1e300;

/// Records expanded for the first rows of an unfiltered search at the default slack, for each
/// natural logarithm of the number of rows.
const RECORDS: f64 = 5.0;
/// How the number of records grows as fewer rows pass: a filter of 1 % takes 40 times as many.
const SELECTIVITY: f64 = -0.8;
/// Records expanded for each further row.
const RECORDS_A_ROW: f64 = 3.0;
/// What measuring a record and its neighbours costs, in the planner's unit of an operator.
const OPERATORS: f64 = 100.0;

/// Estimates a scan.
#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "the server's interface")]
pub unsafe extern "C-unwind" fn estimate(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    loops: f64,
    startup: *mut pg_sys::Cost,
    total: *mut pg_sys::Cost,
    selectivity: *mut pg_sys::Selectivity,
    correlation: *mut f64,
    pages: *mut f64,
) {
    // SAFETY: the planner's own structures, live during the call.
    unsafe {
        let index = &*(*path).indexinfo;
        *correlation = 0.0;
        *pages = f64::from(index.pages);
        let mut generic = pg_sys::GenericCosts::default();
        pg_sys::genericcostestimate(root, path, loops, &mut generic);
        *selectivity = generic.indexSelectivity;
        if !answers(path) {
            (*startup, *total) = (REFUSED, REFUSED);
            #[cfg(feature = "pg18")]
            {
                (*path).path.disabled_nodes = 2;
            }
            return;
        }
        let (mut random, mut sequential) = (0.0, 0.0);
        pg_sys::get_tablespace_page_costs(index.reltablespace, &mut random, &mut sequential);
        let passes = filter_selectivity(root, path).clamp(1e-6, 1.0);
        // About in proportion to the slack; 0.15 counts as one, and what a recall takes as the usual.
        let slack = Some(settings::SEARCH_SLACK.get()).filter(|slack| *slack > 0.0).unwrap_or(0.2);
        let slack = (slack / 0.15).clamp(0.2, 5.0);
        let rows = index.tuples.max(1.0);
        let cost = |records: f64| {
            let records = records.min(rows);
            let distinct = records.min(f64::from(index.pages));
            // Pages beyond the index's own number are read again, from memory.
            distinct * random + records * OPERATORS * pg_sys::cpu_operator_cost
        };
        let first = RECORDS * rows.max(2.0).ln() * slack * passes.powf(SELECTIVITY);
        let all = first + RECORDS_A_ROW * rows;
        *startup = cost(first);
        *total = (*startup + pg_sys::cpu_index_tuple_cost * rows * passes).max(cost(all));
    }
}

/// Can the index answer this at all: one ordering, and nothing asked of rows that it does not hold?
unsafe fn answers(path: *mut pg_sys::IndexPath) -> bool {
    // SAFETY: the planner's own lists.
    unsafe {
        let orderings = pgrx::PgList::<pg_sys::Node>::from_pg((*path).indexorderbys);
        let clauses = pgrx::PgList::<pg_sys::IndexClause>::from_pg((*path).indexclauses);
        orderings.len() == 1 && !clauses.iter_ptr().any(|clause| asks_for_null(clause))
    }
}

/// Is it `embedding IS NULL`?
unsafe fn asks_for_null(clause: *mut pg_sys::IndexClause) -> bool {
    // SAFETY: the planner's own nodes.
    unsafe {
        let quals = pgrx::PgList::<pg_sys::RestrictInfo>::from_pg((*clause).indexquals);
        (*clause).indexcol == 0
            && quals.iter_ptr().any(|qual| {
                let test = (*qual).clause;
                (*test).type_ == pg_sys::NodeTag::T_NullTest
                    && (*test.cast::<pg_sys::NullTest>()).nulltesttype
                        == pg_sys::NullTestType::IS_NULL
            })
    }
}

/// The share of rows that pass the conditions on filter columns.
unsafe fn filter_selectivity(root: *mut pg_sys::PlannerInfo, path: *mut pg_sys::IndexPath) -> f64 {
    // SAFETY: the planner's own lists.
    unsafe {
        let clauses = pgrx::PgList::<pg_sys::IndexClause>::from_pg((*path).indexclauses);
        let mut list = pgrx::PgList::<pg_sys::RestrictInfo>::new();
        for clause in clauses.iter_ptr().filter(|clause| (**clause).indexcol > 0) {
            let quals = pgrx::PgList::<pg_sys::RestrictInfo>::from_pg((*clause).indexquals);
            quals.iter_ptr().for_each(|qual| list.push(qual));
        }
        if list.is_empty() {
            return 1.0;
        }
        let relation = (*(*(*path).indexinfo).rel).relid as i32;
        let inner = pg_sys::JoinType::JOIN_INNER;
        pg_sys::clauselist_selectivity(root, list.into_pg(), relation, inner, std::ptr::null_mut())
    }
}
