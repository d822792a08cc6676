//! Writing embeddings into rows by their ctid: ordinary UPDATEs of the one column, and of attribute
//! columns, with the rights of the table's owner, in the transaction that wrote the rows.

use std::rc::Rc;

use half::f16;
use pgclip_wire::protocol::Image;
use pgrx::datum::IntoDatum;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgRelation, Spi, pg_sys};

use super::errors::Errors;
use super::image::{Kind, Raw};
use super::key::{self, Key};
use super::row::Row;
use crate::attributes::filling::Filling;
use crate::catalog::extension::{Extension, base_type, namespace_name, quoted};
use crate::catalog::identity::Identity;
use crate::catalog::{read, rights};
use crate::context::Discretion;
use crate::embedding::Embedding;
use crate::encoder::requests::{Item, to_embedding};
use crate::error::Failure;
use crate::models::Model;
use crate::models::binding::{Binding, Mode, OnError};

/// The attached column of one relation, ready for writing.
#[derive(Debug)]
pub struct Target {
    pub relation: pg_sys::Oid,
    pub binding: Binding,
    model: Model,
    pub owner: pg_sys::Oid,
    /// Who writes in the statement that wrote the rows: its user, if he may, else the owner.
    pub writer: pg_sys::Oid,
    /// Whether errors would show the statement's user more than he may read.
    discreet: bool,
    /// Qualified and quoted.
    pub table: String,
    image_name: String,
    pub embedding_name: String,
    pub extension: Extension,
    /// The primary key, where rows are known by it.
    pub key: Option<Key>,
    /// Whether an earlier failure is noted that an embedding must clear.
    pub has_errors: bool,
    kind: Kind,
    /// Whose right to the root was checked.
    user: pg_sys::Oid,
    filling: Option<Filling>,
    plan: Plan,
}

/// A kept plan of `UPDATE … SET embedding = $1 WHERE ctid = $2`, with attributes from `$3` on.
#[derive(Debug)]
struct Plan(pg_sys::SPIPlanPtr);

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the plan was kept, and nobody else knows it.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

impl Target {
    /// With `keyed`, rows are known by their primary key whatever becomes of them, and images that
    /// lie elsewhere are reached with the rights of the table's owner.
    ///
    /// # Safety
    /// `relation` must be open.
    pub unsafe fn new(
        extension: &Extension,
        relation: pg_sys::Relation,
        binding: Binding,
        keyed: bool,
    ) -> Result<Self, Failure> {
        // SAFETY: the caller's promise; the relation is put back on drop without being closed.
        let (open, kind, owner) = unsafe {
            let form = (*relation).rd_rel;
            (PgRelation::from_pg(relation), (*form).relkind as u8, (*form).relowner)
        };
        let table =
            format!("{}.{}", quoted(namespace_name(open.namespace_oid())), quoted(open.name()));
        if kind != pg_sys::RELKIND_RELATION {
            return Err(Failure::new(
                Code::ERRCODE_WRONG_OBJECT_TYPE,
                format!("rows of {table} cannot be encoded"),
            )
            .detail("It is not an ordinary table.")
            .hint("Leave foreign tables out of a partitioned table that is attached."));
        }
        if binding.mode == Mode::Async && rights::is_temporary(open.oid()) {
            return Err(temporary(&table));
        }
        let columns = open.tuple_desc();
        let column = |number: i16| {
            let at = usize::try_from(number - 1).ok();
            at.and_then(|at| columns.get(at)).filter(|column| !column.attisdropped)
        };
        let (Some(image), Some(embedding)) = (column(binding.image), column(binding.embedding))
        else {
            return Err(not_ours(&binding));
        };
        let embedding_type = Embedding::type_oid();
        // Apart from the statement that wrote a row, nobody's rights but the owner's are at hand.
        let background = keyed.then(|| Identity::assume(owner));
        // SAFETY: reads the backend's identity.
        let user = unsafe { pg_sys::GetUserId() };
        let kind = Kind::of_column(extension, base_type(image.atttypid), binding.root.as_deref())?;
        drop(background);
        let (Some(kind), true) = (kind, base_type(embedding.atttypid) == embedding_type) else {
            return Err(not_ours(&binding));
        };
        rights::check_owners_encoding(extension, owner, &table)?;
        let mut written = vec![binding.embedding];
        written.extend(binding.attributes.iter().flat_map(|a| a.columns.iter().map(|(_, n)| *n)));
        let writer = match !keyed && rights::may_write(open.oid(), &written) {
            true => user,
            false => owner,
        };
        let discreet = writer != user && !rights::sees_all_of(open.oid());
        // The owner's triggers and checks run with his rights then, and find what the caller put into his
        // temporary schema.
        if writer == owner && rights::brings_temporary_objects(owner) && has_code(open.oid())? {
            return Err(Failure::new(
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("cannot write embeddings of table {table} in a session with temporary objects"),
            )
            .detail("Triggers or constraints of the table, which run with its owner's rights, would find them.")
            .hint("Use another session, or have UPDATE granted on the embedding and on columns of attributes, and SELECT on the table."));
        }
        let model = binding.resolve(extension)?;
        let name_of = |number| column(number).map(|column| column.name().to_owned());
        let filling = match &binding.attributes {
            Some(wanted) => Some(Filling::new(wanted, name_of).ok_or_else(|| not_ours(&binding))?),
            None => None,
        };
        let mut types = vec![embedding_type, pg_sys::TIDOID];
        types.extend(filling.iter().flat_map(Filling::parameter_types));
        let update = format!(
            "UPDATE ONLY {table} SET {} = $1{} WHERE ctid OPERATOR(pg_catalog.=) $2\0",
            quoted(embedding.name()),
            filling.as_ref().map(|filling| filling.assignments(3)).unwrap_or_default()
        );
        let (image_name, embedding_name) = (image.name().to_owned(), embedding.name().to_owned());
        let relation = open.oid();
        let errors = Errors { extension, relation, embedding: &embedding_name };
        let has_errors = errors.any()?;
        let key = match keyed || binding.on_error == OnError::Null {
            true => Some(Key::of(relation)?.ok_or_else(|| key::missing(&table))?),
            false if has_errors => Key::of(relation)?,
            false => None,
        };
        let _identity = Identity::assume_for_code(writer);
        // SAFETY: a C string and a list of types; the plan is kept before SPI is left.
        let plan = Spi::connect(|_| unsafe {
            let plan =
                pg_sys::SPI_prepare(update.as_ptr().cast(), types.len() as i32, types.as_mut_ptr());
            (!plan.is_null() && pg_sys::SPI_keepplan(plan) == 0).then_some(Plan(plan))
        })
        .ok_or_else(|| internal("cannot prepare the update of an attached column"))?;
        let extension = *extension;
        Ok(Self {
            relation,
            binding,
            model,
            owner,
            writer,
            discreet,
            table,
            image_name,
            embedding_name,
            extension,
            key,
            has_errors,
            kind,
            user,
            filling,
            plan,
        })
    }

