//! What is written into attribute columns whenever an embedding is made: the likeliest values, by the
//! labels of `clip_attributes`.

use std::cell::OnceCell;
use std::rc::Rc;

use half::f16;
use pgrx::{IntoDatum, pg_sys};

use super::labels::{self, Attribute};
use crate::catalog::extension::{Extension, quoted};
use crate::error::Failure;
use crate::models::Model;
use crate::models::binding::Attributes;

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
