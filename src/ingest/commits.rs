//! Procedures that commit as they go.

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use crate::error::Failure;

/// Whether the procedure may commit.
///
/// # Safety
/// `fcinfo` must be a live call.
pub unsafe fn expect_commits(fcinfo: pg_sys::FunctionCallInfo, name: &str) -> Result<(), Failure> {
    // SAFETY: the caller's promise; the tag says what the context is.
    let atomic = unsafe {
        let context = (*fcinfo).context;
        context.is_null()
            || (*context).type_ != pg_sys::NodeTag::T_CallContext
            || (*context.cast::<pg_sys::CallContext>()).atomic
    };
    match atomic {
        false => Ok(()),
        true => Err(Failure::new(
            Code::ERRCODE_ACTIVE_SQL_TRANSACTION,
            format!("{name} cannot run inside a transaction block or a function"),
        )
        .detail("It commits after each batch of rows.")
        .hint(format!("Call it on its own: CALL {name}(...)."))),
    }
}

/// Commits, and begins the next transaction.
pub fn commit() {
    // SAFETY: the procedure was called where it may commit; no SPI connection, snapshot or relation
    // of ours is open.
    unsafe {
        pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32);
        pg_sys::SPI_commit();
        pg_sys::SPI_start_transaction();
        pg_sys::SPI_finish();
    }
}
