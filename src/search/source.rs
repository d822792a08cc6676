//! What a search is over: the relation that `tbl` is a row of, its embedding column, the model that
//! column belongs to, and the image columns that hits leave out.

use std::collections::BTreeSet;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{IntoDatum, PgRelation, pg_sys};

use super::attributes::Held;
use crate::catalog::extension::{Extension, qualified, qualified_type, quoted};
use crate::catalog::{read, rights};
use crate::embedding::Embedding;
use crate::error::Failure;
use crate::ingest::reencode::second_name;
use crate::limits::shown;
use crate::models::binding::Binding;
use crate::models::{self, Model};

/// Views on views are followed this deep.
const MAX_DEPTH: usize = 16;

/// A relation that can be searched.
#[derive(Debug)]
pub struct Source {
    /// Qualified and quoted; also the name of its row type.
    pub name: String,
    /// All columns, in order.
    pub columns: Vec<Column>,
    /// Position in `columns` of the embedding.
    pub embedding: usize,
    /// Positions in `columns` of attached images.
    pub images: Vec<usize>,
    pub model: Model,
    /// Of the attached embedding; not all need be columns of a view.
    pub attributes: Vec<Held>,
}

/// A column as far as a search cares.
#[derive(Debug)]
pub struct Column {
    pub name: String,
    /// The name, quoted.
    pub quoted: String,
    number: i16,
    /// Its type; of a domain the one below.
    pub base: pg_sys::Oid,
    pub is_domain: bool,
    dimensions: Option<usize>,
}

impl Column {
    /// Its value in the row `t`, to be given to an operator. As the type below a domain: else somebody
    /// could have an operator for the domain, which would come first as the one that fits exactly.
    pub fn compared(&self) -> String {
        match self.is_domain {
            true => format!("t.{}::{}", self.quoted, qualified_type(self.base)),
            false => format!("t.{}", self.quoted),
        }
    }
}

impl Source {
    /// Looks at the relation whose row type is `row_type`.
    pub fn of_row_type(
        extension: &Extension,
        row_type: pg_sys::Oid,
        embedding_column: Option<&str>,
        model: Option<&str>,
    ) -> Result<Self, Failure> {
        let relation = open(row_type)?;
        let name = qualified(&relation);
        let columns = columns(&relation);
        let embedding = pick(&name, &columns, embedding_column)?;
        check_rights(&relation, &name, columns[embedding].number)?;
        let bindings = bindings(extension, &relation)?;
        let of_column: BTreeSet<(&str, &str)> = bindings
            .iter()
            .filter(|found| found.is_of(&relation, columns[embedding].number))
            .map(|found| (found.binding.model.as_str(), found.binding.digest.as_str()))
            .collect();
        let model =
            choose(extension, &name, &columns[embedding].name, &bindings, &of_column, model)?;
        if let Some(dimensions) = columns[embedding].dimensions
            && dimensions != model.dimensions
        {
            return Err(Failure::new(
                Code::ERRCODE_DATATYPE_MISMATCH,
                format!(
                    "column {} of {name} has {dimensions} dimensions, model \"{}\" has {}",
                    quoted(&columns[embedding].name),
                    model.name,
                    model.dimensions
                ),
            )
            .hint("Name the model that the column was encoded with: model => '…', or set pgclip.model."));
        }
        let is_image = |column: &Column| {
            column.base == pg_sys::BYTEAOID
                && bindings.iter().any(|found| match found.depth {
                    0 => found.binding.image == column.number,
                    _ => found.image_name == column.name,
                })
        };
        let images = (0..columns.len()).filter(|&at| is_image(&columns[at])).collect();
        let mut attributes: Vec<Held> = Vec::new();
        for found in bindings.iter().filter(|f| f.is_of(&relation, columns[embedding].number)) {
            attributes.extend(found.attributes.iter().cloned());
        }
        Ok(Self { name, columns, embedding, images, model, attributes })
    }
}

