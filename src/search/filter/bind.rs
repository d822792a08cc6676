//! A filter's conditions on the columns of a relation. Its own file because all of it is the
//! catalog's: the type of a column, that type's comparison operators and its input function.

use std::ffi::{CStr, CString, c_int};

use pgrx::pg_sys::Datum;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{IntoDatum, pg_sys};

use super::parse::{Condition, Operator, Test};
use crate::catalog::extension::{namespace_name, quoted, type_name};
use crate::context::Context;
use crate::embedding::Embedding;
use crate::error::Failure;
use crate::limits;
use crate::search::source::{Column, Source};

/// A condition as SQL; its values join the parameters, the first of which has the number `first`.
pub fn bind(
    parameters: &mut Vec<(pg_sys::Oid, Datum)>,
    source: &Source,
    first: usize,
    condition: Condition,
) -> Result<String, Failure> {
    let Condition { column: name, test } = condition;
    let Some(at) = source.columns.iter().position(|column| column.name == name) else {
        let names: Vec<&str> = source.columns.iter().map(|column| column.name.as_str()).collect();
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!("{} has no column \"{}\" to filter on", source.name, limits::shown(&name)),
        )
        .hint(format!("Columns are {}.", names.join(", "))));
    };
    let column = &source.columns[at];
    let holds = match column.base {
        base if base == Embedding::type_oid() => Some("embeddings"),
        _ if source.images.contains(&at) => Some("images"),
        _ => None,
    };
    if let (Some(what), Test::One(..) | Test::List(..)) = (holds, &test) {
        return Err(Failure::new(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!(
                "column {} of {} holds {what}, which a filter cannot compare",
                column.quoted, source.name
            ),
        )
        .hint(format!(
            "It can be tested for NULL: {{\"{name}\": null}} or {{\"{name}\": {{\"<>\": null}}}}."
        )));
    }
    if matches!(test, Test::One(..) | Test::List(..)) && reads_by_users_code(column.base) {
        return Err(Failure::new(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!(
                "column {} of {} is of type {}, which a filter cannot compare",
                column.quoted,
                source.name,
                type_name(column.base)
            ),
        )
        .detail("Reading a value of it could call code of whoever made the types of its parts.")
        .hint("Search a view that shows the parts to compare as columns of their own."));
    }
    let number = first + parameters.len();
    Ok(match test {
        Test::Null => format!("t.{} IS NULL", column.quoted),
        Test::NotNull => format!("t.{} IS NOT NULL", column.quoted),
        Test::One(operator, value) => {
            let operator = operator_of(source, column, operator)?;
            parameters.push((column.base, Input::of(column).read(column, &value)));
            format!("{} {operator} ${number}", column.compared())
        }
        Test::List(operator, values) => {
            let any = if operator == Operator::Equal { "ANY" } else { "ALL" };
            let operator = operator_of(source, column, operator)?;
            parameters.push(list(source, column, &values)?);
            format!("{} {operator} {any} (${number})", column.compared())
        }
    })
}

/// Whether the input function of a type that is no domain may run a domain's checks: as that of a composite
/// type, an array or a range of such.
fn reads_by_users_code(of: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups by OID, which give InvalidOid where there is nothing.
    unsafe {
        let part = match pg_sys::get_typtype(of) as u8 {
            pg_sys::TYPTYPE_COMPOSITE | pg_sys::TYPTYPE_DOMAIN => return true,
            pg_sys::TYPTYPE_RANGE => pg_sys::get_range_subtype(of),
            pg_sys::TYPTYPE_MULTIRANGE => {
                pg_sys::get_range_subtype(pg_sys::get_multirange_range(of))
            }
            // The element of a fixed array such as point is no domain.
            _ => pg_sys::get_element_type(of),
        };
        part != pg_sys::InvalidOid && reads_by_users_code(part)
    }
}

