//! Statements of the extension's own, on the catalog and on its tables. Its own file for two reasons.
//! They run under a search path of the system's schema alone, so that none of them can mean anything of
//! a user's, whoever calls. And pgrx's SPI may give the transaction a number, which a standby and a
//! parallel worker refuse, and counts commands once it has one, which no process of a parallel query
//! may: what only reads is read here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::datum::{DatumWithOid, IntoDatum};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{FromDatum, Spi, pg_sys};

use crate::catalog::identity::SystemPath;
use crate::error::Failure;

thread_local! {
    /// Plans of [`kept`] by their text. Never freed, so that no destructor runs in a process that is
    /// ending.
    static PLANS: RefCell<HashMap<String, pg_sys::SPIPlanPtr>> = RefCell::default();
}

/// A row of a result.
#[derive(Debug)]
pub struct Row {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Row {
    /// The value of a column as the server has it; none where it is NULL.
    pub fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut null = false;
        // SAFETY: the row belongs to the result that is being read.
        let datum = unsafe { pg_sys::SPI_getbinval(self.tuple, self.columns, column, &mut null) };
        (!null).then_some(datum)
    }

    /// The value of a column, counted from one; none where it is NULL.
    ///
    /// # Errors
    /// When the column is of another type.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<Option<T>, Failure> {
        // SAFETY: the row belongs to the result that is being read.
        let value = unsafe {
            let mut null = false;
            let datum = pg_sys::SPI_getbinval(self.tuple, self.columns, column, &mut null);
            T::try_from_datum(datum, null, pg_sys::SPI_gettypeid(self.columns, column))
        };
        value.map_err(|error| internal(&error.to_string()))
    }
}