/// Opens the relation of a row type for reading.
fn open(row_type: pg_sys::Oid) -> Result<PgRelation, Failure> {
    let wrong = || {
        Failure::new(Code::ERRCODE_DATATYPE_MISMATCH, "the first argument is not a row of a table")
            .hint("Write NULL::photos to search the table or view \"photos\".")
    };
    // SAFETY: catalog lookups; a row type's relation exists, and the lock keeps it so.
    let relation = unsafe {
        let oid = pg_sys::get_typ_typrelid(row_type);
        if oid == pg_sys::InvalidOid {
            return Err(wrong());
        }
        // Before a lock that others may have to wait behind.
        if let (Some(name), false) = (rights::relation_name(oid), rights::may_read(oid)) {
            return Err(denied(&name));
        }
        // Until the transaction ends, so that the columns stay as the query is written for.
        pg_sys::LockRelationOid(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        PgRelation::with_lock(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE)
    };
    match relation.is_composite_type() {
        true => Err(wrong()),
        false => Ok(relation),
    }
}

/// Refuses before anything is encoded what the search itself would refuse.
fn check_rights(relation: &PgRelation, name: &str, column: i16) -> Result<(), Failure> {
    let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
    // SAFETY: catalog lookups for a relation that is open.
    let allowed = unsafe {
        let (table, user) = (relation.oid(), pg_sys::GetUserId());
        let ok = pg_sys::AclResult::ACLCHECK_OK;
        pg_sys::pg_class_aclcheck(table, user, select) == ok
            || pg_sys::pg_attribute_aclcheck(table, column, user, select) == ok
    };
    match allowed {
        true => Ok(()),
        false => Err(denied(name)),
    }
}

fn denied(name: &str) -> Failure {
    Failure::new(Code::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for {name}"))
}

pub fn columns(relation: &PgRelation) -> Vec<Column> {
    let columns = relation.tuple_desc();
    let kept = columns.iter().filter(|column| !column.attisdropped);
    kept.map(|column| {
        let mut modifier = column.atttypmod;
        // SAFETY: a catalog lookup that fills in the modifier of a domain.
        let base = unsafe { pg_sys::getBaseTypeAndTypmod(column.atttypid, &mut modifier) };
        Column {
            name: column.name().to_owned(),
            quoted: quoted(column.name()),
            number: column.attnum,
            base,
            is_domain: base != column.atttypid,
            dimensions: usize::try_from(modifier).ok(),
        }
    })
    .collect()
}

/// The embedding column: the one named, or the only one.
fn pick(table: &str, columns: &[Column], wanted: Option<&str>) -> Result<usize, Failure> {
    let embedding = Embedding::type_oid();
    let mut found: Vec<usize> =
        (0..columns.len()).filter(|&at| columns[at].base == embedding).collect();
    // A column that clip_reencode fills is not there yet for those who do not name it.
    let all: Vec<String> = found.iter().map(|&at| second_name(&columns[at].name)).collect();
    found.retain(|&at| !all.contains(&columns[at].name));
    let names = || {
        let names: Vec<&str> = found.iter().map(|&at| columns[at].name.as_str()).collect();
        names.join(", ")
    };
    match (wanted, found.as_slice()) {
        (Some(wanted), _) => match columns.iter().position(|column| column.name == wanted) {
            Some(at) if columns[at].base == embedding => Ok(at),
            Some(_) => Err(Failure::new(
                Code::ERRCODE_DATATYPE_MISMATCH,
                format!("column {} of {table} is not of type embedding", quoted(wanted)),
            )),
            None => Err(Failure::new(
                Code::ERRCODE_UNDEFINED_COLUMN,
                format!("{table} has no column \"{}\"", shown(wanted)),
            )),
        },
        (None, [only]) => Ok(*only),
        (None, []) => Err(Failure::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!("{table} has no column of type embedding"),
        )
        .hint("Add one, and attach it to the images with clip_attach.")),
        (None, _) => Err(Failure::new(
            Code::ERRCODE_AMBIGUOUS_COLUMN,
            format!("{table} has several columns of type embedding"),
        )
        .hint(format!("Choose one with embedding_column => '…': {}.", names()))),
    }
}

/// A binding of the relation itself, with its partitions', or of one that a view reads.
struct Found {
    binding: Binding,
    relation: pg_sys::Oid,
    image_name: String,
    attributes: Vec<Held>,
    /// Views between.
    depth: usize,
    /// Whether the view reads this binding's embedding.
    read: bool,
}

impl Found {
    fn is_of(&self, searched: &PgRelation, column: i16) -> bool {
        match self.relation == searched.oid() {
            true => self.binding.embedding == column,
            false => self.read,
        }
    }
}

/// The bindings of a relation, for a view of what it reads.
fn bindings(extension: &Extension, relation: &PgRelation) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    collect(extension, relation, 0, None, &mut found)?;
    Ok(found)
}

fn collect(
    extension: &Extension,
    relation: &PgRelation,
    depth: usize,
    read: Option<&[i16]>,
    found: &mut Vec<Found>,
) -> Result<(), Failure> {
    for heir in heirs(relation) {
        for binding in Binding::all(extension, &heir)? {
            let image_name = column_name(&heir, binding.image);
            let attributes = held(&heir, &binding);
            let embedding = number_of(relation, &column_name(&heir, binding.embedding));
            let Some(embedding) = embedding else { continue };
            let image = number_of(relation, &image_name).unwrap_or_default();
            let binding = Binding { image, embedding, ..binding };
            let read = read.is_none_or(|columns| columns.contains(&embedding));
            let relation = relation.oid();
            found.push(Found { binding, relation, image_name, attributes, depth, read });
        }
    }
    if depth < MAX_DEPTH && (relation.is_view() || relation.is_matview()) {
        for (below, columns) in sources(relation.oid())? {
            // SAFETY: the view depends on the relation, so it exists; the lock keeps it so.
            let below = unsafe {
                PgRelation::with_lock(below, pg_sys::AccessShareLock as pg_sys::LOCKMODE)
            };
            collect(extension, &below, depth + 1, Some(&columns), found)?;
        }
    }
    Ok(())
}

