//! The reference: pages made of the catalog of a running server and of its settings. What a page says
//! about an object is the object's COMMENT, so there is one place to write it: `sql/`, or `settings.rs`.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::workspace;
use postgres::Client;

use crate::fixture::Fixture;
use crate::{blessing, errors};

/// One page.
pub struct Part {
    pub name: &'static str,
    title: &'static str,
    make: fn(&mut Client) -> Result<String>,
}

pub const PARTS: [Part; 5] = [
    Part { name: "functions", title: "Functions and procedures", make: functions },
    Part { name: "types", title: "Types, operators and operator classes", make: types },
    Part { name: "views", title: "Views and tables", make: views },
    Part { name: "settings", title: "Settings", make: settings },
    Part { name: "errors", title: "Error codes", make: errors::reference },
];

/// Members of the extension in one catalog, as a condition on its oid.
const MEMBERS: &str = "(SELECT d.objid FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid \
     WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname LIKE 'pgclip%'";

fn members(catalog: &str) -> String {
    format!("{MEMBERS} AND d.classid = '{catalog}'::regclass)")
}

impl Part {
    pub fn check(&self, fixture: &Fixture) -> Result<()> {
        let mut client = fixture.session()?;
        if fixture.has_pgvector() {
            client.batch_execute(
                "SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS vector; \
                 SELECT pg_advisory_lock(1); CREATE EXTENSION IF NOT EXISTS pgclip_pgvector; \
                 SELECT pg_advisory_unlock(1)",
            )?;
        }
        let made = (self.make)(&mut client)?;
        let text = format!(
            "# {}\n\n<!-- written by `make docs-bless` from the server's catalog and the source: change it there -->\n\n{made}",
            self.title
        );
        let file = workspace().join("docs/reference").join(self.name).with_extension("md");
        if blessing() {
            fs::create_dir_all(file.parent().context("no folder")?)?;
            return Ok(fs::write(&file, text)?);
        }
        let written = fs::read_to_string(&file).unwrap_or_default();
        let differs = text.lines().zip(written.lines()).find(|(new, old)| new != old);
        ensure!(
            text == written,
            "{} is not what the server says; `make docs-bless` writes it anew. First difference: {differs:?}",
            file.display()
        );
        Ok(())
    }
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace("{}", "`{}`")
}

/// Defaults as they are written, without the casts that the catalog adds.
fn without_casts(arguments: &str) -> String {
    let mut text = String::new();
    for (number, part) in arguments.split("::").enumerate() {
        // Behind a cast the next argument begins with a comma.
        let end = if number == 0 { 0 } else { part.find(',').unwrap_or(part.len()) };
        text += &part[end..];
    }
    text
}

