//! Prompt enhancement: finds the domain of a query by its words and writes the prompts that the
//! text tower gets. It is a file of its own, and pure, so that the rules are tested without a
//! server; the words and templates are data (`clip_templates` in SQL).
//!
//! The method is A3R's (Yang et al., arXiv 2306.06691): vehicle and person queries lose their
//! closing full stop, vehicle queries get " image taken by traffic surveillance cameras".
//!
//! How a domain is found:
//!
//! 1. A domain's words and phrases are looked up in the query at word borders, whatever the case,
//!    singular or plural. At each place the longest entry wins. An entry written `=Mini` matches
//!    in exactly this case; an entry written `!bus stop` takes its words out of the running.
//! 2. The head of the query decides when several domains match: the first match, since English
//!    puts what the picture shows before what stands around it ("a man beside a white van" is
//!    about a man). In a compound the last word is the head ("a truck driver", "a police car"),
//!    and a possessive gives way to what it owns ("the driver's red car").
//! 3. No match, no domain: the query stays as it is, to the byte.

mod builtin;
mod words;

use std::collections::HashMap;

pub use builtin::builtin;
use words::{Token, tokenize};

/// A domain of queries: the words it is known by and the prompts it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    pub name: String,
    /// Entries in the syntax of the module's documentation.
    pub words: Vec<String>,
    /// Prompt templates; each `{}` stands for the query. None: the query itself is the prompt.
    pub templates: Vec<String>,
    /// Whether the query loses surrounding blanks and its closing full stop.
    pub strip_full_stop: bool,
}

/// What enhancement decided for one query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enhanced {
    /// Name of the domain; `None`: no domain's words occur in the query.
    pub domain: Option<String>,
    /// The words of the query that speak for the domain, in its order and spelling.
    pub matched: Vec<String>,
    /// What goes to the text tower; never empty.
    pub prompts: Vec<String>,
}

/// Why a query cannot be enhanced.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PromptError {
    #[error("there is no domain \"{0}\"")]
    UnknownDomain(String),
}

/// The vocabulary of all domains, ready for look-ups.
#[derive(Debug)]
pub struct Lexicon<'a> {
    domains: &'a [Domain],
    /// Entries by their first word (folded), the longest first, then in the order of `domains`.
    entries: HashMap<String, Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    words: Vec<String>,
    exact_case: bool,
    /// Index into `domains`; `None` for an entry that only takes its words out of the running.
    domain: Option<usize>,
}

/// An entry found in the query: tokens `from..to`.
#[derive(Clone, Copy, Debug)]
struct Match {
    from: usize,
    to: usize,
    domain: usize,
}

impl<'a> Lexicon<'a> {
    /// Where two domains have the same entry, the one that comes first in `domains` gets it.
    pub fn new(domains: &'a [Domain]) -> Self {
        let mut entries: HashMap<String, Vec<Entry>> = HashMap::new();
        for (index, domain) in domains.iter().enumerate() {
            for word in &domain.words {
                let (word, negative) = match word.trim().strip_prefix('!') {
                    Some(rest) => (rest, true),
                    None => (word.trim(), false),
                };
                let (word, exact_case) = match word.strip_prefix('=') {
                    Some(rest) => (rest, true),
                    None => (word, false),
                };
                let tokens = tokenize(word);
                let Some(first) = tokens.first() else { continue };
                let words = match exact_case {
                    true => tokens.iter().map(|t| t.text.to_string()).collect(),
                    false => tokens.iter().map(|t| t.folded.clone()).collect(),
                };
                let domain = (!negative).then_some(index);
                for key in words::singular_and_plural(&first.folded, tokens.len() == 1) {
                    let entry = Entry { words: Vec::clone(&words), exact_case, domain };
                    entries.entry(key).or_default().push(entry);
                }
            }
        }
        for list in entries.values_mut() {
            list.sort_by_key(|e| std::cmp::Reverse((e.words.len(), e.exact_case)));
        }
        Self { domains, entries }
    }

    /// Writes the prompts for `text`, in the domain called `forced` or the one its words speak for.
    pub fn enhance(&self, text: &str, forced: Option<&str>) -> Result<Enhanced, PromptError> {
        let tokens = tokenize(text);
        let matches = self.find(&tokens);
        let domain = match forced {
            Some(name) => Some(
                self.domains
                    .iter()
                    .position(|d| d.name == name)
                    .ok_or_else(|| PromptError::UnknownDomain(name.to_owned()))?,
            ),
            None => head(&tokens, &matches),
        };
        let Some(index) = domain else {
            let prompts = vec![text.to_owned()];
            return Ok(Enhanced { domain: None, matched: Vec::new(), prompts });
        };
        let matched = matches
            .iter()
            .filter(|m| m.domain == index)
            .map(|m| text[tokens[m.from].start..tokens[m.to - 1].end].to_owned())
            .collect();
        let domain = &self.domains[index];
        let query = if domain.strip_full_stop { strip_full_stop(text) } else { text };
        let prompts = match domain.templates.is_empty() {
            true => vec![query.to_owned()],
            false => domain.templates.iter().map(|t| t.replace("{}", query)).collect(),
        };
        Ok(Enhanced { domain: Some(domain.name.clone()), matched, prompts })
    }

    /// All entries in the query, from left to right, none over another.
    fn find(&self, tokens: &[Token]) -> Vec<Match> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let entries = self.entries.get(&tokens[at].folded).map_or(&[][..], Vec::as_slice);
            match entries.iter().find(|e| e.matches(&tokens[at..])) {
                Some(entry) => {
                    let to = at + entry.words.len();
                    found.extend(entry.domain.map(|domain| Match { from: at, to, domain }));
                    at = to;
                }
                None => at += 1,
            }
        }
        found
    }
}

impl Entry {
    fn matches(&self, tokens: &[Token]) -> bool {
        let Some(tokens) = tokens.get(..self.words.len()) else { return false };
        let last = tokens.len() - 1;
        self.words.iter().zip(tokens).enumerate().all(|(i, (word, token))| {
            let same = match self.exact_case {
                true => token.text == word,
                false => token.folded == *word,
            };
            let unbroken = i == 0 || !token.after_break;
            unbroken && (same || (i == last && words::is_plural_of(token, word, self.exact_case)))
        })
    }
}

/// The domain of the match that heads the query's first noun phrase.
fn head(tokens: &[Token], matches: &[Match]) -> Option<usize> {
    let mut matches = matches.iter();
    let mut head = matches.next()?;
    for next in matches {
        let between = &tokens[head.to..next.from];
        let compound = between.is_empty();
        let owned = tokens[head.to - 1].possessive && !between.iter().any(Token::ends_phrase);
        if tokens[next.from].after_break || !(compound || owned) {
            break;
        }
        head = next;
    }
    Some(head.domain)
}

/// The query without surrounding blanks and without one full stop at its end.
fn strip_full_stop(text: &str) -> &str {
    let text = text.trim();
    text.strip_suffix(['.', '。']).unwrap_or(text).trim_end()
}
