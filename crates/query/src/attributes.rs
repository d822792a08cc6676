//! The values of attributes that a sentence names: "a gray van" is of colour `grey` and type
//! `Minivan`. Apart from the domains, since a sentence has one domain and any number of attributes;
//! values and their words are data (`clip_attributes` in SQL).
//!
//! Only words that describe what the query is about count: in "a red car beside a blue van" that is
//! "red", in "a red or white van" both, in "a car that is red" again "red". In alternatives ("a
//! Toyota or a Honda") an attribute counts if each of them names it.

mod builtin;

use std::ops::Range;

pub use builtin::builtin;

use crate::enhance::Reading;
use crate::head::Head;
use crate::phrase::{self, Phrase};
use crate::vocabulary::{Match, Vocabulary};
use crate::words::Token;

/// A value that an attribute of things in a domain may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    pub domain: String,
    pub attribute: String,
    pub value: String,
    /// Entries that name it, in the syntax of a domain's words. None: the value itself.
    pub words: Vec<String>,
    /// Prompts for telling it from other values in a picture; each `{}` stands for the value.
    pub templates: Vec<String>,
}

/// The values of one attribute that a sentence names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub attribute: String,
    /// As they are in the data, without repetition.
    pub values: Vec<String>,
    /// Their words in the sentence, in its spelling.
    pub words: Vec<String>,
}

/// Finds what a query of `domain` says about attributes, by name.
pub fn named(query: &Reading, values: &[Value], domain: &str) -> Vec<Named> {
    let Reading { lexicon, text, tokens, matches, head } = query;
    let values: Vec<&Value> = values.iter().filter(|value| value.domain == domain).collect();
    let entries = values.iter().enumerate().flat_map(|(owner, value)| {
        let own = value.words.is_empty().then_some(value.value.as_str());
        value.words.iter().map(String::as_str).chain(own).map(move |entry| (entry, owner))
    });
    let vocabulary = Vocabulary::new(entries);
    let found = vocabulary.find(tokens);
    let subject = match *head {
        Head::Entry(at) if lexicon.is_of(matches[at].owner, domain) => Some(matches[at]),
        _ => matches.iter().find(|m| lexicon.is_of(m.owner, domain)).copied(),
    };
    let alternatives = match subject {
        Some(subject) => Sentence { tokens, matches, values: &found }.alternatives(subject),
        None => vec![vec![0..tokens.len()]],
    };
    let mut named: Vec<Named> = Vec::new();
    let in_ranges = |m: &Match, ranges: &[Range<usize>]| ranges.iter().any(|r| r.contains(&m.from));
    for m in &found {
        if !alternatives.iter().any(|ranges| in_ranges(m, ranges)) {
            continue;
        }
        let value = values[m.owner];
        let at = named.iter().position(|n| n.attribute == value.attribute).unwrap_or_else(|| {
            let attribute = value.attribute.clone();
            named.push(Named { attribute, values: Vec::new(), words: Vec::new() });
            named.len() - 1
        });
        if !named[at].values.contains(&value.value) {
            named[at].values.push(value.value.clone());
        }
        named[at].words.push(text[tokens[m.from].start..tokens[m.to - 1].end].to_owned());
    }
    named.retain(|n| {
        alternatives.iter().all(|ranges| {
            found.iter().any(|m| values[m.owner].attribute == n.attribute && in_ranges(m, ranges))
        })
    });
    named.sort_by(|a, b| a.attribute.cmp(&b.attribute));
    named
}

struct Sentence<'a> {
    tokens: &'a [Token<'a>],
    /// Entries of domains.
    matches: &'a [Match],
    /// Entries of values.
    values: &'a [Match],
}

impl Sentence<'_> {
    /// The tokens that describe the subject, and those of each "or …" with a subject of its own.
    fn alternatives(&self, subject: Match) -> Vec<Vec<Range<usize>>> {
        let phrases = phrase::phrases(self.tokens, self.matches);
        let of_subject = |p: &Phrase| (p.from..p.to).contains(&subject.from);
        let Some(at) = phrases.iter().position(of_subject) else { return Vec::new() };
        let mut ranges = vec![self.own(&phrases[at], subject)];
        // Before it: "red or" white van; "red," dented car.
        for before in (1..=at).rev() {
            let joined = match self.link(&phrases[before]) {
                Some(link) => matches!(link, "and" | "or"),
                None => true,
            };
            let before = &phrases[before - 1];
            if !joined || self.subject(before).is_some() || !self.describes(before) {
                break;
            }
            ranges.push(before.from..before.to);
        }
        let mut alternatives = vec![ranges];
        for phrase in &phrases[at + 1..] {
            let link = self.link(phrase);
            let subject = self.subject(phrase);
            match (link, subject) {
                (Some("or"), Some(subject)) => {
                    alternatives.push(vec![self.own(phrase, subject)]);
                }
                (Some("that" | "which" | "is" | "are" | "was" | "were" | "of" | "by"), Some(_))
                | (
                    None
                    | Some("and" | "or" | "in" | "that" | "which" | "is" | "are" | "was" | "were"),
                    None,
                ) if self.describes(phrase) => {
                    let last = alternatives.last_mut().expect("there is the subject's own");
                    last.push(phrase.from..phrase.to);
                }
                _ => break,
            }
        }
        alternatives
    }

    /// The part of the subject's phrase that is about it.
    fn own(&self, phrase: &Phrase, subject: Match) -> Range<usize> {
        let other = self
            .matches
            .iter()
            .find(|m| m.from >= subject.to && m.from < phrase.to && m.owner != subject.owner);
        phrase.from..other.map_or(phrase.to, |other| other.from)
    }

    /// The first entry of a domain in a phrase.
    fn subject(&self, phrase: &Phrase) -> Option<Match> {
        let inside = |m: &&Match| (phrase.from..phrase.to).contains(&m.from);
        self.matches.iter().find(inside).copied()
    }

    /// The word before a phrase; `None`: punctuation.
    fn link(&self, phrase: &Phrase) -> Option<&str> {
        phrase.after.map(|at| self.tokens[at].folded.as_str())
    }

    /// Whether a phrase says nothing beside values of attributes.
    fn describes(&self, phrase: &Phrase) -> bool {
        (phrase.from..phrase.to).all(|at| {
            let covered = self.values.iter().any(|m| (m.from..m.to).contains(&at));
            covered || phrase::is_light_word(&self.tokens[at])
        })
    }
}
