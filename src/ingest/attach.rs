//! `clip_attach` and `clip_detach`: what a table must be like, and the trigger that binds its
//! columns to a model. Both run with the caller's rights, who must own the table.

use std::ffi::CStr;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, PgRelation, pg_extern, pg_sys};

use super::errors;
use super::image::Kind;
use super::key::{self, Key};
use super::write;
use crate::attributes::columns;
use crate::catalog::extension::{Extension, qualified, quoted};
use crate::catalog::{read, rights};
use crate::embedding::Embedding;
use crate::error::Failure;
use crate::limits;
use crate::models;
use crate::models::binding::{self, Attributes, Binding, Mode, OnError};

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn clip_attach(
    table: Option<pg_sys::Oid>,
    image: Option<&str>,
    embedding: Option<&str>,
    model: Option<&str>,
    mode: Option<&str>,
    on_error: Option<&str>,
    root: Option<&str>,
    attributes: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (Some(table), Some(image), Some(embedding)) = (table, image, embedding) else {
        return Err(Failure::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "table, image and embedding must not be NULL",
        )
        .hint("Leave out what has a default: clip_attach('photos').")
        .into());
    };
    for (option, value) in [
        ("image", Some(image)),
        ("embedding", Some(embedding)),
        ("mode", mode),
        ("on_error", on_error),
        ("root", root),
        ("attributes", attributes),
    ] {
        limits::option(option, value)?;
    }
    let (mode, on_error) = manner(mode, on_error)?;
    let extension = Extension::of_call(fcinfo);
    let relation = open_owned(table)?;
    let name = qualified(&relation);
    // SAFETY: the relation is open.
    let owner = unsafe { (*(*relation.as_ptr()).rd_rel).relowner };
    rights::check_owners_encoding(&extension, owner, &name)?;
    if mode == Mode::Async && rights::is_temporary(table) {
        return Err(write::temporary(&name).into());
    }
    let model = models::resolve(&extension, model)?;
    let image_column = Column::find(&relation, image)?;
    let embedding_column = Column::find(&relation, embedding)?;
    let wanted = if root.is_some() { "text" } else { "bytea or oid" };
    let kind = Kind::of_column(&extension, image_column.base, root)?;
    image_column.expect(&name, wanted, kind.is_some())?;
    let is_embedding = embedding_column.base == Embedding::type_oid();
    embedding_column.expect(&name, "embedding", is_embedding)?;
    // A generated image is computed anew by each update of its row, ours included.
    for column in [&image_column, &embedding_column] {
        if column.generated {
            return Err(Failure::new(
                Code::ERRCODE_WRONG_OBJECT_TYPE,
                format!("column {} of table {name} is generated", quoted(&column.name)),
            )
            .hint("Attach ordinary columns: an image that is written, an embedding that pgclip fills.")
            .into());
        }
    }
    if let Some(dimensions) = embedding_column.dimensions
        && dimensions != model.dimensions
    {
        return Err(Failure::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column {} of table {name} has {dimensions} dimensions, model \"{}\" has {}",
                quoted(embedding),
                model.name,
                model.dimensions
            ),
        )
        .hint(format!("Declare the column as embedding({}).", model.dimensions))
        .into());
    }
    refuse_attached(&extension, &relation, embedding)?;
    let attributes = attributes
        .map(|option| {
            let taken = [image_column.number, embedding_column.number];
            columns::check(&extension, &relation, option, taken)
        })
        .transpose()?;
    let mut watched = vec![quoted(image), quoted(embedding)];
    let arguments =
        [root.map(|root| format!("root={root}")), attributes.as_ref().map(Attributes::argument)];
    let mut options: String = (arguments.into_iter().flatten())
        .map(|argument| format!(", {}", pgrx::spi::quote_literal(argument)))
        .collect();
    let columns = relation.tuple_desc();
    for (_, number) in attributes.iter().flat_map(|a| &a.columns) {
        watched.extend(columns.get(*number as usize - 1).map(|column| quoted(column.name())));
    }
    if on_error == OnError::Null {
        let key = Key::of(table)?.ok_or_else(|| key::missing(&name))?;
        options.push_str(", 'on_error=null'");
        if mode == Mode::Async {
            options.push_str(", 'mode=async'");
            // A row whose key changes while it waits is queued anew.
            for column in key.columns().map(quoted) {
                if !watched.contains(&column) {
                    watched.push(column);
                }
            }
        }
    }
    errors::forget(&extension, table, embedding)?;
    let [outdate, ingest] =
        ["pgclip_before_", "pgclip_"].map(|prefix| trigger_name(&relation, prefix, embedding));
    let image = quoted(image);
    let schema = extension.schema_name();
    run(&format!(
        "CREATE TRIGGER {outdate} BEFORE UPDATE OF {image} ON {name} \
         FOR EACH ROW EXECUTE FUNCTION {schema}.clip_outdate()"
    ))?;
    run(&format!(
        "CREATE TRIGGER {ingest} AFTER INSERT OR UPDATE OF {} ON {name} \
         FOR EACH ROW EXECUTE FUNCTION {schema}.clip_ingest({}, {}{options})",
        watched.join(", "),
        pgrx::spi::quote_literal(&model.name),
        pgrx::spi::quote_literal(model.digest()),
    ))?;
    if model.builtin {
        ErrorReport::new(
            Code::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("model \"{}\" knows synthetic traffic scenes only", model.name),
            "clip_attach",
        )
        .set_detail("It is for trying pgclip out and for testing.")
        .set_hint("For real pictures register a model made from published CLIP weights: see \"Models\" in pgclip's documentation.")
        .report(pgrx::PgLogLevel::NOTICE);
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn clip_detach(
    table: pg_sys::Oid,
    embedding: &str,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let extension = Extension::of_call(fcinfo);
    let relation = open_owned(table)?;
    let name = qualified(&relation);
    let column = Column::find(&relation, embedding)?;
    let all = Binding::all(&extension, &relation)?;
    let Some(binding) = all.iter().find(|binding| binding.embedding == column.number) else {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("column {} of table {name} is not attached", quoted(embedding)),
        )
        .hint("The view clip_columns lists the attached columns.")
        .into());
    };
    if binding.inherited {
        return Err(Failure::new(
            Code::ERRCODE_WRONG_OBJECT_TYPE,
            format!("table {name} is attached through the partitioned table that it belongs to"),
        )
        .hint("Call clip_detach for that table.")
        .into());
    }
    // One such trigger was made for each column that follows the image; they are all alike.
    // SAFETY: the relation is open and locked.
    let outdate = unsafe {
        let function = binding::function(&extension, c"clip_outdate");
        binding::triggers(relation.as_ptr(), function)
            .find(|trigger| trigger.tgnattr == 1 && *trigger.tgattr == binding.image)
            .map(|trigger| CStr::from_ptr(trigger.tgname).to_string_lossy().into_owned())
    };
    for trigger in outdate.iter().chain([&binding.trigger_name]) {
        run(&format!("DROP TRIGGER {} ON {name}", quoted(trigger)))?;
    }
    errors::forget(&extension, table, embedding)?;
    Ok(())
}

