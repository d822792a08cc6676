//! Texts to token ids by a model's `tokenizer.json`, through the crate `tokenizers`.
//!
//! Apart from [`tokenize`](crate::tokenize), CLIP's own encoding, because the file may be anybody's: it
//! has bounds before it is read, what it says of padding and truncation is replaced by what the
//! model's description says, a text has bounds before the file's rules are let at it, and whatever
//! they do to it ends as an error of that text.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fancy_regex::Regex;
use serde_json::Value;
use tokenizers::{Tokenizer as Library, TruncationParams};

use crate::model::{Clean, TokensConfig, shorten};
use crate::tokenize::{MAX_TEXT_BYTES, basic_clean, is_python_space};

/// Bytes of a `tokenizer.json`: the largest published ones (256,000 tokens) have some 35 MB.
pub const MAX_FILE_BYTES: u64 = 128 << 20;
/// Bytes of a cleaned text that are tokenised, some twenty for each of the most tokens there can be.
const MAX_BYTES: usize = 100_000;
/// Languages that a message lists.
const LISTED: usize = 12;
/// How many times longer replacements may make a text.
const MAX_GROWTH: usize = 4096;

/// Why a tokeniser's file is not accepted, or a text could not be tokenised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokensError(String);

/// The tokeniser of one model.
#[derive(Debug)]
pub struct FileTokenizer {
    library: Library,
    clean: Vec<Clean>,
    prefix: String,
    zeroed: Option<i64>,
    /// The tokens of languages, where the model has some, and the one that stands at each text.
    languages: Option<(BTreeMap<String, u32>, u32)>,
    /// Patterns whose search may go on without end. The library takes one that was given up for one
    /// that was not found, and would split the text otherwise than the model's own tokeniser.
    hard: Vec<Regex>,
}

impl FileTokenizer {
    /// Reads the bytes of a `tokenizer.json` for texts of at most `context_length` tokens.
    pub fn new(
        json: &[u8],
        config: &TokensConfig,
        context_length: usize,
    ) -> Result<Self, TokensError> {
        let fail = |message: String| TokensError(format!("\"{}\": {message}", config.file));
        if json.len() as u64 > MAX_FILE_BYTES {
            return Err(fail(format!(
                "it has {} bytes; a tokenizer has at most {MAX_FILE_BYTES}",
                json.len()
            )));
        }
        let mut described: Value = serde_json::from_slice(json).map_err(|e| fail(e.to_string()))?;
        check(&described).map_err(fail)?;
        if let Some(language) = &config.language {
            set_language(&mut described, language).map_err(fail)?;
        }
        for key in ["padding", "truncation"] {
            described[key] = Value::Null;
        }
        let languages = languages(&mut described);
        let mut hard = Vec::new();
        collect_hard(&described, &mut hard).map_err(fail)?;
        let library = guarded(|| serde_json::from_value(described).map_err(|e| e.to_string()))
            .map_err(|e| fail(shorten(&e).into_owned()))?;
        let mut tokenizer = Self {
            library,
            clean: config.clean.clone(),
            prefix: config.prefix.clone(),
            zeroed: config.zeroed.map(i64::from),
            languages,
            hard,
        };
        let truncation = TruncationParams { max_length: context_length, ..Default::default() };
        let set = guarded(|| {
            let set = tokenizer.library.with_truncation(Some(truncation));
            set.map(drop).map_err(|e| e.to_string())
        });
        set.map_err(fail)?;
        Ok(tokenizer)
    }

    /// Number of token ids: one more than the largest.
    pub fn vocabulary(&self) -> u32 {
        self.library.get_vocab(true).values().max().map_or(0, |id| id + 1)
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.library.token_to_id(token)
    }

