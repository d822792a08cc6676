//! Hybrid filters: what a sentence says about attributes also counts in the columns that hold them.
//! `hard` restricts a search to rows that have the values named, as a filter does; `soft` moves them
//! forward among the candidates.
//!
//! `soft` orders by the similarity plus [`NUDGE`] / logit scale for each attribute that fits, and minus
//! the same for each that does not; one that is NULL changes nothing. The model's logit scale is what
//! makes similarities into logarithms of likelihoods, so an attribute counts as evidence of a fixed
//! strength whatever the model's similarities are like, and the order of two rows depends on nothing
//! but themselves.

use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use super::arguments;
use super::filter::{Condition, Filter, Operator, Test};
use super::prompt::Said;
use super::rerank;
use super::source::{Column, Source};
use crate::attributes::columns::is_text;
use crate::attributes::lexicon;
use crate::attributes::parse::{Listed, read_list};
use crate::catalog::extension::{Extension, type_name};
use crate::error::Failure;
use crate::limits::shown;

/// How much an attribute that fits weighs against one that is unknown, as the logarithm of a ratio of
/// likelihoods.
const NUDGE: f32 = 1.0;

const EXAMPLE: &str =
    "It is 'hard' or 'soft', or with columns of one's own 'hard:colour,type=kind'.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Hard,
    /// Among this many of the nearest rows.
    Soft(i64),
}

/// The option `attributes` of a search.
#[derive(Debug)]
pub struct Attributes {
    mode: Mode,
    /// Columns that the caller names instead of the attached ones.
    named: Option<Vec<Listed>>,
}

/// An attribute column of what is searched, as its attachment has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub domain: String,
    pub attribute: String,
    /// The column's name.
    pub column: String,
}

impl Attributes {
    /// Reads the argument `number` of a search, and that of the number `candidates`; none where the
    /// option is off.
    ///
    /// # Safety
    /// `fcinfo` must be the call's own, and the arguments a text and an integer.
    pub unsafe fn of_call(
        fcinfo: pg_sys::FunctionCallInfo,
        number: usize,
        candidates: usize,
    ) -> Result<Option<Self>, Failure> {
        // SAFETY: the caller's promise.
        unsafe {
            let given = arguments::text(fcinfo, number, "attributes")?;
            Self::new(given.as_deref(), pg_getarg(fcinfo, candidates))
        }
    }

