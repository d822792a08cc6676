//! The columns of text beside an embedding that hold what its picture shows, such as colour and type:
//! what `clip_attach` asks of them.

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgRelation, pg_sys};

use super::parse::{Listed, read_list};
use super::{labels, lexicon};
use crate::catalog::extension::{Extension, qualified, quoted, type_name};
use crate::error::Failure;
use crate::limits::{self, shown};
use crate::models::binding::Attributes;

/// How the option of `clip_attach` reads.
const EXAMPLE: &str = "For example attributes => 'vehicle:colour,type,make', or 'vehicle:colour=color,type' \
     where a column is called otherwise.";

/// Reads the option of `clip_attach`, and checks that the attributes are known and the columns
/// can hold them. `taken` are the columns of image and embedding.
pub fn check(
    extension: &Extension,
    relation: &PgRelation,
    option: &str,
    taken: [i16; 2],
) -> Result<Attributes, Failure> {
    limits::option("attributes", Some(option))?;
    let wrong = |message: String| {
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("invalid value for attributes: \"{}\"", shown(option)),
        )
        .detail(format!("{message}."))
        .hint(EXAMPLE)
    };
    let (domain, list) = option
        .split_once(':')
        .ok_or_else(|| wrong("It does not say of which domain the attributes are".into()))?;
    let domain = domain.trim();
    let listed = read_list(list).map_err(|message| wrong(capitalised(&message)))?;
    let values = lexicon::values(extension, domain)?;
    if values.is_empty() {
        return Err(labels::without_attributes(extension, domain)?);
    }
    let mut columns = Vec::new();
    for Listed { attribute, column } in listed {
        if !values.iter().any(|value| value.attribute == attribute) {
            let mut known: Vec<&str> = values.iter().map(|v| v.attribute.as_str()).collect();
            known.sort_unstable();
            known.dedup();
            return Err(Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("domain \"{domain}\" has no attribute \"{attribute}\""),
            )
            .hint(format!("clip_attributes has: {}.", known.join(", "))));
        }
        columns.push((attribute, fitting(relation, &column, taken)?));
    }
    Ok(Attributes { domain: domain.to_owned(), columns })
}

/// The number of a column that can hold an attribute.
fn fitting(relation: &PgRelation, name: &str, taken: [i16; 2]) -> Result<i16, Failure> {
    let table = qualified(relation);
    let columns = relation.tuple_desc();
    let Some(column) = columns.iter().find(|c| !c.attisdropped && c.name() == name) else {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!("table {table} has no column \"{name}\" for an attribute"),
        )
        .hint(format!("Add it, of type text, or name another. {EXAMPLE}")));
    };
    if taken.contains(&column.attnum) {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("column {} of table {table} is the image or the embedding", quoted(name)),
        )
        .hint("An attribute has a column of its own."));
    }
    if !is_text(column.atttypid) {
        return Err(Failure::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column {} of table {table} is of type {}, which holds no attribute",
                quoted(name),
                type_name(column.atttypid)
            ),
        )
        .hint("Attribute columns are of type text or varchar."));
    }
    if column.attgenerated != 0 || column.attnotnull {
        let what = if column.attnotnull { "declared NOT NULL" } else { "generated" };
        return Err(Failure::new(
            Code::ERRCODE_WRONG_OBJECT_TYPE,
            format!("column {} of table {table} is {what}", quoted(name)),
        )
        .hint("An attribute column is NULL until its row's image is encoded."));
    }
    Ok(column.attnum)
}

/// Whether a type, or the one below a domain, is text.
pub fn is_text(of: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup.
    matches!(unsafe { pg_sys::getBaseType(of) }, pg_sys::TEXTOID | pg_sys::VARCHAROID)
}

fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
