//! The indexes of a column that gets another model: how each is built on the second column, and which of
//! that column's indexes is its counterpart. That is told by what they are, not by a name, which somebody
//! may have taken: the server names the new ones until they take the old ones' places.

use super::Change;
use crate::catalog::extension::quoted;
use crate::catalog::read;
use crate::error::Failure;

/// An index of the old column.
pub struct Index {
    pub number: i64,
    pub name: String,
    schema: String,
    pub create: String,
    /// The name of its counterpart, once that is built.
    built: Option<String>,
    comment: Option<String>,
    clustered: bool,
}

impl Index {
    pub fn is_built(&self) -> bool {
        self.built.is_some()
    }

    /// The commands that put its counterpart into its place, once it is dropped.
    pub fn replace(&self, table: &str) -> Vec<String> {
        let index = format!("{}.{}", quoted(&self.schema), quoted(&self.name));
        let built = self.built.as_ref().map(|built| {
            let built = format!("{}.{}", quoted(&self.schema), quoted(built));
            format!("ALTER INDEX {built} RENAME TO {}", quoted(&self.name))
        });
        let comment = self.comment.as_ref().map(|comment| {
            format!("COMMENT ON INDEX {index} IS {}", pgrx::spi::quote_literal(comment))
        });
        let cluster = self
            .clustered
            .then(|| format!("ALTER TABLE {table} CLUSTER ON {}", quoted(&self.name)));
        [built, comment, cluster].into_iter().flatten().collect()
    }
}

/// Two indexes are alike if they differ in the column alone. `n` numbers those that are alike, so that each
/// has a counterpart of its own.
const QUERY: &str = "\
WITH k (old, next) AS (SELECT a.attnum, b.attnum \
    FROM pg_catalog.pg_attribute AS a, pg_catalog.pg_attribute AS b \
    WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2 \
    AND b.attrelid OPERATOR(pg_catalog.=) $1 AND b.attname OPERATOR(pg_catalog.=) $3), \
x AS (SELECT i.*, c.relname, c.relnamespace, c.relam, c.reloptions, c.reltablespace, \
    k.old OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[]) AS is_old, \
    pg_catalog.concat_ws(' ', c.relam, i.indnkeyatts, i.indclass, i.indcollation, i.indoption, c.reltablespace, \
        pg_catalog.array_replace(i.indkey::pg_catalog.int2[], k.old, k.next), c.reloptions) AS looks \
    FROM k, pg_catalog.pg_index AS i \
    JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
    WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisvalid AND NOT i.indisunique \
    AND i.indexprs IS NULL AND i.indpred IS NULL \
    AND (k.old OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[]) \
    OR k.next OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[])) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS o \
    WHERE o.attrelid OPERATOR(pg_catalog.=) i.indexrelid AND o.attoptions IS NOT NULL)), \
y AS (SELECT x.*, pg_catalog.row_number() OVER (PARTITION BY x.is_old, x.looks ORDER BY x.indexrelid) AS n FROM x) \
SELECT i.indexrelid::pg_catalog.int8, i.relname::pg_catalog.text, n.nspname::pg_catalog.text, \
(SELECT pg_catalog.string_agg( \
    CASE WHEN a.attname OPERATOR(pg_catalog.=) $2 THEN pg_catalog.quote_ident($3) \
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
m.amname::pg_catalog.text, \
(SELECT pg_catalog.string_agg(pg_catalog.format('%I = %L', o.option_name, o.option_value), ', ') \
FROM pg_catalog.pg_options_to_table(i.reloptions) AS o), \
s.spcname::pg_catalog.text, \
(SELECT b.relname::pg_catalog.text FROM y AS b WHERE NOT b.is_old \
AND b.looks OPERATOR(pg_catalog.=) i.looks AND b.n OPERATOR(pg_catalog.=) i.n), \
pg_catalog.obj_description(i.indexrelid, 'pg_class'), i.indisclustered \
FROM y AS i JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) i.relnamespace \
JOIN pg_catalog.pg_am AS m ON m.oid OPERATOR(pg_catalog.=) i.relam \
JOIN pg_catalog.pg_tablespace AS s ON s.oid OPERATOR(pg_catalog.=) \
    CASE WHEN i.reltablespace OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN ( \
    SELECT d.dattablespace FROM pg_catalog.pg_database AS d \
    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
    ELSE i.reltablespace END \
WHERE i.is_old ORDER BY i.indexrelid";

/// The old column's indexes.
pub fn all(change: &Change) -> Result<Vec<Index>, Failure> {
    let arguments =
        [change.table.into(), change.embedding.as_str().into(), change.next.as_str().into()];
    read::all(QUERY, &arguments, |row| {
        let text = |at| row.get::<String>(at);
        // Without a name, which the server finds. With the tablespace, whatever is the session's default.
        let mut create = format!(
            "CREATE INDEX ON {} USING {} ({})",
            change.name,
            quoted(text(5)?.unwrap_or_default()),
            text(4)?.unwrap_or_default()
        );
        if let Some(options) = text(6)? {
            create.push_str(&format!(" WITH ({options})"));
        }
        if let Some(tablespace) = text(7)? {
            create.push_str(&format!(" TABLESPACE {}", quoted(tablespace)));
        }
        Ok(Index {
            number: row.get(1)?.unwrap_or_default(),
            name: text(2)?.unwrap_or_default(),
            schema: text(3)?.unwrap_or_default(),
            create,
            built: text(8)?,
            comment: text(9)?,
            clustered: row.get(10)?.unwrap_or_default(),
        })
    })
}