    /// The ids of a text, special ones among them, cut to the context length and not filled up.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, TokensError> {
        self.encode_in(text, None)
    }

    /// The id of a language's token in place of which it stands, or why there is none.
    pub fn language(&self, name: &str) -> Result<(u32, u32), TokensError> {
        let shown = shorten(name);
        let Some((languages, usual)) = &self.languages else {
            let message = format!("the model has no languages, so that no text is in \"{shown}\"");
            return Err(TokensError(message));
        };
        if let Some(id) = languages.get(name) {
            return Ok((*id, *usual));
        }
        let known: Vec<&str> = languages.keys().map(String::as_str).collect();
        let mut list = known[..known.len().min(LISTED)].join(", ");
        if known.len() > LISTED {
            list += &format!(" and {} more", known.len() - LISTED);
        }
        Err(TokensError(format!("the model has no language \"{shown}\": it has {list}")))
    }

    /// The same of a text in a language: its token, and the one in whose place it stands, are those
    /// of [`language`](Self::language).
    pub fn encode_in(
        &self,
        text: &str,
        language: Option<(u32, u32)>,
    ) -> Result<Vec<i64>, TokensError> {
        let mut text = cleaned(text, &self.clean);
        text.truncate(text.floor_char_boundary(MAX_BYTES));
        if !self.prefix.is_empty() {
            text.insert_str(0, &self.prefix);
        }
        if self.hard.iter().any(|pattern| pattern.find_iter(&text).any(|found| found.is_err())) {
            let what = "a pattern of its tokenizer takes too long on it";
            return Err(TokensError(format!("the text cannot be tokenised: {what}")));
        }
        let encoded = guarded(|| self.library.encode_fast(text, true).map_err(|e| e.to_string()));
        let encoded = encoded.map_err(|message| {
            TokensError(format!("the text cannot be tokenised: {}", shorten(&message)))
        })?;
        let mut ids = encoded.get_ids().to_vec();
        if let Some((language, usual)) = language {
            // The template's own token, and not one that the text spells.
            let special = encoded.get_special_tokens_mask();
            for (id, special) in ids.iter_mut().zip(special) {
                if *special == 1 && *id == usual {
                    *id = language;
                }
            }
        }
        let id = |&id: &u32| Some(i64::from(id)).filter(|id| Some(*id) != self.zeroed).unwrap_or(0);
        Ok(ids.iter().map(id).collect())
    }
}

/// What a file's rules do is the file's doing: a panic in them is an error like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the tokenizer gave up".into()))
}

/// The steps of a text's cleaning.
pub fn cleaned(text: &str, steps: &[Clean]) -> String {
    let mut text = text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned();
    for step in steps {
        text = match step {
            Clean::Repair => basic_clean(&text),
            Clean::Underscores => text.replace('_', " "),
            Clean::Punctuation => text.chars().filter(|c| !c.is_ascii_punctuation()).collect(),
            Clean::Lower => text.to_lowercase(),
            Clean::Whitespace => {
                let words: Vec<&str> =
                    text.split(is_python_space).filter(|w| !w.is_empty()).collect();
                words.join(" ")
            }
        };
    }
    text
}

/// Refuses what would take memory without end: replacements that make texts longer and longer.
fn check(described: &Value) -> Result<(), String> {
    if !described.get("model").is_some_and(Value::is_object) {
        return Err("it is no tokenizer: model is missing".into());
    }
    let mut growth = 1usize;
    for part in ["normalizer", "pre_tokenizer"] {
        growth = growth.saturating_mul(growth_of(&described[part]));
    }
    if growth > MAX_GROWTH {
        return Err(format!(
            "normalizer makes a text up to {growth} times longer; at most {MAX_GROWTH} times is allowed"
        ));
    }
    Ok(())
}

/// The patterns of normaliser and pre-tokeniser that look around or back.
fn collect_hard(described: &Value, hard: &mut Vec<Regex>) -> Result<(), String> {
    fn collect(rule: &Value, hard: &mut Vec<Regex>) -> Result<(), String> {
        match rule {
            Value::Array(rules) => rules.iter().try_for_each(|rule| collect(rule, hard)),
            Value::Object(fields) => fields.iter().try_for_each(|(key, rule)| match rule {
                Value::String(pattern) if key == "Regex" => {
                    let looks = ["(?=", "(?!", "(?<", "(?>", "\\1", "\\k"];
                    if looks.iter().any(|sign| pattern.contains(sign)) {
                        hard.push(Regex::new(pattern).map_err(|e| format!("pattern: {e}"))?);
                    }
                    Ok(())
                }
                rule => collect(rule, hard),
            }),
            _ => Ok(()),
        }
    }
    ["normalizer", "pre_tokenizer"].iter().try_for_each(|part| collect(&described[*part], hard))
}

