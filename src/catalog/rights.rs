//! What a role may do, asked of the catalog: before a lock is taken, since a lock that is waited for
//! holds up everybody behind it, and again under the lock, since the answer may have changed. And who
//! may have things encoded.
//!
//! The encoder is for those who may call `encode_text(text, text)` or `encode_image(bytea, text)`, by
//! whatever function they come to it: one REVOKE keeps a role from it, searches included. What a table
//! has encoded as its rows are written is its owner's affair.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use crate::catalog::extension::{Extension, namespace_name, quoted};
use crate::error::Failure;

/// OID of the role `pg_read_server_files` (src/include/catalog/pg_authid.dat).
pub const READ_SERVER_FILES: pg_sys::Oid = pg_sys::Oid::from_u32(4569);

/// The role whose rights count now.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads the backend's identity.
    unsafe { pg_sys::GetUserId() }
}

/// A relation's name, qualified and quoted; none where there is no such relation.
pub fn relation_name(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: catalog lookups of any OID; a name is a copy.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let schema = pg_sys::get_rel_namespace(relation);
        if name.is_null() || schema == pg_sys::InvalidOid {
            return None;
        }
        let name = CStr::from_ptr(name).to_string_lossy();
        Some(format!("{}.{}", quoted(namespace_name(schema)), quoted(name)))
    }
}

/// Whether the current user owns a relation, or has the owner's rights. False where it is gone.
pub fn owns(relation: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups; a relation that is gone was looked for first, as the check raises an
    // error of its own for it.
    unsafe {
        if pg_sys::get_rel_relkind(relation) == 0 {
            return false;
        }
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let owned = pg_sys::pg_class_ownercheck(relation, current_user());
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let owned = pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, current_user());
        owned
    }
}

/// Whether the current user may read a relation, or at least one of its columns.
pub fn may_read(relation: pg_sys::Oid) -> bool {
    let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
    let ok = pg_sys::AclResult::ACLCHECK_OK;
    // SAFETY: catalog lookups; for a relation that is gone see `owns`.
    unsafe {
        pg_sys::get_rel_relkind(relation) != 0
            && (pg_sys::pg_class_aclcheck(relation, current_user(), select) == ok
                || pg_sys::pg_attribute_aclcheck_all(
                    relation,
                    current_user(),
                    select,
                    pg_sys::AclMaskHow::ACLMASK_ANY,
                ) == ok)
    }
}

/// Whether the current user may read all columns and all rows of a relation.
pub fn sees_all_of(relation: pg_sys::Oid) -> bool {
    let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
    // SAFETY: catalog lookups; for a relation that is gone see `owns`.
    unsafe {
        pg_sys::get_rel_relkind(relation) != 0
            && pg_sys::pg_class_aclcheck(relation, current_user(), select)
                == pg_sys::AclResult::ACLCHECK_OK
            && pg_sys::check_enable_rls(relation, pg_sys::InvalidOid, true)
                != pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    }
}

/// Whether a relation is temporary.
pub fn is_temporary(relation: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup of a relation that is there.
    unsafe { pg_sys::get_rel_persistence(relation) as u8 == pg_sys::RELPERSISTENCE_TEMP }
}

/// Whether the current user may read a table and change these columns of every row of it.
pub fn may_write(relation: pg_sys::Oid, columns: &[i16]) -> bool {
    let update = pg_sys::AclMode::from(pg_sys::ACL_UPDATE);
    let ok = pg_sys::AclResult::ACLCHECK_OK;
    // SAFETY: catalog lookups for a relation that is open.
    sees_all_of(relation)
        && unsafe {
            pg_sys::pg_class_aclcheck(relation, current_user(), update) == ok
                || columns.iter().all(|column| {
                    pg_sys::pg_attribute_aclcheck(relation, *column, current_user(), update) == ok
                })
        }
}

/// Whether code that runs as `owner` may find objects of the current user's, who has not that role's
/// rights: temporary ones, which every search path has.
pub fn brings_temporary_objects(owner: pg_sys::Oid) -> bool {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: fills in two variables; a catalog lookup.
    unsafe {
        pg_sys::GetTempNamespaceState(&mut schema, &mut toast);
        schema != pg_sys::InvalidOid && !pg_sys::has_privs_of_role(current_user(), owner)
    }
}

/// What is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Images,
    Texts,
}

/// Refuses where the current user may not have something encoded.
pub fn check_encoding(extension: &Extension, what: Encoding) -> Result<(), Failure> {
    check_encoding_of(extension, what, current_user()).map_err(|name| {
        Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for function {name}"),
        )
        .detail("Whoever has something encoded, by whatever function, needs the right to call it.")
        .hint(format!("An administrator gives it with GRANT EXECUTE ON FUNCTION {name}."))
    })
}

/// Refuses where the owner of a table may not have its images encoded.
pub fn check_owners_encoding(
    extension: &Extension,
    owner: pg_sys::Oid,
    table: &str,
) -> Result<(), Failure> {
    check_encoding_of(extension, Encoding::Images, owner).map_err(|name| {
        Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("the owner of table {table} has no permission for function {name}"),
        )
        .detail("A table's images are encoded with the rights of its owner.")
        .hint(format!("An administrator gives it with GRANT EXECUTE ON FUNCTION {name}."))
    })
}

/// Whether a role may call the function that stands for an encoding; else the function as SQL.
fn check_encoding_of(
    extension: &Extension,
    what: Encoding,
    role: pg_sys::Oid,
) -> Result<(), String> {
    let (name, arguments, types) = match what {
        Encoding::Images => (c"encode_image", "bytea, text", [pg_sys::BYTEAOID, pg_sys::TEXTOID]),
        Encoding::Texts => (c"encode_text", "text, text", [pg_sys::TEXTOID, pg_sys::TEXTOID]),
    };
    // SAFETY: catalog lookups; the vector of types lives in the current context.
    let allowed = unsafe {
        let function = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as i16,
            name.as_ptr().into(),
            pg_sys::buildoidvector(types.as_ptr(), types.len() as i32).into(),
            extension.schema.into(),
            pg_sys::Datum::null(),
        );
        function != pg_sys::InvalidOid && may_execute(function, role)
    };
    match allowed {
        true => Ok(()),
        false => {
            Err(format!("{}.{}({arguments})", extension.schema_name(), name.to_string_lossy()))
        }
    }
}

/// # Safety
/// The function must exist.
unsafe fn may_execute(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    let mode = pg_sys::AclMode::from(pg_sys::ACL_EXECUTE);
    // SAFETY: the caller's promise; a catalog lookup.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let result = pg_sys::pg_proc_aclcheck(function, role, mode);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let result = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, role, mode);
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Refuses who may not read files of the server.
pub fn check_reader(to_do: &str) -> Result<(), Failure> {
    if may_read_files() {
        return Ok(());
    }
    Err(Failure::new(Code::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied to {to_do}"))
        .detail("Only roles with the privileges of the \"pg_read_server_files\" role may do so."))
}

/// Whether the current user may read files of the server.
pub fn may_read_files() -> bool {
    has_role(current_user(), READ_SERVER_FILES)
}

/// Whether a user has the rights of a role.
pub fn has_role(user: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups inside a transaction; a role that is gone is nobody's.
    unsafe { pg_sys::has_privs_of_role(user, role) }
}
