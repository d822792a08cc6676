//! One section of a description, read key by key: whoever reads it takes what he knows and finishes
//! with a list of what is known to change nothing. Whatever is left is refused by its name, so that
//! no option is overlooked. Its own file, since each library's description is read this way.

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The longest value that a message shows, in characters.
const MOST_SHOWN: usize = 100;

/// A JSON object on its way to being understood.
pub(crate) struct Section {
    /// What stands before a key in messages: "vision_cfg.", or nothing.
    at: String,
    left: Map<String, Value>,
}

impl Section {
    pub(crate) fn new(at: impl Into<String>, value: Value) -> Result<Self, String> {
        let at = at.into();
        match value {
            Value::Object(left) => Ok(Self { at, left }),
            other => Err(format!("{} = {} is no object", at.trim_end_matches('.'), shown(&other))),
        }
    }

    /// Whether the key is there, with a value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(|value| !value.is_null())
    }

    /// A value; `null` says as little as an absent key.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key).filter(|value| !value.is_null())
    }

    /// The section within this one.
    pub(crate) fn section(&mut self, key: &str) -> Result<Option<Self>, String> {
        let at = format!("{}{key}.", self.at);
        self.take(key).map(|value| Self::new(at, value)).transpose()
    }

    /// A value of a certain kind, `kind` saying which it has to be.
    pub(crate) fn get<T: DeserializeOwned>(
        &mut self,
        key: &str,
        kind: &str,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let read = serde_json::from_value(value.clone());
        read.map(Some).map_err(|_| self.refusal(key, &value, format!("it has to be {kind}")))
    }

    pub(crate) fn whole(&mut self, key: &str, default: usize) -> Result<usize, String> {
        Ok(self.get(key, "a whole number")?.unwrap_or(default))
    }

    pub(crate) fn number(&mut self, key: &str, default: f64) -> Result<f64, String> {
        Ok(self.get(key, "a number")?.unwrap_or(default))
    }

    pub(crate) fn flag(&mut self, key: &str, default: bool) -> Result<bool, String> {
        Ok(self.get(key, "true or false")?.unwrap_or(default))
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        self.get(key, "a text")
    }

    /// Three values, or one for all three channels.
    pub(crate) fn channels(&mut self, key: &str) -> Result<Option<[f32; 3]>, String> {
        let kind = "three numbers";
        match self.take(key) {
            Some(Value::Number(one)) => Ok(one.as_f64().map(|one| [one as f32; 3])),
            Some(value) => {
                let read: Result<[f32; 3], _> = serde_json::from_value(value.clone());
                let read = read.map_err(|_| self.refusal(key, &value, kind))?;
                Ok(Some(read))
            }
            None => Ok(None),
        }
    }

    /// Refuses a value that is there and is none of these.
    pub(crate) fn only(&mut self, key: &str, known: &[Value]) -> Result<(), String> {
        match self.take(key) {
            Some(value) if !known.contains(&value) => {
                let known: Vec<String> = known.iter().map(shown).collect();
                Err(self.refusal(key, &value, format!("only {}", known.join(" and "))))
            }
            _ => Ok(()),
        }
    }

    /// Drops keys that say nothing about what a trained model computes.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| drop(self.left.remove(*key)));
    }

    /// The same, where `option`, with which they would count, is absent; if it is there, it is what
    /// is refused.
    pub(crate) fn ignore_without(&mut self, option: &str, keys: &[&str]) {
        if self.has(option) {
            self.left.retain(|key, _| key == option);
        }
        self.ignore(keys);
    }

    /// Ends the reading: whatever has not been taken, and has a value, is not understood.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.left.iter().find(|(_, value)| !value.is_null()) {
            Some((key, value)) => Err(self.refusal(key, value, "nothing is known of it")),
            None => Ok(()),
        }
    }

    pub(crate) fn refusal(&self, key: &str, value: &Value, why: impl Display) -> String {
        format!("{}{key} = {} is not supported: {why}", self.at, shown(value))
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