/// Functions that a person calls are apart from those that the system calls, which have arguments or
/// results of its own, make a cast or an aggregate, or may not be called by everybody.
fn functions(client: &mut Client) -> Result<String> {
    let rows = client.query(
        &format!(
            "SELECT p.proname::text, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), \
                    p.prokind::text, p.provolatile::text, p.proparallel::text, coalesce(obj_description(p.oid, 'pg_proc'), ''), \
                    p.prokind <> 'a' AND (p.prorettype IN ('trigger'::regtype, 'index_am_handler'::regtype, 'internal'::regtype, 'cstring'::regtype) \
                    OR 'internal'::regtype = ANY (p.proargtypes::oid[]) OR 'cstring'::regtype = ANY (p.proargtypes::oid[]) \
                    OR EXISTS (SELECT FROM pg_cast AS c WHERE c.castfunc = p.oid) \
                    OR EXISTS (SELECT FROM pg_amproc AS s WHERE s.amproc = p.oid) \
                    OR NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0) \
                    OR p.proname ~ '^(clip_builtin|clip_encoder|clip_standing|clip_dumped|embedding_)') AS internal, \
                    p.oid::regprocedure::text \
             FROM pg_proc AS p WHERE p.oid IN {} \
             ORDER BY p.proname COLLATE \"C\", pg_get_function_identity_arguments(p.oid) COLLATE \"C\"",
            members("pg_proc")
        ),
        &[],
    )?;
    let mut text = String::from(
        "Arguments are given by name (`k => 5`) or by place; those with a default may be left out.\n\n",
    );
    let (mut inner, mut last) = (String::new(), String::new());
    for row in &rows {
        let (name, kind): (String, String) = (row.get(0), row.get(3));
        let arguments = without_casts(row.get(1));
        let result: Option<String> = row.get(2);
        let comment: String = row.get(6);
        if row.get::<_, bool>(7) {
            writeln!(inner, "| `{}` | {} |", row.get::<_, &str>(8), cell(&comment))?;
            continue;
        }
        let call = if kind == "p" { "CALL " } else { "" };
        let mut signature = format!("{call}{name}({arguments})");
        if signature.len() > 90 {
            let arguments = arguments.replace(", ", ",\n    ");
            signature = format!("{call}{name}(\n    {arguments}\n)");
        }
        if let Some(result) = result.filter(|_| kind != "p") {
            write!(signature, " → {result}")?;
        }
        let volatile = match row.get::<_, &str>(4) {
            "i" => "IMMUTABLE",
            "s" => "STABLE",
            _ => "VOLATILE",
        };
        let parallel = match row.get::<_, &str>(5) {
            "s" => "PARALLEL SAFE",
            "r" => "PARALLEL RESTRICTED",
            _ => "PARALLEL UNSAFE",
        };
        let what = match kind.as_str() {
            "p" => "A procedure that commits: it runs in no transaction block.".to_owned(),
            "a" => "An aggregate.".to_owned(),
            _ => format!("{volatile}, {parallel}."),
        };
        // One heading for functions of one name.
        if name != last {
            writeln!(text, "## {name}\n")?;
        }
        writeln!(text, "```text\n{signature}\n```\n\n{}\n\n{what}\n", sentence(&comment))?;
        last = name;
    }
    writeln!(
        text,
        "## What the system calls\n\n| function | what |\n| --- | --- |\n{}",
        inner.trim_end()
    )?;
    Ok(text)
}

