//! `CALL clip_reencode(table, model)`: another model for a column that is in use. A second column,
//! attached to the new model, is filled by the backfill while the old one is searched and both are
//! written; its indexes are built; then one short transaction puts it in the old one's place.
//!
//! Each part commits, and looks first at what an earlier call left, so a call that was cut short is
//! repeated and goes on. What else there is about the old column is taken over ([`indexes`], [`kept`]), or
//! refused at the start.

mod indexes;
mod kept;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use self::kept::Triggers;
use super::attach::{cut, open_owned};
use super::backfill;
use super::commits::{commit, expect_commits};
use crate::catalog::extension::{Extension, qualified, quoted};
use crate::catalog::read;
use crate::error::Failure;
use crate::limits;
use crate::models::binding::{self, Binding, Mode, OnError};
use crate::models::{self, Model};

/// What the names of the second column and its indexes end with.
const SUFFIX: &str = "_reencode";
/// The way where a table's columns are not its own.
const BY_HAND: &str = "In a partitioned table, add a second column, attach it to the model with \
     clip_attach and fill it with clip_backfill; then drop the first column and rename the second.";

#[pg_extern(sql = false)]
fn clip_reencode(
    table: Option<pg_sys::Oid>,
    model: Option<&str>,
    embedding: Option<&str>,
    batch: Option<i32>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (Some(table), Some(model), Some(embedding), Some(batch)) = (table, model, embedding, batch)
    else {
        return Err(Failure::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "the arguments of clip_reencode must not be NULL",
        )
        .into());
    };
    limits::option("embedding", Some(embedding))?;
    // SAFETY: a live call.
    unsafe { expect_commits(fcinfo, "clip_reencode")? };
    let batch = backfill::rows_of_batch(batch)?;
    let extension = Extension::of_call(fcinfo);
    let change = Change::begin(&extension, table, model, embedding)?;
    commit();
    backfill::run(&extension, table, &change.next, batch, false)?;
    commit();
    let mut change = change;
    change.hold()?;
    for index in indexes::all(&change)? {
        change.hold()?;
        let found = indexes::all(&change)?.into_iter().find(|found| found.number == index.number);
        if let Some(index) = found.filter(|found| !found.is_built()) {
            run(&index.create)?;
        }
        commit();
    }
    change.hold()?;
    change.swap()?;
    Ok(())
}

/// A change of model under way.
struct Change {
    extension: Extension,
    table: pg_sys::Oid,
    /// Qualified and quoted.
    name: String,
    model: String,
    image: String,
    embedding: String,
    /// The second column.
    next: String,
    /// The first column's attachment.
    binding: Binding,
    /// Its attributes, as the option of `clip_attach`.
    attributes: Option<String>,
}