/// The two options of `clip_attach` by their names. No statement waits for rows that are encoded
/// after it, so none can be stopped.
fn manner(mode: Option<&str>, on_error: Option<&str>) -> Result<(Mode, OnError), Failure> {
    let wrong = |name: &str, value: &str, hint: &str| {
        Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("invalid value for {name}: \"{}\"", limits::shown(value)),
        )
        .hint(hint))
    };
    let mode = match mode {
        None | Some("sync") => Mode::Sync,
        Some("async") => Mode::Async,
        Some(other) => return wrong("mode", other, "It is 'sync' or 'async'."),
    };
    let on_error = match (on_error, mode) {
        (None | Some("stop"), Mode::Sync) => OnError::Stop,
        (Some("null"), _) | (None, Mode::Async) => OnError::Null,
        (Some("stop"), Mode::Async) => {
            return wrong(
                "on_error",
                "stop",
                "With mode 'async' it is 'null': no statement waits that could be stopped.",
            );
        }
        (Some(other), _) => return wrong("on_error", other, "It is 'stop' or 'null'."),
    };
    Ok((mode, on_error))
}

/// A column by its name.
struct Column {
    name: String,
    number: i16,
    /// The type, or the one below a domain.
    base: pg_sys::Oid,
    /// Of a column of type `embedding(d)`.
    dimensions: Option<usize>,
    generated: bool,
}

impl Column {
    fn find(relation: &PgRelation, name: &str) -> Result<Self, Failure> {
        let columns = relation.tuple_desc();
        let found = columns.iter().find(|c| !c.attisdropped && c.name() == name);
        let Some(column) = found else {
            return Err(Failure::new(
                Code::ERRCODE_UNDEFINED_COLUMN,
                format!("table {} has no column \"{}\"", qualified(relation), limits::shown(name)),
            )
            .hint("Name the columns: clip_attach('photos', image => 'picture', embedding => 'vector')."));
        };
        let mut modifier = column.atttypmod;
        // SAFETY: a catalog lookup that fills in the modifier of a domain.
        let base = unsafe { pg_sys::getBaseTypeAndTypmod(column.atttypid, &mut modifier) };
        Ok(Self {
            name: name.to_owned(),
            number: column.attnum,
            base,
            dimensions: usize::try_from(modifier).ok(),
            generated: column.attgenerated != 0,
        })
    }