fn growth_of(rule: &Value) -> usize {
    match rule {
        Value::Array(rules) => {
            rules.iter().map(growth_of).fold(1, |all, one| all.saturating_mul(one))
        }
        Value::Object(fields) => {
            let own = match fields.get("type").and_then(Value::as_str) {
                Some("Replace") => fields.get("content").and_then(Value::as_str),
                Some("Prepend") => fields.get("prepend").and_then(Value::as_str),
                _ => None,
            };
            let parts = ["normalizers", "pretokenizers"].iter().filter_map(|key| fields.get(*key));
            let parts = parts.map(growth_of).fold(1, |all: usize, one| all.saturating_mul(one));
            parts.saturating_mul(own.map_or(1, |text| text.len().max(1)))
        }
        _ => 1,
    }
}

/// Puts another language's token into the template that stands around each text.
fn set_language(described: &mut Value, language: &str) -> Result<(), String> {
    let id = token_id(described, language)
        .ok_or_else(|| format!("there is no token \"{}\" for the language", shorten(language)))?;
    let template = template(&mut described["post_processor"])
        .ok_or("post_processor is no template that a language could be put into")?;
    let mut replaced = false;
    for list in ["single", "pair"] {
        for piece in template[list].as_array_mut().into_iter().flatten() {
            let token = piece.get_mut("SpecialToken").and_then(|special| special.get_mut("id"));
            if let Some(token) = token.filter(|token| token.as_str().is_some_and(is_language)) {
                *token = language.into();
                replaced = true;
            }
        }
    }
    if !replaced {
        return Err("post_processor has no token of a language".into());
    }
    template["special_tokens"][language] =
        serde_json::json!({"id": language, "ids": [id], "tokens": [language]});
    Ok(())
}

/// Whether a token is called as languages are, by three letters and four of their script.
fn is_language(name: &str) -> bool {
    let (language, script) = name.split_once('_').unwrap_or_default();
    language.len() == 3 && script.len() == 4
}

/// The tokens of languages, and which of them stands at each text; `None` where none does.
fn languages(described: &mut Value) -> Option<(BTreeMap<String, u32>, u32)> {
    let usual = template(&mut described["post_processor"])?["single"]
        .as_array()?
        .iter()
        .filter_map(|piece| piece["SpecialToken"]["id"].as_str())
        .find(|name| is_language(name))?
        .to_owned();
    let added = described["added_tokens"].as_array()?.iter();
    let names = added.filter_map(|token| token["content"].as_str());
    let names = names.filter(|name| is_language(name)).chain([&usual[..]]);
    let known: BTreeMap<String, u32> =
        names.filter_map(|name| Some((name.to_owned(), token_id(described, name)?))).collect();
    let usual = *known.get(&usual)?;
    Some((known, usual))
}

/// The template among the post-processors.
fn template(processor: &mut Value) -> Option<&mut Value> {
    if processor["type"] == "TemplateProcessing" {
        return Some(processor);
    }
    let all = processor.get_mut("processors")?.as_array_mut()?;
    all.iter_mut().find(|processor| processor["type"] == "TemplateProcessing")
}

/// The id of a token that was added to the vocabulary or is in it.
pub fn token_id(described: &Value, token: &str) -> Option<u32> {
    let added = described["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter(|added| added["content"] == token).find_map(|one| one["id"].as_u64());
    let vocabulary = &described["model"]["vocab"];
    let found = added.or_else(|| match vocabulary {
        Value::Object(vocabulary) => vocabulary.get(token)?.as_u64(),
        Value::Array(pieces) => {
            pieces.iter().position(|piece| piece[0] == token).map(|at| at as u64)
        }
        _ => None,
    });
    found.and_then(|id| u32::try_from(id).ok())
}