impl Change {
    /// Checks what can be checked, and makes the second column unless it is there.
    fn begin(
        extension: &Extension,
        table: pg_sys::Oid,
        model: &str,
        embedding: &str,
    ) -> Result<Self, Failure> {
        let (name, image, attributes, binding, next) = {
            let relation = open_owned(table)?;
            let name = qualified(&relation);
            if !relation.is_table() {
                return Err(Failure::new(
                    Code::ERRCODE_WRONG_OBJECT_TYPE,
                    format!("{name} is a partitioned table"),
                )
                .hint(BY_HAND));
            }
            let columns = relation.tuple_desc();
            let column = |number: i16| {
                columns.get(number as usize - 1).map_or("", |column| column.name()).to_owned()
            };
            let bindings = Binding::all(extension, &relation)?;
            let of = |wanted: &str| bindings.iter().find(|b| column(b.embedding) == wanted);
            let Some(binding) = of(embedding).cloned() else {
                return Err(Failure::new(
                    Code::ERRCODE_UNDEFINED_OBJECT,
                    format!("column {} of table {name} is not attached", quoted(embedding)),
                )
                .hint("The view clip_columns lists the attached columns."));
            };
            if binding.inherited {
                return Err(Failure::new(
                    Code::ERRCODE_WRONG_OBJECT_TYPE,
                    format!(
                        "table {name} is attached through the partitioned table that it belongs to"
                    ),
                )
                .hint(BY_HAND));
            }
            let next = second_name(embedding);
            let there = columns.iter().any(|c| !c.attisdropped && c.name() == next);
            let state = match (there, of(&next)) {
                (false, _) => None,
                (true, Some(binding)) => Some(binding.clone()),
                (true, None) => return Err(occupied(&name, &next)),
            };
            let attributes = binding.attributes.as_ref().map(|a| a.option(column));
            (name, column(binding.image), attributes, binding, (next, state))
        };
        let (next, state) = next;
        let model = models::resolve(extension, Some(model))?;
        if model.digest() == binding.digest {
            return Err(Failure::new(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "column {} of table {name} has model \"{}\" already",
                    quoted(embedding),
                    model.name
                ),
            ));
        }
        let change = Self {
            extension: *extension,
            table,
            name,
            model: model.name.clone(),
            image,
            embedding: embedding.to_owned(),
            next,
            binding,
            attributes,
        };
        change.refuse_relatives()?;
        change.refuse_dependents()?;
        change.refuse_what_would_be_lost()?;
        match state {
            Some(begun) if change.is_begun(&begun, &model) => {}
            // The first column was attached otherwise meanwhile.
            Some(begun) if begun.digest == model.digest() => {
                change.detach(&change.next)?;
                change.attach(&change.next)?;
                change.switch_like_first()?;
            }
            Some(begun) => {
                return Err(occupied(&change.name, &change.next)
                    .detail(format!("A change to model \"{}\" was begun.", begun.model)));
            }
            None => change.add(&model)?,
        }
        Ok(change)
    }

    /// Columns of tables that inherit from each other go together.
    fn refuse_relatives(&self) -> Result<(), Failure> {
        let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i \
             WHERE i.inhparent OPERATOR(pg_catalog.=) $1 OR i.inhrelid OPERATOR(pg_catalog.=) $1)";
        match read::one::<bool>(query, &[self.table.into()])? {
            Some(false) => Ok(()),
            _ => Err(Failure::new(
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("table {} inherits from another, or another from it", self.name),
            )
            .hint(BY_HAND)),
        }
    }

    /// Locks the table until the transaction ends, and learns what it is called now: between two
    /// transactions it may have been renamed, and another be called as it was.
    fn hold(&mut self) -> Result<(), Failure> {
        let relation = open_owned(self.table)?;
        self.name = qualified(&relation);
        Ok(())
    }

    /// Views, generated columns and constraints would have to be made anew by whoever knows them.
    fn refuse_dependents(&self) -> Result<(), Failure> {
        let query = "SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) \
             FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_attribute AS a \
             ON a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2 \
             LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid OPERATOR(pg_catalog.=) d.objid \
             AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
             LEFT JOIN pg_catalog.pg_trigger AS t ON t.oid OPERATOR(pg_catalog.=) d.objid \
             AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass \
             WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
             AND d.refobjid OPERATOR(pg_catalog.=) $1 AND d.refobjsubid OPERATOR(pg_catalog.=) a.attnum \
             AND (t.oid IS NULL OR t.tgfoid OPERATOR(pg_catalog.<>) $3) \
             AND (i.indexrelid IS NULL OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL \
             OR i.indisunique OR NOT i.indisvalid OR EXISTS (SELECT FROM pg_catalog.pg_attribute AS o \
             WHERE o.attrelid OPERATOR(pg_catalog.=) i.indexrelid AND o.attoptions IS NOT NULL)) LIMIT 1";
        let function = binding::function(&self.extension, c"clip_ingest");
        let arguments = [self.table.into(), self.embedding.as_str().into(), function.into()];
        match read::one::<String>(query, &arguments)? {
            None => Ok(()),
            Some(dependent) => Err(Failure::new(
                Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                format!(
                    "cannot change the model of column {} of table {} because {dependent} depends on it",
                    quoted(&self.embedding),
                    self.name
                ),
            )
            .detail("Plain indexes are built anew; anything else would be lost.")
            .hint("Drop it first, and make it again afterwards.")),
        }
    }

    /// What could be neither taken over nor seen among the dependents.
    fn refuse_what_would_be_lost(&self) -> Result<(), Failure> {
        let query = "SELECT CASE WHEN a.attnotnull THEN 'is NOT NULL' \
             WHEN t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog.\"char\" THEN 'is of a domain' \
             WHEN EXISTS (SELECT FROM pg_catalog.pg_seclabel AS l \
             WHERE l.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
             AND l.objoid OPERATOR(pg_catalog.=) $1 \
             AND l.objsubid OPERATOR(pg_catalog.=) a.attnum::pg_catalog.int4) THEN 'has a security label' END \
             FROM pg_catalog.pg_attribute AS a \
             JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
             WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2";
        match read::one::<String>(query, &[self.table.into(), self.embedding.as_str().into()])? {
            None => Ok(()),
            Some(what) => Err(Failure::new(
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!(
                    "cannot change the model of column {} of table {} because it {what}",
                    quoted(&self.embedding),
                    self.name
                ),
            )
            .detail("The second column, which takes its place, would not be.")
            .hint("Take that from the column first, and give it back afterwards.")),
        }
    }

    /// Whether the second column is attached as this change would attach it.
    fn is_begun(&self, begun: &Binding, model: &Model) -> bool {
        let first = &self.binding;
        begun.digest == model.digest()
            && begun.model == model.name
            && begun.image == first.image
            && begun.mode == first.mode
            && begun.on_error == first.on_error
            && begun.root == first.root
            && begun.attributes == first.attributes
    }

    /// Makes the second column, like the first.
    fn add(&self, model: &Model) -> Result<(), Failure> {
        let (table, next) = (&self.name, quoted(&self.next));
        let schema = self.extension.schema_name();
        let modified = read::one::<bool>(
            "SELECT atttypmod OPERATOR(pg_catalog.>=) 0 FROM pg_catalog.pg_attribute \
             WHERE attrelid OPERATOR(pg_catalog.=) $1 AND attname OPERATOR(pg_catalog.=) $2",
            &[self.table.into(), self.embedding.as_str().into()],
        )?;
        let dimensions = match modified {
            Some(true) => format!("({})", model.dimensions),
            _ => String::new(),
        };
        run(&format!("ALTER TABLE {table} ADD COLUMN {next} {schema}.embedding{dimensions}"))?;
        kept::of_column(self)?.iter().try_for_each(|command| run(command))?;
        self.attach(&self.next)?;
        self.switch_like_first()
    }

    /// Rows that the first column's trigger does not see, as those of a replication, the second's does
    /// not, and the other way round.
    fn switch_like_first(&self) -> Result<(), Failure> {
        let first = Triggers::of(self, &self.embedding)?;
        let next = Triggers::of(self, &self.next)?;
        let pairs = first.ingest.iter().zip(&next.ingest);
        // Those of the image are all alike, but for the last one, which has just come.
        let outdate =
            next.outdate.split_last().and_then(|(new, known)| Some((known.first()?, new)));
        let pairs = pairs.chain(outdate);
        for (first, next) in pairs {
            for command in first.give(&self.name, &next.name, false) {
                run(&command)?;
            }
        }
        Ok(())
    }

    fn attach(&self, column: &str) -> Result<(), Failure> {
        // Cast to the types that it is declared with: a function of the same name that fits better would
        // come first.
        let text = "pg_catalog.text";
        let query = format!(
            "SELECT {}.clip_attach($1::pg_catalog.regclass, $2::{text}, $3::{text}, $4::{text}, \
             $5::{text}, $6::{text}, $7::{text}, $8::{text})",
            self.extension.schema_name()
        );
        let mode = if self.binding.mode == Mode::Async { "async" } else { "sync" };
        let on_error = if self.binding.on_error == OnError::Null { "null" } else { "stop" };
        read::execute(
            &query,
            &[
                self.table.into(),
                self.image.as_str().into(),
                column.into(),
                self.model.as_str().into(),
                mode.into(),
                on_error.into(),
                self.binding.root.as_deref().into(),
                self.attributes.as_deref().into(),
            ],
        )
    }

    fn detach(&self, column: &str) -> Result<(), Failure> {
        let query = format!(
            "SELECT {}.clip_detach($1::pg_catalog.regclass, $2::pg_catalog.text)",
            self.extension.schema_name()
        );
        read::execute(&query, &[self.table.into(), column.into()])
    }

    /// Puts the second column in the place of the first, in the present transaction.
    fn swap(&self) -> Result<(), Failure> {
        let (table, old, next) = (&self.name, quoted(&self.embedding), quoted(&self.next));
        run(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))?;
        self.refuse_relatives()?;
        self.refuse_dependents()?;
        self.refuse_what_would_be_lost()?;
        let indexes = indexes::all(self)?;
        if let Some(index) = indexes.iter().find(|index| !index.is_built()) {
            return Err(Failure::new(
                Code::ERRCODE_OBJECT_IN_USE,
                format!("index {} was made meanwhile", quoted(&index.name)),
            )
            .hint("Call clip_reencode again: it goes on where it stands."));
        }
        kept::of_column(self)?.iter().try_for_each(|command| run(command))?;
        let before = Triggers::of(self, &self.embedding)?;
        let second = Triggers::of(self, &self.next)?.ingest;
        self.detach(&self.embedding)?;
        run(&format!("ALTER TABLE {table} DROP COLUMN {old}"))?;
        run(&format!("ALTER TABLE {table} RENAME COLUMN {next} TO {old}"))?;
        let mut commands: Vec<String> =
            indexes.iter().flat_map(|index| index.replace(table)).collect();
        // The second column's triggers follow it; they take the names and the states of the first's.
        if let Some((first, second)) = before.ingest.as_ref().zip(second) {
            commands.extend(first.give(table, &second.name, true));
        }
        let left = Triggers::of(self, &self.embedding)?.outdate;
        let is_left = |name: &str| left.iter().any(|trigger| trigger.name == name);
        let dropped = before.outdate.iter().find(|trigger| !is_left(&trigger.name));
        let second = left.last();
        if let Some((first, second)) = dropped.zip(second) {
            commands.extend(first.give(table, &second.name, true));
        }
        commands.iter().try_for_each(|command| run(command))?;
        self.rename_entries(&self.next, &self.embedding)
    }

    /// What the extension's tables say about a column, said about another.
    fn rename_entries(&self, from: &str, to: &str) -> Result<(), Failure> {
        let _owner = self.extension.as_owner();
        let run_table = self.extension.relation("clip_backfill_run");
        let ours = "relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1 \
                    AND embedding OPERATOR(pg_catalog.=) $2::pg_catalog.name";
        read::execute(
            &format!("DELETE FROM {run_table} WHERE {ours}"),
            &[self.table.into(), to.into()],
        )?;
        for table in ["clip_error", "clip_queue", "clip_backfill_run"] {
            let table = self.extension.relation(table);
            read::execute(
                &format!("UPDATE {table} SET embedding = $3::pg_catalog.name WHERE {ours}"),
                &[self.table.into(), from.into(), to.into()],
            )?;
        }
        Ok(())
    }
}

/// Name of the second column of a column.
pub fn second_name(embedding: &str) -> String {
    cut(embedding, SUFFIX)
}

fn occupied(table: &str, column: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_DUPLICATE_COLUMN,
        format!("table {table} has a column {} already", quoted(column)),
    )
    .hint("It is the name of the second column: drop or rename it first.")
}

fn run(command: &str) -> Result<(), Failure> {
    read::execute(command, &[])
}