    /// By the values of `attributes` and `candidates`; none where the option is off.
    pub fn new(given: Option<&str>, candidates: Option<i32>) -> Result<Option<Self>, Failure> {
        let Some(given) = given else { return Ok(None) };
        let wrong = || {
            Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("invalid value for attributes: \"{}\"", shown(given)),
            )
            .hint(EXAMPLE)
        };
        let (mode, list) = match given.split_once(':') {
            Some((mode, list)) => (mode, Some(list)),
            None => (given, None),
        };
        let mode = match mode {
            "off" if list.is_none() => return Ok(None),
            "hard" => Mode::Hard,
            "soft" => Mode::Soft(rerank::candidates(candidates)?),
            _ => return Err(wrong()),
        };
        let named = list.map(read_list).transpose();
        let named = named.map_err(|message| wrong().detail(format!("{message}.")))?;
        Ok(Some(Self { mode, named }))
    }

    /// Adds to `filter` what a query says about attributes that `columns` hold. With `soft` that is
    /// parameters alone, and an expression over the row `t` is returned: how many attributes fit, less
    /// those that do not.
    pub fn apply(
        &self,
        source: &Source,
        columns: &[Place],
        said: &Said,
        filter: &mut Filter,
        first: usize,
    ) -> Result<Option<Agreement>, Failure> {
        let Some(domain) = &said.enhanced.domain else { return Ok(None) };
        let mut terms = Vec::new();
        for named in &said.named {
            let held = columns.iter().find(|held| {
                held.attribute == named.attribute && held.domain.is_none_or(|of| of == domain)
            });
            let Some(held) = held else { continue };
            let test = match named.values.as_slice() {
                [value] => Test::One(Operator::Equal, value.clone()),
                values => Test::List(Operator::Equal, values.to_vec()),
            };
            let condition = Condition { column: held.column.name.clone(), test };
            let fits = filter.expression(source, first, condition)?;
            match self.mode {
                Mode::Hard => filter.conditions.push(fits),
                Mode::Soft(_) => {
                    terms.push(format!(
                        "CASE WHEN {fits} THEN 1 WHEN NOT {fits} THEN -1 ELSE 0 END"
                    ));
                }
            }
        }
        let Mode::Soft(candidates) = self.mode else { return Ok(None) };
        let sum = terms.join(" OPERATOR(pg_catalog.+) ");
        // CLIP's scale is at least 1; NaN, which only a model made by hand has, counts as 1.
        let weight = NUDGE / source.model.logit_scale.max(1.0);
        Ok((!terms.is_empty()).then_some(Agreement { sum, weight, candidates }))
    }

    /// The columns to look at.
    pub fn columns<'a>(
        &'a self,
        extension: &Extension,
        source: &'a Source,
    ) -> Result<Vec<Place<'a>>, Failure> {
        let Some(named) = &self.named else {
            let attached: Vec<Place<'a>> = (source.attributes.iter())
                .filter_map(|held| {
                    let column = find(source, &held.column)?;
                    let domain = Some(held.domain.as_str());
                    Some(Place { domain, attribute: &held.attribute, column })
                })
                .collect();
            if attached.is_empty() {
                return Err(Failure::new(
                    Code::ERRCODE_UNDEFINED_COLUMN,
                    format!("{} has no columns of attributes", source.name),
                )
                .hint(
                    "Have some filled with clip_attach(…, attributes => 'vehicle:colour,type'), or \
                     name your own: attributes => 'hard:colour,type'.",
                ));
            }
            return check(source, attached);
        };
        let known = lexicon::attributes(extension)?;
        let mut columns = Vec::new();
        for Listed { attribute, column } in named {
            if !known.contains(attribute) {
                return Err(Failure::new(
                    Code::ERRCODE_UNDEFINED_OBJECT,
                    format!("there is no attribute \"{attribute}\""),
                )
                .hint(format!("clip_attributes has: {}.", known.join(", "))));
            }
            let Some(column) = find(source, column) else {
                return Err(Failure::new(
                    Code::ERRCODE_UNDEFINED_COLUMN,
                    format!("{} has no column \"{column}\" for an attribute", source.name),
                )
                .hint(format!("Name the column: attributes => 'hard:{attribute}=…'.")));
            };
            columns.push(Place { domain: None, attribute, column });
        }
        check(source, columns)
    }
}

/// A column that holds an attribute.
#[derive(Debug)]
pub struct Place<'a> {
    /// Of whose things alone.
    domain: Option<&'a str>,
    attribute: &'a str,
    column: &'a Column,
}

fn find<'a>(source: &'a Source, name: &str) -> Option<&'a Column> {
    source.columns.iter().find(|column| column.name == name)
}

/// Values are compared as text.
fn check<'a>(source: &Source, places: Vec<Place<'a>>) -> Result<Vec<Place<'a>>, Failure> {
    match places.iter().find(|place| !is_text(place.column.base)) {
        None => Ok(places),
        Some(Place { column, .. }) => Err(Failure::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column {} of {} is of type {}, which holds no attribute",
                column.quoted,
                source.name,
                type_name(column.base)
            ),
        )
        .hint("Attribute columns are of type text or varchar.")),
    }
}

/// How well rows agree with the attributes of a sentence.
#[derive(Debug)]
pub struct Agreement {
    /// Over the row `t`: attributes that fit less those that do not.
    pub sum: String,
    /// What each is worth, in units of the similarity.
    weight: f32,
    /// How many of the nearest rows are ordered by it.
    pub candidates: i64,
}

impl Agreement {
    /// The distance of a row of `s`, which has `distance` and the sum as `agreement`, moved by it.
    pub fn adjusted(&self) -> String {
        let weight = f64::from(self.weight);
        format!(
            "(s.distance OPERATOR(pg_catalog.-) ('{weight}'::pg_catalog.float8 \
             OPERATOR(pg_catalog.*) s.agreement::pg_catalog.float8))"
        )
    }
}
