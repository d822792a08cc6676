//! Whose rights a piece of work has, and under which settings and search path it runs: what touches
//! the extension's tables, or a user's rows for somebody else, goes through here.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Settings that are changed for a while, given back when dropped.
#[derive(Debug)]
pub struct Changed {
    level: i32,
}

impl Changed {
    pub fn none() -> Self {
        // SAFETY: the nest level is closed in `drop`, and by the end of the transaction where an
        // error passes by.
        Self { level: unsafe { pg_sys::NewGUCNestLevel() } }
    }

    /// Changes a setting until all are given back.
    pub fn set(&self, name: &CStr, value: &CStr) {
        // SAFETY: two strings; `drop` closes the nest level.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        // SAFETY: the nest level is this one's own.
        unsafe { pg_sys::AtEOXact_GUC(false, self.level) };
    }
}

/// A search path of the system's schema alone, given back when dropped. Under it no unqualified name
/// of a statement, and no operator that the grammar brings along (`IN`, `CASE x WHEN`), can mean
/// anything of a user's.
#[derive(Debug)]
pub struct SystemPath(Changed);

impl SystemPath {
    pub fn narrow() -> Self {
        let path = Self(Changed::none());
        path.set(c"search_path", c"pg_catalog, pg_temp");
        path
    }

    /// Changes a setting until the path is given back.
    fn set(&self, name: &CStr, value: &CStr) {
        self.0.set(name, value);
    }
}

/// Another role's rights, given back when dropped.
#[derive(Debug)]
pub struct Identity {
    role: pg_sys::Oid,
    context: i32,
    /// Given back first, with the rights under which it was narrowed.
    path: Option<SystemPath>,
}

impl Identity {
    /// Works as `role` in a security-restricted operation: what runs can neither take on a third role
    /// nor leave anything behind in the session, and finds no function or operator of the caller's.
    /// For the extension's own objects, and for rows that are written apart from their statement.
    pub fn assume(role: pg_sys::Oid) -> Self {
        Self::change(role, pg_sys::SECURITY_RESTRICTED_OPERATION).see_system_alone()
    }

    /// Works as `role` where that may run the role's own code, such as triggers. Code that runs for
    /// somebody else sees no schema but the system's, since the search path is that somebody's.
    ///
    /// The operation is not a restricted one: that would refuse deferred constraints. It keeps the
    /// code from nothing that it could not do as the trigger of a plain INSERT.
    pub fn assume_for_code(role: pg_sys::Oid) -> Self {
        let identity = Self::change(role, 0);
        if role == identity.role { identity } else { identity.see_system_alone() }
    }

    /// Narrows the search path to the system's schema.
    fn see_system_alone(mut self) -> Self {
        self.path = Some(SystemPath::narrow());
        self
    }

    /// A row-level security policy that would hide rows is an error from here on.
    pub fn see_all_rows(self) -> Self {
        if let Some(path) = &self.path {
            path.set(c"row_security", c"off");
        }
        self
    }

    /// Values are written as text in one way from here on, whatever the session's settings: a row's key must
    /// read the same wherever it is written and looked for.
    pub fn write_alike(self) -> Self {
        if let Some(path) = &self.path {
            path.set(c"extra_float_digits", c"1");
            path.set(c"TimeZone", c"UTC");
            path.set(c"DateStyle", c"ISO, MDY");
            path.set(c"IntervalStyle", c"postgres");
            path.set(c"bytea_output", c"hex");
            path.set(c"lc_monetary", c"C");
        }
        self
    }

    /// Works as the user whose statement it is.
    pub fn of_statement(user: pg_sys::Oid) -> Self {
        Self::change(user, 0)
    }

    fn change(role: pg_sys::Oid, restriction: u32) -> Self {
        let mut identity = Self { role: pg_sys::InvalidOid, context: 0, path: None };
        // SAFETY: both functions only read and write the backend's identity.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut identity.role, &mut identity.context);
            let local = pg_sys::SECURITY_LOCAL_USERID_CHANGE | restriction;
            pg_sys::SetUserIdAndSecContext(role, identity.context | local as i32);
        }
        identity
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.path = None;
        // SAFETY: restores what `change` found.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.context) };
    }
}