/// The operator of a column's type, as SQL: that of the type's default B-tree operator class.
fn operator_of(source: &Source, column: &Column, operator: Operator) -> Result<String, Failure> {
    let strategy = match operator {
        Operator::Less => pg_sys::BTLessStrategyNumber,
        Operator::LessEqual => pg_sys::BTLessEqualStrategyNumber,
        Operator::Equal | Operator::NotEqual => pg_sys::BTEqualStrategyNumber,
        Operator::GreaterEqual => pg_sys::BTGreaterEqualStrategyNumber,
        Operator::Greater => pg_sys::BTGreaterStrategyNumber,
    };
    // SAFETY: catalog lookups by OID, which give InvalidOid where there is nothing.
    let found = unsafe {
        let class = pg_sys::GetDefaultOpClass(column.base, pg_sys::BTREE_AM_OID);
        let member = match class {
            pg_sys::InvalidOid => pg_sys::InvalidOid,
            class => {
                let input = pg_sys::get_opclass_input_type(class);
                let family = pg_sys::get_opclass_family(class);
                pg_sys::get_opfamily_member(family, input, input, strategy as i16)
            }
        };
        match (operator, member) {
            (_, pg_sys::InvalidOid) => member,
            (Operator::NotEqual, equal) => pg_sys::get_negator(equal),
            _ => member,
        }
    };
    operator_name(found).ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_UNDEFINED_FUNCTION,
            format!(
                "column {} of {} is of type {}, whose values cannot be compared",
                column.quoted,
                source.name,
                type_name(column.base)
            ),
        )
        .hint(
            "A filter compares types that have a default operator class for B-trees; \
             others can be tested for NULL.",
        )
    })
}

/// `OPERATOR(schema.name)`; none where there is no such operator.
fn operator_name(operator: pg_sys::Oid) -> Option<String> {
    // SAFETY: a row of the catalog's cache is read before it is given back.
    unsafe {
        let key = pg_sys::SysCacheIdentifier::OPEROID as i32;
        let row = pg_sys::SearchSysCache1(key, operator.into());
        if row.is_null() {
            return None;
        }
        let found = *pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_operator>(row);
        pg_sys::ReleaseSysCache(row);
        let name = CStr::from_ptr(found.oprname.data.as_ptr()).to_string_lossy();
        Some(format!("OPERATOR({}.{name})", quoted(namespace_name(found.oprnamespace))))
    }
}

/// How a type reads its values from text.
#[derive(Clone, Copy)]
struct Input {
    function: pg_sys::Oid,
    parameter: pg_sys::Oid,
}

impl Input {
    fn of(column: &Column) -> Self {
        let mut input = Self { function: pg_sys::InvalidOid, parameter: pg_sys::InvalidOid };
        // SAFETY: a catalog lookup that fills in two variables.
        unsafe {
            pg_sys::getTypeInputInfo(column.base, &mut input.function, &mut input.parameter);
        }
        input
    }

    /// The value; where it is none, the type's own error with the column as its context.
    fn read(self, column: &Column, text: &str) -> Datum {
        let text = CString::new(text).expect("jsonb holds no zero byte");
        let context = Context::push(format!("filter on column {}", column.quoted));
        // SAFETY: the function is the type's; the value lives in the current memory context.
        let value = unsafe {
            let text = text.as_ptr().cast_mut();
            pg_sys::OidInputFunctionCall(self.function, text, self.parameter, -1)
        };
        context.pop();
        value
    }
}

/// An array of values, and its type.
fn list(
    source: &Source,
    column: &Column,
    values: &[String],
) -> Result<(pg_sys::Oid, Datum), Failure> {
    // SAFETY: catalog lookups; the array copies the values, which are of its element type.
    unsafe {
        let array = pg_sys::get_array_type(column.base);
        if array == pg_sys::InvalidOid {
            return Err(Failure::new(
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!(
                    "column {} of {} is of type {}, which has no lists",
                    column.quoted,
                    source.name,
                    type_name(column.base)
                ),
            )
            .hint("Give one value, in the type's own text form."));
        }
        let input = Input::of(column);
        let read = |(round, value): (usize, &String)| {
            limits::poll(round);
            input.read(column, value)
        };
        let mut values: Vec<Datum> = values.iter().enumerate().map(read).collect();
        let (mut length, mut by_value, mut align) = (0, false, 0);
        pg_sys::get_typlenbyvalalign(column.base, &mut length, &mut by_value, &mut align);
        let made = pg_sys::construct_array(
            values.as_mut_ptr(),
            values.len() as c_int,
            column.base,
            length.into(),
            by_value,
            align,
        );
        Ok((array, Datum::from(made)))
    }
}
