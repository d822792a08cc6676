//! The error codes: what each means here. The codes are those that the source names; this list says
//! when, and a test fails where one is missing, is no longer raised, or has another condition's name.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::workspace;
use postgres::Client;

use crate::fixture::Fixture;

struct Code {
    state: &'static str,
    /// As the source names it, after `ERRCODE_`.
    name: &'static str,
    when: &'static str,
}

const fn code(state: &'static str, name: &'static str, when: &'static str) -> Code {
    Code { state, name, when }
}

const CODES: [Code; 44] = [
    code(
        "00000",
        "SUCCESSFUL_COMPLETION",
        "notices: `clip_attach` with the built-in model, a build that goes on on pages for want of memory",
    ),
    code(
        "01000",
        "WARNING",
        "a scan of an index ended early and more rows were wanted; a build whose model's texts have no known direction",
    ),
    code(
        "08P01",
        "PROTOCOL_VIOLATION",
        "a binary embedding that is too short; an answer of the encoder's that does not fit the request",
    ),
    code(
        "0A000",
        "FEATURE_NOT_SUPPORTED",
        "an image of a form that is not read, which the message names; a column, a type or a place of a call that pgclip does not take; what `clip_reencode` would lose",
    ),
    code(
        "22000",
        "DATA_EXCEPTION",
        "embeddings of different dimensions, of none, or with NaN or infinity in them; `liked` and `disliked`, or prompts, that leave no query",
    ),
    code("22003", "NUMERIC_VALUE_OUT_OF_RANGE", "a number that fp16 has no room for"),
    code(
        "22004",
        "NULL_VALUE_NOT_ALLOWED",
        "an argument, or an element of an array, is NULL and may not be",
    ),
    code(
        "22023",
        "INVALID_PARAMETER_VALUE",
        "an argument or an option has a value that it cannot have; a model directory or a path that is refused",
    ),
    code("22P02", "INVALID_TEXT_REPRESENTATION", "a text that is no embedding"),
    code(
        "22P03",
        "INVALID_BINARY_REPRESENTATION",
        "bytes that are no image, or a damaged one; a binary embedding whose reserved field is set",
    ),
    code(
        "25001",
        "ACTIVE_SQL_TRANSACTION",
        "`CALL clip_backfill` or `clip_reencode` inside a transaction block or a function",
    ),
    code(
        "27000",
        "TRIGGERED_DATA_CHANGE_VIOLATION",
        "a trigger or a policy of the table kept the embedding from being written",
    ),
    code(
        "2BP01",
        "DEPENDENT_OBJECTS_STILL_EXIST",
        "dropping a root that a column has paths beneath; changing the model of a column that a view, a constraint or the like depends on",
    ),
    code(
        "39P01",
        "E_R_I_E_TRIGGER_PROTOCOL_VIOLATED",
        "a trigger function of pgclip's called by hand",
    ),
    code(
        "40001",
        "T_R_SERIALIZATION_FAILURE",
        "PostgreSQL's own; the worker puts the row off, and counts no attempt",
    ),
    code(
        "40P01",
        "T_R_DEADLOCK_DETECTED",
        "PostgreSQL's own; the worker puts the row off, and counts no attempt",
    ),
    code(
        "42501",
        "INSUFFICIENT_PRIVILEGE",
        "a right is missing: the hint says which, and who gives it",
    ),
    code("42602", "INVALID_NAME", "a name for a model or a root that is none"),
    code(
        "42701",
        "DUPLICATE_COLUMN",
        "`clip_reencode`: the table has a column called as the second one would be",
    ),
    code(
        "42702",
        "AMBIGUOUS_COLUMN",
        "a table with several embedding columns, and no `embedding_column`",
    ),
    code(
        "42703",
        "UNDEFINED_COLUMN",
        "there is no such column, or none of type `embedding`, or none for an attribute",
    ),
    code(
        "42704",
        "UNDEFINED_OBJECT",
        "there is no such model, root, domain, attribute, large object or attached column",
    ),
    code(
        "42710",
        "DUPLICATE_OBJECT",
        "the name of a model or root is taken; the column is attached already",
    ),
    code(
        "42804",
        "DATATYPE_MISMATCH",
        "a column or an argument is of the wrong type; the model has other dimensions; a column belongs to another model",
    ),
    code(
        "42809",
        "WRONG_OBJECT_TYPE",
        "not a table, or not a kind of table or column that can be attached",
    ),
    code("42883", "UNDEFINED_FUNCTION", "values of a filter's column cannot be compared"),
    code("42P01", "UNDEFINED_TABLE", "there is no such table"),
    code(
        "42P08",
        "AMBIGUOUS_PARAMETER",
        "a view shows embeddings of several models, and no `model` is named",
    ),
    code(
        "53000",
        "INSUFFICIENT_RESOURCES",
        "the encoder's queue is full: `pgclip.max_queue`, `pgclip.max_request_memory`",
    ),
    code(
        "53100",
        "DISK_FULL",
        "PostgreSQL's own; the worker puts the row off, and counts no attempt",
    ),
    code(
        "53200",
        "OUT_OF_MEMORY",
        "memory is not to be had, here or in the encoder or on its device",
    ),
    code(
        "53300",
        "TOO_MANY_CONNECTIONS",
        "PostgreSQL's own; the worker puts the row off, and counts no attempt",
    ),
    code(
        "53400",
        "CONFIGURATION_LIMIT_EXCEEDED",
        "PostgreSQL's own; the worker puts the row off, and counts no attempt",
    ),
    code(
        "54000",
        "PROGRAM_LIMIT_EXCEEDED",
        "something is larger than its bound, which the message tells; an index that does not fit a page",
    ),
    code(
        "55000",
        "OBJECT_NOT_IN_PREREQUISITE_STATE",
        "the model's files changed or it is refused for a while; a table without a primary key; a trigger that `clip_attach` did not make; a built-in row that was to be deleted",
    ),
    code("55006", "OBJECT_IN_USE", "`clip_reencode`: an index was made meanwhile; call it again"),
    code(
        "55P03",
        "LOCK_NOT_AVAILABLE",
        "a backfill of the column runs already; in `clip_progress`, a lock that the worker did not get",
    ),
    code("57014", "QUERY_CANCELED", "cancelled, or a step of the worker's that took too long"),
    code(
        "58000",
        "SYSTEM_ERROR",
        "there is no encoder, or it died twice over the request, or what it needs is missing, or its files in the data directory are damaged: the message names which",
    ),
    code("58030", "IO_ERROR", "a file of `pgclip/` in the data directory cannot be written"),
    code("58P01", "UNDEFINED_FILE", "there is no such file or directory on the server"),
    code("XX000", "INTERNAL_ERROR", "a fault of pgclip's: please report it"),
    code("XX001", "DATA_CORRUPTED", "a stored embedding whose bytes no function of pgclip's wrote"),
    code(
        "XX002",
        "INDEX_CORRUPTED",
        "a page of an index is damaged: the message names index and block; `REINDEX`",
    ),
];

