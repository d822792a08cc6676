//! Words and phrases that are looked up in a query: how they are written, and where they occur.
//! Apart from what they stand for, since domains and attribute values are found the same way.
//!
//! | entry | what it means |
//! | --- | --- |
//! | `pickup truck` | these words, whatever the case, the last one singular or plural |
//! | `=Mini` | in exactly this case |
//! | `mini$` | only where no further noun follows: "a red mini", not "a mini skirt" |
//! | `!bus stop` | takes these words out of the running |
//! | `!* key`, `!toy *` | the same for any entry of the same owner with these words after or before it |

use std::collections::HashMap;

use crate::phrase;
use crate::words::{self, Token, tokenize};

/// Entries, each with an owner: the number of a domain, or of a value.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    /// By their first word (folded), the longest first, then in the order they were added.
    entries: HashMap<String, Vec<Entry>>,
    neighbours: Vec<Neighbour>,
}

#[derive(Clone, Debug)]
struct Entry {
    words: Vec<String>,
    exact_case: bool,
    at_end: bool,
    /// `None` for an entry that only takes its words out of the running.
    owner: Option<usize>,
}

/// Words that take an entry beside them out of the running.
#[derive(Debug)]
struct Neighbour {
    owner: usize,
    entry: Entry,
    /// Whether they stand after the entry.
    after: bool,
}

/// An entry found in a text: tokens `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub from: usize,
    pub to: usize,
    pub owner: usize,
}

impl Vocabulary {
    /// `entries` with their owners. Of equal entries the first counts.
    pub fn new<'a>(entries: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let mut vocabulary = Self::default();
        for (text, owner) in entries {
            vocabulary.add(text.trim(), owner);
        }
        for list in vocabulary.entries.values_mut() {
            list.sort_by_key(|e| std::cmp::Reverse((e.words.len(), e.exact_case, e.at_end)));
        }
        vocabulary
    }

    fn add(&mut self, text: &str, owner: usize) {
        let (text, negative) = stripped(text, str::strip_prefix, '!');
        let (text, exact_case) = stripped(text, str::strip_prefix, '=');
        let (text, at_end) = stripped(text, str::strip_suffix, '$');
        let tokens = tokenize(text);
        let Some(first) = tokens.first() else { return };
        let word = |t: &Token| if exact_case { t.text.to_owned() } else { t.folded.clone() };
        let words = tokens.iter().map(word).collect();
        let entry = Entry { words, exact_case, at_end, owner: (!negative).then_some(owner) };
        let (after, before) = (text.starts_with('*'), text.ends_with('*'));
        if negative && (after || before) {
            self.neighbours.push(Neighbour { owner, entry, after });
            return;
        }
        let keys = words::singular_and_plural(&first.folded, tokens.len() == 1);
        for key in keys {
            self.entries.entry(key).or_default().push(entry.clone());
        }
    }

    /// All entries in a text, from left to right, none over another.
    pub fn find(&self, tokens: &[Token]) -> Vec<Match> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let entries = self.entries.get(&tokens[at].folded).map_or(&[][..], Vec::as_slice);
            match entries.iter().find(|e| e.matches(tokens, at)) {
                Some(entry) => {
                    let to = at + entry.words.len();
                    found.extend(entry.owner.map(|owner| Match { from: at, to, owner }));
                    at = to;
                }
                None => at += 1,
            }
        }
        found.retain(|m| !self.neighbours.iter().any(|n| n.spoils(tokens, m)));
        found
    }
}

impl Entry {
    fn matches(&self, tokens: &[Token], at: usize) -> bool {
        let to = at + self.words.len();
        let Some(tokens_of_it) = tokens.get(at..to) else { return false };
        let last = self.words.len() - 1;
        let same = self.words.iter().zip(tokens_of_it).enumerate().all(|(i, (word, token))| {
            let same = match self.exact_case {
                true => token.text == word,
                false => token.folded == *word,
            };
            let unbroken = i == 0 || !token.after_break;
            unbroken && (same || (i == last && words::is_plural_of(token, word, self.exact_case)))
        });
        same && (!self.at_end || phrase::ends_before(tokens, to))
    }
}

impl Neighbour {
    fn spoils(&self, tokens: &[Token], found: &Match) -> bool {
        if self.owner != found.owner {
            return false;
        }
        let unbroken = |at: usize| tokens.get(at).is_some_and(|token| !token.after_break);
        match self.after {
            true => unbroken(found.to) && self.entry.matches(tokens, found.to),
            false => {
                let from = found.from.checked_sub(self.entry.words.len());
                unbroken(found.from) && from.is_some_and(|from| self.entry.matches(tokens, from))
            }
        }
    }
}

/// The text without a mark at one end, and whether it was there.
fn stripped<'a>(
    text: &'a str,
    strip: fn(&'a str, char) -> Option<&'a str>,
    mark: char,
) -> (&'a str, bool) {
    match strip(text, mark) {
        Some(rest) => (rest.trim(), true),
        None => (text, false),
    }
}
