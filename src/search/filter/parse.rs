//! What a filter says, read from JSON: `{"camera": "north gate", "taken_at": {">=": "2026-11-01"},
//! "lane": [1, 2], "note": null}`. Its own file because it is the whole of the syntax, and knows
//! neither tables nor types: a value stays the text that it is written as, so that no number loses
//! a digit on its way to its column's type.

use std::collections::BTreeMap;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use serde_json::value::RawValue;

use crate::error::Failure;
use crate::limits::shown;

/// A comparison that a filter can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Operator {
    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "=" => Self::Equal,
            "<>" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterEqual,
            _ => return None,
        })
    }
}

/// What a column must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    Null,
    NotNull,
    /// So to a value.
    One(Operator, String),
    /// Equal to one of the values, or different from all of them.
    List(Operator, Vec<String>),
}

/// One condition of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub column: String,
    pub test: Test,
}

/// A JSON value, its insides not looked at yet.
enum Json<'a> {
    Null,
    /// Of a string what it holds, of a number or a truth value what is written.
    Scalar(String),
    Array(Vec<&'a RawValue>),
    Object(BTreeMap<String, &'a RawValue>),
}

impl<'a> Json<'a> {
    fn of(raw: &'a RawValue) -> Result<Self, serde_json::Error> {
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b'"') => Self::Scalar(serde_json::from_str(text)?),
            Some(b'[') => Self::Array(serde_json::from_str(text)?),
            Some(b'{') => Self::Object(serde_json::from_str(text)?),
            _ => Self::Scalar(text.to_owned()),
        })
    }
}

/// Reads a filter.
pub fn parse(text: &str) -> Result<Vec<Condition>, Failure> {
    let raw = serde_json::from_str(text).map_err(unreadable)?;
    let Json::Object(columns) = Json::of(raw).map_err(unreadable)? else {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("a filter is an object, not {}", shown(raw.get())),
        )
        .hint(
            "Name columns and what they must be: \
             {\"camera\": \"north gate\", \"taken_at\": {\">=\": \"2026-11-01\"}, \"lane\": [1, 2]}.",
        ));
    };
    let mut conditions = Vec::new();
    for (column, raw) in columns {
        let mut add = |test| conditions.push(Condition { column: column.clone(), test });
        match Json::of(raw).map_err(unreadable)? {
            Json::Object(operators) if operators.is_empty() => {
                return Err(wrong(&column, raw, "names no operator", ONE_VALUE));
            }
            Json::Object(operators) => {
                for (name, raw) in operators {
                    let Some(operator) = Operator::of_name(&name) else {
                        return Err(Failure::new(
                            Code::ERRCODE_INVALID_PARAMETER_VALUE,
                            format!(
                                "invalid filter on column \"{}\": unknown operator \"{}\"",
                                shown(&column),
                                shown(&name)
                            ),
                        )
                        .hint("Operators are =, <>, <, <=, > and >=."));
                    };
                    add(test(&column, operator, raw)?);
                }
            }
            _ => add(test(&column, Operator::Equal, raw)?),
        }
    }
    Ok(conditions)
}

const ONE_VALUE: &str = "A condition is a value, a list of values, null, or operators with a \
                         value each, such as {\">=\": 1, \"<\": 5}.";

/// The test of a column by one operator.
fn test(column: &str, operator: Operator, raw: &RawValue) -> Result<Test, Failure> {
    let equality = matches!(operator, Operator::Equal | Operator::NotEqual);
    match Json::of(raw).map_err(unreadable)? {
        Json::Scalar(value) => Ok(Test::One(operator, value)),
        Json::Null if operator == Operator::Equal => Ok(Test::Null),
        Json::Null if operator == Operator::NotEqual => Ok(Test::NotNull),
        Json::Array(values) if equality => {
            let values = values.into_iter().map(|raw| match Json::of(raw).map_err(unreadable)? {
                Json::Scalar(value) => Ok(value),
                Json::Null => Err(wrong(column, raw, "in a list equals nothing", NO_NULL)),
                _ => Err(wrong(column, raw, "in a list is no plain value", ONE_VALUE)),
            });
            Ok(Test::List(operator, values.collect::<Result<_, Failure>>()?))
        }
        Json::Null | Json::Array(_) => Err(wrong(column, raw, "has no order", ORDER)),
        Json::Object(_) => Err(wrong(column, raw, "is no value", ONE_VALUE)),
    }
}

const NO_NULL: &str = "A column that must be NULL is {\"column\": null}.";
const ORDER: &str = "Only = and <> take null or a list; the others take one value.";

fn wrong(column: &str, raw: &RawValue, why: &str, hint: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("invalid filter on column \"{}\": {} {why}", shown(column), shown(raw.get())),
    )
    .hint(hint)
}

fn unreadable(error: serde_json::Error) -> Failure {
    Failure::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, "the filter cannot be read")
        .detail(error.to_string())
        .hint("Nest less, and use UTF-8.")
}
