//! Where the extension is installed, and the names of relations, types and columns as SQL writes
//! them.

use std::ffi::CStr;

use pgrx::{PgRelation, pg_sys};

use super::identity::Identity;

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

/// Name of a relation that is open, qualified and quoted.
pub fn qualified(relation: &PgRelation) -> String {
    format!("{}.{}", quoted(namespace_name(relation.namespace_oid())), quoted(relation.name()))
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