/// A comment as a sentence.
fn sentence(comment: &str) -> String {
    let mut letters = comment.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let end = if comment.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

fn types(client: &mut Client) -> Result<String> {
    let mut text = String::from("## Types\n\n| type | what |\n| --- | --- |\n");
    let types = format!(
        "SELECT format_type(t.oid, NULL), coalesce(obj_description(t.oid, 'pg_type'), ''), \
                (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) \
                 FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0) \
         FROM pg_type AS t LEFT JOIN pg_class AS c ON c.oid = t.typrelid \
         WHERE t.oid IN {} AND t.typcategory <> 'A' AND (t.typrelid = 0 OR c.relkind = 'c') ORDER BY 1",
        members("pg_type")
    );
    for row in client.query(&types, &[])? {
        let columns: Option<String> = row.get(2);
        let columns = columns.map(|columns| format!(": `({columns})`")).unwrap_or_default();
        writeln!(text, "| `{}` | {}{columns} |", row.get::<_, &str>(0), cell(row.get(1)))?;
    }
    text += "\n## Operators\n\n| operator | gives | what |\n| --- | --- | --- |\n";
    let operators = format!(
        "SELECT format_type(o.oprleft, NULL) || ' ' || o.oprname || ' ' || format_type(o.oprright, NULL), \
                format_type(o.oprresult, NULL), coalesce(obj_description(o.oid, 'pg_operator'), '') \
         FROM pg_operator AS o WHERE o.oid IN {} ORDER BY o.oprname COLLATE \"C\"",
        members("pg_operator")
    );
    for row in client.query(&operators, &[])? {
        writeln!(
            text,
            "| `{}` | {} | {} |",
            row.get::<_, &str>(0),
            row.get::<_, &str>(1),
            cell(row.get(2))
        )?;
    }
    text += "\n## Casts\n\nThose to and from `halfvec` and `vector` come with the extension `pgclip_pgvector`.\n\n\
             | from | to | when | what |\n| --- | --- | --- | --- |\n";
    let casts = format!(
        "SELECT format_type(c.castsource, NULL), format_type(c.casttarget, NULL), \
                CASE c.castcontext WHEN 'i' THEN 'implicit' WHEN 'a' THEN 'on assignment' ELSE 'explicit' END, \
                coalesce(obj_description(c.oid, 'pg_cast'), '') \
         FROM pg_cast AS c WHERE c.oid IN {} ORDER BY 1, 2",
        members("pg_cast")
    );
    for row in client.query(&casts, &[])? {
        let (from, to): (&str, &str) = (row.get(0), row.get(1));
        writeln!(text, "| `{from}` | `{to}` | {} | {} |", row.get::<_, &str>(2), cell(row.get(3)))?;
    }
    text += "\n## Access method\n\n| access method | what |\n| --- | --- |\n";
    let methods = format!(
        "SELECT a.amname::text, coalesce(obj_description(a.oid, 'pg_am'), '') FROM pg_am AS a WHERE a.oid IN {}",
        members("pg_am")
    );
    for row in client.query(&methods, &[])? {
        writeln!(text, "| `{}` | {} |", row.get::<_, &str>(0), cell(row.get(1)))?;
    }
    text += "\n## Operator classes\n\n| class | access method | type | operators | what |\n| --- | --- | --- | --- | --- |\n";
    let classes = format!(
        "SELECT c.opcname::text, m.amname::text, format_type(c.opcintype, NULL), c.opcdefault, \
                (SELECT string_agg('`' || o.oprname || '`', ' ' ORDER BY p.amopstrategy) \
                 FROM pg_amop AS p JOIN pg_operator AS o ON o.oid = p.amopopr \
                 WHERE p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype), \
                coalesce(obj_description(c.oid, 'pg_opclass'), '') \
         FROM pg_opclass AS c JOIN pg_am AS m ON m.oid = c.opcmethod WHERE c.oid IN {} \
         ORDER BY m.amname, c.opcname COLLATE \"C\"",
        members("pg_opclass")
    );
    for row in client.query(&classes, &[])? {
        let default = if row.get::<_, bool>(3) { ", the default" } else { "" };
        writeln!(
            text,
            "| `{}` | `{}` | `{}`{default} | {} | {} |",
            row.get::<_, &str>(0),
            row.get::<_, &str>(1),
            row.get::<_, &str>(2),
            cell(row.get::<_, Option<&str>>(4).unwrap_or_default()),
            cell(row.get(5))
        )?;
    }
    Ok(text)
}

/// Which relations everybody may read.
const PUBLIC: &str = "EXISTS (SELECT FROM aclexplode(c.relacl) AS a WHERE a.grantee = 0 AND a.privilege_type = 'SELECT')";

fn views(client: &mut Client) -> Result<String> {
    let mut text = String::from(
        "Everybody may read these; each shows what concerns tables that the caller may read.\n\n",
    );
    let mut inner = String::new();
    let relations = format!(
        "SELECT c.oid, c.relname::text, c.relkind::text, coalesce(obj_description(c.oid, 'pg_class'), ''), {PUBLIC} \
         FROM pg_class AS c WHERE c.oid IN {} AND c.relkind IN ('r', 'v') ORDER BY c.relname COLLATE \"C\"",
        members("pg_class")
    );
    for row in client.query(&relations, &[])? {
        let (name, comment): (&str, &str) = (row.get(1), row.get(3));
        if !row.get::<_, bool>(4) || name == "clip_dump" {
            writeln!(inner, "| `{name}` | {} |", cell(comment))?;
            continue;
        }
        let kind = if row.get::<_, &str>(2) == "v" { "A view" } else { "A table" };
        writeln!(
            text,
            "## {name}\n\n{kind}: {}.\n\n| column | type | what |\n| --- | --- | --- |",
            cell(comment)
        )?;
        let columns = client.query(
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), coalesce(col_description(a.attrelid, a.attnum), '') \
             FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[&row.get::<_, u32>(0)],
        )?;
        for column in columns {
            let (name, kind): (&str, &str) = (column.get(0), column.get(1));
            writeln!(text, "| `{name}` | {kind} | {} |", cell(column.get(2)))?;
        }
        text.push('\n');
    }
    writeln!(
        text,
        "## What the extension keeps for itself\n\n| table or view | what |\n| --- | --- |\n{}",
        inner.trim_end()
    )?;
    Ok(text)
}