    pub fn is_of(&self, relation: pg_sys::Oid, binding: &Binding, user: pg_sys::Oid) -> bool {
        self.relation == relation && self.binding == *binding && self.user == user
    }

    /// The image that a value of the image column means.
    pub fn image(&self, raw: Raw) -> Result<Image, Failure> {
        self.kind.image(raw)
    }

    /// Whether the current user may have that image encoded.
    pub fn check(&self, raw: Raw) -> Result<(), Failure> {
        self.kind.check(raw)
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    pub fn image_name(&self) -> &str {
        &self.image_name
    }

    /// Names of the attribute columns, quoted.
    pub fn attribute_columns(&self) -> &[String] {
        self.filling.as_ref().map_or(&[], Filling::columns)
    }

    /// Gets ready for embeddings; called before rows are locked, since it may wait for the encoder.
    pub fn prepare(&self) -> Result<(), Failure> {
        self.filling.as_ref().map_or(Ok(()), |f| f.prepare(&self.extension, &self.model))
    }

    /// Sets the embedding and the attributes of a row without an image to NULL.
    pub fn clear(&self, tid: pg_sys::ItemPointerData) -> Result<(), Failure> {
        let _identity = Identity::assume_for_code(self.writer);
        Spi::connect(|_| self.update(tid, None, true)).map(|_| ())
    }

    pub fn errors(&self) -> Errors<'_> {
        Errors {
            extension: &self.extension,
            relation: self.relation,
            embedding: &self.embedding_name,
        }
    }

    /// The key of a row as JSON, if the row has an embedding or not, as is asked for.
    pub fn key_at(
        &self,
        tid: pg_sys::ItemPointerData,
        embedded: bool,
    ) -> Result<Option<String>, Failure> {
        let Some(key) = &self.key else { return Ok(None) };
        let query = format!(
            "SELECT {} FROM ONLY {} AS t WHERE t.ctid OPERATOR(pg_catalog.=) $1 \
             AND t.{} IS {} NULL",
            key.of_row(),
            self.table,
            quoted(&self.embedding_name),
            if embedded { "NOT" } else { "" }
        );
        let _identity = Identity::assume(self.owner).see_all_rows().write_alike();
        match Spi::get_one_with_args::<String>(&query, &[tid.into()]) {
            Err(pgrx::spi::Error::InvalidPosition) => Ok(None),
            found => found.map_err(|error| internal(&format!("cannot read a row's key: {error}"))),
        }
    }

