//! What a distance costs, for the planner. Its own file because it is not about values at all: a
//! distance of wide embeddings is cheap, but reading them is not. PostgreSQL stores those past 2 kB
//! out of line, and its plans count the pages of the table alone, so that a sequential scan with a
//! sort looks as if the embeddings came for nothing.

use pgrx::{pg_guard, pg_sys};

/// What a kernel takes a dimension, in the planner's operators: a thousand dimensions cost about
/// what ten simple operators do.
const OPERATORS_A_DIMENSION: f64 = 0.01;
/// And a call of it.
const OPERATORS_A_CALL: f64 = 5.0;
/// A value that takes less than this of its row lies out of line.
const POINTER: i32 = 32;
/// The bytes of a chunk of a value out of line.
const CHUNK: f64 = 1996.0;
/// Dimensions where nothing is known about an argument.
const UNKNOWN: f64 = 512.0;

static V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

#[unsafe(no_mangle)]
extern "C" fn pg_finfo_embedding_distance_support() -> &'static pg_sys::Pg_finfo_record {
    &V1
}

/// The planner support function of the distances: answers requests for their cost.
///
/// # Safety
/// Called by PostgreSQL only.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn embedding_distance_support(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: a support function's one argument is a request node.
    unsafe {
        let request: *mut pg_sys::Node =
            (*(*fcinfo).args.as_ptr()).value.cast_mut_ptr::<pg_sys::Node>();
        if request.is_null() || (*request).type_ != pg_sys::NodeTag::T_SupportRequestCost {
            return pg_sys::Datum::null();
        }
        let request = &mut *request.cast::<pg_sys::SupportRequestCost>();
        let arguments = arguments(request.node);
        let dims = arguments.iter().find_map(|argument| dims(*argument)).unwrap_or(UNKNOWN);
        let reading: f64 =
            arguments.iter().map(|argument| reading(request.root, *argument, dims)).sum();
        let operators = OPERATORS_A_CALL + OPERATORS_A_DIMENSION * dims;
        request.startup = 0.0;
        request.per_tuple = operators * pg_sys::cpu_operator_cost + reading;
        std::ptr::from_mut(request).into()
    }
}

/// The arguments of a call, where it is known.
unsafe fn arguments(call: *mut pg_sys::Node) -> Vec<*mut pg_sys::Node> {
    // SAFETY: the planner's own expression, or none.
    unsafe {
        let list = match call.as_ref().map(|call| call.type_) {
            Some(pg_sys::NodeTag::T_OpExpr) => (*call.cast::<pg_sys::OpExpr>()).args,
            Some(pg_sys::NodeTag::T_FuncExpr) => (*call.cast::<pg_sys::FuncExpr>()).args,
            _ => return Vec::new(),
        };
        pgrx::PgList::<pg_sys::Node>::from_pg(list).iter_ptr().collect()
    }
}

/// The dimensions that an argument's type declares.
unsafe fn dims(argument: *mut pg_sys::Node) -> Option<f64> {
    // SAFETY: the planner's own expression.
    let typmod = unsafe { pg_sys::exprTypmod(argument) };
    (typmod > 0).then(|| f64::from(typmod))
}

/// What reading an argument costs where it is a column whose values lie out of line.
unsafe fn reading(root: *mut pg_sys::PlannerInfo, argument: *mut pg_sys::Node, dims: f64) -> f64 {
    // SAFETY: the planner's own structures, whose arrays have the lengths that stand beside them.
    unsafe {
        if root.is_null() || (*argument).type_ != pg_sys::NodeTag::T_Var {
            return 0.0;
        }
        let column = &*argument.cast::<pg_sys::Var>();
        let (tables, count) = ((*root).simple_rte_array, (*root).simple_rel_array_size);
        let at = i64::from(column.varno);
        if tables.is_null() || at <= 0 || at >= i64::from(count) || column.varlevelsup > 0 {
            return 0.0;
        }
        let table = *tables.add(at as usize);
        if table.is_null() || (*table).rtekind != pg_sys::RTEKind::RTE_RELATION {
            return 0.0;
        }
        let width = pg_sys::get_attavgwidth((*table).relid, column.varattno);
        let bytes = 2.0 * dims + 8.0;
        if !(1..POINTER).contains(&width) || bytes < f64::from(POINTER) {
            return 0.0;
        }
        // A descent of the TOAST table's index from memory, and the value's share of its pages,
        // which lie in the order of the rows.
        let chunks = (bytes / CHUNK).ceil();
        let rows = chunks * (pg_sys::cpu_tuple_cost + pg_sys::cpu_index_tuple_cost);
        let pages = bytes / f64::from(pg_sys::BLCKSZ) * pg_sys::seq_page_cost;
        rows + pages + 20.0 * pg_sys::cpu_operator_cost
    }
}
