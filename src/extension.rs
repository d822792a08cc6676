//! Where the extension is installed and whose rights a piece of work has. A file of its own, since
//! everything that touches the extension's tables or a user's rows for somebody else needs it.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The extension's schema and owner, found through one of its own functions: right wherever it was
/// created, and after a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    pub schema: pg_sys::Oid,
    pub owner: pg_sys::Oid,
}

impl Extension {
    /// Of the function that is being called.
    pub fn of_call(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: a call's `flinfo` names the function.
        Self::of_function(unsafe { (*(*fcinfo).flinfo).fn_oid })
    }

    /// Of one of its functions.
    pub fn of_function(function: pg_sys::Oid) -> Self {
        // SAFETY: a function that runs is in the catalog.
        unsafe {
            let key = pg_sys::SysCacheIdentifier::PROCOID as i32;
            let row = pg_sys::SearchSysCache1(key, function.into());
            if row.is_null() {
                pgrx::error!("cache lookup failed for function {function}");
            }
            let procedure = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_proc>(row);
            let found = Self { schema: (*procedure).pronamespace, owner: (*procedure).proowner };
            pg_sys::ReleaseSysCache(row);
            found
        }
    }

    /// The schema's name, quoted for SQL.
    pub fn schema_name(&self) -> String {
        quoted(namespace_name(self.schema))
    }

    /// A relation of the extension, qualified and quoted for SQL.
    pub fn relation(&self, name: &str) -> String {
        format!("{}.{name}", self.schema_name())
    }

    /// Works with the rights of the extension's owner until the guard is dropped.
    pub fn as_owner(&self) -> Identity {
        Identity::assume(self.owner)
    }
}

/// Name of a schema.
pub fn namespace_name(schema: pg_sys::Oid) -> String {
    // SAFETY: the function takes any OID; its result is a copy or NULL.
    unsafe {
        let name = pg_sys::get_namespace_name(schema);
        if name.is_null() {
            pgrx::error!("cache lookup failed for schema {schema}");
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// Name of a type, as SQL writes it.
pub fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: the function takes any OID; its result is a copy.
    unsafe {
        let name = pg_sys::format_type_be(type_oid);
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// Name of a type of any length, qualified, as SQL writes it whatever the search path: `character` and
/// `bit` alone would mean a length of one.
pub fn qualified_type(type_oid: pg_sys::Oid) -> String {
    let flags = (pg_sys::FORMAT_TYPE_FORCE_QUALIFY | pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN) as u16;
    // SAFETY: the function takes any OID; its result is a copy.
    unsafe {
        let name = pg_sys::format_type_extended(type_oid, -1, flags);
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// The type below a domain; any other type as it is.
pub fn base_type(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a catalog lookup.
    unsafe { pg_sys::getBaseType(type_oid) }
}

/// An identifier, quoted for SQL where it must be.
pub fn quoted(name: impl AsRef<str>) -> String {
    pgrx::spi::quote_identifier(name.as_ref())
}

/// A search path of the system's schema alone, given back when dropped. Under it no unqualified name
/// of a statement, and no operator that the grammar brings along (`IN`, `CASE x WHEN`), can mean
/// anything of a user's.
#[derive(Debug)]
pub struct SystemPath {
    /// Level of settings to be undone.
    level: i32,
}

impl SystemPath {
    pub fn narrow() -> Self {
        // SAFETY: the nest level is closed in `drop`, and by the end of the transaction where an
        // error passes by.
        let path = Self { level: unsafe { pg_sys::NewGUCNestLevel() } };
        path.set(c"search_path", c"pg_catalog, pg_temp");
        path
    }

    /// Changes a setting until the path is given back.
    fn set(&self, name: &CStr, value: &CStr) {
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

impl Drop for SystemPath {
    fn drop(&mut self) {
        // SAFETY: the nest level is the path's own.
        unsafe { pg_sys::AtEOXact_GUC(false, self.level) };
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
