//! What a query is about: the thing that tells "a man beside a white van" from "a white van beside a
//! man", and both from "a house with a van in front".
//!
//! The first phrase that names a thing decides: if an entry is in it, the query is about that entry; if
//! not, about something unknown. Clauses that begin with a preposition ("behind the house, a car") come
//! after all others. The words of other languages are no boundaries, so that there the first entry
//! decides.

use crate::phrase::lists::{ARTICLES, LINKS, is_in};
use crate::phrase::{Phrase, is_boundary, is_light, is_participle, phrases};
use crate::vocabulary::Match;
use crate::words::Token;

/// What a query is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// The entry with this number among the matches.
    Entry(usize),
    /// Something else than the entries that occur.
    Other,
    /// No entry occurs.
    Nothing,
}

/// Finds what the query is about.
pub(crate) fn head(tokens: &[Token], matches: &[Match]) -> Head {
    if matches.is_empty() {
        return Head::Nothing;
    }
    let phrases = phrases(tokens, matches);
    let (mut aside, mut unknown) = (None, false);
    for clause in phrases.chunk_by(|a, b| a.clause == b.clause) {
        let adverbial = is_adverbial(tokens, matches, &clause[0]);
        match head_of_clause(tokens, matches, clause) {
            Head::Entry(at) if !adverbial => return Head::Entry(at),
            Head::Entry(at) => aside = aside.or((!unknown).then_some(at)),
            Head::Other => unknown |= !adverbial,
            Head::Nothing => {}
        }
    }
    match aside.filter(|_| !unknown) {
        Some(at) => Head::Entry(at),
        None => Head::Other,
    }
}

/// Whether a clause that begins with this phrase only says where or how: "behind the house, …",
/// "standing by a car, …".
fn is_adverbial(tokens: &[Token], matches: &[Match], first: &Phrase) -> bool {
    match first.after {
        Some(at) => !is_in(LINKS, &tokens[at]),
        None => {
            let matched = matches.iter().any(|m| m.from == first.from);
            let alone = tokens.get(first.from + 1).is_some_and(|next| {
                !next.after_break && (is_boundary(next) || is_in(ARTICLES, next))
            });
            !matched && alone && is_participle(&tokens[first.from])
        }
    }
}

fn head_of_clause(tokens: &[Token], matches: &[Match], clause: &[Phrase]) -> Head {
    for (at, phrase) in clause.iter().enumerate() {
        match head_of_phrase(tokens, matches, phrase) {
            Head::Nothing if is_light(tokens, phrase, clause.get(at + 1)) => {}
            Head::Nothing => return Head::Other,
            found => return found,
        }
    }
    Head::Nothing
}

/// In a compound the last entry is the head ("a truck driver"), and a possessive gives way to what
/// it owns ("the driver's red car", "a man's hat").
fn head_of_phrase(tokens: &[Token], matches: &[Match], phrase: &Phrase) -> Head {
    let inside = |m: &Match| (phrase.from..phrase.to).contains(&m.from);
    let Some(mut head) = matches.iter().position(inside) else { return Head::Nothing };
    if tokens[phrase.from..matches[head].from].iter().any(|token| token.folded == "no") {
        return Head::Other;
    }
    let owns = |at: usize| tokens[matches[at].to - 1].possessive;
    while let Some(next) = matches.get(head + 1).filter(|m| inside(m)) {
        if next.from != matches[head].to && !owns(head) {
            break;
        }
        head += 1;
    }
    let to = matches[head].to;
    match owns(head) && to < phrase.to && !is_participle(&tokens[to]) {
        true => Head::Other,
        false => Head::Entry(head),
    }
}
