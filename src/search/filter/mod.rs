//! The filter of a search: a JSON object that names columns and what they must be, as conditions of
//! the search's query. [`parse`] reads the object and knows no table, [`bind`] finds the columns,
//! their types and operators.
//!
//! Nothing of the object gets into the text of the query but operators out of the catalog: names of
//! columns are the relation's own, values are parameters. The conditions stay as plain as a user
//! would write them, so that the planner can hand them to an index.

mod bind;
mod parse;

use pgrx::pg_sys;

pub use self::parse::{Condition, Operator, Test};
use super::arguments;
use super::source::Source;
use crate::error::Failure;

/// Conditions on the columns of a relation that the query calls `t`.
#[derive(Debug, Default)]
pub struct Filter {
    /// Each a SQL expression.
    pub conditions: Vec<String>,
    /// Types and values of the conditions' parameters, in the order of their numbers.
    pub parameters: Vec<(pg_sys::Oid, pg_sys::Datum)>,
}

impl Filter {
    /// Reads the argument `number` of a search, a jsonb; NULL is no filter. The parameters' numbers
    /// begin at `first`.
    ///
    /// # Safety
    /// `fcinfo` must be the call's own, and the argument a jsonb.
    pub unsafe fn of_call(
        fcinfo: pg_sys::FunctionCallInfo,
        number: usize,
        source: &Source,
        first: usize,
    ) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let Some(text) = (unsafe { arguments::json(fcinfo, number, "filter")? }) else {
            return Ok(Self::default());
        };
        Self::of_text(&text, source, first)
    }

    /// Reads a filter as JSON.
    pub fn of_text(text: &str, source: &Source, first: usize) -> Result<Self, Failure> {
        let mut filter = Self::default();
        for condition in parse::parse(text)? {
            let expression = filter.expression(source, first, condition)?;
            filter.conditions.push(expression);
        }
        Ok(filter)
    }

    /// A condition as a SQL expression over the row `t`, its values among the parameters, whose numbers
    /// begin at `first`.
    pub fn expression(
        &mut self,
        source: &Source,
        first: usize,
        condition: Condition,
    ) -> Result<String, Failure> {
        bind::bind(&mut self.parameters, source, first, condition)
    }
}
