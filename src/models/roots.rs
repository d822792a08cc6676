//! Roots: directories on the server that images may be read from, each for the roles that an
//! administrator named. Here it is decided who may use one; the encoder sees to it that no path
//! leaves it.

use std::fs;
use std::path::Path;

use pgclip_clip::model::is_model_name;
use pgclip_wire::protocol::{Image, MAX_PATH_BYTES};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Array, Spi, pg_extern, pg_sys};

use crate::catalog::extension::Extension;
use crate::catalog::read;
use crate::catalog::rights::{READ_SERVER_FILES, check_reader, current_user, has_role};
use crate::error::Failure;
use crate::limits;

/// A root that the current user may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    directory: String,
}

impl Root {
    /// The image in a file beneath the root.
    pub fn file(&self, path: &str) -> Image {
        Image::File { root: self.directory.clone(), path: path.to_owned() }
    }
}

/// The root called `name`, if the current user may use it.
pub fn resolve(extension: &Extension, name: &str) -> Result<Root, Failure> {
    let Some((directory, roles)) = find(extension, name)? else {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("there is no root \"{}\"", limits::shown(name)),
        )
        .hint("An administrator registers one with clip_register_root."));
    };
    if may_use(current_user(), &roles) {
        return Ok(Root { directory });
    }
    Err(Failure::new(
        Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied for root \"{name}\""),
    )
    .hint("An administrator grants it to roles with clip_register_root."))
}

/// A root's directory and roles, whoever asks.
fn find(extension: &Extension, name: &str) -> Result<Option<(String, Vec<pg_sys::Oid>)>, Failure> {
    limits::option("root", Some(name))?;
    let query = format!(
        "SELECT directory, roles::pg_catalog.oid[] FROM {} WHERE name OPERATOR(pg_catalog.=) $1",
        extension.relation("clip_root")
    );
    let _owner = extension.as_owner();
    let found = read::all(&query, &[name.into()], |row| {
        let roles = row.get::<Vec<pg_sys::Oid>>(2)?.unwrap_or_default();
        Ok((row.get::<String>(1)?.unwrap_or_default(), roles))
    })?;
    Ok(found.into_iter().next())
}

#[pg_extern(sql = false)]
fn clip_register_root(
    name: &str,
    directory: &str,
    roles: Array<'_, pg_sys::Oid>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    check_reader("register a root")?;
    if !is_model_name(name) {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_NAME,
            format!("invalid root name \"{name}\""),
        )
        .hint("A name has 1 to 63 ASCII letters, digits, hyphens, full stops and underscores, and begins with a letter or digit.")
        .into());
    }
    check_directory(directory)?;
    let mut granted = Vec::new();
    limits::check("roles", roles.len(), limits::ROLES)?;
    for role in roles.iter() {
        let Some(role) = role else {
            return Err(Failure::new(
                Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "a role must not be NULL",
            )
            .into());
        };
        // SAFETY: raises an error for an OID that is no role's.
        unsafe { pg_sys::GetUserNameFromId(role, false) };
        granted.push(role);
    }
    let extension = Extension::of_call(fcinfo);
    if let Some((other, _)) = find(&extension, name)?
        && other != directory
    {
        return Err(Failure::new(
            Code::ERRCODE_DUPLICATE_OBJECT,
            format!("there is already a root \"{name}\" of another directory"),
        )
        .hint("Choose another name, or drop that root with clip_drop_root first.")
        .into());
    }
    let table = extension.relation("clip_root");
    let _owner = extension.as_owner();
    Spi::run_with_args(
        &format!(
            "INSERT INTO {table} (name, directory, roles) \
             VALUES ($1, $2, $3::pg_catalog.regrole[]) \
             ON CONFLICT (name) DO UPDATE SET roles = excluded.roles"
        ),
        &[name.into(), directory.into(), granted.into()],
    )
    .map_err(broken)?;
    Ok(())
}

#[pg_extern(sql = false)]
fn clip_drop_root(name: &str, fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    check_reader("drop a root")?;
    let extension = Extension::of_call(fcinfo);
    let Some((_, roles)) = find(&extension, name)? else {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("there is no root \"{name}\""),
        )
        .hint("The view clip_roots lists the roots.")
        .into());
    };
    let bindings = extension.relation("clip_binding");
    let table = extension.relation("clip_root");
    let _owner = extension.as_owner();
    // Anybody can make a trigger by hand that names the root. Only who may use it can attach a column to it.
    let bound = read::all(
        &format!(
            "SELECT pg_catalog.format('%s.%I', b.relation, b.image), c.relowner FROM {bindings} AS b \
             JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) b.relation::pg_catalog.oid \
             WHERE b.root OPERATOR(pg_catalog.=) $1 ORDER BY 1"
        ),
        &[name.into()],
        |row| {
            let owner = row.get(2)?.unwrap_or(pg_sys::InvalidOid);
            Ok((row.get::<String>(1)?.unwrap_or_default(), owner))
        },
    )?;
    if let Some((column, _)) = bound.into_iter().find(|(_, owner)| may_use(*owner, &roles)) {
        return Err(Failure::new(
            Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop root \"{name}\" because column {column} has paths beneath it"),
        )
        .hint("Detach the column with clip_detach first.")
        .into());
    }
    let delete = format!("DELETE FROM {table} WHERE name OPERATOR(pg_catalog.=) $1");
    Spi::run_with_args(&delete, &[name.into()]).map_err(broken)?;
    Ok(())
}

/// A root is a directory outside of the server's own, whose files are nobody's pictures.
fn check_directory(directory: &str) -> Result<(), Failure> {
    let invalid = |what: &str| {
        Failure::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, format!("\"{directory}\" {what}"))
    };
    if !Path::new(directory).is_absolute() || directory.len() > MAX_PATH_BYTES {
        return Err(invalid("is not an absolute path").hint("Name a directory on the server."));
    }
    let found = fs::canonicalize(directory).and_then(|real| Ok((fs::metadata(&real)?, real)));
    let real = match found {
        Ok((found, real)) if found.is_dir() => real,
        Ok(_) => return Err(invalid("is not a directory")),
        Err(error) => {
            return Err(Failure::new(
                Code::ERRCODE_UNDEFINED_FILE,
                format!("cannot open the directory \"{directory}\": {error}"),
            ));
        }
    };
    // The working directory of a server's process is its data directory.
    let spaces = fs::read_dir("pg_tblspc").into_iter().flatten().flatten();
    let own = [".".into(), "pg_wal".into()].into_iter().chain(spaces.map(|space| space.path()));
    let mut own = own.filter_map(|path| fs::canonicalize(path).ok());
    if own.any(|own| real.starts_with(&own) || own.starts_with(&real)) {
        return Err(invalid("holds the server's data, or lies in them")
            .hint("Name a directory that has pictures alone."));
    }
    Ok(())
}

/// Whether a user may use a root that is granted to `roles`.
fn may_use(user: pg_sys::Oid, roles: &[pg_sys::Oid]) -> bool {
    has_role(user, READ_SERVER_FILES) || roles.iter().any(|role| has_role(user, *role))
}

fn broken(error: pgrx::spi::Error) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, "cannot read or change the registered roots")
        .detail(error.to_string())
}
