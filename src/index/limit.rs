//! How many rows a scan is wanted for. The server does not tell an access method the LIMIT, but the
//! executor's nodes know it: while a query runs its tree of nodes is kept here, and the first row
//! of a scan looks the scan's node up in it, and whether a Limit stands right above.
//!
//! Only a hint: the first batch is of that size. Through a filter or a join no limit is seen, since
//! more rows than that are needed there.

use std::cell::RefCell;
use std::sync::OnceLock;

use pgrx::pg_sys;

thread_local! {
    /// The queries that run, innermost last.
    static RUNNING: RefCell<Vec<*mut pg_sys::QueryDesc>> = const { RefCell::new(Vec::new()) };
}

/// What stood in the hook before.
static EARLIER_HOOK: OnceLock<pg_sys::ExecutorRun_hook_type> = OnceLock::new();

/// The most rows of a first batch, whatever the LIMIT.
const MOST: i64 = 1000;

/// Puts the hook in its place.
pub fn init() {
    // SAFETY: called once a process, before any query runs.
    unsafe {
        EARLIER_HOOK.get_or_init(|| pg_sys::ExecutorRun_hook);
        pg_sys::ExecutorRun_hook = Some(run);
    }
}

/// Calls into the executor with the query on the stack, and takes it off again however that ends.
///
/// An error goes on as it came: this is the server's PG_TRY and PG_FINALLY. The guard that pgrx puts
/// around other calls copies code, message, detail and hint alone, and would strip the errors of
/// every query in the session of their context and of the names of constraints.
///
/// # Safety
/// `call` must own nothing that has to be dropped, and must not panic.
unsafe fn keep(query: *mut pg_sys::QueryDesc, call: impl FnOnce()) {
    let depth = RUNNING.with_borrow_mut(|running| {
        running.push(query);
        running.len() - 1
    });
    // SAFETY: the server's two stacks are put back as they were found, and between the jump and
    // throwing on nothing of the server's is called.
    unsafe {
        let (errors, contexts) = (pg_sys::PG_exception_stack, pg_sys::error_context_stack);
        let failed = cee_scape::call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = std::ptr::from_ref(buffer).cast_mut().cast();
            call();
            0
        });
        pg_sys::PG_exception_stack = errors;
        pg_sys::error_context_stack = contexts;
        RUNNING.with_borrow_mut(|running| running.truncate(depth));
        if failed != 0 {
            raw::pg_re_throw();
        }
    }
}

/// Runs a query, or some rows of it.
#[cfg(feature = "pg18")]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: the arguments are passed on as they came.
    unsafe {
        let earlier = EARLIER_HOOK.get().copied().flatten();
        keep(query, || match earlier {
            Some(earlier) => earlier(query, direction, count),
            None => raw::standard_ExecutorRun(query, direction, count),
        });
    }
}

/// Runs a query, or some rows of it.
#[cfg(not(feature = "pg18"))]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    // SAFETY: the arguments are passed on as they came.
    unsafe {
        let earlier = EARLIER_HOOK.get().copied().flatten();
        keep(query, || match earlier {
            Some(earlier) => earlier(query, direction, count, once),
            None => raw::standard_ExecutorRun(query, direction, count, once),
        });
    }
}

/// The server's own functions, under guards of ours.
mod raw {
    use pgrx::pg_sys;

    /// What is called for each node below one; true ends the walk.
    pub type Walker =
        unsafe extern "C-unwind" fn(*mut pg_sys::PlanState, *mut std::ffi::c_void) -> bool;

    unsafe extern "C-unwind" {
        pub fn pg_re_throw() -> !;
        #[cfg(feature = "pg18")]
        pub fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
        );
        #[cfg(not(feature = "pg18"))]
        pub fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
            once: bool,
        );
        #[cfg_attr(
            not(any(feature = "pg14", feature = "pg15")),
            link_name = "planstate_tree_walker_impl"
        )]
        pub fn planstate_tree_walker(
            node: *mut pg_sys::PlanState,
            walker: Walker,
            state: *mut std::ffi::c_void,
        ) -> bool;
    }
}

/// What is looked for in a tree of nodes.
struct Search {
    scan: pg_sys::IndexScanDesc,
    /// Rows that the Limit right above the node at hand wants.
    limit: Option<i64>,
    found: Option<Option<i64>>,
}

/// The rows wanted of this scan, where a Limit stands right above it.
///
/// # Safety
/// The scan must be live.
pub unsafe fn of_scan(scan: pg_sys::IndexScanDesc) -> Option<usize> {
    let query = RUNNING.with_borrow(|running| running.last().copied())?;
    // SAFETY: a query on the stack is running, so its nodes are there.
    unsafe {
        let root = query.as_ref()?.planstate;
        if root.is_null() {
            return None;
        }
        let mut search = Search { scan, limit: None, found: None };
        let to: *mut std::ffi::c_void = (&raw mut search).cast();
        pg_sys::ffi::pg_guard_ffi_boundary(|| look(root, to));
        let limit = search.found??;
        usize::try_from(limit.min(MOST)).ok().filter(|limit| *limit > 0)
    }
}

/// Looks at a node and those below it; true ends the search. An error of the server's may skip this
/// frame, which holds nothing.
unsafe extern "C-unwind" fn look(
    node: *mut pg_sys::PlanState,
    search: *mut std::ffi::c_void,
) -> bool {
    // SAFETY: the walker hands over live nodes and our own search.
    unsafe {
        if node.is_null() {
            return false;
        }
        let here = &mut *search.cast::<Search>();
        let above = here.limit.take();
        let plain = (*node).qual.is_null();
        match (*node).type_ {
            pg_sys::NodeTag::T_IndexScanState
                if (*node.cast::<pg_sys::IndexScanState>()).iss_ScanDesc == here.scan =>
            {
                here.found = Some(above.filter(|_| plain));
                return true;
            }
            pg_sys::NodeTag::T_LimitState => {
                let limit = &*node.cast::<pg_sys::LimitState>();
                let known = limit.lstate != pg_sys::LimitStateCond::LIMIT_INITIAL;
                if known && !limit.noCount {
                    here.limit = Some(limit.count.saturating_add(limit.offset));
                }
            }
            // A projection asks for as many rows as are asked of it.
            pg_sys::NodeTag::T_ResultState | pg_sys::NodeTag::T_SubqueryScanState if plain => {
                here.limit = above;
            }
            _ => (),
        }
        raw::planstate_tree_walker(node, look, search)
    }
}
