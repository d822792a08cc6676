//! Attribute columns: columns of text beside an embedding that hold what its picture shows, such as
//! colour and type. Here is how callers name them, what `clip_attach` asks of them, how a trigger
//! keeps them, and what is written into them whenever an embedding is made.
//!
//! A trigger names the attributes in an argument (`attributes=vehicle:colour,type`) and their columns
//! behind the image and the embedding (`UPDATE OF image, embedding, colour, kind`), so that these
//! follow renames as well.

use std::cell::OnceCell;
use std::rc::Rc;

use half::f16;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{IntoDatum, PgRelation, pg_sys};

use super::attach::qualified;
use crate::encode::failure::Failure;
use crate::encode::labels::{self, Attribute};
use crate::encode::lexicon;
use crate::encode::models::Model;
use crate::extension::{Extension, quoted, type_name};
use crate::limits::{self, shown};

/// How the option of `clip_attach` reads.
const EXAMPLE: &str = "For example attributes => 'vehicle:colour,type,make', or 'vehicle:colour=color,type' \
     where a column is called otherwise.";

/// An attribute and the name of the column that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub attribute: String,
    pub column: String,
}

/// Reads a list of attributes: `colour,type=kind,make="Made by"`. A column without a name is called
/// as its attribute; a name in double quotes may hold anything. The error says what is wrong.
pub fn read_list(text: &str) -> Result<Vec<Listed>, String> {
    let mut listed: Vec<Listed> = Vec::new();
    for item in split(text) {
        if listed.len() == limits::LISTED {
            return Err(format!("more than {} attributes are listed", limits::LISTED));
        }
        let (attribute, column) = item.split_once('=').unwrap_or((item, item));
        let (attribute, column) = (attribute.trim(), unquoted(column.trim()));
        if !is_name(attribute) || column.is_empty() {
            return Err(format!("\"{}\" is no attribute", shown(item.trim())));
        }
        if listed.iter().any(|l| l.attribute == attribute) {
            return Err(format!("attribute \"{attribute}\" occurs twice"));
        }
        if listed.iter().any(|l| l.column == column) {
            return Err(format!("column \"{column}\" occurs twice"));
        }
        listed.push(Listed { attribute: attribute.to_owned(), column });
    }
    Ok(listed)
}

/// The parts between commas that stand outside of quotes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |c| {
        inside ^= c == '"';
        c == ',' && !inside
    })
}

fn unquoted(name: &str) -> String {
    let inner = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.map_or_else(|| name.to_owned(), |inner| inner.replace("\"\"", "\""))
}

/// What `clip_attributes` takes as the name of a domain or an attribute.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The attribute columns of an attached embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub domain: String,
    /// Each attribute with the number of its column.
    pub columns: Vec<(String, i16)>,
}

impl Attributes {
    /// Reads the option of `clip_attach`, and checks that the attributes are known and the columns
    /// can hold them. `taken` are the columns of image and embedding.
    pub fn check(
        extension: &Extension,
        relation: &PgRelation,
        option: &str,
        taken: [i16; 2],
    ) -> Result<Self, Failure> {
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
            return Err(labels::unknown_lexicon(extension, domain)?);
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
        Ok(Self { domain: domain.to_owned(), columns })
    }

    /// The trigger's argument.
    pub fn argument(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        format!("attributes={}:{}", self.domain, names.join(","))
    }

    /// What such an argument means, with the columns behind the image and the embedding.
    pub fn of_argument(value: &str, columns: &[i16]) -> Option<Self> {
        let (domain, list) = value.split_once(':')?;
        let names: Vec<String> = list.split(',').map(str::to_owned).collect();
        if columns.len() < names.len() || !names.iter().all(|name| is_name(name)) {
            return None;
        }
        let columns = names.into_iter().zip(columns.iter().copied()).collect();
        Some(Self { domain: domain.to_owned(), columns })
    }

    /// As the option of `clip_attach` would have it, by the columns' names.
    pub fn option(&self, name_of: impl Fn(i16) -> String) -> String {
        let listed: Vec<String> = self
            .columns
            .iter()
            .map(|(attribute, column)| format!("{attribute}={}", quoted(name_of(*column))))
            .collect();
        format!("{}:{}", self.domain, listed.join(","))
    }
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

/// What fills the attribute columns of a relation as its embeddings are written.
#[derive(Debug)]
pub struct Filling {
    wanted: Attributes,
    /// Names of the columns, quoted.
    columns: Vec<String>,
    /// The values to choose from, once they are needed: a statement that leaves its rows to the
    /// worker does without the encoder.
    labels: OnceCell<Vec<Option<Rc<Attribute>>>>,
}

impl Filling {
    /// `name_of` gives a column's name; none where there is no such column.
    pub fn new(wanted: &Attributes, name_of: impl Fn(i16) -> Option<String>) -> Option<Self> {
        let columns = wanted.columns.iter().map(|(_, number)| name_of(*number).map(quoted));
        let columns = columns.collect::<Option<_>>()?;
        Some(Self { wanted: wanted.clone(), columns, labels: OnceCell::new() })
    }

    /// Names of the columns, quoted.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The assignments of an UPDATE, each after a comma. Parameter `first` says whether the row's
    /// values are another image's, the next ones are the values.
    pub fn assignments(&self, first: usize) -> String {
        let assign = |(at, column): (usize, &String)| {
            let value = first + 1 + at;
            format!(
                ", {column} = CASE WHEN ${first} THEN ${value} ELSE COALESCE({column}, ${value}) END"
            )
        };
        self.columns.iter().enumerate().map(assign).collect()
    }

    /// Types of these parameters.
    pub fn parameter_types(&self) -> Vec<pg_sys::Oid> {
        std::iter::once(pg_sys::BOOLOID)
            .chain(self.columns.iter().map(|_| pg_sys::TEXTOID))
            .collect()
    }

    /// Has the values encoded that are chosen from. May wait for the encoder, so it is called before
    /// rows are locked.
    pub fn prepare(&self, extension: &Extension, model: &Model) -> Result<(), Failure> {
        if self.labels.get().is_none() {
            let _owner = extension.as_owner();
            let known = labels::attributes(extension, model, &self.wanted.domain)?;
            let found = self.wanted.columns.iter().map(|(name, _)| {
                known.iter().find(|attribute| attribute.name == *name).map(Rc::clone)
            });
            self.labels.get_or_init(|| found.collect());
        }
        Ok(())
    }

    /// The parameters for a row: the likeliest values of its embedding, and NULL for an attribute
    /// that has no values any more or where there is no embedding.
    pub fn parameters(
        &self,
        embedding: Option<&[f16]>,
        outdated: bool,
    ) -> impl Iterator<Item = Option<pg_sys::Datum>> {
        let labels = self.labels.get().map_or(&[][..], Vec::as_slice);
        let values = (0..self.columns.len()).map(move |at| {
            let attribute = labels.get(at)?.as_ref()?;
            attribute.labels.best(embedding?)?.0.into_datum()
        });
        std::iter::once(outdated.into_datum()).chain(values)
    }
}
