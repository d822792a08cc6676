//! Reading tables inside of functions that only read. Its own file because pgrx's SPI may give the
//! transaction a number, which a standby and a parallel worker refuse, and counts commands once it
//! has one, which no process of a parallel query may.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::datum::{DatumWithOid, IntoDatum};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{FromDatum, Spi, pg_sys};

use crate::encode::failure::Failure;

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
    let query = text(query)?;
    let Arguments { mut types, mut values, nulls } = Arguments::new(arguments);
    // SAFETY: as many types and values as the query has parameters; all outlive the call.
    run(read, |read_only| unsafe {
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
    // SAFETY: a kept plan, and as many values as it has parameters; all outlive the call.
    let rows = run(read, |read_only| unsafe {
        let values = values.as_mut_ptr();
        pg_sys::SPI_execute_plan(plan, values, nulls.as_ptr().cast(), read_only, 1)
    })?;
    Ok(rows.into_iter().next())
}

/// Runs a query and reads its result.
fn run<T>(
    mut read: impl FnMut(&Row) -> Result<T, Failure>,
    execute: impl FnOnce(bool) -> i32,
) -> Result<Vec<T>, Failure> {
    // SAFETY: what the backend knows of its own transaction.
    let read_only = unsafe {
        pg_sys::IsInParallelMode() || pg_sys::GetCurrentTransactionIdIfAny().into_inner() == 0
    };
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