    /// Runs the update inside of SPI; false: it found no row. Attributes that a row has are kept
    /// unless they are outdated.
    pub fn update(
        &self,
        mut tid: pg_sys::ItemPointerData,
        embedding: Option<&[f16]>,
        outdated: bool,
    ) -> Result<bool, Failure> {
        let value = embedding.map(to_embedding).transpose()?.and_then(IntoDatum::into_datum);
        let mut given = vec![value, Some(pg_sys::Datum::from(&raw mut tid))];
        given.extend(self.filling.iter().flat_map(|f| f.parameters(embedding, outdated)));
        let nulls: Vec<u8> =
            given.iter().map(|value| if value.is_some() { b' ' } else { b'n' }).collect();
        let mut values: Vec<pg_sys::Datum> =
            given.into_iter().map(|value| value.unwrap_or(pg_sys::Datum::null())).collect();
        let _discretion = self.discreet.then(Discretion::begin);
        // SAFETY: as many values as the plan has parameters, of their types, which outlive the call.
        let (code, count) = unsafe {
            let nulls = nulls.as_ptr().cast();
            let code = pg_sys::SPI_execute_plan(self.plan.0, values.as_mut_ptr(), nulls, false, 0);
            (code, pg_sys::SPI_processed)
        };
        if code == pg_sys::SPI_OK_REWRITTEN as i32 {
            return Err(Failure::new(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("a rule of table {} does something else than its updates", self.table),
            )
            .hint("Drop the rule, or detach the table with clip_detach."));
        }
        if code != pg_sys::SPI_OK_UPDATE as i32 {
            return Err(internal(&format!("cannot write an embedding (SPI code {code})")));
        }
        Ok(count > 0)
    }
}

/// Writes the embeddings of a batch. An item that is an error is noted, or fails the statement, as
/// the column was attached.
pub fn rows(rows: &[Row], items: Vec<Item>) -> Result<(), Failure> {
    let mut embeddings = Vec::with_capacity(items.len());
    for (row, item) in rows.iter().zip(items) {
        embeddings.push(match item {
            Ok(elements) => Some(elements),
            Err(failure) => {
                row.fail(failure)?;
                None
            }
        });
    }
    let mut embeddings = embeddings.iter();
    for same in rows.chunk_by(|a, b| Rc::ptr_eq(&a.target, &b.target)) {
        let target = &same[0].target;
        target.prepare()?;
        let mut cleared = Vec::new();
        {
            let _identity = Identity::assume_for_code(target.writer);
            Spi::connect(|_| {
                same.iter().zip(&mut embeddings).try_for_each(|(row, elements)| match elements {
                    Some(elements) => row.write(elements),
                    None => Ok(()),
                })
            })?;
            if target.has_errors {
                cleared.extend(same.iter().filter_map(|row| row.latest()));
            }
        }
        if !cleared.is_empty() {
            let keys = cleared.into_iter().map(|tid| target.key_at(tid, true));
            let keys: Vec<String> = keys.filter_map(Result::transpose).collect::<Result<_, _>>()?;
            target.errors().clear(&keys)?;
        }
    }
    Ok(())
}

/// Whether functions of users are called when a row of a table is changed: by its triggers, constraints,
/// indexes, generated columns or columns' domains. Our own triggers do not count.
fn has_code(relation: pg_sys::Oid) -> Result<bool, Failure> {
    const QUERY: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t \
         JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid \
         WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND NOT t.tgisinternal \
         AND NOT (p.proname OPERATOR(pg_catalog.=) ANY ('{clip_ingest,clip_outdate}'::pg_catalog.name[]) \
         AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e \
         ON e.oid OPERATOR(pg_catalog.=) d.refobjid \
         WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
         AND d.objid OPERATOR(pg_catalog.=) p.oid \
         AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid \
         AND e.extname OPERATOR(pg_catalog.=) 'pgclip'::pg_catalog.name))) \
         OR EXISTS (SELECT FROM pg_catalog.pg_constraint AS c WHERE c.conrelid OPERATOR(pg_catalog.=) $1 \
         AND c.contype OPERATOR(pg_catalog.=) 'c'::pg_catalog.\"char\") \
         OR EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid OPERATOR(pg_catalog.=) $1 \
         AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)) \
         OR EXISTS (SELECT FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS y \
         ON y.oid OPERATOR(pg_catalog.=) a.atttypid WHERE a.attrelid OPERATOR(pg_catalog.=) $1 \
         AND NOT a.attisdropped AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 \
         AND (a.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog.\"char\" \
         OR y.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog.\"char\"))";
    Ok(read::one::<bool>(QUERY, &[relation.into()])?.unwrap_or(true))
}

/// Where rows of a temporary table were to wait for the worker.
pub fn temporary(table: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("temporary table {table} cannot be attached with mode 'async'"),
    )
    .detail("Nobody but this session can read its rows, the worker that encodes them included.")
    .hint("Attach it with mode 'sync', or make it an ordinary table.")
}

fn not_ours(binding: &Binding) -> Failure {
    Failure::new(
        Code::ERRCODE_DATATYPE_MISMATCH,
        format!("trigger \"{}\" does not fit the columns of its table", binding.trigger_name),
    )
    .detail("It wants an image of type bytea (or oid, or text with a root) and an embedding of type embedding.")
    .hint("Drop the trigger and call clip_attach.")
}

fn internal(message: &str) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, message)
}
