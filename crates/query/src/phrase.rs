//! The phrases of a query: the little of English grammar that tells where one ends. Apart from the
//! words that are looked for, since it knows none of them.
//!
//! A query falls into clauses at punctuation, a clause into phrases at prepositions, conjunctions,
//! and verbs before an article. Words such as "two", "red", "find" or "photo of" name no thing. The
//! words of other languages are no boundaries here.

pub(crate) mod lists;

use self::lists::{ARTICLES, BOUNDARIES, LIGHT, NOUNS, PARTS, PICTURES, VERBS, is_in};
use crate::vocabulary::Match;
use crate::words::Token;

/// Tokens `from..to` without a boundary among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phrase {
    pub from: usize,
    pub to: usize,
    /// The boundary word before it; `None` at the beginning of a clause.
    pub after: Option<usize>,
    /// Number of its clause.
    pub clause: usize,
}

pub(crate) fn is_boundary(token: &Token) -> bool {
    is_in(BOUNDARIES, token)
}

pub(crate) fn is_participle(token: &Token) -> bool {
    let word = token.folded.as_str();
    let ending =
        (word.len() > 4 && word.ends_with("ing")) || (word.len() > 3 && word.ends_with("ed"));
    ending && !is_in(NOUNS, token)
}

/// Whether the token at `at` is a verb with an object: "chasing a", "chased the", "chases some".
fn takes_object(tokens: &[Token], at: usize) -> bool {
    let object = tokens.get(at + 1).is_some_and(|next| !next.after_break && is_in(ARTICLES, next));
    let token = &tokens[at];
    let third_person = token.folded.len() > 3
        && token.folded.ends_with('s')
        && !is_in(ARTICLES, token)
        && !is_in(LIGHT, token);
    object && (is_participle(token) || third_person)
}

/// Whether no noun of the same phrase comes after the tokens before `at`.
pub(crate) fn ends_before(tokens: &[Token], at: usize) -> bool {
    tokens.get(at).is_none_or(|token| {
        token.after_break || is_boundary(token) || is_participle(token) || is_in(VERBS, token)
    })
}

/// Splits a query into its phrases, empty ones left out; no match is split.
pub(crate) fn phrases(tokens: &[Token], matches: &[Match]) -> Vec<Phrase> {
    let mut found: Vec<Phrase> = Vec::new();
    let mut phrase = Phrase { from: 0, to: 0, after: None, clause: 0 };
    let mut matches = matches.iter().peekable();
    for at in 0..tokens.len() {
        while matches.next_if(|m| m.to <= at).is_some() {}
        let matched = matches.peek().is_some_and(|m| m.from <= at);
        if tokens[at].after_break && at > 0 {
            found.push(phrase);
            phrase = Phrase { from: at, to: at, after: None, clause: phrase.clause + 1 };
        }
        if !matched && (is_boundary(&tokens[at]) || takes_object(tokens, at)) {
            found.push(phrase);
            phrase = Phrase { from: at + 1, to: at + 1, after: Some(at), clause: phrase.clause };
        } else {
            phrase.to = at + 1;
        }
    }
    found.push(phrase);
    found.retain(|phrase| phrase.from < phrase.to);
    found
}

/// Whether a word names no thing.
pub(crate) fn is_light_word(token: &Token) -> bool {
    is_in(LIGHT, token) || is_participle(token)
}

/// Whether a phrase names no thing; `next` follows it.
pub(crate) fn is_light(tokens: &[Token], phrase: &Phrase, next: Option<&Phrase>) -> bool {
    let words = &tokens[phrase.from..phrase.to];
    let light =
        |(at, token): (usize, &Token)| is_in(LIGHT, token) || (at == 0 && is_participle(token));
    if words.iter().enumerate().all(light) {
        return true;
    }
    let last = &words[words.len() - 1];
    let of = next.and_then(|next| next.after).is_some_and(|at| tokens[at].folded == "of");
    is_in(PICTURES, last) || (of && is_in(PARTS, last))
}