/// The rows of a query, each as `read` makes it.
pub fn all<T>(
    query: &str,
    arguments: &[DatumWithOid<'_>],
    read: impl FnMut(&Row) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let _path = SystemPath::narrow();
    as_caller(query, arguments, read)
}

/// The first column of the first row of a query; none where there is no row, or where it is NULL.
pub fn one<T: FromDatum + IntoDatum>(
    query: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<T>, Failure> {
    let rows = all(query, arguments, |row| row.get::<T>(1))?;
    Ok(rows.into_iter().next().flatten())
}

/// The rows of a query on what users made, under the caller's own search path: what views call may
/// depend on it. The query names everything in full.
pub fn as_caller<T>(
    query: &str,
    arguments: &[DatumWithOid<'_>],
    read: impl FnMut(&Row) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let query = text(query)?;
    let Arguments { mut types, mut values, nulls } = Arguments::new(arguments);
    // SAFETY: as many types and values as the query has parameters; all outlive the call.
    rows(read, |read_only| unsafe {
        pg_sys::SPI_execute_with_args(
            query.as_ptr(),
            types.len() as i32,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr().cast(),
            read_only,
            0,
        )
    })
}

/// Calls `each` for each row of such a query without parameters, one at a time, so that no more than one
/// is in memory.
pub fn each_as_caller(
    query: &str,
    mut each: impl FnMut(&Row) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let query = text(query)?;
    let read_only = is_read_only();
    Spi::connect(|_| {
        // SAFETY: a C string; the plan and the portal live until SPI is left, and an error ends both.
        let portal = unsafe {
            let plan = pg_sys::SPI_prepare(query.as_ptr(), 0, std::ptr::null_mut());
            if plan.is_null() {
                return Err(internal("no plan for a query"));
            }
            let none = std::ptr::null_mut();
            pg_sys::SPI_cursor_open(std::ptr::null(), plan, none, std::ptr::null(), read_only)
        };
        loop {
            // SAFETY: the portal is open; the table is that of the fetch, and freed after its use.
            unsafe {
                pg_sys::SPI_cursor_fetch(portal, true, 1);
                let table = pg_sys::SPI_tuptable;
                if table.is_null() || (*table).numvals == 0 {
                    pg_sys::SPI_cursor_close(portal);
                    return Ok(());
                }
                each(&Row { tuple: *(*table).vals, columns: (*table).tupdesc })?;
                pg_sys::SPI_freetuptable(table);
            }
        }
    })
}

/// Runs a statement that changes something.
pub fn execute(command: &str, arguments: &[DatumWithOid<'_>]) -> Result<(), Failure> {
    let _path = SystemPath::narrow();
    Spi::run_with_args(command, arguments).map_err(|error| internal(&error.to_string()))
}

/// The first row of a query, planned once in the life of a backend: for what each statement asks.
pub fn kept<T>(
    query: &str,
    arguments: &[DatumWithOid<'_>],
    read: impl FnMut(&Row) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let Arguments { mut types, mut values, nulls } = Arguments::new(arguments);
    let known = PLANS.with_borrow(|plans| plans.get(query).copied());
    let plan = match known {
        Some(plan) => plan,
        None => {
            let text = text(query)?;
            let _path = SystemPath::narrow();
            // SAFETY: a C string and a list of types; the plan is kept before SPI is left.
            let plan = Spi::connect(|_| unsafe {
                let plan =
                    pg_sys::SPI_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr());
                (!plan.is_null() && pg_sys::SPI_keepplan(plan) == 0).then_some(plan)
            });
            let plan = plan.ok_or_else(|| internal("no plan for a query"))?;
            PLANS.with_borrow_mut(|plans| plans.insert(query.to_owned(), plan));
            plan
        }
    };
    let _path = SystemPath::narrow();
    // SAFETY: a kept plan, and as many values as it has parameters; all outlive the call.
    let rows = rows(read, |read_only| unsafe {
        let values = values.as_mut_ptr();
        pg_sys::SPI_execute_plan(plan, values, nulls.as_ptr().cast(), read_only, 1)
    })?;
    Ok(rows.into_iter().next())
}

/// Whether the transaction is to stay without a number.
fn is_read_only() -> bool {
    // SAFETY: what the backend knows of its own transaction.
    unsafe {
        pg_sys::IsInParallelMode() || pg_sys::GetCurrentTransactionIdIfAny().into_inner() == 0
    }
}

/// Runs a query and reads its result.
fn rows<T>(
    mut read: impl FnMut(&Row) -> Result<T, Failure>,
    execute: impl FnOnce(bool) -> i32,
) -> Result<Vec<T>, Failure> {
    let read_only = is_read_only();
    Spi::connect(|_| {
        let code = execute(read_only);
        // SAFETY: the result of the execution, which is there until SPI is left.
        let table = unsafe { pg_sys::SPI_tuptable.as_ref() };
        match table {
            Some(table) if code == pg_sys::SPI_OK_SELECT as i32 => (0..table.numvals as usize)
                .map(|at| {
                    // SAFETY: there are so many rows.
                    let tuple = unsafe { *table.vals.add(at) };
                    read(&Row { tuple, columns: table.tupdesc })
                })
                .collect(),
            _ => Err(internal(&format!("a query failed (SPI code {code})"))),
        }
    })
}

/// Arguments as SPI takes them.
struct Arguments {
    types: Vec<pg_sys::Oid>,
    values: Vec<pg_sys::Datum>,
    /// A blank, or `n` where the argument is NULL.
    nulls: Vec<u8>,
}

impl Arguments {
    fn new(arguments: &[DatumWithOid<'_>]) -> Self {
        let null = pg_sys::Datum::null();
        let datums = || arguments.iter().map(DatumWithOid::datum);
        Self {
            types: arguments.iter().map(DatumWithOid::oid).collect(),
            values: datums().map(|datum| datum.map_or(null, |d| d.sans_lifetime())).collect(),
            nulls: datums().map(|datum| if datum.is_some() { b' ' } else { b'n' }).collect(),
        }
    }
}

fn text(query: &str) -> Result<CString, Failure> {
    CString::new(query).map_err(|_| internal("a query with a zero byte"))
}

fn internal(what: &str) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, what)
}