    fn expect(&self, table: &str, wanted: &str, fits: bool) -> Result<(), Failure> {
        if fits {
            return Ok(());
        }
        Err(Failure::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!("column {} of table {table} is not of type {wanted}", quoted(&self.name)),
        )
        .hint(
            "The image is of type bytea, or oid for large objects, or text for paths beneath a root \
             (root => '…'); the embedding is of type embedding.",
        ))
    }
}

/// Locks a table against other changes of its triggers, and sees that it is the caller's: before the
/// lock, since writers would wait behind one that is waited for, and again once it is there.
pub fn open_owned(table: pg_sys::Oid) -> Result<PgRelation, Failure> {
    let Some(name) = rights::relation_name(table) else { return Err(gone(table)) };
    // SAFETY: a catalog lookup of any OID.
    let kind = unsafe { pg_sys::get_rel_relkind(table) } as u8;
    if kind != pg_sys::RELKIND_RELATION && kind != pg_sys::RELKIND_PARTITIONED_TABLE {
        return Err(Failure::new(
            Code::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{name} is not a table"),
        )
        .hint("Ordinary and partitioned tables can be attached."));
    }
    if !rights::owns(table) {
        return Err(not_owner(&name));
    }
    let lock = pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: a lock on any OID; NULL where the relation went meanwhile. The guard closes it.
    let relation = unsafe {
        let open = pg_sys::try_relation_open(table, lock);
        if open.is_null() {
            return Err(gone(table));
        }
        PgRelation::from_pg_owned(open)
    };
    match rights::owns(table) {
        true => Ok(relation),
        false => Err(not_owner(&qualified(&relation))),
    }
}

fn gone(table: pg_sys::Oid) -> Failure {
    Failure::new(
        Code::ERRCODE_UNDEFINED_TABLE,
        format!("there is no table with OID {}", table.to_u32()),
    )
}

fn not_owner(name: &str) -> Failure {
    Failure::new(Code::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of table {name}"))
        .hint("Ask the owner of the table.")
}

/// A column has one model: neither its table nor a partition of it may be attached already.
fn refuse_attached(
    extension: &Extension,
    relation: &PgRelation,
    embedding: &str,
) -> Result<(), Failure> {
    let query = format!(
        "SELECT pg_catalog.format('%s', b.relation) FROM {} AS b \
         WHERE b.embedding OPERATOR(pg_catalog.=) $2 \
         AND (b.relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1 \
         OR b.relation::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (ARRAY( \
         SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.regclass) \
         UNION ALL \
         SELECT relid::pg_catalog.oid \
         FROM pg_catalog.pg_partition_ancestors($1::pg_catalog.regclass)))) LIMIT 1",
        extension.relation("clip_binding")
    );
    let _owner = extension.as_owner();
    match read::one::<String>(&query, &[relation.oid().into(), embedding.into()])? {
        Some(table) => Err(Failure::new(
            Code::ERRCODE_DUPLICATE_OBJECT,
            format!("column {} of table {table} is attached already", quoted(embedding)),
        )
        .hint("Detach it with clip_detach first.")),
        None => Ok(()),
    }
}

/// A prefix and the column's name, cut to the length of an identifier; with a number where the table has
/// a trigger of that name.
fn trigger_name(relation: &PgRelation, prefix: &str, embedding: &str) -> String {
    let taken = binding::trigger_names(relation);
    let of = |end: &str| cut(&format!("{prefix}{embedding}"), end);
    let numbered = (1..).map(|number: u32| of(&number.to_string()));
    let mut names = std::iter::once(of("")).chain(numbered);
    quoted(names.find(|name| !taken.contains(name)).unwrap_or_default())
}

/// A name that ends with `end`, of which so many characters are cut that an identifier has room for it.
pub fn cut(name: &str, end: &str) -> String {
    let mut name = name.to_owned();
    while name.len() + end.len() >= pg_sys::NAMEDATALEN as usize {
        name.pop();
    }
    name + end
}

fn run(command: &str) -> Result<(), Failure> {
    read::execute(command, &[])
}
