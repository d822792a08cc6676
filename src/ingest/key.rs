//! A row's primary key as JSON: what rows are known by where they outlive a statement, since a ctid
//! changes with every update. In a file of its own, because errors, the queue and the backfill must
//! write and read keys alike.

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use crate::encode::failure::Failure;
use crate::extension::quoted;
use crate::read;

/// The primary key of a relation.
#[derive(Clone, Debug)]
pub struct Key {
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    /// Qualified and quoted for SQL.
    type_name: String,
    /// The equality of the key's index, as SQL writes it.
    equals: String,
    /// A cast to the type that the equality takes. An operator for the column's own type, a domain's
    /// say, would come first as the one that fits exactly. Empty where it takes any of a kind.
    taken_as: String,
}

impl Key {
    /// The primary key, if there is one.
    pub fn of(relation: pg_sys::Oid) -> Result<Option<Self>, Failure> {
        const QUERY: &str = "SELECT a.attname::pg_catalog.text, \
             pg_catalog.format('%I.%I', tn.nspname, t.typname), \
             pg_catalog.format('OPERATOR(%I.%s)', pn.nspname, o.oprname), \
             CASE WHEN it.typtype OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\" THEN '' \
             ELSE pg_catalog.format('::%I.%I', itn.nspname, it.typname) END \
             FROM pg_catalog.pg_index AS i, \
             ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]), \
             pg_catalog.unnest(i.indclass::pg_catalog.oid[])) \
             WITH ORDINALITY AS k (number, class, position), \
             pg_catalog.pg_attribute AS a, pg_catalog.pg_type AS t, pg_catalog.pg_namespace AS tn, \
             pg_catalog.pg_opclass AS c, pg_catalog.pg_amop AS m, pg_catalog.pg_operator AS o, \
             pg_catalog.pg_namespace AS pn, pg_catalog.pg_type AS it, pg_catalog.pg_namespace AS itn \
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisprimary \
             AND k.position OPERATOR(pg_catalog.<=) i.indnkeyatts \
             AND a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.=) k.number \
             AND t.oid OPERATOR(pg_catalog.=) a.atttypid \
             AND tn.oid OPERATOR(pg_catalog.=) t.typnamespace \
             AND c.oid OPERATOR(pg_catalog.=) k.class \
             AND m.amopfamily OPERATOR(pg_catalog.=) c.opcfamily \
             AND m.amoplefttype OPERATOR(pg_catalog.=) c.opcintype \
             AND m.amoprighttype OPERATOR(pg_catalog.=) c.opcintype \
             AND m.amopstrategy OPERATOR(pg_catalog.=) 3 \
             AND o.oid OPERATOR(pg_catalog.=) m.amopopr \
             AND pn.oid OPERATOR(pg_catalog.=) o.oprnamespace \
             AND it.oid OPERATOR(pg_catalog.=) o.oprleft \
             AND itn.oid OPERATOR(pg_catalog.=) it.typnamespace ORDER BY k.position";
        let columns = read::all(QUERY, &[relation.into()], |row| {
            Ok(Column {
                name: row.get(1)?.unwrap_or_default(),
                type_name: row.get(2)?.unwrap_or_default(),
                equals: row.get(3)?.unwrap_or_default(),
                taken_as: row.get(4)?.unwrap_or_default(),
            })
        })?;
        Ok((!columns.is_empty()).then_some(Self { columns }))
    }

    /// The columns' names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// An expression that makes the key's JSON, as text, from a row called `t`.
    pub fn of_row(&self) -> String {
        let pairs: Vec<String> = (self.columns())
            .map(|column| format!("{}, t.{}", pgrx::spi::quote_literal(column), quoted(column)))
            .collect();
        format!("pg_catalog.jsonb_build_object({})::pg_catalog.text", pairs.join(", "))
    }

    /// Whether a key was written when the columns had their present names.
    pub fn fits(&self, json: &str) -> bool {
        let parsed: Option<serde_json::Value> = serde_json::from_str(json).ok();
        parsed.is_some_and(|key| self.columns().all(|column| key.get(column).is_some()))
    }

    /// A condition on a row called `t`, where `json` is an expression of type jsonb.
    pub fn matches(&self, json: &str) -> String {
        let parts: Vec<String> = (self.columns.iter())
            .map(|column| {
                format!(
                    "t.{name}{taken_as} {equals} \
                     ({json} OPERATOR(pg_catalog.->>) {key}::pg_catalog.text)::{kind}{taken_as}",
                    name = quoted(&column.name),
                    taken_as = column.taken_as,
                    equals = column.equals,
                    key = pgrx::spi::quote_literal(&column.name),
                    kind = column.type_name
                )
            })
            .collect();
        parts.join(" AND ")
    }
}

/// Where rows must be known by their key and a table has none.
pub fn missing(table: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("table {table} has no primary key"),
    )
    .detail("Rows that fail or wait are known by it.")
    .hint("Add one with ALTER TABLE ... ADD PRIMARY KEY.")
}
