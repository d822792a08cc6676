//! Prompt enhancement: finds the domain of a query by its words and writes the prompts that the
//! text tower gets. It is pure, so that the rules are tested without a server; the words and
//! templates are data (`clip_templates` in SQL).
//!
//! The method is A3R's (Yang et al., arXiv 2306.06691): vehicle and person queries lose their
//! closing full stop, vehicle queries get " image taken by traffic surveillance cameras".
//!
//! How a domain is found: the words of all domains are looked up in the query (the syntax of
//! entries stands in `vocabulary`), and what the query is about decides among them (`phrase`). No
//! word, or a query about something else: no domain, and the query stays as it is, to the byte.

mod builtin;

use std::fmt;

pub use builtin::builtin;

use crate::head::{Head, head};
use crate::vocabulary::{Match, Vocabulary};
use crate::words::{Token, tokenize};

/// A domain of queries: the words it is known by and the prompts it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    pub name: String,
    /// Entries: a word or phrase, with marks that say how it is looked up.
    pub words: Vec<String>,
    /// Prompt templates; each `{}` stands for the query. None: the query itself is the prompt.
    pub templates: Vec<String>,
    /// Whether the query loses surrounding blanks and its closing full stop.
    pub strip_full_stop: bool,
}

/// What enhancement decided for one query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enhanced {
    /// Name of the domain, if there is one.
    pub domain: Option<String>,
    /// The words of the query that speak for the domain, in its order and spelling; without a
    /// domain those that might have.
    pub matched: Vec<String>,
    pub reason: Reason,
    /// What goes to the text tower; never empty.
    pub prompts: Vec<String>,
}

/// Why a query has its domain, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller said so.
    Given,
    /// The query is about this word.
    Head(String),
    /// No word of a domain occurs.
    NoWord,
    /// Words of a domain occur beside what the query is about.
    NotHead,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Given => write!(f, "given by the caller"),
            Self::Head(word) => write!(f, "the query is about \"{word}\""),
            Self::NoWord => write!(f, "no word of a domain"),
            Self::NotHead => write!(f, "the query is about something else"),
        }
    }
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
    vocabulary: Vocabulary,
}

/// A query, read once for all that is asked about it: its domain and prompts, and the attributes that
/// it names.
#[derive(Debug)]
pub struct Reading<'l, 'q> {
    pub(crate) lexicon: &'l Lexicon<'l>,
    pub(crate) text: &'q str,
    pub(crate) tokens: Vec<Token<'q>>,
    /// Entries of all domains.
    pub(crate) matches: Vec<Match>,
    /// The entry that the query is about.
    pub(crate) head: Head,
}

impl<'a> Lexicon<'a> {
    /// Where two domains have the same entry, the one that comes first in `domains` gets it.
    pub fn new(domains: &'a [Domain]) -> Self {
        let entries = domains
            .iter()
            .enumerate()
            .flat_map(|(owner, domain)| domain.words.iter().map(move |w| (w.as_str(), owner)));
        Self { domains, vocabulary: Vocabulary::new(entries) }
    }

    /// Takes a query apart.
    pub fn read<'l, 'q>(&'l self, text: &'q str) -> Reading<'l, 'q>
    where
        'a: 'l,
    {
        let tokens = tokenize(text);
        let matches = self.vocabulary.find(&tokens);
        let head = head(&tokens, &matches);
        Reading { lexicon: self, text, tokens, matches, head }
    }

    /// Writes the prompts for a query of which nothing else is asked.
    pub fn enhance(&self, text: &str, forced: Option<&str>) -> Result<Enhanced, PromptError> {
        self.read(text).enhance(forced)
    }

    /// Whether the domain with this number has this name.
    pub(crate) fn is_of(&self, number: usize, name: &str) -> bool {
        self.domains[number].name == name
    }

    fn number_of(&self, name: &str) -> Result<usize, PromptError> {
        let found = self.domains.iter().position(|domain| domain.name == name);
        found.ok_or_else(|| PromptError::UnknownDomain(name.to_owned()))
    }
}

impl Reading<'_, '_> {
    /// Writes the prompts, in the domain called `forced` or the one that the query's words speak for.
    pub fn enhance(&self, forced: Option<&str>) -> Result<Enhanced, PromptError> {
        let Self { lexicon, text, tokens, matches, head } = self;
        let forced = forced.map(|name| lexicon.number_of(name)).transpose()?;
        let words = |m: &Match| text[tokens[m.from].start..tokens[m.to - 1].end].to_owned();
        let (domain, reason) = match (forced, *head) {
            (Some(domain), _) => (Some(domain), Reason::Given),
            (None, Head::Entry(at)) => (Some(matches[at].owner), Reason::Head(words(&matches[at]))),
            (None, Head::Other) => (None, Reason::NotHead),
            (None, Head::Nothing) => (None, Reason::NoWord),
        };
        let matched = matches
            .iter()
            .filter(|m| domain.is_none_or(|domain| m.owner == domain))
            .map(words)
            .collect();
        let (domain, prompts) = match domain {
            Some(domain) => {
                let domain = &lexicon.domains[domain];
                (Some(domain.name.clone()), domain.prompts(text))
            }
            None => (None, vec![text.to_string()]),
        };
        Ok(Enhanced { domain, matched, reason, prompts })
    }
}

impl Domain {
    /// The prompts of a query of this domain.
    fn prompts(&self, text: &str) -> Vec<String> {
        let query = if self.strip_full_stop { strip_full_stop(text) } else { text };
        match self.templates.is_empty() {
            true => vec![query.to_owned()],
            false => self.templates.iter().map(|t| t.replace("{}", query)).collect(),
        }
    }
}

/// The query without surrounding blanks and without one full stop at its end.
fn strip_full_stop(text: &str) -> &str {
    let text = text.trim();
    text.strip_suffix(['.', '。']).unwrap_or(text).trim_end()
}
