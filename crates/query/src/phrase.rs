//! What stands at the head of a query: the little of English grammar that tells "a man beside a
//! white van" from "a white van beside a man", and both from "a house with a van in front". Apart
//! from the words that are looked for, since it knows none of them.
//!
//! A query falls into clauses at punctuation, a clause into phrases at prepositions, conjunctions,
//! and verbs before an article. The first phrase that names a thing decides: if an entry is in it,
//! the query is about that entry; if not, about something unknown. Words such as "two", "red",
//! "find" or "photo of" name no thing. Clauses that begin with a preposition ("behind the house, a
//! car") come after all others. The words of other languages are no boundaries here, so that there
//! the first entry decides.

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

/// Words between phrases: prepositions, and what is in [`LINKS`].
const BOUNDARIES: &[&str] = &[
    "about",
    "above",
    "across",
    "after",
    "against",
    "along",
    "amid",
    "among",
    "and",
    "are",
    "around",
    "at",
    "been",
    "before",
    "behind",
    "below",
    "beneath",
    "beside",
    "besides",
    "between",
    "beyond",
    "but",
    "by",
    "during",
    "for",
    "from",
    "had",
    "has",
    "have",
    "in",
    "inside",
    "into",
    "is",
    "like",
    "near",
    "next",
    "of",
    "off",
    "on",
    "onto",
    "opposite",
    "or",
    "outside",
    "over",
    "past",
    "that",
    "through",
    "to",
    "toward",
    "towards",
    "under",
    "underneath",
    "upon",
    "via",
    "was",
    "were",
    "where",
    "which",
    "while",
    "who",
    "whose",
    "with",
    "within",
    "without",
];
/// Boundaries that do not make a clause an adverbial one.
const LINKS: &[&str] = &[
    "and", "are", "been", "but", "had", "has", "have", "is", "like", "or", "that", "was", "were",
    "where", "which", "while", "who", "whose",
];
const ARTICLES: &[&str] = &[
    "a", "an", "another", "her", "his", "its", "my", "no", "one", "our", "some", "the", "their",
    "these", "this", "those", "two", "your",
];
/// Words that name no thing.
const LIGHT: &[&str] = &[
    "a",
    "all",
    "an",
    "another",
    "any",
    "anything",
    "big",
    "black",
    "blue",
    "both",
    "bright",
    "broken",
    "brown",
    "clean",
    "damaged",
    "dark",
    "dirty",
    "display",
    "each",
    "eight",
    "empty",
    "every",
    "everything",
    "fast",
    "few",
    "find",
    "five",
    "four",
    "full",
    "get",
    "give",
    "gray",
    "green",
    "grey",
    "heavy",
    "her",
    "here",
    "his",
    "huge",
    "i",
    "it",
    "its",
    "just",
    "large",
    "left",
    "light",
    "list",
    "little",
    "locate",
    "look",
    "many",
    "me",
    "mostly",
    "my",
    "narrow",
    "need",
    "new",
    "nine",
    "now",
    "old",
    "one",
    "ones",
    "only",
    "orange",
    "our",
    "pale",
    "pink",
    "please",
    "purple",
    "really",
    "red",
    "right",
    "rusty",
    "search",
    "see",
    "seven",
    "several",
    "shiny",
    "short",
    "show",
    "silver",
    "six",
    "slow",
    "small",
    "some",
    "something",
    "still",
    "tall",
    "ten",
    "the",
    "their",
    "then",
    "there",
    "these",
    "thing",
    "things",
    "this",
    "those",
    "three",
    "tiny",
    "two",
    "up",
    "us",
    "very",
    "want",
    "we",
    "what",
    "where",
    "white",
    "wide",
    "yellow",
    "you",
    "young",
    "your",
];
/// Pictures, which a query is never about.
const PICTURES: &[&str] = &[
    "capture",
    "captures",
    "clip",
    "footage",
    "frame",
    "frames",
    "image",
    "images",
    "photo",
    "photograph",
    "photographs",
    "photos",
    "picture",
    "pictures",
    "recording",
    "scene",
    "shot",
    "shots",
    "snapshot",
    "still",
    "stills",
    "video",
    "videos",
];
/// Words before "of" that leave it to what follows what the query is about.
const PARTS: &[&str] = &[
    "array", "back", "bunch", "closeup", "color", "colour", "convoy", "couple", "crowd", "dozens",
    "fleet", "front", "group", "groups", "half", "hundreds", "kind", "kinds", "line", "lines",
    "lot", "lots", "most", "number", "pair", "pairs", "part", "queue", "rear", "rest", "row",
    "rows", "series", "side", "sort", "top", "type", "up", "variety", "view",
];
/// Nouns that end as participles do.
const NOUNS: &[&str] = &[
    "building", "ceiling", "clothing", "crossing", "drawing", "evening", "housing", "morning",
    "painting", "railing", "seed", "spring", "string", "wedding",
];
/// Verbs that may follow a noun, beside those with an ending.
const VERBS: &[&str] = &[
    "carries", "crosses", "goes", "held", "holds", "left", "lies", "looks", "lying", "pushes",
    "ran", "rides", "rode", "runs", "sat", "sits", "stands", "stood", "waits", "walks", "wears",
    "wore",
];

fn is_in(list: &[&str], token: &Token) -> bool {
    list.binary_search(&token.folded.as_str()).is_ok()
}

fn is_boundary(token: &Token) -> bool {
    is_in(BOUNDARIES, token)
}

fn is_participle(token: &Token) -> bool {
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

#[cfg(test)]
mod tests {
    /// They are searched by bisection.
    #[test]
    fn lists_are_sorted() {
        let lists = [
            super::BOUNDARIES,
            super::LINKS,
            super::ARTICLES,
            super::LIGHT,
            super::PICTURES,
            super::PARTS,
            super::NOUNS,
            super::VERBS,
        ];
        for list in lists {
            assert!(list.is_sorted(), "{list:?}");
        }
    }
}
