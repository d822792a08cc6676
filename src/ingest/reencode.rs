//! `CALL clip_reencode(table, model)`: another model for a column that is in use. A second column,
//! attached to the new model, is filled by the backfill while the old one is searched and both are
//! written; its indexes are built; then one short transaction puts it in the old one's place.
//!
//! Each part commits, and looks first at what an earlier call left, so a call that was cut short is
//! repeated and goes on. What depends on the old column, beside its indexes, is refused at the start.

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use super::attach::{open_owned, qualified};
use super::backfill::{self, commit, expect_commits};
use super::binding::{Binding, Mode, OnError};
use crate::encode::failure::Failure;
use crate::encode::models::{self, Model};
use crate::extension::{Extension, quoted};
use crate::{limits, read};

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
    for index in change.indexes()? {
        change.hold()?;
        if let Some(index) = change.indexes()?.into_iter().find(|other| other.name == index.name)
            && !index.there
        {
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

/// An index of the old column, and how it is built on the second one.
struct Index {
    name: String,
    schema: String,
    /// The second column's.
    next: String,
    create: String,
    there: bool,
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
        match state {
            Some(begun) if begun.digest == model.digest() => {}
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
        let function = super::binding::function(&self.extension, c"clip_ingest");
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

    /// Makes the second column, stored as the first.
    fn add(&self, model: &Model) -> Result<(), Failure> {
        let (table, next) = (&self.name, quoted(&self.next));
        let schema = self.extension.schema_name();
        run(&format!(
            "ALTER TABLE {table} ADD COLUMN {next} {schema}.embedding({})",
            model.dimensions
        ))?;
        let storage = self.text(
            "SELECT CASE attstorage::pg_catalog.text COLLATE pg_catalog.\"C\" \
             WHEN 'p'::pg_catalog.text THEN 'PLAIN' WHEN 'e'::pg_catalog.text THEN 'EXTERNAL' \
             WHEN 'm'::pg_catalog.text THEN 'MAIN' ELSE 'EXTENDED' END FROM pg_catalog.pg_attribute \
             WHERE attrelid OPERATOR(pg_catalog.=) $1 AND attname OPERATOR(pg_catalog.=) $2",
        )?;
        if let Some(storage) = storage {
            run(&format!("ALTER TABLE {table} ALTER COLUMN {next} SET STORAGE {storage}"))?;
        }
        self.attach(&self.next)
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

    /// The old column's indexes.
    fn indexes(&self) -> Result<Vec<Index>, Failure> {
        let query = "SELECT c.relname::pg_catalog.text, n.nspname::pg_catalog.text, \
             (SELECT pg_catalog.string_agg( \
                 CASE WHEN a.attname OPERATOR(pg_catalog.=) $2 THEN $3 \
                 ELSE pg_catalog.quote_ident(a.attname::pg_catalog.text) END \
                 OPERATOR(pg_catalog.||) CASE WHEN k.position OPERATOR(pg_catalog.>) i.indnkeyatts THEN '' ELSE \
                 pg_catalog.concat( \
                 CASE WHEN co.oid IS NOT NULL THEN pg_catalog.format(' COLLATE %I.%I', cn.nspname, co.collname) END, \
                 pg_catalog.format(' %I.%I', opn.nspname, op.opcname), \
                 CASE WHEN pg_catalog.pg_index_column_has_property(i.indexrelid, k.position::pg_catalog.int4, 'desc') THEN ' DESC' END, \
                 CASE WHEN pg_catalog.pg_index_column_has_property(i.indexrelid, k.position::pg_catalog.int4, 'nulls_first') THEN ' NULLS FIRST' \
                 WHEN pg_catalog.pg_index_column_has_property(i.indexrelid, k.position::pg_catalog.int4, 'nulls_last') THEN ' NULLS LAST' END) END, \
                 CASE WHEN k.position OPERATOR(pg_catalog.=) (i.indnkeyatts::pg_catalog.int8 OPERATOR(pg_catalog.+) 1) \
                 THEN ') INCLUDE (' ELSE ', ' END ORDER BY k.position) \
             FROM ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]), \
                 pg_catalog.unnest(i.indclass::pg_catalog.oid[]), \
                 pg_catalog.unnest(i.indcollation::pg_catalog.oid[])) \
                 WITH ORDINALITY AS k (number, class, coll, position) \
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid \
                 AND a.attnum OPERATOR(pg_catalog.=) k.number \
             LEFT JOIN pg_catalog.pg_opclass AS op ON op.oid OPERATOR(pg_catalog.=) k.class \
             LEFT JOIN pg_catalog.pg_namespace AS opn ON opn.oid OPERATOR(pg_catalog.=) op.opcnamespace \
             LEFT JOIN pg_catalog.pg_collation AS co ON co.oid OPERATOR(pg_catalog.=) k.coll \
             LEFT JOIN pg_catalog.pg_namespace AS cn ON cn.oid OPERATOR(pg_catalog.=) co.collnamespace), \
             m.amname::pg_catalog.text, pg_catalog.array_to_string(c.reloptions, ', '), \
             s.spcname::pg_catalog.text, \
             EXISTS (SELECT FROM pg_catalog.pg_class AS x WHERE x.relnamespace OPERATOR(pg_catalog.=) c.relnamespace \
                 AND x.relname OPERATOR(pg_catalog.=) pg_catalog.concat(pg_catalog.left(c.relname::pg_catalog.text, 50), $4) \
                 AND EXISTS (SELECT FROM pg_catalog.pg_index AS xi WHERE xi.indexrelid OPERATOR(pg_catalog.=) x.oid \
                 AND xi.indrelid OPERATOR(pg_catalog.=) $1)) \
             FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             JOIN pg_catalog.pg_am AS m ON m.oid OPERATOR(pg_catalog.=) c.relam \
             LEFT JOIN pg_catalog.pg_tablespace AS s ON s.oid OPERATOR(pg_catalog.=) c.reltablespace \
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND EXISTS (SELECT FROM pg_catalog.pg_attribute AS e \
             WHERE e.attrelid OPERATOR(pg_catalog.=) $1 AND e.attname OPERATOR(pg_catalog.=) $2 \
             AND e.attnum OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[])) ORDER BY c.oid";
        let next_column = quoted(&self.next);
        let arguments = [
            self.table.into(),
            self.embedding.as_str().into(),
            next_column.as_str().into(),
            SUFFIX.into(),
        ];
        read::all(query, &arguments, |row| {
            let text = |at| row.get::<String>(at);
            let name = text(1)?.unwrap_or_default();
            let next: String = name.chars().take(50).chain(SUFFIX.chars()).collect();
            let mut create = format!(
                "CREATE INDEX {} ON {} USING {} ({})",
                quoted(&next),
                self.name,
                quoted(text(4)?.unwrap_or_default()),
                text(3)?.unwrap_or_default()
            );
            if let Some(options) = text(5)? {
                create.push_str(&format!(" WITH ({options})"));
            }
            if let Some(tablespace) = text(6)? {
                create.push_str(&format!(" TABLESPACE {}", quoted(tablespace)));
            }
            let (schema, there) = (text(2)?.unwrap_or_default(), row.get(7)?);
            Ok(Index { name, schema, next, create, there: there.unwrap_or_default() })
        })
    }

    /// Puts the second column in the place of the first, in the present transaction.
    fn swap(&self) -> Result<(), Failure> {
        let (table, old, next) = (&self.name, quoted(&self.embedding), quoted(&self.next));
        run(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))?;
        self.refuse_dependents()?;
        let indexes = self.indexes()?;
        if let Some(index) = indexes.iter().find(|index| !index.there) {
            return Err(Failure::new(
                Code::ERRCODE_OBJECT_IN_USE,
                format!("index {} was made meanwhile", quoted(&index.name)),
            )
            .hint("Call clip_reencode again: it goes on where it stands."));
        }
        let grants = self.text(
            "SELECT pg_catalog.string_agg(pg_catalog.format('GRANT %s (%I) ON %s TO %s%s', \
             g.privilege_type, $2, $3, CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid \
             THEN 'PUBLIC' ELSE \
             pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text) END, \
             CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '; ') \
             FROM pg_catalog.pg_attribute AS a, pg_catalog.aclexplode(a.attacl) AS g \
             WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2",
        )?;
        self.detach(&self.embedding)?;
        // Under a name that no column has, since clip_detach and clip_attach forget a column's errors.
        self.rename_entries(&self.next, "")?;
        self.detach(&self.next)?;
        run(&format!("ALTER TABLE {table} DROP COLUMN {old}"))?;
        run(&format!("ALTER TABLE {table} RENAME COLUMN {next} TO {old}"))?;
        for index in &indexes {
            let built = format!("{}.{}", quoted(&index.schema), quoted(&index.next));
            run(&format!("ALTER INDEX {built} RENAME TO {}", quoted(&index.name)))?;
        }
        if let Some(grants) = grants {
            run(&grants)?;
        }
        self.attach(&self.embedding)?;
        self.rename_entries("", &self.embedding)
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

    /// The single text of a query on the table, the old column and the table's name.
    fn text(&self, query: &str) -> Result<Option<String>, Failure> {
        // Every query has all three, whether it uses them or not.
        let query = format!("{query} AND ($3 IS NOT NULL)");
        let arguments =
            [self.table.into(), self.embedding.as_str().into(), self.name.as_str().into()];
        read::one(&query, &arguments)
    }
}

/// Name of the second column of a column.
pub fn second_name(embedding: &str) -> String {
    let mut name = embedding.to_owned();
    while name.len() + SUFFIX.len() >= pg_sys::NAMEDATALEN as usize {
        name.pop();
    }
    name + SUFFIX
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