unsafe extern "C-unwind" {
    fn find_all_inheritors(
        parent: pg_sys::Oid,
        lock: pg_sys::LOCKMODE,
        parents: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
}

/// The relation, and what a search of it reads as well: its partitions and other children, which
/// may be attached by themselves.
fn heirs(relation: &PgRelation) -> Vec<PgRelation> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: a catalog lookup that locks what it finds; the list is read at once.
    unsafe {
        let found = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            find_all_inheritors(relation.oid(), lock, std::ptr::null_mut())
        });
        let found = pgrx::PgList::<pg_sys::Oid>::from_pg(found);
        found.iter_oid().map(|heir| PgRelation::with_lock(heir, lock)).collect()
    }
}

/// The attribute columns of a binding.
fn held(relation: &PgRelation, binding: &Binding) -> Vec<Held> {
    let attributes = binding.attributes.iter();
    attributes
        .flat_map(|of| of.columns.iter().map(move |(attribute, column)| (of, attribute, column)))
        .map(|(of, attribute, column)| Held {
            domain: of.domain.clone(),
            attribute: attribute.clone(),
            column: column_name(relation, *column),
        })
        .collect()
}

fn column_name(relation: &PgRelation, number: i16) -> String {
    let columns = relation.tuple_desc();
    let column = usize::try_from(number - 1).ok().and_then(|at| columns.get(at));
    column.map(|column| column.name().to_owned()).unwrap_or_default()
}

fn number_of(relation: &PgRelation, name: &str) -> Option<i16> {
    let columns = relation.tuple_desc();
    let found = columns.iter().find(|column| !column.attisdropped && column.name() == name);
    found.map(|column| column.attnum)
}

/// The relations that a view reads, and which of their columns.
fn sources(view: pg_sys::Oid) -> Result<Vec<(pg_sys::Oid, Vec<i16>)>, Failure> {
    let query = "SELECT d.refobjid, pg_catalog.array_agg(d.refobjsubid::pg_catalog.int2) \
        FROM pg_catalog.pg_rewrite AS r, pg_catalog.pg_depend AS d \
        WHERE r.ev_class OPERATOR(pg_catalog.=) $1 \
        AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
        AND d.objid OPERATOR(pg_catalog.=) r.oid \
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
        AND d.refobjid OPERATOR(pg_catalog.<>) $1 \
        AND d.refobjsubid OPERATOR(pg_catalog.>) 0 GROUP BY 1 ORDER BY 1";
    let found = read::all(query, &[view.into()], |row| Ok(row.get(1)?.zip(row.get(2)?)))?;
    Ok(found.into_iter().flatten().collect())
}

/// The model to search with: a column's own, and for a column of none the one that is given.
fn choose(
    extension: &Extension,
    table: &str,
    column: &str,
    bindings: &[Found],
    of_column: &BTreeSet<(&str, &str)>,
    given: Option<&str>,
) -> Result<Model, Failure> {
    let mut candidates = of_column.iter().filter(|(model, _)| given.is_none_or(|g| g == *model));
    match (candidates.next(), candidates.next(), given) {
        (Some((model, digest)), None, _) => {
            let bound = bindings
                .iter()
                .map(|found| &found.binding)
                .find(|b| b.model == *model && b.digest == *digest)
                .expect("the pair comes from a binding");
            bound.resolve(extension)
        }
        (None, _, given) if of_column.is_empty() => models::resolve(extension, given),
        (None, _, Some(given)) => {
            let bound: Vec<String> =
                of_column.iter().map(|(model, _)| format!("\"{model}\"")).collect();
            Err(Failure::new(
                Code::ERRCODE_DATATYPE_MISMATCH,
                format!(
                    "column {} of {table} belongs to model {}, not to \"{}\"",
                    quoted(column),
                    bound.join(" or "),
                    shown(given)
                ),
            )
            .hint("Embeddings of different models cannot be compared; leave model out."))
        }
        _ => Err(Failure::new(
            Code::ERRCODE_AMBIGUOUS_PARAMETER,
            format!("{table} shows embeddings of several models"),
        )
        .hint("Choose one with model => '…', or search a view of one table.")),
    }
}