fn settings(client: &mut Client) -> Result<String> {
    let rows = client.query(
        "SELECT name, vartype, context, coalesce(unit, ''), coalesce(boot_val, ''), coalesce(min_val, ''), coalesce(max_val, ''), \
                coalesce(array_to_string(enumvals, ', '), ''), short_desc, coalesce(extra_desc, '') \
         FROM pg_settings WHERE name LIKE 'pgclip.%' ORDER BY name COLLATE \"C\"",
        &[],
    )?;
    let mut text = String::new();
    let parts = [
        ("Of a session", "user", "Anybody sets them, for a session, a role or a database."),
        (
            "Of the server",
            "sighup",
            "They concern the one encoder of the cluster: the server's configuration alone sets them, and a reload \
             (`SELECT pg_reload_conf()`) restarts the encoder where they changed.",
        ),
    ];
    let mut told = 0;
    for (title, context, what) in parts {
        writeln!(
            text,
            "## {title}\n\n{what}\n\n| setting | default | values | what |\n| --- | --- | --- | --- |"
        )?;
        for row in rows.iter().filter(|row| row.get::<_, &str>(2) == context) {
            told += 1;
            let (kind, unit, default): (&str, &str, &str) = (row.get(1), row.get(3), row.get(4));
            let values = match kind {
                "enum" => row.get::<_, &str>(7).replace(", ", "`, `"),
                "bool" => "on`, `off".into(),
                "string" => "text".into(),
                _ => {
                    let (least, most) = (amount(row.get(5), unit), amount(row.get(6), unit));
                    format!("{least} to {most}")
                }
            };
            let values =
                if matches!(kind, "enum" | "bool") { format!("`{values}`") } else { values };
            let default = if default.is_empty() {
                "empty".into()
            } else {
                format!("`{}`", amount(default, unit))
            };
            let extra: &str = row.get(9);
            let extra = if extra.is_empty() { String::new() } else { format!(" {}", cell(extra)) };
            writeln!(
                text,
                "| `{}` | {default} | {values} | {}{extra} |",
                row.get::<_, &str>(0),
                cell(row.get(8))
            )?;
        }
        text.push('\n');
    }
    ensure!(told == rows.len(), "a setting belongs to neither part of the page");
    Ok(text.trim_end().to_owned() + "\n")
}

/// A number with its unit, in the largest that leaves it whole.
fn amount(number: &str, unit: &str) -> String {
    let Ok(value) = number.parse::<u64>() else {
        return format!("{number} {unit}").trim_end().to_owned();
    };
    if value == u64::from(i32::MAX.unsigned_abs()) {
        return "2³¹ − 1".to_owned() + if unit.is_empty() { "" } else { " " } + unit;
    }
    let steps: &[(&str, u64)] = match unit {
        "kB" => &[("kB", 1024), ("MB", 1024), ("GB", 1024)],
        "MB" => &[("MB", 1024), ("GB", 1024), ("TB", 1024)],
        "s" => &[("s", 60), ("min", 60), ("h", 24)],
        "" => return number.to_owned(),
        _ => return format!("{number} {unit}"),
    };
    let (mut value, mut at) = (value, 0);
    while value > 0 && at + 1 < steps.len() && value.is_multiple_of(steps[at].1) {
        value /= steps[at].1;
        at += 1;
    }
    format!("{value} {}", steps[at].0)
}

/// Objects of the extension, and columns of what everybody may read, that nothing is said about.
pub fn every_object_has_a_comment(fixture: &Fixture) -> Result<()> {
    let mut client = fixture.session()?;
    // A table's own type and types of lists are described by what they belong to.
    let rows = client.query(
        "SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid \
         LEFT JOIN pg_type AS t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid \
         WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'pgclip' \
           AND obj_description(d.objid, d.classid::regclass::text) IS NULL \
           AND (t.oid IS NULL OR (t.typcategory <> 'A' AND NOT EXISTS ( \
               SELECT FROM pg_class AS c WHERE c.oid = t.typrelid AND c.relkind <> 'c'))) ORDER BY 1",
        &[],
    )?;
    let objects: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(objects.is_empty(), "no COMMENT ON {}", objects.join(", "));
    let columns = format!(
        "SELECT c.relname || '.' || a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid \
         WHERE c.oid IN {} AND c.relkind IN ('r', 'v') AND c.relname <> 'clip_dump' AND {PUBLIC} AND a.attnum > 0 \
           AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL ORDER BY c.relname, a.attnum",
        members("pg_class")
    );
    let columns: Vec<String> = client.query(&columns, &[])?.iter().map(|row| row.get(0)).collect();
    ensure!(columns.is_empty(), "no COMMENT ON COLUMN {}", columns.join(", "));
    Ok(())
}
