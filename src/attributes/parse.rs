//! How a user lists attributes, for `clip_attach` and for a search alike.

use crate::limits::{self, shown};
use crate::models::binding::is_name;

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
