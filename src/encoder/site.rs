//! What a call site of an encoding function keeps about its model for as long as its statement sees
//! the same. A call site may outlive its statement: in PL/pgSQL it lives as long as the transaction.

use pgrx::{PgMemoryContexts, pg_sys};

use crate::catalog::extension::Extension;
use crate::catalog::rights::{Encoding, check_encoding};
use crate::error::Failure;
use crate::limits;
use crate::models::{self, Model};

/// The model last asked for, by its name.
pub type Known = Option<(String, Moment, Model)>;

/// What a statement sees of the database: equal moments see the same models and templates. Between
/// two snapshots that stand at the same next transaction, transactions can only have ended, which
/// makes the lists of those under way shorter. (The counter of completed transactions would be
/// simpler, but copies of a snapshot, which active ones are, have it at zero.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The first transaction that had not begun.
    next: pg_sys::TransactionId,
    /// Transactions and subtransactions under way.
    running: (u32, i32),
    /// Commands of this transaction.
    command: pg_sys::CommandId,
}

impl Moment {
    pub fn now() -> Self {
        // SAFETY: a statement that calls functions has a snapshot.
        unsafe {
            let snapshot = &*pg_sys::GetActiveSnapshot();
            Self {
                next: snapshot.xmax,
                running: (snapshot.xcnt, snapshot.subxcnt),
                command: snapshot.curcid,
            }
        }
    }
}

/// The state of the call site, made at its first call.
///
/// # Safety
/// `fcinfo` must be the call's own, and the function's `fn_extra` nobody else's and always of one `S`.
pub unsafe fn of_call<'a, S: Default>(fcinfo: pg_sys::FunctionCallInfo) -> &'a mut S {
    // SAFETY: the caller's promise; the state lives as long as the memory context that `flinfo`
    // lives in, and is dropped with it.
    unsafe {
        let flinfo = (*fcinfo).flinfo;
        if (*flinfo).fn_extra.is_null() {
            let mut context = PgMemoryContexts::For((*flinfo).fn_mcxt);
            (*flinfo).fn_extra = context.leak_and_drop_on_delete(S::default()).cast();
        }
        &mut *(*flinfo).fn_extra.cast()
    }
}

/// The model called `name`, looked up once a statement, for who may have something encoded.
pub fn model<'a>(
    known: &'a mut Known,
    fcinfo: pg_sys::FunctionCallInfo,
    name: Option<&str>,
    what: Encoding,
) -> Result<&'a Model, Failure> {
    limits::option("the name of a model", name)?;
    let name = name.map_or_else(models::default_name, str::to_owned);
    let now = Moment::now();
    let extension = Extension::of_call(fcinfo);
    check_encoding(&extension, what)?;
    if !known.as_ref().is_some_and(|(last, seen, _)| *last == name && *seen == now) {
        let found = models::resolve(&extension, Some(&name))?;
        *known = Some((name, now, found));
    }
    let (_, _, model) = known.as_ref().expect("it was set above");
    Ok(model)
}
