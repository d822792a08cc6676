//! What the second column takes over from the first beside its values, and what of the triggers: as the
//! commands that make it so.

use super::Change;
use crate::catalog::extension::quoted;
use crate::catalog::read;
use crate::error::Failure;
use crate::models::binding;

/// Storage, compression, options, statistics target, comment and grants of the first column, for the second
/// column. Grants are the owner's then, whoever made them.
pub fn of_column(change: &Change) -> Result<Vec<String>, Failure> {
    const QUERY: &str = "SELECT u.command FROM pg_catalog.pg_attribute AS a, \
         pg_catalog.unnest(ARRAY[ \
         pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', $3, $4, \
         CASE WHEN a.attstorage OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\" THEN 'PLAIN' \
         WHEN a.attstorage OPERATOR(pg_catalog.=) 'e'::pg_catalog.\"char\" THEN 'EXTERNAL' \
         WHEN a.attstorage OPERATOR(pg_catalog.=) 'm'::pg_catalog.\"char\" THEN 'MAIN' ELSE 'EXTENDED' END), \
         pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s', $3, $4, \
         CASE WHEN a.attcompression OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\" THEN 'pglz' \
         WHEN a.attcompression OPERATOR(pg_catalog.=) 'l'::pg_catalog.\"char\" THEN 'lz4' ELSE 'DEFAULT' END), \
         pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', $3, $4, \
         COALESCE(a.attstattarget::pg_catalog.int4, -1)), \
         (SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', $3, $4, \
         pg_catalog.string_agg(pg_catalog.format('%I = %L', o.option_name, o.option_value), ', ')) \
         FROM pg_catalog.pg_options_to_table(a.attoptions) AS o \
         HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0::pg_catalog.int8), \
         pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', $3, $4, pg_catalog.col_description($1, a.attnum))] \
         OPERATOR(pg_catalog.||) ARRAY(SELECT pg_catalog.format('REVOKE ALL (%I) ON %s FROM %s CASCADE', $4, $3, g.grantee) \
         FROM pg_catalog.pg_attribute AS b, LATERAL ( \
         SELECT DISTINCT CASE WHEN e.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE \
         pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.grantee)::pg_catalog.text) END AS grantee \
         FROM pg_catalog.aclexplode(b.attacl) AS e) AS g \
         WHERE b.attrelid OPERATOR(pg_catalog.=) $1 AND b.attname OPERATOR(pg_catalog.=) $4) \
         OPERATOR(pg_catalog.||) ARRAY(SELECT pg_catalog.format('GRANT %s (%I) ON %s TO %s%s', g.privilege_type, $4, $3, \
         CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE \
         pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text) END, \
         CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
         FROM pg_catalog.aclexplode(a.attacl) AS g)) \
         WITH ORDINALITY AS u (command, number) \
         WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2 \
         AND u.command IS NOT NULL ORDER BY u.number";
    let arguments = [
        change.table.into(),
        change.embedding.as_str().into(),
        change.name.as_str().into(),
        change.next.as_str().into(),
    ];
    read::all(QUERY, &arguments, |row| Ok(row.get::<String>(1)?.unwrap_or_default()))
}

/// A trigger of an attached column.
#[derive(Debug)]
pub struct Trigger {
    pub name: String,
    /// As `ALTER TABLE` writes it.
    enabled: &'static str,
    comment: Option<String>,
}

impl Trigger {
    /// The commands that make another trigger, of the name it has, what this one was; its name as well where
    /// that is asked for.
    pub fn give(&self, table: &str, other: &str, name: bool) -> Vec<String> {
        let (own, other) = (quoted(&self.name), quoted(other));
        let mut commands = vec![format!("ALTER TABLE {table} {} TRIGGER {other}", self.enabled)];
        if let Some(comment) = self.comment.as_ref().filter(|_| name) {
            let comment = pgrx::spi::quote_literal(comment);
            commands.push(format!("COMMENT ON TRIGGER {other} ON {table} IS {comment}"));
        }
        if name && own != other {
            commands.push(format!("ALTER TRIGGER {other} ON {table} RENAME TO {own}"));
        }
        commands
    }
}

/// The triggers of an embedding: `clip_ingest`'s, and one of `clip_outdate`'s for each column that follows
/// its image, the last made last.
pub struct Triggers {
    pub ingest: Option<Trigger>,
    pub outdate: Vec<Trigger>,
}

impl Triggers {
    pub fn of(change: &Change, embedding: &str) -> Result<Self, Failure> {
        const QUERY: &str = "SELECT t.tgname::pg_catalog.text, t.tgenabled::pg_catalog.text, \
             pg_catalog.obj_description(t.oid, 'pg_trigger'), t.tgfoid OPERATOR(pg_catalog.=) $4 \
             FROM pg_catalog.pg_trigger AS t, pg_catalog.pg_attribute AS i, pg_catalog.pg_attribute AS e \
             WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 \
             AND i.attrelid OPERATOR(pg_catalog.=) $1 AND i.attname OPERATOR(pg_catalog.=) $2 \
             AND e.attrelid OPERATOR(pg_catalog.=) $1 AND e.attname OPERATOR(pg_catalog.=) $3 \
             AND (t.tgfoid OPERATOR(pg_catalog.=) $4 AND t.tgattr[1] OPERATOR(pg_catalog.=) e.attnum \
             OR t.tgfoid OPERATOR(pg_catalog.=) $5 AND t.tgattr[0] OPERATOR(pg_catalog.=) i.attnum) \
             ORDER BY t.oid";
        let function = |name| binding::function(&change.extension, name);
        let arguments = [
            change.table.into(),
            change.image.as_str().into(),
            embedding.into(),
            function(c"clip_ingest").into(),
            function(c"clip_outdate").into(),
        ];
        let mut found = Self { ingest: None, outdate: Vec::new() };
        read::all(QUERY, &arguments, |row| {
            let trigger = Trigger {
                name: row.get(1)?.unwrap_or_default(),
                enabled: match row.get::<String>(2)?.as_deref() {
                    Some("D") => "DISABLE",
                    Some("A") => "ENABLE ALWAYS",
                    Some("R") => "ENABLE REPLICA",
                    _ => "ENABLE",
                },
                comment: row.get(3)?,
            };
            match row.get::<bool>(4)? {
                Some(true) => found.ingest = Some(trigger),
                _ => found.outdate.push(trigger),
            }
            Ok(())
        })?;
        Ok(found)
    }
}