/// Every code that a file below `folder` names.
fn named_in(folder: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            named_in(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            for part in text.split("ERRCODE_").skip(1) {
                let end = part.find(|c: char| !c.is_ascii_uppercase() && c != '_');
                names.insert(part[..end.unwrap_or(part.len())].to_owned());
            }
        }
    }
    Ok(())
}

pub fn reference(_: &mut Client) -> Result<String> {
    let mut named = BTreeSet::new();
    named_in(&workspace().join("src"), &mut named)?;
    let told: BTreeSet<String> = CODES.iter().map(|code| code.name.to_owned()).collect();
    let untold: Vec<&String> = named.difference(&told).collect();
    let gone: Vec<&String> = told.difference(&named).collect();
    ensure!(untold.is_empty(), "tests/docs/errors.rs does not say when {untold:?} is raised");
    ensure!(gone.is_empty(), "no source names {gone:?} any more");
    let mut text = String::from(
        "Errors have PostgreSQL's codes, a message that names the value at fault, and a hint at the way out. In psql \
         `\\set VERBOSITY verbose` shows the code.\n\n| SQLSTATE | condition | when |\n| --- | --- | --- |\n",
    );
    for Code { state, name, when } in &CODES {
        writeln!(text, "| `{state}` | `{}` | {when} |", condition(name))?;
    }
    Ok(text)
}

/// The name by which PL/pgSQL knows a code.
fn condition(name: &str) -> String {
    let name = name.strip_prefix("T_R_").or(name.strip_prefix("E_R_I_E_")).unwrap_or(name);
    name.to_ascii_lowercase()
}

pub fn codes_are_their_conditions(fixture: &Fixture) -> Result<()> {
    let mut client = fixture.session()?;
    // The first two are no errors.
    for Code { state, name, .. } in &CODES[2..] {
        let condition = condition(name);
        let raised = client.batch_execute(&format!("DO $$ BEGIN RAISE {condition}; END $$"));
        let error = raised.err().with_context(|| format!("{condition} raises nothing"))?;
        let found = error.code().map_or("none", |code| code.code());
        ensure!(found == *state, "{condition} is {found}, not {state}");
    }
    Ok(())
}
