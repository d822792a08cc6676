//! What every room says when something goes wrong: SQLSTATE, message, detail and hint. It stands
//! below all others and knows none of them.

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;

/// Why a statement, or a part of it, came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Tells the client, at a level that ends nothing.
    pub fn say(self, level: pgrx::PgLogLevel) {
        ErrorReport::from(self).report(level);
    }

    /// Raises the error of the current statement.
    pub fn raise(self) -> ! {
        ErrorReport::from(self).report(pgrx::PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// What a SQL function returns as its error: pgrx raises it with code, detail and hint.
impl From<Failure> for ErrorReport {
    #[track_caller]
    fn from(failure: Failure) -> Self {
        let mut report = ErrorReport::new(failure.code, failure.message, "pgclip");
        if let Some(detail) = failure.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = failure.hint {
            report = report.set_hint(hint);
        }
        report
    }
}
