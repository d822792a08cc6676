//! Writing embeddings into rows by their ctid: ordinary UPDATEs of the one column, with the rights
//! of the table's owner, in the transaction that wrote the rows.

use std::rc::Rc;

use pgclip_clip::protocol::Image;
use pgrx::datum::IntoDatum;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgRelation, Spi, pg_sys};

use super::binding::{Binding, OnError};
use super::errors::Errors;
use super::image::{Kind, Raw};
use super::key::{self, Key};
use crate::embedding::Embedding;
use crate::encode::failure::Failure;
use crate::encode::models::Model;
use crate::encode::requests::{Item, to_embedding};
use crate::extension::{Extension, Identity, namespace_name, quoted};

/// The attached column of one relation, ready for writing.
#[derive(Debug)]
pub struct Target {
    pub relation: pg_sys::Oid,
    pub binding: Binding,
    model: Model,
    pub owner: pg_sys::Oid,
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
    plan: Plan,
}

/// A kept plan of `UPDATE … SET embedding = $1 WHERE ctid = $2`.
#[derive(Debug)]
struct Plan(pg_sys::SPIPlanPtr);

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the plan was kept, and nobody else knows it.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

/// A row whose image is on its way.
#[derive(Debug)]
pub struct Row {
    pub target: Rc<Target>,
    pub tid: pg_sys::ItemPointerData,
    /// The image's bytes in the row itself, by which a later version of the row is known to have
    /// the same image.
    pub raw: Box<[u8]>,
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
        let model = binding.resolve(extension)?;
        let update = format!(
            "UPDATE ONLY {table} SET {} = $1 WHERE ctid OPERATOR(pg_catalog.=) $2\0",
            quoted(embedding.name())
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
        let _identity = Identity::assume_for_code(owner);
        let mut types = [embedding_type, pg_sys::TIDOID];
        // SAFETY: a C string and two types; the plan is kept before SPI is left.
        let plan = Spi::connect(|_| unsafe {
            let plan = pg_sys::SPI_prepare(update.as_ptr().cast(), 2, types.as_mut_ptr());
            (!plan.is_null() && pg_sys::SPI_keepplan(plan) == 0).then_some(Plan(plan))
        })
        .ok_or_else(|| internal("cannot prepare the update of an attached column"))?;
        let extension = *extension;
        Ok(Self {
            relation,
            binding,
            model,
            owner,
            table,
            image_name,
            embedding_name,
            extension,
            key,
            has_errors,
            kind,
            user,
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

    /// Sets the embedding of a row without an image to NULL.
    pub fn clear(&self, tid: pg_sys::ItemPointerData) -> Result<(), Failure> {
        let _identity = Identity::assume_for_code(self.owner);
        Spi::connect(|_| self.update(tid, None)).map(|_| ())
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
        let _identity = Identity::assume(self.owner).see_all_rows();
        match Spi::get_one_with_args::<String>(&query, &[tid.into()]) {
            Err(pgrx::spi::Error::InvalidPosition) => Ok(None),
            found => found.map_err(|error| internal(&format!("cannot read a row's key: {error}"))),
        }
    }

    /// Runs the update inside of SPI; false: it found no row.
    pub fn update(
        &self,
        mut tid: pg_sys::ItemPointerData,
        embedding: Option<Embedding>,
    ) -> Result<bool, Failure> {
        let nulls = [if embedding.is_some() { b' ' } else { b'n' }, b' ', 0];
        let value = embedding.and_then(IntoDatum::into_datum).unwrap_or(pg_sys::Datum::null());
        let mut values = [value, pg_sys::Datum::from(&raw mut tid)];
        // SAFETY: two values of the plan's types, which outlive the call.
        let (code, count) = unsafe {
            let nulls = nulls.as_ptr().cast();
            let code = pg_sys::SPI_execute_plan(self.plan.0, values.as_mut_ptr(), nulls, false, 0);
            (code, pg_sys::SPI_processed)
        };
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
        let mut cleared = Vec::new();
        {
            let _identity = Identity::assume_for_code(target.owner);
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

impl Row {
    /// Notes that the image cannot be encoded; an error where that stops the statement.
    pub fn fail(&self, failure: Failure) -> Result<(), Failure> {
        let target = &self.target;
        if target.binding.on_error == OnError::Stop {
            return Err(self.explain(failure));
        }
        // A row that is gone, or has another image by now, is none of this failure's business.
        let Some(tid) = self.latest() else { return Ok(()) };
        match target.key_at(tid, false)? {
            Some(key) => target.errors().record(&key, &failure, &target.model.name),
            None => Ok(()),
        }
    }

    fn write(&self, elements: &[half::f16]) -> Result<(), Failure> {
        if self.target.update(self.tid, Some(to_embedding(elements)?))? {
            return Ok(());
        }
        // Another trigger was there first: the row has a later version, or is gone.
        let Some(latest) = self.latest() else { return Ok(()) };
        if self.target.update(latest, Some(to_embedding(elements)?))? {
            return Ok(());
        }
        Err(self.refused())
    }

    /// An update that found the row and did not change it.
    pub fn refused(&self) -> Failure {
        Failure::new(
            Code::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
            format!("cannot write the embedding of a row of table {}", self.target.table),
        )
        .detail("A trigger or a row-level security policy kept the owner's update from the row.")
        .hint("Let the owner of the table update the attached column.")
    }

    /// The latest version of the row, if it still has the image that was encoded.
    pub fn latest(&self) -> Option<pg_sys::ItemPointerData> {
        let binding = &self.target.binding;
        // SAFETY: the relation is locked by the statement; the slot is its own, and dropped before
        // the relation is closed. Rows of this transaction cannot be pruned away.
        unsafe {
            let relation = pg_sys::table_open(self.target.relation, pg_sys::NoLock as i32);
            let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
            let mut tid = self.tid;
            let mut found = None;
            let any = &raw mut pg_sys::SnapshotAnyData;
            while pg_sys::table_tuple_fetch_row_version(relation, &mut tid, any, slot) {
                let mut copied = false;
                let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, &mut copied);
                let next = (*(*tuple).t_data).t_ctid;
                if same_place(next, tid) {
                    let image = Raw::of(tuple, binding.image, (*relation).rd_att);
                    let same = image.is_ok_and(|image| image.bytes() == Some(&*self.raw));
                    let own = &raw mut pg_sys::SnapshotSelfData;
                    if same && pg_sys::table_tuple_fetch_row_version(relation, &mut tid, own, slot)
                    {
                        found = Some(tid);
                    }
                    break;
                }
                // Gone to another partition, whose trigger has seen it as a new row.
                if pgrx::itemptr::item_pointer_get_block_number_no_check(next)
                    == pg_sys::InvalidBlockNumber
                {
                    break;
                }
                tid = next;
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            found
        }
    }

    /// Adds the place of the image to what is wrong with it.
    pub fn explain(&self, failure: Failure) -> Failure {
        let target = &self.target;
        let message = format!(
            "cannot encode column {} of table {}: {}",
            quoted(&target.image_name),
            target.table,
            failure.message
        );
        let key = self.key().unwrap_or_else(|| {
            let (block, offset) = pgrx::itemptr::item_pointer_get_both(self.tid);
            format!("(ctid)=({block},{offset})")
        });
        Failure { message, ..failure }.detail(format!("Failing row has {key}."))
    }

    /// The row's primary key, as constraint errors write it, if the current user may read it.
    fn key(&self) -> Option<String> {
        let columns = Spi::get_one_with_args::<Vec<String>>(
            "SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.position) \
             FROM pg_catalog.pg_index AS i, \
             pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (number, position), \
             pg_catalog.pg_attribute AS a \
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisprimary \
             AND a.attrelid OPERATOR(pg_catalog.=) $1 \
             AND a.attnum OPERATOR(pg_catalog.=) k.number \
             HAVING pg_catalog.bool_and(pg_catalog.has_column_privilege($1, a.attnum, 'SELECT')) \
             AND NOT pg_catalog.row_security_active($1)",
            &[self.target.relation.into()],
        )
        .ok()
        .flatten()?;
        let values: Vec<String> =
            columns.iter().map(|column| format!("{}::pg_catalog.text", quoted(column))).collect();
        let _identity = Identity::assume_for_code(self.target.owner);
        let row = Spi::get_one_with_args::<String>(
            &format!(
                "SELECT pg_catalog.concat_ws(', ', {}) FROM ONLY {} \
                 WHERE ctid OPERATOR(pg_catalog.=) $1::pg_catalog.tid",
                values.join(", "),
                self.target.table
            ),
            &[self.tid.into()],
        )
        .ok()
        .flatten()?;
        Some(format!("({})=({row})", columns.join(", ")))
    }
}

fn same_place(a: pg_sys::ItemPointerData, b: pg_sys::ItemPointerData) -> bool {
    pgrx::itemptr::item_pointer_get_both(a) == pgrx::itemptr::item_pointer_get_both(b)
}

/// The type below a domain.
fn base_type(oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a catalog lookup.
    unsafe { pg_sys::getBaseType(oid) }
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
